"""An evaluation as one HTML file that needs nothing else: figures, and plots as PNG inside it.

Per series and model: score over time with labels and alert line, how long each event took to be noticed, alarms a day
against events found when the line is moved, and who was to blame. Drawn by matplotlib (extra `report`).
"""

from __future__ import annotations

import base64
import html
import io
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from itertools import pairwise
from typing import Any, Final

import numpy as np

from anomaly.domain import SECOND
from anomaly.errors import ConfigurationError
from anomaly.evaluation import blame, runs, tradeoff
from pipelines.datasets.bench import Bench, Series, Task
from pipelines.evaluating import Run
from pipelines.row_scores import RowScores

COLUMNS: Final = 1500
"""Points of a plotted score, at most: of more rows the highest in each stretch is drawn, so that no alarm is lost."""
LINES: Final = 60
"""Alert lines tried for the curve."""
MOST_TAGS: Final = 12
"""Tags shown in a plot of contributions: those blamed most."""
RED, BLUE, SHADE = "#c62828", "#1f4e79", "#f6c7c7"
_STYLE: Final = (
    "body{font:15px/1.5 system-ui,sans-serif;max-width:1040px;margin:2em auto;padding:0 1em;color:#222}"
    "table{border-collapse:collapse;font-size:13px}td,th{border-bottom:1px solid #ddd;padding:3px 8px;text-align:right}"
    "td:first-child,th:first-child,td:nth-child(2),th:nth-child(2){text-align:left}img{max-width:100%}"
    "pre{overflow-x:auto;font-size:12px}summary{cursor:pointer;font-weight:600}"
)


def check_plots() -> None:
    """Raise ConfigurationError if there is nothing to draw with, before hours were spent on figures."""
    _figure(1.0)


def report(title: str, parts: Sequence[tuple[Bench, Sequence[Run], str]], made_by: Mapping[str, str]) -> str:
    """The whole page. `parts`: each data set with the runs to show and its table as text; `made_by`: versions."""
    body = [f"<h1>{html.escape(title)}</h1>", "<p>A score of 1.0 is the alert line. Shaded: anomalous by label.</p>"]
    for bench, shown, text in parts:
        body.append(f"<h2>{html.escape(bench.name)}</h2><pre>{html.escape(text)}</pre>")
        for run in shown:
            body += list(_of_run(bench, run))
    versions = ", ".join(f"{html.escape(name)} {html.escape(text)}" for name, text in made_by.items())
    body.append(f"<p>Made by {versions}.</p>")
    head = f'<meta charset="utf-8"><title>{html.escape(title)}</title><style>{_STYLE}</style>'
    return f'<!doctype html><html lang="en"><head>{head}</head><body>{"".join(body)}</body></html>\n'


def _of_run(bench: Bench, run: Run) -> Iterator[str]:
    known = {one.name: (task, one) for task in bench.tasks for one in task.series}
    yield f"<h3>{html.escape(run.model)}, seed {run.seed}</h3>"
    for scores in run.scores:
        task, series = known[scores.series]
        yield f"<details open><summary>{html.escape(series.name)}</summary>"
        yield _image(partial(_draw_score, series=series, found=scores), 2.6, f"score of {series.name}")
        if series.labels is not None and series.labels[~series.learned].any():
            yield _events(series, scores)
            curve = partial(_draw_tradeoff, bench=bench, task=task, series=series, found=scores)
            yield _image(curve, 2.8, f"alarms a day against events found, {series.name}")
            if scores.explained is not None and len(scores.explained.rows):
                tags = partial(_draw_blame, series=series, found=scores)
                yield _image(tags, 3.2, f"contributions at the events of {series.name}")
        yield "</details>"


def _draw_score(axes: Any, series: Series, found: RowScores) -> None:
    """Score over hours since the first row, logarithmic; gaps where it is not known."""
    hours = _hours(series)
    edges = np.linspace(0, len(hours), min(COLUMNS, len(hours)) + 1).astype(int)
    highest = np.array([_highest(found.score[a:b]) for a, b in pairwise(edges.tolist())])
    axes.plot(hours[edges[:-1]], np.maximum(highest, 1e-2), color=BLUE, linewidth=0.8)
    axes.axhline(1.0, color=RED, linewidth=1.0)
    for start, stop in runs(_labels(series)):
        axes.axvspan(hours[start], hours[stop - 1], color=SHADE, linewidth=0)
    axes.set_yscale("log")
    axes.yaxis.set_major_formatter("{x:g}")
    axes.yaxis.set_minor_formatter("")
    axes.set_xlabel("hours")
    axes.set_ylabel("score, in alert lines")


