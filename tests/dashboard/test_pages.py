"""The pages' logic, run by Streamlit's own test runner over a SQLite historian."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import streamlit as st
from streamlit.testing.v1 import AppTest

from anomaly.domain import SECOND, AlertState, Asset, Plant, Rung
from anomaly.errors import StorageError
from anomaly.model_card import ModelCard
from dashboard import world
from dashboard.world import World
from pipelines import topics
from pipelines.codec import Command, Serving, decode_command
from pipelines.ports import NewRecord, Partition
from pipelines.serving import Wish, activate, promote

END = 1_760_000_400 * SECOND
PAGES = ("overview", "machine", "alerts", "models", "system")
EVIL = "![x](http://evil.example/x.png) <img src=x> :red[now] $a$"


def shown(page: str, **query: str) -> AppTest:
    """The page as a visitor with that address sees it."""
    test = AppTest.from_string(f"from dashboard import app\napp.main({page!r})", default_timeout=30)
    for name, value in query.items():
        test.query_params[name] = value
    return test.run()


def words(test: AppTest) -> str:
    """All text on the page, with the escapes of markdown taken away."""
    texts = [
        getattr(element, "value", "")
        for kind in ("title", "subheader", "markdown", "caption")
        for element in test.get(kind)
    ]
    return "\n".join(str(text) for text in texts).replace("\\", "")


def commands(stage: Any) -> list[Command]:
    records = stage.log.read(Partition(topics.COMMANDS, 0), 0, 100)
    return [decode_command(record.value or b"") for record in records]


def button(test: AppTest, start: str) -> Any:
    return next(found for found in test.button if str(found.key).startswith(start))


@pytest.mark.parametrize("page", PAGES)
def test_every_page_asks_its_question_first_and_raises_nothing(stage: Any, page: str) -> None:
    test = shown(page)
    assert not test.exception
    assert test.title[0].value.endswith("?")


@pytest.mark.parametrize("page", PAGES)
def test_every_page_says_what_to_do_when_nothing_was_ever_measured(
    bare: Callable[..., World], page: str, tmp_path: Path
) -> None:
    bare(Plant("", ()))
    test = shown(page)
    assert not test.exception
    assert len(words(test).splitlines()) >= 2


def test_the_overview_names_those_that_need_people_and_since_when_in_plant_time(stage: Any) -> None:
    text = words(shown("overview"))
    assert "2 of 8: **Feed pump 2** since 10:40:20, **Air compressor** since 10:47:30." in text
    assert "sensor: flow stuck" in text
    assert "North plant" in text
    assert "LSTM autoencoder" in text
    assert "warming up" in text


def test_the_overview_of_a_quiet_plant_says_none(stage: Any) -> None:
    for alert in (stage.process, stage.sensor, stage.handled):
        stage.tell(replace(alert, state=AlertState.CLOSED), 9, "closed")
    assert "None. All 8 machines are looked after." in words(shown("overview"))


@pytest.mark.parametrize("page", PAGES)
def test_stale_data_are_said_on_every_page(stage: Any, page: str) -> None:
    stage.beat(time.time_ns() - 60 * SECOND)
    assert "These data are stale" in words(shown(page))


@pytest.mark.parametrize("page", ["overview", "system"])
def test_old_files_that_are_read_to_their_end_are_said_without_alarm(stage: Any, page: str) -> None:
    stage.beat(time.time_ns())
    now = {"wall": time.time_ns(), "speed": 1.0, "plant_name": "w", "files": "all read"}
    stage.historian.heartbeat("plant", time.time_ns(), now)
    told = words(shown(page))
    assert "These data are stale" not in told
    assert "All files are read; newest reading 9 Oct" in told.replace("\\", "")


@pytest.mark.parametrize("page", PAGES)
def test_a_historian_that_cannot_be_read_is_said_calmly(stage: Any, page: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object, **__: object) -> None:
        raise StorageError("the historian is locked by process 4711; stop it")

    for verb in ("span", "latest", "alerts", "heartbeats", "scores", "heat"):
        monkeypatch.setattr(stage.historian, verb, broken)
    test = shown(page)
    assert not test.exception
    assert "process 4711" in words(test)


def test_the_machine_page_opens_the_machine_of_its_link(stage: Any) -> None:
    asset = stage.asset("Feed pump 2")
    test = shown("machine", asset=asset.path)
    assert test.selectbox(key="asset").value == asset.path
    assert "Machine: vibration_de, bearing_temp**, since 10:40:20" in words(test)
    assert len(test.get("echarts_chart")) == 2


def test_a_link_to_a_machine_that_is_not_there_opens_the_first(stage: Any) -> None:
    test = shown("machine", asset="north/no/such/machine", span="for ever", until="yesterday")
    assert not test.exception
    assert test.selectbox(key="asset").value == stage.plant.assets[0].path


def test_the_machine_page_says_not_known_for_a_machine_that_is_off(stage: Any) -> None:
    text = words(shown("machine", asset=stage.asset("Conveyor A").path))
    assert "Not known: off." in text


def test_the_machine_page_lists_sensor_faults(stage: Any) -> None:
    text = words(shown("machine", asset=stage.asset("Air compressor").path))
    assert "Sensor flow" in text
    assert "stuck" in text
    assert "80%" in text


def test_acknowledging_needs_a_name_then_goes_to_the_log_and_waits_for_the_historian(stage: Any) -> None:
    test = shown("alerts")
    button(test, f"acknowledge_{stage.process.id}").click().run()
    assert commands(stage) == []
    test.text_input(key="operator").set_value("Ada").run()
    button(test, f"acknowledge_{stage.process.id}").click().run()
    (sent,) = commands(stage)
    assert (sent.kind, sent.target, sent.actor, sent.role) == ("acknowledge", stage.process.id, "Ada", "operator")
    assert sent.asset == stage.process.anomaly.asset
    assert "Acknowledgement sent, waiting" in words(test)
    assert not [found for found in test.button if found.key == f"acknowledge_{stage.process.id}"]

    done = replace(stage.process, state=AlertState.ACKNOWLEDGED_ACTIVE, acknowledged_by="Ada", acknowledged_at=END)
    stage.tell(done, 2, "acknowledged", "Ada")
    test.run()
    assert "waiting" not in words(test)
    assert "**1 new alert**" in words(test)


def test_a_command_is_sent_once_however_often_the_page_renews_itself(stage: Any) -> None:
    test = shown("alerts")
    test.text_input(key="operator").set_value("Ada").run()
    button(test, f"acknowledge_{stage.process.id}").click().run()
    test.run()
    test.run()
    assert len(commands(stage)) == 1


def test_an_alert_in_full_shows_read_and_expected_values_with_units_and_its_history(stage: Any) -> None:
    test = shown("alerts", alert=stage.process.id)
    assert not test.exception
    table = test.table[0].value.to_string()
    assert "6.6 mm/s" in table
    assert "2.45 mm/s" in table
    assert "Raised" in words(test)


def test_shelving_sends_a_time_and_a_reason(stage: Any) -> None:
    test = shown("alerts", alert=stage.process.id)
    test.text_input(key="operator").set_value("Ada").run()
    reason = next(field for field in test.text_input if field.label == "Reason")
    reason.set_value("bearing is ordered")
    next(found for found in test.button if found.label == "Shelve").click().run()
    (sent,) = commands(stage)
    assert (sent.kind, sent.note) == ("shelve", "bearing is ordered")
    assert int(sent.arguments["until"]) - sent.time == 7200 * SECOND


def test_shelving_without_a_reason_sends_nothing(stage: Any) -> None:
    test = shown("alerts", alert=stage.process.id)
    test.text_input(key="operator").set_value("Ada").run()
    next(found for found in test.button if found.label == "Shelve").click().run()
    assert commands(stage) == []
    assert "reason" in test.toast[0].value


def test_a_comment_and_a_closing_code_go_to_the_log(stage: Any) -> None:
    test = shown("alerts", alert=stage.process.id)
    test.text_input(key="operator").set_value("Ada").run()
    test.text_area[0].set_value("greased it")
    next(found for found in test.button if found.label == "Add the comment").click().run()
    next(found for found in test.button if found.label == "Close the alert").click().run()
    assert [(sent.kind, sent.note) for sent in commands(stage)] == [("comment", "greased it"), ("close", "")]
    assert commands(stage)[1].arguments == {"reason": "true"}


def test_an_update_of_the_machine_is_not_taken_for_the_comment_that_was_sent(stage: Any) -> None:
    test = shown("alerts", alert=stage.process.id)
    test.text_input(key="operator").set_value("Ada").run()
    test.text_area[0].set_value("greased it")
    next(found for found in test.button if found.label == "Add the comment").click().run()
    stage.tell(stage.process, 2, "updated")
    assert "Comment sent, waiting" in words(test.run())
    stage.tell(stage.process, 3, "updated", "Ada")
    assert "Comment sent" not in words(test.run())


def test_filters_hide_and_the_page_says_so(stage: Any) -> None:
    test = shown("alerts", kind="Data lost")
    assert "The filters hide them" in words(test)
    test = shown("alerts", show="Open")
    assert "Exhaust fan" in words(test)
    assert "acknowledged by Ada" in words(test)


def test_a_link_to_an_unknown_alert_says_so(stage: Any) -> None:
    test = shown("alerts", alert="no such alert")
    assert not test.exception
    assert "not stored here" in words(test)


def test_the_models_page_names_version_rung_and_the_training_that_runs(stage: Any) -> None:
    test = shown("models")
    text = words(test)
    assert "LSTM autoencoder on 8 machines." in text
    assert "20251009T101500-ab12cd34" in text
    assert "Last training: lstm autoencoder refused. too many false alarms on held-back rows" in text
    assert [(bar.proto.value, bar.proto.text) for bar in test.get("progress")] == [
        (35, "Training\\: lstm autoencoder fitting")
    ]


def test_the_system_page_names_the_silent_part_and_lists_what_was_set_aside(stage: Any) -> None:
    headers = (("x-reason", b"naive_time"), ("x-exception", EVIL.encode()))
    stage.log.append([NewRecord(topics.DEAD_LETTERS, b"k", b"\xff\xfe{", headers)])
    stage.historian.heartbeat("record", END, {"wall": time.time_ns() - 60 * SECOND, "lag": 7})
    test = shown("system")
    text = words(test)
    assert "No. Silent: **Recording**. 1 message could not be read and was set aside." in text
    assert "naive time" in test.table[0].value.to_string()


@pytest.mark.parametrize("page", PAGES)
def test_names_from_outside_never_become_markup(bare: Callable[..., World], page: str, stage: Any) -> None:
    named = tuple(
        Asset(asset.path, EVIL, asset.tags, asset.tick, f"{EVIL} {asset.name}") for asset in stage.plant.assets
    )
    here = world.current()
    bare(replace(stage.plant, name=EVIL, assets=named), here)
    test = shown(page, **({"asset": named[1].path} if page == "machine" else {}))
    assert not test.exception
    for kind in ("title", "subheader", "markdown", "caption", "page_link"):
        for element in test.get(kind):
            text = str(getattr(element, "value", "") or element.proto.label)
            assert "](http" not in text
            assert " :red[" not in text
            assert "<img" not in text.replace("\\<", "")


@pytest.fixture
def bare(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., World]:
    """Point the app at another plant, over an empty folder unless a world is given."""

    def point(plant: Plant, at: World | None = None) -> World:
        here = replace(at, plant=plant) if at else replace(world.open_world(tmp_path / "empty"), plant=plant)
        monkeypatch.setattr(world, "current", lambda: here)
        return here

    (tmp_path / "empty").mkdir()
    st.cache_resource.clear()
    return point


def test_a_stored_versions_card_and_its_takeover_are_shown(stage: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    card = ModelCard(
        group="group 0", rung="lstm_autoencoder", assets=("a",), tags=("t",), rows=9, hours=34.5, since=0, until=1,
        data_sha256="", seed=1, spec={}, libraries={}, figures={"calibration_exceed_rate": 0.0012},
        left_out={"alert": 40},
    )  # fmt: skip
    monkeypatch.setattr("dashboard.pages.models.card", lambda _registry, group, _: card if group == "group 0" else None)
    (stage.data / "models").mkdir()
    serving = Serving("group 0", "20251009T101500-ab12cd34", END - 3600 * SECOND, Rung.LSTM_AUTOENCODER)
    promote(stage.log, serving)
    activate(stage.log, 0, Wish(0, serving), {asset.path: END - 600 * SECOND for asset in stage.plant.assets})
    text = words(shown("models"))
    assert "34.5 h" in text
    assert "rows left out: alert 40" in text
    assert "0.12%" in text
    assert "since 10:50:0" in text
