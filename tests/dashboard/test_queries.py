"""What the overview and the alert figures say, over a real historian file."""

from __future__ import annotations

from dataclasses import replace
from types import MappingProxyType
from typing import Any

import numpy as np
import pytest

from anomaly.domain import SECOND, Alert, AlertState, Anomaly, Kind, Priority
from dashboard import queries, signals
from dashboard.queries import Need, alert_figures, machines, moment
from pipelines.ports import Heartbeat

WALL = 1_800_000_000 * SECOND
TICK = 10 * SECOND
END = 1_760_000_400 * SECOND
FAULTY, SENSOR, OFF, WARM, HANDLED = "Feed pump 2", "Air compressor", "Conveyor A", "Boiler 1", "Exhaust fan"


def named(stage: Any, wall: int = WALL) -> dict[str, queries.Machine]:
    at = moment(stage.historian, stage.plant, wall)
    return {machine.asset.name: machine for machine in machines(stage.historian, stage.plant, at)}


def test_machines_come_by_need_and_equals_in_plant_order(stage: Any) -> None:
    stage.beat(WALL)
    found = machines(stage.historian, stage.plant, moment(stage.historian, stage.plant, WALL))
    assert [machine.asset.name for machine in found[:3]] == [FAULTY, SENSOR, HANDLED]
    assert [machine.need for machine in found[:3]] == [Need.HIGH, Need.LOW, Need.HANDLED]
    quiet = [machine.asset for machine in found if machine.need is Need.NORMAL]
    assert quiet == [asset for asset in stage.plant.assets if asset in quiet]


def test_off_and_warming_up_machines_have_no_score_and_ask_for_nobody(stage: Any) -> None:
    stage.beat(WALL)
    found = named(stage)
    for name in (OFF, WARM):
        assert np.isnan(found[name].score)
        assert found[name].need is Need.NORMAL


def test_a_score_over_the_line_without_alert_is_watched_but_not_coloured_as_an_alert(stage: Any) -> None:
    stage.beat(WALL)
    closed = replace(stage.process, state=AlertState.CLOSED)
    stage.tell(closed, 2, "closed")
    assert named(stage)[FAULTY].need is Need.OVER_LINE


def test_a_returned_alert_stays_until_somebody_acknowledges_it(stage: Any) -> None:
    stage.beat(WALL)
    returned = replace(stage.sensor, state=AlertState.RETURNED_UNACKNOWLEDGED, cleared_at=END)
    stage.tell(returned, 2, "cleared")
    assert named(stage)[SENSOR].need is Need.RETURNED


def test_a_machine_without_news_is_unknown_not_normal(stage: Any) -> None:
    stage.beat(WALL, END + 3600 * SECOND)
    found = named(stage)
    assert found["Mixer"].silent
    assert found["Mixer"].need is Need.UNKNOWN
    assert np.isnan(found["Mixer"].score)


def test_the_trend_ends_with_the_newest_bucket_and_is_empty_where_nothing_was_scored(stage: Any) -> None:
    stage.beat(WALL)
    found = named(stage)
    assert len(found[FAULTY].trend) == queries.TREND_POINTS
    newest = found[FAULTY].trend[-1]
    assert newest is not None
    assert newest > 3
    assert set(found[WARM].trend) == {None}


def test_the_plants_clock_runs_on_between_heartbeats_at_the_plants_speed(stage: Any) -> None:
    stage.historian.heartbeat("plant", END, {"wall": WALL, "speed": 10.0})
    at = moment(stage.historian, stage.plant, WALL + 3 * SECOND)
    assert at.now == END + 30 * SECOND
    assert at.live
    assert at.stale == ""


def test_a_silent_data_source_is_said_and_stops_the_clock(stage: Any) -> None:
    stage.beat(WALL)
    at = moment(stage.historian, stage.plant, WALL + 16 * SECOND)
    assert "stopped" in at.stale
    assert at.now == END


