"""The InfluxDB of one row: its buckets, what the workers must know of it, and how it is read at the end."""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from pipelines.adapters.influx_config import BUCKETS, SAMPLES, SCORES, InfluxConfig
from pipelines.adapters.influx_historian import InfluxHistorian
from pipelines.ports import HistorianReader
from tests.faults.servers import Influx

KEPT_S = {SAMPLES: 30 * 86_400, SCORES: 90 * 86_400}
"""Retention of the buckets, the others keep for ever: InfluxDB refuses older points."""


@dataclass(slots=True)
class Store:
    """Buckets with a prefix of their own on the bench's InfluxDB."""

    influx: Influx
    prefix: str

    def __post_init__(self) -> None:
        """Make the buckets."""
        org = self.call("GET", f"orgs?org={self.influx.facts['org']}")["orgs"][0]["id"]
        for name in BUCKETS:
            rule = {"type": "expire", "everySeconds": KEPT_S.get(name, 0)}
            self.call("POST", "buckets", {"orgID": org, "name": self.prefix + name, "retentionRules": [rule]})

    def call(self, method: str, path: str, body: object = None) -> Any:
        """One request to the server's API, as its operator, past the proxy."""
        request = urllib.request.Request(
            f"{self.influx.facts['url']}/api/v2/{path}",
            method=method,
            data=None if body is None else json.dumps(body).encode(),
            headers={"Authorization": f"Token {self.influx.token}", "Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=20) as answer:
            content = answer.read()
        return json.loads(content) if content else None

    def token(self, *, write: bool) -> tuple[str, str]:
        """A token for our buckets, to read or also to write them, and its id."""
        buckets = [b for b in self.call("GET", "buckets?limit=100")["buckets"] if b["name"].startswith(self.prefix)]
        permissions = [
            {"action": action, "resource": {"type": "buckets", "id": bucket["id"], "orgID": bucket["orgID"]}}
            for bucket in buckets
            for action in (("read", "write") if write else ("read",))
        ]
        body = {"orgID": buckets[0]["orgID"], "permissions": permissions}
        made = self.call("POST", "authorizations", body)
        return str(made["token"]), str(made["id"])

    def write(self, bucket: str, lines: str) -> None:
        """Line protocol into one of our buckets, past the workers."""
        request = urllib.request.Request(
            f"{self.influx.facts['url']}/api/v2/write?org={self.influx.facts['org']}&bucket={self.prefix}{bucket}",
            data=lines.encode(),
            headers={"Authorization": f"Token {self.influx.token}"},
        )
        urllib.request.urlopen(request, timeout=20).close()

    def settings(self, url: str) -> dict[str, str]:
        """Variables of the workers; `url`: where they reach it."""
        return {
            "HISTORIAN": "influxdb",
            "INFLUX_URL": url,
            "INFLUX_ORG": str(self.influx.facts["org"]),
            "INFLUX_TOKEN": self.influx.token,
            "INFLUX_BUCKET_PREFIX": self.prefix,
        }

    @contextmanager
    def reader(self) -> Iterator[HistorianReader]:
        """Reads it past the proxy."""
        facts = self.influx.facts
        config = InfluxConfig(facts["url"], facts["org"], self.influx.token, bucket_prefix=self.prefix, timeout_s=60.0)
        historian = InfluxHistorian(config)
        try:
            yield historian
        finally:
            historian.close()
