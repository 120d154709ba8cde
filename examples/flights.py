"""The flights that left New York in 2013, loaded through entities; then a day in an airline office.

Run ``python examples/flights.py`` (or ``make demo``) for SQLite, ``--db postgres`` (or
``make demo DB=postgres``) for a private PostgreSQL server that the demo starts and stops, or
``--url`` for any database. The data is real and dirty: what cannot be loaded is refused, counted
and checked against what is known of the data, and the demo fails if a single row went astray.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import flights_data as data
import flights_office as office
from flights_model import Airline, Airport, Flight, Plane, Weather, db
from flights_report import Meter, peak_memory, print_refusals, print_steps
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from dbsession import (
    BindingError,
    Entity,
    ObjectNotFound,
    OperationalError,
    TableIsNotEmpty,
    count,
    db_session,
    select,
)

FOLDER = Path(__file__).resolve().parent.parent / ".demo"
ROWS_PER_SESSION = 4_000
MEMORY_LIMIT = 300  # megabytes
OTHER_PLANE = "N24211"
NO_PLANE = "N00000"

ENTITIES: dict[str, type[Entity]] = {
    "airlines": Airline,
    "airports": Airport,
    "planes": Plane,
    "weather": Weather,
    "flights": Flight,
}
"""The entity of each file, in an order that puts what is referred to first."""


@dataclass(frozen=True)
class Check:
    """A figure, and what it has to be."""

    name: str
    found: object
    expected: object


@db_session
def save(entity: type[Entity], values: Sequence[data.Values]) -> None:
    """Save one batch: the constructor is all, the scope writes and commits when it ends.

    A reference takes an object or, as here, its key: ``Flight(plane="N14228", ...)`` sends no
    query. The keys are known to exist; if one did not, the foreign key would refuse the batch.
    """
    for each in values:
        entity(**each)


@db_session
def known_keys() -> data.Sieve:
    """Read the keys that flights may refer to, and nothing else; looking one up is then a matter of a set."""
    return data.Sieve(
        airlines=set(select(airline.code for airline in Airline)),
        planes=set(select(plane.tail_number for plane in Plane)),
        airports=set(select(airport.code for airport in Airport)),
    )


def load(name: str, meter: Meter, progress: Progress, limit: int | None, sieve: data.Sieve | None = None) -> None:
    """Load the file of *name*, a session for each batch, so that memory does not grow with the rows."""
    total = data.EXPECTED[name] if limit is None else min(limit, data.EXPECTED[name])
    bar = progress.add_task(name, total=total)
    to_values = data.VALUES[name]
    with meter.step(name) as step:
        for batch in data.batches(data.rows(name, limit), ROWS_PER_SESSION):
            good = batch if sieve is None else sieve.sift(batch)
            save(ENTITIES[name], [to_values(row) for row in good])
            step.rows += len(good)
            step.sessions += 1
            progress.advance(bar, len(batch))


def load_everything(console: Console, meter: Meter, limit: int | None) -> data.Sieve:
    """Load all files, the flights (at most *limit* of them) last, and return what became of those."""
    columns = (TextColumn("{task.description:9}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console) as progress:
        for name in ("airlines", "airports", "planes", "weather"):
            load(name, meter, progress, None)
        with meter.step("keys") as step:
            sieve = known_keys()
            step.rows = sum(data.EXPECTED[name] for name in ("airlines", "airports", "planes"))
            step.sessions = 1
        load("flights", meter, progress, limit, sieve)
    return sieve


def office_day(console: Console, meter: Meter) -> list[Check]:
    """Look a flight up, move it to another plane, and let two people delay it at the same time."""
    name = office.FIRST_FLIGHT
    with meter.step("look up") as step:
        found = office.look_up(name)
        step.rows = step.sessions = 1
    console.print(f"{name}: {found.airline}, {found.route}, plane {found.plane}, wind {found.wind or 0:.0f} mph")

    with meter.step("routes") as step:
        for origin, destination, flights, delay in office.busiest_routes(3):
            console.print(f"{origin} to {destination}: {flights:,} flights, {delay or 0:.0f} minutes late")
            step.rows += 1
        step.sessions = 1

    with meter.step("move") as step:
        office.move(name, OTHER_PLANE)
        try:
            office.move(name, NO_PLANE)
        except ObjectNotFound as error:
            console.print(f"moved to {OTHER_PLANE}, not to {NO_PLANE}: {type(error).__name__}: {error}", markup=False)
        moved = office.look_up(name)
        step.rows, step.sessions = 1, 3

    with meter.step("two threads") as step:
        delay = office.delays(name, 10, 15)
        step.rows = 2
        step.sessions = 2 + delay.runs  # the two look-ups before and after
        step.retries = delay.runs - 2
    console.print(f"two threads added 10 and 15 minutes to {delay.before}: now {delay.after}; retries: {step.retries}")
    return [
        Check("plane before", found.plane, "N14228"),
        Check("plane after", moved.plane, OTHER_PLANE),
        Check("delay after both", delay.after, delay.before + 25),
        Check("retries", step.retries, 1),
    ]


@db_session
def count_rows() -> dict[str, int]:
    """Ask the database what it holds now."""
    counts = {name: entity.select().count() for name, entity in ENTITIES.items()}
    counts["flights without a plane"] = count(flight for flight in Flight if flight.plane is None)
    return counts


def checks(sieve: data.Sieve, limit: int | None) -> list[Check]:
    """Compare what the database holds with what went in, and with what the data is known to have."""
    counts = count_rows()
    found = [Check(name, counts[name], data.EXPECTED[name]) for name in ("airlines", "airports", "planes", "weather")]
    refused = sum(sieve.refused.values())
    found += [
        Check("flights", counts["flights"], sieve.passed),
        Check("flights without a plane", counts["flights without a plane"], sieve.without_plane),
        Check("flights loaded or refused", sieve.passed + refused, sieve.read),
    ]
    if limit is None:
        everything = data.EXPECTED["flights"]
        expected = everything - sum(data.EXPECTED_REFUSALS.values())
        found += [
            Check("flights in the file", sieve.read, everything),
            Check("flights as expected", counts["flights"], expected),
            Check("refusals", dict(sieve.refused), data.EXPECTED_REFUSALS),
            Check("without a tail number", (sieve.absent, sieve.without_plane), data.EXPECTED_WITHOUT_PLANE),
        ]
    return found


def prepare(url: str, drop: bool) -> None:
    """Connect, and make the tables anew.

    Raises:
        TableIsNotEmpty: a table of ours holds rows, and *drop* does not allow to lose them.
    """
    db.bind(url)
    db.generate_mapping(check_tables=False)
    db.drop_all_tables(with_all_data=drop)
    db.create_tables()


def run(url: str, drop: bool, limit: int | None, console: Console) -> list[Check]:
    """Do everything, print it, and return the figures that are not what they have to be."""
    prepare(url, drop)
    meter = Meter(db)
    sieve = load_everything(console, meter, limit)
    results = office_day(console, meter) + checks(sieve, limit)
    print_refusals(console, sieve.read, sieve.passed, sieve.without_plane, sieve.refused)
    print_steps(console, meter, "what it took")
    results.append(Check(f"peak memory below {MEMORY_LIMIT} MB", peak_memory() < MEMORY_LIMIT, True))
    wrong = [check for check in results if check.found != check.expected]
    console.print(f"{len(results) - len(wrong)} of {len(results)} figures are what they have to be")
    return wrong


def own_database(kind: str) -> str:
    """Return the URL of a database of the demo's own, in a folder that git does not see."""
    FOLDER.mkdir(exist_ok=True)
    (FOLDER / ".gitignore").write_text("*\n")
    if kind == "postgres":
        return f"embedded-postgresql:///{FOLDER / 'postgres'}"
    return f"sqlite:///{FOLDER / 'flights.db'}"


