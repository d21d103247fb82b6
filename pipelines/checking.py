"""What `plantwatch check` looks at, one finding each: what was found, and how to mend it where it is wrong."""

from __future__ import annotations

import importlib.util
import os
import platform
import shutil
import socket
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

from anomaly.domain import Plant
from anomaly.errors import ConfigurationError, PlantwatchError, StorageError, StorageFull
from pipelines import checking_servers, wiring
from pipelines.discovery import discover_plant
from pipelines.findings import Finding, Status
from pipelines.run_source import described, other_plant, zone_of_files
from pipelines.settings import Settings

_OLDEST, _NEWEST = (3, 11), (3, 13)
_NOTES: Final = 20
"""At most so many notes on files are told."""
FREE_NEEDED: Final = 100 << 20
FREE_WISHED: Final = 2 << 30


def check_all(
    read_settings: Callable[[], Settings], data: Path | None = None, version: tuple[int, int] = sys.version_info[:2]
) -> Iterator[Finding]:
    """Every finding, as it is made. `data`: files that shall be read. Wrong settings end it: the rest hangs on them."""
    yield python(version)
    yield nets()
    try:
        settings = read_settings()
    except PlantwatchError as error:
        yield _failed("settings", error)
        return
    yield Finding("settings", Status.OK, f"data folder {settings.data_dir}")
    yield from _looks(
        ("plant", lambda: plant(settings)),
        ("data folder", lambda: folder(settings.data_dir, needed=not _on_servers(settings))),
        *_log_looks(settings),
        ("historian", lambda: historian(settings)),
        ("models", lambda: models(settings)),
        ("dashboard port", lambda: port(settings)),
        *([("notify urls", lambda: notify_urls(settings))] if settings.notify_urls else []),
    )
    if data is not None:
        yield from _looks(("data files", lambda: files(data, settings)))


def _log_looks(settings: Settings) -> tuple[tuple[str, Callable[[], Finding]], ...]:
    """The file of the log; or the broker, and only if that answers what lies on it."""
    if settings.log == "embedded":
        return (("log", lambda: log(settings)),)
    reached: list[bool] = []

    def broker() -> Finding:
        found = checking_servers.kafka(settings)
        reached.append(True)
        return found

    def behind(look: Callable[[Settings], Finding], name: str) -> Callable[[], Finding]:
        return lambda: look(settings) if reached else Finding(name, Status.WARNING, "not looked at: no broker answers")

    return (
        ("kafka", broker),
        ("topics", behind(checking_servers.kafka_topics, "topics")),
        ("groups", behind(checking_servers.kafka_groups, "groups")),
    )


def _looks(*looks: tuple[str, Callable[[], Finding]]) -> Iterator[Finding]:
    for name, look in looks:
        try:
            yield look()
        except PlantwatchError as error:
            yield _failed(name, error)


def _failed(name: str, error: PlantwatchError) -> Finding:
    return Finding(name, Status.FAILURE, str(error), error.exit_code)


def python(version: tuple[int, int]) -> Finding:
    """The interpreter is one that the nets' libraries exist for."""
    if not _OLDEST <= version <= _NEWEST:
        text = f"Python {version[0]}.{version[1]} runs; expected 3.11 to 3.13: make the environment with one of them"
        return Finding("python", Status.FAILURE, text, ConfigurationError.exit_code)
    return Finding("python", Status.OK, f"Python {platform.python_version()}")


def nets() -> Finding:
    """The LSTM autoencoder can be trained here; without it the ladder ends one rung lower. Imports nothing heavy."""
    missing = [name for name in ("tensorflow", "tf2onnx") if importlib.util.find_spec(name) is None]
    if missing:
        text = f"{' and '.join(missing)} not installed, so no net can be trained; install the extra `cpu` or `gpu`"
        return Finding("nets", Status.WARNING, text)
    return Finding("nets", Status.OK, "TensorFlow is installed")


def plant(settings: Settings) -> Finding:
    """The plant file, if there is one, is without mistakes."""
    usual = settings.data_dir / wiring.PLANT_FILE
    if settings.plant is None and not usual.exists():
        if settings.log == "kafka":
            text = f"no plant file {usual}; services wait for it: `plantwatch discover` drafts one from the readings"
            return Finding("plant", Status.WARNING, text)
        return Finding("plant", Status.OK, "no plant file; the plant is discovered from its data")
    found: Plant = wiring.open_plant(settings)
    signals = sum(len(asset.signals) for asset in found.assets)
    return Finding("plant", Status.OK, f"{found.name}: {len(found.assets)} assets, {signals} signals")


def _on_servers(settings: Settings) -> bool:
    """Whether the data folder holds nothing that every service needs."""
    return settings.log == "kafka" and settings.historian == "influxdb"


def folder(path: Path, *, needed: bool = True) -> Finding:
    """The data folder can be made and written, and its disk has room. Not `needed`: else a warning."""
    try:
        return _folder(path)
    except PlantwatchError as error:
        if needed:
            raise
        text = f"{error} (only `serve train` and `serve simulator` need it: the rest is on servers)"
        return Finding("data folder", Status.WARNING, text)


