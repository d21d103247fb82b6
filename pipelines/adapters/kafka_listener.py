"""What the group gave and took, written down on the client's IO thread: it never waits and never commits."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from kafka.consumer.subscription_state import AsyncConsumerRebalanceListener

from pipelines.adapters.kafka_assignor import TogetherAssignor
from pipelines.ports import Partition


class Assignment(AsyncConsumerRebalanceListener):  # type: ignore[misc]  # the library has no types
    """`epochs`: what is held now, each with the number of the gift; a partition that went and came has another one.

    A new partition is paused and set to 0, a place it is never read from: the owner seeks before anything is fetched.
    """

    def __init__(self, client: Any, assignor: TogetherAssignor, ours: Callable[[Any], Partition]) -> None:
        self.epochs: dict[Partition, int] = {}
        self._client = client
        self._assignor = assignor
        self._ours = ours
        self._gifts = 0

    async def on_partitions_assigned(self, assigned: Iterable[Any]) -> None:
        """Pause and note down."""
        self._gifts += 1
        now = dict(self.epochs)
        for tp in assigned:
            self._client.pause(tp)
            self._client.seek(tp, 0)
            now[self._ours(tp)] = self._gifts
        self.epochs = now

    async def on_partitions_revoked(self, revoked: Iterable[Any]) -> None:
        """Note down."""
        gone = {self._ours(tp) for tp in revoked}
        self.epochs = {partition: gift for partition, gift in self.epochs.items() if partition not in gone}

    async def on_partitions_lost(self, lost: Iterable[Any]) -> None:
        """Note down, and claim nothing of it when joining anew: others have it already."""
        self._assignor.owned = frozenset()
        await self.on_partitions_revoked(lost)
