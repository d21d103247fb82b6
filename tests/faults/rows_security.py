"""The row of wrong passwords, tokens and certificates: whoever has them is refused in words, and harms nobody."""

from __future__ import annotations

import time
from typing import NamedTuple

from tests.faults.rows_processes import FIRST, RATE
from tests.faults.special import PASSWORD, USER, Doors
from tests.faults.stage import Stage
from tests.faults.workers import Worker

CONFIGURATION = 78
WRONG = "wrong-password-of-the-bench"
_PATIENCE_S = 60.0


class Stranger(NamedTuple):
    """A service started with settings that must not do."""

    what: str
    service: str
    settings: dict[str, str]
    secret: str = WRONG
    """What it may never repeat."""


def wrong_secrets(stage: Stage) -> None:
    """Wrong password, unknown user, wrong certificate, wrong token, one without rights, one revoked under way."""
    doors = stage.doors
    assert isinstance(doors, Doors)
    record = stage.settings_of["record"] = {}
    scoped, identity = stage.store.token(write=True)
    record["INFLUX_TOKEN"] = scoped
    stage.start()
    with stage.load(RATE):
        time.sleep(2.0)
        for stranger in _strangers(stage, doors):
            _refused(stage, stranger)
        _welcome(stage, doors)
        _revoked(stage, identity)


def _strangers(stage: Stage, doors: Doors) -> list[Stranger]:
    scram = {"KAFKA_SERVERS": doors.sasl, "KAFKA_SECURITY": "sasl_plaintext", "KAFKA_MECHANISM": "SCRAM-SHA-512"}
    readers, _ = stage.store.token(write=False)
    return [
        Stranger("wrong password", "score", {**scram, "KAFKA_USER": USER, "KAFKA_PASSWORD": WRONG}),
        Stranger("unknown user", "alert", {**scram, "KAFKA_USER": "nobody", "KAFKA_PASSWORD": WRONG}),
        Stranger(
            "wrong password, PLAIN",
            "record",
            {**scram, "KAFKA_MECHANISM": "PLAIN", "KAFKA_USER": USER, "KAFKA_PASSWORD": WRONG},
        ),
        Stranger(
            "certificate of another authority",
            "score",
            {"KAFKA_SERVERS": doors.tls, "KAFKA_SECURITY": "ssl", "KAFKA_CA_FILE": str(doors.wrong_ca)},
        ),
        Stranger("password too short", "score", {**scram, "KAFKA_USER": USER, "KAFKA_PASSWORD": "secret7"}, "secret7"),
        Stranger("wrong token", "record", {"INFLUX_TOKEN": WRONG}),
        Stranger("token without rights", "record", {"INFLUX_TOKEN": readers}, readers),
    ]


def _refused(stage: Stage, stranger: Stranger) -> None:
    """It ends with 78, tells why, and does not repeat the secret."""
    name = f"stranger-{len(stage.strikes)}"
    worker = Worker(name, stranger.service, {**stage.settings(), **stranger.settings}, stage.folder)
    strike = stage.strike(stranger.what, stage.at_work(*FIRST[stranger.service]))
    worker.start("--patience", "5")
    ends = time.monotonic() + _PATIENCE_S
    while worker.alive and time.monotonic() < ends:
        time.sleep(0.1)
    code = worker.note_end()
    if code != CONFIGURATION:
        stage.complaints.append(f"{stranger.what}: {stranger.service} ended with {code}, not 78: {worker.tail(3)}")
    if worker.alive:
        worker.kill()
    said = worker.log.read_text(encoding="utf-8", errors="replace")
    if stranger.secret in said:
        stage.complaints.append(f"{stranger.what}: the secret stands in the log")
    stage.notes.append(f"{stranger.what}: {_reason(said)}")
    stage.over(strike)


def _reason(said: str) -> str:
    """The last thing it said, short."""
    last = said.strip().splitlines()[-1] if said.strip() else "nothing"
    _, _, after = last.partition('"reason": "')
    return (after.partition('", "')[0] or last)[:160]


def _welcome(stage: Stage, doors: Doors) -> None:
    """The right password and the right certificate do: two more scoring workers, by those doors."""
    login = {
        "KAFKA_SERVERS": doors.sasl,
        "KAFKA_SECURITY": "sasl_plaintext",
        "KAFKA_MECHANISM": "SCRAM-SHA-256",
        "KAFKA_USER": USER,
        "KAFKA_PASSWORD": PASSWORD,
    }
    encrypted = {"KAFKA_SERVERS": doors.tls, "KAFKA_SECURITY": "ssl", "KAFKA_CA_FILE": str(doors.ca)}
    for number, settings in ((3, login), (4, encrypted)):
        name = f"score-{number}"
        worker = Worker(name, "score", {**stage.settings(), **settings}, stage.folder)
        stage.workers[name] = worker
        worker.start()
        worker.await_ready()


def _revoked(stage: Stage, identity: str) -> None:
    """The token of a recorder at work is withdrawn: it ends with 78; with another token it goes on, nothing lost."""
    worker = stage.workers["record-1"]
    stage.expect_end(worker)
    strike = stage.strike("token revoked under way", stage.at_work(*FIRST["record"]))
    stage.store.call("DELETE", f"authorizations/{identity}")
    ends = time.monotonic() + _PATIENCE_S
    while worker.alive and time.monotonic() < ends:
        time.sleep(0.1)
    code = worker.note_end()
    if code != CONFIGURATION:
        stage.complaints.append(f"token revoked: record ended with {code}, not 78: {worker.tail(3)}")
        worker.kill()
    time.sleep(2.0)
    worker.start(INFLUX_TOKEN=stage.influx.token)
    stage.unexpect_end(worker)
    stage.over(strike)
