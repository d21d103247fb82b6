"""Views → ECharts options. Pure: the same view gives the same option, so nothing flickers when nothing changed.

Times are drawn as the plant's wall clock: milliseconds since 1970 of the local time read as if it were UTC, with
`useUTC`, because a browser stands in any zone. In the hour that autumn repeats, points of both passes overlie.
Colours are middle tones or translucent, so that one option serves the light and the dark theme.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Final
from zoneinfo import ZoneInfo

import numpy as np
import pandas as pd
from jaxtyping import Float, Int64

from anomaly.domain import Alert, Asset, Priority, Role, State
from dashboard import wording
from dashboard.signals import Explanation, MachineView, Track

Option = dict[str, Any]

QUIET: Final = "#7d8a99"
LINE: Final = "#4f83b5"
RED: Final = "#d64545"
ORANGE: Final = "#e08a2e"
YELLOW: Final = "#cfa92b"
FAINT: Final = "rgba(125,138,153,0.16)"
BAND: Final = "rgba(79,131,181,0.15)"
PRIORITY_COLOURS: Final = {Priority.HIGH: RED, Priority.MEDIUM: ORANGE, Priority.LOW: YELLOW}
_SHADES: Final = {
    Priority.HIGH: "rgba(214,69,69,0.13)",
    Priority.MEDIUM: "rgba(224,138,46,0.13)",
    Priority.LOW: "rgba(207,169,43,0.13)",
}
HEAT_STEPS: Final[tuple[tuple[float, str, str], ...]] = (
    (0.75, "rgba(125,138,153,0.13)", "well below the line"),
    (1.0, "rgba(125,138,153,0.30)", "below the line"),
    (1.5, "rgba(224,176,70,0.75)", "over the line"),
    (3.0, "rgba(224,138,46,0.88)", "1.5 to 3 × the line"),
    (math.inf, "rgba(214,69,69,0.92)", "over 3 × the line"),
)
SCORE_HEIGHT: Final = 128
TRACK_HEIGHT: Final = 74
_GAP: Final = 40
_TOP: Final = 34


def plant_ms(times: Int64[np.ndarray, " row"], tz: ZoneInfo) -> list[int]:
    """Times (ns, UTC) as the plant's wall clock in ms.

    >>> plant_ms(np.array([1_700_000_000_000_000_000]), ZoneInfo("Europe/Berlin")) == [1_700_003_600_000]
    True
    """
    local = pd.DatetimeIndex(pd.to_datetime(np.asarray(times, np.int64), unit="ns", utc=True)).tz_convert(tz)
    naive = local.tz_localize(None).as_unit("ms")
    return [int(value) for value in naive.asi8]


def _values(values: Float[np.ndarray, " row"], digits: int = 5) -> list[float | None]:
    """Plain numbers, null where unknown, `digits` significant digits (a chart shows no more)."""
    return [float(f"{value:.{digits}g}") if math.isfinite(value) else None for value in values.tolist()]


def heat_map(
    heat: Mapping[str, Mapping[int, float]], assets: Sequence[Asset], since: int, until: int, bucket: int, tz: ZoneInfo
) -> Option:
    """Machines × time, the highest score of each bucket. Unknown cells stay empty."""
    starts = list(range(since, until, bucket))
    labels = [f"{wording.local(start, tz):%H:%M}" for start in starts]
    local, step = plant_ms(np.array(starts, np.int64), tz), (until - since) // 6_000_000
    shown = [label if ms % step < bucket // 1_000_000 else "" for label, ms in zip(labels, local, strict=True)]
    names = [wording.machine(asset) for asset in assets]
    cells = [
        [column, row, round(score, 3), wording.machine(asset), labels[column]]
        for row, asset in enumerate(assets)
        for column, start in enumerate(starts)
        if (score := heat.get(asset.path, {}).get(start)) is not None and math.isfinite(score)
    ]
    return {
        "animation": False,
        "grid": {"left": 8, "right": 12, "top": 6, "bottom": 42, "containLabel": True},
        "tooltip": {"formatter": "{@[3]}, from {@[4]}<br/>highest score {@[2]}", "confine": True},
        "xAxis": {
            "type": "category",
            "data": shown,
            "axisTick": {"show": False},
            "axisLine": {"show": False},
            "axisLabel": {"interval": 0, "fontSize": 11, "hideOverlap": False},
        },
        "yAxis": {
            "type": "category",
            "data": names,
            "inverse": True,
            "axisTick": {"show": False},
            "axisLine": {"show": False},
            "axisLabel": {"fontSize": 12, "width": 150, "overflow": "truncate"},
        },
        "visualMap": _heat_legend(),
        "series": [
            {
                "type": "heatmap",
                "data": cells,
                "itemStyle": {"borderRadius": 2, "borderWidth": 1, "borderColor": "transparent"},
                "emphasis": {"itemStyle": {"borderColor": QUIET, "borderWidth": 1}},
                "progressive": 0,
            }
        ],
    }


def _heat_legend() -> Option:
    pieces, low = [], 0.0
    for high, colour, label in HEAT_STEPS:
        upper = {} if math.isinf(high) else {"lte": high}
        pieces.append({"gt": low if low else -1.0, "color": colour, "label": label} | upper)
        low = high
    return {
        "type": "piecewise",
        "dimension": 2,
        "pieces": pieces,
        "orient": "horizontal",
        "left": "center",
        "bottom": 0,
        "itemWidth": 12,
        "itemHeight": 12,
        "itemGap": 14,
        "textStyle": {"fontSize": 11},
        "hoverLink": False,
    }


def heat_height(rows: int) -> int:
    """Pixels a heat map of so many machines needs."""
    return 64 + 22 * max(1, rows)


def machine_height(view: MachineView) -> int:
    """Pixels the machine chart needs."""
    return _TOP + SCORE_HEIGHT + 18 + len(view.tracks) * (TRACK_HEIGHT + _GAP) + 44


def machine_chart(view: MachineView, tz: ZoneInfo, at: int | None = None) -> Option:
    """The score on top with its line at 1.0, one strip per tag below on the same time axis.

    Shaded: alerts in their priority's colour; grey: not judged. `at`: the time that is explained, a thin mark.
    """
    option: Option = {
        "animation": False,
        "useUTC": True,
        "title": [],
        "grid": [],
        "xAxis": [],
        "yAxis": [],
        "series": [],
        "tooltip": {"trigger": "axis", "confine": True, "valueFormatter": "%.4g", "axisPointer": {"type": "line"}},
    }
    marks = _marks(view, tz)
    mark = _at_line(at, tz)
    _strip(option, "Score", "1.0 is the alert line", _TOP, SCORE_HEIGHT, view, tz)
    option["series"] += _score_series(view, tz, marks, mark)
    option["yAxis"][0] |= {"min": 0, "max": _score_top(view)}
    for number, track in enumerate(view.tracks, start=1):
        top = _TOP + SCORE_HEIGHT + 18 + _GAP + (number - 1) * (TRACK_HEIGHT + _GAP)
        name = f"{track.tag.name}  {track.tag.unit}".rstrip()
        note = f"sensor {wording.plain(track.fault)}" if track.fault else track.tag.description
        _strip(option, name, note, top, TRACK_HEIGHT, view, tz, warn=bool(track.fault))
        option["series"] += _track_series(track, number, tz, marks, mark)
    option["xAxis"][-1]["axisLabel"]["show"] = True
    return option


def _score_top(view: MachineView) -> float:
    known = view.score[np.isfinite(view.score)]
    return float(max(1.6, math.ceil(float(known.max()) * 11) / 10)) if len(known) else 1.6


def _strip(
    option: Option, name: str, note: str, top: int, height: int, view: MachineView, tz: ZoneInfo, warn: bool = False
) -> None:
    """Append one strip: its title, grid and axes."""
    index = len(option["grid"])
    low, high = plant_ms(np.array([view.since, view.until]), tz)
    text = {"fontSize": 12.5, "fontWeight": 600, "rich": {"n": {"fontSize": 11.5, "color": ORANGE if warn else QUIET}}}
    option["title"].append(
        {"text": f"{_plain(name)}  {{n|{_plain(note)}}}" if note else _plain(name), "left": 4, "top": top - 24}
        | {"textStyle": text}
    )
    option["grid"].append({"left": 52, "right": 16, "top": top, "height": height, "outerBoundsMode": "none"})
    option["xAxis"].append(
        {
            "type": "time",
            "gridIndex": index,
            "min": low,
            "max": high,
            "axisLabel": {"show": index == 0, "fontSize": 11, "hideOverlap": True},
            "axisTick": {"show": False},
            "axisLine": {"lineStyle": {"color": FAINT}},
            "splitLine": {"show": False},
        }
    )
    option["yAxis"].append(
        {
            "type": "value",
            "gridIndex": index,
            "scale": True,
            "splitNumber": 2,
            "axisLabel": {"fontSize": 11, "hideOverlap": True},
            "splitLine": {"lineStyle": {"color": FAINT}},
            "axisPointer": {"show": False},
        }
    )


def _plain(text: str) -> str:
    """Braces and bars mean something in ECharts' rich text."""
    return text.replace("{", "(").replace("}", ")").replace("|", "/")


