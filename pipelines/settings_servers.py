"""The part of the settings that names servers: Kafka for the log, InfluxDB for the historian. Part of `settings`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Final, Literal

from pydantic import Field, HttpUrl, SecretStr, field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode

from pipelines.formats.names import Format

_WEAK: Final = frozenset({"admin", "password", "my-token", "changeme", "secret"})
LEAST_SECRET: Final = 16
"""A secret has at least so many characters."""
SECRETS: Final = ("webhook_secret", "kafka_password", "kafka_client_secret", "influx_token")
"""Settings that are never repeated; each may lie in the file that the setting with `_file` behind it names."""


class ServerSettings(BaseSettings):
    """Which servers stand behind the log and the historian, and how they are reached."""

    log: Literal["embedded", "kafka"] = "embedded"
    """Where records go: a file of the data folder, or Kafka."""
    historian: Literal["embedded", "influxdb"] = "embedded"
    """Where results are kept for people: a file of the data folder, or InfluxDB."""
    topic_prefix: str = Field("plantwatch.", pattern=r"^[A-Za-z0-9._-]{1,100}$")
    """What the names of Kafka topics and groups begin with: two plants can share one cluster."""
    readings_format: Format = Format.AUTO
    """Format of the readings on the log; `auto` finds it out record by record, by headers, else by shape."""
    kafka_servers: Annotated[tuple[str, ...], NoDecode] = ()
    """Brokers to ask first, `host:port`; in a variable apart by commas."""
    kafka_security: Literal["plaintext", "ssl", "sasl_plaintext", "sasl_ssl"] = "plaintext"
    """How the brokers are spoken to: `ssl` encrypts, `sasl` logs in."""
    kafka_mechanism: Literal["", "PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512", "OAUTHBEARER"] = ""
    """How to log in, with `kafka_security` sasl_…."""
    kafka_user: str = ""
    """Who logs in, with PLAIN and SCRAM."""
    kafka_password: SecretStr | None = None
    """Their password, at least 16 characters."""
    kafka_password_file: Path | None = None
    """File that holds it, instead."""
    kafka_ca_file: Path | None = None
    """Certificates that the brokers' must be signed by (PEM); without it those of the system."""
    kafka_cert_file: Path | None = None
    """Our own certificate (PEM), where brokers ask for one; needs `kafka_key_file`."""
    kafka_key_file: Path | None = None
    """Its key (PEM)."""
    kafka_token_url: str = ""
    """Where OAUTHBEARER gets its tokens (client credentials)."""
    kafka_client_id: str = ""
    """Who asks for a token."""
    kafka_client_secret: SecretStr | None = None
    """Their secret, at least 16 characters."""
    kafka_client_secret_file: Path | None = None
    """File that holds it, instead."""
    kafka_replication: int = Field(1, ge=1, le=32767)
    """Copies of each topic that `plantwatch topics init` asks for."""
    member: str | None = Field(None, pattern=r"^[A-Za-z0-9._-]{1,100}$")
    """Name of this worker in its group, the same after a restart; without it the host's. Two on one host: name both."""
    influx_url: HttpUrl | None = None
    """Address of InfluxDB 2, `http://host:8086`."""
    influx_org: str = Field("plantwatch", min_length=1)
    """Its organisation."""
    influx_token: SecretStr | None = None
    """Token with the rights this service needs, at least 16 characters."""
    influx_token_file: Path | None = None
    """File that holds it, instead."""
    influx_ca_file: Path | None = None
    """Certificates that InfluxDB's must be signed by (PEM); without it those of the system."""
    influx_bucket_prefix: str = Field("plantwatch_", pattern=r"^[A-Za-z0-9._-]{1,100}$")
    """What the names of its buckets begin with."""
    metrics_host: str = Field("127.0.0.1", min_length=1)
    """Address on which a service answers /healthz, /readyz and /metrics."""
    metrics_port: int | None = Field(None, ge=1, le=65535)
    """Its port; without it a service does not answer."""

    @field_validator(*SECRETS, check_fields=False)
    @classmethod
    def _strong(cls, secret: SecretStr | None) -> SecretStr | None:
        if secret is not None:
            text = secret.get_secret_value().strip()
            if len(text) < LEAST_SECRET or text.lower() in _WEAK or len(set(text)) == 1:
                raise ValueError(
                    f"a secret needs at least {LEAST_SECRET} characters that nobody guesses, this one has {len(text)}"
                )
        return secret

    @field_validator("kafka_ca_file", "kafka_cert_file", "kafka_key_file", "influx_ca_file")
    @classmethod
    def _there(cls, path: Path | None) -> Path | None:
        if path is None:
            return None
        path = path.expanduser()
        if not path.is_file():
            raise ValueError("no such file; expected a PEM file that this user may read")
        return path

    @field_validator("kafka_servers")
    @classmethod
    def _addresses(cls, servers: tuple[str, ...]) -> tuple[str, ...]:
        for server in servers:
            host, colon, port = server.rpartition(":")
            if "/" in server or not colon or not host or not port.isdecimal() or not 0 < int(port) < 65536:
                raise ValueError(f"{server!r} is no address of a broker; expected host:port, such as 'kafka:9092'")
        return servers

    @field_validator("influx_url")
    @classmethod
    def _without_password(cls, url: HttpUrl | None) -> HttpUrl | None:
        if url is not None and (url.username or url.password):
            raise ValueError("an address with a user or password in it; expected http://host:8086 and influx_token")
        return url

    @model_validator(mode="after")
    def _servers_agree(self) -> ServerSettings:
        """What one setting asks for, others give. Everything that is missing is told at once."""
        missing = [text for asked, given, text in self._needs() if asked and not given()]
        if missing:
            raise ValueError("\n".join(missing))
        return self

    def _needs(self) -> tuple[tuple[bool, Callable[[], object], str], ...]:
        """What is asked for, whether it is given, and what to say if it is not."""
        kafka = self.log == "kafka"
        sasl = kafka and self.kafka_security.startswith("sasl")
        named = sasl and self.kafka_mechanism in ("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512")
        token = sasl and self.kafka_mechanism == "OAUTHBEARER"
        influx = self.historian == "influxdb"
        ways = "PLAIN, SCRAM-SHA-256, SCRAM-SHA-512 or OAUTHBEARER"
        login = f"kafka_mechanism is {self.kafka_mechanism}, and {{}} is not set"
        return (
            (
                kafka,
                lambda: self.kafka_servers,
                "log is 'kafka', and kafka_servers is not set; expected the brokers' addresses: "
                "PLANTWATCH_KAFKA_SERVERS=host:9092, or servers under [kafka] in the settings file",
            ),
            (
                sasl,
                lambda: self.kafka_mechanism,
                f"kafka_security is {self.kafka_security!r}, and kafka_mechanism is not set; expected {ways}",
            ),
            (
                kafka and bool(self.kafka_mechanism),
                lambda: sasl,
                f"kafka_mechanism is {self.kafka_mechanism!r}, but kafka_security is {self.kafka_security!r}, which "
                "logs in nobody; expected sasl_ssl (or sasl_plaintext), or no mechanism",
            ),
            (
                kafka and self.kafka_security.endswith("plaintext"),
                lambda: not (self.kafka_ca_file or self.kafka_cert_file),
                f"kafka_ca_file or kafka_cert_file is set, but kafka_security is {self.kafka_security!r}, which "
                "encrypts nothing; expected ssl or sasl_ssl",
            ),
            (named, lambda: self.kafka_user, login.format("kafka_user")),
            (named, lambda: self.kafka_password, login.format("kafka_password (or kafka_password_file)")),
            (token, lambda: self.kafka_token_url, login.format("kafka_token_url")),
            (token, lambda: self.kafka_client_id, login.format("kafka_client_id")),
            (token, lambda: self.kafka_client_secret, login.format("kafka_client_secret (or …_file)")),
            (
                kafka and self.kafka_cert_file is not None,
                lambda: self.kafka_key_file,
                "kafka_cert_file is set, and kafka_key_file is not; expected the certificate's key (PEM) beside it",
            ),
            (
                influx,
                lambda: self.influx_url,
                "historian is 'influxdb', and influx_url is not set; expected its address: "
                "PLANTWATCH_INFLUX_URL=http://host:8086, or url under [influx] in the settings file",
            ),
            (
                influx,
                lambda: self.influx_token,
                "historian is 'influxdb', and influx_token (or influx_token_file) is not set; expected a token with "
                "rights on the buckets: `plantwatch setup-historian` makes one a service",
            ),
        )
