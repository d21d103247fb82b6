"""What `plantwatch check` looks at on servers: brokers, topics and groups on Kafka; token and buckets on InfluxDB."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

from anomaly.errors import ConfigurationError
from pipelines import topics, wiring
from pipelines.access import ALL_TOPICS
from pipelines.findings import Finding, Status
from pipelines.settings import Settings
from pipelines.wiring_servers import influx_config, kafka_config

if TYPE_CHECKING:
    from pipelines.adapters.kafka_look import Looks

_SHARED: Final = (topics.READINGS, topics.SCORES, topics.ALERT_STATE)
_GROUPS: Final = {"score": topics.READINGS, "record": topics.READINGS, "alert": topics.SCORES, "train": topics.COMMANDS}


def kafka(settings: Settings) -> Finding:
    """A broker answers, and takes our certificate and password. Tells an absent one from one that refuses us."""
    from pipelines.adapters.kafka_probe import probe  # noqa: PLC0415  # not needed without Kafka

    found = probe(kafka_config(settings))
    how = settings.kafka_security + (f", {settings.kafka_mechanism}" if settings.kafka_mechanism else "")
    brokers = ", ".join(found.brokers)
    return Finding("kafka", Status.OK, f"{found.server} answers ({how}; Kafka {found.version}; brokers {brokers})")


def kafka_topics(settings: Settings) -> Finding:
    """Every topic is there, with as many partitions as the settings say and the broker's clock."""
    from pipelines.adapters.kafka_look import look  # noqa: PLC0415  # not needed without Kafka

    config = kafka_config(settings)
    found = look(config, ALL_TOPICS)
    missing = [config.topic(name) for name in ALL_TOPICS if name not in found]
    if missing:
        raise ConfigurationError(
            f"{len(missing)} of {len(ALL_TOPICS)} topics are not there, or this login may not see them: "
            f"{', '.join(missing)}; make them with `plantwatch topics init`, or give the login its rights "
            "(`plantwatch topics acls`)"
        )
    wrong = [*_partitions(settings, found), *_clocks(found), *_sizes(found)]
    if wrong:
        raise ConfigurationError("; ".join(wrong))
    unseen = [name for name in ALL_TOPICS if not found[name].settings]
    told = f"{len(found)} topics, {found[topics.READINGS].partitions} partitions, times by the broker's clock"
    if unseen:
        text = f"{len(found)} topics with the right partitions; this login may not see how {len(unseen)} are set"
        return Finding("topics", Status.WARNING, text)
    return Finding("topics", Status.OK, told)


def _partitions(settings: Settings, found: Mapping[str, Looks]) -> list[str]:
    counts = {name: found[name].partitions for name in _SHARED}
    if len(set(counts.values())) > 1:
        told = ", ".join(f"{name} {count}" for name, count in counts.items())
        return [f"topics that share their partitions do not agree ({told}); make them anew by `plantwatch topics init`"]
    count = counts[topics.READINGS]
    if "partitions" in settings.model_fields_set and count != settings.partitions:
        return [f"the topics have {count} partitions, the settings say {settings.partitions}; correct the settings"]
    return []


def _clocks(found: Mapping[str, Looks]) -> list[str]:
    """Readings must bear the broker's time: retention and the test for readings from the future hang on it."""
    kind = found[topics.READINGS].settings.get("message.timestamp.type", "LogAppendTime")
    if kind == "LogAppendTime":
        return []
    return [
        f"{topics.READINGS} has message.timestamp.type={kind}; expected LogAppendTime, or a device's wrong clock "
        "deletes what it sends; `plantwatch topics init` sets it"
    ]


def _sizes(found: Mapping[str, Looks]) -> list[str]:
    """Dead letters must take all that readings take, with its headers, or one such record stops the scoring."""
    taken, kept = (found[name].settings.get("max.message.bytes") for name in (topics.READINGS, topics.DEAD_LETTERS))
    if taken is None or kept is None or int(kept) >= min(topics.DEAD_LETTER_BYTES, 2 * int(taken)):
        return []
    return [
        f"{topics.DEAD_LETTERS} takes records of {kept} bytes and {topics.READINGS} of {taken}: what is set aside "
        "grows by its headers, and by what was compressed; `plantwatch topics init` sets max.message.bytes"
    ]


def kafka_groups(settings: Settings) -> Finding:
    """Positions of the groups can be seen; tells which of them ever ran."""
    log = wiring.open_log(settings)
    ran, refused = [], []
    try:
        for group, topic in _GROUPS.items():
            try:
                if log.committed(group, topic):
                    ran.append(group)
            except ConfigurationError:
                refused.append(group)
    finally:
        log.close()
    told = f"{', '.join(ran) or 'none'} ran here before"
    if refused:
        text = f"{told}; this login may not see {', '.join(refused)} (each service needs its own group alone)"
        return Finding("groups", Status.WARNING, text)
    return Finding("groups", Status.OK, told)


def influxdb(settings: Settings) -> Finding:
    """The server answers, takes the token, and has the buckets; tells which may be read and written."""
    from pipelines.adapters.influx_look import look  # noqa: PLC0415  # not needed without InfluxDB

    config = influx_config(settings)
    rights = look(config)
    told = f"{config.url} takes the token; it may read {_list(rights.reads)} and write {_list(rights.writes)}"
    if rights.none:
        text = f"{told}; neither, or not there: {_list(rights.none)} (`plantwatch setup-historian` makes them all)"
        return Finding("historian", Status.WARNING, text)
    return Finding("historian", Status.OK, told)


def _list(names: tuple[str, ...]) -> str:
    return ", ".join(names) or "nothing"
