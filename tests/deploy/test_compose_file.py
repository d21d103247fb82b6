"""Rules of docker-compose.yml: what makes the stack less safe, or unusable with one of the two Composes, is seen."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from pipelines.access import ROLES

ROOT = Path(__file__).parents[2]
FILE = ROOT / "docker-compose.yml"
STACK: dict[str, Any] = yaml.safe_load(FILE.read_text(encoding="utf-8"))
SERVICES: dict[str, dict[str, Any]] = STACK["services"]
OURS = {name: one for name, one in SERVICES.items() if one["image"].startswith("plantwatch/")}
ONE_OFF = {"topics-init", "access-init", "historian-init", "tools"}
PROFILES = "demo,gpu,ops,edge,tls,tools"


def each(services: dict[str, dict[str, Any]]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("name", sorted(services))


def texts(found: Any) -> Iterator[str]:
    if isinstance(found, dict):
        for key, value in found.items():
            yield from texts(key)
            yield from texts(value)
    elif isinstance(found, list):
        for one in found:
            yield from texts(one)
    elif isinstance(found, str):
        yield found


def test_the_services_of_the_design_are_there() -> None:
    wanted = {"kafka", "influxdb", "score-cpu", "score-gpu", "record", "alert", "train", "dashboard", "simulator"}
    wanted |= {"topics-init", "prometheus", "alertmanager", "grafana", "mosquitto", "telegraf", "caddy"}
    assert wanted <= set(SERVICES)
    profiles = {name: one.get("profiles", []) for name, one in SERVICES.items()}
    assert profiles["simulator"] == ["demo"]
    assert profiles["score-gpu"] == ["gpu"]
    assert profiles["grafana"] == ["ops"]
    assert profiles["mosquitto"] == profiles["telegraf"] == ["edge"]
    assert profiles["caddy"] == ["tls"]
    assert {name for name, found in profiles.items() if not found} >= {"kafka", "influxdb", "score-cpu", "dashboard"}


@each(SERVICES)
def test_nothing_runs_as_root(name: str) -> None:
    user = str(SERVICES[name]["user"]).split(":")[0]
    assert user.isdigit()
    assert int(user) > 0


@each(OURS)
def test_our_services_run_as_10001(name: str) -> None:
    assert SERVICES[name]["user"] == "10001:10001"


@each(SERVICES)
def test_each_container_is_hardened(name: str) -> None:
    one = SERVICES[name]
    assert one["read_only"] is True
    assert one["cap_drop"] == ["ALL"]
    assert one.get("cap_add", []) == (["NET_BIND_SERVICE"] if name == "caddy" else [])
    assert one["security_opt"] == ["no-new-privileges:true"]
    assert "privileged" not in one
    assert one["pids_limit"] <= 512
    assert one["mem_limit"]
    assert any(mount.startswith("/tmp:") for mount in one["tmpfs"])
    assert all("nosuid" in mount and "nodev" in mount for mount in one["tmpfs"])
    assert one["logging"]["options"].keys() >= {"max-size", "max-file"}
    assert not {"pid", "ipc", "devices", "privileged", "userns_mode"} & one.keys()
    assert not any("docker.sock" in text for text in texts(one))


@each(SERVICES)
def test_what_comes_from_this_machine_is_read_only(name: str) -> None:
    for mount in SERVICES[name].get("volumes", []):
        source, _, mode = mount.rpartition(":")
        if source.startswith((".", "/", "$")):
            assert mode == "ro", mount


def test_only_the_dashboard_publishes_a_port_and_at_first_to_this_machine_alone() -> None:
    published = {name: one["ports"] for name, one in SERVICES.items() if one.get("ports")}
    assert set(published) == {"dashboard", "caddy"}
    assert published["dashboard"] == [
        "${PLANTWATCH_DASHBOARD_ADDRESS:-127.0.0.1}:${PLANTWATCH_DASHBOARD_PORT:-8501}:8501"
    ]
    assert SERVICES["caddy"]["profiles"] == ["tls"]  # the dashboard's page behind TLS


def test_kafka_is_opened_by_a_file_of_its_own_and_at_first_to_this_machine_alone() -> None:
    more = yaml.safe_load((ROOT / "deploy" / "compose.ingest.yml").read_text(encoding="utf-8"))
    assert list(more["services"]) == ["kafka"]
    assert more["services"]["kafka"]["ports"] == [
        "${PLANTWATCH_INGEST_ADDRESS:-127.0.0.1}:${PLANTWATCH_INGEST_PORT:-9095}:9095"
    ]


def test_there_are_three_networks_and_two_have_no_way_out() -> None:
    assert {name: bool((one or {}).get("internal")) for name, one in STACK["networks"].items()} == {
        "ingest": True,
        "core": True,
        "edge": False,
    }
    outward = {name for name, one in SERVICES.items() if "edge" in one.get("networks", [])}
    assert outward == {"dashboard", "alert", "alertmanager", "grafana", "caddy"}
    assert {name for name, one in SERVICES.items() if "network_mode" in one} == {"topics-init", "access-init"}


@each(SERVICES)
def test_images_are_pinned(name: str) -> None:
    image, _, tag = SERVICES[name]["image"].partition(":")
    if image.startswith("plantwatch/"):
        assert tag == "${PLANTWATCH_VERSION:-local}"
    else:
        assert re.fullmatch(r"v?\d+\.\d+\.\d+", tag), SERVICES[name]["image"]


@each(SERVICES)
def test_each_container_says_whether_it_is_well(name: str) -> None:
    one = SERVICES[name]
    if name in ONE_OFF:
        assert one["healthcheck"] == {"disable": True}
        assert one["restart"] in ("no", "on-failure")
    else:
        assert one["restart"] == "unless-stopped"
        assert one["healthcheck"]["test"][0] == "CMD"
        assert {"interval", "timeout", "retries"} <= one["healthcheck"].keys()


@each(OURS)
def test_our_services_have_time_to_finish_their_batch(name: str) -> None:
    assert int(SERVICES[name]["stop_grace_period"].removesuffix("s")) > 20


def test_secrets_are_files_and_each_service_sees_only_its_own() -> None:
    assert all(list(one) == ["file"] for one in STACK["secrets"].values())
    for name, one in SERVICES.items():
        assert set(one.get("secrets", [])) <= set(STACK["secrets"])
        users = {text for text in one.get("secrets", []) if re.fullmatch(r"kafka_\w+_password", text)}
        if name != "access-init":
            assert len(users) <= 1, name
        mine = one.get("environment", {}).get("PLANTWATCH_KAFKA_USER")
        assert not mine or users == {f"kafka_{mine}_password"}
    holders = {name for name, one in SERVICES.items() if "influx_operator_token" in one.get("secrets", [])}
    assert holders == {"influxdb", "historian-init"}


@each(SERVICES)
def test_no_secret_stands_in_a_variable(name: str) -> None:
    for variable, value in SERVICES[name].get("environment", {}).items():
        if re.search(r"PASSWORD|SECRET|TOKEN|_KEY$", variable):
            assert str(value).startswith("/run/"), variable


def test_every_role_of_kafka_has_a_password_and_the_setup_gets_them_all() -> None:
    wanted = {f"kafka_{role}_password" for role in ROLES}
    assert wanted <= set(STACK["secrets"])
    assert set(SERVICES["access-init"]["secrets"]) == wanted


def test_kafka_lets_nobody_in_without_a_user_but_on_its_own_loopback() -> None:
    told = SERVICES["kafka"]["environment"]
    protocols = dict(pair.split(":") for pair in told["KAFKA_LISTENER_SECURITY_PROTOCOL_MAP"].split(","))
    for listener in told["KAFKA_LISTENERS"].split(","):
        name, address = listener.split("://")
        assert protocols[name] == "SASL_SSL" or address.startswith("127.0.0.1:"), listener
        assert not name.startswith("SASL_")  # the image would ask for a JAAS file
    assert told["KAFKA_AUTO_CREATE_TOPICS_ENABLE"] == "false"
    assert told["KAFKA_ALLOW_EVERYONE_IF_NO_ACL_FOUND"] == "false"


def test_prometheus_looks_for_services_that_are_there() -> None:
    config = yaml.safe_load((ROOT / "deploy" / "prometheus" / "prometheus.yml").read_text(encoding="utf-8"))
    names = {
        name for job in config["scrape_configs"] for found in job.get("dns_sd_configs", []) for name in found["names"]
    }
    aliases = {
        alias
        for one in SERVICES.values()
        if isinstance(one.get("networks"), dict)
        for network in one["networks"].values()
        for alias in (network or {}).get("aliases", [])
    }
    assert names <= set(SERVICES) | aliases


def test_nothing_is_used_that_one_of_the_two_composes_refuses() -> None:
    assert not {"name", "version", "include", "configs"} & STACK.keys()
    for name, one in SERVICES.items():
        assert not {"gpus", "develop", "env_file", "annotations"} & one.keys(), name
        assert "start_interval" not in (one.get("healthcheck") or {}), name
        depends = one.get("depends_on", {})
        assert all(set(found) == {"condition"} for found in depends.values()), name
    assert "!reset" not in FILE.read_text(encoding="utf-8")


@pytest.mark.parametrize("command", [["docker-compose"], ["docker", "compose"]], ids=["1.29", "v2"])
@pytest.mark.parametrize("files", [["docker-compose.yml"], ["docker-compose.yml", "deploy/compose.ingest.yml"]])
def test_compose_takes_the_file(command: list[str], files: list[str]) -> None:
    if shutil.which(command[0]) is None:
        pytest.skip(f"{command[0]} is not installed (apt-get install docker.io docker-compose)")
    if subprocess.run([*command, "version"], capture_output=True, check=False).returncode:
        pytest.skip("the docker CLI has no compose plugin (docker-compose-v2)")
    chosen = [word for file in files for word in ("-f", file)]
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("PLANTWATCH_", "COMPOSE_"))}
    done = subprocess.run(
        [*command, *chosen, "config", "-q"],
        cwd=ROOT,
        env=clean | {"COMPOSE_PROFILES": PROFILES, "COMPOSE_PROJECT_NAME": "plantwatch-test"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_the_plant_of_the_demo_is_what_the_simulator_sends() -> None:
    done = subprocess.run(
        [sys.executable, "scripts/demo_plant.py", "--check"],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        check=False,
    )
    assert done.returncode == 0, "deploy/demo-plant/plant.toml is old: run scripts/demo_plant.py"
