"""Settings: four sources in order, and every mistake told with its source, its name and the nearest known one."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from anomaly.domain import SECOND
from anomaly.episode_policy import EpisodePolicy
from anomaly.errors import ConfigurationError
from pipelines.settings import Settings


@pytest.fixture(autouse=True)
def _bare(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in [name for name in os.environ if name.upper().startswith("PLANTWATCH_")]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PLANTWATCH_SECRETS_DIR", str(tmp_path / "secrets"))


def _refusal(**flags: object) -> str:
    with pytest.raises(ConfigurationError) as caught:
        Settings(**flags)  # type: ignore[arg-type]
    assert caught.value.exit_code == 78
    return str(caught.value)


def test_a_flag_beats_a_secret_file_beats_the_environment_beats_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def port() -> int:
        return Settings().dashboard_port

    assert port() == 8501
    Path("plantwatch.toml").write_text("dashboard_port = 1001")
    assert port() == 1001
    monkeypatch.setenv("PLANTWATCH_DASHBOARD_PORT", "1002")
    assert port() == 1002
    (tmp_path / "secrets").mkdir()
    (tmp_path / "secrets" / "plantwatch_dashboard_port").write_text("1003")
    assert port() == 1003
    assert Settings(dashboard_port=1004).dashboard_port == 1004
    assert Settings(dashboard_port=None).dashboard_port == 1003


def test_tables_of_the_file_join_their_names_and_the_file_may_lie_anywhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    elsewhere = tmp_path / "etc" / "pw.toml"
    elsewhere.parent.mkdir()
    elsewhere.write_text('﻿partitions = 8\n[dashboard]\nport = 9\nhost = "0.0.0.0"\n[alert.clear]\nrows = 20\n')
    named = Settings(config=elsewhere)
    monkeypatch.setenv("PLANTWATCH_CONFIG", str(elsewhere))
    for settings in (named, Settings()):
        assert (settings.partitions, settings.dashboard_port, settings.dashboard_host) == (8, 9, "0.0.0.0")
        assert settings.alert_clear_rows == 20


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"partitions = = 3", "is not TOML"), (b"\xff\xfe", "is not TOML"), (b"[x", "is not TOML")],
)
def test_a_file_that_is_no_toml_is_told_by_name(content: bytes, message: str) -> None:
    Path("plantwatch.toml").write_bytes(content)
    assert f"settings file plantwatch.toml {message}" in _refusal()


def test_a_named_file_that_is_not_there_is_refused() -> None:
    assert "nowhere.toml does not exist" in _refusal(config=Path("nowhere.toml"))
    assert "cannot be read" in _refusal(config=Path())


def test_a_time_zone_must_exist() -> None:
    assert Settings(timezone="Europe/Berlin").timezone == "Europe/Berlin"
    assert "did you mean 'Europe/Berlin'?" in _refusal(timezone="Europe/Berln")
    assert "no time zone" in _refusal(timezone="../../etc/passwd")


def test_secrets_come_from_files_are_refused_when_weak_and_are_never_repeated(tmp_path: Path) -> None:
    key = tmp_path / "key"
    key.write_text("0123456789abcdef-long\n")
    settings = Settings(webhook_secret_file=key)
    assert settings.webhook_secret is not None
    assert settings.webhook_secret.get_secret_value() == "0123456789abcdef-long"
    assert "0123456789abcdef" not in repr(settings)
    told = _refusal(webhook_secret="hunter2")
    assert "hunter2" not in told
    assert "16 characters" in told
    key.write_text("")
    assert "16 characters" in _refusal(webhook_secret_file=key)
    assert "gone" in _refusal(webhook_secret_file=tmp_path / "gone")


def test_the_knobs_turn_the_alert_rule_and_nonsense_is_refused() -> None:
    assert Settings().episode_policy() == EpisodePolicy()
    turned = Settings(alert_rows=3, alert_of_rows=5, alert_min_duration_s=60, alert_clear_line=0.5).episode_policy()
    assert (turned.raise_when[0].rows, turned.raise_when[0].of) == (3, 5)
    assert (turned.min_duration, turned.clear_when.line) == (60 * SECOND, 0.5)
    assert "20 of 10 rows" in _refusal(alert_rows=20)


def test_settings_cannot_be_changed_after_they_are_read() -> None:
    with pytest.raises(ValueError, match="frozen"):
        Settings().partitions = 2


def test_lists_come_from_the_file_a_variable_or_a_secret_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def urls() -> list[str]:
        return [url.get_secret_value() for url in Settings().notify_urls]

    assert (urls(), Settings().critical_assets) == ([], ())
    Path("plantwatch.toml").write_text('notify_urls = ["mqtt://a/b"]\ncritical_assets = ["s/l 1", "s/l2"]')
    assert (urls(), Settings().critical_assets) == (["mqtt://a/b"], ("s/l 1", "s/l2"))
    monkeypatch.setenv("PLANTWATCH_CRITICAL_ASSETS", "s/l 1, s/l3")
    monkeypatch.setenv("PLANTWATCH_NOTIFY_URLS", '["mqtt://c/d"]')
    assert (urls(), Settings().critical_assets) == (["mqtt://c/d"], ("s/l 1", "s/l3"))
    (tmp_path / "secrets").mkdir()
    (tmp_path / "secrets" / "plantwatch_notify_urls").write_text("mqtt://e/f\nmailtos://u:p@g\n")
    assert urls() == ["mqtt://e/f", "mailtos://u:p@g"]


@pytest.mark.parametrize("wrong", ["[mailtos://u:hunter2@h", 7, [["mailtos://u:hunter2@h"]], {"a": "hunter2"}])
def test_a_wrong_list_of_urls_is_refused_without_its_secrets(wrong: object) -> None:
    told = _refusal(notify_urls=wrong)
    assert "notify_urls" in told
    assert "hunter2" not in told


KAFKA = {"log": "kafka", "kafka_servers": ["kafka:9092"]}
LOGIN = {"kafka_security": "sasl_ssl", "kafka_mechanism": "SCRAM-SHA-512", "kafka_user": "score"}
PASSWORD = "correct-horse-battery"


def test_servers_come_from_tables_of_the_file_and_from_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    Path("plantwatch.toml").write_text(
        'log = "kafka"\nhistorian = "influxdb"\n[kafka]\nservers = ["a:1", "[::1]:2"]\n'
        '[influx]\nurl = "https://influx:8086"\ntoken = "0123456789abcdef-x"\n'
    )
    assert Settings().kafka_servers == ("a:1", "[::1]:2")
    monkeypatch.setenv("PLANTWATCH_KAFKA_SERVERS", "b:1, c:2")
    assert Settings().kafka_servers == ("b:1", "c:2")
    assert (Settings().topic_prefix, Settings().influx_bucket_prefix) == ("plantwatch.", "plantwatch_")
    assert "0123456789abcdef" not in repr(Settings())


def test_what_kafka_needs_and_was_not_given_is_told_with_its_mend() -> None:
    assert "PLANTWATCH_KAFKA_SERVERS=host:9092" in _refusal(log="kafka")
    assert "host:port" in _refusal(**KAFKA | {"kafka_servers": ["kafka://kafka"]})
    assert "expected PLAIN, SCRAM-SHA-256" in _refusal(**KAFKA, kafka_security="sasl_ssl")
    assert "logs in nobody" in _refusal(**KAFKA, kafka_mechanism="PLAIN")
    told = _refusal(**KAFKA, kafka_security="sasl_ssl", kafka_mechanism="PLAIN")
    assert "kafka_user is not set" in told
    assert "kafka_password (or kafka_password_file) is not set" in told
    told = _refusal(**KAFKA, kafka_security="sasl_ssl", kafka_mechanism="OAUTHBEARER")
    assert "kafka_token_url" in told
    assert Settings(**KAFKA, **LOGIN, kafka_password=PASSWORD).kafka_user == "score"  # type: ignore[arg-type]


def test_certificates_must_be_there_come_with_their_key_and_be_used(tmp_path: Path) -> None:
    pem = tmp_path / "ca.pem"
    assert "no such file" in _refusal(**KAFKA, kafka_security="ssl", kafka_ca_file=pem)
    pem.touch()
    assert "encrypts nothing" in _refusal(**KAFKA, kafka_ca_file=pem)
    assert "kafka_key_file" in _refusal(**KAFKA, kafka_security="ssl", kafka_cert_file=pem)
    assert Settings(**KAFKA, kafka_security="ssl", kafka_ca_file=pem).kafka_ca_file == pem  # type: ignore[arg-type]


def test_what_influxdb_needs_and_was_not_given_is_told_with_its_mend() -> None:
    told = _refusal(historian="influxdb")
    assert "PLANTWATCH_INFLUX_URL=http://host:8086" in told
    assert "plantwatch setup-historian" in told
    told = _refusal(influx_url="http://admin:hunter2@influx:8086")
    assert "influx_token" in told
    assert "hunter2" not in told


@pytest.mark.parametrize("name", ["kafka_password", "kafka_client_secret", "influx_token", "webhook_secret"])
@pytest.mark.parametrize("weak", ["", "hunter2", "my-token", "                ", "xxxxxxxxxxxxxxxxxxxx"])
def test_every_secret_is_refused_when_weak_whether_given_or_from_its_file(
    name: str, weak: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = _refusal(**{name: weak})
    assert f"{name}: a secret needs at least 16 characters" in told
    assert weak.strip() == "" or weak not in told
    (tmp_path / "it").write_text(weak)
    monkeypatch.setenv(f"PLANTWATCH_{name}_file".upper(), str(tmp_path / "it"))
    assert "16 characters" in _refusal()
    (tmp_path / "it").write_text(PASSWORD + "\n")
    assert getattr(Settings(), name).get_secret_value() == PASSWORD


def test_variables_of_the_tests_are_no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PLANTWATCH_TEST_KAFKA", "127.0.0.1:9")
    assert Settings().log == "embedded"
    monkeypatch.setenv("PLANTWATCH_KAFKA_SERVER", "127.0.0.1:9")
    assert "did you mean 'PLANTWATCH_KAFKA_SERVERS'?" in _refusal()
