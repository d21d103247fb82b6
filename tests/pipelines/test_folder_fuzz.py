"""Whatever a file holds, it ends as readings or as a DataError: never as another exception."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from anomaly.errors import DataError
from pipelines.discovery import discover_plant
from pipelines.sources.folder import Folder

TIMES = [
    "2026-11-21T01:02:0{}Z", "2026-11-21 01:02:0{}", "21.11.2026 01:02:0{}", "0{}/02/2026 00:00", "20261121 01020{}",
    "179522292{}", "{}", "2026-11-2{}", "2{}-Nov-26 1:02 pm", "2026-10-25 02:3{}:00", "2026-03-29 02:3{}:00",
    "1.79522292{}e9", "9999-01-01T00:00:0{}Z", "1795222923.{}",
]  # fmt: skip
TAME = st.sampled_from(
    ["x", "y", "1", "2.5", "1,5", "-3e4", "1e999", "NaN", "inf", "true", "0x1", "1.234,5", "Good", ""]
)
NASTY = st.one_of(
    st.sampled_from(
        [" ", "2026-11-21 01:02:03", "11/21/26 1:02:03 pm", '"', '"a\nb"', "°C", "\0", "99999999999999999999"]
    ),
    st.text(max_size=5),
    st.floats().map(str),
    st.integers().map(str),
)


@st.composite
def tables(draw: st.DrawFn) -> bytes:
    """Noise, or a table of some separator with a header that may make sense."""
    if draw(st.integers(0, 9)) == 0:
        return draw(st.binary(max_size=100))
    separator = draw(st.sampled_from(",;\t|"))
    headers = (
        ["time", "x", "y"],
        ["time", "tag", "value"],
        ["date", "time", "x"],
        ["time", "machine", "x"],
        ["", "a", "b"],
    )
    header = draw(st.sampled_from(headers))
    time = draw(st.sampled_from(TIMES))
    rows = [[draw(TAME) for _ in header[1:]] for _ in range(draw(st.integers(0, 9)))]
    table = [header, *([time.format(draw(st.integers(0, 9))), *row] for row in rows)]
    for _ in range(draw(st.sampled_from([0, 0, 1, 2]))):
        row = draw(st.integers(0, len(table) - 1))
        table[row] = [*table[row]]
        table[row][draw(st.integers(0, len(table[row]) - 1))] = draw(NASTY)
    lines = [separator.join(row) for row in table]
    text = draw(st.sampled_from(["\n", "\r\n", "\n", "\r"])).join(lines) + draw(st.sampled_from(["", "\n", separator]))
    encoding = draw(st.sampled_from(["utf-8", "utf-8-sig", "latin-1"]))
    return text.encode(encoding, "replace")


reached: list[bytes] = []
"""Files that became a plant: the fuzz must not end at the door."""


def _check(content: bytes, timezone: str | None, day_first: bool | None) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "file.csv"
        path.write_bytes(content)
        source = Folder(path, timezone=timezone, day_first=day_first)
        try:
            blocks = list(source.blocks())
            source.notes()
            for block in blocks:
                assert block.values.shape == block.quality.shape == (len(block.times), len(block.tags))
                assert np.array_equal(np.isfinite(block.values), block.quality < 2)
                assert block.asset
                assert (np.diff(block.times) >= 0).all() or len(blocks) > 1
            discover_plant(blocks)
            reached.append(content)
        except DataError as error:
            assert str(error)  # noqa: PT017  # either outcome is right


ZONES = st.sampled_from([None, "UTC", "Europe/Berlin"])
ORDERS = st.sampled_from([None, True, False])


@settings(max_examples=60, deadline=None)
@given(tables(), ZONES, ORDERS)
def test_any_file_is_readings_or_a_data_error(content: bytes, timezone: str | None, day_first: bool | None) -> None:
    _check(content, timezone, day_first)


@pytest.mark.slow
def test_thousands_of_files_are_readings_or_a_data_error_and_many_are_readings() -> None:
    @settings(max_examples=3_000, deadline=None, suppress_health_check=list(HealthCheck))
    @given(tables(), ZONES, ORDERS)
    def each(content: bytes, timezone: str | None, day_first: bool | None) -> None:
        _check(content, timezone, day_first)

    reached.clear()
    each()
    assert len(reached) > 100
