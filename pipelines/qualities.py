"""The many words and codes for quality that plants use, into good, uncertain or bad."""

from __future__ import annotations

from typing import Any, Final

from anomaly.domain import Quality

_WORDS: Final = {
    "": Quality.GOOD,
    "g": Quality.GOOD,
    "ok": Quality.GOOD,
    "valid": Quality.GOOD,
    "true": Quality.GOOD,
    "u": Quality.UNCERTAIN,
    "questionable": Quality.UNCERTAIN,
    "b": Quality.BAD,
    "m": Quality.MISSING,
    "missing": Quality.MISSING,
}
_PREFIXES: Final = (("good", Quality.GOOD), ("uncertain", Quality.UNCERTAIN), ("bad", Quality.BAD))
_OPC_UA: Final = (Quality.GOOD, Quality.UNCERTAIN, Quality.BAD, Quality.BAD)
_OPC_DA: Final = {0xC0: Quality.GOOD, 0x40: Quality.UNCERTAIN}
_SPARKPLUG_STALE: Final = 500


def parse_quality(code: Any) -> Quality:
    """What a source says of a value. Said nothing (null): good. Not understood: bad, so that it shows and harms nobody.

    Words by their beginning, as OPC spells them (`GoodClamped`, `Uncertain_LastUsableValue`); `missing`: no reading.
    Numbers below 0x10000 are OPC DA's (`& 0xC0`: 192 good, 64 uncertain, else bad) or Sparkplug's 192/0/500 (500 =
    stale, bad); from there on an OPC UA StatusCode (top bits 00 good, 01 uncertain, 10 bad).

    >>> [parse_quality(code).name for code in (None, "Good", 192, 64, 0, 500, 0x80000000, "stale", True)]
    ['GOOD', 'GOOD', 'GOOD', 'UNCERTAIN', 'BAD', 'BAD', 'BAD', 'BAD', 'GOOD']
    """
    if code is None or code is True:
        return Quality.GOOD
    if isinstance(code, str):
        return _from_word(code.strip().lower())
    if isinstance(code, float) and code.is_integer():
        code = int(code)
    return _from_number(code) if isinstance(code, int) and not isinstance(code, bool) else Quality.BAD


def parse_status(code: int) -> Quality:
    """An OPC UA StatusCode by its top two bits: 00 good, 01 uncertain, 10 bad. Not one of 32 bits: bad.

    >>> [parse_status(code).name for code in (0, 0x40920000, 0x80310000, -1)]
    ['GOOD', 'UNCERTAIN', 'BAD', 'BAD']
    """
    return _OPC_UA[code >> 30] if 0 <= code < 1 << 32 else Quality.BAD


def _from_word(word: str) -> Quality:
    if word in _WORDS:
        return _WORDS[word]
    if word.isascii() and word.isdigit() and len(word) <= 10:
        return _from_number(int(word))
    return next((quality for prefix, quality in _PREFIXES if word.startswith(prefix)), Quality.BAD)


def _from_number(code: int) -> Quality:
    if code == _SPARKPLUG_STALE or code < 0:
        return Quality.BAD
    return _OPC_DA.get(code & 0xC0, Quality.BAD) if code < 1 << 16 else parse_status(code)
