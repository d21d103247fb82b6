"""Tells a web server of each transition: one signed POST, JSON.

Headers:

    Idempotency-Key          the event's id: the same for every attempt; a receiver keeps it and drops repetitions
    X-Plantwatch-Timestamp   when this attempt was signed, whole seconds since 1970 UTC
    X-Plantwatch-Signature   "sha256=" + hex HMAC-SHA256(secret, timestamp + "." + body)

A receiver computes the signature over the bytes as they came (`signature` below), compares in constant time, and
refuses timestamps more than five minutes off. Any 2xx answer confirms; its body is not read. Body (times are ISO-8601
UTC; `null` where unknown):

    {"schema": "plantwatch.alert-event.v1", "id": "…-1", "event": "raised", "time": "…Z", "actor": "", "note": "",
     "text": "Alert (medium): …",
     "alert": {"id", "asset", "kind", "cause", "fault", "state", "priority", "onset", "end", "raised_at", "cleared_at",
               "acknowledged_by", "acknowledged_at", "shelved_until", "peak", "tags": [], "version", "reason",
               "message", "expected": {tag: {"actual", "expected"}}}}
"""

from __future__ import annotations

import hashlib
import hmac
from typing import Final

import msgspec

from anomaly.domain import SECOND
from anomaly.errors import ConfigurationError
from pipelines.adapters.posting import checked_url, post
from pipelines.adapters.system_clock import SystemClock
from pipelines.alert_json import alert_json
from pipelines.ports import AlertEvent, Clock
from pipelines.times import iso

SCHEMA: Final = "plantwatch.alert-event.v1"
SHORTEST_SECRET: Final = 16
_JSON: Final = msgspec.json.Encoder(order="deterministic")


class WebhookNotifier:
    """Notifier over HTTP(S). No redirects are followed, no proxy or `.netrc` of the environment is used.

    `secret`: key of the signature, at least 16 characters. `timeout_s` bounds the whole attempt, whatever the server
    does. Raises ConfigurationError for a URL or a secret that cannot be used.
    """

    def __init__(
        self, url: str, secret: str | None, *, timeout_s: float = 5.0, clock: Clock | None = None, name: str = "webhook"
    ) -> None:
        self.name = name
        self._url = checked_url("webhook", url)
        if secret is None or len(secret) < SHORTEST_SECRET:
            came = "none was given" if secret is None else f"it has {len(secret)} characters"
            raise ConfigurationError(
                f"the webhook needs a secret of at least {SHORTEST_SECRET} characters, {came}; make one with "
                "`openssl rand -hex 32` and set webhook_secret or webhook_secret_file"
            )
        self._secret = secret.encode()
        self._timeout_s = timeout_s
        self._clock = clock or SystemClock()

    def notify(self, event: AlertEvent, text: str) -> None:
        """POST once. Returns when a 2xx answer came; raises Unreachable for anything else, and after `timeout_s`."""
        content = body(event, text)
        timestamp = str(self._clock.now() // SECOND)
        headers = {
            "Content-Type": "application/json",
            "User-Agent": "plantwatch",
            "Idempotency-Key": event.id,
            "X-Plantwatch-Timestamp": timestamp,
            "X-Plantwatch-Signature": signature(self._secret, timestamp, content),
        }
        post("webhook", self._url, content, headers, self._timeout_s)


def signature(secret: bytes, timestamp: str, content: bytes) -> str:
    """What X-Plantwatch-Signature must be.

    >>> signature(b"0123456789abcdef", "1700000000", b"{}")[:19]
    'sha256=e4f8e2ecae22'
    """
    return "sha256=" + hmac.new(secret, timestamp.encode() + b"." + content, hashlib.sha256).hexdigest()


def body(event: AlertEvent, text: str) -> bytes:
    """The JSON body, a pure function of the event and its text."""
    whole = {"schema": SCHEMA, "id": event.id, "event": event.event, "time": iso(event.time), "actor": event.actor}
    return _JSON.encode(whole | {"note": event.note, "text": text, "alert": alert_json(event.alert)})
