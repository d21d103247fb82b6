"""deploy/telegraf/telegraf.conf: what must hold in it so that readings arrive whole, OPC UA switched on or off."""

from __future__ import annotations

import re
import shutil
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest

from pipelines import topics

CONF = Path(__file__).parents[2] / "deploy" / "telegraf" / "telegraf.conf"
TEXT = CONF.read_text()


def with_opc_ua() -> str:
    """The file with the # taken away from its last part."""
    head, tail = TEXT.split("#[[inputs.opcua]]")
    return f"{head}[[inputs.opcua]]" + re.sub(r"^#", "", tail, flags=re.MULTILINE)


@pytest.mark.parametrize("text", [TEXT, with_opc_ua()], ids=["as it is", "with OPC UA"])
def test_rows_are_keyed_by_the_machine_and_keep_their_milliseconds(text: str) -> None:
    conf: dict[str, Any] = tomllib.loads(text)
    [kafka] = conf["outputs"]["kafka"]
    assert (kafka["routing_tag"], kafka["data_format"], kafka["json_timestamp_units"]) == ("asset", "json", "1ms")
    assert kafka["required_acks"] == -1
    assert topics.READINGS in kafka["topic"]
    assert kafka["tagpass"] == {"asset": ["?*"]}
    [mqtt] = conf["inputs"]["mqtt_consumer"]
    assert (mqtt["topic_tag"], mqtt["qos"], mqtt["persistent_session"]) == ("asset", 1, True)
    assert conf["agent"]["precision"] == "1ms"


def test_each_opc_ua_group_names_its_machine() -> None:
    [opcua] = tomllib.loads(with_opc_ua())["inputs"]["opcua"]
    assert all("asset" in group["default_tags"] and group["nodes"] for group in opcua["group"])


def test_secrets_and_addresses_come_from_the_environment() -> None:
    for name in ("KAFKA_SERVERS", "KAFKA_MECHANISM", "KAFKA_USER", "KAFKA_PASSWORD", "KAFKA_CA", "MQTT_SERVER"):
        assert f"${{{name}:-" in TEXT


@pytest.mark.skipif(shutil.which("telegraf") is None, reason="telegraf is not installed")
@pytest.mark.parametrize("text", [TEXT, with_opc_ua()], ids=["as it is", "with OPC UA"])
def test_telegraf_takes_the_file(text: str, tmp_path: Path) -> None:
    path = tmp_path / "telegraf.conf"
    path.write_text(text)
    done = subprocess.run(
        ["telegraf", "config", "check", "--config", path], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
