"""Copies of objects with what they reach: pickle and ``copy.deepcopy``. Nothing is loaded for them.

What travels is what is in memory: the row as the database gave it, by the names of its columns, which attributes were
read, unsaved changes, and the objects that are reached through loaded references and collections. The copies are in no
session, and share one unit of work.

Pickle calls an object for what it is made of, and goes into that before it takes the next one, so that a list of
objects each of which refers to the next would be as deep as it is long. Therefore an object is "number *n* of that
graph", and the graph, which is flat, travels with the first of its objects. Objects that are pickled together, but do
not reach each other, make several graphs, which know of each other for as long as the pickler lives.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from itertools import chain
from operator import getitem
from typing import TYPE_CHECKING, Any, NamedTuple, SupportsIndex
from weakref import ref

from dbsession.errors import (
    CacheIndexError,
    DatabaseSessionIsOver,
    InvalidRequestError,
    OperationWithDeletedObjectError,
)
from dbsession.model.attributes import PendingExpression, ValueAttribute
from dbsession.model.collections import Collection, CollectionAttribute
from dbsession.model.departed import Departed
from dbsession.model.mapping import Mapping, mapping_of
from dbsession.model.state import NOT_LOADED, Detached, Group, KeyRow, Status, set_changes, set_row, set_state
from dbsession.model.tracked import plain

if TYPE_CHECKING:
    from dbsession.model.entity import EntityBase

__all__ = [
    "CLEAN",
    "DIRTY",
    "MARKED",
    "NEW",
    "STATES",
    "UNDONE",
    "facts",
    "read_again",
    "reduce_object",
    "require_copyable",
]

_DELETED = frozenset({Status.DELETED, Status.MARKED_FOR_DELETION})
CLEAN = 0
DIRTY = 1
MARKED = 2
NEW = 3
UNDONE = 4  # clean, but not to be taken for what has nothing to save
STATES = ("clean", "dirty", "marked", "new", "undone")
_NOTHING: tuple[Any, ...] = ()


class _Collected(NamedTuple):
    """A collection: who is in it, by numbers."""

    name: str
    items: list[int] | None
    added: list[int]
    removed: list[int]
    links: list[tuple[int, bool]]  # unsaved ones of a many-to-many relation: made or removed


class _More(NamedTuple):
    """What an object is beyond its row and what was read of it."""

    values: dict[str, Any]
    changes: dict[str, bool]
    references: dict[str, int | None]
    collections: list[_Collected]


class _Record(NamedTuple):
    """An object of a graph."""

    kind: int  # its class, among those of the graph
    status: int
    row: tuple[Any, ...]
    read: tuple[str, ...]
    more: _More | None


# --- out ---------------------------------------------------------------------------------------------


class _Dump:
    """What is being pickled: which object is where. It lives for as long as a pickler holds one of its graphs."""

    __slots__ = ("__weakref__", "_places", "departed", "tokens")

    def __init__(self) -> None:
        self.departed = Departed()
        self._places: dict[EntityBase, tuple[ref[_Graph], int]] = {}
        self.tokens: dict[Any, _Token] = {}

    def place(self, obj: EntityBase) -> tuple[_Graph, int] | None:
        """Return the graph that *obj* is in, and its number there."""
        reference, index = self._places.get(obj, (None, 0))
        graph = None if reference is None else reference()
        return None if graph is None else (graph, index)

    def put(self, obj: EntityBase, graph: _Graph, index: int) -> None:
        """Let *obj* be in *graph*, which is not held: the pickler does that, and when it lets go all is over."""
        self._places[obj] = ref(graph), index


class _Here(threading.local):
    """What this thread is pickling."""

    dump: Any = None  # a weak reference


_here = _Here()


class _Token:
    """Stands for a unit of work: what has the same one shares one on the other side, too."""

    __slots__ = ("_entity",)

    def __init__(self, entity: type[EntityBase]) -> None:
        self._entity = entity

    def __reduce_ex__(self, protocol: SupportsIndex) -> Any:
        return _make_unit, (self._entity,)


def _make_unit(entity: type[EntityBase]) -> Detached:
    return mapping_of(entity).gateway.make_detached()


class _Graph:
    """Objects that are reached from one of them, and belong to no graph of the same dump before."""

    __slots__ = ("__weakref__", "_dump", "_group", "_objects")

    def __init__(self, dump: _Dump, root: EntityBase) -> None:
        self._dump = dump
        self._group: Group = root._state_.group
        self._objects = [root]
        dump.put(root, self, 0)

    def __reduce_ex__(self, protocol: SupportsIndex) -> Any:
        """Return the objects as they are now."""
        self._collect()
        entity = type(self._objects[0])
        gateway = entity._mapping_.gateway
        token = self._dump.tokens.setdefault((self._group, gateway), _Token(entity))
        writer = _Writer(self, self._dump)
        records = [writer.record(obj) for obj in self._objects]
        kinds = [(mapping.entity, [column.name for column in mapping.columns]) for mapping in writer.kinds]
        return _restore, (token, entity._mapping_.dialect.name, kinds, records, writer.elsewhere)

    def _collect(self) -> None:
        """Take in what the objects lead to."""
        dump, objects = self._dump, self._objects
        for obj in objects:  # which grows
            for other in chain(_reached(obj), dump.departed.of(obj)):
                if dump.place(other) is None:
                    dump.put(other, self, len(objects))
                    objects.append(other)


def reduce_object(obj: EntityBase) -> Any:
    """Return how *obj* is made again: as one of a graph.

    Raises:
        OperationWithDeletedObjectError: its row is gone.
        InvalidRequestError: it has an unsaved SQL expression.
        DatabaseSessionIsOver: its commit has an unknown outcome.
    """
    require_copyable(obj)
    dump: _Dump | None = _here.dump() if _here.dump is not None else None
    if dump is None:
        dump = _Dump()
        _here.dump = ref(dump)
    return getitem, dump.place(obj) or (_Graph(dump, obj), 0)


def _is_gone(obj: EntityBase) -> bool:
    state = obj._state_
    return state.status is Status.DELETED or (state.unit is None and state.before in _DELETED)


def require_copyable(obj: EntityBase) -> None:
    """Raise `OperationWithDeletedObjectError` if the row of *obj* is gone."""
    if _is_gone(obj):
        raise OperationWithDeletedObjectError(
            f"{obj!r} cannot be copied or pickled: it was deleted, and is in no database"
        )


def _reached(obj: EntityBase) -> Iterator[EntityBase]:
    """Yield what *obj* leads to in memory, but for what was deleted."""
    values = obj.__dict__
    unit = obj._state_.unit
    for attribute in obj._mapping_.reference_attributes:
        target = values.get(attribute.name)
        if target is None and unit is not None and attribute.name not in values:
            target = attribute.known(obj, unit)
            if target is not None and _is_bare(target):
                continue  # the key is in the row
        if target is not None and _is_led_to(obj, target):
            yield target
    for name in obj._mapping_.collections:
        collection: Collection[Any] | None = values.get(name)
        if collection is not None:
            yield from [item for item in collection.reached() if not _is_gone(item)]


def _is_led_to(obj: EntityBase, target: EntityBase) -> bool:
    """Tell whether *target*, to which *obj* refers, travels with it: what is deleted needs nobody who is unsaved."""
    if _is_gone(target):
        return False
    return target._state_.has_row or obj._state_.status is not Status.MARKED_FOR_DELETION


def _is_bare(obj: EntityBase) -> bool:
    """Tell whether nothing but the key is known of *obj*."""
    return not obj._state_.has_changes and obj._state_.has_row and obj._mapping_.is_hollow(obj._row_)


class _Writer:
    """Writes the objects of one graph down."""

    def __init__(self, graph: _Graph, dump: _Dump) -> None:
        self._graph = graph
        self._dump = dump
        self.kinds: dict[Mapping, int] = {}
        self.elsewhere: list[tuple[_Graph, int]] = []
        self._elsewhere: dict[EntityBase, int] = {}
        self._objects: dict[int, EntityBase] = {}  # by number
        self._going: set[int] = set()  # those that are marked for deletion
        self._reads: dict[tuple[str, ...], tuple[str, ...]] = {}

    def record(self, obj: EntityBase) -> _Record:
        """Return what *obj* is."""
        mapping = obj._mapping_
        kind = self.kinds.setdefault(mapping, len(self.kinds))
        status, row, changes = facts(obj)
        values, references, read = self._values(obj, status, changes)
        collections = self._collections(obj, status)
        more = None
        if values or changes or references or collections or status != CLEAN:
            more = _More(values, changes, references, collections)
        return _Record(kind, status, row, self._reads.setdefault(read, read), more)

    def _values(
        self, obj: EntityBase, status: int, changes: dict[str, bool]
    ) -> tuple[dict[str, Any], dict[str, int | None], tuple[str, ...]]:
        """Return the values and references that are not those of the row, and the names of what was read."""
        values: dict[str, Any] = {}
        references: dict[str, int | None] = {}
        read: list[str] = []
        attributes = obj._mapping_.attributes
        for name, value in obj.__dict__.items():
            attribute: Any = attributes.get(name)
            if attribute is None:
                continue
            if not (attribute.is_virtual or status == NEW or name in changes):
                read.append(name)
                if value is not None and not isinstance(attribute, ValueAttribute) and _is_led_to(obj, value):
                    self._number(value)  # it will be found by its key
            elif isinstance(attribute, ValueAttribute):
                values[name] = plain(value)
            elif value is None or _is_led_to(obj, value):
                references[name] = None if value is None else self._number(value)
        return values, references, tuple(read)

    def _collections(self, obj: EntityBase, status: int) -> list[_Collected]:
        found: list[_Collected] = []
        for name, attribute in obj._mapping_.collections.items():
            collection: Collection[Any] | None = obj.__dict__.get(name)
            if collection is None or not (collection.is_loaded or any(collection.contents())):
                continue
            parts = collection.contents()
            items, added = (None if part is None else self._present(part) for part in parts[:2])
            removed: list[int] | None = self._present(item for item in parts[2] if item._state_.has_row)
            links: list[tuple[int, bool]] = []
            if attribute.link is not None:
                links = self._links(obj, attribute, status, [*(items or ()), *(added or ()), *(removed or ())])
                if items is not None:  # what was flushed is as good as loaded, to those who were not there
                    pending = dict(links)
                    added = [number for number in added or () if pending.get(number)]
                    goes = obj._state_.status is Status.MARKED_FOR_DELETION
                    removed = [n for n in removed or () if pending.get(n) is False or goes or n in self._going]
            found.append(_Collected(name, items, added or [], removed or [], links))
        return found

    def _present(self, items: Iterable[EntityBase]) -> list[int]:
        return [self._number(item) for item in items if not _is_gone(item)]

    def _links(
        self, obj: EntityBase, attribute: CollectionAttribute, status: int, numbers: list[int]
    ) -> list[tuple[int, bool]]:
        """Return which links to the objects with *numbers* are to be made (True), or removed."""
        if status == NEW:
            return [(number, True) for number in numbers]
        unit = obj._state_.unit
        if unit is None:
            return []
        found = {number: unit.pending_link(attribute, obj, self._objects[number]) for number in numbers}
        return [(number, add) for number, add in found.items() if add is not None]

    def _number(self, obj: EntityBase) -> int:
        """Return the number of *obj*: from 0 in this graph, below 0 in others."""
        place = self._dump.place(obj)
        assert place is not None  # it was collected
        graph, index = place
        if graph is not self._graph:
            if obj not in self._elsewhere:
                self.elsewhere.append((graph, index))
                self._elsewhere[obj] = -len(self.elsewhere)
            index = self._elsewhere[obj]
        self._objects[index] = obj
        if obj._state_.status is Status.MARKED_FOR_DELETION:
            self._going.add(index)
        return index


def facts(obj: EntityBase) -> tuple[int, tuple[Any, ...], dict[str, bool]]:
    """Return the status of *obj* as copies have it, its row, and which attributes have changed.

    Raises:
        DatabaseSessionIsOver: nobody knows whether it, or what was changed of it, was saved.
        InvalidRequestError: it has an unsaved SQL expression.
    """
    state = obj._state_
    row = obj._row_
    if state.unit is None and state.doubt:
        raise DatabaseSessionIsOver(f"{obj!r} cannot be copied or pickled: {state.doubt}")
    if state.is_new or state.status is Status.TRANSIENT:
        return NEW, _NOTHING, {}
    if isinstance(row, KeyRow):
        return CLEAN, obj._mapping_.hollow_row(row.key), {}
    if not state.has_changes:
        return (UNDONE if state.is_undone else CLEAN), row, {}
    for name, change in obj._changes_.items():
        if isinstance(change, PendingExpression):
            raise InvalidRequestError(
                f"{obj!r} cannot be copied or pickled: {name} has an unsaved SQL expression, whose value only the "
                f"database knows; flush() first"
            )
    return (DIRTY if state.status is Status.DIRTY else MARKED), row, dict(obj._changes_)


# --- in ----------------------------------------------------------------------------------------------


class _Fit:
    """How the rows of a pickle fit the class as it is now: a column that is gone is left out, a new one not loaded."""

    __slots__ = ("_places", "mapping")

    def __init__(self, entity: type[EntityBase], names: list[str], dialect: str) -> None:
        mapping = self.mapping = mapping_of(entity)
        if dialect != mapping.dialect.name:
            raise InvalidRequestError(
                f"a pickle of {mapping.name} comes from a database on {dialect}, and this one is on "
                f"{mapping.dialect.name}: their rows differ; send to_dict() instead, and session.merge() it"
            )
        gone = [column.name for column in mapping.key_columns if column.name not in names]
        if gone:
            raise InvalidRequestError(
                f"a pickle of {mapping.name} lacks {', '.join(gone)}, which is part of the key now: it was made before "
                f"the entity was changed, and is of no use"
            )
        places = {name: index for index, name in enumerate(names)}
        self._places: list[int] | None = [places.get(column.name, len(names)) for column in mapping.columns]
        if self._places == list(range(len(names))):
            self._places = None

    def row(self, row: tuple[Any, ...]) -> tuple[Any, ...]:
        """Return *row*, of the pickle, as the mapping has it; that of a new object is empty."""
        if not row:
            return self.mapping.template
        if self._places is None:
            return row
        wide = (*row, NOT_LOADED)
        return tuple([wide[place] for place in self._places])


def _restore(
    unit: Detached,
    dialect: str,
    kinds: list[tuple[type[EntityBase], list[str]]],
    records: list[_Record],
    elsewhere: list[tuple[list[EntityBase], int]],
) -> list[EntityBase]:
    """Return the objects of a graph.

    Raises:
        InvalidRequestError: the graph comes from a database of another kind, or a key has other columns now.
    """
    fits = [_Fit(entity, names, dialect) for entity, names in kinds]
    objects: list[EntityBase] = [object.__new__(fits[record.kind].mapping.entity) for record in records]

    def numbered(number: int) -> EntityBase:
        if number >= 0:
            return objects[number]
        graph, index = elsewhere[-number - 1]
        return graph[index]

    bare: list[EntityBase] = []
    known: list[EntityBase] = []
    for obj, record in zip(objects, records, strict=True):
        set_row(obj, fits[record.kind].row(record.row))
        set_state(obj, getattr(unit.states, STATES[record.status]))
        if record.more is not None:
            _take_values(obj, record, record.more, numbered)
        (bare if record.status == CLEAN and _is_bare(obj) else known).append(obj)
    for obj in (*known, *bare):  # what has nothing but a key gives way
        _place(obj, unit)
    for graph, index in elsewhere:  # what is linked is of one unit of work
        if graph[index]._state_.unit is not unit:
            with suppress(CacheIndexError):  # both have an object for some row
                unit.take_in(graph[index])
    for obj, record in zip(objects, records, strict=True):
        read_again(obj, record.read)
        if record.more is not None:
            _take_collections(obj, record.more, numbered)
    for obj, record in zip(objects, records, strict=True):
        if record.more is not None:
            _tell(obj, record.status, record.more, numbered)
    return objects


def _place(obj: EntityBase, unit: Detached) -> None:
    """Let *obj* be an object of *unit*, or, where that has one for its row, of a unit of its own."""
    if not unit.place(obj):
        alone = obj._mapping_.gateway.make_detached()
        name = next(name for name in STATES if getattr(unit.states, name) is obj._state_)
        set_state(obj, getattr(alone.states, name))
        alone.place(obj)


def _take_values(obj: EntityBase, record: _Record, more: _More, numbered: Callable[[int], EntityBase]) -> None:
    attributes = obj._mapping_.attributes
    if record.status in {DIRTY, MARKED}:
        set_changes(obj, {name: read for name, read in more.changes.items() if name in attributes})
    values = obj.__dict__
    for name, value in more.values.items():
        attribute = attributes.get(name)
        if isinstance(attribute, ValueAttribute):
            values[name] = attribute.held(obj, value)
    for name, number in more.references.items():
        if name in attributes:
            values[name] = None if number is None else numbered(number)


def read_again(obj: EntityBase, names: Iterable[str]) -> None:
    """Let the attributes *names* count as read, as far as they are loaded."""
    attributes, row = obj._mapping_.attributes, obj._row_
    for name in names:
        attribute = attributes.get(name)
        if attribute is not None and all(row[column.position] is not NOT_LOADED for column in attribute.columns):
            getattr(obj, name)


def _take_collections(obj: EntityBase, more: _More, numbered: Callable[[int], EntityBase]) -> None:
    for name, items, added, removed, _ in more.collections:
        attribute = obj._mapping_.collections.get(name)
        if attribute is None:
            continue
        parts = [None if part is None else dict.fromkeys(map(numbered, part)) for part in (items, added, removed)]
        attribute.of(obj).put_back_all((parts[0], parts[1] or {}, parts[2] or {}))


def _tell(obj: EntityBase, status: int, more: _More, numbered: Callable[[int], EntityBase]) -> None:
    """Note the unsaved links of *obj*, and tell the other ends of what is transient, which may not have known it."""
    unit: Any = obj._state_.unit
    for name, items, _, _, links in more.collections:
        attribute = obj._mapping_.collections.get(name)
        if attribute is None or attribute.link is None:
            continue
        for number, add in links:
            item = numbered(number)
            unit.link_changed(attribute, obj, item, add=add, known=items is not None)
            if status == NEW:
                attribute.reverse.of(item).note_added(obj, unit)
    if status != NEW:
        return
    for reference in obj._mapping_.reference_attributes:
        target = obj.__dict__.get(reference.name)
        if target is not None and not reference.is_virtual and target._state_.unit is unit:
            reference.tell(obj, None, target, unit)
