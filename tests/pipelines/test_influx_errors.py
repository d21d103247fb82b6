"""What InfluxDB may answer, played by a small server: each answer ends in one clear error, or in lines set aside."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
import urllib3.exceptions as http
from influxdb_client.rest import ApiException
from structlog.testing import capture_logs

from anomaly.errors import ConfigurationError, PlantwatchError, StorageError, StorageFull, Unreachable
from pipelines import metrics
from pipelines.adapters.influx_config import SAMPLES, InfluxConfig
from pipelines.adapters.influx_errors import translated
from pipelines.adapters.influx_reading import InfluxReader
from pipelines.adapters.influx_writing import InfluxWriter

Answer = tuple[int, dict[str, Any] | bytes]
Respond = Callable[[str, bytes], Answer]
PARTIAL = "failure writing points to database: partial write: "


class Played:
    """A server that answers as `respond` says, and remembers what it was asked."""

    def __init__(self) -> None:
        self.respond: Respond = lambda path, body: (204, b"")
        self.asked: list[tuple[str, bytes]] = []
        self.headers: dict[str, str] = {}
        played = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                played.asked.append((self.path, body))
                status, answer = played.respond(self.path, body)
                payload = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
                self.send_response(status)
                for name, value in played.headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(payload)))
                self.end_headers()
                self.wfile.write(payload)

            def log_message(self, *_: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.thread = threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.02})
        self.thread.start()

    @property
    def config(self) -> InfluxConfig:
        return InfluxConfig(f"http://127.0.0.1:{self.server.server_port}", "org", "a token", timeout_s=5.0)

    def refuse_lines(
        self, is_bad: Callable[[bytes], bool], status: int = 422, why: str = "field type conflict"
    ) -> None:
        """Like InfluxDB: the good lines of a request are stored (422), or none of them (400)."""
        self.stored: set[bytes] = set()

        def respond(path: str, body: bytes) -> Answer:
            lines = body.split(b"\n")
            bad = [line for line in lines if is_bad(line)]
            if not bad or status == 422:
                self.stored |= set(lines) - set(bad)
            return (status, {"code": "x", "message": f"{PARTIAL}{why}"}) if bad else (204, b"")

        self.respond = respond

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()


@pytest.fixture
def played() -> Iterator[Played]:
    server = Played()
    yield server
    server.close()


@pytest.fixture
def writer(played: Played) -> Iterator[InfluxWriter]:
    made = InfluxWriter(played.config, sleep=pauses.append)
    pauses.clear()
    yield made
    made.close()


pauses: list[float] = []


def lines(count: int) -> list[str]:
    return [f"sample,site=s,asset=s/p v.a=1.0 {i}" for i in range(count)]


def dropped(reason: str) -> float:
    totals = metrics.totals()
    return sum(value for name, value in totals.items() if "points_dropped" in name and reason in name)


@pytest.mark.parametrize("bad", [{0}, {4999}, {2500}, {0, 1, 2}, {7, 1234, 4321}])
@pytest.mark.parametrize("status", [422, 400])
def test_only_the_points_that_are_refused_are_set_aside(
    played: Played, writer: InfluxWriter, bad: set[int], status: int
) -> None:
    why = "field type conflict" if status == 422 else "unable to parse: something else"
    played.refuse_lines(lambda line: int(line.split()[-1]) in bad, status, why)
    before = dropped("field_type") + dropped("malformed")
    with capture_logs() as logs:
        writer.send(SAMPLES, lines(5000))
    assert played.stored == {line.encode() for i, line in enumerate(lines(5000)) if i not in bad}
    assert dropped("field_type") + dropped("malformed") == before + len(bad)
    assert len(played.asked) <= 2 * 13 * len(bad) + 1
    (told,) = [log for log in logs if log["event"] == "points_set_aside"]
    assert {int(line.split()[-1]) for line in told["lines"]} == bad
    assert sum(told["counts"].values()) == len(bad)


def test_lines_that_the_answer_names_are_set_aside_at_once(played: Played, writer: InfluxWriter) -> None:
    def respond(path: str, body: bytes) -> Answer:
        bad = [line for line in body.decode().split("\n") if line.endswith("7")]
        message = "\n".join(f"unable to parse '{line}': invalid number" for line in bad)
        return (400, {"code": "invalid", "message": message}) if bad else (204, b"")

    played.respond = respond
    before = dropped("malformed")
    writer.send(SAMPLES, lines(1000))
    assert len(played.asked) == 2
    assert dropped("malformed") == before + 100


def test_a_batch_refused_whole_is_one_request_and_never_repeated(played: Played, writer: InfluxWriter) -> None:
    why = "dropped 5000 points outside retention policy of duration 1h0m0s dropped=5000"
    played.respond = lambda path, body: (422, {"code": "x", "message": PARTIAL + why})
    before = dropped("retention")
    with capture_logs() as logs:
        writer.send(SAMPLES, lines(5000))
    assert len(played.asked) == 1
    assert dropped("retention") == before + 5000
    assert len(logs[0]["lines"]) == 10


def test_a_request_that_is_too_large_is_cut_until_it_fits(played: Played, writer: InfluxWriter) -> None:
    played.respond = lambda path, body: (413, {}) if len(body) > 4000 else (204, b"")
    before = dropped("oversize")
    writer.send(SAMPLES, lines(1000))
    assert b"\n".join(body for _, body in played.asked if len(body) <= 4000).split(b"\n") == [
        line.encode() for line in lines(1000)
    ]
    assert dropped("oversize") == before


def test_a_400_that_is_not_about_a_line_drops_nothing(played: Played, writer: InfluxWriter) -> None:
    played.respond = lambda path, body: (400, {"code": "invalid", "message": "precision 'x' is not valid"})
    with pytest.raises(StorageError, match="precision"):
        writer.send(SAMPLES, lines(10))
    assert len(played.asked) == 1


@pytest.mark.parametrize(
    ("status", "message", "error", "words"),
    [
        (401, "unauthorized access", ConfigurationError, ["401", "influx_token", "setup-historian"]),
        (403, "insufficient permissions for write", ConfigurationError, ["403", "no right", "setup-historian"]),
        (404, 'bucket "plantwatch_samples" not found', ConfigurationError, ["404", "plantwatch_…", "setup-historian"]),
        (500, "write wal: no space left on device", StorageFull, ["disk is full", "free some space"]),
        (507, "disk quota exceeded", StorageFull, ["disk is full"]),
        (500, "boom", StorageError, ["500", "boom", "log"]),
        (503, "starting", Unreachable, ["busy or starting"]),
        (302, "", ConfigurationError, ["redirection"]),
    ],
)
def test_each_refusal_says_what_came_and_how_to_mend_it(
    played: Played, writer: InfluxWriter, status: int, message: str, error: type[PlantwatchError], words: list[str]
) -> None:
    played.respond = lambda path, body: (status, {"code": "x", "message": message})
    with pytest.raises(error) as caught:
        writer.send(SAMPLES, lines(3))
    assert type(caught.value) is error
    assert all(word in str(caught.value) for word in (*words, "write to plantwatch_samples", played.config.url))
    assert "a token" not in str(caught.value)


def test_a_busy_server_is_asked_again_a_bounded_number_of_times(played: Played, writer: InfluxWriter) -> None:
    played.headers = {"Retry-After": "3600"}
    answers = iter([(503, b""), (429, b""), (204, b"")])
    played.respond = lambda path, body: next(answers)
    writer.send(SAMPLES, lines(3))
    assert len(played.asked) == 3
    assert pauses == [5.0, 5.0]
    played.respond = lambda path, body: (503, b"")
    with pytest.raises(Unreachable):
        writer.send(SAMPLES, lines(3))
    assert len(played.asked) == 6


def test_a_server_that_hangs_is_unreachable_within_the_timeout(played: Played) -> None:
    with socket.create_server(("127.0.0.1", 0)) as mute:
        config = InfluxConfig(f"http://127.0.0.1:{mute.getsockname()[1]}", "org", "a token", timeout_s=0.3)
        writer, reader = InfluxWriter(config), InfluxReader(config)
        for ask in (lambda: writer.send(SAMPLES, lines(3)), reader.assets):
            started = time.monotonic()
            with pytest.raises(Unreachable, match=r"no answer within 0\.3 s"):
                ask()
            assert time.monotonic() - started < 5.0
        writer.close()
        reader.close()


def test_nobody_there_is_unreachable_after_a_few_tries() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        config = InfluxConfig(f"http://127.0.0.1:{unused.getsockname()[1]}", "org", "a token")
        writer = InfluxWriter(config, sleep=pauses.append)
        pauses.clear()
        with pytest.raises(Unreachable, match=r"nobody answers there.*refused"):
            writer.send(SAMPLES, lines(3))
        assert len(pauses) == 2
        writer.close()


def test_a_connection_cut_in_mid_request_is_tried_again_then_unreachable() -> None:
    with socket.create_server(("127.0.0.1", 0)) as rude:
        seen: list[int] = []

        def hang_up() -> None:
            while len(seen) < 3:
                connection, _ = rude.accept()
                seen.append(len(connection.recv(65536)))
                connection.close()

        thread = threading.Thread(target=hang_up)
        thread.start()
        config = InfluxConfig(f"http://127.0.0.1:{rude.getsockname()[1]}", "org", "a token", timeout_s=5.0)
        writer = InfluxWriter(config, sleep=pauses.append)
        with pytest.raises(Unreachable, match="connection broke"):
            writer.send(SAMPLES, lines(3))
        thread.join()
        writer.close()


def test_an_error_in_the_middle_of_an_answer_spoils_all_of_it(played: Played) -> None:
    answer = ",result,table,_value\r\n,_result,0,s1/a\r\n\r\nerror,reference\r\nruntime error: out of memory,897\r\n"
    played.respond = lambda path, body: (200, answer.encode())
    reader = InfluxReader(played.config)
    with pytest.raises(StorageError, match=r"broke off in the middle.*out of memory"):
        reader.assets()
    reader.close()


@pytest.mark.parametrize("answer", [b"<html>hello</html>", b"{}"])
def test_an_answer_of_something_else_is_named(played: Played, answer: bytes) -> None:
    played.respond = lambda path, body: (200, answer)
    reader = InfluxReader(played.config)
    with pytest.raises(StorageError, match="not CSV of InfluxDB 2"):
        reader.assets()
    reader.close()


@pytest.mark.parametrize("broken", [b"!!!", b"AAAA"])
def test_stored_values_that_make_no_sense_are_named(played: Played, broken: bytes) -> None:
    def respond(path: str, body: bytes) -> Answer:
        rows = (b"run", b'"[""v"",""rules"",[""a""]]"'), (b"detail", broken)
        told = b"".join(b",rows,0,1970-01-01T00:00:00Z,%s,%s,p\r\n" % (value, name) for name, value in rows)
        return 200, b",result,table,_time,_value,_field,asset\r\n" + told

    played.respond = respond
    reader = InfluxReader(played.config)
    with pytest.raises(StorageError, match="rebuild"):
        reader.scores("p", 0, 10)
    reader.close()


def refusal(status: int, reason: str) -> ApiException:
    return ApiException(status=status, reason=reason)  # type: ignore[no-untyped-call]  # generated code


FOREIGN_ERRORS = [
    refusal(0, "SSLError\ncertificate verify failed"),
    *(refusal(status, "x") for status in (300, 400, 401, 403, 404, 405, 409, 418, 429, 500, 502, 599)),
    http.ProtocolError("Connection aborted."),
    http.NewConnectionError(None, "x: [Errno 111] Connection refused"),  # type: ignore[arg-type]
    http.ReadTimeoutError(None, "", "Read timed out."),  # type: ignore[arg-type]
    http.ConnectTimeoutError("x"),
    http.IncompleteRead(1, 2),
    http.LocationParseError("http://["),
    http.DecodeError("x"),
    ConnectionResetError("x"),
    OSError(28, "No space left on device"),
]


@pytest.mark.parametrize("error", FOREIGN_ERRORS, ids=repr)
def test_no_foreign_error_is_unmapped(error: Exception) -> None:
    config = InfluxConfig("http://influxdb:8086", "org", "a secret token")
    ours = translated(error, config, "do it")
    assert isinstance(ours, ConfigurationError | StorageError | Unreachable)
    assert str(ours).startswith("InfluxDB at http://influxdb:8086 could not do it: ")
    assert "secret" not in str(ours)


@pytest.mark.parametrize(
    "wrong",
    [
        {"url": "influxdb:8086"},
        {"url": "http://me:pass@influxdb"},
        {"org": ""},
        {"token": ""},
        {"token": "tok\nen"},
        {"bucket_prefix": "_x"},
        {"bucket_prefix": 'x"'},
    ],
)
def test_what_cannot_work_is_refused_before_anything_is_asked(wrong: dict[str, str]) -> None:
    right = {"url": "http://influxdb:8086", "org": "org", "token": "a token"}
    with pytest.raises(ConfigurationError, match=r"expected|must both"):
        InfluxConfig(**(right | wrong))  # type: ignore[arg-type]


def test_the_token_is_not_in_the_configs_text() -> None:
    assert "hidden" not in repr(InfluxConfig("http://influxdb:8086", "org", "hidden"))


def test_nothing_may_be_asked_of_a_closed_historian(played: Played, writer: InfluxWriter) -> None:
    writer.close()
    with pytest.raises(StorageError, match="closed"):
        writer.send(SAMPLES, lines(1))
