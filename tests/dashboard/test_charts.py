"""Charts are plain JSON, the same for the same view, small enough to send every two seconds."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import pytest

from anomaly.domain import SECOND, Asset
from dashboard import charts, signals

END = 1_760_000_400 * SECOND
BERLIN = ZoneInfo("Europe/Berlin")


@pytest.fixture
def view(stage: Any) -> signals.MachineView:
    return signals.machine_view(stage.historian, stage.asset("Feed pump 2"), END - 3600 * SECOND, END + 1)


def test_the_machine_chart_is_json_without_nan_and_equal_for_the_same_view(view: signals.MachineView) -> None:
    text = json.dumps(charts.machine_chart(view, BERLIN, END), allow_nan=False)
    assert text == json.dumps(charts.machine_chart(view, BERLIN, END), allow_nan=False)
    assert len(text) < 400_000


def test_the_machine_chart_has_a_strip_for_the_score_and_each_tag_on_one_time_axis(view: signals.MachineView) -> None:
    option = charts.machine_chart(view, BERLIN)
    assert len(option["grid"]) == len(option["xAxis"]) == len(option["yAxis"]) == 1 + len(view.tracks)
    assert len({(axis["min"], axis["max"]) for axis in option["xAxis"]}) == 1
    assert option["title"][1]["text"].startswith("vibration_de  mm/s")
    last = option["grid"][-1]
    assert charts.machine_height(view) > last["top"] + last["height"]


def test_the_line_at_one_and_the_alert_are_marked(view: signals.MachineView) -> None:
    score = charts.machine_chart(view, BERLIN)["series"][0]
    assert {"yAxis": 1.0}.items() <= score["markLine"]["data"][0].items()
    (area,) = score["markArea"]["data"]
    assert area[0]["xAxis"] == charts.plant_ms(np.array([view.alerts[0].anomaly.onset]), BERLIN)[0]


def test_an_alert_that_began_before_the_span_is_cut_to_it(view: signals.MachineView) -> None:
    early = replace(view.alerts[0], anomaly=replace(view.alerts[0].anomaly, onset=view.since - 10**12))
    (area,) = charts.machine_chart(replace(view, alerts=(early,)), BERLIN)["series"][0]["markArea"]["data"]
    assert area[0]["xAxis"] == charts.plant_ms(np.array([view.since]), BERLIN)[0]


def test_the_band_lies_around_what_was_expected(view: signals.MachineView) -> None:
    option = charts.machine_chart(view, BERLIN)
    low, width = (series for series in option["series"] if series.get("stack") == "band 1")
    track = view.tracks[0]
    assert low["data"][0][1] == pytest.approx(track.expected[0] - track.spread, rel=1e-3)
    assert width["data"][0][1] == pytest.approx(2 * track.spread)


def test_times_are_the_plants_wall_clock_on_both_sides_of_a_change_of_the_clocks() -> None:
    before, after = 1_761_437_400 * SECOND, 1_761_444_600 * SECOND
    assert np.diff(charts.plant_ms(np.array([before, after]), BERLIN)).tolist() == [3_600_000]


def test_heat_map_cells_stand_at_their_machine_and_time_and_unknown_ones_are_absent() -> None:
    assets = (Asset("a/b", "g", (), name="Pump"), Asset("a/c", "g", ()))
    bucket = 300 * SECOND
    heat = {"a/b": {0: 0.5, bucket: math.nan}, "a/c": {bucket: 2.0}}
    option = charts.heat_map(heat, assets, 0, 4 * bucket, bucket, ZoneInfo("UTC"))
    assert option["series"][0]["data"] == [[0, 0, 0.5, "Pump", "00:00"], [1, 1, 2.0, "c", "00:05"]]
    json.dumps(option, allow_nan=False)


def test_contributions_name_value_expectation_and_unit(view: signals.MachineView) -> None:
    explained = signals.explain(view.blocks)
    assert explained is not None
    option = charts.contributions(explained, {"vibration_de": "mm/s"})
    assert option["yAxis"][0]["data"][0] == "vibration_de"
    assert "mm/s, expected" in option["yAxis"][1]["data"][0]
    assert option["series"][0]["data"][0]["itemStyle"]["color"] == charts.RED
    json.dumps(option, allow_nan=False)


def test_only_a_score_over_the_line_is_coloured(view: signals.MachineView) -> None:
    calm = signals.explain(view.blocks, END - 3000 * SECOND)
    assert calm is not None
    colours = {bar["itemStyle"]["color"] for bar in charts.contributions(calm, {})["series"][0]["data"]}
    assert colours == {charts.QUIET}


def test_a_trend_with_gaps_drops_to_the_ground_and_never_leaves_its_box() -> None:
    html = charts.spark([0.5, None, math.nan, 99.0])
    assert "75% 100%, 75% 0%, 100% 0%" in html
    assert "nan" not in html
    assert "-" not in html.split("polygon(")[1].split(")")[0]


def test_rich_text_of_titles_cannot_be_broken_by_a_tags_name(stage: Any) -> None:
    asset = stage.asset("Mixer")
    odd = replace(asset, tags=(replace(asset.tags[0], name="{n|x}", description="{a|b}"), *asset.tags[1:]))
    drawn = signals.machine_view(stage.historian, odd, END - 600 * SECOND, END)
    assert charts.machine_chart(drawn, BERLIN)["title"][1]["text"] == "(n/x)  mm/s  {n|(a/b)}"
