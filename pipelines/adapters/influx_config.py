"""How to reach InfluxDB, and what its buckets are called."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from anomaly.errors import ConfigurationError

SAMPLES: Final = "samples"
"""Readings as they came."""
SCORES: Final = "scores"
"""Every judged window, and what contributed to those near or over the line."""
ROLLUP: Final = "scores_1m"
"""Highest score and number of judged windows of each minute, kept longest."""
EVENTS: Final = "events"
"""Alerts: their transitions for people, and their whole history."""
HEARTBEATS: Final = "heartbeats"
"""Newest word of each part of the system; a bucket of its own, since every part may write it and nothing else."""
BUCKETS: Final = (SAMPLES, SCORES, ROLLUP, EVENTS, HEARTBEATS)

_URL: Final = re.compile(r"https?://[^\s/@]+(/\S*)?")
_PREFIX: Final = re.compile(r"[A-Za-z0-9.-][A-Za-z0-9._-]{0,99}")


@dataclass(frozen=True, slots=True)
class InfluxConfig:
    """`url` such as `http://influxdb:8086`; `ca_file`: certificates (PEM) that the server's must be signed by, without
    it the system's; `timeout_s`: how long one request may take. Raises ConfigurationError for what cannot work.

    >>> InfluxConfig("http://localhost:8086", "plantwatch", "a token").bucket(SAMPLES)
    'plantwatch_samples'
    """

    url: str
    org: str
    token: str = field(repr=False)
    ca_file: Path | None = None
    bucket_prefix: str = "plantwatch_"
    timeout_s: float = 10.0

    def __post_init__(self) -> None:
        if not _URL.fullmatch(self.url):
            raise ConfigurationError(
                f"influx_url is {self.url!r}; expected the address of InfluxDB 2, such as 'http://influxdb:8086', "
                "without user or password"
            )
        if not self.org or not self.token or not self.token.isascii() or not self.token.isprintable():
            raise ConfigurationError(
                "influx_org and influx_token must both be given, the token in printable ASCII; "
                "`plantwatch setup-historian` makes tokens and writes each to a file"
            )
        if not _PREFIX.fullmatch(self.bucket_prefix):
            raise ConfigurationError(
                f"influx_bucket_prefix is {self.bucket_prefix!r}; expected letters, digits, '.', '_' and '-', "
                "at most 100, the first one no '_' (InfluxDB keeps those names for itself)"
            )

    def bucket(self, name: str) -> str:
        """Name on the server of one of `BUCKETS`."""
        return self.bucket_prefix + name
