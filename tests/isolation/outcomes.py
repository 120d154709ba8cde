"""What becomes of a case in a mode, and whether it is what one transaction after the other gives."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from itertools import permutations
from typing import Any

from dbsession import Database, TransactionError, db_session
from tests.isolation.cases import Case, ChangedMind, Run, View, World
from tests.isolation.schedule import Actor, PostgresWatcher, SqliteWatcher, Watcher, play

__all__ = ["ANOMALY", "MODES", "NOTHING", "RETRIED", "RETRIES", "WAITS", "Mode", "Outcome", "Stand", "stand"]

ANOMALY = "anomaly"
NOTHING = "does not occur"
RETRIED = "retried"
WAITS = "waits"

RETRIES = 10


@dataclass(frozen=True)
class Mode:
    """How the transactions of a case are written."""

    options: Mapping[str, Any] = field(default_factory=dict)
    locks: bool = False


MODES = {
    "default": Mode(),
    "FOR UPDATE": Mode(locks=True),
    "repeatable read": Mode({"isolation": "repeatable read"}),
    "serializable": Mode({"serializable": True}),
}


@dataclass(frozen=True)
class Outcome:
    """What came of a case: one of the words above, or the error that somebody got.

    *is_serial*: those who have committed have seen and left what they would have one after the other.
    *all_committed*: nobody failed, but for those who changed their mind.
    """

    word: str
    is_serial: bool
    all_committed: bool


class Stand:
    """A database with the tables of the cases, where they are run."""

    def __init__(self, db: Database, watcher: Watcher) -> None:
        self._world = World(db)
        self._watcher = watcher
        self._serial: dict[tuple[str, tuple[str, ...]], list[Run]] = {}

    def outcomes(self, case: Case) -> dict[tuple[str, bool], Outcome]:
        """Run *case* in every mode, without a retry and with it."""
        return {
            (name, retry): self.outcome(case, mode, retry=retry)
            for name, mode in MODES.items()
            for retry in (False, True)
        }

    def outcome(self, case: Case, mode: Mode, *, retry: bool) -> Outcome:
        """Run *case*, and say what came of it."""
        self._world.reset()
        view = View(self._world, locks=mode.locks)
        options = {**mode.options, "retry": RETRIES} if retry else dict(mode.options)

        def performed(name: str) -> Callable[[Actor], Any]:
            @db_session(**options)
            def work(actor: Actor) -> Any:
                actor.begin()
                return case.bodies[name](view, actor.pause)

            return work

        actors = play({name: performed(name) for name in case.bodies}, case.schedule, self._watcher).values()
        errors = [actor.error for actor in actors if actor.error and not isinstance(actor.error, ChangedMind)]
        for error in errors:
            if not isinstance(error, TransactionError):
                raise error
        run = Run({actor.name: actor.result for actor in actors if actor.error is None}, self._world.rows())
        is_serial = run in self._serial_runs(case, tuple(run.results))
        word = self._word(actors, errors, shows=case.shows(run) if case.shows is not None else not is_serial)
        return Outcome(word, is_serial=is_serial, all_committed=not errors)

    @staticmethod
    def _word(actors: Collection[Actor], errors: list[Exception], *, shows: bool) -> str:
        if shows:
            return ANOMALY
        if errors:
            return " or ".join(sorted({type(error).__name__ for error in errors}))
        if any(actor.attempts > 1 for actor in actors):
            return RETRIED
        return WAITS if any(actor.has_waited for actor in actors) else NOTHING

    def _serial_runs(self, case: Case, names: tuple[str, ...]) -> list[Run]:
        """Return what comes of the transactions *names* one after the other, in every order."""
        key = (case.name, names)
        if key not in self._serial:
            self._serial[key] = [self._run_serially(case, order) for order in permutations(names)]
        return self._serial[key]

    def _run_serially(self, case: Case, order: tuple[str, ...]) -> Run:
        self._world.reset()
        view = View(self._world, locks=False)
        results: dict[str, Any] = {}
        for name in order:
            with db_session:
                results[name] = case.bodies[name](view, lambda: None)
        return Run(results, self._world.rows())


@contextmanager
def stand(url: str) -> Iterator[Stand]:
    """Make the tables in the empty database at *url*, and give the stand that runs cases there."""
    with ExitStack() as stack:
        db = Database(url)
        stack.callback(db.close)
        if db.backend.dialect.name == "sqlite":
            watcher = SqliteWatcher(readers_wait=url == "sqlite://")
            stack.enter_context(watcher.watching())
            yield Stand(db, watcher)
        else:
            server = PostgresWatcher(url)
            stack.callback(server.close)
            yield Stand(db, server)
