"""Feeds minted records at a steady rate from a thread of its own."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator

from tests.faults.minting import Mint, Minted

Send = Callable[[Minted], None]


def steady(mint: Mint, rows: int = 5) -> Iterator[Minted]:
    """All machines in turn, for ever."""
    while True:
        for asset in mint.plant.assets:
            yield mint.next(asset.path, rows)


class Feeder:
    """Sends what `source` gives at `rate` records a second, from entering to leaving."""

    def __init__(self, send: Send, source: Iterator[Minted], rate: float) -> None:
        self.rate = rate
        self.failure: BaseException | None = None
        self._send = send
        self._source = source
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="feeder", daemon=True)

    def __enter__(self) -> Feeder:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
        if self.failure is not None:
            raise self.failure

    def join(self) -> None:
        """Wait until the source has nothing more to give."""
        self._thread.join()

    def _run(self) -> None:
        due = time.monotonic()
        try:
            for minted in self._source:
                if self._stop.wait(max(0.0, due - time.monotonic())):
                    return
                self._send(minted)
                due = max(due, time.monotonic() - 1.0) + 1.0 / self.rate
        except Exception as error:  # told by whoever leaves the feeder
            self.failure = error
