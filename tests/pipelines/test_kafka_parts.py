"""Parts of the Kafka adapter that need no broker: shares, names, words for errors, room, the watchdog's judgement."""

from __future__ import annotations

import inspect
import ssl
import threading
from collections import Counter
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kafka import TopicPartition
from kafka import errors as kafka_errors

from anomaly.errors import ConfigurationError, Fenced, PlantwatchError, StorageError, Unreachable
from pipelines.adapters.kafka_assignor import Place, TogetherAssignor, target
from pipelines.adapters.kafka_config import KafkaConfig
from pipelines.adapters.kafka_errors import door, translated
from pipelines.adapters.kafka_producer import _Room, _slices
from pipelines.adapters.kafka_watch import Watch

HERE = ("kafka:9092",)
MEMBERS = st.sets(st.sampled_from("abcdefg"), min_size=1)


# -------------------------------------------------------------------- shares


def rounds(members: set[str], counts: Mapping[str, int], owners: dict[Place, str]) -> list[dict[Place, str]]:
    """Who owns what after each round of the cooperative protocol, until nothing changes, over the real assignor."""
    cluster = SimpleNamespace(partitions_for_topic=lambda topic: set(range(counts[topic])))
    history = [owners]
    for _ in range(4):
        joined = []
        for name in sorted(members):
            assignor = TogetherAssignor()
            assignor.owned = frozenset(place for place, owner in history[-1].items() if owner == name)
            joined.append(SimpleNamespace(member_id=name, metadata=assignor.metadata(set(counts))))
        shares = TogetherAssignor().assign(cluster, joined)
        history.append({(p.topic, p.partition): name for name, share in shares.items() for p in share.partitions()})
    return history


@settings(deadline=None)
@given(MEMBERS, st.lists(MEMBERS, min_size=1, max_size=4), st.integers(1, 9), st.integers(1, 3))
def test_shares_are_even_keep_equal_numbers_together_and_move_in_two_rounds(
    first: set[str], later: list[set[str]], many: int, few: int
) -> None:
    counts = {"r": many, "s": many, "one": few}
    owners = rounds(first, counts, {})[-1]
    for members in later:
        before = {place: owner for place, owner in owners.items() if owner in members}
        history = rounds(members, counts, before)
        for now, then in pairwise(history):
            for place, owner in then.items():  # nobody gets what another had in the round before
                assert now.get(place, owner) == owner
        owners = history[2]
        assert history[3] == owners == history[4]
        assert owners.keys() == {(topic, n) for topic, count in counts.items() for n in range(count)}
        for topic, count in counts.items():
            sizes = Counter(owner for (name, _), owner in owners.items() if name == topic)
            assert max(sizes.values()) <= -(-count // len(members))
        assert all(owners["r", n] == owners["s", n] for n in range(many))


@settings(deadline=None)
@given(MEMBERS, st.sampled_from("abcdefg"), st.integers(1, 12))
def test_one_who_comes_or_goes_moves_only_what_must_move(members: set[str], one: str, count: int) -> None:
    topics = {name: frozenset({"t"}) for name in members}
    before = target(topics, {"t": count}, {})
    with_one = topics | {one: frozenset({"t"})}
    after = target(with_one, {"t": count}, before)
    moved = [place for place in before if before[place] != after[place]]
    assert all(after[place] == one for place in moved)


def test_members_with_other_topics_get_only_their_own() -> None:
    wanted = {"a": frozenset({"r"}), "b": frozenset({"r", "s"})}
    shares = target(wanted, {"r": 4, "s": 4}, {})
    assert {owner for (topic, _), owner in shares.items() if topic == "s"} == {"b"}
    assert {owner for (topic, _), owner in shares.items() if topic == "r"} == {"a", "b"}
    assert target({}, {"r": 2}, {}) == {}


def test_a_second_join_differs_from_the_first_so_that_a_static_member_is_seen() -> None:
    assignor = TogetherAssignor()
    first = bytes(assignor.metadata({"t"}).encode())
    assignor.on_assignment(SimpleNamespace(partitions=list), 1)
    assert bytes(assignor.metadata({"t"}).encode()) != first


# --------------------------------------------------------------------- names


def test_names_get_the_prefix_once() -> None:
    config = KafkaConfig(HERE, prefix="plant7.")
    assert config.topic("plantwatch.readings.v1") == "plant7.readings.v1"
    assert config.topic("own") == "plant7.own"
    assert config.group("score") == "plant7.score"
    assert KafkaConfig(HERE).topic("plantwatch.readings.v1") == "plantwatch.readings.v1"


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"servers": ()}, "no Kafka server"),
        ({"servers": ("kafka",)}, "host:port"),
        ({"servers": ("https://kafka:9092",)}, "without a scheme"),
        ({"servers": ("kafka:99999",)}, "host:port"),
        ({"security": "tls"}, "expected one of plaintext, ssl"),
        ({"security": "sasl_ssl"}, "kafka_mechanism is ''"),
        ({"security": "sasl_ssl", "mechanism": "PLAIN", "user": "u"}, "kafka_password must be given"),
        ({"security": "sasl_ssl", "mechanism": "OAUTHBEARER"}, "kafka_token_url and kafka_client_id"),
        ({"ca_file": Path("ca.pem")}, "encrypts nothing"),
        ({"security": "ssl", "ca_file": Path("/nowhere/ca.pem")}, "does not exist"),
        ({"security": "ssl", "cert_file": Path("c.pem")}, "belong together"),
        ({"prefix": "plant 7."}, "topic_prefix is 'plant 7.'"),
        ({"member": "press/7"}, "member is 'press/7'"),
        ({"replication": 0}, "at least 1 copy"),
    ],
)
def test_what_cannot_work_is_refused_with_the_mend(wrong: dict[str, Any], told: str) -> None:
    with pytest.raises(ConfigurationError, match=told):
        KafkaConfig(**({"servers": HERE} | wrong))


