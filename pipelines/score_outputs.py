"""What the score service is about to append: scores and dead letters, each where it belongs, and who it came from."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from anomaly.domain import Scores
from anomaly.errors import DecodeError
from pipelines import codec, metrics, topics
from pipelines.partition_state import PartitionState, origin_headers
from pipelines.ports import Log, NewRecord, Partition, Record
from pipelines.score_queue import Home

_HEADROOM: Final = 64 << 10
"""Of a dead letter, for its headers and what the log puts around it."""


class Outputs:
    """Records in the order in which they are to lie on the topics."""

    def __init__(self) -> None:
        self._records: list[NewRecord] = []

    def add_scores(self, scores: Scores, homes: Mapping[str, Home]) -> None:
        """One message an asset (or more), on the partition that its readings came from."""
        for asset, value in codec.encode_scores(scores):
            home = homes[asset]
            origin = origin_headers(Partition(topics.READINGS, home.number), home.offset)
            headers = (*origin, ("content-type", codec.CONTENT_TYPE))
            self._records.append(NewRecord(topics.SCORES, asset.encode(), value, headers, partition=home.number))

    def add_dead_letter(self, record: Record, error: DecodeError) -> None:
        """The record's original bytes, why, and where it came from (guarantee G6).

        Only what unpacked to more than `topics.DEAD_LETTER_BYTES` is cut, and says of how many bytes: the whole of it
        stays where it came from, and nothing else would ever come behind it.
        """
        headers = (
            ("x-reason", error.reason.encode()),
            ("x-exception", str(error).encode("utf-8", "replace")[:500]),
            *origin_headers(record.partition, record.offset),
            ("x-orig-ts", str(record.time).encode()),
        )
        own = tuple(header for header in record.headers if header[0] not in dict(headers))
        value = record.value
        room = topics.DEAD_LETTER_BYTES - _HEADROOM - len(record.key or b"") - sum(len(word) for _, word in own)
        if value is not None and len(value) > room:
            own = (("x-cut-from", str(len(value)).encode()), *own)
            value = value[: max(0, room)]
        self._records.append(NewRecord(topics.DEAD_LETTERS, record.key, value, (*headers, *own), partition=0))

    def append(self, log: Log, partitions: Mapping[int, PartitionState]) -> None:
        """Append everything durably, and note in the partitions' states how far the outputs reach.

        Raises StorageError: then all is still to be appended.
        """
        if not self._records:
            return
        with metrics.sink("log"):
            offsets = log.append(self._records)
        for record, offset in zip(self._records, offsets, strict=True):
            if record.topic == topics.DEAD_LETTERS:
                for state in partitions.values():
                    state.outputs = state.outputs[0], max(state.outputs[1], offset + 1)
            elif record.partition is not None and record.partition in partitions:
                home = partitions[record.partition]
                home.outputs = offset + 1, home.outputs[1]
        self._records = []
