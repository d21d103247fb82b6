"""What may be the name of an asset or of a tag, and how many tags one payload may have."""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from typing import Any, Final

from anomaly.errors import DecodeError
from pipelines.reasons import Reason

TAG_LIMIT: Final = 10_000
NAME_LIMIT: Final = 256
"""Longest name of an asset or tag, characters."""
_REMEMBERED_TAGS: Final = 64


def name(said: Any, what: str) -> str:
    """The name, if people can read it: printable text (which a lone surrogate is not) of 1 to 256 characters."""
    if type(said) is str and 0 < len(said) <= NAME_LIMIT and said.isprintable() and not said.isspace():
        return said
    shown = ascii(said[: NAME_LIMIT + 1] if isinstance(said, str) else type(said).__name__)[:80]
    raise DecodeError(Reason.BAD_NAME, f"{shown} cannot name a {what}; expected 1 to {NAME_LIMIT} printable characters")


@lru_cache(maxsize=4096)
def asset_name(said: str) -> str:
    """The asset's name, checked once: a plant says the same names all day. Raises DecodeError(`bad_name`)."""
    return name(said, "asset")


def tag_names(said: Iterable[str]) -> tuple[str, ...]:
    """The tags' names; equal ones are the same tuple again. Raises DecodeError(`bad_name` | `too_many_tags`)."""
    tags = tuple(said)
    if len(tags) <= _REMEMBERED_TAGS:
        return _checked(tags)
    if len(tags) > TAG_LIMIT:
        raise too_many(len(tags))
    return tuple(name(tag, "tag") for tag in tags)


@lru_cache(maxsize=1024)
def _checked(tags: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(name(tag, "tag") for tag in tags)


def too_many(count: int) -> DecodeError:
    """Refusal of a payload with more tags than are taken."""
    return DecodeError(Reason.TOO_MANY_TAGS, f"{count} tags came in one payload, at most {TAG_LIMIT} are taken")