def test_a_running_source_without_new_readings_is_stale_after_five_ticks(stage: Any) -> None:
    stage.historian.heartbeat("plant", END + 5 * TICK, {"wall": WALL, "speed": 1.0})
    assert moment(stage.historian, stage.plant, WALL).stale == ""
    stage.historian.heartbeat("plant", END + 6 * TICK, {"wall": WALL, "speed": 1.0})
    assert "no new readings" in moment(stage.historian, stage.plant, WALL).stale


def test_a_fast_plant_is_not_called_stale_for_less_than_the_wall_patience(stage: Any) -> None:
    stage.historian.heartbeat("plant", END + 20 * TICK, {"wall": WALL, "speed": 60.0})
    assert moment(stage.historian, stage.plant, WALL).stale == ""


def test_files_of_old_readings_are_no_alarm_and_their_newest_reading_is_now(stage: Any) -> None:
    much_later = END + 10**6 * TICK
    stage.historian.heartbeat("plant", much_later, {"wall": WALL, "speed": 1.0, "files": "being read"})
    at = moment(stage.historian, stage.plant, WALL)
    assert (at.now, at.stale, at.note) == (at.newest, "", "files are being read")
    stage.historian.heartbeat("plant", much_later, {"wall": WALL, "speed": 1.0, "files": "all read"})
    at = moment(stage.historian, stage.plant, WALL + 10 * SECOND)
    assert (at.now, at.stale, at.note) == (at.newest, "", "all files are read")
    at = moment(stage.historian, stage.plant, WALL + 16 * SECOND)
    assert (at.now, at.note) == (at.newest, "")
    assert "stopped" in at.stale


@pytest.mark.parametrize("bad", ["fast", float("nan")])
def test_a_heartbeat_with_nonsense_harms_nothing(stage: Any, bad: str | float) -> None:
    stage.historian.heartbeat("plant", END, {"wall": WALL, "speed": bad})
    assert moment(stage.historian, stage.plant, WALL).speed == 1.0


def test_figures_count_floods_answers_and_bad_actors() -> None:
    def alert(number: int, raised: int, acknowledged: int | None = None, asset: str = "a") -> Alert:
        anomaly = Anomaly(asset, Kind.PROCESS, "process", raised, None, 2.0, ("t",), "v")
        state = AlertState.UNACKNOWLEDGED_ACTIVE if acknowledged is None else AlertState.ACKNOWLEDGED_ACTIVE
        return Alert(str(number), anomaly, state, Priority.LOW, raised, acknowledged_at=acknowledged)

    minute = 60 * SECOND
    now = 10_000 * minute
    found = [alert(i, now - (30 - i) * minute) for i in range(12)]
    found += [alert(20, now - 100 * minute, now - 95 * minute, "b"), alert(21, now - 2_000 * minute)]
    figures = alert_figures(found, now, 1_440 * minute, machine_count=4)
    assert figures.raised == 13
    assert figures.busiest == 10
    assert figures.median_answer == 5 * minute
    assert figures.oldest_active == 2_000 * minute
    assert figures.worst[0] == ("a", 12)
    assert figures.per_machine_week == pytest.approx(13 * 7 / 4)
    assert alert_figures([], now, minute, 0).per_machine_week == 0.0


def test_a_machine_view_holds_signals_expected_band_alert_and_contributions(stage: Any) -> None:
    asset = stage.asset(FAULTY)
    view = signals.machine_view(stage.historian, asset, END - 3600 * SECOND, END + 1)
    assert [alert.id for alert in view.alerts] == [stage.process.id]
    assert [track.tag.name for track in view.tracks[:2]] == ["vibration_de", "bearing_temp"]
    vibration = view.tracks[0]
    assert vibration.values[-1] > vibration.expected[-1] + 3 * vibration.spread
    assert 0.05 < vibration.spread < 1.5
    explained = signals.explain(view.blocks)
    assert explained is not None
    assert explained.tags[0] == "vibration_de"
    assert explained.shares.sum() == pytest.approx(1.0, abs=1e-6)
    peak = signals.peak_time(view)
    assert peak is not None
    assert signals.explain(view.blocks, peak).time == peak  # type: ignore[union-attr]