def test_secrets_are_not_shown() -> None:
    config = KafkaConfig(HERE, "sasl_ssl", "PLAIN", "u", "the-password", client_secret="the-secret")
    assert "the-" not in repr(config)


# -------------------------------------------------------------------- errors

EVERY = [kind for _, kind in inspect.getmembers(kafka_errors, inspect.isclass) if issubclass(kind, Exception)]


@pytest.mark.parametrize("kind", EVERY, ids=lambda kind: kind.__name__)
def test_every_error_of_the_library_becomes_one_of_ours_with_the_place(kind: type[Exception]) -> None:
    ours = translated(kind("why"), "appending", "kafka:9092")
    assert isinstance(ours, PlantwatchError)
    assert type(ours) is not PlantwatchError
    assert "appending" in str(ours)
    assert "kafka:9092" in str(ours)


@pytest.mark.parametrize(
    ("error", "ours"),
    [
        (kafka_errors.SaslAuthenticationFailedError("no"), ConfigurationError),
        (kafka_errors.TopicAuthorizationFailedError("t"), ConfigurationError),
        (kafka_errors.KafkaError("… [Error 31] ClusterAuthorizationFailedError"), ConfigurationError),
        (kafka_errors.UnknownTopicOrPartitionError(), ConfigurationError),
        (kafka_errors.MessageSizeTooLargeError(), ConfigurationError),
        (kafka_errors.FencedInstanceIdError(), ConfigurationError),
        (kafka_errors.IllegalGenerationError(), Fenced),
        (kafka_errors.CommitFailedError(), Fenced),
        (kafka_errors.OffsetOutOfRangeError(), StorageError),
        (kafka_errors.CorruptRecordError(), StorageError),
        (kafka_errors.KafkaTimeoutError("late"), Unreachable),
        (kafka_errors.KafkaConnectionError("gone"), Unreachable),
        (ConnectionResetError("gone"), Unreachable),
        (ssl.SSLEOFError("gone"), Unreachable),
        (ssl.SSLError("bad"), ConfigurationError),
        (AssertionError("a defect of the client"), StorageError),
    ],
)
def test_what_only_people_mend_is_told_from_what_passes(error: Exception, ours: type[Exception]) -> None:
    assert type(translated(error, "x", "y")) is ours


