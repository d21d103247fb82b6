"""`plant.toml` ↔ `domain.Plant`.

name = "Demo works"
timezone = "Europe/Berlin"          # for people; data are UTC
alert_budget_per_week = 1.0         # false alerts accepted per asset
tick = "10 s"                       # of assets that name none: seconds, or text with ms, s, min or h

[[groups]]                          # tags (and tick) of every asset of the group that names none of its own
name = "pumps"
tags = [
  { name = "vib_de", unit = "mm/s", low = 0, high = 50 },
  { name = "state", role = "mode", running = [2] },
]

[[assets]]
path = "site/area/line/pump-101"
group = "pumps"
name = "Feed water pump 1"          # tick = …, tags = […] as above
"""

from __future__ import annotations

import contextlib
import json
import os
import tomllib
import uuid
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final

from anomaly.domain import SECOND, Asset, Plant, Role, Tag
from anomaly.errors import ConfigurationError, StorageError
from pipelines.plant_fields import (
    DURATION,
    FLAG,
    NAME,
    NUMBER,
    NUMBERS,
    POSITIVE,
    ROLE,
    TABLES,
    TEXT,
    ZONE,
    Field,
    Reader,
)

_PLANT: Final[Mapping[str, Field]] = {
    "name": NAME,
    "timezone": ZONE,
    "alert_budget_per_week": POSITIVE,
    "tick": DURATION,
    "groups": TABLES,
    "assets": TABLES,
}
_GROUP: Final[Mapping[str, Field]] = {"name": NAME, "tick": DURATION, "tags": TABLES}
_ASSET: Final[Mapping[str, Field]] = {"path": NAME, "group": NAME, "name": TEXT, "tick": DURATION, "tags": TABLES}
_TAG: Final[Mapping[str, Field]] = {
    "name": NAME,
    "unit": TEXT,
    "low": NUMBER,
    "high": NUMBER,
    "role": ROLE,
    "running": NUMBERS,
    "description": TEXT,
    "regimes": FLAG,
}
_TICK: Final = 10 * SECOND


