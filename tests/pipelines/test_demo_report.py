"""The demo's closing report: what counts as caught, as false, as told in the wrong words."""

from __future__ import annotations

import json
from collections import Counter

from anomaly.domain import SECOND, Alert, AlertState, Anomaly, Kind, Priority
from anomaly.episode_policy import instrument
from pipelines.demo_report import BLIND, GRACE, conservation, report, summary
from pipelines.sources.simulator import Fault, FaultKind

MINUTE = 60 * SECOND
START = 1_767_571_200 * SECOND
PUMP, FAN = "s/pump", "s/fan"
KEYS = {
    "readings", "samples", "windows", "alerts", "faults", "false_alerts", "wrong_kind", "dead_letters", "conservation",
    "stages",
}  # fmt: skip


def at(minute: float) -> int:
    return START + round(minute * MINUTE)


def fault(name: str = "bearing_wear", asset: str = PUMP, tag: str | None = None, onset: float = 10) -> Fault:
    kind = FaultKind.MACHINE if tag is None and name != "clock_wrong" else FaultKind.INSTRUMENT
    return Fault(asset, name, kind, tag, at(onset), at(onset + 5), at(onset + 20), 1.0)


def alert(minute: float, kind: Kind = Kind.PROCESS, asset: str = PUMP, cause: str = "process") -> Alert:
    anomaly = Anomaly(asset, kind, cause, at(minute - 1), None, 2.0, ("vib",), "v1", "")
    return Alert(f"{asset}{minute}{cause}", anomaly, AlertState.UNACKNOWLEDGED_ACTIVE, Priority.LOW, at(minute))


def told(alerts: list[Alert], faults: list[Fault]) -> tuple[list[bool], int, int]:
    """Which faults were caught; alerts without cause; alerts of the wrong kind."""
    found = report({}, alerts, faults, {})
    return [f["caught"] for f in found["faults"]], found["false_alerts"], found["wrong_kind"]


def test_a_fault_is_caught_by_the_first_alert_of_its_kind_on_its_machine_while_it_lasts() -> None:
    found = report({}, [alert(16), alert(12)], [fault()], {})
    [caught] = found["faults"]
    assert (caught["caught"], caught["delay_s"]) == (True, 120)
    assert (found["false_alerts"], found["wrong_kind"]) == (0, 0)


def test_an_alert_before_the_onset_long_after_the_repair_or_on_another_machine_is_without_cause() -> None:
    grace = GRACE / MINUTE
    assert told([alert(9)], [fault()]) == ([False], 1, 0)
    assert told([alert(30 + grace)], [fault()]) == ([True], 0, 0)
    assert told([alert(30.1 + grace)], [fault()]) == ([False], 1, 0)
    assert told([alert(12, asset=FAN)], [fault()]) == ([False], 1, 0)


def test_a_machine_fault_told_as_an_instrument_is_not_caught_and_is_of_the_wrong_kind() -> None:
    wrong = alert(12, Kind.INSTRUMENT, cause=instrument("vib"))
    assert told([wrong], [fault()]) == ([False], 0, 1)
    assert told([wrong, alert(14)], [fault()]) == ([True], 0, 1)


def test_an_instrument_fault_is_caught_only_by_an_alert_that_names_the_very_sensor() -> None:
    stuck = fault("sensor_stuck", tag="flow")
    right = alert(12, Kind.INSTRUMENT, cause=instrument("flow"))
    assert told([right], [stuck]) == ([True], 0, 0)
    assert told([alert(12, Kind.INSTRUMENT, cause=instrument("temp"))], [stuck]) == ([False], 0, 1)
    assert told([alert(12)], [stuck]) == ([False], 0, 1)


def test_a_wrong_clock_is_caught_as_such_and_explains_what_follows_for_longer() -> None:
    wrong = fault("clock_wrong")
    right = alert(12, Kind.INSTRUMENT, cause=instrument("clock"))
    late = alert(30 + BLIND / MINUTE, Kind.INSTRUMENT, cause=instrument("clock"))
    assert told([right], [wrong]) == ([True], 0, 0)
    assert told([late], [wrong]) == ([True], 0, 0)
    assert told([alert(31 + BLIND / MINUTE)], [wrong]) == ([False], 1, 0)


def test_an_alert_that_two_faults_explain_counts_for_the_one_whose_kind_it_is() -> None:
    both = [fault(), fault("sensor_stuck", tag="flow", onset=11)]
    assert told([alert(14)], both) == ([True, False], 0, 0)


def test_two_faults_of_one_machine_after_another_are_each_caught_by_their_own_alert() -> None:
    found = report({}, [alert(12), alert(52)], [fault(), fault("leak", onset=50)], {})
    assert [f["delay_s"] for f in found["faults"]] == [120, 120]


def test_without_faults_every_alert_is_without_cause_and_without_alerts_nothing_is_caught() -> None:
    assert told([alert(12), alert(14, Kind.INSTRUMENT)], []) == ([], 2, 0)
    assert told([], [fault()]) == ([False], 0, 0)


def test_the_report_holds_what_was_promised_in_plain_json() -> None:
    counts = Counter(
        {"acknowledged": 10, "scored": 6, "late": 1, "pending": 3, "samples": 4, "w:rules": 2, "w:window_pca": 1}
    )
    found = json.loads(json.dumps(report(counts, [alert(12)], [fault()], {"total": 12.345})))
    assert set(found) == KEYS
    assert (found["readings"], found["samples"], found["dead_letters"]) == (10, 4, 0)
    assert found["windows"] == {"rules": 2, "window_pca": 1, "lstm_autoencoder": 0}
    assert found["stages"] == {"total": 12.3}
    assert found["alerts"] == [
        {
            "asset": PUMP,
            "kind": "process",
            "onset": "2026-01-05T00:11:00Z",
            "raised_at": "2026-01-05T00:12:00Z",
            "cleared_at": None,
            "priority": "low",
            "tags": ["vib"],
            "fault": "",
        }
    ]
    assert found["faults"] == [
        {
            "asset": PUMP,
            "name": "bearing_wear",
            "kind": "machine",
            "tag": None,
            "onset": "2026-01-05T00:10:00Z",
            "caught": True,
            "delay_s": 120,
        }
    ]


def test_alerts_are_listed_in_the_order_they_were_raised() -> None:
    found = report({}, [alert(20), alert(12), alert(15)], [], {})
    raised = [one["raised_at"] for one in found["alerts"]]
    assert raised == sorted(raised)


def test_the_buckets_add_up_to_what_was_acknowledged() -> None:
    counts = {"acknowledged": 21, "scored": 1, "warming_up": 2, "dead_lettered": 3, "late": 4, "duplicate": 5} | {
        "gap_discarded": 3,
        "unknown_tag": 2,
        "pending": 1,
        "w:rules": 99,
        "samples": 99,
    }
    found = conservation(counts)
    assert found.pop("acknowledged") == sum(found.values()) == 21


def test_the_summary_counts_by_kind_for_people() -> None:
    faults = [fault(), fault("leak", FAN), fault("sensor_stuck", FAN, "flow")]
    text = summary(report({"acknowledged": 1_234_567}, [alert(12)], faults, {}))
    assert "1 of 2 machine faults, 0 of 1 instrument faults" in text
    assert "0 alerts without cause, 0 of the wrong kind" in text
    assert "1,234,567 readings" in text
