"""What people are told: which sensor, how far off, in its unit, since when; never a number that is none."""

from __future__ import annotations

import math
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from anomaly.domain import SECOND, Anomaly, Asset, Kind, Role, Rung, SensorFault, Tag
from pipelines.wording import brief, explanation, message, trouble

PUMP = Asset("s1/pump-1", "pumps", (Tag("vib_de", "mm/s"), Tag("temp", "°C"), Tag("level")), name="Feed pump")
ONSET = 1_767_260_520 * SECOND
ZONE = "Europe/Berlin"


def of(kind: Kind = Kind.PROCESS, *tags: str, cause: str = "process", fault: str = "", peak: float = 2.41) -> Anomaly:
    return Anomaly("s1/pump-1", kind, cause, ONSET, None, peak, tags or ("vib_de", "temp"), "v7", fault)


def test_the_strongest_tag_is_told_with_difference_unit_direction_and_since_when_in_the_plant_s_zone() -> None:
    told = message(of(), {"vib_de": (7.1, 3.9)}, 0.92, PUMP, ZONE, Rung.LSTM_AUTOENCODER)
    assert told == (
        "Feed pump (s1/pump-1): vib_de is 3.2 mm/s above what the others explain, since 2026-01-01 10:42:00 CET, "
        "2.41 times its alert line. Most unusual: vib_de 7.1 mm/s (expected 3.9 mm/s), temp. Coverage 92%, model v7."
    )


@pytest.mark.parametrize(
    ("temp", "words"),
    [
        ((81.0, 80.0), "vib_de is 3.2 mm/s and temp 1 °C above what the others explain"),
        ((80.0, 82.5), "vib_de is 3.2 mm/s above and temp 2.5 °C below what the others explain"),
        ((80.0, 80.0), "vib_de is 3.2 mm/s above what the others explain"),
        ((80.0, math.nan), "vib_de is 3.2 mm/s above what the others explain"),
        ((math.inf, 80.0), "vib_de is 3.2 mm/s above what the others explain"),
    ],
)
def test_two_tags_share_a_sentence(temp: tuple[float, float], words: str) -> None:
    assert explanation(of(), {"vib_de": (7.1, 3.9), "temp": temp}, PUMP, Rung.WINDOW_PCA) == words


def test_no_more_than_two_tags_are_explained_and_the_strongest_comes_first() -> None:
    values = {"level": (3.0, 1.0), "temp": (81.0, 80.0), "vib_de": (7.1, 3.9)}
    told = explanation(of(Kind.PROCESS, "temp", "level", "vib_de"), values, PUMP)
    assert told == "temp is 1 °C and level 2 above what the others explain"


def test_each_rung_says_what_it_holds_a_tag_against() -> None:
    one, two = {"vib_de": (7.1, 6.5)}, {"vib_de": (7.1, 6.5), "temp": (81.0, 80.0)}
    assert explanation(of(), one, PUMP, Rung.RULES) == "vib_de is 0.6 mm/s above its limit"
    assert explanation(of(), two, PUMP, Rung.RULES) == "vib_de is 0.6 mm/s and temp 1 °C above their limits"
    assert explanation(of(), one, PUMP, Rung.ROLLING_Z) == "vib_de is 0.6 mm/s above its usual level"
    lonely = Asset("s1/pump-1", "pumps", (Tag("vib_de", "mm/s"), Tag("state", role=Role.MODE)))
    assert explanation(of(), one, lonely, Rung.WINDOW_PCA) == "vib_de is 0.6 mm/s above what is normal for it"


def test_a_sensor_that_disagrees_says_by_how_much() -> None:
    sensor = of(Kind.INSTRUMENT, "temp", cause="instrument:temp", fault=SensorFault.DISAGREES.name)
    assert message(sensor, {"temp": (75.5, 81.0)}, math.nan, PUMP, ZONE, Rung.WINDOW_PCA) == (
        "Feed pump (s1/pump-1): sensor temp disagrees with all other sensors, which are normal, "
        "since 2026-01-01 10:42:00 CET. It reads 75.5 °C: 5.5 °C below what the others explain. Model v7."
    )


def test_a_sensor_that_is_not_believed_and_lost_data_say_since_when_and_no_number() -> None:
    sensor = of(Kind.INSTRUMENT, "temp", cause="instrument:temp", fault=SensorFault.STUCK.name)
    assert message(sensor, {}, 0.67, PUMP, ZONE) == (
        "Feed pump (s1/pump-1): sensor temp keeps repeating one value, since 2026-01-01 10:42:00 CET. "
        "Coverage 67%, model v7."
    )
    lost = Anomaly("s1/pump-1", Kind.DATA_LOSS, "data_loss", ONSET, None, 0.0, (), "v7", "MISSING")
    assert message(lost, {}, 0.0, PUMP, ZONE) == (
        "Feed pump (s1/pump-1): no data come from any of its sensors, since 2026-01-01 10:42:00 CET."
    )


def test_one_sensor_and_several_both_make_a_sentence() -> None:
    fault = SensorFault.STUCK.name
    assert trouble(of(Kind.INSTRUMENT, "temp", fault=fault)) == "sensor temp keeps repeating one value"
    both = trouble(of(Kind.INSTRUMENT, "temp", "level", fault=fault))
    assert both == "each of the sensors temp, level keeps repeating one value"


def test_what_nobody_can_explain_is_still_told() -> None:
    assert message(of(), {}, 1.0, None, "UTC") == (
        "s1/pump-1: unlike normal, 2.41 times its alert line, since 2026-01-01 09:42:00 UTC. "
        "Most unusual: vib_de, temp. Coverage 100%, model v7."
    )


NUMBERS = st.floats(allow_nan=True, allow_infinity=True)
TAGS = st.lists(st.sampled_from(["vib_de", "temp", "level", "no\x1b[2Jbody"]), unique=True, max_size=4)


@given(
    kind=st.sampled_from(list(Kind)),
    tags=TAGS,
    values=st.dictionaries(st.sampled_from(["vib_de", "temp", "level", "other"]), st.tuples(NUMBERS, NUMBERS)),
    peak=NUMBERS,
    coverage=st.one_of(st.floats(0, 1), st.just(math.nan)),
    fault=st.sampled_from(["", *SensorFault.__members__, "NEW"]),
    asset=st.sampled_from([PUMP, None]),
    rung=st.sampled_from([*Rung, None]),
)
def test_no_message_holds_a_number_that_is_none_nor_one_without_its_unit(
    kind: Kind,
    tags: list[str],
    values: dict[str, tuple[float, float]],
    peak: float,
    coverage: float,
    fault: str,
    asset: Asset | None,
    rung: Rung | None,
) -> None:
    cause = "process" if kind is Kind.PROCESS else "data_loss" if kind is Kind.DATA_LOSS else f"instrument:{tags[:1]}"
    anomaly = Anomaly("s1/pump-1", kind, cause, ONSET, None, peak, tuple(tags), "v7", fault)
    told = message(anomaly, values, coverage, asset, ZONE, rung)
    for text in (told, trouble(anomaly), brief(anomaly)):
        assert not re.search(r"\b(nan|inf|None)\b", text)
        assert "\x1b" not in text
        assert "  " not in text
    assert "since 2026-01-01 10:42:00 CET" in told
    assert told.endswith(".")
    if asset is PUMP:
        for tag, unit in (("vib_de", "mm/s"), ("temp", "°C")):
            numbers = re.findall(rf"\b{tag} (?:is )?-?\d[\d.e+-]*(.{{0,{len(unit) + 1}}})", told)
            assert all(after.startswith(f" {unit}") for after in numbers)
