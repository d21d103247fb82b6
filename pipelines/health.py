"""What a service answers on its one HTTP port: /healthz (does it live?), /readyz (does it work, or why not?), /metrics.

GET alone, no parameters, nothing secret: reasons name what is wrong, never a password or a token.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Final

from prometheus_client import CONTENT_TYPE_LATEST

from anomaly.errors import ConfigurationError
from pipelines import metrics
from pipelines.condition import STILL_S, Condition

_JSON: Final = "application/json"
_READ_S: Final = 5.0
"""A caller that sends no request within so many seconds is let go."""


class Health:
    """Judges a service by its loop's condition. `notes`: what is worth a word though the service works.

    `consumes` False: it reads nothing from the log, and so waits for no partition.
    """

    def __init__(self, service: str, condition: Condition, *, consumes: bool = True) -> None:
        self.service = service
        self.condition = condition
        self.consumes = consumes
        self.notes: Callable[[], Sequence[str]] = tuple
        self.stopping = False

    def live(self) -> bool:
        """Whether the loop turns. A service that still waits for its servers at the start lives too."""
        return self.condition.still_for() <= STILL_S

    def reasons(self) -> list[str]:
        """Why the service is not ready; empty if it is."""
        found = ["stopping"] if self.stopping else []
        seen = self.condition
        if not self.live():
            found.append(f"the loop has not turned for {seen.still_for():.0f} s")
        if seen.waiting:
            found.append(seen.waiting)
        elif self.consumes and not seen.held:
            found.append("no partition assigned yet (with more workers than partitions, some stand by)")
        if seen.degraded:
            found.append(f"degraded: {seen.degraded}")
        growth = seen.growing()
        if growth:
            found.append(f"lag is growing: {seen.lag} records, {growth} more than a minute ago")
        return found

    def answer(self, path: str) -> tuple[HTTPStatus, str, bytes]:
        """Status, content type and body for a GET of `path`."""
        if path == "/metrics":
            return HTTPStatus.OK, CONTENT_TYPE_LATEST, metrics.page()
        if path == "/healthz":
            live = self.live()
            said = {"live": live, "service": self.service, "turned_s_ago": round(self.condition.still_for(), 1)}
            return _status(live), _JSON, _body(said)
        if path == "/readyz":
            reasons = self.reasons()
            said = {"ready": not reasons, "service": self.service, "reasons": reasons, "notes": list(self.notes())}
            return _status(not reasons), _JSON, _body(said)
        return HTTPStatus.NOT_FOUND, _JSON, _body({"expected": ["/healthz", "/readyz", "/metrics"]})


def _status(well: bool) -> HTTPStatus:
    return HTTPStatus.OK if well else HTTPStatus.SERVICE_UNAVAILABLE


def _body(said: dict[str, object]) -> bytes:
    return json.dumps(said).encode() + b"\n"


@contextmanager
def answering(health: Health, host: str, port: int) -> Iterator[int]:
    """While inside, answer on `host:port` from threads of their own; yields the port (for 0: the one chosen).

    Raises ConfigurationError if it cannot be listened on.
    """

    class Answers(BaseHTTPRequestHandler):
        timeout = _READ_S
        server_version = "plantwatch"
        sys_version = ""

        def do_GET(self) -> None:
            status, kind, body = health.answer(self.path.partition("?")[0])
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.send_header("Cache-Control", "no-store")
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Nobody wants a line a probe."""

    try:
        server = _Server((host, port), Answers)
    except (OSError, OverflowError) as error:
        raise ConfigurationError(
            f"metrics port {port} on {host} cannot be used: {getattr(error, 'strerror', None) or error}; "
            "choose another with --metrics-port"
        ) from error
    thread = threading.Thread(target=server.serve_forever, name="health", daemon=True)
    thread.start()
    try:
        yield int(server.server_address[1])
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False

    def handle_error(self, request: object, client_address: object) -> None:
        """A caller that hung up is nobody's trouble."""
