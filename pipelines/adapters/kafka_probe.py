"""A look at a broker over a plain socket: absent, wrong certificate and wrong password are told apart.

Four requests of the Kafka protocol are spoken here by hand: ApiVersions (18), SaslHandshake (17), SaslAuthenticate
(36) and Metadata (3), each in a version that brokers from 2.1 to 4.x take (https://kafka.apache.org/protocol).
"""

from __future__ import annotations

import socket
import ssl
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

from anomaly.errors import ConfigurationError, PlantwatchError, Unreachable
from pipelines.adapters.kafka_config import KafkaConfig
from pipelines.adapters.kafka_scram import ScramClient

_API_VERSIONS: Final = (18, 0)
_SASL_HANDSHAKE: Final = (17, 1)
_SASL_AUTHENTICATE: Final = (36, 0)
_METADATA: Final = (3, 1)
_LARGEST: Final = 16 << 20
_UNSUPPORTED_MECHANISM: Final = 33
_AUTHENTICATION_FAILED: Final = 58
_VERSION_BY_FETCH: Final = ((18, "4.x"), (17, "3.9 or 4.x"), (16, "3.7 or 3.8"), (13, "3.1 to 3.6"), (12, "2.7 or 3.0"))


@dataclass(frozen=True, slots=True)
class Probe:
    """What answered: the server asked, what its version seems to be, and the brokers it names (`host:port`)."""

    server: str
    version: str
    brokers: tuple[str, ...]
    offered: tuple[str, ...] = ()
    """SASL mechanisms the broker offers."""


def probe(config: KafkaConfig, timeout_s: float = 5.0) -> Probe:
    """Connect, encrypt and log in as `config` says, at the first server that answers.

    Raises ConfigurationError for a wrong password, mechanism or certificate; Unreachable if no server answers.
    """
    absent: list[str] = []
    for server in config.servers:
        try:
            return _probe(config, server, timeout_s)
        except Unreachable as error:
            absent.append(str(error))
    raise Unreachable("; ".join(absent))


def tls_context(config: KafkaConfig) -> ssl.SSLContext:
    """How to trust the broker, and our own certificate if there is one. Raises ConfigurationError."""
    try:
        context = ssl.create_default_context(cafile=config.ca_file)
    except (OSError, ssl.SSLError) as error:
        raise ConfigurationError(
            f"kafka_ca_file {config.ca_file} cannot be used ({error}); expected a PEM file with the certificate of the "
            "authority that signed the broker's"
        ) from error
    if config.cert_file is not None:
        try:
            context.load_cert_chain(config.cert_file, config.key_file)
        except (OSError, ssl.SSLError) as error:
            raise ConfigurationError(
                f"kafka_cert_file {config.cert_file} and kafka_key_file {config.key_file} cannot be used ({error}); "
                "expected PEM files, the certificate first in its chain, the key without a passphrase"
            ) from error
    return context


def _probe(config: KafkaConfig, server: str, timeout_s: float) -> Probe:
    host, _, port = server.rpartition(":")
    host = host.strip("[]")
    with _connected(config, server, host, int(port), timeout_s) as link:
        version = _version(link)
        offered = _log_in(link, config, server) if config.sasl else ()
        return Probe(server, version, _brokers(link), offered)


@contextmanager
def _connected(config: KafkaConfig, server: str, host: str, port: int, timeout_s: float) -> Iterator[_Link]:
    """An open connection; socket errors on it are told as what they mean at this place."""
    context = tls_context(config) if config.tls else None
    try:
        plain = socket.create_connection((host, port), timeout=timeout_s)
    except OSError as error:
        raise Unreachable(
            f"Kafka at {server} does not answer ({error}); start the broker, or correct kafka_servers"
        ) from error
    with plain:
        try:
            encrypted = context.wrap_socket(plain, server_hostname=host) if context else plain
            with encrypted:
                yield _Link(encrypted)
        except ssl.SSLError as error:
            raise _tls_error(server, error, config) from error
        except (OSError, EOFError) as error:
            raise _broken_off(server, error, config) from error


class _Link:
    """Requests and answers on one connection."""

    def __init__(self, stream: socket.socket) -> None:
        self._stream = stream
        self._last = 0

    def ask(self, api: tuple[int, int], body: bytes = b"") -> _Answer:
        """Send one request, wait for its answer. Raises OSError and EOFError."""
        self._last += 1
        head = struct.pack(">hhi", *api, self._last) + _text("plantwatch-probe")
        self._stream.sendall(struct.pack(">i", len(head) + len(body)) + head + body)
        (size,) = struct.unpack(">i", self._exactly(4))
        if not 4 <= size <= _LARGEST:
            raise EOFError("what came back is not Kafka's protocol")
        return _Answer(self._exactly(size)[4:])

    def _exactly(self, count: int) -> bytes:
        got = bytearray()
        while len(got) < count:
            piece = self._stream.recv(count - len(got))
            if not piece:
                raise EOFError("the connection was closed")
            got += piece
        return bytes(got)


