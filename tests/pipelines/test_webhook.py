"""Notifiers against real receivers: a local web server that answers, hangs, drips, fails and redirects; a console."""

from __future__ import annotations

import hashlib
import hmac
import io
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from rich.cells import cell_len

from anomaly.domain import SECOND, Alert, AlertState, Anomaly, Kind, Priority
from anomaly.errors import ConfigurationError, Unreachable
from pipelines.adapters.console import WIDTH, ConsoleNotifier
from pipelines.adapters.webhook import WebhookNotifier, body, signature
from pipelines.ports import AlertEvent

SECRET = "0123456789abcdef"
ANOMALY = Anomaly("s1/pump-1", Kind.PROCESS, "process", 1_700_000_000 * SECOND, None, 2.4, ("vib", "temp"), "v1")
ALERT = Alert(
    "a1",
    ANOMALY,
    AlertState.UNACKNOWLEDGED_ACTIVE,
    Priority.MEDIUM,
    1_700_000_060 * SECOND,
    message="unlike normal",
    expected={"vib": (7.1, float("nan"))},
)
EVENT = AlertEvent("a1-1", "raised", 1_700_000_060 * SECOND, ALERT)


class StoppedClock:
    """A clock that shows one time."""

    def now(self) -> int:
        return 1_700_000_123 * SECOND + 5

    def sleep(self, seconds: float) -> None:
        raise AssertionError(seconds)


class Receiver:
    """A web server that keeps what came and answers as told."""

    def __init__(self) -> None:
        self.requests: list[tuple[str, dict[str, str], bytes]] = []
        self.answer: Callable[[BaseHTTPRequestHandler], None] = status(204)
        self.ending = threading.Event()
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                content = self.rfile.read(int(self.headers["Content-Length"]))
                receiver.requests.append((self.path, {k.lower(): v for k, v in self.headers.items()}, content))
                receiver.answer(self)

            def do_GET(self) -> None:
                receiver.requests.append((self.path, {}, b""))
                status(200)(self)

            def log_message(self, *words: object) -> None:
                """Say nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}/alerts?plant=1"
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()

    def close(self) -> None:
        self.ending.set()
        self._server.shutdown()
        self._server.server_close()


def status(code: int, **headers: str) -> Callable[[BaseHTTPRequestHandler], None]:
    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(code)
        for name, value in headers.items():
            handler.send_header(name, value)
        handler.end_headers()

    return answer


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    server = Receiver()
    yield server
    server.close()


def notifier(url: str, timeout_s: float = 5.0) -> WebhookNotifier:
    return WebhookNotifier(url, SECRET, timeout_s=timeout_s, clock=StoppedClock())


def test_a_receiver_can_check_who_sent_it_and_when(receiver: Receiver) -> None:
    notifier(receiver.url).notify(EVENT, "Alert (medium): …")
    path, headers, content = receiver.requests[0]
    assert path == "/alerts?plant=1"
    assert headers["idempotency-key"] == "a1-1"
    assert headers["x-plantwatch-timestamp"] == "1700000123"
    expected = hmac.new(SECRET.encode(), b"1700000123." + content, hashlib.sha256).hexdigest()
    assert headers["x-plantwatch-signature"] == f"sha256={expected}"
    assert headers["content-type"] == "application/json"


def test_the_body_is_plain_json_with_iso_times_and_no_nan(receiver: Receiver) -> None:
    notifier(receiver.url).notify(EVENT, "Alert (medium): …")
    told = json.loads(receiver.requests[0][2], parse_constant=pytest.fail)
    assert (told["schema"], told["id"], told["event"]) == ("plantwatch.alert-event.v1", "a1-1", "raised")
    assert (told["time"], told["text"]) == ("2023-11-14T22:14:20.000Z", "Alert (medium): …")
    alert = told["alert"]
    assert (alert["asset"], alert["kind"], alert["priority"], alert["state"]) == (
        "s1/pump-1",
        "process",
        "medium",
        "unacknowledged_active",
    )
    assert (alert["onset"], alert["end"], alert["tags"]) == ("2023-11-14T22:13:20.000Z", None, ["vib", "temp"])
    assert alert["expected"] == {"vib": {"actual": 7.1, "expected": None}}


def test_a_repetition_has_the_same_key_and_body(receiver: Receiver) -> None:
    for _ in range(2):
        notifier(receiver.url).notify(EVENT, "text")
    (_, one, first), (_, two, second) = receiver.requests
    assert (one["idempotency-key"], first) == (two["idempotency-key"], second)


@pytest.mark.parametrize("code", [400, 401, 404, 409, 429, 500, 503])
def test_an_answer_that_is_no_success_is_unreachable(receiver: Receiver, code: int) -> None:
    receiver.answer = status(code)
    with pytest.raises(Unreachable, match=f"answered {code}"):
        notifier(receiver.url).notify(EVENT, "text")


@pytest.mark.parametrize("code", [301, 302, 303, 307, 308])
def test_redirects_are_not_followed(receiver: Receiver, code: int) -> None:
    """Else whoever holds the receiver could make us post inside the plant's network."""
    receiver.answer = status(code, Location=receiver.url.replace("/alerts", "/elsewhere"))
    with pytest.raises(Unreachable, match="redirects"):
        notifier(receiver.url).notify(EVENT, "text")
    assert [path for path, _, _ in receiver.requests] == ["/alerts?plant=1"]


