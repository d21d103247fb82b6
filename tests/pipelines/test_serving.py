"""Which version scores which window: wishes, activations, and one answer for ever (guarantee G8)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from anomaly.domain import Rung
from anomaly.errors import StorageError
from pipelines import topics
from pipelines.adapters.memory import MemoryClock, MemoryLog
from pipelines.codec import Serving
from pipelines.ports import NewRecord, Partition, Record
from pipelines.serving import ServingTable, Wish, activate, promote

A, B = "s/a", "s/b"


@pytest.fixture
def log() -> MemoryLog:
    return a_log()


def a_log() -> MemoryLog:
    log = MemoryLog(MemoryClock())
    log.create(topics.partitions(2), topics.COMPACTED)
    return log


def wished(version: str, since: int = 0, group: str = "g") -> Serving:
    return Serving(group, version, since, Rung.WINDOW_PCA, "ann", "better")


def table(log: MemoryLog) -> ServingTable:
    found = ServingTable()
    found.refresh(log)
    return found


def take_up(log: MemoryLog, partition: int, emitted: dict[str, int], group: str = "g") -> Wish:
    wish = table(log).open_wish(partition, group)
    assert wish is not None
    activate(log, partition, wish, emitted)
    return wish


def versions(found: ServingTable, asset: str, times: Sequence[int], partition: int = 0) -> list[str]:
    """The version of each window, by the runs."""
    named = [""] * len(times)
    for names, first, stop in found.runs(partition, "g", asset, np.array(times, dtype=np.int64)):
        named[first:stop] = [names[0]] * (stop - first)
    return named


def test_the_rules_serve_until_a_wish_was_taken_up(log: MemoryLog) -> None:
    promote(log, wished("v1"))
    found = table(log)
    assert found.current(0, "g") == "rules"
    assert versions(found, A, [1, 2]) == ["rules", "rules"]
    assert found.open_wish(0, "g") == Wish(0, wished("v1"))
    assert found.open_wish(0, "another") is None


def test_an_activation_serves_from_just_after_the_newest_score_of_each_asset(log: MemoryLog) -> None:
    promote(log, wished("v1"))
    take_up(log, 0, {A: 30, B: 50})
    found = table(log)
    assert found.open_wish(0, "g") is None
    assert versions(found, A, [20, 30, 31, 60]) == ["rules", "rules", "v1", "v1"]
    assert versions(found, B, [20, 30, 31, 60]) == ["rules", "rules", "rules", "v1"]
    assert versions(found, "s/never seen before", [0, 20]) == ["v1", "v1"]


def test_a_wish_for_later_is_taken_up_now_and_serves_from_its_own_time(log: MemoryLog) -> None:
    promote(log, wished("v1", since=100))
    take_up(log, 0, {A: 30})
    assert versions(table(log), A, [31, 99, 100]) == ["rules", "rules", "v1"]
    assert versions(table(log), B, [99, 100]) == ["rules", "v1"]


def test_each_partition_takes_up_a_wish_for_itself(log: MemoryLog) -> None:
    promote(log, wished("v1"))
    take_up(log, 0, {A: 30})
    found = table(log)
    assert (found.current(0, "g"), found.current(1, "g")) == ("v1", "rules")
    assert found.open_wish(1, "g") is not None
    take_up(log, 1, {B: 70})
    assert versions(table(log), A, [31, 70, 71], partition=0) == ["v1"] * 3
    assert versions(table(log), B, [31, 70, 71], partition=1) == ["rules", "rules", "v1"]


def test_only_the_newest_wish_is_open_and_a_version_wished_again_is_a_new_wish(log: MemoryLog) -> None:
    promote(log, wished("v1"))
    promote(log, wished("v2"))
    assert take_up(log, 0, {A: 10}).serving.version == "v2"
    promote(log, wished("v1"))
    take_up(log, 0, {A: 20})
    promote(log, wished("v2"))
    take_up(log, 0, {A: 30})
    assert versions(table(log), A, [10, 11, 20, 21, 30, 31]) == ["rules", "v2", "v2", "v1", "v1", "v2"]


def test_a_run_names_those_that_served_before_newest_first_to_stand_in(log: MemoryLog) -> None:
    for number in (1, 2):
        promote(log, wished(f"v{number}"))
        take_up(log, 0, {A: number * 10})
    runs = table(log).runs(0, "g", A, np.array([5, 15, 16, 25], dtype=np.int64))
    assert [(tuple(names), first, stop) for names, first, stop in runs] == [
        (("rules",), 0, 1),
        (("v1", "rules"), 1, 3),
        (("v2", "v1", "rules"), 3, 4),
    ]
    assert table(log).runs(0, "g", A, np.array([], dtype=np.int64)) == []


def test_the_same_activation_written_twice_counts_once(log: MemoryLog) -> None:
    promote(log, wished("v1"))
    wish = take_up(log, 0, {A: 10})
    activate(log, 0, wish, {A: 40})  # a second worker that did not know: the first answer stays
    found = table(log)
    assert len(found.activations[0, "g"]) == 1
    assert versions(found, A, [10, 11]) == ["rules", "v1"]


def test_a_compacted_topic_still_tells_which_version_scored_every_window(log: MemoryLog) -> None:
    for number in range(4):
        promote(log, wished(f"v{number}"))
        take_up(log, 0, {A: number * 10})
    before = versions(table(log), A, list(range(50)))
    assert log.compact(topics.MODELS) > 0
    assert versions(table(log), A, list(range(50))) == before


def test_records_that_cannot_be_read_are_passed_over(log: MemoryLog) -> None:
    promote(log, wished("v1"))
    for key in (b"serving/g", b"activation/0/g/9", b"other"):
        for value in (b"{", b"[]", b"", None):
            log.append([NewRecord(topics.MODELS, key, value)])
    found = table(log)
    assert found.open_wish(0, "g") == Wish(0, wished("v1"))
    assert found.next_offset == 13


def test_an_activation_that_could_not_be_written_changes_nothing(
    log: MemoryLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(records: Sequence[NewRecord]) -> tuple[int, ...]:
        raise StorageError("disk full")

    promote(log, wished("v1"))
    found = table(log)
    wish = found.open_wish(0, "g")
    assert wish is not None
    with monkeypatch.context() as patch:
        patch.setattr(log, "append", broken)
        with pytest.raises(StorageError):
            activate(log, 0, wish, {A: 10})
    found.refresh(log)
    assert found.open_wish(0, "g") == wish
    assert found.current(0, "g") == "rules"


@given(
    steps=st.lists(st.tuples(st.booleans(), st.integers(1, 5), st.integers(0, 40)), max_size=8),
    later=st.lists(st.integers(1, 5), max_size=3),
)
def test_what_was_scored_before_a_swap_is_scored_by_the_same_version_in_every_replay(
    steps: list[tuple[bool, int, int]], later: list[int]
) -> None:
    """A worker scores tick by tick, swaps between batches; any later reader of the topic picks the same versions."""
    log, live, time = a_log(), ServingTable(), 0
    scored: list[tuple[int, str]] = []
    for swap, rows, since in [*steps, *((False, rows, 0) for rows in later)]:
        if swap:
            promote(log, wished(f"v{len(scored)}", since))
        live.refresh(log)
        wish = live.open_wish(0, "g")
        if wish is not None:
            activate(log, 0, wish, {A: time} if time else {})
            live.refresh(log)
        times = list(range(time + 1, time + rows + 1))
        scored += list(zip(times, versions(live, A, times), strict=True))
        time += rows
    assert versions(table(log), A, [t for t, _ in scored]) == [version for _, version in scored]


def test_reading_goes_on_where_it_stopped(log: MemoryLog, monkeypatch: pytest.MonkeyPatch) -> None:
    promote(log, wished("v1"))
    found = table(log)
    asked = []
    real = log.read

    def read(partition: Partition, offset: int, limit: int) -> tuple[Record, ...]:
        asked.append(offset)
        return real(partition, offset, limit)

    monkeypatch.setattr(log, "read", read)
    found.refresh(log)
    assert asked == [1]
