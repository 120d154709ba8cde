"""One DELETE for many rows, and what follows from it for the objects in memory.

The statement answers with the keys of the rows that it has deleted, if there are objects in memory that may go
with them. From there the objects follow the references as the database does: those whose reference has ON DELETE
CASCADE are deleted, others refer to nothing. Where a row between two of them is not in memory nobody knows; what is
in doubt is loaded again when it is needed. Everything else stays as it is.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from dbsession.backends.flow import Flow
from dbsession.model.collections import Collection, CollectionAttribute
from dbsession.model.entity import EntityBase
from dbsession.model.mapping import Mapping
from dbsession.model.references import ReferenceAttribute
from dbsession.model.state import NOT_LOADED, Status, set_row
from dbsession.query.selected import Selected
from dbsession.query.sql.changing import compile_delete
from dbsession.session.bulk import key_in, require_writable, saved_objects, send
from dbsession.session.changes import unsaved

if TYPE_CHECKING:
    from dbsession.session.unit_of_work import UnitOfWork

__all__ = ["delete_in_bulk"]

_Row = tuple[Mapping, Any]  # the table and the key


class _Reach(NamedTuple):
    """What a DELETE in one table can do to others."""

    references: frozenset[ReferenceAttribute]  # which the database follows
    losing: frozenset[Mapping]  # the tables that rows may go from, itself among them
    cascaded: frozenset[Mapping]  # those that rows may go from by a reference


def delete_in_bulk(unit: UnitOfWork, selected: Selected, values: tuple[Any, ...]) -> Flow[int]:
    """Delete with one statement; objects in memory whose rows go with it are deleted, too."""
    mapping = selected.mapping
    require_writable(unit, f"delete {mapping.name} in bulk")
    compiled = compile_delete(selected)
    tables = _tables(_reach(mapping.root)) | {mapping.root}
    # What is unsaved may be to go with the others.
    yield from unit.autoflush_for(mapping, *compiled.tables, *tables, comparing=compiled.objects(values))
    is_watched = unit.identity.is_watched or any(unit.identity.alive(table) for table in tables)
    returned = mapping.key_columns if is_watched else ()
    result = yield from send(unit, mapping, compiled.sql, compiled.bind(values), returned, doing="deleting")
    if not is_watched:
        return result.rowcount
    keys = [key_in(row, mapping) for row in result.rows]
    unit.identity.note_left(mapping, keys)
    _follow(unit, mapping.root, keys)
    return len(keys)


def _reach(root: Mapping) -> _Reach:
    known: _Reach | None = root.sql.get("reach of a delete")
    if known is None:
        references: set[ReferenceAttribute] = set()
        cascaded: set[Mapping] = set()
        todo = [root]
        while todo:
            for attribute in [reference for member in todo.pop().family() for reference in member.references_here]:
                if attribute.dies_with_target and attribute.mapping.root not in cascaded:
                    cascaded.add(attribute.mapping.root)
                    todo.append(attribute.mapping.root)
                if attribute.dies_with_target or not attribute.is_required:
                    references.add(attribute)
        known = _Reach(frozenset(references), frozenset({root, *cascaded}), frozenset(cascaded))
        root.sql["reach of a delete"] = known
    return known


def _tables(reach: _Reach) -> set[Mapping]:
    """Return the tables whose rows a DELETE may change or take with it by references."""
    return {attribute.mapping.root for attribute in reach.references}


def _follow(unit: UnitOfWork, root: Mapping, keys: list[Any]) -> None:
    """Let the objects in memory follow the rows of *root* with *keys*, which are deleted."""
    fate = _Fate(unit, root)
    fate.follow_deleted([(root, key) for key in keys])
    fate.follow_doubts()
    lost = [obj for obj in fate.lost if obj not in fate.gone and obj._state_.status is Status.CLEAN]
    nulled = {obj: names for obj, names in fate.nulled.items() if obj not in fate.gone}
    unclear = {obj: names for obj, names in fate.unclear.items() if obj not in fate.gone}
    unit.remember([*fate.gone, *dict.fromkeys([*lost, *nulled, *unclear])])
    if fate.gone or lost:
        _forget_ends(unit, fate.gone, set(lost))
    for obj in fate.gone:
        unit.forget_unsaved(obj)
        unit.deleted_now(obj)
    for obj, names in nulled.items():
        _set(obj, names, None)
    for obj, names in unclear.items():
        _set(obj, names, NOT_LOADED)
        unit.identity.hollow_of(obj._mapping_)[obj._key_] = obj
    for obj in lost:
        unit.forget_row(obj)


def _set(obj: EntityBase, names: list[str], raw: Any) -> None:
    """Let the references *names* of *obj* hold *raw*; what is unsaved stays."""
    row = list(obj._row_)
    changes = unsaved(obj)
    for name in names:
        attribute: Any = obj._mapping_.attributes[name]
        for place in attribute.positions:
            row[place] = raw
    set_row(obj, tuple(row))
    for name in names:
        if name in obj.__dict__ and name not in changes:
            del obj.__dict__[name]
            if raw is None:
                obj.__dict__[name] = None


class _Fate:
    """What becomes of the objects in memory: looks only, and changes nothing."""

    def __init__(self, unit: UnitOfWork, root: Mapping) -> None:
        self.gone: dict[EntityBase, None] = {}
        self.lost: dict[EntityBase, None] = {}  # may be gone
        self.nulled: dict[EntityBase, list[str]] = {}  # by the names of attributes that refer to nothing now
        self.unclear: dict[EntityBase, list[str]] = {}  # ... or perhaps to nothing
        self._reach = _reach(root)
        self._objects = {table: saved_objects(unit, table) for table in {*self._reach.losing, *_tables(self._reach)}}
        self._children: dict[_Row, list[tuple[EntityBase, ReferenceAttribute]]] = {}
        self._orphans: list[tuple[EntityBase, ReferenceAttribute]] = []  # whose parent is not in memory
        for table in _tables(self._reach):
            for obj in self._objects[table].values():
                self._look_at(obj)

    def _look_at(self, obj: EntityBase) -> None:
        reach = self._reach
        for attribute in obj._mapping_.reference_attributes:
            if attribute.is_virtual or attribute.target.root not in reach.losing:
                continue
            if attribute.is_required and not attribute.dies_with_target:
                continue  # the database would have refused
            parents = attribute.target.root
            key = attribute.key_in(obj._row_)
            if key is NOT_LOADED:
                self._orphans.append((obj, attribute))
            elif key is not None:
                self._children.setdefault((parents, key), []).append((obj, attribute))
                if parents in reach.cascaded and key not in self._objects[parents]:
                    self._orphans.append((obj, attribute))

    def follow_deleted(self, rows: list[_Row]) -> None:
        """Follow the references to *rows*, which are deleted."""
        seen = set(rows)
        todo = list(rows)
        while todo:
            table, key = todo.pop()
            obj = self._objects[table].get(key)
            if obj is not None:
                self.gone[obj] = None
            for child, attribute in self._children.get((table, key), ()):
                if not attribute.dies_with_target:
                    self.nulled.setdefault(child, []).append(attribute.name)
                    continue
                row = (child._mapping_.root, child._key_)
                if row not in seen:
                    seen.add(row)
                    todo.append(row)

    def follow_doubts(self) -> None:
        """Follow the references to what may be deleted or not."""
        todo: list[tuple[EntityBase, ReferenceAttribute]] = list(self._orphans)
        while todo:
            obj, attribute = todo.pop()
            if obj in self.gone or attribute.name in self.nulled.get(obj, ()):
                continue
            if not attribute.dies_with_target:
                if attribute.key_in(obj._row_) is not NOT_LOADED:
                    self.unclear.setdefault(obj, []).append(attribute.name)
            elif obj not in self.lost:
                self.lost[obj] = None
                todo += self._children.get((obj._mapping_.root, obj._key_), ())


def _forget_ends(unit: UnitOfWork, gone: dict[EntityBase, None], lost: set[EntityBase]) -> None:
    """Let the ends of relations that have no column do without those *gone*; load those with *lost* ones again."""
    tables = {obj._mapping_.root for obj in (*gone, *lost)}
    for obj in unit.identity:
        for name, value in list(obj.__dict__.items()):
            attribute = obj._mapping_.member(name)
            if attribute is None or not attribute.is_virtual or attribute.target.root not in tables:
                continue
            if isinstance(attribute, CollectionAttribute):
                _forget_items(unit, value, gone, lost)
            elif value in gone or value in lost:
                unit.back_reference_changing(obj, attribute)
                if value in gone:
                    obj.__dict__[name] = None
                else:
                    del obj.__dict__[name]


def _forget_items(
    unit: UnitOfWork, collection: Collection[Any], gone: dict[EntityBase, None], lost: set[EntityBase]
) -> None:
    known = collection.known
    for item in known:
        if item in gone:
            collection.note_removed(item, unit)
    if collection.is_loaded and not lost.isdisjoint(known):
        if unit.savepoint is not None:
            unit.savepoint.filling(collection)
        collection.forget()
