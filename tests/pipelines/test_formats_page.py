"""docs/formats.md says what is so: every example on it is decoded, those for Kafka are run against a real broker."""

from __future__ import annotations

import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

from anomaly.domain import SECOND
from pipelines import topics
from pipelines.adapters.kafka_config import KafkaConfig
from pipelines.adapters.kafka_log import KafkaLog
from pipelines.adapters.kafka_topics import TopicSpec, ensure_topics
from pipelines.decoding import decode
from pipelines.discovery import discover_plant
from pipelines.formats.names import Format
from pipelines.listening import Listener, advice
from pipelines.reasons import Reason

PAGE = (Path(__file__).parents[2] / "docs" / "formats.md").read_text()
EXAMPLES = re.findall(r"^```(?:json|text) (\w+)\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
SHELL = re.findall(r"^```sh kcat\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
PYTHON = re.findall(r"^```python producer\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
NOW = 1_795_300_000 * SECOND
PUMP = "s1/a1/l1/pump-101"


@pytest.mark.parametrize(("name", "value"), EXAMPLES, ids=[f"{name}-{i}" for i, (name, _) in enumerate(EXAMPLES)])
def test_every_example_of_the_page_is_decoded_by_shape_and_by_name(name: str, value: str) -> None:
    key = PUMP.encode() if "Kepware" not in value and "Channel1" in value else None
    for wanted in (Format.AUTO, Format(name)):
        for block in decode(value.encode(), key, NOW, format=wanted):
            assert block.asset == PUMP
            assert block.count
            assert block.times[0] == 1_795_222_923_250 * 10**6


def test_the_page_has_an_example_of_every_format_and_a_line_for_every_reason() -> None:
    assert {name for name, _ in EXAMPLES} == set(Format) - {Format.AUTO}
    assert all(f"| `{reason}` |" in PAGE for reason in set(Reason) - {Reason.TOMBSTONE})
    assert all(f"| `{name}` |" in PAGE for name in set(Format) - {Format.AUTO})


@pytest.fixture
def topic(kafka: KafkaConfig) -> str:
    ensure_topics(kafka, {topics.READINGS: TopicSpec(2)})
    return kafka.topic(topics.READINGS)


def _here(text: str, kafka: KafkaConfig, topic: str) -> str:
    return text.replace("127.0.0.1:9092", kafka.servers[0]).replace(topics.READINGS, topic)


@pytest.mark.integration
def test_the_examples_in_python_and_for_the_shell_reach_a_real_broker(kafka: KafkaConfig, topic: str) -> None:
    if subprocess.run(["which", "kcat"], capture_output=True, check=False).returncode:
        pytest.skip("kcat is not installed: apt-get install kcat")
    for text in SHELL:
        subprocess.run(["bash", "-euo", "pipefail", "-c", _here(text, kafka, topic)], check=True, timeout=60)
    [code] = PYTHON
    quick = _here(code, kafka, topic).replace("range(60)", "range(5)").replace("time.sleep(1)", "time.sleep(0.05)")
    subprocess.run([sys.executable, "-c", quick], check=True, timeout=60)
    log = KafkaLog(kafka)
    try:
        listener = Listener(log, Format.AUTO, records=1000, seconds=10, wait=lambda _: time.sleep(0.2))
        blocks = [block for _, block in zip(range(len(SHELL) + 5), listener.blocks(), strict=False)]
        found = discover_plant(blocks).plant
    finally:
        log.close()
    assert {asset.path: [tag.name for tag in asset.tags] for asset in found.assets} == {PUMP: ["vib_de", "temp"]}
    assert sum(block.count for block in blocks) == 2 * (len(SHELL) + 5)
    assert listener.heard.formats == {"native": 6, "cloudevents": 1}
    assert not [line for line in advice(listener.heard) if "key" in line]
