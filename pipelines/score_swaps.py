"""What the score service says durably between batches: which version serves from when on, and whom it lets go of."""

from __future__ import annotations

from collections.abc import Mapping

import structlog

from anomaly.domain import Asset
from pipelines.partition_state import PartitionState
from pipelines.ports import Log
from pipelines.serving import ServingTable, activate, let_go
from pipelines.versions import Versions

_log = structlog.get_logger(__name__)


def take_up(
    log: Log, table: ServingTable, versions: Versions, groups: Mapping[str, tuple[Asset, ...]], state: PartitionState
) -> None:
    """Say from which event time the partition uses a newly wished version. Raises StorageError."""
    for group, members in groups.items():
        wish = table.open_wish(state.number, group)
        if wish is None or versions.get(group, wish.serving.version) is None:
            continue
        paths = {asset.path for asset in members}
        emitted = table.emitted(state.number, state.emitted)
        activate(log, state.number, wish, {a: t for a, t in emitted.items() if a in paths})
        table.refresh(log)
        _log.info("version_serves", group=group, version=wish.serving.version, partition=state.number)


def let_idle_go(log: Log, state: PartitionState) -> None:
    """Before a commit forgets an asset that is silent for long: note how far it was scored. Raises StorageError."""
    idle = state.newly_idle()
    let_go(log, state.number, idle)
    state.let_go |= idle.keys()
