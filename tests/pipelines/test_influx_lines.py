"""Line protocol as we make it, read by a parser of its own: every value, quality and name survives."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from anomaly.domain import Quality, Readings, Rung, Scores, State
from pipelines.adapters.influx_lines import BAD, DOUBTFUL, UNCERTAIN, VALUE, reading_lines
from pipelines.adapters.influx_names import flux, key, natural, original, stored, text
from pipelines.adapters.influx_result_lines import event_lines, heartbeat_line, read_scores, score_lines
from pipelines.adapters.influx_writing import BYTES, LINES, chunks
from pipelines.adapters.memory import MemoryHistorian

NAN = float("nan")
Fields = dict[str, Any]

_NAMES = st.text(
    st.characters(codec="utf-8", exclude_categories=["Cs"]) | st.sampled_from('\\ ,="%#\n\t${}é℃2F'),
    min_size=1,
    max_size=12,
)


def parsed(line: str) -> tuple[str, dict[str, str], Fields, int]:
    """Measurement, tags, fields and time of one line, by the rules of line protocol."""
    head, fields, time = re.fullmatch(
        r"((?:\\.|[^ \\])+) ((?:\\.|\"(?:\\.|[^\"\\])*\"|[^ \"\\])+) (-?\d+)", line
    ).groups()  # type: ignore[union-attr]
    measurement, *tags = re.split(r"(?<!\\),", head)
    cells = re.findall(r'((?:\\.|[^=,\\])+)=("(?:\\.|[^"\\])*"|[^,]+)(?:,|$)', fields)
    return (
        measurement,
        {bare(name): bare(value) for name, value in (re.split(r"(?<!\\)=", tag) for tag in tags)},
        {bare(name): re.sub(r"\\(.)", r"\1", cell[1:-1]) if cell[0] == '"' else float(cell) for name, cell in cells},
        int(time),
    )


def bare(escaped: str) -> str:
    assert escaped
    return re.sub(r"\\([,= ])", r"\1", escaped)


def block(
    times: list[int],
    values: list[list[float]],
    quality: list[list[int]] | None = None,
    tags: str = "ab",
    asset: str = "s1/p",
) -> Readings:
    cells = np.array(values, dtype=np.float64).reshape(len(times), len(tags))
    marks = np.zeros(cells.shape, dtype=np.uint8) if quality is None else np.array(quality, dtype=np.uint8)
    return Readings(asset, tuple(tags), np.array(times, dtype=np.int64), cells, marks.reshape(cells.shape))


@given(_NAMES)
def test_any_name_can_be_stored_and_comes_back(name: str) -> None:
    assert original(stored(name)) == name
    assert not re.search(r"[\\\x00-\x1f]", stored(name))
    assert bare(key(name)) == stored(name)


@given(st.text(max_size=30))
def test_no_name_gets_out_of_its_flux_literal(name: str) -> None:
    literal = flux(name)
    inner = re.sub(r"\\.", "", literal[1:-1])
    assert '"' not in inner
    assert "${" not in re.sub(r"\\\\", "", literal).replace("\\${", "")
    assert "\n" not in literal


def test_a_row_is_one_line_of_floats_with_the_site_as_a_tag() -> None:
    (line,) = reading_lines([block([1_795_222_923_250_000_007], [[5, 0.1 + 0.2]], asset="s1/l 1/p=1,x")])
    assert line == r"sample,site=s1,asset=s1/l\ 1/p\=1\,x v.a=5.0,v.b=0.30000000000000004 1795222923250000007"


@pytest.mark.parametrize("asset", ["p", "/p", "//s/p", "p/"])
def test_no_tag_is_ever_empty(asset: str) -> None:
    _, tags, _, _ = parsed(reading_lines([block([1], [[1.0, 2.0]], asset=asset)])[0])
    assert all(tags.values())
    assert original(tags["asset"]) == asset


def test_names_that_influx_keeps_for_itself_are_ordinary_here() -> None:
    tags = ("time", "_time", "_value", "site", "asset", "_field", "a,b", "c=d", "e f", "g\\", "%s %d", "é", "v.x")
    (line,) = reading_lines([Readings("p", tags, np.array([1]), np.ones((1, 13)), np.zeros((1, 13), np.uint8))])
    _, _, fields, _ = parsed(line)
    assert {original(name.removeprefix(VALUE)) for name in fields} == set(tags)
    assert not {"time", "_time", "site", "asset"} & set(fields)


def test_bad_is_marked_uncertain_keeps_its_value_and_missing_is_left_out() -> None:
    rows = block([1, 2], [[1.0, NAN], [NAN, 7.0]], [[Quality.UNCERTAIN, Quality.MISSING], [Quality.BAD, Quality.GOOD]])
    first, second = (parsed(line)[2] for line in sorted(reading_lines([rows]), key=lambda line: line[-1]))
    assert first == {"v.a": UNCERTAIN, "u.a": 1.0}
    assert second == {"v.a": BAD, "v.b": 7.0}


def test_what_is_no_finite_number_is_bad_whatever_it_says() -> None:
    rows = block([1, 2, 3], [[NAN, float("inf")], [1.0, 2.0], [float("-inf"), 0.5]])
    told = {time: fields for _, _, fields, time in map(parsed, reading_lines([rows]))}
    assert told == {1: {"v.a": BAD, "v.b": BAD}, 2: {"v.a": 1.0, "v.b": 2.0}, 3: {"v.a": BAD, "v.b": 0.5}}


def test_rows_without_a_reading_and_blocks_without_rows_give_no_line() -> None:
    assert reading_lines([block([], []), block([1], [[NAN, NAN]], [[3, 3]])]) == []
    assert reading_lines([Readings("p", (), np.array([1]), np.zeros((1, 0)), np.zeros((1, 0), np.uint8))]) == []


_CELLS = st.tuples(st.sampled_from([0.0, -0.0, 1.5, 1e300, 5e-324, -2.25, NAN]), st.sampled_from([0, 1, 2, 3]))


@st.composite
def _blocks(draw: st.DrawFn) -> list[tuple[str, str, list[int], list[list[tuple[float, int]]]]]:
    made = []
    for _ in range(draw(st.integers(0, 4))):
        tags = "".join(draw(st.lists(st.sampled_from("abc"), min_size=1, max_size=3, unique=True)))
        times = draw(st.lists(st.integers(0, 4), max_size=5))
        made.append((draw(st.sampled_from(["x", "y/z"])), tags, times, [[draw(_CELLS) for _ in tags] for _ in times]))
    return made


@given(raws=_blocks())
def test_lines_hold_what_the_twin_in_memory_holds(
    raws: list[tuple[str, str, list[int], list[list[tuple[float, int]]]]],
) -> None:
    blocks = [believed(asset, tags, times, cells) for asset, tags, times, cells in raws]
    twin = MemoryHistorian()
    twin.write(blocks)
    lines = reading_lines(blocks)
    points = [(tags["asset"], time) for _, tags, _, time in map(parsed, lines)]
    assert len(points) == len(set(points))
    found = {
        (tags["asset"], time, name): value
        for _, tags, fields, time in map(parsed, lines)
        for name, value in fields.items()
    }
    for asset in twin.assets():
        rows = twin.readings(asset, 0, 10)
        for i, time in enumerate(rows.times.tolist()):
            for j, tag in enumerate(rows.tags):
                assert_cell(found, (asset, time, tag), rows.values[i, j], rows.quality[i, j])


def believed(asset: str, tags: str, times: list[int], cells: list[list[tuple[float, int]]]) -> Readings:
    """As decoding makes blocks: NaN where bad or missing, and nowhere else."""
    quality = [[max(mark, 2) if np.isnan(value) else mark for value, mark in row] for row in cells]
    values = [
        [NAN if mark >= 2 else value for (value, _), mark in zip(*pair, strict=True)]
        for pair in zip(cells, quality, strict=True)
    ]
    return block(times, values, quality, tags, asset)


def assert_cell(found: dict[tuple[str, int, str], float], at: tuple[str, int, str], value: float, quality: int) -> None:
    asset, time, tag = at
    marked = found.get((asset, time, VALUE + tag))
    expected = {0: value, 1: UNCERTAIN, 2: BAD, 3: None}[int(quality)]
    assert marked == expected
    if quality == Quality.UNCERTAIN:
        assert found[asset, time, DOUBTFUL + tag] == value


def test_long_writes_are_cut_into_requests_of_bounded_lines_and_size() -> None:
    lines = ["x" * 10_000] * 12_345
    parts = chunks(lines)
    assert sum(map(len, parts)) == len(lines)
    assert all(len(part) <= LINES and sum(map(len, part)) < 1.1 * BYTES for part in parts)
    assert chunks([]) == []


def scores(score: list[float], states: list[State], tags: tuple[str, ...] = ("a b", "c,d", "e")) -> Scores:
    rows, shape = len(score), (len(score), len(tags))
    return Scores(
        tags=tags,
        assets=("s1/p 1",) * rows,
        times=np.arange(rows) + 100,
        score=np.array(score),
        contributions=np.linspace(0, 1, rows * len(tags)).reshape(shape),
        expected=np.where(np.arange(len(tags)) == 0, NAN, 1.25) * np.ones(shape),
        actual=np.full(shape, 2.5),
        coverage=np.linspace(0, 1, rows),
        isolated=np.full(rows, NAN),
        faults=np.arange(rows * len(tags), dtype=np.uint8).reshape(shape) % 11,
        state=tuple(states),
        version='v"1\\',
        rung=Rung.WINDOW_PCA,
    )


@pytest.mark.parametrize("count", [0, 1, 2, 3, 9])
def test_a_score_comes_back_from_its_line_whatever_its_state_and_number_of_tags(count: int) -> None:
    tags = tuple(f"t{i}" for i in range(count))
    block = scores(
        [0.123457, NAN, float("inf"), 0.1, NAN], [State.OK, *(state for state in State if state is not State.OK)], tags
    )
    windows = [parsed(line) for line in score_lines([block]) if line.startswith("score,")]
    back = read_scores("s1/p 1", windows[0][2]["run"], [w[3] for w in windows], [w[2]["detail"] for w in windows])
    assert (back.tags, back.assets, back.state, back.version, back.rung) == (
        block.tags,
        block.assets,
        block.state,
        block.version,
        block.rung,
    )
    for name in ("times", "score", "contributions", "expected", "actual", "coverage", "isolated", "faults"):
        np.testing.assert_allclose(getattr(back, name), getattr(block, name), rtol=1e-6)
    np.testing.assert_array_equal(back.score, block.score)


def test_every_line_of_a_score_has_the_same_fields_so_that_a_replay_overwrites_all() -> None:
    block = scores([0.5, NAN, 3.0], [State.OK, State.OFF, State.OK])
    windows = [parsed(line) for line in score_lines([block]) if line.startswith("score,")]
    assert {tuple(fields) for _, _, fields, _ in windows} == {
        ("score", "coverage", "anomalous", "state", "model_version", "run", "detail")
    }
    assert [(fields["score"], fields["anomalous"], fields["state"]) for _, _, fields, _ in windows] == [
        (0.5, 0.0, "ok"),
        (-1.0, 0.0, "off"),
        (3.0, 1.0, "ok"),
    ]
    assert windows[0][2]["model_version"] == 'v"1\\'


def test_contributions_are_told_where_the_score_is_telling_strongest_first() -> None:
    lines = [parsed(line) for line in score_lines([scores([0.5, 3.0], [State.OK] * 2)])]
    told = [(tags["tag"], fields) for measurement, tags, fields, time in lines if measurement == "contribution"]
    assert [tag for tag, _ in told] == ["e", "c,d", "a b"]
    assert told[0][1] == {"share": 1.0, "actual": 2.5, "expected": 1.25}
    assert set(told[2][1]) == {"share", "actual"}


def test_texts_of_people_cannot_break_a_line() -> None:
    assert text('a"b\\c\nd') == r'"a\"b\\c d"'
    assert "\n" not in heartbeat_line("a\nb", 1, {"x": "y\n"})
    assert event_lines([]) == []


def test_tags_are_listed_as_people_count() -> None:
    assert sorted(["t10", "t2", "T1", "x", "10", "9"], key=natural) == ["9", "10", "T1", "t2", "t10", "x"]
