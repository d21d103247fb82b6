"""A bench result for people: goals first, then where the time went, then the rival beside us."""

from __future__ import annotations

from dataclasses import dataclass

from rich.console import Console
from rich.table import Table

from pipelines.bench.phases import Cost
from pipelines.bench.rival import Rival
from pipelines.bench.stream import Result

GOALS_US = {"columns": 12.0, "native": 40.0}
"""Everything but the model, CPU µs a row."""


@dataclass(frozen=True, slots=True)
class Goal:
    """A goal of the stream, what was found, and whether it is met."""

    name: str
    wanted: str
    found: str
    met: bool


def goals(result: Result) -> tuple[Goal, ...]:
    """The goals of issue 4, in order."""
    costs = [
        Goal(
            f"all but the model, {cost.kind}",
            f"≤ {GOALS_US[cost.kind]:g} µs a row",
            f"{cost.ours:.1f} µs",
            cost.ours <= GOALS_US[cost.kind],
        )
        for cost in result.costs
    ]
    lived, memory, workers = result.live, result.memory, result.workers
    most = memory.rss[max(memory.rss)]
    grown = (memory.later - most) / most
    return (
        *costs,
        Goal("recovery drains", "≥ 2 × the load", f"{lived.drain_ratio:.2f} ×", lived.drain_ratio >= 2.0),
        Goal("memory an asset", "≤ 40 kB", f"{memory.per_asset / 1e3:.1f} kB", memory.per_asset <= 40e3),
        Goal("memory over time", "flat (< 2 %)", f"{grown:+.1%} after {memory.later_rows} rows", grown < 0.02),
        Goal("two workers", "≥ 1.8 × one", f"{workers.speed_up:.2f} × by CPU time", workers.speed_up >= 1.8),
    )


def show(result: Result, console: Console) -> None:
    """Print the result."""
    console.print(f"[bold]{result.places}[/]; {result.assets} assets × 8 tags; {result.machine}, {result.cores} cores")
    table = Table(title="Goals")
    for column in ("goal", "wanted", "found", ""):
        table.add_column(column)
    for goal in goals(result):
        table.add_row(goal.name, goal.wanted, goal.found, "[green]met[/]" if goal.met else "[red]missed[/]")
    console.print(table)
    for cost in result.costs:
        console.print(_costs(cost, next((r for r in result.rivals if r.kind == cost.kind), None)))
    console.print(_rest(result))


def _costs(cost: Cost, rival: Rival | None) -> Table:
    table = Table(title=f"{cost.kind}: CPU µs a row ({cost.rows:,} rows, {cost.rows_a_second:,.0f} rows/s)")
    for column in ("process", "all", "of it, by stage"):
        table.add_column(column, justify="right" if column == "all" else "left")
    for service, total in cost.services.items():
        stages = sorted(cost.stages[service].items(), key=lambda item: -item[1])
        table.add_row(service, f"{total:.1f}", " · ".join(f"{name} {us:.1f}" for name, us in stages if us >= 0.05))
    for name, used in cost.servers.items():
        table.add_row(name, "not seen" if used is None else f"{used:.1f}", "not ours")
    table.add_row("[bold]ours, without the model[/]", f"[bold]{cost.ours:.1f}[/]", f"model {cost.model:.1f}")
    table.add_row("waiting", f"{cost.idle:.1%}", "of one core, all services together, when nothing comes")
    if rival is not None:
        ratios = f"{rival.ours / max(cost.ours, 1e-9):.1f} × ours without the model"
        whole = f"{rival.total / max(cost.ours + cost.model, 1e-9):.1f} × with it"
        words = f"model {rival.model:.1f}; {ratios}, {whole}; {rival.rows} rows: {rival.words}"
        table.add_row("the plain loop, without the model", f"{rival.ours:.1f}", words)
    return table


def _rest(result: Result) -> Table:
    table = Table(title="Latency, recovery, memory, workers", show_header=False)
    lived = result.live
    for name, found in (("reading → score", lived.to_score), ("reading → alert", lived.to_alert)):
        wait = f"of it {lived.wait_s:g} s wait for stragglers"
        words = f"p50 {found.p50:.3f} s, p99 {found.p99:.3f} s ({found.count:,} at {lived.rate:,.0f} rows/s; {wait})"
        table.add_row(name, words if found.count else "none came")
    table.add_row("outage", f"{lived.outage_s:g} s, worked off in {lived.drain_s:.1f} s with the load going on")
    for assets, rss in result.memory.rss.items():
        table.add_row(f"RSS at {assets:,} assets", f"{rss / 1e6:.0f} MB")
    two = ", ".join(f"{seconds:.2f} s" for seconds in result.workers.two)
    table.add_row("score workers", f"one: {result.workers.one:.2f} s CPU; two: {two}, for the same rows")
    table.add_row("rows", ", ".join(f"{name} {count:,}" for name, count in result.counted.items()))
    return table
