"""How a service starts: servers not there yet are waited for, one line a try; what is wrong ends it at once."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from typing import Final, TypeVar

import structlog

from anomaly.domain import Plant
from anomaly.errors import ConfigurationError, StorageError, Unreachable
from pipelines import topics, wiring
from pipelines.condition import Condition
from pipelines.patience import wait_s
from pipelines.ports import Log
from pipelines.settings import Settings
from pipelines.wiring_servers import kafka_config

START_PATIENCE_S: Final = 60.0
"""Servers may take so long to come up, seconds."""
_T = TypeVar("_T")

_log = structlog.get_logger(__name__)


class Stopped(Exception):
    """The service was asked to stop before it had started."""


class NotThereYet(ConfigurationError):
    """Something that another service makes, or a person puts there, is missing so far."""


class Starter:
    """Opens what a service needs, in turn; all waits together last at most `patience_s`."""

    def __init__(self, stop: threading.Event, condition: Condition, patience_s: float = START_PATIENCE_S) -> None:
        self._stop = stop
        self._condition = condition
        self._deadline = time.monotonic() + patience_s

    def open(self, what: str, act: Callable[[], _T]) -> _T:
        """The result of `act`, tried until it succeeds. Raises Stopped; after the patience what `act` raised last.

        ConfigurationError is raised at once: waiting mends no password.
        """
        failures = 0
        while not self._stop.is_set():
            self._condition.turned()
            try:
                return act()
            except (StorageError, Unreachable, NotThereYet) as error:
                left = self._deadline - time.monotonic()
                self._condition.waiting = f"waiting for the {what}: {error}"
                _log.warning("waiting", what=what, reason=str(error), left_s=max(0, round(left)))
                if left <= 0:
                    raise
                self._stop.wait(min(max(1.0, wait_s(failures)), left))
                failures += 1
        raise Stopped


def open_log(settings: Settings, needed: Sequence[str]) -> Log:
    """The log, with the topics of a service looked at. Raises ConfigurationError, Unreachable, StorageError."""
    if settings.log == "kafka":
        from pipelines.adapters.kafka_probe import probe  # noqa: PLC0415  # not needed without Kafka

        probe(kafka_config(settings))  # says at once what a client would say after ten seconds, and better
    log = wiring.open_log(settings)
    try:
        counts = {topic: len(log.ends(topic)) for topic in needed}
        shared = {t: counts[t] for t in (topics.READINGS, topics.SCORES, topics.ALERT_STATE) if t in counts}
        if len(set(shared.values())) > 1:
            told = ", ".join(f"{topic} has {count}" for topic, count in shared.items())
            raise ConfigurationError(
                f"the topics that share their partitions do not agree: {told}; expected one number, as an asset is at "
                "home on the same partition of each; make them anew by `plantwatch topics init`"
            )
    except BaseException:
        log.close()
        raise
    return log


def open_plant(settings: Settings) -> Plant:
    """The plant file. Raises NotThereYet while there is none, ConfigurationError for mistakes in it."""
    path = settings.plant or settings.data_dir / wiring.PLANT_FILE
    if not path.is_file():
        raise NotThereYet(
            f"no plant file: {path} does not exist; describe the plant there (`plantwatch discover` drafts it from "
            "the readings on the log), or name another with PLANTWATCH_PLANT"
        )
    return wiring.open_plant(settings)
