"""What was found, compared with what was expected: missing, spurious, corrupted, and how much came twice."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from anomaly.errors import DecodeError
from pipelines import codec, topics
from pipelines.times import parse_time
from tests.faults.ledger import Ledger, Stored, View
from tests.faults.reference import Event, Expected, canonical

BUCKETS = ("scored", "warming_up", "late", "duplicate", "unknown_tag", "gap_discarded", "dead_lettered")
NOTICES = frozenset({"clock", "silence"})
"""Versions of rows on the scores topic that tell of a device, not of a machine; their times are the broker's."""
NOTICED = frozenset({"instrument:clock"})
"""Causes of the alerts that come of them."""
_SHOWN = 3

Key = TypeVar("Key", bound=Hashable)


@dataclass(slots=True)
class Verdict:
    """Counts of the table, and in words what is wrong (nothing, if all is well)."""

    readings: int = 0
    missing: int = 0
    spurious: int = 0
    corrupted: int = 0
    replays: int = 0
    wrong: list[str] = field(default_factory=list)

    @property
    def sound(self) -> bool:
        """Whether nothing fell short."""
        return not (self.missing or self.spurious or self.corrupted or self.wrong)

    def add(self, what: str, column: str, count: int, shown: str) -> None:
        """Count something that fell short in a column of the table."""
        if count:
            setattr(self, column, getattr(self, column) + count)
            self.wrong.append(f"{what}: {count} {column}: {shown}")

    def compare(self, what: str, expected: Mapping[Key, object], found: Mapping[Key, object]) -> None:
        """Keys that are not there, that should not be there, and whose values differ."""
        gone = [key for key in expected if key not in found]
        extra = [key for key in found if key not in expected]
        other = [key for key in expected if key in found and expected[key] != found[key]]
        self.add(what, "missing", len(gone), _show(gone))
        self.add(what, "spurious", len(extra), _show(extra))
        self.add(what, "corrupted", len(other), "; ".join(f"{k}: {found[k]!r}, not {expected[k]!r}" for k in other[:1]))

    def collect(self, what: str, items: Iterable[tuple[Key, object]]) -> dict[Key, object]:
        """Items by key; equal ones that come again are replays, others corrupted."""
        kept: dict[Key, object] = {}
        differing = []
        for key, value in items:
            if key not in kept:
                kept[key] = value
            elif kept[key] == value:
                self.replays += 1
            else:
                differing.append(key)
        self.add(what, "corrupted", len(differing), f"twice, and not alike: {_show(differing)}")
        return kept


def _show(keys: Sequence[Hashable]) -> str:
    return ", ".join(map(repr, keys[:_SHOWN])) + (" …" if len(keys) > _SHOWN else "")


def check_broker(verdict: Verdict, ledger: Ledger, readings_topic: Sequence[Stored]) -> None:
    """What was acknowledged lies where the broker said."""
    verdict.readings = ledger.readings()
    _, wrong, lost = ledger.lying(readings_topic)
    verdict.wrong += [text for text in wrong if not text.startswith("acknowledged")]
    verdict.add("readings on the broker", "missing", lost, next((t for t in wrong if t.startswith("ack")), ""))


def check_scores(verdict: Verdict, expected: Expected, view: View) -> None:
    """Every score row once, or again with the same bytes."""
    rows: list[tuple[tuple[str, int], bytes]] = []
    for record in view.records(topics.SCORES):
        try:
            scores = codec.decode_scores(record.value or b"")
        except DecodeError as error:
            verdict.add("scores", "corrupted", 1, f"record {record.partition}/{record.offset}: {error}")
            continue
        if scores.version not in NOTICES:
            rows += canonical(scores).items()
    verdict.compare("scores", expected.scores, verdict.collect("scores", rows))


def check_dead_letters(verdict: Verdict, expected: Expected, view: View) -> None:
    """Every unreadable record lies there with its bytes, its reason and where it came from."""
    letters = []
    for record in view.records(topics.DEAD_LETTERS):
        headers = record.headers
        place = int(headers.get("x-orig-partition", b"-1")), int(headers.get("x-orig-offset", b"-1"))
        letters.append((place, (record.value, headers.get("x-reason", b"").decode())))
        told = [name for name in ("x-exception", "x-orig-topic", "x-orig-ts") if name not in headers]
        verdict.add("dead letters", "corrupted", bool(told), f"no header {told}")
    found = verdict.collect("dead letters", letters)
    wanted = {place: (value, why) for place, (value, why) in expected.dead.items()}
    for place, (value, why) in wanted.items():
        if why == "?" and place in found and isinstance(found[place], tuple):
            wanted[place] = (value, found[place][1])  # type: ignore[index]
    verdict.compare("dead letters", wanted, found)


def check_counters(verdict: Verdict, expected: Expected, view: View) -> None:
    """Committed counters: every reading ended in one bucket, and in the right one (guarantee G1)."""
    committed = view.committed("score", topics.READINGS)
    for partition, end in view.ends(topics.READINGS).items():
        offset, metadata = committed.get(partition, (0, ""))
        if offset != end:
            verdict.wrong.append(f"partition {partition}: {end - offset} records are not committed")
            continue
        said: Counter[str] = Counter(json.loads(metadata).get("c", {}) if metadata else {})
        wanted = expected.counts.get(partition, Counter())
        short = wanted["acknowledged"] - said["acknowledged"]
        verdict.add(f"readings counted on partition {partition}", "missing", max(short, 0), str(dict(said)))
        verdict.add(f"readings counted on partition {partition}", "spurious", max(-short, 0), str(dict(said)))
        names = {"samples", "tombstone", *BUCKETS}
        verdict.compare(f"counters of partition {partition}", _some(wanted, names), _some(said, names))
        settled = sum(said[bucket] for bucket in BUCKETS) + wanted["pending"]
        if settled != said["acknowledged"]:
            verdict.wrong.append(f"partition {partition}: {settled} readings settled of {said['acknowledged']}")


def _some(counts: Counter[str], names: Iterable[str]) -> dict[str, int]:
    return {name: counts[name] for name in names if counts[name]}


def check_events(verdict: Verdict, expected: Expected, what: str, told: Iterable[tuple[str, Event]]) -> None:
    """Every transition of every alert reached its receiver, and the same one every time; clocks left out."""
    found = verdict.collect(what, ((name, event) for name, event in told if event.cause not in NOTICED))
    verdict.compare(what, expected.events, found)


def events_on_topic(view: View) -> list[tuple[str, Event]]:
    """Transitions on the alerts topic, by id."""
    return [event_of(json.loads(record.value)) for record in view.records(topics.ALERTS) if record.value]


def event_of(body: Mapping[str, object]) -> tuple[str, Event]:
    """Id and transition of a topic record's or a webhook's body."""
    alert = body["alert"]
    assert isinstance(alert, dict)
    about = alert.get("anomaly", alert)
    time = body["time"]
    stamp = parse_time(time) if isinstance(time, str) else int(str(time))
    return str(body["id"]), Event(str(body["event"]), about["asset"], about["cause"], stamp)


def check_historian(
    verdict: Verdict,
    expected: Expected,
    readings: Mapping[tuple[str, str, int], float | None],
    scores: Mapping[tuple[str, int], bytes],
) -> None:
    """Readings and scores in the historian are those of the log."""
    verdict.compare("historian readings", expected.readings, readings)
    verdict.compare("historian scores", expected.single, scores)
