"""`plantwatch alerts`: the list, the acts and the preview, over a real data folder."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner, Result

from anomaly.domain import SECOND, AlertState, Quality, Readings, Rung, Scores, State
from anomaly.errors import ConfigurationError, DataError, PlantwatchError
from pipelines import topics, wiring
from pipelines.alerting import AlertPolicy, AssetAlerts, apply_command, apply_scores
from pipelines.codec import Command, CommandKind, decode_command
from pipelines.commands.alerts import app
from pipelines.ports import AlertEvent, Partition
from pipelines.settings import Settings

PUMP, FAN = "s1/l1/pump-1", "s1/l2/fan-1"
START = 1_700_000_000 * SECOND
TICK = 10 * SECOND


@pytest.fixture(autouse=True)
def _bare(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No settings of the machine the tests run on."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PLANTWATCH_SECRETS_DIR", str(tmp_path / "none"))
    monkeypatch.setenv("LOGNAME", "ann")


def settings(folder: Path) -> Settings:
    return Settings(data_dir=folder)


def scores(asset: str, values: Sequence[float], first: int = 0) -> Scores:
    rows = len(values)
    score = np.asarray(values, dtype=float)
    return Scores(
        tags=("vib", "temp"),
        assets=(asset,) * rows,
        times=(START + np.arange(first, first + rows) * TICK).astype(np.int64),
        score=score,
        contributions=np.tile([0.7, 0.3], (rows, 1)),
        expected=np.full((rows, 2), 2.0),
        actual=np.full((rows, 2), 7.0),
        coverage=np.ones(rows),
        isolated=np.where(score > 1, 2.0, np.nan),
        faults=np.zeros((rows, 2), np.uint8),
        state=(State.OK,) * rows,
        version="v1",
        rung=Rung.WINDOW_PCA,
    )


def readings(asset: str, rows: int) -> Readings:
    times = (START + np.arange(rows) * TICK).astype(np.int64)
    return Readings(asset, ("vib",), times, np.ones((rows, 1)), np.full((rows, 1), Quality.GOOD, np.uint8))


LIFE = {
    PUMP: [0.4] * 20 + [1.5] * 12 + [0.3] * 400 + [2.6] * 12 + [0.3] * 30,
    FAN: [0.4] * 300 + [6.0] * 5 + [0.4] * 300 + [1.2, 0.9] * 30,
}
"""With the usual rule: two alerts of the pump (far apart), one of the fan."""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """What a plant of two machines has stored: the pump's second alert and the fan's are open."""
    data = tmp_path / "data"
    data.mkdir()
    historian = wiring.open_historian(settings(data))
    for asset, life in LIFE.items():
        historian.write(readings=[readings(asset, len(life))], scores=[scores(asset, life)], events=events(asset, life))
    historian.close()
    return data


def events(asset: str, life: Sequence[float]) -> list[AlertEvent]:
    return list(apply_scores(AssetAlerts(asset), scores(asset, life), 0, AlertPolicy()).events)


def run(folder: Path, *words: str) -> Result:
    return CliRunner().invoke(app, [*words, "--data-dir", str(folder)])


def output(folder: Path, *words: str) -> str:
    result = run(folder, *words)
    assert result.exit_code == 0, (result.output, result.exception)
    return result.stdout


def refused(folder: Path, *words: str) -> PlantwatchError:
    result = run(folder, *words)
    assert isinstance(result.exception, PlantwatchError), (result.output, result.exception)
    return result.exception


def commands(folder: Path) -> list[Command]:
    log = wiring.open_log(settings(folder))
    found = [decode_command(r.value or b"") for r in log.read(Partition(topics.COMMANDS, 0), 0, 100)]
    log.close()
    return found


def open_ids(folder: Path) -> dict[str, str]:
    return {a["asset"]: a["id"] for a in json.loads(output(folder, "list", "--json"))["alerts"]}


# ---------------------------------------------------------------- list


def test_the_list_shows_open_alerts_newest_first_one_a_line(folder: Path) -> None:
    lines = output(folder, "list").splitlines()
    assert [line.split()[1] for line in lines] == ["medium", "high"]
    assert "s1/l1/pump-1: unlike normal, 2.6 times its alert line (vib, temp)" in lines[0]
    assert "returned unacknowledged" in lines[0]


def test_the_list_as_json_has_what_programs_need(folder: Path) -> None:
    found = json.loads(output(folder, "list", "--json", "--all"))["alerts"]
    assert [(a["asset"], a["state"]) for a in found] == [
        (PUMP, "returned_unacknowledged"),
        (FAN, "returned_unacknowledged"),
        (PUMP, "closed"),
    ]
    assert found[0]["onset"] == "2023-11-14T23:25:20.000Z"
    assert {"kind", "raised_at", "cleared_at", "priority", "tags", "peak", "message"} <= found[0].keys()


@pytest.mark.parametrize(
    ("words", "count"),
    [
        (["--asset", PUMP], 2),
        (["--asset", "s1"], 3),
        (["--asset", "s1/l1/pump"], 0),
        (["--limit", "1"], 1),
        (["--since", "1h"], 1),
        (["--since", "2023-11-14T23:00:00Z"], 2),
    ],
)
def test_the_list_can_be_narrowed(folder: Path, words: list[str], count: int) -> None:
    assert len(json.loads(output(folder, "list", "--all", "--json", *words))["alerts"]) == count


def test_an_empty_plant_has_no_alerts_and_says_so(tmp_path: Path) -> None:
    assert output(tmp_path, "list") == "No open alerts.\n"
    assert json.loads(output(tmp_path, "list", "--json")) == {"alerts": []}


def test_a_time_without_zone_is_refused(folder: Path) -> None:
    assert "zone" in str(refused(folder, "list", "--since", "2023-11-14T23:00:00"))


# ---------------------------------------------------------------- acts


def test_an_acknowledgement_goes_to_the_commands_topic_and_does_its_work(folder: Path) -> None:
    name = open_ids(folder)[PUMP]
    assert name in output(folder, "ack", name, "--note", "on my way")
    command = commands(folder)[0]
    assert (command.kind, command.target, command.asset) == (CommandKind.ACKNOWLEDGE, name, PUMP)
    assert (command.actor, command.role, command.note) == ("ann", "operator", "on my way")
    state = apply_scores(AssetAlerts(PUMP), scores(PUMP, LIFE[PUMP]), 0, AlertPolicy()).state
    after = apply_command(state, command, 0, AlertPolicy())
    assert [(e.event, e.alert.state) for e in after.events] == [("acknowledged", AlertState.CLOSED)]


def test_the_beginning_of_an_id_is_enough(folder: Path) -> None:
    name = open_ids(folder)[FAN]
    output(folder, "ack", name[:6], "--actor", "bob")
    assert (commands(folder)[0].target, commands(folder)[0].actor) == (name, "bob")


def test_shelving_needs_a_time_and_a_reason_and_is_obeyed(folder: Path) -> None:
    name = open_ids(folder)[PUMP]
    output(folder, "shelve", name, "--for", "1.5h", "--reason", "sensor on order")
    command = commands(folder)[0]
    assert (command.arguments, command.note) == ({"minutes": "90"}, "sensor on order")
    state = apply_scores(AssetAlerts(PUMP), scores(PUMP, LIFE[PUMP]), 0, AlertPolicy()).state
    verdict = apply_command(state, command, 0, AlertPolicy())
    assert verdict.refused == ""
    assert verdict.state.held[0].alert.shelved_until == state.now + 5400 * SECOND


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (["shelve", "ID", "--for", "soon", "--reason", "x"], "--for 'soon'"),
        (["shelve", "ID", "--for", "0m", "--reason", "x"], "--for '0m'"),
        (["shelve", "ID", "--for", "2h", "--reason", " "], "--reason is empty"),
        (["ack", "ID", "--actor", " "], "--actor is empty"),
        (["close", "ID", "--code", "whatever"], "--code 'whatever'"),
        (["comment", "ID", "--note", " "], "--note is empty"),
    ],
)
def test_acts_that_make_no_sense_are_refused_and_nothing_is_sent(folder: Path, words: list[str], why: str) -> None:
    name = open_ids(folder)[PUMP]
    error = refused(folder, *[name if word == "ID" else word for word in words])
    assert isinstance(error, ConfigurationError)
    assert why in str(error)
    assert commands(folder) == []


@pytest.mark.parametrize(("which", "why"), [("nosuch", "no open alert 'nosuch'"), ("", "no open alert ''")])
def test_an_alert_that_is_not_there_is_told_with_what_is(folder: Path, which: str, why: str) -> None:
    error = refused(folder, "ack", which)
    assert isinstance(error, DataError)
    assert why in str(error)
    assert open_ids(folder)[PUMP] in str(error)


def test_a_closed_alert_is_said_to_be_closed(folder: Path) -> None:
    every = json.loads(output(folder, "list", "--json", "--all"))["alerts"]
    closed = next(a["id"] for a in every if a["state"] == "closed")
    assert "closed already" in str(refused(folder, "ack", closed))


@pytest.mark.parametrize("words", [["unshelve"], ["close", "--code", "true"], ["comment", "--note", "hm"]])
def test_the_other_acts_are_sent_too(folder: Path, words: list[str]) -> None:
    output(folder, words[0], open_ids(folder)[PUMP], *words[1:])
    assert commands(folder)[0].kind == words[0]


# ---------------------------------------------------------------- preview


def test_the_rule_in_force_raises_in_the_preview_what_it_raised_live(folder: Path) -> None:
    found = json.loads(output(folder, "preview", "--json"))
    live = {e.alert.id for asset, life in LIFE.items() for e in events(asset, life)}
    assert {a["id"] for a in found["alerts"]} == live
    assert (found["count"], found["in_force"], found["rows"]) == (3, 3, sum(map(len, LIFE.values())))
    assert found["rule"] == {
        "rows": 6,
        "of": 10,
        "line": 1.0,
        "clear_rows": 12,
        "clear_line": 0.8,
        "min_duration_s": 0.0,
    }
    assert found["per_asset_week"] == pytest.approx(3 * 604_800 / (10 * found["rows"]))


@pytest.mark.parametrize(
    ("words", "count"),
    [
        (["--line", "2"], 2),
        (["--line", "10"], 0),
        (["--rows", "5"], 4),
        (["--rows", "3", "--of", "3"], 3),
        (["--min-duration", "3m"], 0),
        (["--asset", FAN], 1),
        (["--until", "2023-11-14T23:00:00Z"], 1),
        (["--since", "1h"], 1),
    ],
)
def test_another_rule_or_span_raises_other_alerts(folder: Path, words: list[str], count: int) -> None:
    assert json.loads(output(folder, "preview", "--json", *words))["count"] == count


def test_the_preview_tells_alerts_of_all_machines_in_order_of_time(folder: Path) -> None:
    found = json.loads(output(folder, "preview", "--json", "--rows", "5"))["alerts"]
    raised = [alert["raised_at"] for alert in found]
    assert raised == sorted(raised)
    by_machine = sorted(found, key=lambda alert: (alert["asset"], alert["raised_at"]))
    assert [alert["raised_at"] for alert in by_machine] != raised


def test_the_preview_for_people_says_how_many_and_which(folder: Path) -> None:
    lines = output(folder, "preview", "--line", "2").splitlines()
    assert lines[0] == "Rule: 6 of 10 rows over 2; clears at 0.8."
    assert lines[1].startswith("2 alerts over 1139 rows of 2 machines")
    assert lines[1].endswith("the rule in force would have raised 3.")
    assert len(lines) == 4


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (["--rows", "11"], "11 of 10 rows"),
        (["--clear-line", "1.5"], "clear line"),
        (["--line", "-1"], "line"),
        (["--asset", "s9"], "no scores are stored for s9"),
    ],
)
def test_a_rule_that_does_not_hold_together_is_refused(folder: Path, words: list[str], why: str) -> None:
    assert why in str(refused(folder, "preview", *words))


def test_a_preview_of_nothing_says_so(tmp_path: Path) -> None:
    assert "no scores are stored" in str(refused(tmp_path, "preview"))


def test_the_preview_reads_day_by_day_and_finds_alerts_across_midnight(folder: Path) -> None:
    long = [0.4] * 8600 + [1.5] * 100 + [0.3] * 60
    historian = wiring.open_historian(settings(folder))
    asset = "s1/l3/mill-1"
    historian.write(readings=[readings(asset, len(long))], scores=[scores(asset, long)])
    historian.close()
    found = json.loads(output(folder, "preview", "--json", "--asset", asset))["alerts"]
    assert [a["id"] for a in found] == [event.alert.id for event in events(asset, long)[:1]]
    assert replace(events(asset, long)[0].alert).anomaly.onset == START + 8600 * TICK
