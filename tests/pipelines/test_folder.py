"""Files of every make become readings, and what cannot be read is refused with the mend."""

from __future__ import annotations

import os
import tracemalloc
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from anomaly.domain import SECOND, Quality, Readings
from anomaly.errors import ConfigurationError, DataError
from pipelines.discovery import discover_plant
from pipelines.sources import csv_lines, folder
from pipelines.sources.folder import Folder

GOOD, BAD, MISSING = int(Quality.GOOD), int(Quality.BAD), int(Quality.MISSING)


def _ns(text: str) -> int:
    return int(datetime.fromisoformat(text).timestamp()) * SECOND


T0 = _ns("2026-11-21T01:02:03Z")


def _write(tmp_path: Path, text: str | bytes, name: str = "pump-1.csv") -> Path:
    path = tmp_path / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


def _read(path: Path, **options: Any) -> tuple[Readings, Folder]:
    source = Folder(path, **options)
    blocks = list(source.blocks())
    assert len(blocks) == 1
    return blocks[0], source


def _refusal(path: Path, **options: Any) -> str:
    with pytest.raises(DataError) as caught:
        list(Folder(path, **options).blocks())
    assert caught.value.exit_code == 65
    return str(caught.value)


WIDE = "timestamp,vib,temp\n2026-11-21T01:02:03Z,1.5,60\n2026-11-21T01:02:13Z,2.5,61\n"


def test_a_wide_file_is_one_row_of_readings_a_line(tmp_path: Path) -> None:
    block, source = _read(_write(tmp_path, WIDE))
    assert (block.asset, block.tags) == ("pump-1", ("vib", "temp"))
    assert block.times.tolist() == [T0, T0 + 10 * SECOND]
    assert block.values.tolist() == [[1.5, 60.0], [2.5, 61.0]]
    assert (block.quality == GOOD).all()
    assert block.quality.dtype == np.uint8
    report = source.reports[0]
    assert report.dialect == "wide, utf-8, separator comma, decimal point"
    assert (report.time_format, report.rows, report.readings) == ("ISO-8601", 2, 4)


def test_a_narrow_file_gathers_tags_by_time_and_assets_by_name(tmp_path: Path) -> None:
    text = (
        "Machine;TagName;Time;Value;Quality;Unit\n"
        "s/a/1;vib;2026-11-21T01:02:03Z;1,5;Good;mm/s\ns/a/1;temp;2026-11-21T01:02:03Z;60,0;Bad;°C\n"
        "s/a/2;vib;2026-11-21T01:02:03Z;9,5;192;mm/s\ns/a/1;vib;2026-11-21T01:02:04Z;;Good;mm/s\n"
    )
    source = Folder(_write(tmp_path, text))
    one, two = source.blocks()
    assert (one.asset, one.tags, two.asset) == ("s/a/1", ("vib", "temp"), "s/a/2")
    np.testing.assert_array_equal(one.values, [[1.5, np.nan], [np.nan, np.nan]])
    assert one.quality.tolist() == [[GOOD, BAD], [MISSING, MISSING]]
    assert source.units() == {"vib": "mm/s", "temp": "°C"}
    assert source.reports[0].dialect == "narrow, utf-8, separator semicolon, decimal comma"


def test_a_tag_that_changes_its_unit_is_refused(tmp_path: Path) -> None:
    rows = "2026-11-21T01:02:03Z,temp,60,°C\n2026-11-21T01:02:04Z,temp,140,°F\n"
    assert "'temp' comes in '°C' and in '°F'" in _refusal(_write(tmp_path, "time,tag,value,unit\n" + rows))


