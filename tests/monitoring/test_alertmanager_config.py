"""The shipped configuration of Alertmanager: valid, and each alert goes where it should."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import httpx
import pytest
import yaml

from anomaly.domain import Alert, AlertState, Anomaly, Kind, Priority
from pipelines.adapters.alertmanager import labels
from tests.monitoring.tools import free_port, server, tool

ROOT = Path(__file__).parents[2]
SHIPPED = ROOT / "deploy" / "alertmanager" / "alertmanager.yml"
CONFIG = yaml.safe_load(SHIPPED.read_text(encoding="utf-8"))
FIRST_WITH_URL_FILE = (0, 26)


def amtool(*words: str) -> str:
    binary = tool("amtool", package="prometheus-alertmanager")
    done = subprocess.run([binary, *words], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture
def readable(tmp_path: Path) -> Path:
    """The shipped file; for an amtool that is older than `url_file`, a copy with a URL in its place."""
    told = amtool("--version")
    found = re.search(r"version (\d+)\.(\d+)", told)
    assert found, told
    if (int(found[1]), int(found[2])) >= FIRST_WITH_URL_FILE:
        return SHIPPED
    copy = tmp_path / "alertmanager.yml"
    copy.write_text(re.sub(r"url_file: \S+", "url: http://receiver.invalid/", SHIPPED.read_text(encoding="utf-8")))
    return copy


def test_the_configuration_is_valid(readable: Path) -> None:
    amtool("check-config", str(readable))


def plant_labels(kind: Kind, priority: Priority) -> dict[str, str]:
    anomaly = Anomaly("s1/l2/pump", kind, "process", 0, None, 2.0, ("vib",), "v1")
    return labels(Alert("a", anomaly, AlertState.UNACKNOWLEDGED_ACTIVE, priority, 5), priority)


@pytest.mark.parametrize("priority", list(Priority))
def test_what_is_said_of_a_machine_goes_to_operators(readable: Path, priority: Priority) -> None:
    words = [f"{name}={value}" for name, value in plant_labels(Kind.PROCESS, priority).items()]
    assert amtool("config", "routes", "test", f"--config.file={readable}", *words).split() == ["plant"]


@pytest.mark.parametrize("severity", ["critical", "warning", "info"])
def test_what_is_said_of_plantwatch_goes_to_those_who_run_it(readable: Path, severity: str) -> None:
    words = ["alertname=PlantwatchServiceDown", "job=score", f"severity={severity}"]
    assert amtool("config", "routes", "test", f"--config.file={readable}", *words).split() == ["ops"]


def test_no_address_stands_in_the_file() -> None:
    hooks = [hook for receiver in CONFIG["receivers"] for hook in receiver["webhook_configs"]]
    assert hooks
    assert all("url" not in hook and hook["url_file"].startswith("/etc/alertmanager/") for hook in hooks)


def test_inhibition_speaks_of_alerts_that_exist() -> None:
    rules = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "deploy/prometheus/rules").glob("*.yml"))
    known = set(re.findall(r"alert: (\w+)", rules)) | {
        plant_labels(kind, Priority.LOW)["alertname"]
        for kind in Kind
        if kind.value in ("process", "instrument", "data_loss")
    }
    named = set(re.findall(r"Plantwatch\w+", "".join(map(str, CONFIG["inhibit_rules"]))))
    assert named <= known


def test_what_must_be_equal_is_a_label_of_both_sides() -> None:
    """A label that neither side has counts as equal, and then everything would be inhibited."""
    shipped = set(plant_labels(Kind.PROCESS, Priority.LOW)) | {"job"}
    assert {name for rule in CONFIG["inhibit_rules"] for name in rule.get("equal", ())} <= shipped


@pytest.mark.integration
def test_of_a_cause_and_what_follows_only_the_cause_is_told(readable: Path, tmp_path: Path) -> None:
    """The shipped configuration in a real Alertmanager."""
    binary = tool("alertmanager", "prometheus-alertmanager", package="prometheus-alertmanager")
    address = f"127.0.0.1:{free_port()}"
    command = [binary, f"--config.file={readable}", f"--storage.path={tmp_path / 'data'}"]
    command += [f"--web.listen-address={address}", "--cluster.listen-address="]
    posted = [
        {"alertname": "PlantwatchServiceDown", "job": "score", "severity": "critical"},
        {"alertname": "PlantwatchNoWindows", "severity": "critical"},
        {"alertname": "PlantwatchLagGrowing", "job": "score", "severity": "warning"},
        {"alertname": "PlantwatchLagGrowing", "job": "record", "severity": "warning"},
        plant_labels(Kind.DATA_LOSS, Priority.MEDIUM),
        plant_labels(Kind.INSTRUMENT, Priority.LOW),
        plant_labels(Kind.PROCESS, Priority.LOW) | {"asset": "s1/l2/other"},
    ]
    with server(command, f"http://{address}/-/ready", tmp_path / "alertmanager.log"):
        url = f"http://{address}/api/v2/alerts"
        httpx.post(url, json=[{"labels": one} for one in posted], trust_env=False).raise_for_status()
        found = httpx.get(url, trust_env=False).json()
    told = {
        (a["labels"]["alertname"], a["labels"].get("job") or a["labels"].get("asset", ""))
        for a in found
        if not a["status"]["inhibitedBy"]
    }
    assert told == {
        ("PlantwatchServiceDown", "score"),
        ("PlantwatchLagGrowing", "record"),
        ("PlantwatchDataLoss", "s1/l2/pump"),
        ("PlantwatchMachine", "s1/l2/other"),
    }
