"""Rows in which the readings themselves are the trouble: poison, disorder, wrong clocks, nonsense, too much."""

from __future__ import annotations

import json
import random
import statistics
import threading
import time
from collections.abc import Iterator
from dataclasses import replace

from anomaly.domain import SECOND
from tests.faults import verdict
from tests.faults.feeder import steady
from tests.faults.minting import Mint, Minted, Row, encode
from tests.faults.rows_processes import RATE
from tests.faults.stage import Stage
from tests.faults.verdict import NOTICED

STRANGER = "bench/elsewhere/machine-999"
"""A machine that the plant file does not have."""


# ---------------------------------------------------------------------- poison


def poisons(mint: Mint, key: bytes) -> list[Minted]:
    """One of each kind of record that nobody can read, or must not."""
    row = mint.row(key.decode(), 1)
    stranger = encode([replace(row, asset=STRANGER)])
    tomorrow = encode([replace(row, time=time.time_ns() + 86_400 * SECOND)])
    naive = encode([row]).replace(str(row.time).encode(), b'"2026-01-01T00:00:00"')
    short = json.dumps({"asset": row.asset, "ts": [row.time, row.time + 1], "values": {"temp": [1.0]}}).encode()
    kinds: list[tuple[bytes | None, bytes | None, str]] = [
        (key, b"", "?"),
        (key, None, ""),
        (key, b"{", "?"),
        (key, b"\xff\xfe\x00", "?"),
        (key, b"[" * 100_000, "?"),
        (key, b'{"asset": 7}', "?"),
        (key, stranger, "unknown_asset"),
        (key, tomorrow, "future_dated"),
        (key, naive, "naive_time"),
        (key, short, "?"),
        (None, b'{"ts":1,"values":{"temp":1}}', "?"),
        (b"\xff", b'{"ts":1795000000,"values":{"temp":1}}', "?"),
        (key, b'"' + b"\xed\xa0\x80" + b'"', "?"),
        (key, b"0" * 5000, "?"),
    ]
    return [mint.poison(*kind) for kind in kinds]


def poison(stage: Stage) -> None:
    """Poison first, in the middle and last of what one poll brings; then a thousand in a row, and a kill among them."""
    mint, keys = stage.mint, [asset.path.encode() for asset in stage.plant.assets]
    sent = 0
    for key in keys:  # before anybody polls: the first batch begins with poison, and ends with it
        batch = [mint.next(key.decode()) for _ in range(61)]
        bad = poisons(mint, key)
        for one in (bad[0], *batch[:30], bad[1], *batch[30:], *bad[2:]):
            stage.producer.send(one)
        sent += len(bad)
    stage.producer.flush()
    stage.must_replay = True
    strike = stage.strike("poison first, middle, last", stage.at_work())
    stage.start()
    stage.over(strike)
    with stage.load(RATE):
        time.sleep(2.0)
        strike = stage.strike("a thousand in a row, and a kill", 0)
        for number in range(1000):
            stage.producer.send(poisons(mint, keys[number % len(keys)])[number % 14])
        strike.lag = stage.at_work()
        stage.workers["score-1"].kill()
        stage.workers["score-1"].start()
        stage.over(strike)
        time.sleep(3.0)
    stage.more_injected(sent + 1000 - 2)


# -------------------------------------------------------------------- disorder


def disorder(stage: Stage) -> None:
    """Late, shuffled, duplicate (alike and not), gaps short and long."""
    stage.start()
    counts = {"n": 0}
    with stage.load(RATE * 2, _disordered(stage.mint, stage.chance, counts)):
        for _ in range(10 if stage.full else 2):
            time.sleep(3.0)
            strike = stage.strike("disorder", stage.at_work())
            stage.over(strike)
    stage.more_injected(counts["n"] - len(stage.strikes))


