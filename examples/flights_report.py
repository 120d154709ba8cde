"""What the demo measures, and the tables it prints."""

from __future__ import annotations

import resource
import sys
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from time import perf_counter

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from dbsession import Database

__all__ = ["Meter", "Step", "peak_memory", "print_refusals", "print_steps"]


@dataclass
class Step:
    """One thing the demo did, and what it took."""

    name: str
    rows: int = 0
    seconds: float = 0.0
    sessions: int = 0
    statements: int = 0
    round_trips: int = 0
    retries: int = 0


@dataclass
class Meter:
    """Measures steps: time by the clock, statements and round trips by the counters of the database."""

    db: Database
    steps: list[Step] = field(default_factory=list)

    @contextmanager
    def step(self, name: str) -> Generator[Step]:
        """Measure the block. Rows, sessions and retries are for the block itself to say."""
        step = Step(name)
        statements, round_trips = self.db.counters.statements, self.db.counters.round_trips
        start = perf_counter()
        yield step
        step.seconds = perf_counter() - start
        step.statements = self.db.counters.statements - statements
        step.round_trips = self.db.counters.round_trips - round_trips
        self.steps.append(step)

    def total(self) -> Step:
        """Return the sum of all steps."""
        total = Step("total")
        for step in self.steps:
            total.rows += step.rows
            total.seconds += step.seconds
            total.sessions += step.sessions
            total.statements += step.statements
            total.round_trips += step.round_trips
            total.retries += step.retries
        return total


def peak_memory() -> float:
    """Return the largest resident size that this process has had, in megabytes."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (1024 * 1024 if sys.platform == "darwin" else 1024)


def print_steps(console: Console, meter: Meter, title: str) -> None:
    """Print what each step took, and the sum."""
    table = Table(title=title, box=SIMPLE_HEAD, padding=(0, 1, 0, 0), title_justify="left", caption_justify="left")
    table.caption = f"peak memory {peak_memory():.0f} MB"
    table.add_column("step", no_wrap=True)
    for heading in ("rows", "seconds", "rows/s", "sessions", "statements", "round\ntrips", "retries"):
        table.add_column(heading, justify="right", no_wrap=True)
    for step in meter.steps:
        table.add_row(*cells(step))
    table.add_section()
    table.add_row(*cells(meter.total()), style="bold")
    console.print(table)


def cells(step: Step) -> tuple[str, ...]:
    """Return the cells of one line of the table of steps."""
    return (
        step.name,
        f"{step.rows:,}",
        f"{step.seconds:.3f}",
        f"{step.rows / step.seconds:,.0f}" if step.seconds else "",
        f"{step.sessions:,}",
        f"{step.statements:,}",
        f"{step.round_trips:,}",
        f"{step.retries:,}",
    )


def print_refusals(console: Console, read: int, loaded: int, planeless: int, refused: Mapping[str, int]) -> None:
    """Print where every flight of the file went."""
    table = Table(title="where the flights went", box=SIMPLE_HEAD, title_justify="left")
    table.add_column("")
    table.add_column("flights", justify="right")
    table.add_row("loaded, with a plane", f"{loaded - planeless:,}")
    table.add_row("loaded, without a tail number (NULL)", f"{planeless:,}")
    for reason, count in refused.items():
        table.add_row(f"refused: {reason}", f"{count:,}")
    table.add_section()
    table.add_row("in the file", f"{read:,}", style="bold")
    console.print(table)
