"""The session: what ``with db_session as session:`` gives. One unit of work for each database, made at first touch.

A shell: it runs the flows of its units and decides in which order several databases are saved.
"""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import replace

from dbsession.errors import (
    CommitException,
    CommitOutcomeUnknown,
    DatabaseSessionIsOver,
    NestedScopeError,
    OrmError,
    PartialCommitException,
    SessionDoomed,
    TransactionError,
)
from dbsession.session.flush import MAX_ROUNDS
from dbsession.session.options import Options
from dbsession.session.ownership import Owner
from dbsession.session.unit_of_work import DatabaseLink, UnitOfWork

__all__ = ["Session"]

_OVER = "the database session is over"

_ENDED: dict[DatabaseLink, UnitOfWork] = {}  # stands for the units of a session that has ended


class Session:
    """The work of one scope: what it has loaded and changed, in each database that it has touched."""

    __slots__ = ("_autoflush", "_failed_inside", "_options", "_owner", "_units", "has_committed", "inner_scopes")

    def __init__(self, options: Options) -> None:
        self._options = options
        self._owner = Owner()
        self._units: dict[DatabaseLink, UnitOfWork] = {}
        self._failed_inside: BaseException | None = None
        self._autoflush = True
        self.inner_scopes = 0  # how many scopes have joined, and not ended
        self.has_committed = False  # something was saved before the end: running the work again would save it twice

    def __repr__(self) -> str:
        return f"<Session of {self._owner}, {len(self._units)} database(s)>"

    def check_owner(self) -> None:
        """Raise `ScopeOwnershipError` if the caller is not the thread and task that opened the scope."""
        self._owner.check()

    def is_here(self) -> bool:
        """Tell whether the caller is the thread and task that opened the scope, and the scope has not ended."""
        return self._units is not _ENDED and self._owner.is_here()

    def unit(self, database: DatabaseLink) -> UnitOfWork:
        """Return the unit of work for *database*, making it at first touch."""
        unit = self._units.get(database)
        if unit is None:
            self._require_open("use the database")
            options = self._options
            unit = UnitOfWork(
                database,
                options.policy,
                self._owner.check,
                optimistic=options.optimistic,
            )
            unit.autoflush = self._autoflush
            self._units[database] = unit
        return unit

    # --- verbs --------------------------------------------------------------------------------

    def flush(self) -> None:
        """Send pending changes to the database without committing them.

        Raises:
            OptimisticCheckError: a row was changed or deleted by somebody else since it was read.
            TransactionIntegrityError: a constraint was violated.
            SessionDoomed: an earlier failure has lost the transaction.
        """
        self._require_open("flush")
        self._require_no_hook("flush")
        for unit in list(self._units.values()):
            unit.run(unit.flush())

    def commit(self) -> None:
        """Save everything since the last commit; on return it is committed, verifiably. Objects stay as they are.

        Raises:
            NestedScopeError: the current scope is an inner one, which has joined an outer one's transaction.
            SessionDoomed: an earlier failure has lost the transaction; nothing was committed.
            OptimisticCheckError, TransactionIntegrityError: as for `flush`; nothing was committed.
            CommitOutcomeUnknown: the connection broke while COMMIT was under way.
            PartialCommitException: of several databases, one had committed before another failed.
        """
        self._require_open("commit")
        self._require_outermost("commit")
        self._require_no_hook("commit")
        self._require_whole()
        units = list(self._units.values())
        saves = any(unit.has_pending() or unit.transaction.wrote for unit in units)
        if len(units) == 1:
            units[0].run(units[0].commit())
            if len(self._units) > 1:  # a hook has used another database
                self._commit_several(units)
        elif units:
            self._commit_several([])
        self.has_committed = self.has_committed or saves

    def _commit_several(self, committed: list[UnitOfWork]) -> None:
        """Flush all units, then commit one after the other; for those *committed* already, what came after it."""
        units = self._flush_all()
        for unit in units:
            try:
                unit.run(unit.commit())
            except OrmError as error:
                if not committed and isinstance(error, CommitOutcomeUnknown):
                    raise
                if not committed:
                    raise CommitException(f"nothing was committed: {error}") from error
                names = ", ".join(str(done.database) for done in committed)
                raise PartialCommitException(
                    f"{names} committed, but {unit.database} failed: {error}",
                    committed=[done.database for done in committed],
                    failed=[left.database for left in units if left is unit or left not in committed],
                ) from error
            if unit not in committed:
                committed.append(unit)

    def _flush_all(self) -> list[UnitOfWork]:
        """Flush until the hooks of one database make no changes in another one; return all units."""
        for _ in range(MAX_ROUNDS):
            units = list(self._units.values())
            for unit in units:
                unit.run(unit.flush())
            if len(units) == len(self._units) and not any(unit.has_pending() for unit in units):
                return units
        raise TransactionError(
            f"the flush of several databases did not end in {MAX_ROUNDS} rounds: the hooks of the entities of "
            f"one keep making changes in another"
        )

    def _require_no_hook(self, verb: str) -> None:
        """Refuse to cut into a flush that is under way."""
        for unit in self._units.values():
            if unit.is_flushing:
                raise TransactionError(
                    f"{verb}() was called from a hook of a flush, which is not done yet; what a hook changes is saved "
                    f"without it"
                )

    def _require_open(self, doing: str) -> None:
        """Refuse what would be done in vain, or in a session that nobody ends."""
        self.check_owner()
        if self._units is _ENDED:
            raise DatabaseSessionIsOver(
                f"Cannot {doing}: {_OVER}; do it within the scope, or open another one with `with db_session:`"
            )

    def _require_outermost(self, verb: str) -> None:
        """Leave the end of the transaction to the outermost scope."""
        if self.inner_scopes:
            raise NestedScopeError(
                f"{verb}() in an inner db_session would end the transaction of the outer one; only the outermost scope "
                f"does that: leave it to it, or use flush() to send changes now"
            )

    def _require_whole(self) -> None:
        """Refuse to commit what a failed inner scope left half done."""
        if self._failed_inside is not None:
            raise SessionDoomed(
                f"an inner db_session failed with {type(self._failed_inside).__name__} after it had changed something, "
                f"and the outer one went on; nothing since the last commit was saved. Let the error leave the outer "
                f"scope, or call rollback()"
            ) from self._failed_inside

    def rollback(self) -> None:
        """Undo everything since the last commit: changed objects show the database's values, new ones are transient.

        Raises:
            RollbackException: the database did not answer; it rolls back by itself when the connection is closed.
        """
        self._require_open("roll back")
        self._require_outermost("rollback")
        self._require_no_hook("rollback")
        self._failed_inside = None
        failure: TransactionError | None = None
        for unit in self._units.values():
            try:
                unit.run(unit.rollback())
            except TransactionError as error:
                unit.link.release(discard=True)
                failure = failure or error
            else:
                if unit.link.is_broken:  # or the session could not go on
                    unit.link.release(discard=True)
        if failure is not None:
            raise failure

    @contextmanager
    def no_autoflush(self) -> Generator[None]:
        """Let queries in the block see what is flushed only, instead of flushing before they are sent."""
        self._require_open("suspend the autoflush")
        before, self._autoflush = self._autoflush, False
        for unit in self._units.values():
            unit.autoflush = False
        try:
            yield
        finally:
            self._autoflush = before
            for unit in self._units.values():
                unit.autoflush = before

    # --- for the scope ------------------------------------------------------------------------

    def require_options(self, inner: Options) -> None:
        """Take over what an *inner* scope asks for beyond this one, while nothing has been touched yet.

        Raises:
            NestedScopeError: it is too late for that.
        """
        mine = self._options
        asked = {
            "serializable": inner.serializable and not mine.serializable,
            "immediate": inner.immediate and not (mine.immediate or mine.serializable or not mine.optimistic),
            "optimistic=False": not inner.optimistic and mine.optimistic and not mine.serializable,
        }
        missing = [name for name, is_missing in asked.items() if is_missing]
        if not missing:
            return
        if self._units:
            raise NestedScopeError(
                f"an inner db_session asks for {' and '.join(missing)}, but the outer one, which it joins, used the "
                f"database without; ask for it on the outer db_session"
            )
        self._options = replace(
            mine,
            serializable=mine.serializable or inner.serializable,
            immediate=mine.immediate or inner.immediate,
            optimistic=mine.optimistic and inner.optimistic,
        )

    def generation(self) -> int:
        """Return a number that grows with every change of an object."""
        return sum(unit.generation for unit in self._units.values()) if self._units else 0

    def fail_inside(self, error: BaseException) -> None:
        """Note that an inner scope failed after it had changed something."""
        self._failed_inside = self._failed_inside or error

    def end(self, error: BaseException | None) -> None:
        """End the session: commit without an *error* (or with an allowed one), else roll back; detach everything."""
        if not self._units:
            self._units = _ENDED
            return
        if error is None or self._options.is_allowed(error):
            try:
                self.commit()
            except BaseException as failure:
                self._abandon(failure)
                raise
            self._close(_OVER)
        else:
            self._abandon(error)

    def _abandon(self, error: BaseException) -> None:
        """Roll back without hiding *error*, and close."""
        why = "its commit ended in" if isinstance(error, CommitOutcomeUnknown) else "it was rolled back because of"
        try:
            for unit in self._units.values():
                try:
                    unit.run(unit.rollback())
                except Exception as second:  # the first error is the one that counts
                    error.add_note(f"and the rollback failed: {second}")
                    unit.link.release(discard=True)
        finally:  # even if it is interrupted, the connections go back
            self._close(f"{_OVER}: {why} {type(error).__name__}")

    def _close(self, reason: str) -> None:
        for unit in self._units.values():
            unit.close(reason)
        self._units = _ENDED
