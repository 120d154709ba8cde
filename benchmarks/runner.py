"""The rounds: in each, every operation is run by every contender, in an order that rotates."""

from __future__ import annotations

import sqlite3
import tempfile
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import psycopg

from benchmarks import data
from benchmarks.contenders import ContenderMissing, NotOffered
from benchmarks.data import Sizes
from benchmarks.memory import MEMORY, Footprint
from benchmarks.operations import OPERATIONS, Operation
from benchmarks.server import ServerMissing, postgres_server
from benchmarks.streams import READINGS, STREAM, Growth
from benchmarks.target import PostgresStore, SqliteStore, Store
from benchmarks.worker import Failed, Worker

__all__ = ["Plan", "Results", "UnequalSettings", "run"]


class UnequalSettings(Exception):
    """Contenders commit with different safety, so their times say nothing beside each other."""


@dataclass(frozen=True)
class Plan:
    """What the command line asked for."""

    databases: tuple[str, ...]
    contenders: tuple[str, ...]
    only: tuple[str, ...]
    rounds: int
    sizes: Sizes
    synchronous: str
    postgres_url: str | None
    pin: bool
    """Contender and server stay on processors of their own."""
    collect: bool
    """Python collects cyclic garbage while the clock runs, as it does by default."""

    @property
    def operations(self) -> tuple[Operation, ...]:
        """The chosen ones, in the order of the report."""
        return tuple(operation for operation in OPERATIONS if operation.name in self.only)


@dataclass
class Results:
    """What was found on one database."""

    database: str
    """Its name and version."""
    versions: dict[str, str] = field(default_factory=dict)
    settings: dict[str, str] = field(default_factory=dict)
    times: dict[tuple[str, str], list[float]] = field(default_factory=dict)
    """(operation, contender) -> microseconds for one unit, one for each round."""
    memory: dict[str, Footprint] = field(default_factory=dict)
    growth: dict[tuple[str, str], Growth] = field(default_factory=dict)
    """(reading, contender)."""
    marks: dict[tuple[str, str], str] = field(default_factory=dict)
    """(operation, contender) -> the word that stands in the table where there is no time."""
    problems: list[str] = field(default_factory=list)
    """What went wrong, in full sentences. None of it may be overlooked."""
    remarks: list[str] = field(default_factory=list)
    """What a library does not offer."""

    def note(self, contender: str, operation: str, error: Exception) -> None:
        """Keep why there is no time here; it replaces the times of earlier rounds."""
        self.times.pop((operation, contender), None)
        if isinstance(error, NotOffered):
            self.marks[operation, contender] = "not offered"
            if str(error) not in self.remarks:
                self.remarks.append(str(error))
            return
        self.marks[operation, contender] = "missing" if isinstance(error, ContenderMissing) else "failed"
        if str(error) not in self.problems:
            self.problems.append(str(error))


Step = Callable[[str], None]
"""Called before each measurement with what comes next."""


def run(plan: Plan, step: Step) -> Iterator[Results]:
    """Measure on one database after the other."""
    for database in plan.databases:
        try:
            with _make_store(plan, database) as make_store:
                yield _run_database(plan, make_store, step)
        except ServerMissing as error:
            yield Results(database, problems=[str(error)])


MakeStore = Callable[[str], Store]


@contextmanager
def _make_store(plan: Plan, database: str) -> Generator[MakeStore]:
    """Give the function that makes a contender's database, while there is a place to make it in."""
    if database == "sqlite":
        with tempfile.TemporaryDirectory(prefix="bench-") as folder:
            yield lambda name: SqliteStore(Path(folder), name, plan.synchronous)
    else:
        with postgres_server(plan.postgres_url, pin=plan.pin) as server:
            yield lambda name: PostgresStore(server, name)


def _run_database(plan: Plan, make_store: MakeStore, step: Step) -> Results:
    with ExitStack() as stack:
        stores: dict[str, Store] = {}
        for name in plan.contenders:
            stores[name] = make_store(name)
            stack.callback(stores[name].close)
        results = Results(next(iter(stores.values())).version())
        workers = _start(plan, stores, results, stack)
        _compare_settings(workers, results)
        for number in range(plan.rounds + 1):
            for operation in plan.operations:
                for name in _rotated(list(workers), number):
                    if (operation.name, name) not in results.marks:
                        step(f"{results.database}, round {number} of {plan.rounds}: {operation.name}, {name}")
                        _measure(workers[name], stores[name], operation, plan.sizes, results, keep=number > 0)
    if MEMORY in plan.only:
        _weigh(plan, make_store, results, step)
    if STREAM in plan.only:
        _stream(plan, make_store, results, step)
    return results


