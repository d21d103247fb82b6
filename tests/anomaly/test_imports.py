"""Importing the core or a service loads neither TensorFlow nor Keras: only training pays for them."""

from __future__ import annotations

import importlib.util
import pkgutil
import subprocess
import sys

import pytest

HEAVY = {"keras", "tensorflow"}
TRAINING = {"anomaly.models", "anomaly.rivals", "anomaly.training"}
"""Rooms that build nets; they load Keras when they are called at the earliest, see below."""


def every_module(package: str) -> list[str]:
    """All modules below a package, found on disk: nothing below the package itself is imported."""
    spec = importlib.util.find_spec(package)
    assert spec is not None
    found, folders = [package], [(package, list(spec.submodule_search_locations or ()))]
    while folders:
        name, path = folders.pop()
        for module in pkgutil.iter_modules(path, name + "."):
            found.append(module.name)
            if module.ispkg:
                folders.append((module.name, [f"{place}/{module.name.rpartition('.')[2]}" for place in path]))
    return sorted(found)


def loaded_by(modules: list[str]) -> set[str]:
    """Top-level packages that a fresh interpreter holds after importing these modules."""
    lines = "\n".join(f"import {module}" for module in modules)
    code = f"{lines}\nimport sys\nprint('\\n'.join({{name.partition('.')[0] for name in sys.modules}}))"
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return set(done.stdout.split())


def core() -> list[str]:
    """Every room of the core but those that build nets."""
    return [name for name in every_module("anomaly") if not any(name.startswith(room) for room in TRAINING)]


def test_the_walk_finds_the_rooms() -> None:
    found = core()
    assert {"anomaly.domain", "anomaly.detector", "anomaly.scorers.window_pca", "anomaly.registry.bundle"} <= set(found)
    assert "anomaly.compiled" in found
    assert len(found) > 25


@pytest.mark.slow
def test_importing_every_room_of_the_core_loads_no_tensorflow() -> None:
    loaded = loaded_by(core())
    assert "numpy" in loaded
    assert not HEAVY & loaded


@pytest.mark.slow
def test_the_rooms_that_only_calculate_load_no_onnx_no_pandas_and_no_service() -> None:
    l0 = [
        name for name in core() if not name.startswith(("anomaly.compiled", "anomaly.registry", "anomaly.model_card"))
    ]
    loaded = loaded_by(l0)
    assert not (HEAVY | {"onnxruntime", "onnx", "pandas", "pipelines", "dashboard", "structlog", "sqlite3"}) & loaded


@pytest.mark.slow
@pytest.mark.parametrize(
    "modules",
    [
        ["pipelines.scoring", "pipelines.recording", "pipelines.alert_service"],
        ["pipelines.embedded", "pipelines.wiring", "pipelines.running"],
        ["pipelines.cli", "pipelines.commands.run", "pipelines.commands.demo", "pipelines.demo"],
    ],
    ids=["services", "embedded", "commands"],
)
def test_a_service_loads_no_tensorflow(modules: list[str]) -> None:
    assert not HEAVY & loaded_by(modules)


@pytest.mark.slow
def test_the_dashboard_loads_no_tensorflow() -> None:
    modules = [name for name in every_module("dashboard") if name != "dashboard.entry.script"]  # a script runs the app
    assert {"dashboard.pages.overview", "dashboard.queries"} <= set(modules)
    assert not HEAVY & loaded_by(modules)
