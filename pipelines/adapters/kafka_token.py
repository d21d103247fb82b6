"""Tokens for OAUTHBEARER, fetched by client credentials (RFC 6749 §4.4) and kept until shortly before they end."""

from __future__ import annotations

import base64
import json
import ssl
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable
from typing import Final

from kafka.net.sasl.oauth import AbstractTokenProvider

from anomaly.errors import ConfigurationError, Unreachable
from pipelines.adapters.kafka_config import KafkaConfig

_EARLY: Final = 0.8
"""A token is renewed after this share of its life."""
_DEFAULT_LIFE_S: Final = 300.0
_LARGEST: Final = 1 << 20


class ClientCredentials(AbstractTokenProvider):  # type: ignore[misc]  # the library has no types
    """Gives the token of `config.client_id`. Thread-safe. Blocks at most `timeout_s` while it fetches.

    Raises ConfigurationError if the token server refuses us, Unreachable if it does not answer.
    """

    def __init__(
        self, config: KafkaConfig, timeout_s: float = 5.0, timer: Callable[[], float] = time.monotonic
    ) -> None:
        self._config = config
        self._timeout_s = timeout_s
        self._timer = timer
        self._lock = threading.Lock()
        self._token = ""
        self._until = 0.0

    def token(self) -> str:
        """The token, a new one if the last is about to end."""
        with self._lock:
            if not self._token or self._timer() >= self._until:
                self._token, life = self._fetch()
                self._until = self._timer() + _EARLY * life
            return self._token

    def _fetch(self) -> tuple[str, float]:
        url = self._config.token_url
        if not url.startswith(("https://", "http://")):
            raise ConfigurationError(f"kafka_token_url is {url!r}; expected an https:// address")
        pair = f"{urllib.parse.quote(self._config.client_id)}:{urllib.parse.quote(self._config.client_secret)}"
        request = urllib.request.Request(  # noqa: S310  # the scheme is checked above
            url,
            data=b"grant_type=client_credentials",
            headers={
                "Authorization": "Basic " + base64.b64encode(pair.encode()).decode(),
                "Content-Type": "application/x-www-form-urlencoded",
                "Accept": "application/json",
            },
        )
        try:
            with urllib.request.urlopen(request, timeout=self._timeout_s, context=self._context()) as answer:  # noqa: S310
                return _parsed(answer.read(_LARGEST), url)
        except urllib.error.HTTPError as error:
            code = error.code
            error.close()
            if code < 500:
                raise ConfigurationError(
                    f"the token server {url} refuses us with HTTP {code}; correct kafka_client_id, "
                    "kafka_client_secret and kafka_token_url"
                ) from error
            raise Unreachable(f"the token server {url} fails with HTTP {code}; expected a token; mend it") from error
        except OSError as error:
            raise Unreachable(
                f"the token server {url} does not answer ({error}); start it, or correct kafka_token_url"
            ) from error

    def _context(self) -> ssl.SSLContext | None:
        if not self._config.token_url.startswith("https://"):
            return None
        context = ssl.create_default_context()
        if self._config.ca_file is not None:
            context.load_verify_locations(self._config.ca_file)
        return context


def _parsed(body: bytes, url: str) -> tuple[str, float]:
    try:
        answer = json.loads(body)
        return str(answer["access_token"]), float(answer.get("expires_in", _DEFAULT_LIFE_S))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ConfigurationError(
            f"the token server {url} answered something else than a token ({error!r}); correct kafka_token_url"
        ) from error
