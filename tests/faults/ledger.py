"""What the broker was given and what it acknowledged; and a plain view of all that lies on its topics."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

from pipelines.ports import Log, NewRecord
from tests.faults.minting import ID_HEADER, Minted


class Stored(NamedTuple):
    """A record as it lies on a topic. `time`: append time, ns."""

    partition: int
    offset: int
    key: bytes | None
    value: bytes | None
    headers: Mapping[str, bytes]
    time: int


class View(Protocol):
    """Looks at a broker from outside, past our adapters. Topics and groups by our names, `plantwatch.…` first."""

    def records(self, topic: str) -> list[Stored]:
        """All records, by partition and offset."""

    def ends(self, topic: str) -> Mapping[int, int]:
        """Offset that the next record will get, per partition."""

    def committed(self, group: str, topic: str) -> Mapping[int, tuple[int, str]]:
        """Committed offset and its metadata, per partition."""


def lag(view: View, group: str, topic: str) -> int:
    """Records that the group has not committed."""
    committed = view.committed(group, topic)
    return sum(end - committed.get(p, (0, ""))[0] for p, end in view.ends(topic).items())


@dataclass(slots=True)
class Ledger:
    """What was minted and sent, and where the broker said it put it. Thread-safe."""

    sent: dict[int, Minted] = field(default_factory=dict)
    acknowledged: dict[tuple[int, int], int] = field(default_factory=dict)
    """Id by (partition, offset)."""
    failed: dict[int, str] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def note_sent(self, minted: Minted) -> None:
        """It is on its way."""
        with self._lock:
            self.sent[minted.id] = minted

    def note_acknowledged(self, minted: Minted, partition: int, offset: int) -> None:
        """The broker has it."""
        with self._lock:
            self.acknowledged[partition, offset] = minted.id

    def note_failed(self, minted: Minted, why: str) -> None:
        """The broker may have it or not."""
        with self._lock:
            self.failed[minted.id] = why

    def readings(self) -> int:
        """Acknowledged readings."""
        with self._lock:
            return sum(self.sent[number].readings for number in self.acknowledged.values())

    def outstanding(self) -> int:
        """Records sent of which nothing was heard yet."""
        with self._lock:
            return len(self.sent) - len(set(self.acknowledged.values()) | self.failed.keys())

    def lying(self, records: Sequence[Stored]) -> tuple[list[tuple[Stored, Minted]], list[str], int]:
        """What lies on the readings topic: records with their meaning; what is wrong there; acknowledged readings lost.

        A record that was not acknowledged and lies there all the same counts like the others: the pipeline saw it.
        """
        with self._lock:
            sent, acknowledged = dict(self.sent), dict(self.acknowledged)
        found, wrong = [], []
        for record in records:
            minted = sent.get(int(record.headers.get(ID_HEADER, b"0")))
            if minted is None:
                wrong.append(f"record {record.partition}/{record.offset} on the readings topic is not ours")
            elif (record.key, record.value) != (minted.key, minted.value):
                wrong.append(f"record {record.partition}/{record.offset} on the readings topic has other bytes")
            else:
                found.append((record, minted))
        here = {(record.partition, record.offset): minted.id for record, minted in found}
        lost = [number for place, number in acknowledged.items() if here.get(place) != number]
        wrong += [f"acknowledged record {number} is not where the broker put it" for number in lost[:3]]
        return found, wrong, sum(sent[number].readings for number in lost)


@dataclass(slots=True)
class LogView:
    """A `View` of an embedded log, for tests of the bench itself."""

    log: Log

    def records(self, topic: str) -> list[Stored]:
        """See `View`."""
        return [
            Stored(partition.number, r.offset, r.key, r.value, dict(r.headers), r.time)
            for partition, (start, _) in sorted(self.log.ends(topic).items())
            for r in self.log.read(partition, start, 10**7)
        ]

    def ends(self, topic: str) -> Mapping[int, int]:
        """See `View`."""
        return {partition.number: end for partition, (_, end) in self.log.ends(topic).items()}

    def committed(self, group: str, topic: str) -> Mapping[int, tuple[int, str]]:
        """See `View`."""
        return {p.number: (at.offset, at.metadata) for p, at in self.log.committed(group, topic).items()}


def append(log: Log, topic: str, ledger: Ledger, minted: Sequence[Minted]) -> None:
    """Send records to an embedded log."""
    for one in minted:
        ledger.note_sent(one)
        record = NewRecord(topic, one.key, one.value, ((ID_HEADER, str(one.id).encode()),))
        before = {p: end for p, (_, end) in log.ends(topic).items()}
        log.append([record])
        [where] = [p for p, (_, end) in log.ends(topic).items() if end != before[p]]
        ledger.note_acknowledged(one, where.number, before[where])
