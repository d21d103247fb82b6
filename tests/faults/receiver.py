"""A receiver of alerts: a web server that keeps what it is told, checks the signature, and fails when asked to."""

from __future__ import annotations

import hashlib
import hmac
import json
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Literal

from tests.faults.reference import Event
from tests.faults.verdict import event_of

SECRET = "a secret of the fault bench"
Mode = Literal["take", "fail", "hang"]


class Receiver:
    """Listens on a port of its own on loopback."""

    def __init__(self) -> None:
        self.told: list[tuple[str, Event]] = []
        """What was delivered and confirmed or not, in order; the whole body was there and its signature right."""
        self.refused = 0
        self.wrong: list[str] = []
        self.mode: Mode = "take"
        self.before_answer: Callable[[], None] | None = None
        """Called once a delivery is kept and not yet confirmed."""
        self._ending = threading.Event()
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                receiver._post(self)

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}/alerts"
        threading.Thread(target=self._server.serve_forever, args=(0.1,), daemon=True).start()

    def close(self) -> None:
        """End it."""
        self._ending.set()
        self._server.shutdown()
        self._server.server_close()

    def keys(self) -> set[str]:
        """Ids of the transitions that came."""
        return {key for key, _ in list(self.told)}

    def _post(self, request: BaseHTTPRequestHandler) -> None:
        try:
            content = request.rfile.read(int(request.headers["Content-Length"]))
            if self.mode != "take":
                self.refused += 1
                if self.mode == "hang":
                    self._ending.wait(30)
                    return
                request.send_response(503)
                request.end_headers()
                return
            self._keep(request, content)
            if self.before_answer is not None:
                self.before_answer()
            request.send_response(204)
            request.end_headers()
        except OSError:
            pass  # whoever told us is gone

    def _keep(self, request: BaseHTTPRequestHandler, content: bytes) -> None:
        stamp = request.headers["X-Plantwatch-Timestamp"]
        digest = hmac.new(SECRET.encode(), stamp.encode() + b"." + content, hashlib.sha256).hexdigest()
        if request.headers["X-Plantwatch-Signature"] != f"sha256={digest}":
            self.wrong.append("a delivery with a wrong signature")
        key, event = event_of(json.loads(content))
        if request.headers["Idempotency-Key"] != key:
            self.wrong.append(f"Idempotency-Key {request.headers['Idempotency-Key']!r} of event {key!r}")
        self.told.append((key, event))