def load_plant(path: Path) -> Plant:
    """The plant a file describes. Raises ConfigurationError: every mistake, its place, what came, what was expected."""
    try:
        tree = tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except FileNotFoundError as error:
        raise ConfigurationError(
            f"plant file {path} does not exist; write it, or leave it out to discover it"
        ) from error
    except OSError as error:
        raise ConfigurationError(f"plant file {path} cannot be read: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"plant file {path} is not TOML: {error}") from error
    reader = Reader(str(path))
    plant = _plant(reader, tree)
    if reader.mistakes or plant is None:
        raise ConfigurationError("\n".join(reader.mistakes))
    return plant


def _plant(reader: Reader, tree: Mapping[str, Any]) -> Plant | None:
    top = reader.table("", tree, _PLANT, required=("name", "assets"))
    groups: dict[str, dict[str, Any]] = {}
    for i, table in enumerate(top.get("groups", ())):
        where = _where("groups", i, table, "name")
        group = reader.table(where, table, _GROUP, required=("name",))
        groups[group.get("name", f"#{i}")] = group | {"tags": _tags(reader, where, group.get("tags", ()))}
    assets = [
        _asset(reader, _where("assets", i, table, "path"), table, groups, top.get("tick", _TICK))
        for i, table in enumerate(top.get("assets", ()))
    ]
    if not assets and "assets" in top:
        reader.mistake("assets", "a plant has at least one asset; describe one in [[assets]]")
    _check_assets(reader, assets)
    if reader.mistakes:
        return None
    rest = {key: top[key] for key in ("timezone", "alert_budget_per_week") if key in top}
    return Plant(name=top["name"], assets=tuple(assets), **rest)


def _asset(reader: Reader, where: str, table: Any, groups: Mapping[str, dict[str, Any]], tick: int) -> Asset:
    fields = reader.table(where, table, _ASSET, required=("path", "group"))
    group = groups.get(fields.get("group", ""), {})
    tags = _tags(reader, where, fields["tags"]) if "tags" in fields else group.get("tags", ())
    if not tags and "path" in fields:
        reader.mistake(where, "has no tags; give it `tags`, or give its group some in [[groups]]")
    return Asset(
        path=fields.get("path", where),
        group=fields.get("group", ""),
        tags=tuple(tags),
        tick=fields.get("tick", group.get("tick", tick)),
        name=fields.get("name", ""),
    )


def _tags(reader: Reader, where: str, tables: Iterable[Any]) -> tuple[Tag, ...]:
    tags = []
    for i, table in enumerate(tables):
        place = f"{where}, {_where('tags', i, table, 'name')}"
        fields = reader.table(place, table, _TAG, required=("name",))
        if fields:
            tags.append(Tag(**({"name": f"#{i}"} | fields)))
            _check_tag(reader, place, tags[-1])
    for name, count in Counter(tag.name for tag in tags).items():
        if count > 1:
            reader.mistake(where, f"tag {name!r} is described {count} times; names of tags differ within an asset")
    if sum(tag.role is Role.MODE for tag in tags) > 1:
        reader.mistake(where, "has more than one tag of role 'mode'; one says whether the machine runs")
    return tuple(tags)


def _check_tag(reader: Reader, where: str, tag: Tag) -> None:
    if tag.low is not None and tag.high is not None and not tag.low < tag.high:
        reader.mistake(where, f"low = {tag.low:g} is not below high = {tag.high:g}")
    if tag.role is Role.MODE and not tag.running:
        reader.mistake(where, "role = 'mode' needs `running`: the values at which the machine runs, such as [1]")
    if tag.running and tag.role is not Role.MODE:
        reader.mistake(where, f"`running` is for role = 'mode', this tag has role = '{tag.role}'")
    if tag.regimes and len(set(tag.running)) < 2:
        reader.mistake(where, "`regimes = true` needs two or more values in `running`, which differ in their relations")


def _check_assets(reader: Reader, assets: Iterable[Asset]) -> None:
    ticks: dict[str, Asset] = {}
    seen: set[str] = set()
    for asset in assets:
        if asset.path in seen:
            reader.mistake("assets", f"path {asset.path!r} is described more than once")
        seen.add(asset.path)
        first = ticks.setdefault(asset.group, asset)
        if first.tick != asset.tick:
            came = f"{first.path!r} has {_duration(first.tick)}, {asset.path!r} has {_duration(asset.tick)}"
            reader.mistake("assets", f"assets of group {asset.group!r} share a model, so they share a tick; {came}")


def _where(kind: str, i: int, table: Any, key: str) -> str:
    name = table.get(key) if isinstance(table, dict) else None
    return f"{kind} #{i + 1}" + (f" ({name})" if isinstance(name, str) and name else "")


def write_plant(plant: Plant, path: Path, remarks: Mapping[tuple[str, str], str] | None = None) -> None:
    """Write the file so that `load_plant` gives back an equal plant; whole or not at all. Raises StorageError."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f".{path.name}.{os.getpid()}-{uuid.uuid4().hex[:8]}")
        try:
            with temporary.open("x", encoding="utf-8") as file:
                file.write(to_toml(plant, remarks))
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
        except BaseException:
            with contextlib.suppress(OSError):
                temporary.unlink()
            raise
    except OSError as error:
        raise StorageError(
            f"plant file {path} cannot be written: {error.strerror}; check the folder and its rights"
        ) from error


def to_toml(plant: Plant, remarks: Mapping[tuple[str, str], str] | None = None) -> str:
    """The plant as the text of a plant file; tags that a whole group shares are written once.

    `remarks`: a comment behind a tag, by group (or path of an asset whose tags are its own) and tag.
    """
    said = remarks or {}
    lines = [f"name = {_text(plant.name)}", f"timezone = {_text(plant.timezone)}"]
    lines.append(f"alert_budget_per_week = {plant.alert_budget_per_week!r}")
    shared: dict[str, tuple[Tag, ...]] = {}
    for group, assets in plant.groups().items():
        if len(assets) > 1 and len({asset.tags for asset in assets}) == 1:
            shared[group] = assets[0].tags
            lines += ["", "[[groups]]", f"name = {_text(group)}", *_tag_lines(assets[0].tags, group, said)]
    for asset in plant.assets:
        lines += ["", "[[assets]]", f"path = {_text(asset.path)}", f"group = {_text(asset.group)}"]
        lines += [f"name = {_text(asset.name)}"] if asset.name else []
        lines.append(f"tick = {_text(_duration(asset.tick))}")
        lines += [] if asset.group in shared else _tag_lines(asset.tags, asset.path, said)
    return "\n".join(lines) + "\n"


def _tag_lines(tags: Iterable[Tag], place: str, remarks: Mapping[tuple[str, str], str]) -> list[str]:
    return ["tags = [", *(_tag_line(tag, remarks.get((place, tag.name), "")) for tag in tags), "]"]


def _tag_line(tag: Tag, remark: str) -> str:
    return f"  {{ {', '.join(_tag_fields(tag))} }}," + (f"  # {remark}" if remark else "")


def _tag_fields(tag: Tag) -> list[str]:
    fields = [f"name = {_text(tag.name)}"]
    fields += [f"unit = {_text(tag.unit)}"] if tag.unit else []
    fields += [f"{key} = {value!r}" for key, value in (("low", tag.low), ("high", tag.high)) if value is not None]
    fields += [f'role = "{tag.role}"'] if tag.role is not Role.SIGNAL else []
    fields += [f"running = [{', '.join(map(repr, tag.running))}]"] if tag.running else []
    fields += ["regimes = true"] if tag.regimes else []
    return fields + ([f"description = {_text(tag.description)}"] if tag.description else [])


def _text(text: str) -> str:
    """A TOML basic string: JSON's escapes are a subset of its own, but for DEL."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


def _duration(ns: int) -> str:
    for unit, size in (("s", SECOND), ("ms", 1_000_000), ("us", 1_000)):
        if ns % size == 0:
            return f"{ns // size} {unit}"
    return f"{ns} ns"
