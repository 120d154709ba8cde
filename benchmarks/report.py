"""Medians and ratios, as tables for the terminal and for Markdown."""

from __future__ import annotations

import os
import platform
from dataclasses import dataclass
from statistics import median

from rich.console import Console
from rich.table import Table

from benchmarks.memory import MEMORY
from benchmarks.operations import Operation
from benchmarks.runner import Plan, Results
from benchmarks.streams import BATCH, READINGS

__all__ = ["Grid", "growth_grid", "memory_grid", "method", "show", "times_grid", "to_markdown"]

RAW = "raw"
US = "dbsession"


@dataclass(frozen=True)
class Grid:
    """A table of texts: the first column left, the others right."""

    title: str
    head: list[str]
    body: list[list[str]]


def times_grid(plan: Plan, results: Results) -> Grid:
    """Lay out the times: a column for each contender, then each peer's time over ours."""
    peers = [name for name in plan.contenders if name not in (RAW, US)]
    compared = peers if US in plan.contenders else []
    head = ["operation (us for one)", *plan.contenders, *[f"{peer} / {US}" for peer in compared]]
    body = []
    for operation in plan.operations:
        title = operation.title.format(rows=f"{plan.sizes.rows:,}")
        cells = [_cell(results, operation, name) for name in plan.contenders]
        ratios = [_range(_ratios(results, operation, peer, US)) for peer in compared]
        body.append([f"{title} ({operation.unit})", *cells, *ratios])
    return Grid(f"{results.database}, median of {plan.rounds} rounds", head, body)


def memory_grid(plan: Plan, results: Results) -> Grid:
    """Lay out the bytes for one loaded object."""
    body = []
    for name in plan.contenders:
        found = results.memory.get(name)
        if found is None:
            body.append([name, *[results.marks.get((MEMORY, name), "-")] * 3])
        else:
            body.append([name, f"{found.loaded:,.0f}", f"{found.read:,.0f}", f"{found.after:,.0f}"])
    head = ["bytes for one loaded object", "untouched", "every attribute read", "after the session"]
    return Grid(f"{results.database}, memory ({plan.sizes.rows:,} objects in a list)", head, body)


def growth_grid(plan: Plan, results: Results) -> Grid:
    """Lay out by how much processes grow that read many rows."""
    body = []
    for name in plan.contenders:
        cells = [name]
        for reading in READINGS:
            found = results.growth.get((reading, name))
            mark = results.marks.get((reading, name), "-")
            cells += [mark, mark] if found is None else [f"{found.peak / 2**20:,.1f}", _number(found.time)]
        body.append(cells)
    head = ["reading every attribute", "all at once: MiB", "us for one row", "as a stream: MiB", "us for one row"]
    title = f"{results.database}, growth of a process that reads {plan.sizes.streamed:,} rows ({BATCH:,} at a time)"
    return Grid(title, head, body)


def method(plan: Plan, results: Results) -> list[str]:
    """Say how the figures were made, in sentences that hold for this run."""
    return [
        _environment(results),
        *(_METHOD.format(rounds=plan.rounds, us=US).splitlines() if results.times or not results.growth else ()),
        *([_GROWTH] if results.growth else ()),
        _placement(plan),
        _collection(plan),
        *_settings(results),
        *results.remarks,
    ]


_METHOD = """\
{rounds} rounds after one that is thrown away; in each, every operation is run by every contender, each in a \
process of its own, in an order that rotates. Before each measurement the table is filled with the same rows \
and garbage is collected. What only reads runs once unmeasured before.
In brackets: times raw, the median of the ratios of the rounds. Peer / {us}: median (lowest - highest round); \
above 1 {us} is faster, below 1.3 is a tie.
After each measurement, with the clock off, what came back and the rows in the table are compared with what \
they must be.
raw is the driver by hand: rows are tuples, there is no session; its scope is a bare ContextVar."""


_GROWTH = (
    "Growth: the largest resident memory of the process less what it had before, buffers of the drivers included. "
    "Each reading has a process of its own, and is done once."
)


def _environment(results: Results) -> str:
    versions = ", ".join([results.database, *results.versions.values()])
    return f"Python {platform.python_version()}, {platform.machine()}, {os.cpu_count()} processors; {versions}."


def _placement(plan: Plan) -> str:
    """Say where the processes ran: it decides what a round trip costs on one machine."""
    if not plan.pin:
        return (
            "The scheduler placed contenders and server: round trips may cost twice as much in one round as in another."
        )
    if plan.postgres_url is not None:
        return "Each contender was pinned to one processor; the server was not started here, and ran where it would."
    return "Each contender was pinned to one processor, a PostgreSQL server to the others."


def _collection(plan: Plan) -> str:
    """Say what Python's cyclic garbage collection did: in a small process it weighs more than in a large one."""
    if plan.collect:
        return (
            "Cyclic garbage collection is on, as Python has it by default. These processes are small, so it runs "
            "often; how much of a time it is shows a run with --no-gc."
        )
    return "Cyclic garbage collection was off while the clock ran (--no-gc)."


def _settings(results: Results) -> list[str]:
    """Say which settings every contender answered alike; nothing, if nobody was asked."""
    if not results.settings:
        return []
    settings = ", ".join(f"{name} = {value}" for name, value in results.settings.items())
    return [f"Equal for all, asked on each contender's own connection: {settings}."]


def show(console: Console, grid: Grid) -> None:
    """Print *grid* in the terminal."""
    table = Table(title=grid.title, title_justify="left")
    for number, title in enumerate(grid.head):
        table.add_column(title, justify="right" if number else "left")
    for row in grid.body:
        table.add_row(*row)
    console.print(table)


def to_markdown(grid: Grid) -> str:
    """Return *grid* as a Markdown table under its title."""
    lines = [f"### {grid.title}", "", _line(grid.head), _line([":--", *["--:"] * (len(grid.head) - 1)])]
    return "\n".join([*lines, *[_line(row) for row in grid.body]])


def _line(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _cell(results: Results, operation: Operation, name: str) -> str:
    times = results.times.get((operation.name, name))
    if not times:
        return results.marks.get((operation.name, name), "-")
    text = _number(median(times))
    against_raw = _ratios(results, operation, name, RAW)
    if name == RAW or not against_raw:
        return text
    return f"{text} ({_number(median(against_raw), 2)})"


def _ratios(results: Results, operation: Operation, above: str, below: str) -> list[float]:
    """Return the quotient of the times of each round; empty where one of them has none."""
    upper = results.times.get((operation.name, above))
    lower = results.times.get((operation.name, below))
    if not upper or not lower:
        return []
    return [one / other for one, other in zip(upper, lower, strict=True)]


def _range(ratios: list[float]) -> str:
    if not ratios:
        return "-"
    low, high = _number(min(ratios), 2), _number(max(ratios), 2)
    return f"{_number(median(ratios), 2)} ({low} - {high})"


def _number(value: float, digits: int = 3) -> str:
    """Return *value* with *digits* significant digits, never in scientific notation."""
    if value >= 10 ** (digits - 1):
        return f"{value:,.0f}"
    whole = len(str(int(value))) if value >= 1 else 0
    return f"{value:.{digits - whole}f}"