def _marks(view: MachineView, tz: ZoneInfo) -> list[list[Option]]:
    """Shaded areas of the alerts, cut to the span."""
    areas: list[list[Option]] = []
    for alert in view.alerts:
        until = view.until if alert.anomaly.end is None else min(alert.anomaly.end, view.until)
        low, high = plant_ms(np.array([max(alert.anomaly.onset, view.since), until]), tz)
        areas.append([{"xAxis": low, "itemStyle": {"color": _shade(alert)}}, {"xAxis": high}])
    return areas


def _shade(alert: Alert) -> str:
    return _SHADES[alert.priority]


def _at_line(at: int | None, tz: ZoneInfo) -> list[Option]:
    if at is None:
        return []
    return [{"xAxis": plant_ms(np.array([at]), tz)[0], "lineStyle": {"color": QUIET, "type": "solid", "width": 1}}]


def _score_series(view: MachineView, tz: ZoneInfo, marks: list[list[Option]], mark: list[Option]) -> list[Option]:
    unknown = [
        [
            {
                "xAxis": plant_ms(np.array([stretch.since]), tz)[0],
                "name": wording.state(stretch.word),
                "itemStyle": {"color": FAINT},
                "label": {"show": True, "position": "inside", "color": QUIET, "fontSize": 11},
            },
            {"xAxis": plant_ms(np.array([stretch.until]), tz)[0]},
        ]
        for stretch in view.unknown
        if stretch.until - stretch.since >= (view.until - view.since) / 12
    ]
    line = {"yAxis": 1.0, "lineStyle": {"color": RED, "type": "dashed", "width": 1, "opacity": 0.7}}
    points = [list(pair) for pair in zip(plant_ms(view.times, tz), _values(view.score, 4), strict=True)]
    below = {"name": "score", "type": "line", "data": points, "showSymbol": False, "z": 3} | _axes(0)
    return [
        below
        | {
            "lineStyle": {"width": 1.6, "color": QUIET},
            "itemStyle": {"color": QUIET},
            "markLine": {"silent": True, "symbol": "none", "label": {"show": False}, "data": [line, *mark]},
            "markArea": {"silent": True, "data": marks + unknown},
        },
        {
            "name": "over the line",
            "type": "line",
            "data": [[time, value if value is not None and value > 1 else None] for time, value in points],
            "showSymbol": False,
            "lineStyle": {"width": 2, "color": RED},
            "itemStyle": {"color": RED},
            "areaStyle": {"color": RED, "opacity": 0.12, "origin": 1},
            "tooltip": {"show": False},
            "z": 4,
        }
        | _axes(0),
    ]


