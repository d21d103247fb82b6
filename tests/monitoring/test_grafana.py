"""The shipped dashboard asks for what there is."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from pipelines.metrics.families import FAMILIES

DEPLOY = Path(__file__).parents[2] / "deploy"
BOARD: dict[str, Any] = json.loads((DEPLOY / "grafana/dashboards/plantwatch.json").read_text(encoding="utf-8"))
SHOWN = ("messages_consumed", "consumer_lag", "end_to_end", "stage_seconds", "alerts_active", "model_info", "drift")


def targets() -> Iterator[dict[str, Any]]:
    for panel in BOARD["panels"]:
        yield from panel.get("targets", ())


def recorded() -> set[str]:
    text = "".join(path.read_text(encoding="utf-8") for path in (DEPLOY / "prometheus/rules").glob("*.yml"))
    return set(re.findall(r"record: (\S+)", text))


def test_every_metric_it_asks_for_exists() -> None:
    known = FAMILIES.keys() | recorded()
    known |= {
        name + end for name, f in FAMILIES.items() if f.kind == "histogram" for end in ("_bucket", "_sum", "_count")
    }
    asked = {name for target in targets() for name in re.findall(r"\bplantwatch[_:][\w:]+", target["expr"])}
    assert asked
    assert asked <= known


def test_legends_and_sums_name_labels_that_the_metric_has() -> None:
    extra = {"service", "topic", "model"}  # of recorded figures
    for target in targets():
        names = re.findall(r"plantwatch_\w+", target["expr"])
        families = [FAMILIES[re.sub(r"_(bucket|sum|count)$", "", name)] for name in names]
        labels = {label for family in families for label in family.labels} | {"le", "job", "instance"}
        used = set(re.findall(r"\{\{(\w+)\}\}", target["legendFormat"]))
        used |= {name.strip() for by in re.findall(r"by \(([^)]*)\)", target["expr"]) for name in by.split(",")}
        assert used <= (labels if names else extra), target["expr"]


def test_it_shows_rates_lag_latency_stages_alerts_and_models() -> None:
    asked = " ".join(target["expr"] for target in targets())
    assert not [what for what in SHOWN if what not in asked]


def test_panels_do_not_overlap_and_have_their_own_ids() -> None:
    cells: set[tuple[int, int]] = set()
    for panel in BOARD["panels"]:
        place = panel["gridPos"]
        mine = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not mine & cells, panel["title"]
        assert all(x < 24 for x, _ in mine)
        cells |= mine
    ids = [panel["id"] for panel in BOARD["panels"]]
    assert len(ids) == len(set(ids))


def test_its_data_source_is_the_provisioned_one() -> None:
    (source,) = yaml.safe_load((DEPLOY / "grafana/provisioning/datasources/plantwatch.yml").read_text())["datasources"]
    assert {target["datasource"]["uid"] for target in targets()} == {source["uid"]}
