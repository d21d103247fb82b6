"""Bad input through the real command line: one clear message, the right exit code, never a traceback, nothing lost."""

from __future__ import annotations

import codecs
import math
import os
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import structlog

from pipelines.adapters.sqlite_historian_reading import SqliteHistorianReader
from pipelines.cli import main
from pipelines.demo_log import quiet_logs

ROOT = Path(__file__).parents[2]
HEADER = "timestamp,temp,flow\n"
RNG = np.random.default_rng(7)
NOISE = RNG.normal(size=(900, 2)).round(3).tolist()


def stamp(row: int, zone: str = "Z", start: str = "2026-01-01T00:00:00") -> str:
    return str(np.datetime64(start, "s") + 10 * row) + zone


def rows(first: int = 0, last: int = 60, zone: str = "Z") -> str:
    return "".join(f"{stamp(i, zone)},{50 + NOISE[i][0]},{NOISE[i][1]}\n" for i in range(first, last))


@pytest.fixture(autouse=True)
def _logs_as_before() -> Iterator[None]:
    yield
    structlog.reset_defaults()


def arguments(command: str, data: Path, store: Path) -> list[str]:
    more = {"run": ["--once", "--no-dashboard", "--no-train"], "train": ["--rung", "window_pca"], "check": []}[command]
    return [command, "--data", str(data), "--data-dir", str(store), *more]


def call(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], *words: str) -> tuple[int, str]:
    """Exit code, and all that was said, of the command in this process."""
    monkeypatch.setattr(sys, "argv", ["plantwatch", *words])
    capfd.readouterr()
    try:
        main()
        code = 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
    said = "".join(capfd.readouterr())
    assert "Traceback" not in said
    return code, said


def start(*words: str) -> subprocess.Popen[str]:
    return subprocess.Popen(  # our own interpreter and module
        [sys.executable, "-m", "pipelines", *words],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=os.environ | {"PYTHONUNBUFFERED": "1"},
    )


def finish(process: subprocess.Popen[str]) -> tuple[int, str]:
    said, _ = process.communicate(timeout=120)
    assert "Traceback" not in said
    return process.returncode, said


