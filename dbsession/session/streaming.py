"""Streams: the results of a query piece by piece, from a cursor in the database, in memory that does not grow.

A stream shows what was in the database when it was opened. So what it brings may be older than what
the session knows: an object that was loaded or saved since keeps what it has, and one that was deleted
does not come again. Behind each piece the identity map lets go of the objects that the stream has brought: they
live for as long as somebody else holds them (see `identity_map`).

The cursor lives in the transaction, and is gone with it. Where nothing is to be written, that transaction
was begun for the cursor alone, and ends with it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import count
from typing import TYPE_CHECKING, Any

from dbsession.backends.base import ServerCursor
from dbsession.backends.flow import Flow
from dbsession.backends.statements import Result, Row
from dbsession.errors import InvalidRequestError, OrmError
from dbsession.model.entity import EntityBase
from dbsession.model.expressions import Operation
from dbsession.model.mapping import Mapping
from dbsession.model.references import ReferenceAttribute
from dbsession.model.state import NOT_LOADED
from dbsession.query.selected import Selected
from dbsession.query.sql.compiled import compile_fetch
from dbsession.query.sql.results import Item
from dbsession.session.changes import row_seen, unsaved
from dbsession.session.identity_map import Watcher
from dbsession.session.loading import materialize
from dbsession.session.querying import fetch, key_in, load_ahead, received

if TYPE_CHECKING:
    from dbsession.session.unit_of_work import UnitOfWork

__all__ = ["Stream", "iterate"]

_LOCKED_AT_ONCE = 5000

_numbers = count(1)


def iterate(
    find_unit: Callable[[], UnitOfWork], selected: Selected, values: tuple[Any, ...], batch: int
) -> Iterator[Any]:
    """Yield the results of *selected*, of which *batch* are loaded at a time, in the unit of work found at first."""
    unit = find_unit()
    stream = Stream(unit, selected, values, batch)
    try:
        while found := unit.run(stream.next_batch()):
            found.reverse()
            while found:  # what the program is done with is held by nobody here
                if stream.is_there(found[-1]):
                    yield found.pop()
                else:
                    found.pop()
                if found:
                    stream.require_usable()
    finally:
        stream.close()


class Stream:
    """One cursor, what it has brought, and what was known before it was opened."""

    __slots__ = (
        "_batch",
        "_brought",
        "_compiled",
        "_cursor",
        "_ends",
        "_is_exhausted",
        "_known",
        "_marks",
        "_selected",
        "_state",
        "_unit",
        "_values",
        "_watcher",
    )

    def __init__(self, unit: UnitOfWork, selected: Selected, values: tuple[Any, ...], batch: int) -> None:
        self._unit = unit
        self._selected = selected
        self._values = values
        self._compiled = compile_fetch(selected.replace(lock="") if selected.lock else selected)
        self._batch = batch
        self._state = unit.states.clean
        self._cursor: ServerCursor | None = None
        self._is_exhausted = False
        self._ends = unit.ends
        self._marks = tuple(unit.transaction.marks)
        self._brought: dict[Mapping, list[Any]] = {}  # keys of what the last step has loaded, by the roots
        # What was known when it was opened, and what has become of rows since.
        self._known: dict[Mapping, dict[Any, Row]] = {}
        self._watcher = Watcher(set(), set())

    # --- whether it may go on ---------------------------------------------------------------------

    def require_usable(self) -> None:
        """Raise unless the next step may be taken from here, and the cursor is there.

        Raises:
            DatabaseSessionIsOver: the scope has ended.
            ScopeOwnershipError: the scope belongs to another thread or task.
            InvalidRequestError: the transaction, or the inner scope, that the cursor was opened in has ended.
            SessionDoomed: an earlier failure has lost the transaction.
        """
        unit = self._unit
        if self._state.unit is None:
            raise self._state.over(f"go on with {self}", "read it to its end within the scope")
        unit.check_owner()
        if unit.ends != self._ends:
            raise InvalidRequestError(
                f"Cannot go on with {self}: commit() or rollback() has ended the transaction that its cursor lived in; "
                f"call it when the loop is done, or read pages by key, which need no cursor{self._page()}"
            )
        if any(mark.is_undone for mark in self._marks):
            raise InvalidRequestError(
                f"Cannot go on with {self}: the inner db_session that it was opened in has failed, and its cursor is "
                f"undone with it; open it in the outer scope"
            )
        unit.transaction.require_usable()

    def is_there(self, result: Any) -> bool:
        """Tell whether *result*, which was loaded with others, is still there: the program may have deleted it."""
        if not self._unit.deleted and not self._watcher.left:
            return True
        parts = result if isinstance(result, tuple) else (result,)
        return all(part._state_.may_change for part in parts if isinstance(part, EntityBase))

    def __str__(self) -> str:
        return f"the stream of {self._selected.mapping.name}"

    def _page(self) -> str:
        """Return how to write a query for one page, where that is one expression."""
        mapping = self._selected.mapping
        first, *more = mapping.key
        if more or isinstance(first, ReferenceAttribute):
            return ""
        key = f"{mapping.name}.{first.name}"
        return f": {mapping.name}.select({key} > last).order_by({key})[:{self._batch}]"

    # --- its steps --------------------------------------------------------------------------------

    def next_batch(self) -> Flow[list[Any]]:
        """Let go of what the step before has brought, and return the next results; none: that was all."""
        unit = self._unit
        if self._is_exhausted:
            if self._state.unit is not None:
                unit.check_owner()
                self._let_go()
            return []
        if self._cursor is not None:
            self.require_usable()
        found: list[Any] = []
        while not found and not self._is_exhausted:
            self._let_go()
            rows = yield from self._rows()
            if self._is_exhausted and not unit.has_pending():  # else the transaction is needed soon
                yield from unit.transaction.end_reading()
            if self._selected.lock:  # by a query, before which the same would be sent
                yield from self._flush()
            sizes = unit.identity.sizes()
            found = yield from self._results(self._as_known(rows))
            self._brought = unit.identity.since(sizes)
        return found

    def _results(self, rows: list[Row]) -> Flow[list[Any]]:
        """Return what *rows* are made into.

        A cursor that locks would leave out, without a word, what this transaction has changed since it was opened; so
        the rows are locked when they have come. Those that do not fit any more are left out, as locking has it.
        """
        unit, selected, compiled = self._unit, self._selected, self._compiled
        if not selected.lock or not unit.dialect.has_row_locks:
            return (yield from received(unit, selected, compiled, rows))
        found = materialize(unit, selected.mapping, rows, compiled.source, refresh=True)
        locked: set[Any] = set()
        for start in range(0, len(found), _LOCKED_AT_ONCE):
            among: Operation[bool] = Operation("in", selected.result, tuple(found[start : start + _LOCKED_AT_ONCE]))
            narrowed = selected.replace(
                conditions=(*selected.conditions, among), orderings=(), limit=None, offset=0, prefetched=None
            )
            locked.update((yield from fetch(unit, narrowed, self._values)))
        found = [obj for obj in found if obj in locked]
        yield from load_ahead(unit, selected, found)
        return found

    def _rows(self) -> Flow[list[Row]]:
        """Return the next rows; behind fewer than were asked for, there are no more."""
        wanted = self._batch
        if self._cursor is None:
            wanted += 1  # so that a result of n batches is known to have ended with the n-th
            results = yield from self._open(wanted)
        else:
            results = yield from self._unit.transaction.read(self._cursor.fetch(wanted))
        rows = results[-1].rows
        if len(rows) < wanted:
            self._is_exhausted = True
            self._close_cursor()
        return rows

    def _flush(self) -> Flow[None]:
        """Save what is unsaved, as far as it concerns the query."""
        compiled = self._compiled
        yield from self._unit.autoflush_for(*compiled.tables, comparing=compiled.objects(self._values))

    def _open(self, wanted: int) -> Flow[list[Result]]:
        unit, compiled, lock = self._unit, self._compiled, self._selected.lock
        yield from self._flush()
        roots = {item.mapping.root for item in compiled.items if item.mapping is not None}
        self._known = {root: {key: o._row_ for key, o in unit.identity.alive(root).items()} for root in roots}
        cursor = unit.dialect.cursor(f"dbs_cursor_{next(_numbers)}", compiled.sql, compiled.bind(self._values))
        first = (cursor.declare(), cursor.fetch(wanted))
        transaction = unit.transaction
        try:
            if lock:
                results = yield from transaction.write(*first, is_flush=False, nowait=lock.endswith("NOWAIT"))
            else:
                results = yield from transaction.read(*first, for_cursor=unit.dialect.cursors_need_transaction)
        except BaseException:
            cursor.close()  # it may be open here; a server has closed it, or will with the connection
            raise
        self._cursor = cursor
        transaction.open_cursors += 1
        unit.identity.watch(self._watcher)
        return results

    def close(self) -> None:
        """Close the cursor. Nothing is sent: what has to be said to the database goes with the next statement."""
        self._close_cursor()
        self._known = {}
        self._unit.identity.unwatch(self._watcher)

    def _close_cursor(self) -> None:
        cursor, self._cursor = self._cursor, None
        if cursor is None:
            return
        unit = self._unit
        unit.transaction.open_cursors -= 1
        closing = cursor.close()
        if unit.ends == self._ends and not any(mark.is_undone for mark in self._marks) and self._is_here():
            unit.transaction.close_cursor(closing)

    def _is_here(self) -> bool:
        """Tell whether the owner asks, and not the garbage collector in another thread."""
        try:
            self._unit.check_owner()
        except OrmError:
            return False
        return True

    # --- its rows and objects ---------------------------------------------------------------------

    def _as_known(self, rows: list[Row]) -> list[Row]:
        """Return *rows* with what the session knows better, without those of objects that it has deleted."""
        identity = self._unit.identity
        for item in self._compiled.items:
            if item.mapping is None:
                continue
            held, root = identity.of(item.mapping), item.mapping.root
            keys = list(map(key_in(item), rows))
            if identity.released:
                identity.hold_again(root, keys)
            if not self._watcher.left and held.keys().isdisjoint(keys):
                continue
            gone = {key for key in keys if key not in held and (root, key) in self._watcher.left}
            rows = [
                self._newest(item, row, key, held[key]) if key in held else row
                for key, row in zip(keys, rows, strict=True)
                if key not in gone
            ]
        return rows

    def _newest(self, item: Item, row: Row, key: Any, obj: EntityBase) -> Row:
        """Return *row* with what *obj* has of the *item*, if it was loaded or saved after the cursor was opened."""
        assert item.mapping is not None
        if obj._row_ is self._known[item.mapping.root].get(key) or not obj._state_.has_row:
            return row
        seen = row_seen(obj, unsaved(obj))
        positions = {column.name: column.position for column in obj._mapping_.columns}
        is_expired = (item.mapping.root, key) in self._watcher.expired  # what the cursor has of it may be older
        kind = item.mapping.root.discriminator
        newest = list(row)
        for place, column in enumerate(item.source, item.start):
            position = positions.get(column.name)
            if position is None or position >= len(seen):
                continue
            if seen[position] is not NOT_LOADED or (is_expired and (kind is None or column is not kind.columns[0])):
                newest[place] = seen[position]
        return tuple(newest)

    def _let_go(self) -> None:
        """Let go of the objects that the last step has brought."""
        unit = self._unit
        brought, self._brought = self._brought, {}
        if not brought:
            return
        objects = [
            obj for root, keys in brought.items() for obj in map(unit.identity.of(root).get, keys) if obj is not None
        ]
        unit.journal.let_go(objects)
        unit.exempt.difference_update([obj for obj in objects if not obj._state_.has_changes])
        if unit.fresh is not None:
            unit.fresh.let_go(objects)
        unit.referring.clear()  # they hold objects, or count them
        unit.seen_for.clear()
        del objects
        unit.identity.let_go(brought)