def _disordered(mint: Mint, chance: random.Random, counts: dict[str, int]) -> Iterator[Minted]:
    sent: list[Minted] = []
    while True:
        for asset in mint.plant.assets:
            batch = [mint.next(asset.path, chance.randint(1, 4)) for _ in range(3)]
            what = chance.choice(["late", "shuffled", "again", "otherwise", "gap", "hole", "within", "plain"])
            counts["n"] += what != "plain"
            if what == "shuffled":
                chance.shuffle(batch)
            elif what == "again" and sent:
                old = chance.choice(sent[-30:])
                batch.append(mint.of(old.rows))
            elif what == "otherwise":
                first = batch[-1].rows[-1]
                batch.append(mint.of([replace(first, values=dict.fromkeys(first.values, 1.25))]))
            elif what == "late":
                number = max(0, mint.rows[asset.path] - chance.randint(3, 300))
                batch.append(mint.of([replace(mint.row(asset.path, number), values={"temp": 33.0})]))
            elif what == "within":
                rows = [row for minted in batch for row in minted.rows]
                chance.shuffle(rows)
                batch = [mint.of(rows)]
            elif what in ("gap", "hole"):
                mint.skip(asset.path, 40 if what == "gap" else 10)
            sent += batch
            yield from batch


# ---------------------------------------------------------------------- clocks


def wrong_clocks(stage: Stage) -> None:
    """One device's clock is a day ahead, one falls a year behind under way, one jumps an hour ahead and back."""
    ahead, behind, jumps = (asset.path for asset in stage.plant.assets[:3])
    stage.start()
    counts = {"n": 0}
    with stage.load(RATE * 2, _clocks(stage.mint, (ahead, behind, jumps), counts)):
        for _ in range(8 if stage.full else 5):
            time.sleep(3.0)
            strike = stage.strike("wrong clocks", stage.at_work())
            stage.over(strike)
    stage.more_injected(counts["n"] - len(stage.strikes))
    stage.drain(60)
    accused = {event.asset for _, event in verdict.events_on_topic(stage.view) if event.cause in NOTICED}
    if accused != {ahead, behind, jumps}:
        stage.complaints.append(f"clocks accused: {sorted(accused)}; wrong were {sorted((ahead, behind, jumps))}")


def _clocks(mint: Mint, wrong: tuple[str, str, str], counts: dict[str, int]) -> Iterator[Minted]:
    ahead, behind, jumps = wrong
    for turn, good in enumerate(_turns(mint)):
        for one in good:
            asset = one.rows[0].asset
            if turn > 10 and asset == ahead:
                counts["n"] += 1
                day = [replace(row, time=time.time_ns() + 86_400 * SECOND) for row in one.rows]
                bad = mint.of(day)
                yield replace(bad, rows=(), poison="future_dated")
            elif turn > 10 and asset == behind:
                counts["n"] += 1
                yield mint.of([replace(row, time=row.time - 20 * 86_400 * SECOND) for row in one.rows])
            elif turn == 12 and asset == jumps:
                counts["n"] += 1
                yield mint.of([replace(row, time=row.time + 3600 * SECOND) for row in one.rows])
            else:
                yield one


def _turns(mint: Mint) -> Iterator[list[Minted]]:
    while True:
        yield [mint.next(asset.path) for asset in mint.plant.assets]


# ------------------------------------------------------------------------ fuzz


def fuzz(stage: Stage) -> None:
    """Bytes of all kinds: bent rows of a machine nobody knows, and good rows in strange dress."""
    stage.start()
    counts = {"n": 0}
    with stage.load(RATE * 3, _bent(stage.mint, stage.chance, counts)):
        for _ in range(10 if stage.full else 2):
            time.sleep(3.0)
            strike = stage.strike("nonsense", stage.at_work())
            stage.over(strike)
    stage.more_injected(counts["n"] - len(stage.strikes))


def _bent(mint: Mint, chance: random.Random, counts: dict[str, int]) -> Iterator[Minted]:
    """Every other record is good; of the rest some are in strange dress, and most are bent beyond knowing."""
    key = STRANGER.encode()
    for good in steady(mint):
        yield good
        counts["n"] += 1
        if chance.random() < 0.3:
            yield _dressed(mint, chance)
        else:
            row = replace(mint.row(good.rows[0].asset, 5), asset=STRANGER)
            yield mint.poison(key, _bend(encode([row, replace(row, time=row.time + TENTH)]), chance), "?")


