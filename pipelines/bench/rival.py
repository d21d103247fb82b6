"""The named rival: the plain loop that a user would write, fed with the same messages, measured in the same way.

One consumer, `json.loads`, a deque of rows an asset, one `Point` and one synchronous write a row, `model.predict` a
message. It has none of the guarantees: no alignment, no sensor checks, no recovery, no alert.
"""

from __future__ import annotations

import json
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any, Final

import numpy as np

from pipelines import topics
from pipelines.bench.meters import hush
from pipelines.bench.net import LENGTH, onnx_autoencoder
from pipelines.bench.places import Places
from pipelines.bench.workload import TAGS
from pipelines.times import parse_time

NAMES: Final = tuple(tag.name for tag in TAGS)
Predict = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True, slots=True)
class Rival:
    """What its row cost, CPU µs; `ours`: without the model, the part to compare. `words`: what it was made of."""

    kind: str
    rows: int
    total: float
    model: float
    ours: float
    words: str


def run(places: Places, kinds: dict[str, int], pipe: Connection) -> None:
    """Measure the loop over so many messages of each kind, and send the `Rival`s. Entry of a process of its own."""
    hush()
    predict, engine = _model()
    write, sink = _sink(places)
    found = []
    for kind, messages in kinds.items():
        clock, rows = _ModelClock(predict), 0
        buffers: dict[str, deque[list[float]]] = {}
        before = None
        for number, value in enumerate(_consumed(places, kind, messages + 2)):
            if number == 2:  # the first calls trace the graph and open connections
                before, rows = time.process_time(), 0
                clock.seconds = 0.0
            rows += _one(value, buffers, clock, write)
        spent = time.process_time() - (before or 0.0)
        if rows:
            total, model = spent * 1e6 / rows, clock.seconds * 1e6 / rows
            found.append(Rival(kind, rows, total, model, total - model, f"json, Point, {sink}, {engine}"))
    pipe.send(found)


class _ModelClock:
    """Calls the model and counts the CPU time of the process meanwhile: TensorFlow works in threads of its own."""

    def __init__(self, predict: Predict) -> None:
        self._predict = predict
        self.seconds = 0.0

    def __call__(self, windows: np.ndarray) -> np.ndarray:
        started = time.process_time()
        drawn = self._predict(windows)
        self.seconds += time.process_time() - started
        return drawn


def _one(value: bytes, buffers: dict[str, deque[list[float]]], predict: Predict, write: Any) -> int:
    """One message of the loop."""
    message = json.loads(value)
    asset, times, columns = message["asset"], message["ts"], message["values"]
    batch = isinstance(times, list)
    rows = (
        [list(row) for row in zip(*(columns[n] for n in NAMES), strict=True)]
        if batch
        else [[columns[n] for n in NAMES]]
    )
    window = buffers.setdefault(asset, deque([rows[0]] * LENGTH, maxlen=LENGTH))
    windows = []
    for row in rows:
        window.append(row)
        windows.append(np.array(window, dtype=np.float32))
    drawn = predict(np.stack(windows))
    for stamp, row, seen, expected in zip(times if batch else [times], rows, windows, drawn, strict=True):
        error = float(np.mean((seen - expected) ** 2))
        write(asset, parse_time(stamp), row, error)
    return len(rows)


def _consumed(places: Places, kind: str, messages: int) -> Iterator[bytes]:
    """The first messages of that kind, by a consumer of its own."""
    wanted = b'"ts":[' if kind == "columns" else b'"ts":"'
    values = _from_kafka(places) if places.kafka else _from_log(places)
    for value in values:
        if wanted in value:
            yield value
            messages -= 1
            if not messages:
                return


def _from_kafka(places: Places) -> Iterator[bytes]:
    import kafka  # noqa: PLC0415

    from pipelines.adapters.kafka_client import connection  # noqa: PLC0415

    assert places.kafka is not None
    consumer: Any = kafka.KafkaConsumer(
        places.kafka.topic(topics.READINGS),
        **connection(places.kafka),
        auto_offset_reset="earliest",
        consumer_timeout_ms=5000,
    )
    try:
        for record in consumer:
            yield record.value
    finally:
        consumer.close()


def _from_log(places: Places) -> Iterator[bytes]:
    log = places.open_log()
    try:
        for partition in log.ends(topics.READINGS):
            position = 0
            while records := log.read(partition, position, 500):
                yield from (record.value for record in records if record.value is not None)
                position = records[-1].offset + 1
    finally:
        log.close()


def _sink(places: Places) -> tuple[Callable[[str, int, list[float], float], None], str]:
    """How a row is written: one `Point`, one synchronous write; without InfluxDB only its line is made."""
    from influxdb_client.client.influxdb_client import InfluxDBClient  # noqa: PLC0415
    from influxdb_client.client.write.point import Point  # noqa: PLC0415
    from influxdb_client.client.write_api import SYNCHRONOUS  # noqa: PLC0415

    def point(asset: str, stamp: int, row: list[float], error: float) -> Any:
        kind: Any = Point
        made = kind("sample").tag("asset", asset).time(stamp)
        for name, value in zip(NAMES, row, strict=True):
            made = made.field(name, float(value))
        return made.field("error", error)

    if places.influx is None:
        return lambda *given: point(*given).to_line_protocol() and None, "no write (nothing to write to)"
    client = InfluxDBClient(places.influx.url, places.influx.token, org=places.influx.org)
    api: Any = client.write_api(write_options=SYNCHRONOUS)
    bucket = places.influx.bucket("samples")
    return lambda *given: api.write(bucket=bucket, record=point(*given)), "one write a row"


def _model() -> tuple[Predict, str]:
    """Keras' `model.predict`, as examples show it; where Keras is not installed, ONNX Runtime in its place."""
    try:
        import keras  # noqa: PLC0415
        import tensorflow  # noqa: F401, PLC0415
    except ImportError:
        import onnxruntime  # noqa: PLC0415

        session: Any = onnxruntime.InferenceSession(onnx_autoencoder(), providers=["CPUExecutionProvider"])
        return (
            lambda windows: session.run(None, {"values": windows, "mask": np.ones_like(windows)})[0],
            "ONNX Runtime, since Keras is not installed here",
        )
    layers: Any = keras.layers
    model: Any = keras.Sequential(
        [
            keras.Input((LENGTH, len(NAMES))),
            layers.LSTM(64),
            layers.RepeatVector(LENGTH),
            layers.LSTM(64, return_sequences=True),
            layers.Dense(len(NAMES)),
        ]
    )
    return lambda windows: model.predict(windows, verbose=0), "model.predict a message"
