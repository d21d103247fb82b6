from __future__ import annotations

import subprocess
import sys
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from anomaly.errors import ConfigurationError
from anomaly.models import ARCHITECTURES, builder
from anomaly.models.batches import Rows, drop_channels, epoch_batches, join_rows, window_ends
from anomaly.models.fitting import FitPolicy, FitState, fit, held_out_loss
from anomaly.models.lstm_autoencoder import build_lstm_autoencoder

POLICY = FitPolicy(
    epochs=4,
    patience=2,
    batch=16,
    limit=64,
    held_limit=20,
    learning_rate=1e-2,
    channel_dropout=0.2,
    focus=0.3,
    seed=3,
)


def rows(count: int = 120, seed: int = 0, length: int = 6) -> Rows:
    """A wave in three tags, one of them often missing."""
    chance = np.random.default_rng(seed)
    phase = np.arange(count)[:, None] / 5.0 + np.array([0.0, 1.0, 2.0])
    values = (np.sin(phase) + chance.normal(0, 0.05, (count, 3))).astype(np.float32)
    mask = np.ones(values.shape, dtype=bool)
    mask[:, 2] = chance.random(count) < 0.7
    values[~mask] = 0.0
    ends = np.arange(length - 1, count, dtype=np.int64)
    return Rows(values, mask, ends, length)


# ------------------------------------------------------------------------------------------------- windows, no Keras


def slow_ends(normal: np.ndarray, restart: np.ndarray, length: int) -> list[int]:
    """The obvious twin: look at every window."""
    found = []
    for end in range(length - 1, len(normal)):
        inside = slice(end - length + 1, end + 1)
        if normal[inside].all() and not restart[end - length + 2 : end + 1].any():
            found.append(end)
    return found


@given(arrays.arrays(bool, st.integers(0, 40)), st.data(), st.integers(1, 8))
def test_window_ends_are_those_of_the_obvious_way(normal: np.ndarray, data: st.DataObject, length: int) -> None:
    restart = data.draw(arrays.arrays(bool, len(normal), elements=st.sampled_from([False, False, False, True])))
    assert window_ends(normal, restart, length).tolist() == slow_ends(normal, restart, length)


def test_windows_never_cross_from_one_segment_to_the_next() -> None:
    one, other = rows(20), rows(30, 1)
    joined = join_rows([(part.values, part.mask, part.ends) for part in (one, other)], 6)
    values, mask = joined.gather(joined.ends)
    assert len(values) == 15 + 25
    np.testing.assert_array_equal(values[15], other.values[:6])
    np.testing.assert_array_equal(values[14], one.values[14:20])
    np.testing.assert_array_equal(mask[-1], other.mask[24:])


def test_thinned_ends_are_few_and_spread() -> None:
    assert len(rows().thinned(10)) == 10
    assert rows().thinned(10)[[0, -1]].tolist() == [5, 119]
    assert len(rows().thinned(1000)) == 115


def test_batches_are_whole_and_equal_for_an_equal_seed_and_epoch() -> None:
    def drawn(epoch: int, seed: int = 1) -> list[Any]:
        return list(epoch_batches(rows(), batch=16, limit=64, dropout=0.3, seed=seed, epoch=epoch))

    assert [batch.values.shape for batch in drawn(0)] == [(16, 6, 3)] * 4
    for one, again in zip(drawn(0), drawn(0), strict=True):
        for a, b in zip(one, again, strict=True):
            np.testing.assert_array_equal(a, b)
    assert not np.array_equal(drawn(0)[0].target, drawn(1)[0].target)
    assert not np.array_equal(drawn(0)[0].target, drawn(0, seed=2)[0].target)
    few = list(epoch_batches(rows(8), batch=16, limit=64, dropout=0.0, seed=0, epoch=0))
    assert [len(batch.values) for batch in few] == [16]


def test_the_net_sees_less_than_it_must_tell() -> None:
    batch = next(iter(epoch_batches(rows(), batch=16, limit=64, dropout=0.4, seed=1, epoch=0)))
    assert (batch.mask <= batch.known).all()
    assert batch.mask.sum() < batch.known.sum()
    assert (batch.values[~batch.mask] == 0.0).all()
    np.testing.assert_array_equal(batch.values[batch.mask], batch.target[batch.mask])


def test_dropped_channels_are_of_the_share_asked_and_never_all() -> None:
    kept = drop_channels(np.random.default_rng(0), (20_000, 10, 4), 0.2)
    gone = ~kept
    assert gone.any(axis=1).mean() == pytest.approx(0.2, abs=0.01)
    assert not gone.all(axis=(1, 2)).any()
    whole, partly = gone.all(axis=1).sum(), (gone.any(axis=1) & ~gone.all(axis=1)).sum()
    assert 0.7 < whole / partly < 1.6
    assert (np.diff(gone.astype(int), axis=1) >= 0).all(), "once lost, lost to the window's end"
    assert drop_channels(np.random.default_rng(0), (5, 3, 1), 0.9).all(), "the only tag stays"


def test_architectures_have_names_and_unknown_ones_are_told() -> None:
    assert all(builder(name) for name in ARCHITECTURES)
    with pytest.raises(ConfigurationError, match="lstm_autoencoder"):
        builder("transformer")
    with pytest.raises(ValueError, match="expected length"):
        build_lstm_autoencoder(1, 3)
    with pytest.raises(ValueError, match="linear"):
        build_lstm_autoencoder(8, 3, linear=-1)
    with pytest.raises(ValueError, match="dropout"):
        build_lstm_autoencoder(8, 3, dropout=1.0)


