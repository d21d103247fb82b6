"""Machine or sensor? Every fault of every simulated machine, every sensor's drift, and what the alerts called them.

    .venv/bin/python scripts/confusion.py --seed 0 --rung lstm_autoencoder    # some minutes
    .venv/bin/python scripts/confusion.py --seed 1 --rung window_pca          # about two

The plant is learned from 36 hours without a fault; then each machine has its faults and drifts one after the other,
with forty minutes of health between them. docs/adr/0014 has the figures. `--show` names what was told wrongly.
"""

from __future__ import annotations

import argparse
import logging
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import structlog

from anomaly.alignment import AlignmentPolicy, align
from anomaly.blocks import join, rows
from anomaly.detector import Detector
from anomaly.domain import SECOND, Anomaly, Asset, Readings, Rung
from anomaly.episodes import episodes
from anomaly.registry import Registry
from anomaly.training_spec import TrainingSpec
from pipelines.fitting import fit_version
from pipelines.sources.simulator import Fault, FaultKind, Simulator
from pipelines.sources.simulator.machine import Machine
from pipelines.sources.simulator.plant import machines
from pipelines.training_service import training_set_from_readings

MINUTE = 60 * SECOND
START = 1_763_697_600 * SECOND
"""Event time at which health ends and faults begin, ns."""
HISTORY = 36 * 60 * MINUTE
LASTS, EVERY = 70 * MINUTE, 110 * MINUTE
BEFORE, AFTER = MINUTE, 20 * MINUTE
"""An anomaly that begins so long before a fault, or after its end, is its own."""
CHUNK = 4096


def script(plant: Sequence[Machine], seed: int) -> Iterator[Fault]:
    """Each machine's faults and drifts, one after the other. Severity and speed of growth are drawn."""
    rng = np.random.default_rng(seed + 77)
    for machine in plant:
        onset = START + 30 * MINUTE
        wanted: list[tuple[FaultKind, str, str | None]]
        wanted = [(FaultKind.MACHINE, name, None) for name in machine.kind.faults]
        wanted += [(FaultKind.INSTRUMENT, "sensor_drift", sensor.name) for sensor in machine.kind.sensors]
        for kind, name, tag in wanted:
            grown, severity = onset + int(rng.integers(10, 40)) * MINUTE, round(float(rng.uniform(0.85, 1.25)), 2)
            sign = 1.0 if rng.random() < 0.5 else -1.0
            yield Fault(machine.path, name, kind, tag, onset, grown, onset + LASTS, severity, sign)
            onset += EVERY


def told(fault: Fault, found: Sequence[Anomaly]) -> Counter[str]:
    """What was said of one fault, as counts of 0 or 1."""
    mine = [one for one in found if fault.onset - BEFORE <= one.onset <= fault.until + AFTER]
    process = any(one.kind == "process" for one in mine)
    sensors = {one.tags[0] for one in mine if one.kind == "instrument" and one.tags}
    if fault.kind is FaultKind.MACHINE:
        return Counter(
            {
                "machine faults": 1,
                "… told as the machine": process,
                "… told as a sensor": bool(sensors),
                "… told as a sensor only": bool(sensors) and not process,
            }
        )
    return Counter(
        {
            "drifts": 1,
            "… told as that sensor": fault.tag in sensors,
            "… told as the machine too, or only": process,
            "… told as another sensor": bool(sensors - {fault.tag}),
        }
    )


def detector_of(readings: Sequence[Readings], simulator: Simulator, group: str, rung: Rung, home: Path) -> Detector:
    """The version that production would learn from the healthy history."""
    registry, members = Registry(home), simulator.plant.groups()[group]
    chosen = training_set_from_readings(simulator.plant, group, None, readings, 0, 2**62)
    fit_version(chosen, members[0].tags, rung, registry, now=START, workdir=home, spec=TrainingSpec())
    return registry.load(group, registry.versions(group)[-1])


def anomalies(detector: Detector, asset: Asset, readings: Sequence[Readings]) -> tuple[Anomaly, ...]:
    """What an asset's readings are told as, from the start of the faults on."""
    mine = join([block for block in readings if block.asset == asset.path])
    samples = align(mine, tuple(tag.name for tag in asset.tags), AlignmentPolicy.of(asset.tick)).samples
    windows = detector.windows(samples, int(np.searchsorted(samples.times, START)))
    cuts = range(0, len(windows), CHUNK)
    return episodes(join([detector.detect(rows(windows, slice(cut, cut + CHUNK))) for cut in cuts]))


def main() -> None:
    """Run one life and print the counts."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--rung", choices=[Rung.WINDOW_PCA, Rung.LSTM_AUTOENCODER], default=Rung.LSTM_AUTOENCODER)
    parser.add_argument("--show", action="store_true", help="name every fault that was told wrongly")
    given = parser.parse_args()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    faults = tuple(script(machines(given.seed), given.seed))
    simulator = Simulator(given.seed, START - HISTORY, script=faults)
    history = simulator.advance(START)
    readings = [*history, *simulator.advance(max(fault.until for fault in faults) + 30 * MINUTE)]
    total: Counter[str] = Counter()
    with tempfile.TemporaryDirectory() as home:
        for group, members in simulator.plant.groups().items():
            detector = detector_of(history, simulator, group, Rung(given.rung), Path(home))
            for asset in members:
                found = anomalies(detector, asset, readings)
                for fault in (fault for fault in faults if fault.asset == asset.path):
                    said = told(fault, found)
                    total.update(said)
                    if given.show and list(said.values())[1:3] != [1, 0]:
                        print(f"{asset.name:15s} {fault.name:14s} {fault.tag or '':18s} {dict(said)}")
    for what, count in total.items():
        print(f"{count:5d}  {what}")


if __name__ == "__main__":
    main()