def _folder(path: Path) -> Finding:
    there = path
    while not there.exists() and there != there.parent:
        there = there.parent
    if not there.is_dir():
        raise ConfigurationError(
            f"{there} is a file, so the data folder {path} cannot be made; choose another data_dir"
        )
    try:
        _write_in(there)
    except OSError as error:
        mend = f"change its rights, or choose another data_dir (now {path})"
        raise StorageError(f"the folder {there} cannot be written: {error.strerror}; {mend}") from error
    free = shutil.disk_usage(there).free
    if free < FREE_NEEDED:
        raise StorageFull(
            f"{free >> 20} MiB are free on the disk of {path}; expected {FREE_NEEDED >> 20} MiB: free some"
        )
    if free < FREE_WISHED:
        return Finding("data folder", Status.WARNING, f"{path} can be written, but has {free >> 20} MiB free only")
    return Finding("data folder", Status.OK, f"{path} can be written, {free >> 30} GiB free")


def _write_in(there: Path) -> None:
    with tempfile.NamedTemporaryFile(dir=there, prefix=".plantwatch-check-") as file:
        file.write(b"x" * 4096)
        file.flush()
        os.fsync(file.fileno())


def log(settings: Settings) -> Finding:
    """The log of the data folder, if there is one, opens with the partitions of the settings and is not locked."""
    path = settings.data_dir / wiring.LOG_FILE
    if not path.exists():
        return Finding("log", Status.OK, "none yet; it is made at the first start")
    opened = wiring.open_log(settings)
    opened.close()
    return Finding("log", Status.OK, f"{path} opens, {settings.partitions} partitions")


def historian(settings: Settings) -> Finding:
    """The historian of the data folder, if there is one, can be written now and read; or what InfluxDB allows."""
    if settings.historian == "influxdb":
        return checking_servers.influxdb(settings)
    path = settings.data_dir / wiring.HISTORIAN_FILE
    if not path.exists():
        return Finding("historian", Status.OK, "none yet; it is made at the first start")
    opened = wiring.open_historian(settings)
    try:
        opened.write()
        assets = opened.assets()
    finally:
        opened.close()
    return Finding("historian", Status.OK, f"{path} opens, {len(assets)} assets stored")


def models(settings: Settings) -> Finding:
    """Every champion passes the checks of its loading; so does what waits as challenger."""
    if not wiring.models_folder(settings).exists():
        return Finding("models", Status.OK, "none yet; rules serve until a first model is trained")
    registry = wiring.open_registry(settings)
    loaded = 0
    for group in registry.groups():
        for version in dict.fromkeys(registry.aliases(group).values()):
            registry.load(group, version)
            loaded += 1
    return Finding("models", Status.OK, f"{loaded} versions load")


def port(settings: Settings) -> Finding:
    """The dashboard's port is free. Taken, and nobody named it: another is chosen at the start."""
    host, number = settings.dashboard_host, settings.dashboard_port
    try:
        family = socket.getaddrinfo(host, number, type=socket.SOCK_STREAM)[0][0]
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((host, number))
    except OSError as error:
        what = f"{host}:{number} cannot be listened on: {error.strerror}"
        if "dashboard_port" in settings.model_fields_set:
            raise ConfigurationError(
                f"{what}; choose another dashboard_port, or end the program that has it"
            ) from error
        return Finding("dashboard port", Status.WARNING, f"{what}; another port will be chosen")
    return Finding("dashboard port", Status.OK, f"{host}:{number} is free")


def notify_urls(settings: Settings) -> Finding:
    """Every notification address is understood; nothing is sent."""
    names = [notifier.name for notifier in wiring.open_apprise(settings)]
    return Finding("notify urls", Status.OK, f"understood: {', '.join(names)}")


def files(data: Path, settings: Settings) -> Finding:
    """Files that shall be read are understood, each to its end, and a plant follows from them."""
    from pipelines.sources.folder import Folder  # noqa: PLC0415  # pandas, which only who reads files has installed

    known = described(settings, data)
    source = Folder(data, timezone=zone_of_files(settings, known))
    found = discover_plant(source.blocks())
    assets = found.plant.assets
    count, signals = len(source.reports), sum(len(asset.signals) for asset in assets)
    differing = other_plant(settings, data, known) if known else ""
    notes = (*filter(None, [differing]), *source.notes(), *found.notes)
    ways = dict.fromkeys(report.dialect for report in source.reports if report.dialect)
    told = [f"{count} files ({'; '.join(ways)}), {len(assets)} assets, {signals} signals"]
    told += notes[:_NOTES]
    told += [f"… and {len(notes) - _NOTES} notes more"] if len(notes) > _NOTES else []
    return Finding("data files", Status.WARNING if notes else Status.OK, "\n".join(told))