@pytest.mark.parametrize("separator", [",", ";", "\t", "|"])
@pytest.mark.parametrize("decimal", [".", ","])
@pytest.mark.parametrize("ending", ["\n", "\r\n"])
def test_every_separator_and_decimal_mark_is_detected(
    tmp_path: Path, separator: str, decimal: str, ending: str
) -> None:
    def cell(value: float) -> str:
        text = str(value).replace(".", decimal)
        return f'"{text}"' if decimal == separator else text

    rows = [["time", "a", "b"]] + [[f"2026-11-21 01:02:{i:02}Z", cell(i + 0.25), cell(-i)] for i in range(9)]
    text = ending.join(separator.join(map(str, row)) for row in rows) + ending
    if decimal == separator:  # quoted numbers with a comma, between commas: text, unless all agree; never wrong numbers
        block, source = _read(_write(tmp_path, text))
        assert source.reports[0].bad["a"] == 9
        return
    block, source = _read(_write(tmp_path, text))
    assert block.values.tolist() == [[i + 0.25, -i] for i in range(9)]
    names = {"\t": "tab", ";": "semicolon", ",": "comma", "|": "bar"}
    assert f"separator {names[separator]}" in source.reports[0].dialect
    assert ("decimal comma" in source.reports[0].dialect) == (decimal == ",")


@pytest.mark.parametrize(
    ("encoding", "reported"),
    [("utf-8", "utf-8"), ("utf-8-sig", "utf-8-sig"), ("latin-1", "latin-1"), ("cp1252", "latin-1")],
)
def test_encodings_are_detected_and_reported(tmp_path: Path, encoding: str, reported: str) -> None:
    text = WIDE.replace("temp", "Temp [°C]").replace("timestamp", "Zeitstempel")
    block, source = _read(_write(tmp_path, text.encode(encoding)))
    assert block.tags == ("vib", "Temp [°C]")
    assert f", {reported}," in source.reports[0].dialect


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-32"])
def test_a_wrong_encoding_is_refused_by_name(tmp_path: Path, encoding: str) -> None:
    assert "UTF-16 or no text" in _refusal(_write(tmp_path, WIDE.encode(encoding)))


