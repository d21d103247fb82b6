"""Windows: live equals batch, whatever the blocks; states are words for not knowing."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from anomaly.blocks import join as join_samples
from anomaly.blocks import rows as take_rows
from anomaly.domain import Quality, Role, Samples, SensorFault, State, Tag, Windows
from anomaly.errors import DataError
from anomaly.sensors import HORIZON, SensorLimits, check, default_limits, fit_limits
from anomaly.windows import WindowBuffer, sliding

TAGS = ("temperature", "pressure", "flow", "mode")
SIGNALS = ("temperature", "flow")
MODE = Tag("mode", role=Role.MODE, running=(1.0, 2.0))
REGIMES = Tag("mode", role=Role.MODE, running=(1.0, 2.0), regimes=True)
MODES = (None, MODE, REGIMES)
INFO = (Tag("temperature", "°C", 0.0, 120.0), Tag("pressure", "bar"), Tag("flow", "l/min"), MODE)


def healthy(rows: int, seed: int = 0) -> Samples:
    values = np.random.default_rng(seed).normal([50.0, 5.0, 20.0, 0.0], [1.0, 0.1, 0.5, 0.0], (rows, 4))
    values[:, 3] = 1.0
    seen = np.ones(values.shape, dtype=bool)
    return Samples(
        asset="s/m",
        tags=TAGS,
        times=np.arange(1, rows + 1, dtype=np.int64) * 10,
        values=values,
        mask=seen,
        quality=np.zeros(values.shape, dtype=np.uint8),
        restart=np.arange(rows) == 0,
        readings=np.full(rows, 4, dtype=np.int64),
    )


def hide(samples: Samples, row: int | slice, tag: int | slice, quality: Quality = Quality.MISSING) -> None:
    samples.mask[row, tag] = False
    samples.values[row, tag] = np.nan
    samples.quality[row, tag] = quality


LIMITS: SensorLimits = fit_limits([healthy(2000, 7)], INFO)
NO_LIMITS = default_limits([Tag(tag, role=Role.STATUS) for tag in TAGS])


def damaged(rows: int, seed: int) -> Samples:
    """A stream with holes, faults, stops and restarts at random places."""
    rng = np.random.default_rng(seed)
    samples = healthy(rows, seed)
    for _ in range(rng.integers(0, 8)):
        start, length, tag = int(rng.integers(0, rows)), int(rng.integers(1, 40)), int(rng.integers(0, 4))
        part = slice(start, start + length)
        match rng.integers(0, 7):
            case 0:
                hide(samples, part, tag)
            case 1:
                hide(samples, part, slice(None))
            case 2:
                hide(samples, part, tag, Quality.BAD)
            case 3:
                samples.values[part, tag] = samples.values[start, tag]
            case 4:
                samples.values[start, tag] += 100
            case 5:
                samples.values[part, 3] = np.where(samples.mask[part, 3], rng.integers(0, 3), np.nan)
            case _:
                samples.restart[start] = True
    return samples


def join(parts: list[Windows]) -> dict[str, np.ndarray]:
    names = ("times", "values", "mask", "faults", "readings")
    joined = {name: np.concatenate([getattr(part, name) for part in parts]) for name in names}
    return joined | {"state": np.array([state for part in parts for state in part.state])}


@settings(max_examples=80, deadline=None)
@given(
    st.integers(0, 2**31),
    st.lists(st.integers(0, 60), max_size=12),
    st.integers(1, 20),
    st.integers(0, 30),
    st.sampled_from(MODES),
)
def test_live_windows_equal_those_over_the_whole_array(
    seed: int, blocks: list[int], length: int, extra: int, mode: Tag | None
) -> None:
    samples = damaged(sum(blocks) + 1, seed)
    whole = sliding(samples, 0, length, SIGNALS, LIMITS, mode)
    buffer, start, parts = WindowBuffer(HORIZON + length + extra), 0, []
    for block in [*blocks, 1]:
        together, first = buffer.push(take_rows(samples, slice(start, start + block)))
        assert len(together) - first == block
        parts.append(sliding(together, first, length, SIGNALS, LIMITS, mode))
        start += block
    live, batch = join(parts), join([whole])
    for name, expected in batch.items():
        assert np.array_equal(live[name], expected), name


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**31), st.integers(1, 90), st.integers(1, 12), st.sampled_from(MODES))
def test_every_window_is_what_the_obvious_loop_gives(seed: int, rows: int, length: int, mode: Tag | None) -> None:
    samples = damaged(rows, seed)
    windows = sliding(samples, 0, length, SIGNALS, LIMITS, mode)
    faults = check(samples, LIMITS)
    for row in range(rows):
        since = max(i for i in range(row + 1) if samples.restart[i] or i == 0)
        inside = [i for i in range(row - length + 1, row + 1) if i >= since]
        for place, i in enumerate(range(row - length + 1, row + 1)):
            for column, tag in enumerate(SIGNALS):
                source = TAGS.index(tag)
                believed = (
                    i >= since
                    and bool(samples.mask[i, source])
                    and bool(np.isfinite(samples.values[i, source]))
                    and faults[i, source] == SensorFault.NONE
                )
                assert windows.mask[row, place, column] == believed
                assert windows.values[row, place, column] == (samples.values[i, source] if believed else 0.0)
        assert windows.state[row] is obvious_state(samples, inside, length, mode)
        assert windows.faults[row].tolist() == [faults[row, TAGS.index(tag)] for tag in SIGNALS]


def obvious_state(samples: Samples, inside: list[int], length: int, mode: Tag | None) -> State:
    running, runs = True, []
    for i in inside:
        if mode is not None and samples.mask[i, 3]:
            running = float(samples.values[i, 3]) in mode.running
        runs.append(running)
    if not runs[-1]:
        return State.OFF
    said = {float(samples.values[i, 3]) for i in inside if samples.mask[i, 3]}
    mixed = mode is not None and mode.regimes and len(said) > 1
    return State.OK if len(inside) == length and all(runs) and not mixed else State.WARMING_UP


def test_a_window_that_holds_two_regimes_is_not_judged_and_only_such_a_one() -> None:
    samples = healthy(12)
    samples.values[5:, 3] = 2.0
    hide(samples, slice(4, 7), 3)
    states = sliding(samples, 0, 4, SIGNALS, LIMITS, REGIMES).state
    waiting = [row for row, state in enumerate(states) if state is State.WARMING_UP]
    assert waiting == [0, 1, 2]  # no window of four holds both row 3, the last known of one, and row 7 of the other
    samples.mask[6, 3], samples.values[6, 3], samples.quality[6, 3] = True, 2.0, Quality.GOOD
    states = sliding(samples, 0, 4, SIGNALS, LIMITS, REGIMES).state
    assert [row for row, state in enumerate(states) if state is State.WARMING_UP] == [0, 1, 2, 6]
    assert State.WARMING_UP not in sliding(samples, 3, 4, SIGNALS, LIMITS, MODE).state


def test_a_window_warms_up_until_it_is_full_and_again_after_a_restart() -> None:
    samples = healthy(10)
    samples.restart[6] = True
    windows = sliding(samples, 0, 3, SIGNALS, LIMITS, None)
    assert [state is State.OK for state in windows.state] == [
        False,
        False,
        True,
        True,
        True,
        True,
        False,
        False,
        True,
        True,
    ]
    assert not windows.mask[0, :2].any()
    assert windows.mask[6].any(axis=1).tolist() == [False, False, True]
    assert windows.values[6, 2].tolist() == samples.values[6, [0, 2]].tolist()


def test_a_stopped_machine_is_off_and_held_off_until_the_window_has_only_running_rows() -> None:
    samples = healthy(9)
    samples.values[3:5, 3] = 0.0
    states = sliding(samples, 0, 3, SIGNALS, LIMITS, MODE).state
    assert [str(state) for state in states[2:]] == ["ok", "off", "off", "warming_up", "warming_up", "ok", "ok"]


def test_a_silent_mode_tag_means_what_it_said_last_and_running_if_it_said_nothing() -> None:
    samples = healthy(8)
    samples.values[0, 3] = 0.0
    hide(samples, slice(1, None), 3)
    states = sliding(samples, 0, 4, SIGNALS, LIMITS, MODE).state
    assert [str(state) for state in states] == ["off"] * 4 + ["ok"] * 4


def test_what_the_mode_said_before_a_restart_is_forgotten() -> None:
    samples = healthy(8)
    samples.values[3, 3] = 0.0
    hide(samples, slice(4, None), 3)
    samples.restart[4] = True
    states = sliding(samples, 2, 3, SIGNALS, LIMITS, MODE).state
    assert [str(state) for state in states] == ["ok", "off", "warming_up", "warming_up", "ok", "ok"]


def test_a_mode_tag_without_running_values_or_without_column_is_no_reason_to_be_off() -> None:
    samples = healthy(3)
    samples.values[:, 3] = 0.0
    for mode in (Tag("mode", role=Role.MODE), Tag("elsewhere", role=Role.MODE, running=(1.0,))):
        assert sliding(samples, 2, 3, SIGNALS, LIMITS, mode).state == (State.OK,)


def test_a_sensor_fault_masks_the_tag_and_nothing_else() -> None:
    samples = healthy(60)
    samples.values[50, 0] = 130.0
    windows = sliding(samples, 50, 4, SIGNALS, LIMITS, None)
    assert windows.faults[0].tolist() == [SensorFault.OUT_OF_RANGE, SensorFault.NONE]
    assert windows.mask[0].tolist() == [[True, True]] * 3 + [[False, True]]
    assert windows.values[0, 3, 0] == 0.0
    assert not windows.mask[2, 1, 0]
    assert len(windows) == 10


def test_a_tag_the_samples_do_not_have_is_masked_and_called_missing() -> None:
    windows = sliding(healthy(5), 4, 2, ("flow", "level"), NO_LIMITS, None)
    assert windows.faults.tolist() == [[SensorFault.NONE, SensorFault.MISSING]]
    assert windows.mask.tolist() == [[[True, False]] * 2]


def test_no_rows_give_no_windows() -> None:
    for samples, first in ((healthy(0), 0), (healthy(4), 4)):
        windows = sliding(samples, first, 3, SIGNALS, LIMITS, MODE)
        assert windows.values.shape == (0, 3, 2)
        assert windows.state == ()


def test_a_buffer_keeps_what_it_was_told_to_keep() -> None:
    buffer = WindowBuffer(5)
    buffer.push(healthy(20))
    together, first = buffer.push(healthy(0))
    assert (len(together), first) == (5, 5)
    assert together.times.tolist() == healthy(20).times[-5:].tolist()


@settings(max_examples=60, deadline=None)
@given(st.lists(st.sampled_from([0, 1, 2, 7, 30, 200]), max_size=25), st.integers(1, 60))
def test_a_buffer_gives_the_newest_rows_and_never_changes_what_it_gave(counts: list[int], memory: int) -> None:
    samples, buffer, start = damaged(sum(counts) + 1, 3), WindowBuffer(memory), 0
    before: list[tuple[Samples, list[bytes]]] = []
    for count in counts:
        together, first = buffer.push(take_rows(samples, slice(start, start + count)))
        assert bits(together) == bits(take_rows(samples, slice(max(0, start - memory), start + count)))
        assert first == min(start, memory)
        before.append((together, bits(together)))
        start += count
    assert all(bits(given) == then for given, then in before)


def bits(samples: Samples) -> list[bytes]:
    columns = (samples.times, samples.values, samples.mask, samples.quality, samples.restart, samples.readings)
    return [column.tobytes() for column in columns]


def test_a_buffer_keeps_no_more_memory_alive_than_a_few_rows_beyond_its_own() -> None:
    buffer = WindowBuffer(100)
    for count in (5000, 1, 60, 60, 140, 1, 90, 1000, 3):
        buffer.push(take_rows(healthy(5000), slice(0, count)))
        base = buffer.push(take_rows(healthy(1), slice(0, 1)))[0].values.base
        assert base is not None
        assert len(base) <= 100 + 140 + 2 * 32


def test_a_buffer_refuses_another_machines_samples() -> None:
    buffer = WindowBuffer(5)
    buffer.push(healthy(3))
    with pytest.raises(DataError, match="s/other"):
        buffer.push(replace(healthy(3), asset="s/other"))


def test_wrong_calls_are_refused() -> None:
    with pytest.raises(DataError, match="at least 1"):
        WindowBuffer(0)
    with pytest.raises(DataError, match="first"):
        sliding(healthy(3), 4, 2, SIGNALS, LIMITS, None)
    with pytest.raises(ValueError, match="nothing to join"):
        join_samples([])
