"""One POST over HTTP(S), bounded as a whole: no redirects, no proxy or `.netrc` of the environment."""

from __future__ import annotations

import threading
from collections.abc import Mapping

import httpx

from anomaly.errors import ConfigurationError, PlantwatchError, Unreachable


def post(what: str, url: httpx.URL, content: bytes, headers: Mapping[str, str], timeout_s: float) -> None:
    """POST once. Returns when a 2xx answer came; raises Unreachable for anything else, and after `timeout_s`.

    `what` names the receiver in messages; of the address only the host is repeated.
    """
    _Attempt(what, url, content, dict(headers), timeout_s).run()


def checked_url(what: str, url: str) -> httpx.URL:
    """The address, if it is one. Raises ConfigurationError."""
    try:
        parsed = httpx.URL(url)
    except (httpx.InvalidURL, TypeError) as error:
        raise ConfigurationError(f"{what} address {url!r} is no URL: {error}") from error
    if parsed.scheme not in ("http", "https") or not parsed.host:
        raise ConfigurationError(f"{what} address {url!r}: expected http://HOST… or https://HOST…")
    return parsed


class _Attempt:
    """One POST in a thread of its own: httpx bounds each read, so a server that drips bytes would hold us for ever."""

    def __init__(self, what: str, url: httpx.URL, content: bytes, headers: dict[str, str], timeout_s: float) -> None:
        self._request = ("POST", url, content, headers)
        self._who = f"{what} at {url.host}"
        self._name = what
        self._timeout_s = timeout_s
        self._client = httpx.Client(timeout=timeout_s, follow_redirects=False, trust_env=False)
        self._failure: PlantwatchError | None = None
        self._done = threading.Event()

    def run(self) -> None:
        threading.Thread(target=self._work, name=self._name, daemon=True).start()
        finished = self._done.wait(self._timeout_s)
        if not finished:
            self._client.close()  # a thread that still reads from it ends with its next read
            raise Unreachable(f"{self._who} did not answer within {self._timeout_s:g} s")
        if self._failure is not None:
            raise self._failure

    def _work(self) -> None:
        method, url, content, headers = self._request
        try:
            with self._client, self._client.stream(method, url, content=content, headers=headers) as answer:
                self._failure = _judge(answer, self._who)
        except Exception as error:  # whatever the client or the closed socket raises is a failed delivery
            self._failure = Unreachable(f"{self._who} cannot be reached: {_told(error)}")
        finally:
            self._done.set()


def _judge(answer: httpx.Response, who: str) -> Unreachable | None:
    if answer.is_success:
        return None
    if answer.is_redirect:
        where = answer.headers.get("Location", "")[:200]
        return Unreachable(f"{who} redirects ({answer.status_code}) to {where!r}, which is not followed")
    return Unreachable(f"{who} answered {answer.status_code}; expected 2xx")


def _told(error: Exception) -> str:
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