def _axes(index: int) -> Option:
    return {"xAxisIndex": index, "yAxisIndex": index}


def _track_series(
    track: Track, index: int, tz: ZoneInfo, marks: list[list[Option]], mark: list[Option]
) -> list[Option]:
    """Usual band, expected (dashed) and actual of one tag. A mode or status tag is drawn as steps."""
    series: list[Option] = []
    times = plant_ms(track.expected_times, tz)
    if math.isfinite(track.spread) and len(times):
        low = _values(track.expected - track.spread)
        width = [None if value is None else 2 * track.spread for value in low]
        series += [_edge(times, low, index), _edge(times, width, index) | {"areaStyle": {"color": BAND, "opacity": 1}}]
    if np.isfinite(track.expected).any():
        series.append(
            {
                "name": f"{track.tag.name} expected",
                "type": "line",
                "data": [list(pair) for pair in zip(times, _values(track.expected), strict=True)],
                "showSymbol": False,
                "lineStyle": {"width": 1, "type": "dashed", "color": QUIET},
                "tooltip": {"valueFormatter": _format(track.tag.unit)},
                "itemStyle": {"color": QUIET},
            }
            | _axes(index)
        )
    actual = {
        "name": track.tag.name,
        "type": "line",
        "data": [list(pair) for pair in zip(plant_ms(track.times, tz), _values(track.values), strict=True)],
        "showSymbol": False,
        "lineStyle": {"width": 1.5, "color": LINE},
        "tooltip": {"valueFormatter": _format(track.tag.unit)},
        "itemStyle": {"color": LINE},
        "markArea": {"silent": True, "data": marks},
        "markLine": {"silent": True, "symbol": "none", "label": {"show": False}, "data": mark},
        "z": 3,
    }
    step = {} if track.tag.role is Role.SIGNAL else {"step": "end"}
    return [*series, actual | step | _axes(index)]


