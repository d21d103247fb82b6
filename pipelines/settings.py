"""One settings tree, read once at the entry: `plantwatch.toml` < environment `PLANTWATCH_…` < secret files < flags.

The file may group names in tables: `[dashboard] port = 8501` is `dashboard_port = 8501`. Everything that is wrong is
told at once, each with its source, what came, what was expected and, for an unknown name, the nearest known one.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any, ClassVar, Final, Literal

from pydantic import (
    Field,
    HttpUrl,
    PrivateAttr,
    SecretStr,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic_settings import (
    BaseSettings,
    InitSettingsSource,
    NoDecode,
    PydanticBaseSettingsSource,
    SecretsSettingsSource,
    SettingsConfigDict,
)

from anomaly.domain import SECOND
from anomaly.episode_policy import Density, EpisodePolicy
from anomaly.errors import ConfigurationError
from pipelines.settings_servers import SECRETS, ServerSettings
from pipelines.settings_sources import (
    CONFIG,
    PREFIX,
    config_path,
    default_data_dir,
    known_timezone,
    read_settings_file,
    secrets_dir,
    tell,
    unknown,
)

_FILE: Final = "_from_file"


class Settings(ServerSettings):
    """What an installation chooses. `Settings(config=FILE, **flags)`: a flag of None is not given.

    Raises ConfigurationError that names every mistake.
    """

    _config: Path | None = PrivateAttr(None)
    model_config: ClassVar[SettingsConfigDict] = SettingsConfigDict(env_prefix=PREFIX, extra="forbid", frozen=True)

    data_dir: Path = Field(default_factory=default_data_dir)
    """Folder of the embedded log, the historian, the models and `plant.toml`."""
    models_dir: Path | None = None
    """Folder of the models; without it `models` in the data folder."""
    plant: Path | None = None
    """Plant file; without it `plant.toml` in the data folder, if there is one, else what the data shows."""
    timezone: str | None = None
    """IANA name, for people and for naive times in files; without it the plant file's."""
    partitions: int = Field(4, ge=1, le=1024)
    """Partitions of the log, fixed when its topics are made: the largest number of workers that can share it."""
    log_retention_hours: float = Field(7 * 24, gt=0)
    """Readings, scores and dead letters stay on the log so long."""
    historian_retention_days: float = Field(400, gt=0)
    """Readings and scores stay in the historian so long; alerts stay."""
    dashboard_host: str = Field("127.0.0.1", min_length=1)
    """Address the dashboard listens on; the usual one is reached from this machine only."""
    dashboard_port: int = Field(8501, ge=1, le=65535)
    """Its port; if nobody named one and it is taken, the next free one."""
    scoring_device: Literal["cpu", "gpu"] = "cpu"
    """What nets are computed on. Without a usable GPU it is the CPU all the same; metrics and System page say so."""
    webhook_url: HttpUrl | None = None
    """Where each alert transition is posted, signed; needs a secret."""
    webhook_secret: SecretStr | None = None
    """Key of the signature (HMAC-SHA256) on webhooks, at least 16 characters."""
    webhook_secret_file: Path | None = None
    """File that holds it, instead."""
    alertmanager_url: HttpUrl | None = None
    """Alertmanager that is told of plant alerts, and again every minute while they last."""
    notify_urls: Annotated[tuple[SecretStr, ...], NoDecode] = ()
    """Apprise URLs (mail, Teams, MQTT …) told of each transition; in a variable or secret file apart by blanks."""
    critical_assets: Annotated[tuple[str, ...], NoDecode] = ()
    """Paths of machines, lines or areas whose alerts are one step more urgent; in a variable apart by commas."""
    alert_rows: int = Field(6, ge=1)
    """So many rows over the line, of the last `alert_of_rows`, raise a process alert."""
    alert_of_rows: int = Field(10, ge=1)
    """See `alert_rows`."""
    alert_clear_rows: int = Field(12, ge=2)
    """At most one of so many rows over `alert_clear_line` clears it."""
    alert_clear_line: float = Field(0.8, ge=0, le=1)
    """Score, in alert lines, that a row must fall below to speak for clearing."""
    alert_min_duration_s: float = Field(0, ge=0)
    """A process alert is raised no sooner than so long after its onset, seconds."""
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    """Of `services.log` in the data folder, and of what `serve` prints."""

    def __init__(self, *, config: Path | None = None, **flags: Any) -> None:
        given = {name: value for name, value in flags.items() if value is not None}
        path = config_path(config)
        from_file = read_settings_file(path) if path else {}
        wrong = unknown(type(self).model_fields, given, from_file, path)
        if wrong:
            raise ConfigurationError("\n".join(wrong))
        try:
            super().__init__(**(given | {_FILE: from_file}))
        except ValidationError as error:
            told = [tell(dict(problem), given, from_file, path) for problem in error.errors()]
            raise ConfigurationError("\n".join(told)) from None
        self._config = path

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Strongest first."""
        assert isinstance(init_settings, InitSettingsSource)
        flags = dict(init_settings.init_kwargs)
        from_file = InitSettingsSource(settings_cls, flags.pop(_FILE, {}))
        folder = secrets_dir()
        strong = [SecretsSettingsSource(settings_cls, secrets_dir=folder)] if folder else []
        return InitSettingsSource(settings_cls, flags), *strong, env_settings, from_file

    @model_validator(mode="before")
    @classmethod
    def _read_secret(cls, values: dict[str, Any]) -> dict[str, Any]:
        for name in SECRETS:
            path = values.get(f"{name}_file")
            if path and not values.get(name):
                try:
                    values = values | {name: Path(path).expanduser().read_text(encoding="utf-8").strip()}
                except (OSError, UnicodeDecodeError) as error:
                    raise ValueError(f"{name}_file {path}: {error}") from error
        return values

    @field_validator("data_dir", "plant", "models_dir")
    @classmethod
    def _expand(cls, path: Path | None) -> Path | None:
        return path.expanduser() if path else path

    @field_validator("notify_urls", "critical_assets", "kafka_servers", mode="before")
    @classmethod
    def _listed(cls, given: Any, about: ValidationInfo) -> Any:
        """A text from a variable or a secret file as a list: JSON, or apart by blanks (URLs) or commas (the rest)."""
        if not isinstance(given, str):
            return given
        if given.lstrip().startswith("["):
            try:
                return json.loads(given)
            except ValueError as error:
                raise ValueError("begins like a JSON list and is none") from error
        parts = given.split() if about.field_name == "notify_urls" else given.split(",")
        return [part.strip() for part in parts if part.strip()]

    @field_validator("timezone")
    @classmethod
    def _zone(cls, name: str | None) -> str | None:
        return name if name is None else known_timezone(name)

    @model_validator(mode="after")
    def _rules_agree(self) -> Settings:
        self.episode_policy()
        return self

    def environment(self) -> dict[str, str]:
        """Variables that make a process started by this one read the same: its file, and what flags said about places.

        Secrets are not among them: the other process reads them where this one did.
        """
        named = {CONFIG: self._config.resolve()} if self._config else {}
        places = {"data_dir": self.data_dir.resolve(), "models_dir": self.models_dir, "plant": self.plant}
        given = {PREFIX + name.upper(): path.resolve() for name, path in places.items() if path is not None}
        kept = ("partitions", "log_retention_hours", "log", "historian")
        same = {PREFIX + name.upper(): getattr(self, name) for name in kept}
        return {name: str(value) for name, value in (named | given | same).items()}

    def episode_policy(self) -> EpisodePolicy:
        """The alert rule, its knobs turned as set."""
        usual = EpisodePolicy()
        first = Density(self.alert_rows, self.alert_of_rows)
        return EpisodePolicy(
            raise_when=(first, *usual.raise_when[1:]),
            clear_when=Density(usual.clear_when.rows, self.alert_clear_rows, self.alert_clear_line),
            min_duration=round(self.alert_min_duration_s * SECOND),
        )
