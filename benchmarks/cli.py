"""The command line: ``python -m benchmarks [--db sqlite|postgres|both] [--rounds N] [--quick] ...``."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from rich.console import Console

from benchmarks.contenders import CONTENDERS
from benchmarks.data import FULL, QUICK
from benchmarks.memory import MEMORY
from benchmarks.operations import OPERATIONS
from benchmarks.placement import CAN_PIN
from benchmarks.report import Grid, growth_grid, memory_grid, method, show, times_grid, to_markdown
from benchmarks.runner import Plan, Results, UnequalSettings, run
from benchmarks.streams import STREAM

__all__ = ["main"]

ROUNDS, QUICK_ROUNDS = 7, 3
WIDTH = 150  # of what goes to a file or a pipe


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmarks; return 0 if every contender did everything, 1 if one failed or is missing."""
    options = _parser().parse_args(arguments)
    plan = _plan(options)
    console = Console()
    if not console.is_terminal:
        console = Console(width=WIDTH)
    pages: list[str] = []
    every: dict[str, dict[str, list[float]]] = {}
    problems: list[str] = []
    try:
        with console.status("starting") as status:
            for results in run(plan, status.update):
                _print(console, plan, results)
                pages.append(_page(plan, results))
                problems += results.problems
                every[results.database] = {" ".join(key): times for key, times in results.times.items()}
    except UnequalSettings as error:
        console.print(f"[bold red]Stopped:[/] {error}", highlight=False)
        return 1
    if options.markdown is not None:
        options.markdown.write_text("\n\n".join(pages) + "\n", encoding="utf-8")
    if options.json is not None:
        options.json.write_text(json.dumps(every, indent=1) + "\n", encoding="utf-8")
    return 1 if problems else 0


def _print(console: Console, plan: Plan, results: Results) -> None:
    for grid in _grids(plan, results):
        show(console, grid)
    for sentence in method(plan, results):
        console.print(f"- {sentence}", style="dim", highlight=False, markup=False)
    for problem in results.problems:
        console.print(f"NOT MEASURED: {problem}", style="bold red", highlight=False, markup=False)


def _grids(plan: Plan, results: Results) -> list[Grid]:
    found = ((results.times, times_grid), (results.memory, memory_grid), (results.growth, growth_grid))
    return [lay_out(plan, results) for figures, lay_out in found if figures]


def _page(plan: Plan, results: Results) -> str:
    parts = [to_markdown(grid) for grid in _grids(plan, results)]
    parts.append("\n".join(f"- {sentence}" for sentence in method(plan, results)))
    if results.problems:
        parts.append("\n".join(f"- **Not measured:** {problem}" for problem in results.problems))
    return "\n\n".join(parts)


def _plan(options: argparse.Namespace) -> Plan:
    rounds: int | None = options.rounds
    sizes = QUICK if options.quick else FULL
    return Plan(
        databases=("sqlite", "postgres") if options.db == "both" else (options.db,),
        contenders=options.contenders,
        only=options.only,
        rounds=rounds or (QUICK_ROUNDS if options.quick else ROUNDS),
        sizes=replace(sizes, streamed=options.stream_rows or sizes.streamed),
        synchronous=options.synchronous.upper(),
        postgres_url=options.postgres_url,
        pin=CAN_PIN and not options.no_pin,
        collect=not options.no_gc,
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("python -m benchmarks", description=__doc__)
    operations = (*[operation.name for operation in OPERATIONS], MEMORY, STREAM)
    parser.add_argument("--db", choices=("sqlite", "postgres", "both"), default="both")
    parser.add_argument("--rounds", type=_positive, help=f"default {ROUNDS}, with --quick {QUICK_ROUNDS}")
    parser.add_argument("--quick", action="store_true", help="a tenth of the rows: to see that it works")
    parser.add_argument(
        "--only",
        type=lambda text: _chosen(text, operations),
        default=operations,
        metavar="NAME,...",
        help=f"of: {', '.join(operations)}",
    )
    parser.add_argument(
        "--contenders",
        type=lambda text: _chosen(text, tuple(CONTENDERS)),
        default=tuple(CONTENDERS),
        metavar="NAME,...",
        help=f"of: {', '.join(CONTENDERS)}",
    )
    parser.add_argument(
        "--stream-rows",
        type=_positive,
        metavar="N",
        help=f"rows for {STREAM}: default {FULL.streamed:,}, with --quick {QUICK.streamed:,}",
    )
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="write the tables there too")
    parser.add_argument("--no-gc", action="store_true", help="no cyclic garbage collection while the clock runs")
    parser.add_argument("--no-pin", action="store_true", help="leave processors to the scheduler (noisier)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the time of every round there")
    parser.add_argument("--postgres-url", metavar="URL", help="measure on this server, not on a fresh one")
    parser.add_argument(
        "--synchronous",
        choices=("full", "normal"),
        default="full",
        help="SQLite: what the contenders without a default of their own run with",
    )
    return parser


def _chosen(text: str, known: tuple[str, ...]) -> tuple[str, ...]:
    """Return the names in *text*, in the order of *known*."""
    asked = {name.strip() for name in text.split(",")}
    unknown = sorted(asked.difference(known))
    if unknown:
        raise argparse.ArgumentTypeError(f"{', '.join(unknown)}: unknown; known are {', '.join(known)}")
    return tuple(name for name in known if name in asked)


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError("must be at least 1")
    return number
