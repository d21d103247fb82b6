"""The shipped rules: valid, each with its runbook, each seen to fire and to keep still, over metrics that exist."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from pipelines.metrics.families import FAMILIES
from tests.monitoring.tools import tool

ROOT = Path(__file__).parents[2]
PROMETHEUS = ROOT / "deploy" / "prometheus"
NAME = re.compile(r"\bplantwatch_\w+")
EXTRA = ("_bucket", "_sum", "_count")
WANTED = (
    "LagGrowing PartitionStalled PointsDropped EndToEndSlow NoWindows ModelOld AlertFlood GpuFallback DeadLetters "
    "ServiceDown SinkDegraded"
)


def rules() -> Iterator[dict[str, Any]]:
    for path in sorted((PROMETHEUS / "rules").glob("*.yml")):
        for group in yaml.safe_load(path.read_text(encoding="utf-8"))["groups"]:
            yield from group["rules"]


ALERTS = {rule["alert"]: rule for rule in rules() if "alert" in rule}


def promtool(*words: str) -> None:
    binary = tool("promtool", package="prometheus")
    done = subprocess.run([binary, *words], cwd=PROMETHEUS, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_configuration_is_valid() -> None:
    promtool("check", "config", "prometheus.yml")


def test_the_rules_are_valid() -> None:
    promtool("check", "rules", *(f"rules/{path.name}" for path in sorted((PROMETHEUS / "rules").glob("*.yml"))))


@pytest.mark.slow
def test_every_unit_test_of_the_rules_passes() -> None:
    promtool("test", "rules", *(f"tests/{path.name}" for path in sorted((PROMETHEUS / "tests").glob("*.yml"))))


def test_every_rule_is_seen_to_fire_and_to_keep_still() -> None:
    fires: set[str] = set()
    still: set[str] = set()
    for path in (PROMETHEUS / "tests").glob("*.yml"):
        for case in yaml.safe_load(path.read_text(encoding="utf-8"))["tests"]:
            for check in case["alert_rule_test"]:
                (fires if check["exp_alerts"] else still).add(check["alertname"])
    assert fires == still == ALERTS.keys()


def test_the_agreed_rules_are_there() -> None:
    assert {f"Plantwatch{name}" for name in WANTED.split()} <= ALERTS.keys()


@pytest.mark.parametrize("name", ALERTS)
def test_a_rule_says_how_bad_what_and_what_to_do(name: str) -> None:
    rule = ALERTS[name]
    assert rule["labels"]["severity"] in ("critical", "warning", "info")
    assert rule["annotations"].keys() == {"summary", "description", "runbook"}
    page, _, anchor = rule["annotations"]["runbook"].partition("#")
    headings = re.findall(r"^#+ (.+)$", (ROOT / page).read_text(encoding="utf-8"), re.MULTILINE)
    assert anchor == name.lower()
    assert name in headings, f"{page} has no section {name}"


def test_rules_speak_of_metrics_that_exist_and_of_labels_they_have() -> None:
    for rule in rules():
        for metric in NAME.findall(rule["expr"]):
            assert metric in FAMILIES or any(metric.removesuffix(end) in FAMILIES for end in EXTRA), metric
        for metric, selector in re.findall(r"(plantwatch_\w+)\{([^}]*)\}", rule["expr"]):
            used = set(re.findall(r"(\w+)\s*(?:=~|!~|!=|=)", selector))
            assert used <= {*FAMILIES[metric].labels, "job", "instance"}, f"{metric} has no {used}"


def test_recorded_figures_that_rules_use_are_recorded() -> None:
    recorded = {rule["record"] for rule in rules() if "record" in rule}
    used = {name for rule in rules() for name in re.findall(r"\bplantwatch:[\w:]+", rule["expr"])}
    assert used <= recorded
