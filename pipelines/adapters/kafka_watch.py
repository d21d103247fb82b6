"""Ends, positions and a watchdog: a client that gets nothing though there is something is told from one that idles."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final

from kafka import errors as kafka

from anomaly.errors import StorageError, Unreachable

_EVERY_S: Final = 1.0
_ANSWER_MS: Final = 1_000
_MEET_MS: Final = 10_000
_DEAF_S: Final = 60.0
"""No broker answered for so long: the session ends, the service says so and tries anew."""


class Watch:
    """Looks once a second, without admin calls. Belongs to the thread that polls. `stall_s` as of `KafkaLog`."""

    def __init__(self, client: Any, stall_s: float, where: str, timer: Callable[[], float] = time.monotonic) -> None:
        self._client = client
        self._stall_s = stall_s
        self._where = where
        self._timer = timer
        self._ends: dict[Any, int] = {}
        self._places: dict[Any, tuple[int | None, float]] = {}
        """Where each partition stood when it last moved, and when that was."""
        self._looked = self._heard = timer()

    def meet(self, partitions: Sequence[Any]) -> None:
        """Let the client learn where partitions are before it joins: a leader that knows none gives none away."""
        self._client.end_offsets(list(partitions), timeout_ms=_MEET_MS)

    def look(self, held: Sequence[Any], fetching: Sequence[Any]) -> None:
        """Learn the ends of what is `held`; check that what is `fetching` moves.

        Raises StorageError if a partition stands still before its end, Unreachable if no broker answers any more.
        """
        now = self._timer()
        if now - self._looked < _EVERY_S:
            return
        self._looked = now
        if not held:
            self._heard = now
            return
        self._learn(held)
        for tp in [tp for tp in self._places if tp not in fetching]:
            del self._places[tp]
        for tp in fetching:
            self._check(tp, now)

    def moved(self, tp: Any) -> None:
        """Somebody sought: whatever it stood at does not count."""
        self._places.pop(tp, None)

    def begin_anew(self) -> None:
        """After a pause: nothing is late yet."""
        self._places.clear()

    def end(self, tp: Any) -> int | None:
        """The offset the next record will get, as far as known."""
        newest = self._client.highwater(tp) if tp in self._client.assignment() else None
        known = [end for end in (newest, self._ends.get(tp)) if end is not None]
        return max(known, default=None)

    def position(self, tp: Any) -> int | None:
        """The next offset the client will fetch; None while it is not known."""
        if tp not in self._client.assignment():
            return None
        place = self._client.position(tp, timeout_ms=0)
        return None if place is None else int(place)

    def _learn(self, held: Iterable[Any]) -> None:
        try:
            self._ends = self._client.end_offsets(list(held), timeout_ms=_ANSWER_MS)
            self._heard = self._timer()
        except kafka.RetriableError as error:  # a broker that restarts; the client finds it again by itself
            silent = self._timer() - self._heard
            if silent > _DEAF_S:
                raise Unreachable(
                    f"Kafka at {self._where} has not answered for {silent:.0f} s; start the broker, or look at the "
                    "network"
                ) from error

    def _check(self, tp: Any, now: float) -> None:
        place, end = self.position(tp), self._ends.get(tp)
        before = self._places.get(tp)
        if before is None or place != before[0] or end is None or (place is not None and place >= end):
            self._places[tp] = place, now
        elif now - before[1] > self._stall_s and now - self._heard < _EVERY_S * 2:
            raise StorageError(
                f"nothing came from partition {tp.partition} of {tp.topic!r} for {now - before[1]:.0f} s, though it "
                f"stands at {place} of {end}; joining the group anew"
            )
