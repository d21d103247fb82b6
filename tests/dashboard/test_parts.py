"""What a part says of itself, as a card."""

from __future__ import annotations

from collections.abc import Mapping
from zoneinfo import ZoneInfo

from anomaly.domain import SECOND
from dashboard import parts
from dashboard.parts import Part
from pipelines.condition import Condition
from pipelines.ports import Heartbeat

UTC = ZoneInfo("UTC")
WALL = 1_760_000_400 * SECOND


Status = Mapping[str, str | int | float]


def card(status: Status, name: str = "score", age_s: int = 1) -> Part:
    (found,) = parts.present({name: beat(name, age_s, status)}, WALL, UTC)
    return found


def beat(name: str, age_s: int = 1, status: Status | None = None) -> Heartbeat:
    return Heartbeat(name, 0, {"wall": WALL - age_s * SECOND, **(status or {})})


def test_figures_have_units_and_the_urgent_ones_come_first() -> None:
    told: Status = {"acknowledged": 12_345, "computed on": "CPU", "delay s": 23.456, "per second": 812.04, "lag": 1}
    assert card(told).figures == (
        ("lag", "1 message"),
        ("taken", "812.0 messages/s"),
        ("newest score stored", "23.46 s after its time"),
        ("computed on", "CPU"),
        ("acknowledged", "12,345"),
    )


def test_a_degraded_sink_is_trouble_though_the_part_reports() -> None:
    condition = Condition(degraded="InfluxDB at influxdb does not answer", waiting="")
    found = card(condition.figures(), "record")
    assert found.trouble == found.status == "degraded: InfluxDB at influxdb does not answer"
    assert not found.silent


def test_a_log_in_trouble_and_receivers_that_fail_are_trouble_and_a_start_is_not() -> None:
    assert card({"state": "waiting: Kafka does not answer"}).trouble == "waiting: Kafka does not answer"
    assert card({"state": "ok", "failing": "webhook"}, "alert").trouble == "receivers do not answer: webhook"
    assert card(Condition().figures()).trouble == ""
    assert card(Condition().figures()).status == "starting"
    assert (card({"state": "ok"}).trouble, card({"state": "ok"}).status) == ("", "reporting")


def test_silence_is_told_and_having_stopped_in_order_is_none() -> None:
    assert (card({}, age_s=60).silent, card({}, age_s=60).status) == (True, "silent for 1 min")
    stopped = card({"stopped": "in order", "state": "degraded: x"}, age_s=3600)
    assert (stopped.silent, stopped.trouble, stopped.status) == (False, "", "stopped in order 1 h ago")


def test_a_member_that_left_long_ago_is_not_missed_while_its_service_reports() -> None:
    score, lost, left = beat("score"), beat("score@w2", 60), beat("score@w3", 600)
    shown = parts.present({"score@w3": left, "score@w2": lost, "score": score}, WALL, UTC)
    assert [(part.title, part.silent) for part in shown] == [("Scoring", False), ("Scoring · w2", True)]
    alone = parts.present({"score@w3": left, "score": beat("score", 600)}, WALL, UTC)
    assert [part.silent for part in alone] == [True, True], "nobody scores: every member is missed"


def test_parts_stand_in_the_order_that_a_reading_goes() -> None:
    beats = {name: beat(name) for name in ("train", "alert", "extra", "record", "score@b", "score", "plant")}
    assert [part.title for part in parts.present(beats, WALL, UTC)] == [
        "Data source", "Scoring", "Scoring · b", "Recording", "Alerts", "Training", "extra",
    ]  # fmt: skip
