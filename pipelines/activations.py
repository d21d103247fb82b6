"""Activations as records: cut into parts that every topic takes, and whole again only when all parts are there.

A plant of 20 000 machines has an activation of more than a record may hold. Its parts carry the name of the attempt
that they belong to, a digest of all that it says: what a crash left half written never mixes with what the next worker
writes, and an attempt that says the same writes the same records under the same keys, which harms nobody.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

import msgspec

from anomaly.domain import Rung

KEY: Final = b"activation/"
PART_BYTES: Final = 200_000
"""Assets of one part, as JSON, at most (a single one may be longer): with all around it below what any topic takes."""
_NUMBER_BYTES: Final = 24
"""Of a time, with what stands around it."""


@dataclass(frozen=True, slots=True)
class Activation:
    """Partition `partition` took up the serving record at offset `wish`.

    `version` scores asset a from event time `since[a]` (ns) on, and an asset not named from `default` on.
    """

    partition: int
    wish: int
    group: str
    version: str
    rung: Rung
    since: Mapping[str, int]
    default: int


@dataclass(frozen=True, slots=True)
class _Part:
    """Part `number` (from 0) of `parts` of an activation: all of it, but with some of `since` alone."""

    partition: int
    wish: int
    group: str
    version: str
    rung: Rung
    since: Mapping[str, int]
    default: int
    attempt: str
    number: int
    parts: int


_DECODER: Final = msgspec.json.Decoder(_Part)


def encode(activation: Activation, part_bytes: int = PART_BYTES) -> list[tuple[bytes, bytes]]:
    """Key and value of each part, in the order in which they are to be appended."""
    slices = list(_slices(activation.since, part_bytes))
    attempt = hashlib.sha256(msgspec.json.encode(activation, order="deterministic")).hexdigest()[:16]
    stem = f"{activation.partition}/{activation.group}/{activation.wish}/{attempt}"
    return [
        (
            KEY + f"{stem}/{number}".encode(),
            msgspec.json.encode(
                _Part(
                    activation.partition,
                    activation.wish,
                    activation.group,
                    activation.version,
                    activation.rung,
                    since,
                    activation.default,
                    attempt,
                    number,
                    len(slices),
                )
            ),
        )
        for number, since in enumerate(slices)
    ]


def _slices(since: Mapping[str, int], part_bytes: int) -> Iterator[dict[str, int]]:
    """The assets by name, so many at a time; one empty slice if there is none."""
    part: dict[str, int] = {}
    size = 0
    for asset, time in sorted(since.items()):
        more = len(msgspec.json.encode(asset)) + _NUMBER_BYTES
        if part and size + more > part_bytes:
            yield part
            part, size = {}, 0
        part[asset] = time
        size += more
    yield part


@dataclass(slots=True)
class Gathering:
    """Parts that came, until an activation is whole."""

    _waiting: dict[tuple[int, str, int, str], dict[int, _Part]] = field(default_factory=dict)

    def take(self, value: bytes) -> Activation | None:
        """Take in one record; returns the activation that it made whole. Raises msgspec.MsgspecError.

        What the partition has not said in full for an older wish of the group, or otherwise for this one, is dropped.
        """
        part: _Part = _DECODER.decode(value)
        known = self._waiting.setdefault((part.partition, part.group, part.wish, part.attempt), {})
        known[part.number] = part
        if any(number not in known for number in range(part.parts)):
            return None
        self._waiting = {
            key: parts
            for key, parts in self._waiting.items()
            if key[:2] != (part.partition, part.group) or key[2] > part.wish
        }
        since = {asset: time for number in range(part.parts) for asset, time in known[number].since.items()}
        return Activation(part.partition, part.wish, part.group, part.version, part.rung, since, part.default)
