"""Why a payload was set aside: the words on dead letters and in metrics."""

from __future__ import annotations

from enum import StrEnum


class Reason(StrEnum):
    """All that can be wrong with a payload: the closed set of dead-letter reasons of decoding."""

    EMPTY = "empty"
    TOMBSTONE = "tombstone"
    OVERSIZE = "oversize"
    ENCODING = "encoding"
    MALFORMED = "malformed"
    TOO_DEEP = "too_deep"
    UNKNOWN_FORMAT = "unknown_format"
    NO_ASSET = "no_asset"
    BAD_NAME = "bad_name"
    NO_READINGS = "no_readings"
    LENGTH_MISMATCH = "length_mismatch"
    TOO_MANY_TAGS = "too_many_tags"
    BAD_TIME = "bad_time"
    NAIVE_TIME = "naive_time"
    FUTURE_DATED = "future_dated"
