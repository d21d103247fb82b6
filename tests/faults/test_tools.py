"""The tools of the fault bench do what they say: proxy, receiver, feeder, table, the aligner of its own."""

from __future__ import annotations

import hashlib
import hmac
import json
import socket
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from anomaly.alignment import Aligner, AlignmentPolicy
from anomaly.blocks import join
from anomaly.domain import SECOND, Quality, Readings
from tests.faults import alignment
from tests.faults.feeder import Feeder
from tests.faults.minting import TICK, Mint, Minted, Row, bench_plant, values_of
from tests.faults.proxy import Proxy
from tests.faults.receiver import SECRET, Receiver
from tests.faults.table import Line, last_line, table

# ----------------------------------------------------------------------- proxy


@pytest.fixture
def behind() -> Iterator[int]:
    """A web server that answers `here`; its port."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", "4")
            self.end_headers()
            self.wfile.write(b"here")

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    yield server.server_port
    server.shutdown()
    server.server_close()
    thread.join()


def ask(url: str, timeout: float = 0.5) -> bytes:
    with urllib.request.urlopen(url, timeout=timeout) as answer:
        content: bytes = answer.read()
    return content


def test_the_proxy_passes_hangs_refuses_and_passes_again(behind: int) -> None:
    proxy = Proxy(behind)
    try:
        assert ask(proxy.url) == b"here"
        proxy.set("hang")
        with pytest.raises(TimeoutError):
            ask(proxy.url)
        proxy.set("refuse")
        with pytest.raises(urllib.error.URLError, match="refused"):
            ask(proxy.url)
        proxy.set("pass")
        assert ask(proxy.url, 5.0) == b"here"
    finally:
        proxy.close()


def test_a_connection_that_was_open_is_cut_by_refusing(behind: int) -> None:
    proxy = Proxy(behind)
    try:
        with socket.create_connection(("127.0.0.1", proxy.port), timeout=5) as client:
            client.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            assert client.recv(100).startswith(b"HTTP")
            proxy.set("refuse")
            client.settimeout(5)
            try:
                while client.recv(4096):
                    pass
            except ConnectionError:
                pass
    finally:
        proxy.close()


# -------------------------------------------------------------------- receiver


def post(url: str, secret: str = SECRET, key: str = "a-1") -> int:
    alert = {"asset": "s/p", "cause": "process"}
    body = {"id": "a-1", "event": "raised", "time": "2026-11-21T01:02:03.000Z", "alert": alert}
    content, stamp = json.dumps(body).encode(), "1795000000"
    digest = hmac.new(secret.encode(), stamp.encode() + b"." + content, hashlib.sha256).hexdigest()
    headers = {
        "Idempotency-Key": key,
        "X-Plantwatch-Timestamp": stamp,
        "X-Plantwatch-Signature": f"sha256={digest}",
    }
    try:
        with urllib.request.urlopen(urllib.request.Request(url, content, headers), timeout=1) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        error.close()
        return error.code


def test_the_receiver_keeps_what_it_is_told_and_checks_it() -> None:
    receiver = Receiver()
    try:
        assert post(receiver.url) == 204
        receiver.mode = "fail"
        assert post(receiver.url) == 503
        receiver.mode = "take"
        assert post(receiver.url) == 204
        assert [key for key, _ in receiver.told] == ["a-1", "a-1"]
        assert receiver.told[0][1].time == 1_795_222_923 * SECOND
        assert (receiver.refused, receiver.wrong) == (1, [])
        post(receiver.url, secret="another")
        post(receiver.url, key="b-1")
        assert len(receiver.wrong) == 2
    finally:
        receiver.close()


# ---------------------------------------------------------------- feeder, table


def test_the_feeder_keeps_its_rate_and_tells_what_broke() -> None:
    sent: list[Minted] = []
    mint = Mint(bench_plant(1), 0)
    records = iter([mint.next("bench/hall/line-0/machine-000") for _ in range(1000)])
    began = time.monotonic()
    with Feeder(sent.append, records, 200.0):
        time.sleep(0.5)
    spent = time.monotonic() - began
    assert 20 <= len(sent) <= 200 * spent + 10

    def broken(minted: Minted) -> None:
        raise OSError("no way")

    with pytest.raises(OSError, match="no way"), Feeder(broken, records, 200.0) as feeder:
        feeder.join()


def test_the_table_says_what_fell_short_and_the_last_line_sums_up() -> None:
    lines = [Line(1, "kill", 30, 900, replays=4, recovery_s=2.04), Line(2, "hang", 1, 100, missing=3, wrong=["lost 3"])]
    text = table(lines)
    assert "2.0 s" in text
    assert "row 2 fell short: lost 3" in text
    assert last_line(lines) == "faults 31, readings 1000, missing 3, spurious 0, corrupted 0, replays 4"
    assert [line.sound for line in lines] == [True, False]


# --------------------------------------------------------------------- minting


def test_values_follow_from_machine_and_row_alone() -> None:
    first, second = bench_plant(2).assets
    assert values_of(first.path, 77) == values_of(first.path, 77)
    assert values_of(first.path, 77) != values_of(second.path, 77)
    assert values_of(first.path, 77) != values_of(first.path, 78)


def test_row_times_lie_inside_their_ticks_and_ascend() -> None:
    mint = Mint(bench_plant(1), 1_780_000_000 * SECOND)
    times = [mint.time(row) for row in range(3000)]
    assert times == sorted(times)
    assert all(-(-time // TICK) == mint.start // TICK + row for row, time in enumerate(times))


# ------------------------------------------------------------------- alignment

ROWS = st.lists(
    st.tuples(
        st.integers(0, 90),
        st.dictionaries(st.sampled_from(["a", "b", "other"]), st.sampled_from([1.0, 2.5, None]), min_size=1),
    ),
    min_size=1,
    max_size=60,
)


@settings(deadline=None)
@given(ROWS)
def test_the_obvious_aligner_and_the_real_one_agree(drawn: list[tuple[int, dict[str, float | None]]]) -> None:
    rows = [Row("s/p", time * TICK // 2 + 1, values) for time, values in drawn]
    mine = alignment.align("s/p", rows, ("a", "b"), TICK)
    theirs = Aligner("s/p", ("a", "b"), AlignmentPolicy.of(TICK))
    parts = [theirs.push(_block(row)) for row in rows]
    samples = join([part.samples for part in parts])
    for name in ("times", "values", "mask", "quality", "restart", "readings"):
        np.testing.assert_array_equal(getattr(mine.samples, name), getattr(samples, name), err_msg=name)
    assert mine.late == sum(part.late for part in parts)
    assert mine.duplicate == sum(part.duplicates for part in parts)
    assert (mine.unknown_tag, mine.pending) == (theirs.ignored, theirs.pending)


def _block(row: Row) -> Readings:
    values = np.array([[np.nan if value is None else value for value in row.values.values()]])
    quality = np.where(np.isfinite(values), Quality.GOOD, Quality.BAD).astype(np.uint8)
    return Readings(row.asset, tuple(row.values), np.array([row.time], dtype=np.int64), values, quality)
