"""The flush: hooks, order, batches, replies.

A flush goes in rounds. Each runs the ``before_...`` hooks of what is unsaved, sends it in as few
batches as the keys allow (a child whose parent's key the database makes waits for the parent's
batch), and runs the ``after_...`` hooks. Hooks may change more objects; that is the next round.
COMMIT travels in the last batch where no hook may follow it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from dbsession.backends.base import RowCountMismatch
from dbsession.backends.flow import Flow
from dbsession.backends.statements import Statement
from dbsession.errors import DatabaseError, InvalidRequestError, OrmError, UnexpectedError, UnresolvableCyclicDependency
from dbsession.model.entity import EntityBase
from dbsession.model.mapping import LinkTable, Mapping
from dbsession.model.state import UNSET, Status, set_state
from dbsession.session.changes import Places, change_of, vacating
from dbsession.session.conflicts import explain_conflict, name_objects
from dbsession.session.deleting import in_doubt, with_parents
from dbsession.session.loading import reload
from dbsession.session.marks import Mark
from dbsession.session.ordering import Action, Pending, Run, in_order
from dbsession.session.savepoint import Layer, layers, mark_of
from dbsession.session.writes import (
    DeleteWrite,
    GoneWrite,
    InsertWrite,
    LinkWrite,
    SavepointWrite,
    UpdateWrite,
    VacateWrite,
    Write,
)

if TYPE_CHECKING:
    from dbsession.session.unit_of_work import UnitOfWork

__all__ = ["MAX_ROUNDS", "flush"]

MAX_ROUNDS = 50


def flush(unit: UnitOfWork, *, commit: bool = False, only: set[EntityBase] | None = None) -> Flow[None]:
    """Save what is unsaved (of *only*, with what those objects need), and *commit* in the same flight if asked.

    Raises:
        OptimisticCheckError: a row was changed or deleted by somebody else.
        TransactionIntegrityError: a constraint of the database was violated.
        InvalidRequestError: it was called from a hook, or hooks make changes without end.
    """
    unit.transaction.require_usable()
    if unit.transaction.policy.mode.read_only and unit.has_pending():
        yield from _refuse(unit)
    unit.begin_flush()
    try:
        committed = yield from _rounds(unit, commit=commit, only=only)
        if commit and not committed and unit.is_alone:
            yield from unit.transaction.commit()
            unit.committed()
    except Exception as error:
        if not getattr(error, "nothing_sent", False):  # a flush that failed can be neither repeated nor completed
            yield from unit.transaction.fail(error, mark_of(unit))
        raise
    except BaseException as error:
        if not unit.transaction.is_unknown:
            unit.transaction.interrupted(error)
        raise
    finally:
        unit.end_flush()


def _refuse(unit: UnitOfWork) -> Flow[None]:
    """Say of what cannot be saved that the scope has promised to change nothing."""
    changed = [obj for kind in unit.pending() for obj in kind]
    what = f"{changed[0]!r} was changed" if changed else "a link was changed"
    error = InvalidRequestError(
        f"{what} in a db_session(read_only=True), which saves nothing; leave read_only out, or change it in another "
        f"scope"
    )
    yield from unit.transaction.fail(error, mark_of(unit))
    raise error


def _rounds(unit: UnitOfWork, *, commit: bool, only: set[EntityBase] | None) -> Flow[bool]:
    for _ in range(MAX_ROUNDS):
        if unit.has_hooks:
            only = yield from _run_before_hooks(unit, only)
        unit.sweep_deleted()
        pending = unit.pending(only)
        links = unit.take_links(only)
        if not pending and not links:
            return False
        hooked = _hooked(pending, "after") if unit.has_hooks else []
        rides = commit and not hooked and unit.is_alone
        in_layers, foreign = layers(unit, pending, has_links=bool(links))
        try:
            yield from _Sender(unit, links, foreign).send(in_layers, pending.deleted, commit=rides)
        except Exception as error:
            if getattr(error, "nothing_sent", False):
                unit.give_links_back(links)
            raise
        yield from _run_hooks(unit, "after", hooked)
        if rides:
            return True
        if not unit.has_pending() or (only is not None and not hooked):
            return False
    endless = InvalidRequestError(
        f"the flush did not come to an end in {MAX_ROUNDS} rounds: the hooks of the entities keep making changes"
    )
    yield from unit.transaction.fail(endless, mark_of(unit))
    raise endless


def _hooked(pending: Pending, when: str) -> list[tuple[str, EntityBase]]:
    """Return the objects of *pending* that have a hook for what is done to them."""
    kinds = zip(("insert", "update", "delete"), (pending.new, pending.dirty, pending.deleted), strict=True)
    return [
        (kind, obj)
        for kind, objects in kinds
        for obj in objects
        if f"{when}_{kind}" in obj._mapping_.hooks and (kind != "update" or change_of(obj, checked=False) is not None)
    ]


def _run_hooks(unit: UnitOfWork, when: str, hooked: list[tuple[str, EntityBase]]) -> Flow[None]:
    for kind, obj in hooked:
        try:
            getattr(obj, f"{when}_{kind}")()
        except Exception as error:  # a flush that failed, like any other
            yield from unit.transaction.fail(error, mark_of(unit, obj))
            raise


def _run_before_hooks(unit: UnitOfWork, only: set[EntityBase] | None) -> Flow[set[EntityBase] | None]:
    """Run the ``before_...`` hooks until they leave nothing new to run them for; return *only* with new parents."""
    done: set[tuple[str, EntityBase]] = set()
    for _ in range(MAX_ROUNDS):
        unit.sweep_deleted()
        if only is not None:
            only = with_parents(unit, only)
        todo = [item for item in _hooked(unit.pending(only), "before") if item not in done]
        if not todo:
            return only
        done.update(todo)
        yield from _run_hooks(unit, "before", todo)
    endless = InvalidRequestError(
        f"the hooks before the flush did not come to an end in {MAX_ROUNDS} rounds: they keep making new objects"
    )
    yield from unit.transaction.fail(endless, mark_of(unit))
    raise endless


class _Sender:
    """Sends the operations of one round, batch by batch.

    *foreign*: objects that an inner scope has to save though only outer ones have changed them.
    """

    def __init__(
        self, unit: UnitOfWork, links: dict[LinkTable, dict[tuple[Any, Any], bool]], foreign: set[EntityBase]
    ) -> None:
        self.unit = unit
        self.links = links
        self.foreign = foreign
        self.by_tag: list[EntityBase] = []
        self.in_doubt: set[EntityBase] = set()
        self._adders = {
            Action.VACATE: self._vacate,
            Action.INSERT: self._insert,
            Action.UPDATE: self._update,
            Action.DELETE: self._delete,
        }

    def send(self, in_layers: list[Layer], deleted: list[EntityBase], *, commit: bool) -> Flow[None]:
        """Send everything; with *commit*, COMMIT goes with the last batch."""
        unit = self.unit
        runs: deque[Run | Mark] = deque()
        for layer in in_layers:
            runs.extend([layer] if isinstance(layer, Mark) else in_order(layer))
        if deleted:
            self.in_doubt = in_doubt(deleted)
        removed = self._link_writes(adds=False)
        late: list[EntityBase] = []
        while True:
            writes = self._next_batch(runs)
            if removed:  # first of all, but behind the marks: where links are sent, all that there are stand first
                place = sum(isinstance(write, SavepointWrite) for write in writes)
                writes[place:place] = removed
                removed = []
            if not runs and not (self._adds_links() and any(obj._state_.is_new for w in writes for obj in w.objects)):
                writes += self._link_writes(adds=True)
                self.links = {}
            is_last = not runs and not self.links
            if runs and not writes and isinstance(runs[0], Run):
                raise UnresolvableCyclicDependency(
                    f"{runs[0].objects[0]!r} refers to an object without a key, and nothing in this flush gives it one"
                )
            late += [obj for write in writes if write.triggers_run_later for obj in write.objects]
            rides = commit and is_last and not late
            statements = [write.statement() for write in writes]
            results = yield from self._execute(statements, writes, commit=rides)
            self._apply(writes, results, is_committed=rides)
            if is_last:
                break
        if late:
            yield from reload(unit, late)
            if commit:
                yield from unit.transaction.commit()
        if commit:
            unit.committed()

    def _apply(self, writes: list[Write], results: Sequence[Any], *, is_committed: bool = False) -> None:
        """Bring the objects of *writes* into agreement with what was answered."""
        unit = self.unit
        if not is_committed:
            unit.journal.remember([obj for write in writes for obj in write.objects])
        for write, result in zip(writes, results, strict=True):
            write.apply(result)
            _settle(unit, write)
            if is_committed:
                continue
            # Nobody else can change these rows before the commit. But of a row that was loaded earlier, what the
            # UPDATE neither set nor compared may have changed before it.
            if isinstance(write, InsertWrite):
                unit.exempt.update(write.objects)
            elif isinstance(write, UpdateWrite):
                unit.hold(write.objects, write.holds())

    def _execute(self, statements: list[Statement], writes: list[Write], *, commit: bool) -> Flow[Any]:
        transaction = self.unit.transaction
        try:
            if commit:
                return (yield from transaction.commit(*statements))
            return (yield from transaction.write(*statements, sets_marks=True)) if statements else []
        except RowCountMismatch as error:
            obj = self.by_tag[error.tag] if error.tag < len(self.by_tag) else None
            failure = yield from self._mismatch(error, obj)
            yield from self._undone(error, failure, writes, [] if obj is None else [obj])
            raise failure from error
        except DatabaseError as error:
            yield from self._undone(error, error, writes, self._note(error, statements, writes))
            raise

    def _undone(
        self, error: DatabaseError, failure: OrmError, writes: list[Write], objects: Sequence[EntityBase]
    ) -> Flow[None]:
        """Doom the session if what was refused is the outer scope's; else take what stands before the savepoint."""
        transaction = self.unit.transaction
        doomed = transaction.doomed_mark
        if doomed is None:
            return
        if objects and self.foreign.issuperset(objects):
            yield from transaction.doom(failure)
            return
        marks = [getattr(write, "mark", None) for write in writes]
        if doomed in marks:
            before = marks.index(doomed)
            self._apply(writes[:before], error.results[:before])

    def _mismatch(self, error: RowCountMismatch, obj: EntityBase | None) -> Flow[OrmError]:
        """Turn a row that was not matched into an error that says what happened to it."""
        if obj is None or obj._state_.is_new:
            failure: OrmError = UnexpectedError(
                f"an INSERT of {type(obj).__name__ if obj else 'a row'} was answered with {error.found} rows; "
                f"a trigger or rule of the table swallows or replaces rows, and none of these was saved"
            )
        else:
            failure = yield from explain_conflict(self.unit, obj)
        self.unit.transaction.blame(failure)
        return failure

    def _note(self, error: DatabaseError, statements: list[Statement], writes: list[Write]) -> Sequence[EntityBase]:
        """Say which objects were being saved, and return them."""
        failed = getattr(error, "statement", None)
        for statement, write in zip(statements, writes, strict=True):
            if statement is failed and write.objects:
                tag = getattr(error, "tag", None)
                objects = write.objects
                if isinstance(tag, int) and statement.many and tag < len(self.by_tag):
                    objects = [self.by_tag[tag]]
                name_objects(error, objects, self.unit.new.get(objects[0]))
                return objects
        return ()

    # --- batches ------------------------------------------------------------------------------

    def _next_batch(self, runs: deque[Run | Mark]) -> list[Write]:
        """Take operations until one needs a key, or a row, that only the reply to this batch can give."""
        writes: list[Write] = []
        touched: set[int] = set()
        while runs:
            run = runs[0]
            if isinstance(run, Mark):
                writes.append(SavepointWrite(run, len(self.by_tag)))
                runs.popleft()
                continue
            action, objects, names = run
            if touched and any(id(obj) in touched for obj in objects):
                break
            add = self._adders[action]
            needs_keys = action is Action.INSERT or action is Action.UPDATE
            for index, obj in enumerate(objects):
                if needs_keys and obj._mapping_.reference_attributes and _lacks_key(obj, names):
                    if index:
                        runs[0] = Run(action, objects[index:], names)
                    return writes
                add(writes, obj, names)
            if names:
                touched.update(map(id, objects))
            runs.popleft()
        return writes

    def _insert(self, writes: list[Write], obj: EntityBase, names: tuple[str, ...]) -> None:
        last = writes[-1] if writes else None
        mapping = obj._mapping_
        shape = tuple(obj.__dict__)
        if (
            type(last) is not InsertWrite
            or last.mapping is not mapping
            or len(last.rows) >= last.room
            or last.shape != shape
        ):
            last = InsertWrite(mapping, shape, len(self.by_tag), _MANY)
            writes.append(last)
        last.add(obj, names)
        self.by_tag.append(obj)

    def _vacate(self, writes: list[Write], obj: EntityBase, names: tuple[str, ...]) -> None:
        change = vacating(obj, names, checked=self.unit.checks(obj), held=self.unit.held.get(obj, ()))
        write = VacateWrite(obj._mapping_, change, len(self.by_tag))
        write.add(obj, change)
        writes.append(write)
        self.by_tag.append(obj)

    def _update(self, writes: list[Write], obj: EntityBase, names: tuple[str, ...]) -> None:
        if obj._state_.status is not Status.DIRTY:
            return
        unit = self.unit
        change = change_of(obj, checked=unit.checks(obj), held=unit.held.get(obj, ()))
        if change is None:
            unit.forget_changes(obj)
            return
        last = writes[-1] if writes else None
        if type(last) is not UpdateWrite or not last.takes(obj._mapping_, change):
            last = UpdateWrite(obj._mapping_, change, len(self.by_tag))
            writes.append(last)
        last.add(obj, change)
        self.by_tag.append(obj)

    def _delete(self, writes: list[Write], obj: EntityBase, names: tuple[str, ...]) -> None:
        last = writes[-1] if writes else None
        unit = self.unit
        checks = DeleteWrite.checks_of(obj, names, checked=unit.checks(obj), held=unit.held.get(obj, ()))
        if obj in self.in_doubt:
            self._delete_in_doubt(writes, obj, checks)
            return
        if type(last) is not DeleteWrite or last.mapping is not obj._mapping_ or last.checks != checks:
            last = DeleteWrite(obj._mapping_, checks, len(self.by_tag))
            writes.append(last)
        last.add(obj)
        self.by_tag.append(obj)

    def _delete_in_doubt(self, writes: list[Write], obj: EntityBase, checks: Places) -> None:
        """Delete what may have gone with another row by now."""
        delete = DeleteWrite(obj._mapping_, checks, len(self.by_tag), in_doubt=True)
        delete.add(obj)
        self.by_tag.append(obj)
        writes += [delete, GoneWrite(delete, len(self.by_tag))]
        self.by_tag.append(obj)

    # --- links --------------------------------------------------------------------------------

    def _adds_links(self) -> bool:
        return any(adds for pairs in self.links.values() for adds in pairs.values())

    def _link_writes(self, *, adds: bool) -> list[Write]:
        writes: list[Write] = []
        if not self.links:
            return writes
        for link in sorted(self.links, key=lambda link: link.quoted):
            pairs = [pair for pair, wanted in self.links[link].items() if wanted is adds]
            if pairs:
                write = LinkWrite(link, len(self.by_tag), adds=adds)
                for left, right in pairs:
                    write.add(left, right)
                writes.append(write)
        return writes


