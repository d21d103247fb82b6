"""Values as words an operator uses. Pure: no Streamlit, no clock; the plant's zone comes as an argument."""

from __future__ import annotations

import math
import re
from datetime import UTC, datetime
from typing import Final
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from anomaly.domain import SECOND, Alert, AlertState, Asset, Kind, Priority, Rung, State
from anomaly.episode_policy import CLOCK, instrument

RUNGS: Final = {
    Rung.RULES: "rules",
    Rung.ROLLING_Z: "rolling z-score",
    Rung.WINDOW_PCA: "window-PCA",
    Rung.LSTM_AUTOENCODER: "LSTM autoencoder",
}
STATES: Final = {
    State.OK: "scored",
    State.WARMING_UP: "warming up",
    State.INSUFFICIENT_COVERAGE: "too few sensors seen",
    State.OFF: "off",
    State.MAINTENANCE: "in maintenance",
}
KINDS: Final = {Kind.PROCESS: "machine", Kind.INSTRUMENT: "sensor", Kind.DATA_LOSS: "data lost"}
ALERT_STATES: Final = {
    AlertState.UNACKNOWLEDGED_ACTIVE: "new",
    AlertState.ACKNOWLEDGED_ACTIVE: "acknowledged",
    AlertState.RETURNED_UNACKNOWLEDGED: "over, not acknowledged",
    AlertState.SHELVED: "shelved",
    AlertState.CLOSED: "closed",
}
PRIORITIES: Final = {Priority.HIGH: "high", Priority.MEDIUM: "medium", Priority.LOW: "low"}
EVENTS: Final = {
    "raised": "Raised",
    "updated": "Updated",
    "cleared": "Back below the line",
    "acknowledged": "Acknowledged",
    "shelved": "Shelved",
    "unshelved": "Taken off the shelf",
    "closed": "Closed",
}
CLOSING_CODES: Final = {
    "true": "True alert",
    "false": "False alert",
    "known": "Known condition",
    "instrument": "Sensor fault",
    "process_change": "Process change",
    "maintenance": "Maintenance",
}
_MARKDOWN: Final = re.compile(r"([\\`*_\[\]#$:~|<>{}()!@^])")


def escape(text: str) -> str:
    r"""Text of others made plain in Streamlit's markdown: no link, image, colour, icon or formula of theirs.

    >>> escape("pump_1 ![x](http://e.x/y) :red[hot] $a$")
    'pump\\_1 \\!\\[x\\]\\(http\\://e.x/y\\) \\:red\\[hot\\] \\$a\\$'
    """
    one_line = " ".join(text.split())
    return _MARKDOWN.sub(r"\\\1", one_line).replace("www.", "www\\.")


def zone(name: str) -> ZoneInfo:
    """The plant's time zone; UTC if the name is not one (the page's clock shows which is used)."""
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        return ZoneInfo("UTC")


def local(time: int, tz: ZoneInfo) -> datetime:
    """Time (ns) as a date and time of the plant, to the second."""
    return datetime.fromtimestamp(time // SECOND, UTC).astimezone(tz)


def clock(time: int, tz: ZoneInfo, now: int | None = None) -> str:
    """Time of day; with the date in front where `now` is another day.

    >>> clock(1_700_000_000 * SECOND, ZoneInfo("Europe/Berlin"))
    '23:13:20'
    >>> clock(1_700_000_000 * SECOND, ZoneInfo("Europe/Berlin"), now=1_700_090_000 * SECOND)
    '14 Nov 23:13'
    """
    moment = local(time, tz)
    if now is not None and local(now, tz).date() != moment.date():
        return f"{moment.day} {moment:%b %H:%M}"
    return f"{moment:%H:%M:%S}"


def duration(span: int) -> str:
    """How long (ns), in at most two units.

    >>> [duration(s * SECOND) for s in (0, 42, 60, 3_725, 90_000)]
    ['0 s', '42 s', '1 min', '1 h 2 min', '1 d 1 h']
    """
    seconds = max(0, span // SECOND)
    if seconds < 60:
        return f"{seconds} s"
    minutes, hours, days = seconds // 60, seconds // 3600, seconds // 86400
    if minutes < 60:
        return f"{minutes} min"
    if hours < 24:
        return f"{hours} h {minutes % 60} min" if minutes % 60 else f"{hours} h"
    return f"{days} d {hours % 24} h" if hours % 24 else f"{days} d"


def number(value: float, unit: str = "") -> str:
    """A measured value with its unit, four significant digits; a dash where unknown.

    >>> number(1234.567, "rpm"), number(0.01234, "mm/s"), number(float("nan"), "°C"), number(56.0, "%")
    ('1235 rpm', '0.01234 mm/s', '– °C', '56 %')
    """
    if not math.isfinite(value):
        text = "–"
    elif abs(value) >= 1000:
        text = f"{value:.0f}"
    else:
        text = f"{value:.4g}"
    return f"{text} {unit}".rstrip()


def score(value: float) -> str:
    """A score, two digits after the point, one above ten; a dash where not known.

    >>> score(0.4), score(12.34), score(float("nan"))
    ('0.40', '12.3', '–')
    """
    if not math.isfinite(value):
        return "–"
    return f"{value:.2f}" if value < 10 else f"{value:.1f}"


def count(number_of: int, one: str, many: str | None = None) -> str:
    """A number with its noun.

    >>> count(1, "alert"), count(3, "alert"), count(0, "battery", "batteries")
    ('1 alert', '3 alerts', '0 batteries')
    """
    return f"{number_of:,} {one if number_of == 1 else many or one + 's'}"


def machine(asset: Asset) -> str:
    """What people call the machine.

    >>> machine(Asset("north/hall/line-1/feed-pump-2", "pump", ()))
    'feed-pump-2'
    """
    return asset.name or asset.path.rsplit("/", 1)[-1]


def place(asset: Asset) -> str:
    """Where it stands: its path without the machine.

    >>> place(Asset("north/hall/line-1/feed-pump-2", "pump", ()))
    'north › hall › line-1'
    """
    return " › ".join(asset.path.split("/")[:-1])


def plain(word: str) -> str:
    """A stored word (`stuck`, `out_of_range`, `OUT_OF_RANGE`) as people write it.

    >>> plain("OUT_OF_RANGE")
    'out of range'
    """
    return word.replace("_", " ").lower()


def blame(alert: Alert, most: int = 3) -> str:
    """The tags an alert points at, strongest first, and the sensor fault if it is one."""
    tags = ", ".join(alert.anomaly.tags[:most])
    rest = len(alert.anomaly.tags) - most
    more = f" and {rest} more" if rest > 0 else ""
    fault = f" {plain(alert.anomaly.fault)}" if alert.anomaly.fault else ""
    return f"{tags}{more}{fault}" or plain(alert.anomaly.cause)


def subject(alert: Alert) -> str:
    """What an alert is about, in a few words: its kind and whom it blames."""
    if alert.anomaly.cause == instrument(CLOCK):
        return "device clock is wrong"
    if alert.anomaly.kind is Kind.DATA_LOSS:
        return "data lost: nothing comes from any sensor"
    return f"{KINDS[alert.anomaly.kind]}: {blame(alert)}"


def rung(value: str) -> str:
    """The step of the cold-start ladder as people call it; unknown words are shown as they are."""
    return RUNGS.get(Rung(value), value) if value in set(Rung) else plain(value)


def state(value: str) -> str:
    """The state of a score in words."""
    return STATES[State(value)] if value in set(State) else plain(value)