@pytest.mark.slow
def test_importing_the_rooms_of_training_loads_no_keras() -> None:
    code = (
        "import sys, anomaly.models, anomaly.models.lstm_autoencoder, anomaly.models.fitting, anomaly.training,"
        "anomaly.compiled, anomaly.registry, pipelines.fitting, pipelines.commands.train;"
        "print(sorted({'keras', 'tensorflow', 'onnxruntime', 'onnx', 'tf2onnx'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


# ------------------------------------------------------------------------------------------------------------ Keras


@pytest.fixture(scope="module")
def keras() -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what TensorFlow's own import says is not ours to mend
        import keras
    return keras


@pytest.mark.slow
def test_equal_seeds_give_equal_first_weights_and_others_do_not(keras: Any) -> None:
    one, again, other = (build_lstm_autoencoder(6, 3, units=5, depth=2, latent=4, seed=seed) for seed in (1, 1, 2))
    for a, b in zip(one.get_weights(), again.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
    assert any(not np.array_equal(a, b) for a, b in zip(one.get_weights(), other.get_weights(), strict=True))
    assert (one.count_params(), other.output_shape) == (again.count_params(), (None, 6, 3))


@pytest.mark.slow
def test_a_masked_cell_cannot_be_seen_by_the_net(keras: Any) -> None:
    net = build_lstm_autoencoder(6, 3, units=5, latent=4, dropout=0.3, seed=1)
    values, mask = rows().gather(rows().ends[:4])
    mask[:, 2:, 1] = False
    seen = np.asarray(net.predict_on_batch([values, mask.astype(np.float32)]))
    wild = np.where(mask, values, 99.0).astype(np.float32)
    np.testing.assert_array_equal(seen, np.asarray(net.predict_on_batch([wild, mask.astype(np.float32)])))
    assert np.isfinite(np.asarray(net.predict_on_batch([values, np.zeros_like(values)]))).all()


def trained(checkpoint: Path, policy: FitPolicy = POLICY, key: str = "k", stop_at: float = 2.0) -> Any:
    def on_batch(_: FitState, share: float) -> None:
        if share > stop_at:
            raise KeyboardInterrupt

    net = build_lstm_autoencoder(6, 3, units=6, latent=4, dropout=0.1, seed=1)
    return fit(net, rows(), rows(60, 1), policy, on_batch, checkpoint, key)


@pytest.mark.slow
def test_equal_seeds_give_equal_trained_weights_and_the_loss_falls(keras: Any, tmp_path: Path) -> None:
    one, again = trained(tmp_path / "a.npz"), trained(tmp_path / "b.npz")
    for a, b in zip(one.weights, again.weights, strict=True):
        np.testing.assert_array_equal(a, b)
    assert one.state == again.state
    assert one.state.history[-1] < one.state.history[0]
    other = trained(tmp_path / "c.npz", replace(POLICY, seed=4))
    assert any(not np.array_equal(a, b) for a, b in zip(one.weights, other.weights, strict=True))


@pytest.mark.slow
def test_a_training_killed_between_goes_on_to_the_same_weights(keras: Any, tmp_path: Path) -> None:
    whole = trained(tmp_path / "whole.npz")
    with pytest.raises(KeyboardInterrupt):
        trained(tmp_path / "cut.npz", stop_at=0.6)
    seen: list[float] = []
    net = build_lstm_autoencoder(6, 3, units=6, latent=4, dropout=0.1, seed=1)
    resumed = fit(net, rows(), rows(60, 1), POLICY, lambda _, share: seen.append(share), tmp_path / "cut.npz", "k")
    assert seen[0] > 0.5, "it went on, and did not begin anew"
    assert resumed.state == whole.state
    for a, b in zip(whole.weights, resumed.weights, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.slow
def test_a_damaged_or_foreign_checkpoint_is_passed_over(keras: Any, tmp_path: Path) -> None:
    whole = trained(tmp_path / "a.npz")
    (tmp_path / "torn.npz").write_bytes((tmp_path / "a.npz").read_bytes()[:500])
    (tmp_path / "empty.npz").write_bytes(b"")
    assert trained(tmp_path / "torn.npz").state == whole.state
    assert trained(tmp_path / "empty.npz").state == whole.state
    other = replace(POLICY, epochs=1)
    assert trained(tmp_path / "a.npz", other, key="other").state.epoch == 1


@pytest.mark.slow
def test_training_stops_when_held_back_rows_gain_nothing(keras: Any, tmp_path: Path) -> None:
    net = build_lstm_autoencoder(6, 3, units=6, latent=4, seed=1)
    noise = rows(60, 1)
    noise.values[...] = np.random.default_rng(5).normal(0, 3, noise.values.shape)
    policy = replace(POLICY, epochs=40, learning_rate=0.05)
    fitted = fit(net, rows(), noise, policy, lambda *_: None, tmp_path / "c.npz", "k")
    assert fitted.state.epoch < 40
    assert fitted.state.epoch - fitted.state.best_epoch == policy.patience
    net.set_weights(fitted.weights)
    assert held_out_loss(net, noise, policy) == pytest.approx(fitted.state.best, rel=1e-5), "the best weights are kept"
