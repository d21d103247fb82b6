"""Which partition a key lives on: Kafka's default rule, so that the embedded log and Kafka agree on an asset's home."""

from __future__ import annotations

from functools import lru_cache

from anomaly.errors import ConfigurationError
from pipelines.ports import NewRecord

_MASK = 0xFFFFFFFF
_MIX = 0x5BD1E995
_SEED = 0x9747B28C


def murmur2(data: bytes) -> int:
    """MurmurHash2 with Kafka's seed, as an unsigned 32-bit number (`org.apache.kafka.common.utils.Utils.murmur2`).

    >>> murmur2(b"foobar") == (-790332482) & 0xFFFFFFFF
    True
    """
    length = len(data)
    digest = _SEED ^ length
    whole = length & ~3
    for start in range(0, whole, 4):
        word = int.from_bytes(data[start : start + 4], "little") * _MIX & _MASK
        word = (word ^ (word >> 24)) * _MIX & _MASK
        digest = (digest * _MIX & _MASK) ^ word
    if rest := data[whole:]:
        digest = (digest ^ int.from_bytes(rest, "little")) * _MIX & _MASK
    digest = (digest ^ (digest >> 13)) * _MIX & _MASK
    return digest ^ (digest >> 15)


@lru_cache(maxsize=65_536)
def partition_of(key: bytes, count: int) -> int:
    """Partition of `key` among `count`: `(murmur2 & 0x7fffffff) % count`, as Kafka's default partitioner.

    >>> partition_of(b"s1/l1/pump-101", 4) in range(4)
    True
    """
    return (murmur2(key) & 0x7FFFFFFF) % count


def home(record: NewRecord, count: int) -> int:
    """Partition a record goes to: the one it asks for, else by key; a record without key is spread by its value.

    Raises ConfigurationError if it asks for a partition its topic has not.
    """
    if record.partition is None:
        return partition_of(record.value or b"" if record.key is None else record.key, count)
    if not 0 <= record.partition < count:
        raise ConfigurationError(
            f"a record asks for partition {record.partition} of topic {record.topic!r}, which has {count} "
            f"(0 to {count - 1}); leave the partition out to place it by key"
        )
    return record.partition
