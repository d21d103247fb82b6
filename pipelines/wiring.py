"""Joins settings to adapters: the only place that knows which adapter stands behind which port."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from anomaly.domain import Plant
from anomaly.errors import ConfigurationError
from anomaly.registry import Registry
from pipelines import topics
from pipelines.adapters.historian_rows import HistorianRetention
from pipelines.adapters.sqlite_historian import SqliteHistorian
from pipelines.adapters.sqlite_historian_reading import SqliteHistorianReader
from pipelines.adapters.sqlite_log import SqliteLog
from pipelines.adapters.system_clock import SystemClock
from pipelines.adapters.upkeep import Retention
from pipelines.plant_file import load_plant
from pipelines.ports import Clock, Historian, HistorianReader, Log, Notifier
from pipelines.settings import Settings
from pipelines.wiring_servers import influx_config, kafka_config

LOG_FILE = "log.db"
HISTORIAN_FILE = "historian.db"
PLANT_FILE = "plant.toml"
MODELS_FOLDER = "models"

_HOUR = 3600 * 1_000_000_000
_DAY = 24 * _HOUR


def open_log(settings: Settings, clock: Clock | None = None) -> Log:
    """The log that the settings name. Raises StorageError, Unreachable, ConfigurationError.

    The embedded one has every topic then; on Kafka they are made by `plantwatch topics init` alone.
    """
    if settings.log == "kafka":
        from pipelines.adapters.kafka_log import KafkaLog  # noqa: PLC0415  # not needed without Kafka

        return KafkaLog(kafka_config(settings))
    keep = Retention(age=int(settings.log_retention_hours * _HOUR))
    passing = (topics.READINGS, topics.SCORES, topics.DEAD_LETTERS)
    log = SqliteLog(settings.data_dir / LOG_FILE, clock or SystemClock(), retention=dict.fromkeys(passing, keep))
    log.create(topics.partitions(settings.partitions), topics.COMPACTED)
    return log


def open_historian(settings: Settings) -> Historian:
    """The historian that the settings name, for writing and reading. Raises StorageError, Unreachable."""
    if settings.historian == "influxdb":
        from pipelines.adapters.influx_historian import InfluxHistorian  # noqa: PLC0415  # not needed without InfluxDB

        return InfluxHistorian(influx_config(settings))
    age = int(settings.historian_retention_days * _DAY)
    retention = HistorianRetention(readings=age, scores=age)
    return SqliteHistorian(settings.data_dir / HISTORIAN_FILE, retention=retention)


def open_historian_reader(settings: Settings) -> HistorianReader:
    """The historian that the settings name, for reading alone; an embedded one that is not there reads as empty."""
    if settings.historian == "influxdb":
        from pipelines.adapters.influx_reading import InfluxReader  # noqa: PLC0415  # not needed without InfluxDB

        return InfluxReader(influx_config(settings))
    return SqliteHistorianReader(settings.data_dir / HISTORIAN_FILE)


def models_folder(settings: Settings) -> Path:
    """Where the versions lie."""
    return settings.models_dir or settings.data_dir / MODELS_FOLDER


def open_registry(settings: Settings) -> Registry:
    """The model store that the settings name, else that of the data folder."""
    return Registry(models_folder(settings), settings.scoring_device)


def open_plant(settings: Settings) -> Plant:
    """The plant file that the settings name, or the data folder's. Raises ConfigurationError."""
    path = settings.plant or settings.data_dir / PLANT_FILE
    if not path.is_file():
        raise ConfigurationError(
            f"no plant file: {path} does not exist; describe the plant there, or start with "
            "`plantwatch run --data DIR` on files, which discovers it"
        )
    return load_plant(path)


def open_notifiers(settings: Settings, say: Callable[[str], None], timezone: str) -> tuple[Notifier, ...]:
    """The ways to tell people that the settings name; the console, through `say`, always. Raises ConfigurationError."""
    from pipelines.adapters.console import ConsoleNotifier  # noqa: PLC0415  # httpx is slow to import
    from pipelines.adapters.webhook import WebhookNotifier  # noqa: PLC0415

    notifiers: list[Notifier] = [ConsoleNotifier(say, timezone=timezone)]
    if settings.webhook_url is not None:
        secret = settings.webhook_secret.get_secret_value() if settings.webhook_secret else None
        notifiers.append(WebhookNotifier(str(settings.webhook_url), secret))
    if settings.alertmanager_url is not None:
        from pipelines.adapters.alertmanager import AlertmanagerNotifier  # noqa: PLC0415

        notifiers.append(AlertmanagerNotifier(str(settings.alertmanager_url)))
    return (*notifiers, *open_apprise(settings))


def open_apprise(settings: Settings) -> tuple[Notifier, ...]:
    """One notifier a URL of `notify_urls`, named by its scheme. Raises ConfigurationError that repeats no URL."""
    if not settings.notify_urls:
        return ()
    from pipelines.adapters.apprise_notifier import AppriseNotifier  # noqa: PLC0415  # slow to import

    found: dict[str, Notifier] = {}
    for url in settings.notify_urls:
        text = url.get_secret_value()
        scheme = text.split(":", 1)[0] if "://" in text else "apprise"
        count = sum(name.split("-")[0] == scheme for name in found)
        name = f"{scheme}-{count + 1}" if count else scheme
        found[name] = AppriseNotifier(text, name=name)
    return tuple(found.values())


def data_file(settings: Settings, name: str) -> Path:
    """A file of the data folder, the folder made if need be. Raises ConfigurationError if it cannot be."""
    try:
        settings.data_dir.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigurationError(
            f"the data folder {settings.data_dir} cannot be made ({error.strerror}); "
            "expected a folder that may be written; choose another with --data-dir"
        ) from error
    return settings.data_dir / name
