"""Every error plantwatch raises on purpose, drawn as a tree.

A message says what came, what was expected and how to mend it. Errors of client libraries are translated into these at
the adapter's door; whatever else escapes is a defect.

    PlantwatchError
    ├── ConfigurationError        settings or plant file; exit code 78 (EX_CONFIG)
    ├── DataError                 input data that cannot be used; exit code 65 (EX_DATAERR)
    │   ├── DecodeError           one payload: becomes a dead letter with `reason`
    │   └── TooFewRowsError       not enough normal rows to fit
    ├── ModelRefused              a model bundle that must not serve (guarantee G9)
    ├── StorageError              log, historian or registry cannot be read or written; exit code 74 (EX_IOERR)
    │   ├── StorageFull           disk full
    │   ├── StorageLocked         locked by another process for longer than the patience given
    │   └── Fenced                this consumer lost its partitions: commit refused
    └── Unreachable               a server or receiver does not answer; exit code 69 (EX_UNAVAILABLE)
"""

from __future__ import annotations


class PlantwatchError(Exception):
    """Base of all errors raised on purpose. `str(error)` is fit for an operator."""

    exit_code = 1


class ConfigurationError(PlantwatchError):
    """Settings or plant description are wrong: what was found, what was expected, how to mend it."""

    exit_code = 78


class DataError(PlantwatchError):
    """Input data that cannot be used as it is."""

    exit_code = 65


class DecodeError(DataError):
    """One payload cannot become readings. `reason` is a short stable word for metrics and dead letters."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class TooFewRowsError(DataError):
    """Not enough normal rows to fit what was asked for."""


class ModelRefused(PlantwatchError):
    """A model bundle failed a check and must never be served."""

    exit_code = 65


class StorageError(PlantwatchError):
    """The log, the historian or the registry cannot be read or written."""

    exit_code = 74


class StorageFull(StorageError):
    """No space is left where we must write."""


class StorageLocked(StorageError):
    """Another process holds the store for longer than we wait."""


class Fenced(StorageError):
    """The consumer lost its partitions in a rebalance; its commit was refused and its state must be dropped."""


class Unreachable(PlantwatchError):
    """A server or a receiver does not answer."""

    exit_code = 69
