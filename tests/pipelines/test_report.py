"""`plantwatch evaluate --report`: one page that holds all it shows."""

from __future__ import annotations

import base64
import re
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import typer
from typer.testing import CliRunner

from anomaly.domain import SECOND
from anomaly.errors import ConfigurationError
from pipelines.commands.evaluate import evaluate
from pipelines.datasets.bench import Bench, Interpretation, Protocol, Series, Summary, Task, clock, part, readings_of
from pipelines.evaluating import Asked, Run
from pipelines.evaluating import evaluate as run_model
from pipelines.report import check_plots, report

pytest.importorskip("matplotlib")
TAGS = ("flow", "power & <heat>", "temp")
ROWS, LEARNED = 1_200, 800


def bench() -> Bench:
    time = np.arange(ROWS)
    chance = np.random.default_rng(0)
    values = np.sin(time / 12.0)[:, None] * [1.0, 2.0, 3.0] + chance.normal(0, 0.1, (ROWS, 3)) + 10.0
    labels = (time >= 1_000) & (time < 1_060)
    values[labels, 1] += 8.0
    rows = readings_of("oven", TAGS, clock(ROWS, SECOND), values)
    stamps = tuple(f"row {number}" for number in range(ROWS))
    why = (Interpretation(1_000, 1_060, (TAGS[1],)),)
    series = Series("oven", rows, stamps, labels, time < LEARNED, interpreted=why)
    task = Task("oven", TAGS, SECOND, part(rows, slice(LEARNED)), (series,))
    return Bench("made-up", Protocol(Summary.MEAN, 20), (task,))


@pytest.fixture(scope="module")
def run() -> Run:
    return run_model(bench(), "window_pca", 0, lambda _what, _share: None, Asked(explain=True))


class Page(HTMLParser):
    """Tags opened and closed, images, and every address."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.images: dict[str, bytes] = {}
        self.addresses: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = {key: value or "" for key, value in attrs}
        self.addresses += [found[key] for key in ("src", "href") if key in found]
        if tag == "img":
            self.images[found["alt"]] = base64.b64decode(found["src"].removeprefix("data:image/png;base64,"))
        elif tag != "meta":
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def cells(page: str) -> Iterator[list[str]]:
    for row in re.findall(r"<tr>(.*?)</tr>", page):
        yield re.findall(r"<td>(.*?)</td>", row)


def test_the_page_holds_every_plot_and_asks_nobody_for_anything(run: Run) -> None:
    text = report("evaluate <made-up>", [(bench(), [run], "F1 & FAR")], {"plantwatch": "1.2.3"})
    page = Page()
    page.feed(text)
    assert page.open == []
    assert set(page.images) == {
        "score of oven",
        "alarms a day against events found, oven",
        "contributions at the events of oven",
    }
    assert all(data.startswith(b"\x89PNG\r\n\x1a\n") and len(data) > 3_000 for data in page.images.values())
    assert all(address.startswith("data:image/png;base64,") for address in page.addresses)
    assert "F1 &amp; FAR" in text
    assert "evaluate &lt;made-up&gt;" in text
    assert "plantwatch 1.2.3" in text


def test_the_delay_of_each_event_is_told(run: Run) -> None:
    rows = [row for row in cells(report("x", [(bench(), [run], "")], {})) if row]
    assert [row[:3] for row in rows] == [["1", "row 1000", "60"]]
    assert re.fullmatch(r"\d s", rows[0][3])
    assert float(rows[0][4]) > 1.0


def test_an_event_that_nobody_noticed_is_called_missed(run: Run) -> None:
    quiet = np.where(run.scores[0].score > 0.5, 0.5, run.scores[0].score)
    scores = (type(run.scores[0])("oven", run.scores[0].stamps, quiet, run.scores[0].state),)
    text = report("x", [(bench(), [Run("m", 0, run.rows, run.summary, scores)], "")], {})
    assert [row[3] for row in cells(text) if row] == ["missed"]
    assert "contributions at" not in text


def test_the_same_run_draws_the_same_page(run: Run) -> None:
    one, other = (report("x", [(bench(), [run], "t")], {}) for _ in range(2))
    assert one == other


def test_without_matplotlib_the_command_says_which_extra_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(ConfigurationError, match=r"plantwatch\[report\]"):
        check_plots()


def test_the_command_writes_the_page(tmp_path: Path) -> None:
    home = tmp_path / "data" / "oven"
    home.mkdir(parents=True)
    series = bench().tasks[0].series[0]
    assert series.labels is not None
    for name, rows in (("train", range(LEARNED)), ("test", range(LEARNED, ROWS))):
        lines = [
            f"{1_700_000_000 + row},{','.join(f'{v:.4f}' for v in series.rows.values[row])},{int(series.labels[row])}"
            for row in rows
        ]
        (home / f"{name}.csv").write_text("\n".join(["timestamp,a,b,c,label", *lines]) + "\n")
    app = typer.Typer()
    app.command()(evaluate)
    out = tmp_path / "new" / "page.html"
    found = CliRunner().invoke(
        app, ["csv", "--data", str(tmp_path / "data"), "--model", "window_pca", "--report", str(out)]
    )
    assert found.exit_code == 0, found.output
    page = Page()
    page.feed(out.read_text())
    assert set(page.images) >= {"score of oven", "alarms a day against events found, oven"}
    assert "csv: every series" in out.read_text()
