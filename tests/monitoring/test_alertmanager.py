"""Plant alerts in a real Alertmanager: raised, kept up, raised in severity, resolved; and its shipped configuration."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest

from anomaly.domain import SECOND, Alert, AlertState, Anomaly, Kind, Priority
from anomaly.errors import ConfigurationError, Unreachable
from pipelines.adapters.alertmanager import PATIENCE, AlertmanagerNotifier
from pipelines.adapters.system_clock import SystemClock
from pipelines.ports import AlertEvent, Notifier, Reminded
from tests.monitoring.tools import free_port, server, tool, until

NOW = SystemClock().now()
ANOMALY = Anomaly(
    "s1/l2/pump-1", Kind.PROCESS, "process", NOW - 90 * SECOND, None, 2.4, ("vib", "temp"), "20251009T101500-ab"
)
ALERT = Alert(
    "a1", ANOMALY, AlertState.UNACKNOWLEDGED_ACTIVE, Priority.MEDIUM, NOW - 60 * SECOND, message="vib is high"
)


def event(alert: Alert, what: str) -> AlertEvent:
    return AlertEvent(f"{alert.id}-{what}", what, NOW, alert)


@dataclass
class Receiver:
    """What Alertmanager's webhook is told."""

    messages: list[dict[str, Any]] = field(default_factory=list)
    answer: int = 200

    def __post_init__(self) -> None:
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                receiver.messages.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
                self.send_response(receiver.answer)
                self.end_headers()

            def log_message(self, *words: object) -> None:
                """Say nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}/"
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def seen(self, status: str, severity: str) -> bool:
        alerts = [alert for message in list(self.messages) for alert in message["alerts"]]
        return any(a["status"] == status and a["labels"]["severity"] == severity for a in alerts)


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    made = Receiver()
    yield made
    made.close()


@pytest.fixture
def alertmanager(receiver: Receiver, tmp_path: Path) -> Iterator[str]:
    """Address of an Alertmanager that tells `receiver` at once."""
    binary = tool("alertmanager", "prometheus-alertmanager", package="prometheus-alertmanager")
    config = tmp_path / "alertmanager.yml"
    route = {"receiver": "test", "group_by": ["asset"], "group_wait": "0s", "group_interval": "1s"}
    hook = {"name": "test", "webhook_configs": [{"url": receiver.url, "send_resolved": True}]}
    config.write_text(json.dumps({"route": route, "receivers": [hook]}))
    address = f"127.0.0.1:{free_port()}"
    command = [binary, f"--config.file={config}", f"--storage.path={tmp_path / 'data'}"]
    command += [f"--web.listen-address={address}", "--cluster.listen-address="]
    with server(command, f"http://{address}/-/ready", tmp_path / "alertmanager.log"):
        yield f"http://{address}"


def active(url: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = httpx.get(f"{url}/api/v2/alerts", trust_env=False).json()
    return [alert for alert in found if alert["status"]["state"] == "active"]


@pytest.mark.integration
def test_an_alert_is_raised_kept_up_and_resolved(alertmanager: str, receiver: Receiver) -> None:
    notifier = AlertmanagerNotifier(alertmanager)
    notifier.notify(event(ALERT, "raised"), "Alert (medium): vib is high")
    (found,) = active(alertmanager)
    assert found["labels"] == {
        "alertname": "PlantwatchMachine",
        "asset": "s1/l2/pump-1",
        "place": "s1/l2",
        "cause": "process",
        "severity": "warning",
        "source": "plantwatch",
    }
    assert found["annotations"]["description"] == "vib is high"
    assert found["annotations"]["alert_id"] == "a1"
    until(lambda: receiver.seen("firing", "warning"))

    notifier.remind([ALERT])
    (kept,) = active(alertmanager)
    assert kept["fingerprint"] == found["fingerprint"], "a reminder is the same alert"
    assert kept["endsAt"] > found["endsAt"], "and keeps it up for longer"
    assert kept["startsAt"] == found["startsAt"]

    cleared = replace(ALERT, state=AlertState.RETURNED_UNACKNOWLEDGED, cleared_at=NOW)
    notifier.notify(event(cleared, "cleared"), "Cleared")
    assert active(alertmanager) == []
    until(lambda: receiver.seen("resolved", "warning"))


@pytest.mark.integration
def test_an_alert_that_is_not_kept_up_resolves_by_itself(alertmanager: str, receiver: Receiver) -> None:
    notifier = AlertmanagerNotifier(alertmanager)
    notifier.remind_s = 2 / PATIENCE + 0.01
    notifier.notify(event(ALERT, "raised"), "")
    assert len(active(alertmanager)) == 1
    until(lambda: not active(alertmanager))
    until(lambda: receiver.seen("resolved", "warning"))


@pytest.mark.integration
def test_a_rising_severity_replaces_the_alert(alertmanager: str, receiver: Receiver) -> None:
    notifier = AlertmanagerNotifier(alertmanager)
    notifier.notify(event(ALERT, "raised"), "")
    notifier.notify(event(replace(ALERT, priority=Priority.HIGH), "updated"), "")
    assert [alert["labels"]["severity"] for alert in active(alertmanager)] == ["critical"]
    until(lambda: receiver.seen("firing", "critical"))


@pytest.mark.integration
def test_shelving_ends_it_and_unshelving_brings_it_back(alertmanager: str) -> None:
    notifier = AlertmanagerNotifier(alertmanager)
    notifier.notify(event(ALERT, "raised"), "")
    notifier.notify(event(replace(ALERT, state=AlertState.SHELVED), "shelved"), "")
    assert active(alertmanager) == []
    notifier.remind([replace(ALERT, state=AlertState.SHELVED)])
    assert active(alertmanager) == []
    notifier.notify(event(ALERT, "unshelved"), "")
    assert len(active(alertmanager)) == 1


@pytest.mark.integration
def test_a_restarted_service_reminds_of_what_it_never_told_itself(alertmanager: str) -> None:
    other = replace(ALERT, id="a2", anomaly=replace(ANOMALY, asset="s1/l2/pump-2"))
    AlertmanagerNotifier(alertmanager).remind([ALERT, other])
    assert {alert["labels"]["asset"] for alert in active(alertmanager)} == {"s1/l2/pump-1", "s1/l2/pump-2"}


@pytest.mark.integration
def test_times_ahead_and_odd_words_are_taken(alertmanager: str) -> None:
    odd = replace(ANOMALY, asset="s1/pömp\n1", tags=("vib\x1b[31m", "\ud800"), peak=float("inf"))
    ahead = replace(ALERT, anomaly=odd, raised_at=NOW + 3600 * SECOND, message="a\ud800b")
    AlertmanagerNotifier(alertmanager).notify(event(ahead, "raised"), "")
    assert [alert["labels"]["asset"] for alert in active(alertmanager)] == ["s1/pömp 1"]


def test_it_is_a_notifier_that_wants_to_be_reminded() -> None:
    notifier: Notifier = AlertmanagerNotifier("http://127.0.0.1:1/prefix/")
    assert isinstance(notifier, Reminded)


def test_an_alertmanager_that_is_not_there_or_refuses_is_unreachable(receiver: Receiver) -> None:
    with pytest.raises(Unreachable, match=r"Alertmanager at 127\.0\.0\.1 cannot be reached"):
        AlertmanagerNotifier(f"http://127.0.0.1:{free_port()}").notify(event(ALERT, "raised"), "")
    receiver.answer = 400
    with pytest.raises(Unreachable, match="answered 400"):
        AlertmanagerNotifier(receiver.url).remind([ALERT])


def test_nothing_is_sent_while_nothing_lasts() -> None:
    AlertmanagerNotifier(f"http://127.0.0.1:{free_port()}").remind([])


def test_an_address_that_is_none_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="Alertmanager address"):
        AlertmanagerNotifier("alertmanager:9093")
