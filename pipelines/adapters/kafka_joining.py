"""Three faults of kafka-python 3.0.12 in joining a group, met from outside. The first two strike when polls are short.

A join goes on between polls. (1) If it *ends* between two polls, `join_group_async` takes the finished task for none at
all and joins once more; when the leader does so, the whole group rebalances again, for tens of seconds. (2) If it began
because the topics' metadata changed, `need_rejoin` turns false before its end; the outcome is never looked at, and the
member neither reads nor beats any more. (3) A static member whose place was taken by another process under its name is
not told: it stops beating and reads on for ever.
"""

from __future__ import annotations

from typing import Any

from kafka.errors import FencedInstanceIdError
from kafka.structs import MemberState

from pipelines.adapters.kafka_assignor import TogetherAssignor


class _Unread:
    """A join whose outcome the client has not taken in: to the client it must not look done."""

    is_done = False

    def __init__(self, task: Any) -> None:
        self._task = task

    def __getattr__(self, name: str) -> Any:
        return getattr(self._task, name)


def keep_joining(client: Any, assignor: TogetherAssignor) -> None:
    """To be called before each poll: a join that is under way, or just ended, is taken in by that poll.

    A static member joins twice (see `TogetherAssignor`). Raises FencedInstanceIdError if another took its place.
    """
    coordinator = client._coordinator
    task = getattr(coordinator, "_join_task", None)
    if task is not None and not isinstance(task, _Unread):
        coordinator._join_task = _Unread(task)
    stable = coordinator.stable() and not coordinator.rejoining
    if stable and not coordinator._heartbeat_enabled:
        raise FencedInstanceIdError(client.config["group_instance_id"])
    static = client.config["group_instance_id"] is not None
    if joining(client) or (static and assignor.lives == 1):
        coordinator.request_rejoin()


def joining(client: Any) -> bool:
    """Whether a join is under way: until it ends, the group takes no commit of this member."""
    return bool(client.group_metadata().state == MemberState.REBALANCING)