def test_blamed_tags_come_first_and_the_rest_keep_their_order(stage: Any) -> None:
    asset = stage.asset(SENSOR)
    view = signals.machine_view(stage.historian, asset, END - 3600 * SECOND, END + 1)
    assert [track.tag.name for track in view.tracks][:2] == ["flow", "vibration_de"]
    assert view.tracks[0].fault == "stuck"


def test_an_off_stretch_is_one_stretch(stage: Any) -> None:
    asset = stage.asset(OFF)
    view = signals.machine_view(stage.historian, asset, END - 7200 * SECOND, END + 1)
    assert [(stretch.word, stretch.until) for stretch in view.unknown] == [("off", END)]
    assert view.unknown[0].since == END - (720 - 1 - 499) * TICK


def test_a_long_span_is_thinned_but_keeps_its_highest_score(stage: Any) -> None:
    asset = stage.asset(FAULTY)
    view = signals.machine_view(stage.historian, asset, 0, END + 1)
    assert len(view.score) <= signals.POINTS
    every = np.concatenate([block.score for block in view.blocks])
    assert np.nanmax(view.score) == np.nanmax(every)
    assert all(len(track.times) <= signals.POINTS for track in view.tracks)


def test_a_machine_without_data_gives_an_empty_view(stage: Any) -> None:
    asset = replace(stage.plant.assets[0], path="north/nowhere")
    view = signals.machine_view(stage.historian, asset, 0, END)
    assert len(view.times) == 0
    assert signals.explain(view.blocks) is None
    assert signals.peak_time(view) is None


def test_a_foreign_heartbeat_mapping_need_not_be_a_dict() -> None:
    heartbeat = Heartbeat("plant", 5, MappingProxyType({"speed": 2}))
    assert queries._figure(heartbeat, "speed", 1.0) == 2.0


def _speaking(stage: Any, monkeypatch: pytest.MonkeyPatch, **walls: int) -> None:
    """Only these parts have said a word, at these wall times."""
    words = {part: Heartbeat(part, wall, {"state": "ok", "wall": wall}) for part, wall in walls.items()}
    monkeypatch.setattr(stage.historian, "heartbeats", lambda: words)


def test_where_nothing_speaks_for_the_plant_running_services_do_and_its_clock_is_the_walls(
    stage: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    now, later = END + 20 * SECOND, END + 3600 * SECOND
    _speaking(stage, monkeypatch, record=now)
    at = moment(stage.historian, stage.plant, now)
    assert (at.now, at.live, at.stale) == (now, True, "")
    _speaking(stage, monkeypatch, score=later)
    at = moment(stage.historian, stage.plant, later)
    assert (at.now, at.live) == (later, True)
    assert "no new readings arrive" in at.stale
    at = moment(stage.historian, stage.plant, later + 3600 * SECOND)
    assert not at.live
    assert at.stale == "no word from the plant's data source"


def test_a_simulator_that_stopped_in_order_does_not_speak_for_a_plant_that_goes_on(
    stage: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = END + 20 * SECOND
    stopped = Heartbeat("plant", END, {"speed": 60.0, "stopped": "in order", "wall": END})
    words = {"plant": stopped}
    monkeypatch.setattr(stage.historian, "heartbeats", lambda: words)
    assert moment(stage.historian, stage.plant, now).stale == "the plant's data source has stopped"
    words["score"] = Heartbeat("score", now, {"state": "ok", "wall": now})
    at = moment(stage.historian, stage.plant, now)
    assert (at.now, at.speed, at.stale) == (now, 1.0, "")