class _Answer:
    """Reads an answer field by field."""

    def __init__(self, body: bytes) -> None:
        self._body = body
        self._at = 0

    def number(self, form: str) -> int:
        """A number of struct's form `h`, `i` or `b`."""
        (value,) = struct.unpack_from(">" + form, self._body, self._at)
        self._at += struct.calcsize(">" + form)
        return int(value)

    def bytes(self, size: str) -> bytes:
        """Bytes after their count; None reads as empty."""
        count = max(0, self.number(size))
        self._at += count
        return self._body[self._at - count : self._at]

    def text(self) -> str:
        """A string."""
        return self.bytes("h").decode("utf-8", "replace")


def _version(link: _Link) -> str:
    """The broker's version, as far as the version of Fetch it knows betrays it."""
    answer = link.ask(_API_VERSIONS)
    if answer.number("h"):
        return "unknown"
    newest = 0
    for _ in range(answer.number("i")):
        key, _least, most = (answer.number("h") for _ in range(3))
        newest = most if key == 1 else newest
    return next((name for fetch, name in _VERSION_BY_FETCH if newest >= fetch), "before 2.7")


def _brokers(link: _Link) -> tuple[str, ...]:
    answer = link.ask(_METADATA, struct.pack(">i", 0))
    found = []
    for _ in range(answer.number("i")):
        answer.number("i")
        host, port = answer.text(), answer.number("i")
        answer.text()
        found.append(f"{host}:{port}")
    return tuple(sorted(found))


def _log_in(link: _Link, config: KafkaConfig, server: str) -> tuple[str, ...]:
    answer = link.ask(_SASL_HANDSHAKE, _text(config.mechanism))
    code = answer.number("h")
    offered = tuple(answer.text() for _ in range(answer.number("i")))
    if code == _UNSUPPORTED_MECHANISM:
        raise ConfigurationError(
            f"Kafka at {server} does not log in by {config.mechanism}; it offers {', '.join(offered) or 'nothing'}; "
            "correct kafka_mechanism"
        )
    if code:
        raise ConfigurationError(
            f"Kafka at {server} expects no login here (error {code}); correct kafka_security, or use its SASL port"
        )
    _authenticate(config, server, lambda token: _authenticated(link, config, server, token))
    return offered


def _authenticate(config: KafkaConfig, server: str, say: Callable[[bytes], bytes]) -> None:
    if config.mechanism == "PLAIN":
        say(f"\0{config.user}\0{config.password}".encode())
    elif config.mechanism == "OAUTHBEARER":
        from pipelines.adapters.kafka_token import ClientCredentials  # noqa: PLC0415  # loads kafka-python

        if refusal := say(f"n,,\x01auth=Bearer {ClientCredentials(config).token()}\x01\x01".encode()):
            raise ConfigurationError(
                f"Kafka at {server} refuses our token ({refusal.decode('utf-8', 'replace')[:200]}); correct "
                "kafka_token_url, kafka_client_id and the broker's list of issuers"
            )
    else:
        client = ScramClient(config.mechanism, config.user, config.password)
        final = say(client.final(say(client.first())))
        if not client.proves(final):
            raise ConfigurationError(
                f"Kafka at {server} does not know the password it accepted: something else answers there; "
                "correct kafka_servers"
            )


def _authenticated(link: _Link, config: KafkaConfig, server: str, token: bytes) -> bytes:
    """One step of the login; returns the broker's answer. Raises ConfigurationError if it refuses."""
    answer = link.ask(_SASL_AUTHENTICATE, struct.pack(">i", len(token)) + token)
    code, why, said = answer.number("h"), answer.text(), answer.bytes("i")
    if code == _AUTHENTICATION_FAILED:
        who = config.client_id if config.mechanism == "OAUTHBEARER" else config.user
        raise ConfigurationError(
            f"Kafka at {server} refuses the user {who!r} ({why}); correct kafka_user and kafka_password"
        )
    if code:
        raise ConfigurationError(f"Kafka at {server} ends the login with error {code} ({why}); correct kafka_mechanism")
    return said


def _tls_error(server: str, error: ssl.SSLError, config: KafkaConfig) -> PlantwatchError:
    if isinstance(error, ssl.SSLCertVerificationError):
        return ConfigurationError(
            f"the certificate of Kafka at {server} is not trusted ({error.verify_message}); correct kafka_ca_file"
            f"{f' ({config.ca_file})' if config.ca_file else ', which is not given'}, or connect by the name that the "
            "certificate holds"
        )
    if isinstance(error, ssl.SSLEOFError):
        return _broken_off(server, error, config)
    ours = " and kafka_cert_file" if config.cert_file else "; it may want a certificate of ours: kafka_cert_file"
    return ConfigurationError(
        f"Kafka at {server} does not agree to encryption ({error}); correct kafka_security (is this its TLS "
        f"port?){ours}"
    )


def _broken_off(server: str, error: Exception, config: KafkaConfig) -> PlantwatchError:
    """The connection was there, but what we said was not answered."""
    if isinstance(error, TimeoutError):
        return Unreachable(f"Kafka at {server} takes the connection but does not answer; look at the broker's log")
    return Unreachable(  # a broker that is just going down does the same
        f"Kafka at {server} breaks the connection off ({error}); kafka_security is {config.security!r}: if that port "
        "speaks another way, correct kafka_security or kafka_servers, else look at the broker's log"
    )


def _text(value: str) -> bytes:
    data = value.encode()
    return struct.pack(">h", len(data)) + data