# --- times ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("first", "second", "options"),
    [
        ("2026-11-21T01:02:03Z", "2026-11-21T01:02:04Z", {}),
        ("2026-11-21 02:02:03+01:00", "2026-11-21 02:02:04+01:00", {}),
        ("2026-11-21T01:02:03.000+00:00", "2026-11-21T02:02:04.000+01:00", {}),
        ("2026-11-21 02:02:03", "2026-11-21 02:02:04", {"timezone": "Europe/Berlin"}),
        ("21.11.2026 02:02:03", "21.11.2026 02:02:04", {"timezone": "Europe/Berlin"}),
        ("21/11/2026 01:02:03", "21/11/2026 01:02:04", {"timezone": "UTC"}),
        ("11/21/2026 01:02:03 AM", "11/21/2026 01:02:04 AM", {"timezone": "UTC"}),
        ("11/21/26 1:02:03 am", "11/21/26 1:02:04 am", {"timezone": "UTC"}),
        ("21-Nov-2026 01:02:03 UTC", "21-Nov-2026 01:02:04 UTC", {}),
        ("2026/11/21 01:02:03.000 +0000", "2026/11/21 01:02:04.000 +0000", {}),
        ("20261121010203", "20261121010204", {"timezone": "UTC"}),
        (str(T0 // SECOND), str(T0 // SECOND + 1), {}),
        (str(T0 // 10**6), str(T0 // 10**6 + 1000), {}),
        (str(T0), str(T0 + SECOND), {}),
        (f"{T0 // SECOND}.0", f"{T0 // SECOND}.9999", {}),
    ],
)
def test_any_format_of_time_is_read(tmp_path: Path, first: str, second: str, options: dict[str, str]) -> None:
    block, _ = _read(_write(tmp_path, f"timestamp;x\n{first};1\n{second};2\n"), **options)
    assert block.times[0] == T0
    assert abs(int(block.times[1]) - T0 - SECOND) <= 10**8 + 10**6


def test_a_date_and_a_clock_in_two_columns_are_one_time(tmp_path: Path) -> None:
    block, _ = _read(_write(tmp_path, "Datum;Uhrzeit;x\n21.11.2026;01:02:03;5\n"), timezone="UTC")
    assert (block.times.tolist(), block.tags) == ([T0], ("x",))


def test_naive_times_are_refused_with_the_mend(tmp_path: Path) -> None:
    for time in ("2026-11-21 01:02:03", "21.11.2026 01:02", "20261121010203"):
        assert "has no zone; give the zone the clock showed, for example --timezone Europe/Berlin" in _refusal(
            _write(tmp_path, f"time;x\n{time};1\n")
        )


def test_zones_in_some_rows_only_are_refused_and_several_offsets_are_one_instant(tmp_path: Path) -> None:
    mixed = "time,x\n2026-11-21T01:02:03Z,1\n2026-11-21T01:02:04,1\n"
    assert "line 3" in _refusal(_write(tmp_path, mixed), timezone="UTC")
    mixed = "time,x\n2026/11/21 01:02:03Z,1\n2026/11/21 01:02:04,1\n"
    assert "one with a zone, one without" in _refusal(_write(tmp_path, mixed), timezone="UTC")
    block, _ = _read(_write(tmp_path, "time,x\n2026-11-21T01:02:03Z,1\n2026-11-21T02:02:04+01:00,1\n"))
    assert block.times.tolist() == [T0, T0 + SECOND]


def test_the_hour_that_comes_twice_goes_by_order(tmp_path: Path) -> None:
    clock = ["02:15", "02:45", "02:15", "02:45", "03:15"]
    text = "time,x\n" + "".join(f"2026-10-25 {time}:00,1\n" for time in clock)
    block, _ = _read(_write(tmp_path, text), timezone="Europe/Berlin")
    assert np.diff(block.times).tolist() == [1800 * SECOND] * 4


def test_day_and_month_are_decided_by_the_data_or_refused(tmp_path: Path) -> None:
    def month(dates: Sequence[str], **options: Any) -> int:
        text = "time;x\n" + "".join(f"{date} 00:00:00;1\n" for date in dates)
        block, _ = _read(_write(tmp_path, text), timezone="UTC", **options)
        return datetime.fromtimestamp(int(block.times.min()) // SECOND, UTC).month

    assert month(["01/02/2026", "13/02/2026"]) == 2
    assert month(["01/02/2026", "01/13/2026"]) == 1
    assert month(["03/02/2026", "04/02/2026", "05/02/2026"]) == 2
    assert month(["02/03/2026", "02/04/2026", "02/05/2026"]) == 2
    assert month(["01.02.2026"]) == 2
    assert month(["01/02/2026"], day_first=False) == 1
    assert "day or month first?" in _refusal(_write(tmp_path, "time;x\n01/02/2026 00:00;1\n"), timezone="UTC")


@pytest.mark.parametrize(
    "time", ["31.02.2026 00:00", "soon", "2026-13-01T00:00:00Z", "", "9999-01-01T00:00:00Z", "1e400"]
)
def test_what_is_no_time_is_refused_with_its_line(tmp_path: Path, time: str) -> None:
    told = _refusal(_write(tmp_path, f"timestamp;x\n21.11.2026 01:02Z;1\n{time};1\n"), timezone="UTC")
    assert "line 3" in told or "outside the years" in told or "line 2" in told


def test_an_unknown_zone_is_refused_before_anything_is_read(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="did you mean 'Europe/Berlin'"):
        Folder(tmp_path, timezone="Europe/Berln")


# --- cells ---------------------------------------------------------------------------------------------------------


def test_text_nan_and_infinity_are_bad_readings_empty_cells_are_none_and_both_are_counted(tmp_path: Path) -> None:
    cells = ["1", "NaN", "", "inf", "-Infinity", "1e999", "off", "true", "1_000", "0x10", "1,5", " 2 "]
    text = "time;x\n" + "".join(f"{T0 + i};{cell}\n" for i, cell in enumerate(cells))
    block, source = _read(_write(tmp_path, text.replace("1,5", "n/a")))
    expected = [GOOD, BAD, MISSING, BAD, BAD, BAD, BAD, GOOD, BAD, BAD, BAD, GOOD]
    assert block.quality[:, 0].tolist() == expected
    assert np.array_equal(np.isfinite(block.values[:, 0]), np.array(expected) == GOOD)
    assert source.reports[0].bad["x"] == 8
    assert any("8 cells of 'x' are no numbers" in note for note in source.notes())


def test_numbers_are_read_to_the_last_bit(tmp_path: Path) -> None:
    values = np.random.default_rng(0).normal(size=200) * 10.0 ** np.arange(-100, 100)
    text = "time,x\n" + "".join(f"{T0 + i},{value!r}\n" for i, value in enumerate(values.tolist()))
    block, _ = _read(_write(tmp_path, text))
    np.testing.assert_array_equal(block.values[:, 0], values)


def test_columns_that_tell_the_truth_are_no_tags_unless_asked_for(tmp_path: Path) -> None:
    path = _write(tmp_path, WIDE.replace("temp", "anomaly"))
    assert _read(path)[0].tags == ("vib",)
    assert _read(path, ignore=())[0].tags == ("vib", "anomaly")
    assert "no sensors" in _refusal(path, ignore=("vib", "anomaly"))


# --- bad input of every kind ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "is empty"),
        ("\n\n", "is empty"),
        ("\ufeff", "is empty"),
        ("timestamp,vib\n", "has a header (timestamp, vib) and no rows"),
        ("timestamp,vib\n,\n,\n", "every cell is empty"),
        ("timestamp\n2026-11-21T01:02:03Z\n", "no separator found"),
        ("a,b\nx,1\n", "is a time; expected a column named `timestamp`"),
        ("time,x,x\n1,2,3\n", "the column 'x' comes 2 times"),
        ("time,,x\n1,2,3\n", "column 2 is named ''"),
        ("1700000000,2,3\n1700000001,3,4\n", "has no header"),
        ("time,x\n1700000000,2\n1700000001,2,3,4\n", "more fields than the header's 2 columns"),
        ("time,x\n1700000000,2,3\n1700000001,2,3\n", "more fields than the header's 2 columns"),
        ("time,tag,value\n1700000000,,3\n", "line 2 names the tag ''"),
        ('time,x\n1700000000,"2\n' + "1700000000,2\n" * 5, "a quote is opened from line 2 on and never closed"),
    ],
)
def test_a_file_that_is_no_table_is_refused_clearly(tmp_path: Path, text: str, told: str) -> None:
    path = _write(tmp_path, text)
    message = _refusal(path)
    assert told in message
    assert "pump-1.csv" in message


def test_a_separator_at_the_end_of_lines_and_blank_lines_do_no_harm(tmp_path: Path) -> None:
    block, _ = _read(_write(tmp_path, f"\ntime;x;\n{T0};1;\n\n{T0 + 1};2;\n;;\n\n"))
    assert block.values.tolist() == [[1.0], [2.0]]


def test_one_row_and_constant_columns_are_read(tmp_path: Path) -> None:
    block, _ = _read(_write(tmp_path, "timestamp,vib\n2026-11-21T01:02:03Z,1.5\n"))
    assert len(block) == 1
    assert (_read(_write(tmp_path, "time,x\n" + f"{T0},3\n" * 50))[0].values == 3).all()


def test_duplicate_and_backward_times_are_put_in_order_counted_and_told(tmp_path: Path) -> None:
    times = [0, 2, 1, 1, 3]
    path = _write(tmp_path, "time,x\n" + "".join(f"{T0 + t * SECOND},{i}\n" for i, t in enumerate(times)))
    block, source = _read(path)
    assert ((block.times - T0) // SECOND).tolist() == [0, 1, 1, 2, 3]
    assert block.values[:, 0].tolist() == [0, 2, 3, 1, 4]
    assert (source.reports[0].backward, source.reports[0].duplicates) == (1, 1)
    assert any("put in order" in note for note in source.notes())


def test_a_narrow_file_written_tag_after_tag_comes_out_in_order_of_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(csv_lines, "CHUNK_BYTES", 500)
    monkeypatch.setattr(csv_lines.chunks, "__defaults__", (500,))
    rows = [f"{T0 + i * SECOND},{tag},{i}" for tag in ("a", "b", "c") for i in range(40)]
    block, source = _read(_write(tmp_path, "time,tag,value\n" + "\n".join(rows) + "\n"))
    assert (np.diff(block.times) >= 0).all()
    assert block.count == 120
    assert source.reports[0].readings == 120


def test_a_large_file_streams_in_its_own_order_and_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(folder, "ORDER_BYTES", 10)
    block, source = _read(_write(tmp_path, f"time,x\n{T0},1\n{T0 - 1},2\n"))
    assert block.times.tolist() == [T0, T0 - 1]
    assert any("too large to put in order" in note for note in source.notes())


def test_chunks_make_no_difference(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(1)
    text = "time;x;y\n" + "".join(f"{T0 + i};{rng.normal():.6f};{'' if i % 3 else i}\n" for i in range(500))
    path = _write(tmp_path, text)
    whole, _ = _read(path)
    monkeypatch.setattr(csv_lines.chunks, "__defaults__", (700,))
    parts = list(Folder(path).blocks())
    assert len(parts) > 5
    for name in ("times", "values", "quality"):
        np.testing.assert_array_equal(np.concatenate([getattr(part, name) for part in parts]), getattr(whole, name))


def test_ten_thousand_columns_are_read_and_more_are_refused(tmp_path: Path) -> None:
    def table(columns: int) -> str:
        header = "time," + ",".join(f"t{i}" for i in range(columns))
        return header + "\n" + "".join(f"{T0 + i}," + ",".join(["1.5"] * columns) + "\n" for i in range(3))

    block, _ = _read(_write(tmp_path, table(9_999)))
    assert block.values.shape == (3, 9_999)
    assert "10001 tags, at most 10000" in _refusal(_write(tmp_path, table(10_001)))


@pytest.mark.parametrize("start", ["time,x\n1700000000,1\n", ""])
def test_a_line_of_a_gigabyte_is_refused_without_reading_it(tmp_path: Path, start: str) -> None:
    path = _write(tmp_path, start)
    with path.open("ab") as file:
        file.truncate(1 << 30)
    tracemalloc.start()
    told = _refusal(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert "line" in told
    assert "16 MiB" in told
    assert peak < 100 << 20


def test_a_quoted_cell_that_never_ends_is_refused_when_it_is_too_long(tmp_path: Path) -> None:
    path = _write(tmp_path, b'time,x\n1700000000,"' + (b"1" * 999 + b"\n") * (24 << 10))
    assert "quoted cell that does not end" in _refusal(path)


def test_a_disk_that_fails_is_told_as_such(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = _write(tmp_path, WIDE)

    def broken(*_: object, **__: object) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(Path, "open", broken)
    assert "pump-1.csv cannot be read: Input/output error" in _refusal(path)


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_a_file_without_rights_is_told(tmp_path: Path) -> None:
    path = _write(tmp_path, WIDE)
    path.chmod(0)
    assert "Permission denied" in _refusal(path)


# --- folders -------------------------------------------------------------------------------------------------------


def test_the_files_of_an_asset_follow_in_order_of_time_whatever_they_are_called(tmp_path: Path) -> None:
    for name, day in (("valve/10.csv", 1), ("valve/2.csv", 3), ("valve/b.csv", 2), ("s/l/pump_2026-02.csv", 9)):
        _write(tmp_path, f"time,x\n2026-01-0{day}T00:00:00Z,{day}\n", name)
    _write(tmp_path, "", "valve/11.csv")
    _write(tmp_path, "no table", ".hidden.csv")
    _write(tmp_path, "no table", "README.md")
    source = Folder(tmp_path, asset=None)
    found = [(block.asset, block.values[0, 0]) for block in source.blocks()]
    assert found == [("s/l/pump", 9.0), ("valve", 1.0), ("valve", 3.0), ("valve/b", 2.0)]
    assert any("11.csv" in note and "is empty" in note for note in source.notes())
    assert {block.asset for block in Folder(tmp_path, asset="one").blocks()} == {"one"}


def test_a_column_may_name_the_asset(tmp_path: Path) -> None:
    rows = f"{T0},s/1,5\n{T0},s/2,6\n{T0 + 1},s/1,7\n{T0 + 1},,8\n"
    found = {b.asset: b.values[:, 0].tolist() for b in Folder(_write(tmp_path, "time,machine,x\n" + rows)).blocks()}
    assert found == {"s/1": [5.0, 7.0], "s/2": [6.0], "pump-1": [8.0]}


def test_tags_that_appear_or_vanish_between_files_are_told(tmp_path: Path) -> None:
    _write(tmp_path, f"time,a,b\n{T0},1,2\n", "p/1.csv")
    _write(tmp_path, f"time,b,c\n{T0 + 1},1,2\n", "p/2.csv")
    source = Folder(tmp_path)
    assert [block.tags for block in source.blocks()] == [("a", "b"), ("b", "c")]
    assert source.tags() == {"p": ("a", "b", "c")}
    assert any("1.csv: p has no c" in note for note in source.notes())
    assert any("2.csv: p has no a" in note for note in source.notes())


def test_a_folder_without_files_and_one_that_is_not_there_are_refused(tmp_path: Path) -> None:
    assert "holds no file named .csv" in _refusal(tmp_path)
    assert "does not exist" in _refusal(tmp_path / "none")
    _write(tmp_path, "")
    assert "is empty" in _refusal(tmp_path)


# --- Parquet -------------------------------------------------------------------------------------------------------


def _parquet(tmp_path: Path, frame: pd.DataFrame, name: str = "pump-1.parquet") -> Path:
    frame.to_parquet(tmp_path / name, index=False)
    return tmp_path / name


@pytest.mark.parametrize("zone", ["UTC", "Europe/Berlin", None])
@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
def test_parquet_is_read_like_csv(tmp_path: Path, zone: str | None, unit: str) -> None:
    times = pd.DatetimeIndex(pd.to_datetime([T0, T0 + SECOND])).tz_localize("UTC").tz_convert(zone).as_unit(unit)  # type: ignore[arg-type]
    frame = pd.DataFrame({"x": [1.5, None], "when": times, "n": [1, 2], "on": [True, False], "w": ["a", None]})
    path = _parquet(tmp_path, frame)
    block, source = _read(path, **({} if zone else {"timezone": "UTC"}))
    assert block.tags == ("x", "n", "on", "w")
    assert block.times.tolist() == [T0, T0 + SECOND]
    np.testing.assert_array_equal(block.values, [[1.5, 1, 1, np.nan], [np.nan, 2, 0, np.nan]])
    assert block.quality.tolist() == [[GOOD, GOOD, GOOD, BAD], [MISSING, GOOD, GOOD, MISSING]]
    assert source.reports[0].dialect == "wide, Parquet"
    if zone is None:
        assert "no zone" in _refusal(path)


def test_damaged_and_empty_parquet_files_are_refused(tmp_path: Path) -> None:
    path = _parquet(tmp_path, pd.DataFrame({"time": [T0], "x": [1.0]}))
    assert _read(path)[0].times.tolist() == [T0]
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    assert "damaged" in _refusal(path)
    path.write_bytes(b"")
    assert "damaged" in _refusal(path)
    assert "no rows" in _refusal(_parquet(tmp_path, pd.DataFrame({"time": [T0], "x": [1.0]})[:0]))


def test_every_single_damage_to_a_parquet_file_is_readings_or_a_data_error(tmp_path: Path) -> None:
    content = _parquet(tmp_path, pd.DataFrame({"time": [T0, T0 + 1], "x": [1.0, 2.0]})).read_bytes()
    rng = np.random.default_rng(0)
    for place in rng.choice(len(content), 150, replace=False):
        damaged = bytearray(content)
        damaged[place] ^= 1 << int(rng.integers(8))
        try:
            list(Folder(_write(tmp_path, bytes(damaged), "d.parquet")).blocks())
        except DataError as error:
            assert str(error)  # noqa: PT017  # either outcome is right


# --- discovery -----------------------------------------------------------------------------------------------------


def _file(step: float, columns: str = "vib [mm/s],temp", rows: int = 20) -> str:
    lines = (f"{T0 + round(i * step * SECOND)},{i % 7},{60 + i}\n" for i in range(rows))
    return f"time,{columns}\n" + "".join(lines)


def test_a_plant_is_discovered_from_its_files(tmp_path: Path) -> None:
    for name, text in (
        ("pump-101", _file(10)),
        ("pump-102", _file(10.02)),
        ("pump-103", _file(60)),
        ("fan-1", _file(1, "current,speed")),
    ):
        _write(tmp_path, text, f"s/{name}.csv")
    plant = discover_plant(Folder(tmp_path).blocks(), name="Works", timezone="Europe/Berlin").plant
    assert (plant.name, plant.timezone) == ("Works", "Europe/Berlin")
    assert {asset.path: (asset.group, asset.tick // SECOND) for asset in plant.assets} == {
        "s/fan-1": ("fan", 1),
        "s/pump-101": ("pump", 10),
        "s/pump-102": ("pump", 10),
        "s/pump-103": ("pump-2", 60),
    }
    assert plant.assets[1].tags[0].unit == "mm/s"


def test_dead_tags_are_left_out_constant_ones_are_named_and_gaps_do_not_move_the_tick(tmp_path: Path) -> None:
    rows = "".join(f"{T0 + (i + 500 * (i > 30)) * SECOND},{i},5,\n" for i in range(60))
    found = discover_plant(Folder(_write(tmp_path, "time,a,b,c\n" + rows)).blocks())
    (asset,) = found.plant.assets
    assert asset.signals == ("a", "b")
    assert asset.tick == SECOND
    assert any("c without a single number" in note for note in found.notes)
    assert any("b always at one value" in note for note in found.notes)


def test_tags_that_come_one_after_the_other_have_the_tick_of_each(tmp_path: Path) -> None:
    rows = "".join(f"{T0 + i * SECOND},{'ab'[i % 2]},{i}\n" for i in range(100))
    (asset,) = discover_plant(Folder(_write(tmp_path, "time,tag,value\n" + rows)).blocks()).plant.assets
    assert asset.tick == 2 * SECOND


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("time,x\n1700000000,1\n", "has one row"),
        ("time,x\n1700000000,1\n1700000000,2\n", "has one row"),
        ("time,x\n1700000000,\n1700000001,\n", "has a single number"),
        ("time,x\n1700000000,a\n1700000001,b\n", "has a single number"),
    ],
)
def test_data_from_which_no_plant_follows_are_refused(tmp_path: Path, text: str, told: str) -> None:
    with pytest.raises(DataError, match=told):
        discover_plant(Folder(_write(tmp_path, text)).blocks())
    with pytest.raises(DataError, match="nothing to discover"):
        discover_plant([])


def test_a_given_tick_is_taken(tmp_path: Path) -> None:
    path = _write(tmp_path, "time,x\n1700000000,1\n")
    assert discover_plant(Folder(path).blocks(), tick=7).plant.assets[0].tick == 7