def _format(unit: str) -> str:
    """Printf format of a value with its unit.

    >>> _format("%"), _format("")
    ('%.4g %%', '%.4g')
    """
    return f"%.4g {unit.replace('%', '%%')}".rstrip()


def _edge(times: Sequence[int], values: Sequence[float | None], index: int) -> Option:
    """An invisible stacked line: the lower edge of the band, or its width on top of it."""
    return {
        "name": "usual band",
        "type": "line",
        "stack": f"band {index}",
        "stackStrategy": "all",
        "data": [list(pair) for pair in zip(times, values, strict=True)],
        "showSymbol": False,
        "silent": True,
        "lineStyle": {"opacity": 0},
        "itemStyle": {"opacity": 0},
        "tooltip": {"show": False},
    } | _axes(index)


def contributions(explanation: Explanation, units: Mapping[str, str], most: int = 8) -> Option:
    """Horizontal bars: share of each tag in the score, with what was read and what was expected beside it."""
    rows = [
        (tag, float(share), float(actual), float(expected))
        for tag, share, actual, expected in zip(
            explanation.tags, explanation.shares, explanation.actual, explanation.expected, strict=True
        )
    ][:most]
    over = explanation.state is State.OK and explanation.score > 1.0
    bars = [
        {
            "value": round(share * 100, 1),
            "itemStyle": {"color": (RED if over and number == 0 else QUIET), "borderRadius": 3},
        }
        for number, (_, share, _, _) in enumerate(rows)
    ]
    return {
        "animation": False,
        "grid": {"left": 8, "right": 8, "top": 4, "bottom": 4, "containLabel": True},
        "xAxis": {"type": "value", "min": 0, "max": 100, "show": False},
        "yAxis": [
            _names([tag for tag, *_ in rows]),
            _names(
                [
                    f"{share:.0%}   {_against(actual, expected, units.get(tag, ''))}"
                    for tag, share, actual, expected in rows
                ]
            )
            | {"position": "right"},
        ],
        "series": [
            {
                "type": "bar",
                "barWidth": 12,
                "data": bars,
                "showBackground": True,
                "backgroundStyle": {"color": "rgba(125,138,153,0.10)", "borderRadius": 3},
            }
        ],
    }


def _names(words: Sequence[str]) -> Option:
    """A category axis that is only words, top to bottom."""
    return {
        "type": "category",
        "inverse": True,
        "data": list(words),
        "axisTick": {"show": False},
        "axisLine": {"show": False},
        "axisLabel": {"fontSize": 12, "width": 230, "overflow": "truncate"},
    }


def _against(actual: float, expected: float, unit: str) -> str:
    if not math.isfinite(expected):
        return wording.number(actual, unit)
    return f"{wording.number(actual, unit)}, expected {wording.number(expected)}"


def contributions_height(explanation: Explanation, most: int = 8) -> int:
    """Pixels the bars need."""
    return 16 + 26 * max(1, min(most, len(explanation.tags)))


def spark(values: Sequence[float | None]) -> str:
    """A tile's trend as one clipped box: numbers and our own words only, so nothing of the data can be markup.

    The dashed line is the alert line at 1.0; the box is two lines high. Empty where nothing is known.

    >>> spark([0.5, None, 2.0]).count("%,"), spark([None]) == spark([])
    (7, True)
    """
    top = 2.0
    width = 100.0 / max(1, len(values))
    points = ["0% 100%"]
    for number, value in enumerate(values):
        known = value is not None and math.isfinite(value)
        height = 100.0 - min(value or 0.0, top) / top * 100.0 if known else 100.0
        points += [f"{number * width:.4g}% {height:.4g}%", f"{(number + 1) * width:.4g}% {height:.4g}%"]
    points.append("100% 100%")
    known_at_all = any(value is not None and math.isfinite(value) for value in values)
    area = f'<div class="pw-area" style="clip-path: polygon({", ".join(points)})"></div>' if known_at_all else ""
    return f'<div class="pw-spark">{area}<div class="pw-limit"></div></div>'
