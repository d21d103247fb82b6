"""Which version serves which group, since when, and what its card says."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from anomaly.domain import Plant
from anomaly.errors import ModelRefused
from anomaly.model_card import ModelCard
from anomaly.registry import Registry
from pipelines.codec import Serving
from pipelines.ports import Log, ScoreSummary
from pipelines.serving import ServingTable


@dataclass(frozen=True, slots=True)
class Service:
    """One version that served (or serves) a group from event time `since` (ns) on."""

    version: str
    rung: str
    since: int


@dataclass(frozen=True, slots=True)
class GroupView:
    """One group: what its newest scores were made by, the wish that stands, and what served before, oldest first."""

    group: str
    machines: tuple[str, ...]
    scoring: tuple[tuple[str, str, int], ...]
    """Version, rung and number of machines of the newest scores, most machines first."""
    wish: Serving | None
    served: tuple[Service, ...]

    def since(self, version: str) -> int | None:
        """When the version last took over (event time, ns); None if the log does not say."""
        return next((service.since for service in reversed(self.served) if service.version == version), None)


def group_views(plant: Plant, latest: Sequence[ScoreSummary], log: Log) -> tuple[GroupView, ...]:
    """All groups in plant-file order. Raises StorageError."""
    table = ServingTable()
    table.refresh(log)
    return tuple(
        GroupView(
            group=group,
            machines=tuple(asset.path for asset in assets),
            scoring=_scoring(latest, {asset.path for asset in assets}),
            wish=table.wishes[group].serving if group in table.wishes else None,
            served=_served(table, group),
        )
        for group, assets in plant.groups().items()
    )


def _scoring(latest: Iterable[ScoreSummary], paths: set[str]) -> tuple[tuple[str, str, int], ...]:
    counted: dict[tuple[str, str], int] = {}
    for row in latest:
        if row.asset in paths:
            counted[row.version, row.rung] = counted.get((row.version, row.rung), 0) + 1
    return tuple((version, rung, n) for (version, rung), n in sorted(counted.items(), key=lambda item: -item[1]))


def _served(table: ServingTable, group: str) -> tuple[Service, ...]:
    """Each take-over once, at the earliest event time any partition took it up."""
    first: dict[tuple[int, str], Service] = {}
    for (_, named), activations in table.activations.items():
        for activation in activations if named == group else ():
            since = min(activation.since.values(), default=activation.default)
            key = (activation.wish, activation.version)
            if key not in first or since < first[key].since:
                first[key] = Service(activation.version, activation.rung.value, since)
    return tuple(sorted(first.values(), key=lambda service: service.since))


def card(registry: Registry, group: str, version: str) -> ModelCard | None:
    """The card of a stored version; None for rules, and for what is missing or damaged. Raises StorageError."""
    try:
        return registry.card(group, version) if version in registry.versions(group) else None
    except ModelRefused:
        return None


@dataclass(frozen=True, slots=True)
class Training:
    """What the trainer last said of a group: which step, how far (0..1), and why it ended as it did."""

    stage: str
    done: float
    reason: str


def trainings(status: Mapping[str, str | int | float]) -> dict[str, Training]:
    """The trainer's heartbeat by group: its figures are called `stage:GROUP`, `done:GROUP`, `reason:GROUP`."""
    groups = [name.partition(":")[2] for name in status if name.startswith("stage:")]
    return {
        group: Training(
            stage=str(status[f"stage:{group}"]),
            done=_share(status.get(f"done:{group}", 0.0)),
            reason=str(status.get(f"reason:{group}", "")),
        )
        for group in groups
    }


def _share(value: str | float) -> float:
    """A share of 1; 0 for what is none."""
    return min(1.0, max(0.0, float(value))) if isinstance(value, int | float) and math.isfinite(value) else 0.0


def left_out(found: ModelCard) -> Mapping[str, int]:
    """Rows a version was not trained on, by reason, largest first, none of zero."""
    return dict(sorted(((why, n) for why, n in found.left_out.items() if n), key=lambda item: -item[1]))