def arguments(argv: Sequence[str] | None) -> Any:
    """Read the command line."""
    parser = argparse.ArgumentParser(description="Load the flights of 2013 and run an airline office on them.")
    where = parser.add_mutually_exclusive_group()
    where.add_argument("--db", choices=("sqlite", "postgres"), default="sqlite", help="a database of its own")
    where.add_argument("--url", help="any database; its tables for the demo must be empty, or see --drop")
    parser.add_argument("--drop", action="store_true", help="with --url: drop the demo's tables with all data first")
    parser.add_argument("--limit", type=int, metavar="N", help="read only the first N flights")
    options = parser.parse_args(argv)
    if options.limit is not None and options.limit < 1:
        parser.error("--limit must be at least 1")
    return options


def main(argv: Sequence[str] | None = None) -> int:
    """Run the demo; return 0 if every figure is right."""
    options = arguments(argv)
    console = Console()
    errors = Console(stderr=True)
    url = options.url or own_database(options.db)
    console.print("database:", options.url.partition(":")[0] if options.url else url, highlight=False, soft_wrap=True)
    try:
        wrong = run(url, options.drop or not options.url, options.limit, console)
    except TableIsNotEmpty as error:
        errors.print(f"{type(error).__name__}: {error} (here: --drop)", style="red", markup=False)
        return 2
    except (BindingError, OperationalError, data.DataNotFound) as error:
        errors.print(f"{type(error).__name__}: {error}", style="red", markup=False)
        return 2
    finally:
        db.close()
    for check in wrong:
        errors.print(f"WRONG: {check.name} is {check.found}, and should be {check.expected}", style="red", markup=False)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
