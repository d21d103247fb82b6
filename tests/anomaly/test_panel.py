"""The default detector's views: what each expects, who has a say, and that the hour of day is known."""

from __future__ import annotations

import numpy as np
import pytest

from anomaly import panel_fit
from anomaly.domain import SECOND, Samples, Tag
from anomaly.panel_fit import FEWEST_UNSEEN, FittedPanel, Net, fit_panel
from anomaly.scaling import fit_scaler
from anomaly.scorers import score_in_batches
from anomaly.scorers.daily import DAY, fit_daily
from anomaly.scorers.forecast import fit_forecast
from anomaly.scorers.panel import DAILY, LENGTH, NET
from anomaly.scorers.reconstruction import Predict
from anomaly.sensors import default_limits
from anomaly.training_set import TrainingSet

TAGS = ("load", "temp")
NET_ROWS = 16


def samples(rows: int, tick: int, seed: int = 0) -> Samples:
    """A load that wanders over the day, and a temperature that follows it."""
    chance = np.random.default_rng(seed)
    times = np.arange(rows, dtype=np.int64) * tick + DAY
    load = np.sin(2 * np.pi * times / DAY) + 0.2 * chance.normal(size=rows)
    temp = 2.0 * load + 0.1 * chance.normal(size=rows)
    values = np.column_stack([load, temp])
    seen = np.ones(values.shape, bool)
    return Samples(
        "a", TAGS, times, values, seen, np.zeros(values.shape, np.uint8), times == times[0], np.ones(rows, int)
    )


def fitted(rows: int, tick: int = 600 * SECOND, predict: Predict | None = None) -> FittedPanel:
    training = TrainingSet("g", TAGS, (samples(rows, tick),), (np.ones(rows, bool),))
    scaler = fit_scaler(training.samples, TAGS, training.keep)
    net = None if predict is None else Net(predict, NET_ROWS, training.split().held_back)
    return fit_panel(training, scaler, default_limits([Tag(name) for name in TAGS]), net)


def faithful(values: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """A net that draws nearly what it sees."""
    return np.asarray(values * 0.9)


def blind(values: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """A net that learned nothing."""
    return np.asarray(values * -1.0)


def test_a_net_that_beats_the_forecast_on_unseen_rows_has_a_say_and_one_that_does_not_has_none() -> None:
    good, bad = fitted(2_400, predict=faithful), fitted(2_400, predict=blind)
    assert NET in good.panel.scales
    assert NET not in bad.panel.scales
    assert good.net_error is not None
    assert bad.net_error is not None
    assert good.net_error < 1.0 < bad.net_error
    assert fitted(2_400).net_error is None


def test_the_net_is_believed_less_than_its_few_unseen_stretches_say(monkeypatch: pytest.MonkeyPatch) -> None:
    doubted = fitted(2_400, predict=faithful)
    monkeypatch.setattr(panel_fit, "DOUBT", 1.0)
    believed = fitted(2_400, predict=faithful)
    for one, other in zip(doubted.panel.scales[NET], believed.panel.scales[NET], strict=True):
        assert one.spread == pytest.approx(1.5 * other.spread)
    loud = [np.quantile(np.concatenate(list(found.raws.values())), 0.99) for found in (doubted, believed)]
    assert loud[0] != loud[1]  # and the line knows


def test_a_net_has_no_say_while_few_rows_were_held_back_from_it() -> None:
    few = fitted(FEWEST_UNSEEN, predict=faithful)
    assert NET not in few.panel.scales


def test_the_time_of_day_is_a_view_only_where_days_were_seen() -> None:
    assert DAILY in fitted(600).panel.scales  # four days
    assert DAILY not in fitted(300).panel.scales  # two


def test_a_usual_value_at_an_unusual_hour_is_strange_to_who_knows_the_time() -> None:
    panel = fitted(1_440).panel
    rows = samples(1_440, 600 * SECOND, seed=1)
    center, scale = np.median(rows.values, axis=0), rows.values.std(axis=0)
    window = ((rows.values[:LENGTH] - center) / scale)[None].astype(np.float32)
    seen = np.ones(window.shape, bool)
    now = rows.times[[LENGTH - 1]]
    right, wrong = (score_in_batches(panel, window, seen, when).raw[0] for when in (now, now + DAY // 2))
    assert wrong > 1.5 * right


def test_the_daily_profile_finds_the_wave_again() -> None:
    times = np.arange(1_000, dtype=np.int64) * 600 * SECOND
    wave = np.cos(2 * np.pi * times / DAY)[:, None].astype(np.float32)
    profile = fit_daily(wave, np.ones(wave.shape, bool), times, 600 * SECOND)
    residual, seen = profile.residual(wave[None, :50], np.ones((1, 50, 1), bool), times[[49]])
    assert np.abs(residual).max() < 0.01
    assert seen.all()


@pytest.mark.parametrize("horizon", [1, 10])
def test_a_forecast_finds_an_autoregression_again(horizon: int) -> None:
    chance = np.random.default_rng(3)
    rows = np.zeros((6_000, 2))
    for i in range(1, len(rows)):
        rows[i] = rows[i - 1] @ [[0.9, 0.4], [0.0, 0.5]] + chance.normal(0, 0.1, 2)
    span = horizon + 3
    windows = np.lib.stride_tricks.sliding_window_view(rows, span, axis=0).transpose(0, 2, 1).astype(np.float32)
    model = fit_forecast(windows, np.ones(windows.shape, bool), horizon, 3)
    assert model.weights[0, 0] == pytest.approx(0.9**horizon, abs=0.08)
    errors, known = model.residual(windows, np.ones(windows.shape, bool))
    assert known.all()
    assert errors[:, -1, 0].std() < 1.05 * 0.1 * np.sqrt(sum(0.81**k for k in range(horizon)))
