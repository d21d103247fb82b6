"""What is known of a record beside its payload: who it is from, where the payload does not say."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from anomaly.errors import DecodeError
from pipelines.formats.naming import asset_name, name
from pipelines.formats.trees import ABSENT
from pipelines.reasons import Reason
from pipelines.times import parse_time


@dataclass(frozen=True, slots=True)
class Context:
    """`key`: the record's. `asset`, `time`: what an envelope says of its content, where the content says nothing."""

    key: bytes | None
    asset: Any = ABSENT
    time: Any = ABSENT

    def asset_of(self, said: Any = ABSENT) -> str:
        """What the payload says, else the key, else what the envelope says.

        Raises DecodeError(`no_asset` | `bad_name`).
        """
        if said is not ABSENT and said is not None:
            return asset_name(said) if type(said) is str else name(said, "asset")
        if self.key:
            try:
                return asset_name(self.key.decode())
            except UnicodeDecodeError as error:
                raise DecodeError(Reason.BAD_NAME, f"the record's key {self.key[:40]!r} is not UTF-8 text") from error
        if self.asset is not ABSENT and self.asset is not None:
            return name(self.asset, "asset")
        raise DecodeError(
            Reason.NO_ASSET,
            "neither the payload nor the record's key names an asset; set the key to the machine's path, or `asset` "
            "in the payload",
        )

    def time_of(self, said: Any) -> int:
        """The payload's time, else the envelope's, ns. Raises DecodeError(`bad_time` | `naive_time`)."""
        time = self.time if said is ABSENT else said
        if time is ABSENT:
            raise DecodeError(
                Reason.BAD_TIME, "the payload has no time; expected `ts` in ISO-8601 with a zone, or a number"
            )
        return parse_time(time)
