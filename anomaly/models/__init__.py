"""Architectures by name. Importing this package loads no Keras: `builder` does, when a net is really wanted."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any, Final

from anomaly.errors import ConfigurationError

ARCHITECTURES: Final[Mapping[str, str]] = {
    "lstm_autoencoder": "anomaly.models.lstm_autoencoder:build_lstm_autoencoder",
}
"""Where each architecture is built: `module:function`. To add one, write its file and its line here."""


def builder(name: str) -> Callable[..., Any]:
    """The function that builds the named architecture as a `keras.Model`.

    Raises ConfigurationError for a name that is not in `ARCHITECTURES`.

    >>> builder("lstm_autoencoder").__name__
    'build_lstm_autoencoder'
    """
    if name not in ARCHITECTURES:
        known = ", ".join(sorted(ARCHITECTURES))
        raise ConfigurationError(f"unknown architecture {name!r}; expected one of: {known}; choose one of these")
    module, function = ARCHITECTURES[name].split(":")
    built: Callable[..., Any] = getattr(import_module(module), function)
    return built
