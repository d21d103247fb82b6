"""Values survive the log, and the same values are the same bytes."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from anomaly.domain import (
    Alert,
    AlertState,
    Anomaly,
    Kind,
    Priority,
    Quality,
    Readings,
    Rung,
    Scores,
    State,
)
from anomaly.errors import DecodeError
from anomaly.rounding import significant
from pipelines import codec, score_codec
from pipelines.codec import Command, CommandKind, Serving
from pipelines.ports import AlertEvent


def _scores(rows: int = 5, seed: int = 0) -> Scores:
    rng = np.random.default_rng(seed)
    score = rng.uniform(0, 3, rows)
    state = tuple(State.OK if i % 3 else State.WARMING_UP for i in range(rows))
    score[[s is not State.OK for s in state]] = np.nan
    return Scores(
        tags=("vib", "temp °C"),
        assets=tuple(f"s/a/{i % 2}" for i in range(rows)),
        times=1_700_000_000_000_000_001 + np.arange(rows, dtype=np.int64),
        score=score,
        contributions=rng.dirichlet([1, 1], rows),
        expected=rng.normal(size=(rows, 2)),
        actual=np.where(rng.random((rows, 2)) < 0.3, np.nan, rng.normal(size=(rows, 2))),
        coverage=rng.random(rows),
        isolated=np.full(rows, np.nan),
        faults=rng.integers(0, 10, (rows, 2)).astype(np.uint8),
        state=state,
        version="v1",
        rung=Rung.WINDOW_PCA,
    )


def _event() -> AlertEvent:
    anomaly = Anomaly("s/a/1", Kind.PROCESS, "process", 10, None, 3.25, ("vib", "temp"), "v1")
    alert = Alert(
        "b6391a52f07e50ff",
        anomaly,
        AlertState.UNACKNOWLEDGED_ACTIVE,
        Priority.HIGH,
        12,
        message="vibration ⚠",
        expected={"vib": (2.0, 1.0)},
    )
    return AlertEvent("b6391a52f07e50ff-1", "raised", 12, alert, "ann")


def test_scores_come_back_per_asset_rounded_and_otherwise_equal() -> None:
    scores = _scores(7)
    messages = codec.encode_scores(scores)
    assert [asset for asset, _ in messages] == ["s/a/0", "s/a/1"]
    for asset, value in messages:
        rows = [i for i, name in enumerate(scores.assets) if name == asset]
        back = codec.decode_scores(value)
        assert (back.tags, back.version, back.rung) == (scores.tags, "v1", Rung.WINDOW_PCA)
        assert back.assets == (asset,) * len(rows)
        assert back.state == tuple(scores.state[i] for i in rows)
        np.testing.assert_array_equal(back.times, scores.times[rows])
        np.testing.assert_array_equal(back.faults, scores.faults[rows])
        np.testing.assert_allclose(back.score, scores.score[rows], rtol=1e-5)
        np.testing.assert_allclose(back.actual, scores.actual[rows], rtol=1e-8)
        np.testing.assert_allclose(back.contributions.sum(axis=1), 1.0, atol=2e-6)
        assert back.faults.dtype == np.uint8
        assert np.isnan(back.isolated).all()


def test_bytes_of_scores_do_not_depend_on_noise_below_the_rounding_nor_on_the_batch() -> None:
    scores = replace(_scores(6), score=np.array([np.nan, 0.123456, 2.5, np.nan, 1e-9, 7.0]))
    noisy = replace(scores, score=scores.score * (1 + 1e-12))
    assert codec.encode_scores(scores) == codec.encode_scores(noisy)
    again = [
        (asset, codec.encode_scores(codec.decode_scores(value))[0][1]) for asset, value in codec.encode_scores(scores)
    ]
    assert again == codec.encode_scores(scores)


def test_no_scores_are_no_messages() -> None:
    assert codec.encode_scores(_scores(0)) == []


def test_every_nan_is_the_same_nan() -> None:
    scores = _scores(4)
    odd = np.frombuffer(np.uint64(0xFFF8_0000_0000_0001).tobytes(), np.float64)[0]
    assert codec.encode_scores(replace(scores, isolated=np.full(4, odd))) == codec.encode_scores(scores)


def test_a_block_too_long_for_one_record_becomes_several_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    scores = replace(_scores(50), assets=("a",) * 50)
    monkeypatch.setattr(score_codec, "MESSAGE_BYTES", 700)
    messages = codec.encode_scores(scores)
    assert len(messages) > 5
    assert max(len(value) for _, value in messages) < 1000
    parts = [codec.decode_scores(value) for _, value in messages]
    np.testing.assert_array_equal(np.concatenate([part.times for part in parts]), scores.times)


def test_scores_that_an_earlier_version_wrote_as_json_are_read() -> None:
    old = {
        "asset": "s/a/1", "tags": ["vib", "t"], "times": [5, 6], "score": [None, 1.25],
        "contributions": [[0.0, 0.0], [0.25, 0.75]], "expected": [[None, None], [1.5, None]],
        "actual": [[1.0, None], [2.0, 3.0]], "coverage": [0.5, 1.0], "isolated": [None, 0.5],
        "faults": [[0, 1], [0, 0]], "state": ["warming_up", "ok"], "version": "v7", "rung": "window_pca",
    }  # fmt: skip
    back = codec.decode_scores(json.dumps(old).encode())
    assert (back.assets, back.state) == (("s/a/1",) * 2, (State.WARMING_UP, State.OK))
    np.testing.assert_array_equal(back.score, [np.nan, 1.25])
    [(_, again)] = codec.encode_scores(back)
    assert again[:1] != b"{"
    np.testing.assert_array_equal(codec.decode_scores(again).actual, back.actual)
    with pytest.raises(DecodeError, match="expected a block of scores"):
        codec.decode_scores(json.dumps(old | {"times": [5, 6, 7]}).encode())


def test_scores_of_a_model_without_tags_keep_their_shape() -> None:
    none = np.zeros((5, 0))
    scores = replace(
        _scores(5),
        tags=(),
        contributions=none,
        expected=none,
        actual=none,
        faults=none.astype(np.uint8),
        assets=("a",) * 5,
    )
    back = codec.decode_scores(codec.encode_scores(scores)[0][1])
    assert back.contributions.shape == back.faults.shape == (5, 0)


@given(arrays(np.float64, st.integers(0, 20), elements=st.floats(width=64)))
def test_rounding_is_idempotent_and_gives_the_nearest_short_decimal(values: np.ndarray) -> None:
    once = significant(values, codec.SCORE_DIGITS)
    np.testing.assert_array_equal(significant(once, codec.SCORE_DIGITS), once)
    for before, after in zip(values, once, strict=True):
        if math.isfinite(before) and 1e-16 < abs(before) < 1e22:
            assert after == pytest.approx(float(f"{before:.6g}"), rel=1e-5)
            assert len(f"{abs(after):.17e}".split("e")[0]) > 0
            assert float(f"{after:.6g}") == after
        elif not math.isfinite(before):
            assert np.array_equal(after, before, equal_nan=True)


@pytest.mark.parametrize(
    "damage",
    [
        lambda b: b[:-3],
        lambda b: b"",
        lambda b: b.replace(b"window_pca", b"window_pcx"),
        lambda b: b.replace(b"faults\xc4\x04", b"faults\xc4\x03"),
        lambda b: b.replace(b"state\xc4\x02\x01", b"state\xc4\x02\x63"),
        lambda b: b.replace(b"state", b"stats"),
        lambda b: b"[" * 200_000,
        lambda b: b"\xff\xfe",
    ],
)
def test_damaged_scores_are_a_decode_error(damage: object) -> None:
    value = codec.encode_scores(_scores(4))[0][1]
    with pytest.raises(DecodeError, match="expected a block of scores") as caught:
        codec.decode_scores(damage(value))  # type: ignore[operator]
    assert caught.value.reason == "malformed"


def test_an_alert_event_comes_back_equal_and_the_order_of_its_mappings_does_not_matter() -> None:
    event = _event()
    assert codec.decode_event(codec.encode_event(event)) == event
    one = replace(event, alert=replace(event.alert, expected={"a": (1.0, 2.0), "b": (3.0, 4.0)}))
    two = replace(event, alert=replace(event.alert, expected={"b": (3.0, 4.0), "a": (1.0, 2.0)}))
    assert codec.encode_event(one) == codec.encode_event(two)


def test_unknown_numbers_in_an_alert_stay_unknown() -> None:
    event = _event()
    anomaly = replace(event.alert.anomaly, peak=float("nan"), kind=Kind.DATA_LOSS, end=99)
    alert = replace(event.alert, anomaly=anomaly, expected={"vib": (float("nan"), 1.0)})
    back = codec.decode_event(codec.encode_event(replace(event, alert=alert))).alert
    assert math.isnan(back.anomaly.peak)
    assert math.isnan(back.expected["vib"][0])
    assert back.expected["vib"][1] == 1.0
    assert back.anomaly.end == 99


@pytest.mark.parametrize("value", [b"", b"null", b"{}", b"[1]", b'{"alert":{"anomaly":3}}', b"[" * 200_000, b"\xff"])
def test_damaged_events_commands_and_servings_are_decode_errors(value: bytes) -> None:
    for decode in (codec.decode_event, codec.decode_command, codec.decode_serving):
        with pytest.raises(DecodeError):
            decode(value)


def test_commands_and_servings_come_back_equal() -> None:
    command = Command("c1", CommandKind.SHELVE, "alert", "s/a", "ann", "operator", 5, "why", {"until": "9", "by": "x"})
    assert codec.decode_command(codec.encode_command(command)) == command
    serving = Serving("pumps", "v3", 17, Rung.LSTM_AUTOENCODER, "ann", "better")
    assert codec.decode_serving(codec.encode_serving(serving)) == serving


def test_a_command_of_an_unknown_kind_is_refused_by_name() -> None:
    command = Command("c1", CommandKind.CLOSE, "alert", "s/a", "ann", "operator", 5)
    with pytest.raises(DecodeError, match="explode"):
        codec.decode_command(codec.encode_command(command).replace(b'"close"', b'"explode"'))


def test_column_batches_say_quality_only_where_it_does_not_follow_and_split_below_the_limit() -> None:
    values = np.array([[1.5, np.nan], [2.0, 3.0]])
    plain = Readings("a", ("x", "y"), np.array([1, 2]), values, np.array([[0, 2], [0, 0]], dtype=np.uint8))
    assert codec.encode_readings(plain) == b'{"asset":"a","ts":[1,2],"values":{"x":[1.5,2.0],"y":[null,3.0]}}'
    odd = replace(plain, quality=np.array([[1, Quality.MISSING], [0, 0]], dtype=np.uint8))
    assert b'"quality":{"x":["u","g"],"y":["m","g"]}' in codec.encode_readings(odd)
    rows = 1000
    big = Readings("a", ("x",), np.arange(rows), np.ones((rows, 1)), np.zeros((rows, 1), dtype=np.uint8))
    parts = codec.split_readings(big, limit=2000)
    assert len(parts) > 1
    assert max(map(len, parts)) <= 2000
    assert [t for part in parts for t in json.loads(part)["ts"]] == list(range(rows))