_MANY = 10_000  # objects in one statement with many runs


def _lacks_key(obj: EntityBase, left_out: tuple[str, ...]) -> bool:
    """Whether *obj* refers to an object whose key is not known yet."""
    values = obj.__dict__
    for attribute in obj._mapping_.reference_attributes:
        target = values.get(attribute.name)
        if target is None or attribute.is_virtual or attribute.name in left_out:
            continue
        if target._state_.is_new and target._key_ is None:
            return True
    return False


def _settle(unit: UnitOfWork, write: Write) -> None:
    """Bring the states of the saved objects, and the identity map, into agreement with the database."""
    if isinstance(write, InsertWrite):
        _settle_inserted(unit, write)
    elif isinstance(write, DeleteWrite):
        for obj in write.objects:
            unit.deleted_now(obj)
    elif isinstance(write, UpdateWrite) and not isinstance(write, VacateWrite):
        for obj, key in zip(write.objects, write.old_keys, strict=False):
            unit.identity.remove(obj, key)
        for obj in write.objects if write.old_keys else ():
            unit.identity.add(obj, obj._key_)
        dirty, clean = unit.dirty, unit.states.clean
        for obj in write.objects:
            del dirty[obj]
            set_state(obj, clean)
        version = write.mapping.version
        if version is not None:
            for obj in write.objects:
                obj.__dict__.pop(version.name, None)


def _settle_inserted(unit: UnitOfWork, write: InsertWrite) -> None:
    mapping: Mapping = write.mapping
    key_of = mapping.key_of
    objects = unit.identity.of(mapping)
    clean = unit.states.clean
    new = unit.new
    for obj in write.objects:
        objects[key_of(obj._row_)] = obj
        set_state(obj, clean)
        del new[obj]
    for attribute in mapping.reference_attributes:
        if attribute.is_virtual or not attribute.nullable:
            continue
        for obj in write.objects:  # left NULL at first, to break a circle
            value = obj.__dict__.get(attribute.name, UNSET)
            if value is not None and value is not UNSET and attribute.key_in(obj._row_) is None:
                changes = unit.still_dirty(obj) if obj._state_ is clean else obj._changes_
                changes[attribute.name] = False