def test_a_receiver_that_hangs_is_left_after_the_timeout(receiver: Receiver) -> None:
    def hang(_: BaseHTTPRequestHandler) -> None:
        receiver.ending.wait(20)

    receiver.answer = hang
    began = time.monotonic()
    with pytest.raises(Unreachable, match=r"cannot be reached: ReadTimeout|did not answer within 0\.3 s"):
        notifier(receiver.url, timeout_s=0.3).notify(EVENT, "text")
    assert time.monotonic() - began < 2


def test_a_receiver_that_drips_bytes_for_ever_is_left_after_the_timeout(receiver: Receiver) -> None:
    """Each single read succeeds within its time: only a bound on the whole attempt ends this."""

    def drip(handler: BaseHTTPRequestHandler) -> None:
        handler.wfile.write(b"HTTP/1.1 200 OK\r\nX-Slow: ")
        while not receiver.ending.wait(0.05):
            try:
                handler.wfile.write(b"a")
                handler.wfile.flush()
            except OSError:
                return

    receiver.answer = drip
    began = time.monotonic()
    with pytest.raises(Unreachable, match="did not answer within"):
        notifier(receiver.url, timeout_s=0.5).notify(EVENT, "text")
    assert time.monotonic() - began < 3


def test_an_endless_body_is_not_read(receiver: Receiver) -> None:
    def flood(handler: BaseHTTPRequestHandler) -> None:
        status(200)(handler)
        try:
            while not receiver.ending.is_set():
                handler.wfile.write(b"x" * 65536)
        except OSError:
            pass

    receiver.answer = flood
    notifier(receiver.url).notify(EVENT, "text")


def test_nobody_listening_is_unreachable() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with pytest.raises(Unreachable, match=r"127\.0\.0\.1 cannot be reached: ConnectError"):
        notifier(f"http://127.0.0.1:{port}/").notify(EVENT, "text")


def test_a_receiver_that_hangs_up_or_talks_nonsense_is_unreachable(receiver: Receiver) -> None:
    receiver.answer = lambda handler: handler.connection.shutdown(socket.SHUT_RDWR)
    with pytest.raises(Unreachable):
        notifier(receiver.url).notify(EVENT, "text")

    def babble(handler: BaseHTTPRequestHandler) -> None:
        handler.wfile.write(b"\x00\xff nonsense\r\n\r\n")

    receiver.answer = babble
    with pytest.raises(Unreachable):
        notifier(receiver.url).notify(EVENT, "text")


