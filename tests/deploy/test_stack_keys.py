"""Secrets of the stack: made once, random, for their owner; weak ones are refused; certificates fit the host names."""

from __future__ import annotations

import importlib
import shutil
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from pipelines.access import ROLES

FOLDER = Path(__file__).parents[2] / "deploy" / "stack"
NAMES = ["kafka", "localhost", "127.0.0.1"]

needs_openssl = pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl is not installed")


@pytest.fixture
def keys(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    monkeypatch.syspath_prepend(str(FOLDER))
    yield importlib.import_module("keys")
    for name in ("keys", "problem"):
        sys.modules.pop(name, None)


@needs_openssl
def test_missing_secrets_are_made_and_kept(keys: ModuleType, tmp_path: Path) -> None:
    folder = tmp_path / "secrets"
    made = keys.make(folder, NAMES)
    assert {f"kafka_{role}_password" for role in ROLES} | {"influx_operator_token", "ca.crt", "kafka.pem"} <= set(made)
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert stat.S_IMODE((folder / "ca.key").stat().st_mode) == 0o400
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    assert all(len(before[name]) >= 40 for name in made if name in keys.RANDOM)
    assert len({before[name] for name in keys.RANDOM}) == len(keys.RANDOM)
    assert keys.make(folder, NAMES) == []
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


@needs_openssl
def test_the_certificate_is_good_for_its_names_and_made_anew_for_another(keys: ModuleType, tmp_path: Path) -> None:
    keys.make(tmp_path, NAMES)
    checked = ["openssl", "verify", "-CAfile", str(tmp_path / "ca.crt"), "-verify_hostname", "kafka"]
    assert subprocess.run([*checked, str(tmp_path / "kafka.pem")], capture_output=True, check=False).returncode == 0
    assert "BEGIN PRIVATE KEY" in (tmp_path / "kafka.pem").read_text()  # PKCS #8, the one form Kafka reads
    authority = (tmp_path / "ca.crt").read_bytes()
    assert keys.make(tmp_path, [*NAMES, "192.0.2.7", "plant.example"]) == ["kafka.pem"]
    assert keys.make(tmp_path, [*NAMES, "192.0.2.7", "plant.example"]) == []
    assert (tmp_path / "ca.crt").read_bytes() == authority


@needs_openssl
def test_the_page_behind_tls_gets_a_certificate_unless_there_is_one(keys: ModuleType, tmp_path: Path) -> None:
    keys.make(tmp_path, NAMES)
    assert keys.make_page(tmp_path, "plant.example") == ["dashboard.key", "dashboard.crt"]
    checked = ["openssl", "verify", "-CAfile", str(tmp_path / "ca.crt"), "-verify_hostname", "plant.example"]
    assert subprocess.run([*checked, str(tmp_path / "dashboard.crt")], capture_output=True, check=False).returncode == 0
    assert "PRIVATE" not in (tmp_path / "dashboard.crt").read_text()
    assert keys.make_page(tmp_path, "plant.example") == []


@needs_openssl
@pytest.mark.parametrize("text", ["", "short", "my-super-secret-auth-token", "aaaaaaaaaaaaaaaaaaaaaaaa"])
def test_a_weak_secret_is_refused_by_name_and_never_repeated(keys: ModuleType, tmp_path: Path, text: str) -> None:
    keys.make(tmp_path, NAMES)
    path = tmp_path / "influx_operator_token"
    path.chmod(0o600)
    path.write_text(text)
    with pytest.raises(Exception, match="influx_operator_token") as told:
        keys.make(tmp_path, NAMES)
    assert type(told.value).__name__ == "Problem"
    assert not text or text not in str(told.value)


@needs_openssl
def test_one_secret_for_two_is_refused(keys: ModuleType, tmp_path: Path) -> None:
    keys.make(tmp_path, NAMES)
    path = tmp_path / "kafka_score_password"
    path.chmod(0o600)
    path.write_text((tmp_path / "kafka_train_password").read_text())
    with pytest.raises(Exception, match="the same as"):
        keys.make(tmp_path, NAMES)


def test_the_roles_of_the_stack_are_those_of_the_product(keys: ModuleType) -> None:
    assert set(keys.ROLES) == set(ROLES)
