"""Images: the recipe installs what a lock names, by hash, runs as nobody; each image holds what its services import."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
RECIPE = (ROOT / "deploy" / "docker" / "Dockerfile").read_text(encoding="utf-8")
LOCKS = ROOT / "requirements"
IMAGES = ("service", "score-cpu", "score-gpu", "train-cpu", "train-gpu", "dashboard")
HEAVY = {
    "apprise": "apprise",
    "httpx": "httpx",
    "keras": "keras",
    "onnx": "onnx",
    "onnxruntime": "onnxruntime",
    "pandas": "pandas",
    "pyarrow": "pyarrow",
    "scipy": "scipy",
    "streamlit": "streamlit",
    "tensorflow": "tensorflow",
    "matplotlib": "matplotlib",
    "beartype": "beartype",
}
"""Import name → the package's name in a lock."""
ENTRIES = {
    "service": [
        "pipelines.processes",
        "pipelines.recording",
        "pipelines.alert_service",
        "pipelines.simulator_process",
        "pipelines.commands.serve",
        "pipelines.commands.topics",
        "pipelines.commands.setup_access",
        "pipelines.commands.setup_historian",
        "pipelines.commands.dead_letters",
        "pipelines.commands.discover",
        "pipelines.commands.check",
        "pipelines.commands.alerts",
        "pipelines.commands.models",
        "pipelines.adapters.kafka_log",
        "pipelines.adapters.kafka_access",
        "pipelines.adapters.influx_historian",
        "pipelines.adapters.webhook",
        "pipelines.adapters.apprise_notifier",
        "pipelines.sources.simulator",
    ],
    "score-cpu": [
        "pipelines.processes",
        "pipelines.scoring",
        "pipelines.commands.serve",
        "pipelines.adapters.kafka_log",
        "pipelines.adapters.influx_historian",
        "anomaly.registry",
        "onnx",
        "onnxruntime",
    ],
    "train-cpu": ["pipelines.processes", "pipelines.trainer", "pipelines.fit_process", "anomaly.training", "scipy"],
    "dashboard": [
        "dashboard.app",
        "dashboard.launch",
        "pipelines.commands.dashboard",
        "pipelines.adapters.influx_reading",
    ],
}


def pinned(name: str) -> set[str]:
    """Names of the packages in a lock."""
    return set(re.findall(r"^([A-Za-z0-9._-]+)==", (LOCKS / f"{name}.lock").read_text(encoding="utf-8"), re.MULTILINE))


def steps() -> list[str]:
    return re.sub(r"\\\n", " ", re.sub(r"^#.*\n", "", RECIPE, flags=re.MULTILINE)).splitlines()


def test_the_base_image_is_pinned_and_can_be_pinned_harder() -> None:
    assert "ARG PYTHON_IMAGE=python:3.12-slim-bookworm" in RECIPE
    assert {line.split()[1] for line in steps() if line.startswith("FROM")} == {"${PYTHON_IMAGE}"}
    assert ":latest" not in RECIPE


def test_what_runs_is_nobody_without_an_installer() -> None:
    final = RECIPE[RECIPE.rindex("\nFROM") :]
    assert re.findall(r"^USER (\S+)$", final, re.MULTILINE) == ["10001:10001"]
    assert "uninstall -q -y" in final
    assert "install" not in re.sub(r"uninstall|install -d|--root-user-action=ignore|# No package installer", "", final)


def test_only_locked_packages_are_installed() -> None:
    installs = [step for line in steps() for step in line.split("&&") if re.search(r"\binstall\b.*(-r |\.whl)", step)]
    assert len(installs) == 3
    for step in installs:
        ours = "--no-deps" in step and "--no-index" in step and "dist/*.whl" in step
        assert ours or ("--require-hashes" in step and "--no-deps" in step and "--only-binary :all:" in step), step
    assert not re.search(r"\b(curl|wget|apt-get|git clone|ADD)\b", RECIPE)


def test_no_address_stands_in_a_recipe_or_a_lock() -> None:
    for path in [ROOT / "deploy" / "docker" / "Dockerfile", *LOCKS.glob("*.lock")]:
        assert not re.search(r"https?://|--index-url|--find-links|@ file", path.read_text(encoding="utf-8")), path.name


@pytest.mark.parametrize("name", [*IMAGES, "build", "dev"])
def test_every_package_of_a_lock_has_its_hashes(name: str) -> None:
    text = (LOCKS / f"{name}.lock").read_text(encoding="utf-8")
    blocks = re.split(r"\n(?=\S)", text.strip())
    assert blocks
    assert all("--hash=sha256:" in block for block in blocks)


def test_the_images_of_compose_have_locks() -> None:
    services = yaml.safe_load((ROOT / "docker-compose.yml").read_text(encoding="utf-8"))["services"]
    built = {one["build"]["args"]["IMAGE"]: one["image"] for one in services.values() if "build" in one}
    assert set(built) <= set(IMAGES)
    assert all(image == f"plantwatch/{name}:${{PLANTWATCH_VERSION:-local}}" for name, image in built.items())
    named = {one["image"] for one in services.values() if one["image"].startswith("plantwatch/")}
    assert named == set(built.values())


@pytest.mark.parametrize("name", ["service", "score-cpu", "score-gpu", "dashboard"])
def test_only_training_carries_keras_and_tensorflow(name: str) -> None:
    assert not {"tensorflow", "tensorflow-cpu", "keras", "tf2onnx"} & pinned(name)
    assert {"tensorflow-cpu", "keras", "tf2onnx"} <= pinned("train-cpu")


def test_a_score_worker_is_small() -> None:
    assert not {"pandas", "pyarrow", "scipy", "streamlit", "apprise", "httpx", "matplotlib"} & pinned("score-cpu")
    assert {"onnx", "onnxruntime", "numpy", "kafka-python", "influxdb-client"} <= pinned("score-cpu")


@pytest.mark.parametrize("name", IMAGES)
def test_an_image_has_the_versions_that_the_developers_test(name: str) -> None:
    def versions(lock: str) -> dict[str, set[str]]:
        found: dict[str, set[str]] = {}
        for package, version in re.findall(
            r"^([A-Za-z0-9._-]+)==([^\s;\\]+)", (LOCKS / f"{lock}.lock").read_text(encoding="utf-8"), re.MULTILINE
        ):
            found.setdefault(package, set()).add(version)
        return found

    tested = versions("dev")
    differing = {p: (v, tested[p]) for p, v in versions(name).items() if p in tested and not v <= tested[p]}
    assert not differing


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(ENTRIES))
def test_the_services_of_an_image_import_nothing_that_it_lacks(name: str) -> None:
    there = pinned(name)
    lacking = sorted(module for module, package in HEAVY.items() if not {package, f"{package}-cpu"} & there)
    code = (
        "import importlib, sys\n"
        f"for module in {lacking!r}: sys.modules[module] = None\n"
        f"for module in {ENTRIES[name]!r}: importlib.import_module(module)\n"
    )
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-1500:]
