"""The plant file: what is written comes back, and every mistake is told: place, what came, what was expected."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from anomaly.domain import SECOND, Asset, Plant, Role, Tag
from anomaly.errors import ConfigurationError, StorageError
from pipelines.plant_file import load_plant, to_toml, write_plant

GOOD = """
name = "Works"
timezone = "Europe/Berlin"
tick = "500 ms"

[[groups]]
name = "pumps"
tick = 5
tags = [{ name = "vib", unit = "mm/s", low = 0, high = 50 }, { name = "state", role = "mode", running = [2, 3] }]

[[assets]]
path = "s/a/pump-1"
group = "pumps"

[[assets]]
path = "s/a/fan-1"
group = "fans"
name = "Lüfter"
tags = [{ name = "current", unit = "A", role = "signal", description = "motor" }]
"""


def _load(tmp_path: Path, text: str) -> Plant:
    path = tmp_path / "plant.toml"
    path.write_text(text, encoding="utf-8")
    return load_plant(path)


def _mistakes(tmp_path: Path, text: str) -> list[str]:
    with pytest.raises(ConfigurationError) as caught:
        _load(tmp_path, text)
    lines = str(caught.value).splitlines()
    assert all(line.startswith(str(tmp_path / "plant.toml")) for line in lines)
    return [line.removeprefix(f"{tmp_path / 'plant.toml'}: ") for line in lines]


def test_a_plant_file_describes_a_plant_and_groups_lend_their_tags(tmp_path: Path) -> None:
    plant = _load(tmp_path, GOOD)
    pump, fan = plant.assets
    assert (plant.name, plant.timezone, plant.alert_budget_per_week) == ("Works", "Europe/Berlin", 1.0)
    assert (pump.path, pump.tick, pump.signals) == ("s/a/pump-1", 5 * SECOND, ("vib",))
    assert pump.tags[0] == Tag("vib", "mm/s", 0.0, 50.0)
    assert pump.mode == Tag("state", role=Role.MODE, running=(2.0, 3.0))
    assert fan == Asset("s/a/fan-1", "fans", (Tag("current", "A", description="motor"),), 500_000_000, "Lüfter")


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (("timezone", "timezon"), "unknown key 'timezon'; did you mean 'timezone'?"),
        (("Europe/Berlin", "Europe/Berln"), "did you mean 'Europe/Berlin'?"),
        (("low = 0", "lwo = 0"), "groups #1 (pumps), tags #1 (vib): unknown key 'lwo'; did you mean 'low'?"),
        (("low = 0", "low = 60"), "groups #1 (pumps), tags #1 (vib): low = 60 is not below high = 50"),
        (("low = 0", 'low = "0"'), "low = '0': expected a finite number"),
        (("low = 0", "low = nan"), "low = nan: expected a finite number"),
        (("high = 50", "high = true"), "high = True: expected a finite number"),
        (('"signal"', '"singal"'), "role = 'singal': expected one of signal, mode, status; did you mean 'signal'?"),
        ((", running = [2, 3]", ""), "role = 'mode' needs `running`"),
        (('role = "mode", ', ""), "`running` is for role = 'mode'"),
        (('"signal"', "[1]"), "role = [1]: expected one of"),
        (("[2, 3]", "2"), "running = 2: expected a list of numbers"),
        (("[2, 3]", "[2, 3], regimes = 1"), "regimes = 1: expected true or false"),
        (("[2, 3]", "[2], regimes = true"), "`regimes = true` needs two or more values in `running`"),
        (('"mm/s"', '"mm/s", regimes = true'), "`regimes = true` needs two or more values in `running`"),
        (('"500 ms"', '"fast"'), "tick = 'fast': expected a number of seconds"),
        (('"500 ms"', "0"), "tick = 0: expected"),
        (('"500 ms"', '"900000000000 h"'), "tick = '900000000000 h': expected"),
        (('path = "s/a/fan-1"\n', ""), "assets #2: `path` is missing"),
        (("fan-1", "pump-1"), "path 's/a/pump-1' is described more than once"),
        (('"fans"', '"pumps"\ntick = 6'), "assets of group 'pumps' share a model, so they share a tick"),
        (('group = "pumps"\n', 'group = "pomps"\n'), "assets #1 (s/a/pump-1): has no tags"),
        (('{ name = "vib"', '{ name = "state"'), "tag 'state' is described 2 times"),
        (('name = "Works"', "name = 5"), "name = 5: expected a printable text"),
        (('"Works"', '"  "'), "name = '  ': expected a printable text"),
        (('{ name = "vib",', '3, { name = "vib",'), "tags #1: 3 came, a table was expected"),
    ],
)
def test_a_mistake_is_told_where_it_stands(tmp_path: Path, change: tuple[str, str], told: str) -> None:
    assert change[0] in GOOD
    assert any(told in line for line in _mistakes(tmp_path, GOOD.replace(change[0], change[1], 1)))


def test_all_mistakes_come_at_once(tmp_path: Path) -> None:
    text = GOOD.replace("unit", "unti").replace('"500 ms"', "-1").replace("Lüfter", "L\\u0000")
    assert len(_mistakes(tmp_path, text)) == 4


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "`name` is missing"),
        ('name = "x"\nassets = []', "a plant has at least one asset"),
        ('name = "x"\nassets = 3', "assets = 3: expected a list of tables"),
        ('name = "x"\n[assets]\na = 1', "expected a list of tables"),
        ('name = "x"\n[[assets]]', "`path` is missing"),
    ],
)
def test_a_file_without_the_needful_says_what_is_needed(tmp_path: Path, text: str, told: str) -> None:
    assert any(told in line for line in _mistakes(tmp_path, text))


def test_a_file_that_is_no_toml_or_not_there_is_told_by_name(tmp_path: Path) -> None:
    for content in (b"name = = 1", b"\xff\xff"):
        (tmp_path / "plant.toml").write_bytes(content)
        with pytest.raises(ConfigurationError, match=r"plant\.toml is not TOML"):
            load_plant(tmp_path / "plant.toml")
    with pytest.raises(ConfigurationError, match="does not exist"):
        load_plant(tmp_path / "none.toml")
    with pytest.raises(ConfigurationError, match="cannot be read"):
        load_plant(tmp_path)


TEXTS = st.text(st.characters(codec="utf-8", exclude_categories=["C", "Z"]), min_size=1, max_size=6)
TAGS = st.lists(
    st.tuples(TEXTS, TEXTS, st.none() | st.floats(-1e9, 0), st.none() | st.floats(1, 1e9)),
    min_size=1,
    max_size=3,
    unique_by=lambda tag: tag[0],
)


@given(
    TEXTS, st.lists(st.tuples(TEXTS, TAGS), min_size=1, max_size=4, unique_by=lambda a: a[0]), st.integers(1, 10**13)
)
def test_what_is_written_is_loaded_equal(
    name: str, assets: list[tuple[str, list[tuple[str, str, float, float]]]], tick: int
) -> None:
    described = tuple(
        Asset(
            path,
            "g",
            (*(Tag(*tag) for tag in tags), Tag("m o d e", role=Role.MODE, running=(1.0, 2.0), regimes=True)),
            tick,
            name,
        )
        for path, tags in assets
    )
    plant = Plant(name, described, "Asia/Tokyo", 0.25)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "deep" / "plant.toml"
        write_plant(plant, path)
        assert load_plant(path) == plant
        assert [entry.name for entry in path.parent.iterdir()] == ["plant.toml"]


def test_tags_shared_by_a_group_are_written_once() -> None:
    tags = (Tag("vib"), Tag("temp"))
    plant = Plant("p", tuple(Asset(f"a/{i}", "g", tags) for i in range(3)))
    assert to_toml(plant).count('"vib"') == 1


def test_a_folder_that_cannot_be_written_is_a_storage_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="cannot be written"):
        write_plant(Plant("p", (Asset("a", "g", (Tag("x"),)),)), tmp_path / "file" / "plant.toml")


def test_the_file_has_the_rights_that_the_umask_leaves(tmp_path: Path) -> None:
    plant = Plant("w", (Asset("s/p", "p", (Tag("t"),)),))
    for mask, mode in ((0o022, 0o644), (0o077, 0o600)):
        before = os.umask(mask)
        try:
            write_plant(plant, tmp_path / "plant.toml")
        finally:
            os.umask(before)
        assert (tmp_path / "plant.toml").stat().st_mode & 0o777 == mode
    assert [path.name for path in tmp_path.iterdir()] == ["plant.toml"]
