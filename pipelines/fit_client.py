"""The train service's end of a `fit_process`: one job at a time, words as they come, gone when it is not needed."""

from __future__ import annotations

import contextlib
import os
import queue
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Mapping
from pathlib import Path

import msgspec

from pipelines.fit_process import Job, Word

_NICENESS = 5
"""Scoring goes first."""


class FitClient:
    """Starts the process with the first job; its death while at work is told as a failed job.

    `environment`: variables the process gets beside those of this one, so that it reads the same settings.
    """

    def __init__(self, data_dir: Path, *, environment: Mapping[str, str] | None = None) -> None:
        self._data_dir = data_dir
        self._environment = dict(environment or {})
        self._process: subprocess.Popen[bytes] | None = None
        self._words: queue.SimpleQueue[Word] = queue.SimpleQueue()
        self.job: Job | None = None
        """What is being fitted."""

    def submit(self, job: Job) -> None:
        """Begin `job`; nothing else may be under way."""
        if self._process is None or self._process.poll() is not None:
            self.close()
            self._start()
        assert self._process is not None
        assert self._process.stdin is not None
        self.job = job
        try:
            self._process.stdin.write(msgspec.json.encode(job) + b"\n")
            self._process.stdin.flush()
        except OSError as error:
            self._words.put(Word(job.group, job.rung, "failed", reason=f"the fitting process is gone: {error}"))

    def words(self) -> list[Word]:
        """What it said since the last call; a `fitted` or `failed` among them ends the job."""
        said = []
        while not self._words.empty():
            said.append(self._words.get())
        if any(word.stage in ("fitted", "failed") for word in said):
            self.job = None
        return said

    def close(self) -> None:
        """End the process at once, job or not: what was half made can never serve."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait()
            assert process.stdin is not None
            with contextlib.suppress(OSError):  # a job it never read
                process.stdin.close()
        self.job = None

    def rest(self) -> None:
        """Let an idle process go, and its memory with it."""
        if self.job is None:
            self.close()

    def _start(self) -> None:
        environment = {
            **os.environ,
            **self._environment,
            "TF_CPP_MIN_LOG_LEVEL": "3",
            "CUDA_VISIBLE_DEVICES": os.environ.get("CUDA_VISIBLE_DEVICES", ""),
        }
        self._process = subprocess.Popen(  # noqa: S603  # our own interpreter and module
            [sys.executable, "-W", "ignore", "-m", "pipelines.fit_process", str(self._data_dir.resolve())],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=environment,
            preexec_fn=lambda: os.nice(_NICENESS),  # noqa: PLW1509  # nothing but a system call
            start_new_session=True,
        )
        last: deque[bytes] = deque(maxlen=1)
        complaints = threading.Thread(target=_keep, args=(self._process, last), name="fit-complaints", daemon=True)
        complaints.start()
        words = threading.Thread(
            target=self._listen, args=(self._process, complaints, last), name="fit-words", daemon=True
        )
        words.start()

    def _listen(self, process: subprocess.Popen[bytes], complaints: threading.Thread, last: deque[bytes]) -> None:
        assert process.stdout is not None
        with process.stdout as lines:
            for line in lines:
                try:
                    self._words.put(msgspec.json.decode(line, type=Word))
                except msgspec.MsgspecError:
                    continue  # a library that prints to standard output
        code = process.wait()
        job = self.job
        complaints.join(1.0)
        if process is self._process and job is not None:
            why = f": {last[0].decode(errors='replace')[:300]}" if last else ""
            told = f"the fitting process ended with code {code}{why}"
            self._words.put(Word(job.group, job.rung, "failed", reason=told))


def _keep(process: subprocess.Popen[bytes], last: deque[bytes]) -> None:
    """Read what the process complains of, and keep the last line: of a traceback, the one that says why."""
    assert process.stderr is not None
    with process.stderr as lines:
        for line in lines:
            if line.strip():
                last.append(line.strip())