def test_the_door_says_that_it_failed_and_lets_our_own_errors_through() -> None:
    failed: list[int] = []
    with pytest.raises(Unreachable), door("x", "y", lambda: failed.append(1)):
        raise OSError("gone")
    with pytest.raises(Fenced, match="mine"), door("x", "y", lambda: failed.append(2)):
        raise Fenced("mine")
    with door("x", "y", lambda: failed.append(3)):
        pass
    assert failed == [1, 2]


# ---------------------------------------------------------------------- room


@given(st.lists(st.integers(1, 50)), st.integers(1, 100))
def test_slices_hold_everything_in_order_and_no_more_than_they_may(sizes: list[int], most: int) -> None:
    cut = _slices(sizes, most)
    assert [size for first, stop in cut for size in sizes[first:stop]] == sizes
    assert all(sum(sizes[first:stop]) <= most or stop - first == 1 for first, stop in cut)


def test_bytes_in_flight_are_bounded_over_all_threads_and_a_giant_goes_alone() -> None:
    room = _Room(100)
    room.take(60, 1.0)
    with pytest.raises(Unreachable, match="60 bytes wait"):
        room.take(60, 0.05)
    threading.Timer(0.1, room.give, (60,)).start()
    room.take(100, 5.0)
    room.give(100)
    room.take(1_000, 1.0)
    with pytest.raises(Unreachable):
        room.take(1, 0.05)
    room.give(1_000)
    room.take(100, 0.05)


# ------------------------------------------------------------------ watchdog


class Client:
    """As much of a consumer as the watch asks."""

    def __init__(self) -> None:
        self.place: int | None = 0
        self.last = 0
        self.answers = True

    def assignment(self) -> set[Any]:
        return {TP}

    def highwater(self, _: Any) -> int | None:
        return None

    def position(self, _: Any, timeout_ms: int) -> int | None:
        return self.place

    def end_offsets(self, partitions: list[Any], timeout_ms: int) -> dict[Any, int]:
        if not self.answers:
            raise kafka_errors.KafkaTimeoutError("late")
        return dict.fromkeys(partitions, self.last)


TP = TopicPartition("t", 0)


class Stage:
    def __init__(self) -> None:
        self.now = 0.0
        self.client = Client()
        self.watch = Watch(self.client, 30.0, "kafka:9092", lambda: self.now)

    def pass_(self, seconds: int, fetching: bool = True) -> None:
        for _ in range(seconds):
            self.now += 1.0
            self.watch.look([TP], [TP] if fetching else [])


def test_standing_still_before_the_end_is_told_after_its_time_and_not_sooner() -> None:
    stage = Stage()
    stage.client.last = 10
    stage.pass_(30)
    with pytest.raises(StorageError, match="stands at 0 of 10"):
        stage.pass_(5)


def test_idling_moving_pausing_and_seeking_are_no_stall() -> None:
    stage = Stage()
    stage.pass_(100)
    stage.client.last = 1_000
    for _ in range(10):
        stage.pass_(20)
        stage.client.place = (stage.client.place or 0) + 1
    stage.pass_(100, fetching=False)
    stage.pass_(25)
    stage.watch.moved(TP)
    stage.pass_(25)
    assert stage.watch.end(TP) == 1_000


def test_a_broker_that_is_away_for_a_while_is_waited_for_and_a_long_one_ends_the_session() -> None:
    stage = Stage()
    stage.client.last = 10
    stage.pass_(5)
    stage.client.answers = False
    stage.pass_(55)
    with pytest.raises(Unreachable, match="has not answered"):
        stage.pass_(10)