TENTH = SECOND // 10


def _dressed(mint: Mint, chance: random.Random) -> Minted:
    """A row of a known machine as some gateway would write it; None stands for what is no number."""
    asset = chance.choice(mint.plant.assets).path
    [row] = mint.next(asset, 1).rows
    odd: list[tuple[str, float | None]] = [
        ("NaN", None),
        ("1e999", None),
        ("-Infinity", None),
        ("null", None),
        ('"no value"', None),
        ("true", 1.0),
        ("1" * 5000, None),
        ("1e2", 100.0),
    ]
    text, meaning = chance.choice(odd)
    body = f'{{"asset":{json.dumps(asset)},"ts":{row.time},"values":{{"temp":{text},"flow":40.5}}}}'
    dress = chance.choice([b"", b"\xef\xbb\xbf", b"  \n"])
    return mint.as_sent(asset.encode(), dress + body.encode(), [Row(asset, row.time, {"temp": meaning, "flow": 40.5})])


def _bend(value: bytes, chance: random.Random) -> bytes:
    """Some bytes changed, cut out or doubled."""
    bent = bytearray(value)
    for _ in range(chance.randint(1, 6)):
        place = chance.randrange(len(bent))
        match chance.randrange(4):
            case 0:
                bent[place] ^= 1 << chance.randrange(8)
            case 1:
                del bent[place : place + chance.randint(1, 20)]
            case 2:
                bent[place:place] = bent[place : place + chance.randint(1, 20)]
            case _:
                bent[place:place] = chance.choice([b"\x00", b"\xff", b"{", b'"', b"\xed\xa0\x80", b"1e999", b"NaN"])
        bent = bent or bytearray(b"{")
    return bytes(bent)


# -------------------------------------------------------------------- overload


def overload(stage: Stage) -> None:
    """Far more comes at once than can be scored: lag grows, memory does not; then all is caught up."""
    count = 80_000 if stage.full else 6_000
    stage.start(score=1)
    with stage.load(RATE):
        time.sleep(4.0)
    burst = [mint for mint, _ in zip(steady(stage.mint, rows=1), range(count), strict=False)]
    before, memory = stage.done("score"), _Memory(stage)
    with memory:
        began = time.monotonic()
        with stage.load(1e9, iter(burst)) as feeder:
            feeder.join()
        spent = time.monotonic() - began
        scored = stage.done("score") - before
        strike = stage.strike("overload", stage.at_work())
        stage.over(strike)
        stage.await_recovery(strike, 600)
    with stage.load(RATE):
        time.sleep(5.0)
    stage.notes.append(
        f"{count / spent:.0f} records/s came for {spent:.0f} s, {scored / spent:.0f}/s were scored meanwhile; "
        f"{strike.lag} waited at the end, done {strike.recovery_s or -1:.1f} s later"
    )
    if strike.lag < count // 5:
        stage.complaints.append(
            f"no overload: of {count} records that came at once only {strike.lag} waited at the end"
        )
    memory.judge()


class _Memory:
    """Watches the resident memory of all workers while inside; it may not grow in the second half."""

    def __init__(self, stage: Stage) -> None:
        self._stage = stage
        self._seen: dict[str, list[float]] = {name: [] for name in stage.workers}
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="memory", daemon=True)

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._stop.wait(0.25):
            for name, worker in self._stage.workers.items():
                self._seen[name].append(worker.rss_mb())

    def judge(self) -> None:
        """Complain of what grew."""
        for name, seen in self._seen.items():
            quarter = max(1, len(seen) // 4)
            grown = statistics.median(seen[-quarter:]) - statistics.median(seen[quarter : 3 * quarter])
            self._stage.notes.append(
                f"{name}: {seen[0]:.0f} MB at first, {max(seen):.0f} MB at most, {seen[-1]:.0f} MB"
            )
            if grown > 40:
                self._stage.complaints.append(f"{name} grew by {grown:.0f} MB in the last quarter of the overload")
