"""Consumer groups as a pure state: who is a member, who owns which partition, since which generation.

Membership is cooperative. When members come or go, every partition has a new *target* (Kafka's range rule over
members in order of joining), but a live owner keeps its partitions until its own next `sync` gives them up; only then
the target takes them. So a partition is handed over between two polls of its owner, never in the middle of a batch. A
member that does not sync within the session time is removed and loses everything at once; what it commits later is
refused, because ownership carries the generation (`since`) at which it was taken.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

import msgspec

from pipelines.ports import Partition

_Packed = tuple[int, int, list[tuple[int, tuple[str, ...], int]], list[tuple[str, int, int, int]]]


class Owner(NamedTuple):
    """A member, and the generation at which it took the partition."""

    member: int
    since: int


@dataclass(slots=True)
class Member:
    """What a member subscribes to, and when it was last heard of (ns of a monotonic timer)."""

    topics: tuple[str, ...]
    beat: int


@dataclass(slots=True)
class Group:
    """State of one group. `generation` grows whenever another member may have something to do."""

    generation: int = 0
    last: int = 0
    """Number of the member that joined last."""
    members: dict[int, Member] = field(default_factory=dict)
    owners: dict[Partition, Owner] = field(default_factory=dict)

    def join(self, topics: tuple[str, ...], now: int) -> int:
        """A new member; returns its number."""
        self.last += 1
        self.generation += 1
        self.members[self.last] = Member(topics, now)
        return self.last

    def silent(self, now: int, session: int) -> set[int]:
        """Members not heard of for longer than `session` ns, or last heard of in the future: before a reboot."""
        return {number for number, member in self.members.items() if not 0 <= now - member.beat <= session}

    def leave(self, numbers: Iterable[int]) -> None:
        """Remove members and free what they own. Unknown numbers are ignored."""
        gone = self.members.keys() & set(numbers)
        if not gone:
            return
        self.members = {number: member for number, member in self.members.items() if number not in gone}
        self.owners = {partition: owner for partition, owner in self.owners.items() if owner.member not in gone}
        self.generation += 1

    def sync(self, number: int, topics: tuple[str, ...], now: int, counts: Mapping[str, int]) -> None:
        """Heartbeat of a member: give up what is meant for others, take what is free and meant for it.

        A member that was removed comes back with nothing. `counts`: partitions of each topic.
        """
        if number not in self.members:
            self.generation += 1
            self.members[number] = Member(topics, now)
        self.members[number].beat = now
        target = range_assignment(self.members, counts)
        released = [p for p, owner in self.owners.items() if owner.member == number and target.get(p) != number]
        for partition in released:
            del self.owners[partition]
        self.generation += bool(released)
        for partition, member in target.items():
            if member == number and partition not in self.owners:
                self.owners[partition] = Owner(number, self.generation)

    def held(self, number: int) -> dict[Partition, int]:
        """Partitions a member owns, each with the generation since which it does."""
        return {p: owner.since for p, owner in sorted(self.owners.items()) if owner.member == number}

    def pack(self) -> bytes:
        """The state as bytes."""
        members = [(number, member.topics, member.beat) for number, member in self.members.items()]
        owners = [(*partition, *owner) for partition, owner in self.owners.items()]
        return msgspec.msgpack.encode((self.generation, self.last, members, owners))

    @classmethod
    def unpack(cls, packed: bytes | None) -> Group:
        """The state from `pack`; a new group from None."""
        if packed is None:
            return cls()
        generation, last, members, owners = msgspec.msgpack.decode(packed, type=_Packed)
        return cls(
            generation,
            last,
            {number: Member(topics, beat) for number, topics, beat in members},
            {Partition(topic, number): Owner(member, since) for topic, number, member, since in owners},
        )


def range_assignment(members: Mapping[int, Member], counts: Mapping[str, int]) -> dict[Partition, int]:
    """Kafka's range rule: of each topic, contiguous runs of partitions to its members in order of joining.

    Topics with equal counts are cut alike, so an asset's partitions of all topics are at one member.

    >>> two = {1: Member(("a",), 0), 2: Member(("a",), 0)}
    >>> [member for _, member in sorted(range_assignment(two, {"a": 3}).items())]
    [1, 1, 2]
    """
    target: dict[Partition, int] = {}
    for topic, count in counts.items():
        takers = sorted(number for number, member in members.items() if topic in member.topics)
        start = 0
        for place, number in enumerate(takers):
            share = count // len(takers) + (place < count % len(takers))
            target |= {Partition(topic, p): number for p in range(start, start + share)}
            start += share
    return target


def difference(mine: Mapping[Partition, int], held: Mapping[Partition, int]) -> tuple[list[Partition], list[Partition]]:
    """(lost, gained) between what a member thought it holds and what it holds; one lost and regained is in both."""
    lost = [p for p in sorted(mine) if held.get(p) != mine[p]]
    return lost, [p for p in sorted(held) if mine.get(p) != held[p]]
