"""Every error of influxdb-client and urllib3 as one of ours: what came, what was expected, how to mend it."""

from __future__ import annotations

import json
import re
from typing import Any, Final

import urllib3.exceptions as http
from influxdb_client.rest import ApiException

from anomaly.errors import ConfigurationError, PlantwatchError, StorageError, StorageFull, Unreachable
from pipelines.adapters.influx_config import InfluxConfig

SETUP: Final = "`plantwatch setup-historian` makes organisation, buckets and tokens"
_PARSE: Final = re.compile(r"unable to parse '(.*?)': [a-z]", re.DOTALL)
_DROPPED: Final = re.compile(r"dropped=(\d+)")
_BUSY: Final = frozenset({408, 429, 502, 503, 504})
_FULL: Final = ("no space left", "disk quota exceeded", "not enough space")


class PointsRefused(Exception):
    """InfluxDB will never take some of these lines; never leaves the adapter. `reason` is a short stable word."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.reason = _reason(status, message)
        found = _DROPPED.search(message)
        self.dropped = int(found.group(1)) if found else None
        """How many points were not stored, if the answer says so."""
        self.malformed = frozenset(_PARSE.findall(message)) if status == 400 else frozenset()
        """Lines that the answer repeats as unreadable."""


def _reason(status: int, message: str) -> str:
    known = {"field type conflict": "field_type", "retention policy": "retention", "unable to parse": "malformed"}
    named = next((word for text, word in known.items() if text in message), None)
    return named or ("oversize" if status == 413 else "refused")


def message_of(error: ApiException) -> str:
    """What the server said, in one line: its `message`, else the beginning of the body, else the reason."""
    body: Any = error.body
    if isinstance(body, bytes):
        body = body.decode("utf-8", "replace")
    try:
        told = json.loads(body or "")
        text = str(told["message"]) if isinstance(told, dict) and "message" in told else str(body)
    except ValueError:
        text = str(body or error.reason or "")
    return " ".join(text.split())


def retry_after(error: BaseException) -> float | None:
    """Seconds after which the server asks to be tried again."""
    headers: Any = getattr(error, "headers", None)
    try:
        return max(0.0, float(headers.get("Retry-After")))
    except (AttributeError, TypeError, ValueError):
        return None


def is_passing(error: BaseException) -> bool:
    """Whether the same request may succeed a moment later. A server that hangs has had its time already."""
    if isinstance(error, ApiException):
        return error.status in _BUSY
    if _hangs(error) or isinstance(error, http.LocationValueError):
        return False
    return isinstance(error, http.HTTPError | OSError)


def _hangs(error: BaseException) -> bool:
    """No answer in time. (To urllib3 a refused connection is a kind of timeout; not to us.)"""
    return isinstance(error, http.TimeoutError) and not isinstance(error, http.NewConnectionError)


def refused_points(error: BaseException) -> PointsRefused | None:
    """The error as one about some points of a write, if it is one."""
    if not isinstance(error, ApiException):
        return None
    message = message_of(error) if error.status != 400 else _whole_message(error)
    about_lines = error.status in (413, 422) or (error.status == 400 and "unable to parse" in message)
    return PointsRefused(int(error.status or 0), message) if about_lines else None


def _whole_message(error: ApiException) -> str:
    """Like `message_of`, with the blanks of the lines it repeats as they are."""
    try:
        return str(json.loads(error.body or "")["message"])
    except (ValueError, KeyError, TypeError):
        return message_of(error)


def translated(error: BaseException, config: InfluxConfig, doing: str) -> PlantwatchError:
    """Our error for one of theirs. `doing`: what could not be done, such as "write to plantwatch_samples"."""
    what = f"InfluxDB at {config.url} could not {doing}"
    if isinstance(error, ApiException):
        return _answered(error, config, what)
    if isinstance(error, http.LocationValueError):
        return ConfigurationError(f"{what}: {error}; expected an address such as http://influxdb:8086 in influx_url")
    if _hangs(error):
        return Unreachable(
            f"{what}: no answer within {config.timeout_s:g} s; it accepts connections and hangs, or the network "
            "swallows them; look at its log and load"
        )
    if isinstance(error, http.NewConnectionError | http.NameResolutionError | ConnectionRefusedError):
        return Unreachable(f"{what}: nobody answers there ({_brief(error)}); start it, or mend influx_url")
    if isinstance(error, http.HTTPError | OSError):
        return Unreachable(f"{what}: the connection broke ({_brief(error)}); is it being restarted? look at its log")
    return StorageError(f"{what}: {error.__class__.__name__}: {error}")


def _answered(error: ApiException, config: InfluxConfig, what: str) -> PlantwatchError:
    """What an HTTP status means here."""
    status, message = int(error.status or 0), message_of(error)[:500]
    said = f"({status} {message})"
    if any(word in message.lower() for word in _FULL):
        return StorageFull(f"{what}: its disk is full {said}; free some space there; if it says so still, restart it")
    if status in _BUSY:
        return Unreachable(f"{what}: it is too busy or starting {said}; it is tried again")
    mends = {
        0: f"its certificate is not accepted ({str(error.reason).splitlines()[-1]}); expected one signed by the "
        "authority in influx_ca_file, or by one this machine trusts, for the host name in influx_url",
        401: f"it refuses the token {said}; mend influx_token; {SETUP}",
        403: f"the token has no right to {said}; use this service's; {SETUP}",
        404: f"organisation or bucket is not there, or the token may not read it {said}; organisation {config.org!r}, "
        f"buckets {config.bucket('…')}; {SETUP}",
    }
    if status == 400 and "organization name" in message:
        status = 404
    if 300 <= status < 400:
        return ConfigurationError(f"{what}: it answers with a redirection {said}; name the final address in influx_url")
    if status in mends:
        return ConfigurationError(f"{what}: {mends[status]}")
    return StorageError(f"{what}: it answered {said}; see InfluxDB's log")


def _brief(error: BaseException) -> str:
    """The last clause of urllib3's long sentences.

    >>> _brief(OSError("HTTPConnection(host='x', port=1): Failed to establish: [Errno 111] Connection refused"))
    '[Errno 111] Connection refused'
    """
    return str(error).rsplit(": ", 1)[-1][:200] or error.__class__.__name__