def _start(plan: Plan, stores: dict[str, Store], results: Results, stack: ExitStack) -> dict[str, Worker]:
    """Start a worker for each contender that can be had; the others are marked in every row."""
    workers: dict[str, Worker] = {}
    if not plan.operations:
        return workers
    for name, store in stores.items():
        try:
            workers[name] = stack.enter_context(
                Worker(name, store.target, plan.sizes, pin=plan.pin, collect=plan.collect)
            )
            results.versions[name] = workers[name].version
        except (ContenderMissing, Failed) as error:
            for operation in plan.operations:
                results.note(name, operation.name, error)
    return workers


def _compare_settings(workers: dict[str, Worker], results: Results) -> None:
    """Ask every contender for its durability settings; keep them once.

    Raises:
        UnequalSettings: two contenders differ.
    """
    found: dict[str, dict[str, str]] = {}
    for name, worker in list(workers.items()):
        try:
            found[name] = worker.settings()
        except Failed as error:
            # Without its settings a contender cannot be compared.
            del workers[name]
            for operation in OPERATIONS:
                results.note(name, operation.name, error)
    if not found:
        return
    results.settings = next(iter(found.values()))
    if any(settings != results.settings for settings in found.values()):
        each = "; ".join(f"{name}: {settings}" for name, settings in found.items())
        raise UnequalSettings(
            f"the contenders do not commit with equal safety, so no times are compared. {each}. "
            "On SQLite, --synchronous gives the others the value that the library sets."
        )


def _rotated(names: Sequence[str], number: int) -> list[str]:
    first = number % len(names) if names else 0
    return [*names[first:], *names[:first]]


def _measure(worker: Worker, store: Store, operation: Operation, sizes: Sizes, results: Results, *, keep: bool) -> None:
    """Measure once, with the same data before, and look at the table afterwards."""
    before = data.stored(sizes.rows) if operation.filled else []
    try:
        store.fill(before)
        taken = worker.measure(operation.name)
        expected = before if operation.after is None else operation.after(sizes)
        if store.rows() != expected:
            raise Failed(f"{worker.name} failed in {operation.name}: the table does not hold what it should")
    except (NotOffered, Failed) as error:
        results.note(worker.name, operation.name, error)
    except (sqlite3.Error, psycopg.Error) as error:
        # The harness's own statement: what keeps it out is a transaction that somebody left open.
        reason = f"{worker.name} failed before or in {operation.name}: its table cannot be used ({error})"
        results.note(worker.name, operation.name, Failed(reason))
    else:
        if keep:
            results.times.setdefault((operation.name, worker.name), []).append(taken)


def _weigh(plan: Plan, make_store: MakeStore, results: Results, step: Step) -> None:
    """Weigh the loaded objects of each contender in a process of its own."""
    for name in plan.contenders:
        step(f"{results.database}: memory, {name}")
        with ExitStack() as stack:
            store = make_store(f"{name}_memory")
            stack.callback(store.close)
            store.fill(data.stored(plan.sizes.rows))
            try:
                worker = stack.enter_context(Worker(name, store.target, plan.sizes, pin=plan.pin))
                results.memory[name] = worker.footprint()
            except (ContenderMissing, Failed) as error:
                results.note(name, MEMORY, error)


def _stream(plan: Plan, make_store: MakeStore, results: Results, step: Step) -> None:
    """Let each contender read many rows: all at once, and as a stream, in a process of its own each."""
    for name in plan.contenders:
        with ExitStack() as stack:
            step(f"{results.database}: {plan.sizes.streamed:,} rows for {name}")
            store = make_store(f"{name}_stream")
            stack.callback(store.close)
            store.fill(data.each_stored(plan.sizes.streamed))
            for reading in READINGS:
                step(f"{results.database}: {reading}, {name}")
                try:
                    with Worker(name, store.target, plan.sizes, pin=plan.pin) as worker:
                        results.growth[reading, name] = worker.growth(reading)
                except (ContenderMissing, NotOffered, Failed) as error:
                    results.note(name, reading, error)
