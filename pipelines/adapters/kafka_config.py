"""Where Kafka is, how we prove who we are, and how our names become the broker's."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from anomaly.errors import ConfigurationError

OUR_PREFIX: Final = "plantwatch."
"""Prefix of topic names in the code (`pipelines.topics`)."""
SECURITY: Final = ("plaintext", "ssl", "sasl_plaintext", "sasl_ssl")
MECHANISMS: Final = ("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512", "OAUTHBEARER")
_NAME: Final = re.compile(r"[A-Za-z0-9._-]{1,249}")
_SERVER: Final = re.compile(r"(?:\[[0-9a-fA-F:.]+\]|[^\s:/@,]+):[0-9]{1,5}")


@dataclass(frozen=True, slots=True)
class KafkaConfig:
    """Raises ConfigurationError for what cannot work. Secrets are never repeated.

    `servers`: `host:port`, one or more brokers to ask first. `member`: this process's name in a group; while it is
    away for less than the session time, its partitions wait for it ("" = a stranger each time). `prefix` replaces
    `plantwatch.` in names of topics and stands before names of groups. `replication`: copies of a topic we create.

    >>> KafkaConfig(("kafka:9092",), prefix="plant7.").topic("plantwatch.readings.v1")
    'plant7.readings.v1'
    """

    servers: tuple[str, ...]
    security: str = "plaintext"
    mechanism: str = ""
    user: str = ""
    password: str = field(default="", repr=False)
    ca_file: Path | None = None
    cert_file: Path | None = None
    key_file: Path | None = None
    token_url: str = ""
    client_id: str = ""
    client_secret: str = field(default="", repr=False)
    prefix: str = OUR_PREFIX
    member: str = ""
    replication: int = 1

    def __post_init__(self) -> None:
        self._check_servers()
        self._check_names()
        self._check_sasl()
        self._check_files()

    @property
    def tls(self) -> bool:
        """Whether connections are encrypted."""
        return self.security in {"ssl", "sasl_ssl"}

    @property
    def sasl(self) -> bool:
        """Whether we log in."""
        return self.security.startswith("sasl_")

    @property
    def where(self) -> str:
        """The brokers, for messages."""
        return ", ".join(self.servers)

    def topic(self, name: str) -> str:
        """The broker's name of our topic `name`."""
        return self.prefix + name.removeprefix(OUR_PREFIX)

    def group(self, name: str) -> str:
        """The broker's name of our group `name`."""
        return self.prefix + name

    def _check_servers(self) -> None:
        if not self.servers:
            raise ConfigurationError("no Kafka server is given; expected kafka_servers = ['host:9092']")
        for server in self.servers:
            if not _SERVER.fullmatch(server) or not 0 < int(server.rpartition(":")[2]) < 65_536:
                raise ConfigurationError(
                    f"kafka_servers has {server!r}; expected host:port without a scheme, such as kafka:9092"
                )
        if self.replication < 1:
            raise ConfigurationError(f"kafka_replication is {self.replication}; expected at least 1 copy")

    def _check_names(self) -> None:
        if self.prefix and not _NAME.fullmatch(self.prefix):
            raise ConfigurationError(
                f"topic_prefix is {self.prefix!r}; expected letters, digits, '.', '_' and '-', such as 'plant7.'"
            )
        if self.member and not _NAME.fullmatch(self.member):
            raise ConfigurationError(
                f"member is {self.member!r}; expected letters, digits, '.', '_' and '-', such as a host name"
            )

    def _check_sasl(self) -> None:
        if self.security not in SECURITY:
            raise ConfigurationError(f"kafka_security is {self.security!r}; expected one of {', '.join(SECURITY)}")
        if not self.sasl:
            return
        if self.mechanism not in MECHANISMS:
            raise ConfigurationError(
                f"kafka_mechanism is {self.mechanism!r}; with kafka_security = {self.security!r} expected one of "
                f"{', '.join(MECHANISMS)}"
            )
        token = self.mechanism == "OAUTHBEARER"
        needed = (
            {"token_url": self.token_url, "client_id": self.client_id, "client_secret": self.client_secret}
            if token
            else {"user": self.user, "password": self.password}
        )
        missing = [f"kafka_{name}" for name, value in needed.items() if not value]
        if missing:
            raise ConfigurationError(f"{' and '.join(missing)} must be given for {self.mechanism}")

    def _check_files(self) -> None:
        if (self.cert_file is None) != (self.key_file is None):
            raise ConfigurationError("kafka_cert_file and kafka_key_file belong together: give both or neither")
        files = {"ca": self.ca_file, "cert": self.cert_file, "key": self.key_file}
        for name, path in files.items():
            if path is not None and not self.tls:
                raise ConfigurationError(
                    f"kafka_{name}_file is given, but kafka_security is {self.security!r}, which encrypts nothing; "
                    "expected 'ssl' or 'sasl_ssl'"
                )
            if path is not None and not path.is_file():
                raise ConfigurationError(f"kafka_{name}_file is {path}, which does not exist; expected a PEM file")