def test_a_proxy_of_the_environment_is_not_used(receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("ALL_PROXY", "http://127.0.0.1:9")
    notifier(receiver.url).notify(EVENT, "text")
    assert len(receiver.requests) == 1


@pytest.mark.parametrize("url", ["", "alerts", "ftp://host/x", "http://", "file:///etc/passwd", "http://[::1"])
def test_an_address_that_is_no_web_address_is_refused_at_once(url: str) -> None:
    with pytest.raises(ConfigurationError, match="webhook address"):
        WebhookNotifier(url, SECRET)


@pytest.mark.parametrize("secret", [None, "", "short"])
def test_a_webhook_without_a_proper_secret_is_refused_at_once(secret: str | None) -> None:
    with pytest.raises(ConfigurationError, match="secret of at least 16"):
        WebhookNotifier("http://host/", secret)


def test_the_signature_covers_time_and_body() -> None:
    right = signature(b"key", "1", b"body")
    assert (
        len({right, signature(b"key", "2", b"body"), signature(b"key", "1", b"bode"), signature(b"kez", "1", b"body")})
        == 4
    )


def test_the_body_is_a_pure_function_of_the_event() -> None:
    assert body(EVENT, "text") == body(replace(EVENT), "text")


# ---------------------------------------------------------------- console


class Screen(io.StringIO):
    """A terminal."""

    def isatty(self) -> bool:
        return True


def test_the_console_prints_one_line_without_colour_into_a_file() -> None:
    stream = io.StringIO()
    ConsoleNotifier(stream=stream).notify(EVENT, "text")
    assert stream.getvalue() == "22:14:20 medium raised pump-1: unlike normal, 2.4 x its line (vib, temp)\n"


def test_the_console_prints_colour_on_a_terminal_and_still_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm-256color")
    screen = Screen()
    ConsoleNotifier(stream=screen).notify(EVENT, "text")
    assert "\x1b[" in screen.getvalue()
    assert screen.getvalue().count("\n") == 1


def test_a_line_says_the_machine_and_its_trouble_first_and_ends_between_words() -> None:
    def told(anomaly: Anomaly, event: str = "raised") -> str:
        lines: list[str] = []
        ConsoleNotifier(lines.append).notify(replace(EVENT, event=event, alert=replace(ALERT, anomaly=anomaly)), "t")
        return lines[0].removeprefix("22:14:20 medium ")

    deep = replace(ANOMALY, asset="northworks/handling/shipping/boiler-101")
    alone = replace(deep, kind=Kind.INSTRUMENT, cause="instrument:o2", tags=("o2",), fault="DISAGREES")
    assert told(deep) == "raised boiler-101: unlike normal, 2.4 x its line (vib)"
    assert told(alone) == "raised boiler-101: sensor o2 disagrees with all others"
    assert told(replace(alone, fault="MISSING")) == "raised boiler-101: sensor o2 sends nothing"
    assert told(replace(ANOMALY, kind=Kind.DATA_LOSS)) == "raised pump-1: no data from any sensor, s1"
    clock = replace(ANOMALY, kind=Kind.INSTRUMENT, cause="instrument:clock", tags=("clock",), fault="CLOCK")
    assert told(clock) == "raised pump-1: its device's clock is wrong, s1"
    assert told(replace(ANOMALY, asset="p"), "cleared") == "cleared p: unlike normal, 2.4 x its line (vib, temp)"


def test_no_line_is_wider_than_80_columns_or_steers_the_terminal() -> None:
    lines: list[str] = []
    wild = replace(ANOMALY, asset="s1/泵" * 40, tags=("\x1b[2Jvib\r\n",))
    for name in (ANOMALY, replace(ANOMALY, asset="\x1b]0;owned\x07/p"), wild):
        ConsoleNotifier(lines.append).notify(replace(EVENT, actor="ann\nbob", alert=replace(ALERT, anomaly=name)), "t")
    assert all(cell_len(line) <= WIDTH for line in lines)
    assert all(line.isprintable() for line in lines)


def test_a_console_that_knows_only_ascii_shows_a_question_mark() -> None:
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, encoding="ascii", write_through=True)
    ConsoleNotifier(stream=stream).notify(
        replace(EVENT, alert=replace(ALERT, anomaly=replace(ANOMALY, asset="Ofen-Süd"))), ""
    )
    assert b"Ofen-S?d" in raw.getvalue()


def test_a_closed_console_is_unreachable() -> None:
    stream = io.StringIO()
    stream.close()
    with pytest.raises(Unreachable, match="console"):
        ConsoleNotifier(stream=stream).notify(EVENT, "text")


def test_the_console_shows_the_plants_time_of_day() -> None:
    lines: list[str] = []
    ConsoleNotifier(lines.append, timezone="Europe/Berlin").notify(EVENT, "text")
    assert lines[0].startswith("23:14:20")


# ---------------------------------------------------------------- apprise

IMGHDR = pytest.mark.filterwarnings("ignore:'imghdr' is deprecated:DeprecationWarning")
"""Apprise imports it for one of its parts, guarded by a shim for when it is gone."""


@IMGHDR
def test_apprise_posts_text_and_id(receiver: Receiver) -> None:
    from pipelines.adapters.apprise_notifier import AppriseNotifier

    address = receiver.url.removeprefix("http://").split("?")[0]
    AppriseNotifier(f"json://{address}").notify(EVENT, "Alert (medium): pump")
    told = json.loads(receiver.requests[0][2])
    assert told["message"] == "Alert (medium): pump\n\n[a1-1]"
    assert told["title"].startswith("raised: s1/pump-1")
    assert told["type"] == "warning"


@IMGHDR
def test_apprise_that_fails_is_unreachable_and_a_wrong_address_is_refused(receiver: Receiver) -> None:
    from pipelines.adapters.apprise_notifier import AppriseNotifier

    receiver.answer = status(500)
    address = receiver.url.removeprefix("http://").split("?")[0]
    with pytest.raises(Unreachable):
        AppriseNotifier(f"json://{address}").notify(EVENT, "text")
    with pytest.raises(ConfigurationError, match="nosuch://") as refused:
        AppriseNotifier("nosuch://user:password@host")
    assert "password@host" not in str(refused.value)
