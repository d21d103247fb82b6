"""Who reads which partition: each member keeps what it has, shares are even, equal numbers stay together.

Topics of one group with equal partition counts are cut alike, so an asset's partitions of all topics are at one
member. Moves are cooperative (KIP-429): a partition that must move is first given up by its owner and handed on in the
next round, so nobody else stops and no partition ever has two owners.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from kafka.coordinator.assignors.abstract import AbstractPartitionAssignor, RebalanceProtocol
from kafka.protocol.consumer.metadata import ConsumerProtocolAssignment, ConsumerProtocolSubscription

Place = tuple[str, int]
"""Topic and partition number, the broker's names."""
_WITH_OWNED: Final = 1
"""Version of the subscription from which on members say what they own."""


class TogetherAssignor(AbstractPartitionAssignor):  # type: ignore[misc]  # the library has no types
    """One per consumer. `owned` is what this member truly holds: a member that lost all must not claim it.

    `lives`: how often this member was given a share. A static member that comes back to life is given the share of its
    last life, unseen by the leader; had it died in the middle of a move, the moving partition would be nobody's for
    ever. So it must join a second time, and because its metadata then differ, the broker lets the group share anew.
    """

    name = "plantwatch-cooperative"
    version = _WITH_OWNED

    def __init__(self) -> None:
        self.owned: frozenset[Place] = frozenset()
        self.lives = 0

    def supported_protocols(self) -> list[Any]:
        """Cooperative only."""
        return [RebalanceProtocol.COOPERATIVE]

    def metadata(self, topics: Iterable[str]) -> Any:
        """What this member tells the leader when it joins."""
        by_topic: dict[str, list[int]] = defaultdict(list)
        for topic, number in sorted(self.owned):
            by_topic[topic].append(number)
        part = ConsumerProtocolSubscription.TopicPartition
        owned = [part(topic=topic, partitions=numbers) for topic, numbers in by_topic.items()]
        return ConsumerProtocolSubscription(
            version=self.version,
            topics=sorted(topics),
            user_data=b"settled" if self.lives else b"",
            owned_partitions=owned,
        )

    def assign(self, cluster: Any, members: Sequence[Any]) -> dict[str, Any]:
        """On the leader: this round's share of each member."""
        topics = {m.member_id: frozenset(m.metadata.topics) for m in members}
        owners = {
            (part.topic, number): member.member_id
            for member in members
            for part in getattr(member.metadata, "owned_partitions", None) or ()
            for number in part.partitions
        }
        counts = {t: len(cluster.partitions_for_topic(t) or ()) for t in frozenset().union(*topics.values())}
        shares: dict[str, dict[str, list[int]]] = {member: defaultdict(list) for member in topics}
        for (topic, number), member in sorted(target(topics, counts, owners).items()):
            if owners.get((topic, number), member) == member:  # what moves is nobody's until its owner gave it up
                shares[member][topic].append(number)
        return {
            member: ConsumerProtocolAssignment(self.version, sorted(share.items()), b"")
            for member, share in shares.items()
        }

    def on_assignment(self, assignment: Any, generation: int) -> None:
        """Note down the new share of this member."""
        self.lives += 1
        self.owned = frozenset((part.topic, part.partition) for part in assignment.partitions())


def target(
    topics: Mapping[str, frozenset[str]], counts: Mapping[str, int], owners: Mapping[Place, str]
) -> dict[Place, str]:
    """Who shall have which partition in the end. `topics` by member, partition `counts` by topic, `owners` now.

    >>> both = {"a": frozenset({"r", "s"}), "b": frozenset({"r", "s"})}
    >>> now = {("r", n): "a" for n in range(3)} | {("s", n): "a" for n in range(3)}
    >>> sorted(place for place, member in target(both, {"r": 3, "s": 3}, now).items() if member == "b")
    [('r', 2), ('s', 2)]
    """
    alike: dict[tuple[int, tuple[str, ...]], list[str]] = defaultdict(list)
    for topic in sorted(counts):
        alike[counts[topic], tuple(sorted(m for m, wanted in topics.items() if topic in wanted))].append(topic)
    loads: Counter[str] = Counter()
    result: dict[Place, str] = {}
    for (count, members), names in sorted(alike.items(), reverse=True):
        held = {n: owner for name in reversed(names) for n in range(count) if (owner := owners.get((name, n)))}
        for number, member in _share(count, members, held, loads).items():
            result |= dict.fromkeys([(name, number) for name in names], member)
            loads[member] += len(names)
    return result


def _share(count: int, members: Sequence[str], held: Mapping[int, str], loads: Mapping[str, int]) -> dict[int, str]:
    """Numbers 0 to `count` shared evenly, each member keeping what it holds as far as that is fair."""
    if not members:
        return {}
    has = Counter(held.values())
    order = sorted(members, key=lambda member: (-has[member], loads.get(member, 0), member))
    base, more = divmod(count, len(order))
    room = {member: base + (place < more) for place, member in enumerate(order)}
    share: dict[int, str] = {}
    for number in range(count):
        if room.get(held.get(number, ""), 0):
            share[number] = held[number]
            room[held[number]] -= 1
    free = (member for member in order for _ in range(room[member]))
    return {number: share.get(number) or next(free) for number in range(count)}
