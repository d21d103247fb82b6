"""Values as words: nothing of the data may become markup, and every number carries its unit."""

from __future__ import annotations

import doctest
import math
from types import ModuleType

import pytest
from hypothesis import given
from hypothesis import strategies as st

from anomaly.domain import SECOND, Alert, AlertState, Anomaly, Kind, Priority, Rung, State
from dashboard import charts, signals, wording

STRANGE = (
    "`a`* _b_ [x](http://evil.example/p) ![i](http://evil.example/i.png) :red[r] :material/home: $x$ <img src=x> #h | ~"
)


def test_text_of_others_loses_every_way_to_be_markup() -> None:
    plain = wording.escape(STRANGE + "\n# heading\n- item")
    for token in ("`", "*", "[", "]", "$", "<", ">", "#", "|", "~", "!", ":", "(", ")"):
        assert all(plain[i - 1] == "\\" for i in range(len(plain)) if plain[i] == token), token
    assert "\n" not in plain


@given(st.text())
def test_escaping_loses_no_character_but_white_space(text: str) -> None:
    assert wording.escape(text).replace("\\", "") == " ".join(text.split()).replace("\\", "")


@given(st.integers(0, 10**9))
def test_a_duration_always_has_a_unit_and_no_negative_sign(seconds: int) -> None:
    words = wording.duration(seconds * SECOND)
    assert words[0].isdigit()
    assert any(unit in words for unit in ("s", "min", "h", "d"))


def test_time_is_the_plants_with_the_date_only_when_it_is_another_day() -> None:
    tz = wording.zone("America/New_York")
    summer = 1_751_373_296 * SECOND
    assert wording.clock(summer, tz) == "08:34:56"
    assert wording.clock(summer, tz, summer + 60 * SECOND) == "08:34:56"
    assert wording.clock(summer, tz, summer + 86_400 * SECOND) == "1 Jul 08:34"


def test_an_unknown_zone_is_shown_as_utc_and_ends_nothing() -> None:
    assert str(wording.zone("Middle/Earth")) == "UTC"
    assert str(wording.zone("../../etc/passwd")) == "UTC"


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_what_is_not_known_is_a_dash_and_never_a_zero(value: float) -> None:
    assert wording.number(value, "°C") == "– °C"
    assert wording.score(value) == "–"


def test_every_rung_and_state_has_words_and_strangers_are_shown_as_they_are() -> None:
    assert {wording.rung(rung) for rung in Rung} == {"rules", "rolling z-score", "window-PCA", "LSTM autoencoder"}
    assert "off" in {wording.state(state) for state in State}
    assert wording.rung("random_forest") == "random forest"


def test_an_alert_names_its_strongest_tags_and_how_many_more() -> None:
    anomaly = Anomaly("p", Kind.PROCESS, "process", 0, None, 2.0, ("a", "b", "c", "d", "e"), "v")
    alert = Alert("id", anomaly, AlertState.UNACKNOWLEDGED_ACTIVE, Priority.LOW, 0)
    assert wording.blame(alert) == "a, b, c and 2 more"


def test_an_alert_about_a_clock_or_about_all_data_names_no_sensor() -> None:
    def subject(kind: Kind, cause: str, tags: tuple[str, ...], fault: str) -> str:
        anomaly = Anomaly("p", kind, cause, 0, None, 0.0, tags, "v", fault)
        return wording.subject(Alert("id", anomaly, AlertState.UNACKNOWLEDGED_ACTIVE, Priority.LOW, 0))

    assert subject(Kind.INSTRUMENT, "instrument:clock", ("clock",), "CLOCK") == "device clock is wrong"
    assert subject(Kind.DATA_LOSS, "data_loss", (), "MISSING") == "data lost: nothing comes from any sensor"
    assert subject(Kind.INSTRUMENT, "instrument:vib", ("vib",), "STUCK") == "sensor: vib stuck"


@pytest.mark.parametrize("module", [wording, charts, signals])
def test_the_examples_in_the_docstrings_are_true(module: ModuleType) -> None:
    result = doctest.testmod(module)
    assert result.attempted > 0
    assert result.failed == 0
