"""Logging in at a real broker, and being refused by it: each refusal in its own words, at once, without secrets."""

from __future__ import annotations

import base64
import json
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import ClassVar

import pytest
from kafka.admin import ACL, ACLOperation, ACLPermissionType, ACLResourcePatternType, ResourcePattern, ResourceType

from anomaly.errors import ConfigurationError, Unreachable
from pipelines.adapters.kafka_client import make_admin
from pipelines.adapters.kafka_config import KafkaConfig
from pipelines.adapters.kafka_log import KafkaLog
from pipelines.adapters.kafka_probe import probe
from pipelines.adapters.kafka_topics import TopicSpec, ensure_topics
from pipelines.ports import NewRecord, Partition
from tests.servers.kafka import Broker, script

pytestmark = [pytest.mark.slow, pytest.mark.integration, pytest.mark.xdist_group("kafka-access")]

PASSWORD = "right-and-long-enough"
PREFIX = "guarded."
MECHANISMS = ("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512")
SOON_S = 8.0
"""No refusal may take longer; kafka-python by itself takes 30 s to say that nobody is there."""


@dataclass
class Guarded:
    """One broker with three doors: an open one for its owner, one with a login, one with certificates of both sides."""

    broker: Broker
    keys: Path
    tls_port: int

    @property
    def owner(self) -> KafkaConfig:
        return KafkaConfig((self.broker.address,), prefix=PREFIX)

    def user(self, name: str = "scorer", mechanism: str = "SCRAM-SHA-512", password: str = PASSWORD) -> KafkaConfig:
        return KafkaConfig(
            (self.broker.sasl_address,),
            security="sasl_plaintext",
            mechanism=mechanism,
            user=name,
            password=password,
            prefix=PREFIX,
        )

    def tls(self) -> KafkaConfig:
        return KafkaConfig(
            (f"127.0.0.1:{self.tls_port}",),
            security="ssl",
            ca_file=self.keys / "ca.pem",
            cert_file=self.keys / "client.pem",
            key_file=self.keys / "client.key",
            prefix=PREFIX,
        )


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An authority, a broker's certificate and a client's, and an authority that signed neither."""
    folder = tmp_path_factory.mktemp("keys")
    for authority in ("ca", "other"):
        openssl(folder, f"req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN={authority} -keyout {authority}.key "
                f"-out {authority}.pem")  # fmt: skip
    (folder / "names").write_text("subjectAltName=IP:127.0.0.1\n")
    for name in ("server", "client"):
        openssl(folder, f"req -newkey rsa:2048 -nodes -subj /CN={name} -keyout {name}.key -out {name}.csr")
        openssl(folder, f"x509 -req -in {name}.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 -out {name}.pem "
                "-extfile names")  # fmt: skip
    (folder / "store.pem").write_text((folder / "server.key").read_text() + (folder / "server.pem").read_text())
    return folder


def openssl(folder: Path, command: str) -> None:
    subprocess.run(["openssl", *command.split()], cwd=folder, check=True, capture_output=True)


def free_ports(count: int) -> list[int]:
    probes = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [each.getsockname()[1] for each in probes]
    for each in probes:
        each.close()
    return ports


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory, keys: Path) -> Iterator[Guarded]:
    plain, sasl, tls, controller = free_ports(4)
    doors = f"PLAINTEXT://127.0.0.1:{plain},SASL://127.0.0.1:{sasl},TLS://127.0.0.1:{tls}"
    login = "org.apache.kafka.common.security.oauthbearer.OAuthBearerLoginModule required "
    settings = {
        "listeners": f"{doors},CONTROLLER://127.0.0.1:{controller}",
        "advertised.listeners": doors,
        "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,SASL:SASL_PLAINTEXT,TLS:SSL,CONTROLLER:PLAINTEXT",
        "listener.name.tls.ssl.keystore.type": "PEM",
        "listener.name.tls.ssl.keystore.location": str(keys / "store.pem"),
        "listener.name.tls.ssl.truststore.type": "PEM",
        "listener.name.tls.ssl.truststore.location": str(keys / "ca.pem"),
        "listener.name.tls.ssl.client.auth": "required",
        "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
        "super.users": "User:ANONYMOUS;User:CN=client",
        "sasl.enabled.mechanisms": ",".join((*MECHANISMS, "OAUTHBEARER")),
        "listener.name.sasl.oauthbearer.sasl.jaas.config": login + 'unsecuredLoginStringClaim_sub="broker";',
    }
    options = ["--sasl", "--port", str(plain), "--sasl-port", str(sasl), "--port-controller", str(controller)]
    options += [part for name in ("scorer", "stranger") for part in ("--sasl-user", f"{name}:{PASSWORD}")]
    options += [part for key, value in settings.items() for part in ("--set", f"{key}={value}")]
    broker = Broker(script(), tmp_path_factory.mktemp("guarded"), options).start()
    place = Guarded(broker, keys, tls)
    ensure_topics(place.owner, {"t": TopicSpec(2)})
    allow(place.owner, "scorer", {ResourceType.TOPIC: PREFIX, ResourceType.GROUP: PREFIX})
    yield place
    broker.stop()


def allow(owner: KafkaConfig, user: str, places: dict[ResourceType, str]) -> None:
    admin = make_admin(owner)
    admin.create_acls([
        ACL(f"User:{user}", "*", ACLOperation.ALL, ACLPermissionType.ALLOW,
            ResourcePattern(kind, name, ACLResourcePatternType.PREFIXED))
        for kind, name in places.items()
    ])  # fmt: skip
    admin.close()


def refused(action: Callable[[], object], kind: type[Exception] = ConfigurationError) -> str:
    """What the refusal says; it comes soon."""
    begin = time.monotonic()
    with pytest.raises(kind) as raised:
        action()
    assert time.monotonic() - begin < SOON_S
    assert PASSWORD not in str(raised.value)
    return str(raised.value)


def ends(config: KafkaConfig) -> object:
    log = KafkaLog(config)
    try:
        return log.ends("t")
    finally:
        log.close()


def works(config: KafkaConfig) -> None:
    """All that a service does: append, read, join, commit."""
    log = KafkaLog(config)
    (offset,) = log.append([NewRecord("t", b"k", b"v", partition=1)])
    assert log.read(Partition("t", 1), offset, 1)[0].value == b"v"
    member = log.join(f"g-{time.time_ns()}", ["t"])
    deadline = time.monotonic() + 30
    while not member.poll(100, 0.2).records:
        assert time.monotonic() < deadline
    log.close()


@pytest.mark.parametrize("mechanism", MECHANISMS)
def test_the_right_password_opens_the_door_and_a_wrong_one_is_told_from_an_absent_broker(
    guarded: Guarded, mechanism: str
) -> None:
    config = guarded.user(mechanism=mechanism)
    assert mechanism in probe(config).offered
    works(config)
    said = refused(lambda: ends(replace(config, password="wrong-but-long-enough")))
    assert "'scorer'" in said
    assert "kafka_password" in said
    assert "wrong-but" not in said
    assert "unknown" in refused(lambda: ends(replace(config, user="unknown")))
    assert "does not answer" in refused(lambda: ends(replace(config, servers=("127.0.0.1:1",))), Unreachable)


def test_a_mechanism_that_is_not_offered_is_told_with_those_that_are(guarded: Guarded) -> None:
    said = refused(lambda: ends(KafkaConfig((guarded.broker.address,), "sasl_plaintext", "PLAIN", "u", "p")))
    assert "expects no login" in said


def test_a_login_at_the_wrong_kind_of_door_is_told(guarded: Guarded) -> None:
    open_at_login = replace(guarded.owner, servers=(guarded.broker.sasl_address,))
    assert "kafka_security" in refused(lambda: ends(open_at_login), (ConfigurationError, Unreachable))  # type: ignore[arg-type]


def test_certificates_of_both_sides_open_the_door(guarded: Guarded) -> None:
    assert probe(guarded.tls()).brokers
    works(guarded.tls())


def test_each_wrong_certificate_is_told_in_its_own_words(guarded: Guarded, keys: Path) -> None:
    right = guarded.tls()
    foreign = refused(lambda: ends(replace(right, ca_file=keys / "other.pem")))
    assert "not trusted" in foreign
    assert "other.pem" in foreign
    by_name = replace(right, servers=(f"localhost:{guarded.tls_port}",))
    assert "not trusted" in (said := refused(lambda: ends(by_name)))
    assert "localhost" in said
    assert "kafka_cert_file" in refused(lambda: ends(replace(right, cert_file=None, key_file=None)))
    swapped = replace(right, cert_file=keys / "client.pem", key_file=keys / "server.key")
    assert "cannot be used" in refused(lambda: ends(swapped))
    assert "expected a PEM file" in refused(lambda: ends(replace(right, ca_file=keys / "names")))
    no_tls_there = replace(right, servers=(guarded.broker.address,))
    assert "kafka_security" in refused(lambda: ends(no_tls_there), (ConfigurationError, Unreachable))  # type: ignore[arg-type]
    no_tls_here = KafkaConfig(right.servers)
    assert "kafka_security" in refused(lambda: ends(no_tls_here), Unreachable)


def test_a_missing_right_is_told_when_looking_appending_and_joining(guarded: Guarded) -> None:
    stranger = KafkaLog(guarded.user("stranger"))
    for action in (
        lambda: stranger.ends("t"),
        lambda: stranger.append([NewRecord("t", b"k", b"v")]),
        lambda: stranger.join("g", ["t"]),
        lambda: stranger.create({"mine": 1}),
    ):
        assert "grant it" in refused(action)
    stranger.close()


def test_a_right_to_look_alone_is_not_enough_to_append_or_to_join(guarded: Guarded) -> None:
    admin = make_admin(guarded.owner)
    admin.create_acls([
        ACL("User:stranger", "*", right, ACLPermissionType.ALLOW, ResourcePattern(ResourceType.TOPIC, PREFIX + "t"))
        for right in (ACLOperation.DESCRIBE, ACLOperation.READ)
    ])  # fmt: skip
    log = KafkaLog(guarded.user("stranger"))
    try:
        log.ends("t")
        assert "grant it" in refused(lambda: log.append([NewRecord("t", b"k", b"v")]))
        assert "group" in refused(lambda: log.committed("g", "t"))

        def join() -> None:
            member = log.join("g", ["t"])
            while True:
                member.poll(10, 0.2)

        assert "group" in refused(join)
    finally:
        admin.close()
        log.close()


class TokenServer(BaseHTTPRequestHandler):
    """Gives unsecured tokens to the one client it knows."""

    given: ClassVar[list[str]] = []

    def do_POST(self) -> None:
        assert self.rfile.read(int(self.headers["Content-Length"])) == b"grant_type=client_credentials"
        right = "Basic " + base64.b64encode(b"scorer:" + PASSWORD.encode()).decode()
        if self.headers["Authorization"] != right:
            self.send_error(401)
            return
        now = int(time.time())
        token = f"{encoded({'alg': 'none'})}.{encoded({'sub': 'scorer', 'iat': now, 'exp': now + 300})}."
        self.given.append(token)
        body = json.dumps({"access_token": token, "expires_in": 300}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Be quiet."""


def encoded(part: dict[str, object]) -> str:
    return base64.urlsafe_b64encode(json.dumps(part).encode()).decode().rstrip("=")


def test_a_token_is_fetched_and_opens_the_door(guarded: Guarded) -> None:
    server = HTTPServer(("127.0.0.1", 0), TokenServer)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    url = f"http://127.0.0.1:{server.server_port}/token"
    config = KafkaConfig(
        (guarded.broker.sasl_address,),
        security="sasl_plaintext",
        mechanism="OAUTHBEARER",
        token_url=url,
        client_id="scorer",
        client_secret=PASSWORD,
        prefix=PREFIX,
    )
    works(config)
    assert TokenServer.given
    assert "HTTP 401" in refused(lambda: ends(replace(config, client_secret="wrong-but-long-enough")))
    assert "expected an https" in refused(lambda: ends(replace(config, token_url=url.replace("http:", "ftp:"))))
    assert "token server" in refused(lambda: ends(replace(config, token_url="http://127.0.0.1:1/")), Unreachable)
    server.shutdown()
    server.server_close()
