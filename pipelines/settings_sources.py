"""Where settings come from, and how a mistake in them is told."""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final
from zoneinfo import ZoneInfo, available_timezones

from anomaly.errors import ConfigurationError
from pipelines.suggesting import did_you_mean

PREFIX: Final = "PLANTWATCH_"
CONFIG: Final = PREFIX + "CONFIG"
"""Names the settings file; without it `plantwatch.toml` in the working directory, if there is one."""
SECRETS_DIR: Final = PREFIX + "SECRETS_DIR"
"""Folder of secret files, one a setting (`plantwatch_webhook_secret`); without it /run/secrets, if there is one."""
_OTHERS: Final = frozenset({CONFIG, SECRETS_DIR, PREFIX + "PYTHON", PREFIX + "DATASETS"})
"""Variables that steer the scripts, not the program; so do those that begin with `_TESTS`."""
_TESTS: Final = PREFIX + "TEST_"
_PRIVATE: Final = frozenset({"notify_urls", "kafka_password", "influx_token", "influx_url", "kafka_token_url"})
"""Settings that may hold a password, and are not repeated in messages."""


def known_timezone(name: str) -> str:
    """The name, if it is an IANA time zone. Raises ValueError with the nearest one."""
    try:
        ZoneInfo(name)
    except (ValueError, OSError, KeyError) as error:
        nearby = did_you_mean(name, available_timezones())
        hint = nearby if nearby.endswith("?") else "; expected an IANA name such as 'Europe/Berlin' or 'UTC'"
        raise ValueError(f"{name!r} is no time zone{hint}") from error
    return name


def default_data_dir() -> Path:
    """Where the user's programs keep their data (XDG base directories)."""
    base = os.environ.get("XDG_DATA_HOME") or "~/.local/share"
    return Path(base).expanduser() / "plantwatch"


def config_path(config: Path | None) -> Path | None:
    """The settings file that counts, or None."""
    named = config or (Path(os.environ[CONFIG]) if os.environ.get(CONFIG) else None)
    if named is not None:
        return named.expanduser()
    usual = Path("plantwatch.toml")
    return usual if usual.is_file() else None


def secrets_dir() -> Path | None:
    """The folder of secret files, if there is one."""
    folder = Path(os.environ.get(SECRETS_DIR) or "/run/secrets")
    return folder if folder.is_dir() else None


def read_settings_file(path: Path) -> dict[str, Any]:
    """The file's names, tables joined by `_`. Raises ConfigurationError."""
    try:
        return _flat(tomllib.loads(path.read_text(encoding="utf-8-sig")))
    except FileNotFoundError as error:
        raise ConfigurationError(f"settings file {path} does not exist; make it, or leave --config out") from error
    except OSError as error:
        raise ConfigurationError(f"settings file {path} cannot be read: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"settings file {path} is not TOML: {error}") from error


def _flat(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in tree.items():
        flat |= _flat(value, f"{prefix}{name}_") if isinstance(value, dict) else {prefix + name: value}
    return flat


def unknown(
    known: Mapping[str, Any], flags: Mapping[str, Any], from_file: Mapping[str, Any], path: Path | None
) -> list[str]:
    """One message for every name that is no setting, wherever it stands."""
    wrong = [f"unknown setting {name!r}{did_you_mean(name, known)}" for name in flags if name not in known]
    wrong += [f"{path}: unknown setting {name!r}{did_you_mean(name, known)}" for name in from_file if name not in known]
    variables = {PREFIX + name.upper() for name in known} | _OTHERS
    ours = sorted(name for name in os.environ if name.upper().startswith(PREFIX))
    typed = [name for name in ours if name.upper() not in variables and not name.upper().startswith(_TESTS)]
    return wrong + [f"environment: unknown variable {name}{did_you_mean(name, variables)}" for name in typed]


def tell(problem: Mapping[str, Any], flags: Mapping[str, Any], from_file: Mapping[str, Any], path: Path | None) -> str:
    """Where, which, what came, what was expected; secrets are not repeated."""
    said = str(problem["msg"]).removeprefix("Value error, ")
    said = said[:1].lower() + said[1:]
    if not problem["loc"]:
        return said
    name = str(problem["loc"][0])
    came = "" if "secret" in name or name in _PRIVATE else f" = {problem['input']!r}"
    return f"{_source(name, flags, from_file, path)}: {name}{came}: {said}"


def _source(name: str, flags: Mapping[str, Any], from_file: Mapping[str, Any], path: Path | None) -> str:
    secrets = secrets_dir()
    if name in flags:
        return "flag"
    if secrets and (secrets / f"{PREFIX}{name}".lower()).is_file():
        return str(secrets / f"{PREFIX}{name}".lower())
    if any(variable.upper() == PREFIX + name.upper() for variable in os.environ):
        return f"environment {PREFIX}{name.upper()}"
    return str(path) if name in from_file else "settings"