def write(folder: Path, content: str | bytes, name: str = "pump-1.csv") -> Path:
    folder.mkdir(exist_ok=True)
    (folder / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    return folder


REFUSED: dict[str, tuple[str | bytes, str]] = {
    "an empty file": (b"", "is empty; expected a header line and rows"),
    "a header only": (HEADER, "and no rows; expected rows of data"),
    "one row": (HEADER + rows(0, 1), "has one row .or one time. only"),
    "one time in every row": (HEADER + "".join(f"{stamp(0)},{i},2\n" for i in range(9)), "only, from which no tick"),
    "all cells missing": (HEADER + "".join(f"{stamp(i)},,\n" for i in range(9)), "no tag of pump-1 has a single"),
    "blank rows": (HEADER + ",,\n" * 9, "rows in which every cell is empty"),
    "text in every cell": (HEADER + "".join(f"{stamp(i)},bad,n/a\n" for i in range(9)), "has a single number"),
    "zones in some rows": (HEADER + rows(0, 9) + rows(9, 12, ""), "one with a zone, one without"),
    "naive times": (HEADER + rows(zone=""), "has no zone; give the zone .* --timezone Europe/Berlin"),
    "10 001 columns": ("timestamp," + ",".join(f"t{i}" for i in range(10_001)) + "\n" + stamp(0) + ",1" * 10_001 + "\n",
                       "has 10001 tags, at most 10000"),
    "UTF-16": ((HEADER + rows()).encode("utf-16"), "is UTF-16 or no text at all; expected"),
    "no text at all": (bytes(range(256)) * 20, "is UTF-16 or no text at all; expected"),
    "no header": (rows(), "has no header: its first line is"),
    "a column twice": ("timestamp,x,x\n" + rows(), "the column 'x' comes 2 times"),
    "no time": ("a,b\n1,2\n3,4\n", "is a time; expected a column named `timestamp`"),
    "a word for a time": (HEADER + rows(0, 5) + "yesterday,1,2\n", "'yesterday' at line 7 is not a time"),
    "a row too wide": (HEADER + rows(0, 5) + f"{stamp(5)},1,2,3,4\n", "line 7 has 5 fields, more fields than"),
    "an open quote": (HEADER + rows(0, 5) + f'{stamp(5)},"1,2\n', "quote"),
    "another unit in between": (
        "timestamp,tag,value,unit\n" + "".join(f"{stamp(i)},t,{i},{'°C' if i < 5 else '°F'}\n" for i in range(9)),
        "comes in '°C' and in '°F'; convert one",
    ),
    "years out of reach": (HEADER + f"1600-01-01T00:00:00Z,1,2\n{stamp(0)},1,2\n", "outside the years 1678 to 2261"),
}  # fmt: skip


@pytest.mark.parametrize("command", ["run", "train", "check"])
@pytest.mark.parametrize("what", REFUSED)
def test_files_that_cannot_be_used_are_refused_with_the_mend(
    what: str, command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    content, expected = REFUSED[what]
    data = write(tmp_path / "data", content)
    code, said = call(monkeypatch, capfd, *arguments(command, data, tmp_path / "store"))
    assert code == 65, said
    assert re.search(expected, " ".join(said.split())), said
    assert not list((tmp_path / "store").glob("*.db"))


def _numbers(odd: list[str], every: int = 50) -> str:
    lines = [f"{stamp(i)},{odd[i // every % len(odd)] if i % every == 0 else NOISE[i][0]},{i}" for i in range(300)]
    return HEADER + "\n".join(lines) + "\n"


NOTED: dict[str, tuple[str | bytes, str]] = {
    "text among numbers": (_numbers(["bad", "I/O Timeout"]), "6 cells of 'temp' are no numbers; taken as bad readings"),
    "no finite numbers": (_numbers(["NaN", "-Inf", "1e999"]), "6 cells of 'temp' are no numbers; taken as bad"),
    "times that come twice": (HEADER + rows() + rows(58, 60), "2 rows have the time of an earlier row"),
    "times that go back": (HEADER + rows(30, 60) + rows(0, 30), "1 rows go back in time; the file was put in order"),
    "constant tags": (HEADER + "".join(f"{stamp(i)},5,6\n" for i in range(99)), "temp, flow always at one value"),
    "one constant tag": (
        HEADER + "".join(f"{stamp(i)},{i},6\n" for i in range(99)),
        "flow always at one value; a model",
    ),
    "a tag without a number": (
        HEADER + "".join(f"{stamp(i)},{i},\n" for i in range(99)),
        "flow without a single number",
    ),
    "a stray byte": ((HEADER + rows()).encode() + b"2026-01-02T00:00:00Z,\xff,1\n", "1 cells of 'temp' are no numbers"),
}


@pytest.mark.parametrize("what", NOTED)
def test_odd_files_are_taken_and_what_is_odd_is_told(
    what: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    content, expected = NOTED[what]
    data = write(tmp_path / "data", content)
    code, said = call(monkeypatch, capfd, *arguments("check", data, tmp_path / "store"))
    assert code == 0, said
    assert re.search(expected, " ".join(said.split())), said
    assert "warning  data files" in said


@pytest.mark.parametrize(
    "content",
    [
        codecs.BOM_UTF8 + (HEADER + rows()).encode(),
        HEADER.replace("temp", "température").encode("latin-1") + rows().encode(),
        HEADER + rows(0, 30) + "".join(f"{stamp(i, '+02:00', '2026-01-01T02:00:00')},{i},1\n" for i in range(30, 60)),
        "timestamp," + ",".join(f"t{i}" for i in range(10_000)) + "\n"
        + "".join(stamp(row) + f",{row}" * 10_000 + "\n" for row in range(3)),
    ],
    ids=["byte order mark", "Latin-1", "two zones that agree", "10 000 columns"],
)  # fmt: skip
def test_unusual_files_without_a_fault_are_taken_without_a_word(
    content: str | bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    data = write(tmp_path / "data", content)
    code, said = call(monkeypatch, capfd, *arguments("check", data, tmp_path / "store"))
    assert code == 0, said
    assert "ok       data files" in said


def test_a_line_of_a_gigabyte_is_refused_without_reading_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    data = write(tmp_path / "data", HEADER + stamp(0) + ",")
    os.truncate(data / "pump-1.csv", 1 << 30)
    code, said = call(monkeypatch, capfd, *arguments("run", data, tmp_path / "store"))
    assert code == 65
    assert "line 2 is over 16 MiB long" in said


def test_one_machine_with_one_row_does_not_stop_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    data = write(tmp_path / "data", HEADER + rows())
    write(data, HEADER + rows(0, 1), "fan-1.csv")
    write(data, "", "fan-2.csv")
    code, said = call(monkeypatch, capfd, *arguments("run", data, tmp_path / "store"))
    assert code == 0, said
    assert "fan-1 with one row (or one time) only; the tick of the others is taken" in said
    assert "fan-2.csv is empty" in said
    assert "122 readings taken in" in said


# ------------------------------------------------------------------------------------------------------ nothing lost


def stored(store: Path) -> int:
    historian = SqliteHistorianReader(store / "historian.db")
    return sum(historian.readings(asset, 0, 2**62).count for asset in historian.assets())


def test_every_reading_of_an_odd_file_is_stored_once_and_a_second_start_has_nothing_new(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Bad readings are readings too; empty cells are not; a time that comes twice is one."""
    data, store = (
        write(tmp_path / "data", _numbers(["NaN", "1e999", "n/a", ""]) + f"{stamp(299)},1,2\n"),
        tmp_path / "s",
    )
    code, said = call(monkeypatch, capfd, *arguments("run", data, store))
    assert code == 0, said
    assert "601 readings taken in; 2 came twice" in said
    assert stored(store) == 599
    code, said = call(monkeypatch, capfd, *arguments("run", data, store))
    assert (code, stored(store)) == (0, 599)
    assert "nothing new since the last start" in said


def test_rows_of_empty_cells_are_no_readings_and_no_dead_letters(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    gaps = HEADER + rows(0, 10) + "".join(f"{stamp(i)},,\n" for i in range(10, 2000))
    code, said = call(monkeypatch, capfd, *arguments("run", write(tmp_path / "data", gaps), tmp_path / "store"))
    assert code == 0, said
    assert "20 readings taken in\n" in said
    assert "REFUSED" not in said


def test_readings_of_a_clock_that_is_a_year_ahead_are_refused_aloud(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    ahead = str(np.datetime64("now", "s") + 365 * 86_400)
    content = HEADER + "".join(f"{stamp(i, 'Z', ahead)},{i},1\n" for i in range(60))
    code, said = call(monkeypatch, capfd, *arguments("run", write(tmp_path / "data", content), tmp_path / "store"))
    assert code == 65
    assert "(future_dated), kept as dead letters" in said
    assert "not one reading could be used" in said


def test_a_machine_without_a_score_is_told_with_what_to_do_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Never a silent zero."""
    constant = HEADER + "".join(f"{stamp(i)},5,6\n" for i in range(300))
    code, said = call(monkeypatch, capfd, *arguments("run", write(tmp_path / "data", constant), tmp_path / "store"))
    assert code == 0
    assert "0 of 1 machines have a score now" in said
    assert "no score for pump-1: no model serves yet" in said
    summary = SqliteHistorianReader(tmp_path / "store" / "historian.db").latest()[0]
    assert (summary.state, np.isnan(summary.score)) == ("insufficient_coverage", True)


def test_nothing_is_learned_from_sensors_that_all_stand_still(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    constant = HEADER + "".join(f"{stamp(i)},5,6\n" for i in range(900))
    code, said = call(monkeypatch, capfd, *arguments("train", write(tmp_path / "data", constant), tmp_path / "store"))
    assert code == 65
    assert "every signal (temp, flow) stays at one value" in said
    assert not list((tmp_path / "store").rglob("manifest.json"))


def test_tags_that_vanish_and_appear_are_told_of_their_sensors_and_of_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    data = write(tmp_path / "data", HEADER + rows(0, 100), "pump-1_2026-01.csv")
    write(data, "timestamp,temp,level\n" + rows(100, 200), "pump-1_2026-02.csv")
    code, said = call(monkeypatch, capfd, *arguments("run", data, tmp_path / "store"))
    assert code == 0, said
    assert "pump-1 has no level here, as in its other files" in said
    assert "pump-1 has no flow here, as in its other files" in said
    assert "400 readings taken in\n" in said
    alerts = SqliteHistorianReader(tmp_path / "store" / "historian.db").alerts()
    assert {(a.anomaly.cause, a.anomaly.fault) for a in alerts} == {
        ("instrument:flow", "MISSING"),
        ("instrument:level", "MISSING"),
    }


def test_a_unit_that_changes_is_told_as_that_and_never_as_the_machine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    day = [
        (50 + 10 * math.sin(i / 30) + NOISE[i][0], 20 + 5 * math.sin(i / 30) + 0.3 * NOISE[i][1]) for i in range(900)
    ]
    lines = [f"{stamp(i)},{c if i < 700 else c * 1.8 + 32:.3f},{f:.3f}\n" for i, (c, f) in enumerate(day)]
    data = write(tmp_path / "data", "timestamp,temp [°C],flow\n" + "".join(lines))
    words = ["--train-rows", "600", "--model", "window_pca", "--out", str(tmp_path / "out")]
    code, said = call(monkeypatch, capfd, "replay", "--data", str(data), *words)
    assert code == 0, said
    assert "1 alerts" in said
    assert "sensor temp [°C] has jumped as if its unit or scale had changed" in said


def test_a_damaged_model_fails_the_check_by_name_and_a_run_goes_on_without_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    data, store = write(tmp_path / "data", HEADER + rows(0, 900)), tmp_path / "store"
    assert call(monkeypatch, capfd, *arguments("train", data, store))[0] == 0
    (bundle,) = store.rglob("scorer.npz")
    content = bytearray(bundle.read_bytes())
    content[len(content) // 2] ^= 1
    bundle.chmod(0o644)
    bundle.write_bytes(bytes(content))
    code, said = call(monkeypatch, capfd, "check", "--data-dir", str(store))
    assert code == 65, said
    assert re.search(r"failure +models .*scorer\.npz", said), said
    code, said = call(monkeypatch, capfd, *arguments("run", data, store))
    assert code == 0, said
    assert stored(store) == 1800


# --------------------------------------------------------------------------------------------------- words and places


@pytest.mark.parametrize("command", ["run", "train", "check"])
def test_a_setting_with_a_typo_is_refused_with_the_right_word(
    command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    words = arguments(command, write(tmp_path / "data", HEADER + rows()), tmp_path / "store")
    monkeypatch.setenv("PLANTWATCH_PARTITONS", "4")
    code, said = call(monkeypatch, capfd, *words)
    assert (code, "did you mean 'PLANTWATCH_PARTITIONS'" in said) == (78, True), said
    monkeypatch.delenv("PLANTWATCH_PARTITONS")
    code, said = call(monkeypatch, capfd, *words, "--timezone", "Europe/Berln")
    assert (code, "did you mean 'Europe/Berlin'" in said) == (78, True), said
    (tmp_path / "p.toml").write_text("partitons = 4\n")
    code, said = call(monkeypatch, capfd, *words, "--config", str(tmp_path / "p.toml"))
    assert (code, "did you mean 'partitions'" in said) == (78, True), said


@pytest.mark.parametrize("command", ["run", "train", "check"])
def test_a_folder_that_is_not_there_or_holds_no_files_is_told(
    command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    code, said = call(monkeypatch, capfd, *arguments(command, tmp_path / "nosuch", tmp_path / "store"))
    assert (code, "nosuch does not exist" in said) == (65, True), said
    (tmp_path / "bare").mkdir()
    code, said = call(monkeypatch, capfd, *arguments(command, tmp_path / "bare", tmp_path / "store"))
    assert (code, "holds no file named .csv" in said) == (65, True), said


@pytest.mark.parametrize("file", ["historian.db", "log.db"])
def test_a_database_of_garbage_is_told_with_the_mend(
    file: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    words = arguments("run", write(tmp_path / "data", HEADER + rows()), tmp_path / "store")
    (tmp_path / "store").mkdir()
    (tmp_path / "store" / file).write_bytes(RNG.bytes(100_000))
    code, said = call(monkeypatch, capfd, *words)
    assert code == 74
    assert "is damaged" in said
    assert "move the file" in said


@pytest.mark.slow
def test_a_database_that_another_program_holds_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    words = arguments("run", write(tmp_path / "data", HEADER + rows()), tmp_path / "store")
    assert call(monkeypatch, capfd, *words)[0] == 0
    holder = sqlite3.connect(tmp_path / "store" / "historian.db", isolation_level=None)
    holder.execute("BEGIN EXCLUSIVE")
    try:
        code, said = call(monkeypatch, capfd, *words)
    finally:
        holder.close()
    assert code == 74
    assert "locked" in said


# ---------------------------------------------------------------------------------------------------------- processes


def wait_for(path: Path, process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 60
    while not path.exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.1)


def slowly(data: Path, store: Path) -> list[str]:
    return ["run", "--data", str(data), "--data-dir", str(store), "--no-dashboard", "--no-train", "--speed", "60"]


@pytest.mark.slow
def test_a_second_run_on_a_folder_is_refused_and_the_first_stops_cleanly_on_sigterm(tmp_path: Path) -> None:
    data, store = write(tmp_path / "data", HEADER + rows(0, 900)), tmp_path / "store"
    first = start(*slowly(data, store))
    wait_for(store / "source.json", first)
    code, said = finish(start(*arguments("run", data, store)))
    assert code == 74
    assert f"already runs on {store} (process {first.pid})" in said
    first.send_signal(signal.SIGTERM)
    code, said = finish(first)
    assert code == 0
    assert "readings taken in" in said
    code, said = finish(start(*arguments("run", data, store)))
    assert code == 0
    assert stored(store) == 1800


@pytest.mark.slow
def test_a_data_folder_deleted_while_running_ends_the_run_with_a_word(tmp_path: Path) -> None:
    data, store = write(tmp_path / "data", HEADER + rows()), tmp_path / "store"
    process = start("run", "--data", str(data), "--data-dir", str(store), "--no-dashboard", "--no-train")
    wait_for(store / "source.json", process)
    shutil.rmtree(store, ignore_errors=True)
    code, said = finish(process)
    assert code == 74
    assert "was deleted or replaced" in said or "cannot be written" in said


def test_a_log_line_that_finds_no_room_harms_nobody_and_waiting_is_told(capfd: pytest.CaptureFixture[str]) -> None:
    """A full disk must not end the services that wait for room on it."""
    quiet_logs(Path("/dev/full"), "info")
    for _ in range(3):
        structlog.get_logger().warning("session_ended", service="record", reason="no space is left")
    assert capfd.readouterr().err == "record waits and tries again: no space is left\n"


# -------------------------------------------------------------------------------------------------- the environment


def bootstrap(folder: Path, python: str, **environment: str) -> tuple[int, str]:
    """`scripts/bootstrap` where `python3` is the script given (none if empty), without uv, by somebody not root."""
    tools = folder / "bin"
    tools.mkdir(parents=True)
    (folder / "scripts").mkdir()
    shutil.copy(ROOT / "scripts" / "bootstrap", folder / "scripts")
    for name in ("bash", "dirname", "rm", "df", "awk"):
        (tools / name).symlink_to(shutil.which(name) or name)
    for name, script in (("python3", python), ("id", "echo 1000")):
        if script:
            (tools / name).write_text(f"#!{shutil.which('bash')}\n{script}\n")
            (tools / name).chmod(0o755)
    done = subprocess.run(
        [str(tools / "bash"), "scripts/bootstrap"],
        cwd=folder,
        env={"PATH": str(tools), **environment},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    return done.returncode, done.stderr


def test_a_python_too_old_or_missing_is_told_with_how_to_get_another(tmp_path: Path) -> None:
    old = '[ "$1" = --version ] && { echo Python 3.10.2; exit; }; exit 1'
    code, said = bootstrap(tmp_path / "old", old)
    assert code == 1
    assert "found Python 3.10.2, expected Python 3.11, 3.12 or 3.13" in said
    code, said = bootstrap(tmp_path / "none", "")
    assert code == 1
    assert said.startswith("plantwatch: found no python3, expected")
    code, said = bootstrap(tmp_path / "named", "exit 0", PLANTWATCH_PYTHON="/no/such")
    assert code == 1
    assert "PLANTWATCH_PYTHON=/no/such is not a Python 3.11" in said


def test_a_python_without_pip_and_venv_is_told_which_package_brings_them(tmp_path: Path) -> None:
    bare = 'case "$1" in -c) case "$2" in *executable*) echo "$0";; esac;; *) exit 1;; esac'
    code, said = bootstrap(tmp_path, bare)
    assert code == 1
    assert "neither pip nor venv" in said
    assert "apt-get install python3-venv" in said
