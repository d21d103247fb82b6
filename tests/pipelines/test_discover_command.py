"""`plantwatch discover`: from what the plant sends to a plant file that a start takes, and what to check in it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from anomaly.domain import SECOND, Plant
from anomaly.errors import ConfigurationError, DataError
from pipelines import cli, topics, wiring
from pipelines.adapters.memory import MemoryClock
from pipelines.adapters.memory_log import MemoryLog
from pipelines.discovery import discover_plant
from pipelines.formats.names import Format
from pipelines.listening import Listener, advice
from pipelines.plant_file import load_plant
from pipelines.ports import NewRecord
from pipelines.settings import Settings

START = 1_795_222_920 * SECOND
PUMPS = ("s1/a1/l1/pump-101", "s1/a1/l1/pump-102")


def record(asset: str, row: int, key: str | None = None, **fields: Any) -> NewRecord:
    """A row as Telegraf writes it, a second after the one before."""
    time = START // 10**6 + row * 1003
    body = {"name": "mqtt", "tags": {"asset": asset}, "fields": fields, "timestamp": time}
    return NewRecord(topics.READINGS, (asset if key is None else key).encode() or None, json.dumps(body).encode())


def rows(count: int = 40) -> list[NewRecord]:
    """Two pumps and a fan, and what cannot be read."""
    found = []
    for row in range(count):
        state = float(row % 20 > 5)
        found += [record(pump, row, vib_de=2 + row / 100, temp=61.5, state=state, note="x") for pump in PUMPS]
        found.append(record("s1/a1/l2/fan-7", row, speed=900 + row))
    return [*found, NewRecord(topics.READINGS, b"x", b"{"), NewRecord(topics.READINGS, b"x", None)]


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    log = wiring.open_log(Settings(data_dir=tmp_path), MemoryClock(START + 60 * SECOND))
    log.append(rows())
    log.close()
    return tmp_path


@pytest.fixture
def run(data_dir: Path) -> Callable[..., str]:
    def invoke(*words: str) -> str:
        done = CliRunner().invoke(cli.app, ["discover", "--seconds", "0", "--data-dir", str(data_dir), *words])
        if done.exception is not None and not isinstance(done.exception, SystemExit):
            raise done.exception
        return done.output

    return invoke


def test_what_comes_becomes_a_plant_file_where_a_start_looks_for_it(run: Callable[..., str], data_dir: Path) -> None:
    said = run("--name", "Works")
    plant = wiring.open_plant(Settings(data_dir=data_dir))
    assert plant == load_plant(data_dir / "plant.toml")
    assert plant.name == "Works"
    assert {a.path: (a.group, a.tick, [t.name for t in a.tags]) for a in plant.assets} == {
        PUMPS[0]: ("pump", SECOND, ["vib_de", "temp", "state"]),
        PUMPS[1]: ("pump", SECOND, ["vib_de", "temp", "state"]),
        "s1/a1/l2/fan-7": ("fan", SECOND, ["speed"]),
    }
    assert '{ name = "vib_de" },  # seen 2 to 2.39' in (data_dir / "plant.toml").read_text()
    assert "122 records came (120 telegraf): 360 readings of 3 machines" in said
    assert "1 refused as malformed; the first, partition" in said
    assert "1 refused as tombstone" in said
    assert "state takes only the values 0, 1" in said
    assert "note without a single number; left out" in said
    assert "units and engineering ranges" in said


def test_a_file_that_is_there_is_kept_and_what_it_lacks_is_told(run: Callable[..., str], data_dir: Path) -> None:
    path = data_dir / "plant.toml"
    path.write_text('name = "w"\n[[assets]]\npath = "s1/a1/l1/pump-101"\ngroup = "p"\ntags = [{ name = "vib_de" }]\n')
    before = path.read_text()
    with pytest.raises(ConfigurationError, match=r"lacks s1/a1/l1/pump-102, s1/a1/l2/fan-7; say --force"):
        run()
    assert path.read_text() == before
    run("--output", str(data_dir / "other.toml"))
    assert len(load_plant(data_dir / "other.toml").assets) == 3
    run("--force")
    assert len(load_plant(path).assets) == 3


def test_the_plant_can_be_printed_and_told_as_json(run: Callable[..., str], data_dir: Path, tmp_path: Path) -> None:
    printed = tmp_path / "printed.toml"
    said = run("--output", "-")
    printed.write_text(said[said.index("name =") :])
    assert len(load_plant(printed).assets) == 3
    assert not (data_dir / "plant.toml").exists()
    said = run("--json")
    found = json.loads(said[said.index("{") :])
    assert found["formats"] == {"telegraf": 120}
    assert found["refused"] == {"malformed": 1, "tombstone": 1}
    assert [asset["tick_s"] for asset in found["assets"]] == [1.0, 1.0, 1.0]


def test_files_are_discovered_too(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    lines = "".join(f"2026-01-05T00:00:{second:02d}Z,{second}\n" for second in range(30))
    (tmp_path / "in" / "pump-7.csv").write_text("time,vib [mm/s]\n" + lines)
    out = tmp_path / "plant.toml"
    done = CliRunner().invoke(cli.app, ["discover", "--data", str(tmp_path / "in"), "--output", str(out)])
    assert done.exception is None, done.output
    [asset] = load_plant(out).assets
    assert (asset.path, asset.tick, asset.tags[0].unit) == ("pump-7", SECOND, "mm/s")


def test_no_log_and_an_empty_topic_are_told(tmp_path: Path, run: Callable[..., str]) -> None:
    with pytest.raises(ConfigurationError, match=r"no log in .*nothing.*PLANTWATCH_LOG"):
        run("--data-dir", str(tmp_path / "nothing"))
    (tmp_path / "empty").mkdir()
    wiring.open_log(Settings(data_dir=tmp_path / "empty")).close()
    with pytest.raises(DataError, match=r"(?s)no reading came.*0 records came"):
        run("--data-dir", str(tmp_path / "empty"))


# --- listening -------------------------------------------------------------------------------------------------------


def listener(log: MemoryLog, *, seconds: float = 0, records: int = 1000, wait: Any = None) -> Listener:
    ticking = iter(range(1000))
    return Listener(
        log,
        Format.AUTO,
        records=records,
        seconds=seconds,
        clock=lambda: float(next(ticking)),
        wait=wait or (lambda _: None),
    )


@pytest.fixture
def log() -> MemoryLog:
    made = MemoryLog(MemoryClock(START + 60 * SECOND))
    made.create(topics.partitions(2), topics.COMPACTED)
    return made


def found_in(listening: Listener) -> Plant:
    return discover_plant(listening.blocks()).plant


def test_listening_goes_on_until_the_time_is_over_and_takes_in_what_comes(log: MemoryLog) -> None:
    later = rows(5)
    log.append([record("first", row, x=row) for row in range(3)])

    def wait(_: float) -> None:
        log.append([later.pop()] if later else [])

    listening = listener(log, seconds=200, wait=wait)
    assert len(found_in(listening).assets) == 4
    assert listening.heard.records == 3 + 17


def test_listening_ends_with_ctrl_c_and_keeps_what_came(log: MemoryLog) -> None:
    log.append(rows())

    def interrupt(_: float) -> None:
        raise KeyboardInterrupt

    assert len(found_in(listener(log, seconds=200, wait=interrupt)).assets) == 3


def test_of_a_long_topic_only_the_newest_records_are_read(log: MemoryLog) -> None:
    log.append([record("old", row, x=row) for row in range(100)])
    log.append([record("new", row, x=row) for row in range(100)])
    listening = listener(log, records=40)
    list(listening.blocks())
    assert listening.heard.records <= 40 + 2 * 500
    assert "new" in listening.heard.partitions


@pytest.mark.parametrize(
    ("keys", "told"),
    [
        (tuple(f"key {n}" for n in range(20)), "lie on several partitions"),
        (("", ""), "records have no key"),
        (("k",), None),
    ],
)
def test_keys_that_tear_a_machine_apart_are_told(log: MemoryLog, keys: tuple[str, ...], told: str | None) -> None:
    one = MemoryLog(MemoryClock(START + 60 * SECOND))
    one.create({topics.READINGS: 1})
    where = one if keys[0] == "" else log
    where.append([record("pump", row, key=keys[row % len(keys)], x=row) for row in range(20)])
    listening = listener(where)
    list(listening.blocks())
    said = " ".join(advice(listening.heard))
    assert (told in said) if told else said == ""


def test_a_clock_far_behind_and_whole_seconds_are_told(log: MemoryLog) -> None:
    body = {"fields": {"x": 1}, "tags": {"asset": "a"}, "timestamp": START // SECOND - 7200}
    log.append([NewRecord(topics.READINGS, b"a", json.dumps(body).encode())])
    listening = listener(log)
    list(listening.blocks())
    late, whole = advice(listening.heard)
    assert "a: even the newest readings are dated more than 1 h (up to 2.0 h)" in late
    assert "json_timestamp_units" in whole


def test_only_what_the_plant_file_lacks_is_looked_for(run: Callable[..., str], data_dir: Path, tmp_path: Path) -> None:
    (data_dir / "plant.toml").write_text(
        'name = "w"\n[[assets]]\npath = "s1/a1/l1/pump-101"\ngroup = "p"\ntags = [{ name = "vib_de" }]\n'
    )
    run("--new", "--output", str(tmp_path / "new.toml"))
    assert {asset.path for asset in load_plant(tmp_path / "new.toml").assets} == {PUMPS[1], "s1/a1/l2/fan-7"}
    with pytest.raises(ConfigurationError, match="--new was given with --data"):
        run("--new", "--data", str(tmp_path))