def _draw_tradeoff(axes: Any, bench: Bench, task: Task, series: Series, found: RowScores) -> None:
    """Share of events found over false alarms a day, the line moved down to the median score; the present one marked.

    The curve may turn back: where the line is low, alarms run together and are fewer.
    """
    rows = ~series.learned
    labels, score, times = _labels(series)[rows], found.score[rows], series.rows.times[rows]
    known = score[np.isfinite(score)]
    if not len(known):
        return
    lines = np.unique(np.quantile(known, 1.0 - np.geomspace(1e-4, 0.5, LINES)))
    daily, recall = tradeoff(labels, score, times, task.tick, lines, bench.protocol.merge)
    axes.plot(daily, recall, color=BLUE, marker=".", linewidth=0.8)
    here = tradeoff(labels, score, times, task.tick, np.array([1.0]), bench.protocol.merge)
    axes.plot(*here, color=RED, marker="o", linestyle="none", label="our line")
    axes.set_xscale("symlog", linthresh=0.1)
    axes.set_ylim(-0.05, 1.05)
    axes.set_xlabel("false alarms a day")
    axes.set_ylabel("events found")
    axes.legend(loc="lower right")


def _draw_blame(axes: Any, series: Series, found: RowScores) -> None:
    """Shares of blame by event (columns) and tag (rows); a cross where somebody said that the tag is a cause."""
    told = found.explained
    assert told is not None
    events = runs(_labels(series))
    shares = np.zeros((len(events), len(told.tags)))
    for number, (start, stop) in enumerate(events):
        inside = (told.rows >= start) & (told.rows < stop)
        blamed = blame(told.contributions[inside].astype(np.float64), found.score[told.rows[inside]])
        shares[number] = blamed / blamed.sum() if blamed.sum() > 0 else 0.0
    top = np.argsort(-shares.sum(axis=0), kind="stable")[:MOST_TAGS]
    axes.imshow(shares[:, top].T, aspect="auto", cmap="Reds", vmin=0.0, vmax=1.0, interpolation="nearest")
    axes.set_yticks(range(len(top)), [told.tags[tag] for tag in top])
    axes.set_xlabel("event")
    axes.set_xticks(range(len(events)), [str(number) for number in range(1, len(events) + 1)])
    for start, stop, tags in series.interpreted:
        places = [number for number, (begin, end) in enumerate(events) if begin < stop and end > start][:1]
        rows = [row for row, tag in enumerate(top) if told.tags[tag] in tags]
        axes.plot(places * len(rows), rows * len(places), "x", color="black", markersize=4)


def _events(series: Series, found: RowScores) -> str:
    """A table: begin of each event, rows, and how long until the first row over the line."""
    lines = ["<table><tr><th>event</th><th>begins</th><th>rows</th><th>noticed after</th><th>highest score</th></tr>"]
    for number, (start, stop) in enumerate(runs(_labels(series)), 1):
        score = found.score[start:stop]
        over = np.flatnonzero(np.isfinite(score) & (score > 1.0))
        delay = "missed"
        if len(over):
            delay = f"{(series.rows.times[start + over[0]] - series.rows.times[start]) / SECOND:.0f} s"
        highest = _highest(score)
        shown = f"{highest:.3g}" if math.isfinite(highest) else "–"
        stamp = html.escape(series.stamps[start])
        lines.append(
            f"<tr><td>{number}</td><td>{stamp}</td><td>{stop - start}</td><td>{delay}</td><td>{shown}</td></tr>"
        )
    return "".join([*lines, "</table>"])


def _labels(series: Series) -> np.ndarray:
    """Anomalous rows among those that are judged."""
    return np.zeros(len(series.rows), bool) if series.labels is None else series.labels & ~series.learned


def _hours(series: Series) -> np.ndarray:
    times = series.rows.times
    return np.asarray((times - times.min()) / (3600 * SECOND)) if len(times) else np.empty(0)


def _highest(score: np.ndarray) -> float:
    known = score[np.isfinite(score)]
    return float(known.max()) if len(known) else math.nan


def _image(draw: Callable[[Any], None], height: float, alt: str) -> str:
    """A plot as an `img` that holds its own bytes."""
    figure = _figure(height)
    draw(figure.subplots())
    stream = io.BytesIO()
    figure.savefig(stream, format="png", dpi=110, metadata={"Software": None})
    data = base64.b64encode(stream.getvalue()).decode("ascii")
    return f'<p><img alt="{html.escape(alt)}" src="data:image/png;base64,{data}"></p>'


def _figure(height: float) -> Any:
    """An empty drawing, `height` in inches, with no display and no state shared with anybody."""
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg  # noqa: PLC0415  (an extra that only reports need)
        from matplotlib.figure import Figure  # noqa: PLC0415
    except ImportError as error:
        raise ConfigurationError(
            "--report needs matplotlib, which is not installed; expected the extra `report`: "
            "pip install 'plantwatch[report]'"
        ) from error
    figure = Figure(figsize=(9.4, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure
