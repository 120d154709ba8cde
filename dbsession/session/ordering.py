"""The order of a flush: parents before children, values freed before they are taken, then by key.

Usually the numbers that tables were given (`Mapping.rank`) are the whole story: inserts by table,
updates by table and key, deletes by table from the last to the first. Two cases need to look at the
objects: tables that refer to each other in a circle (trees, above all), and a unique value that one
row gives up and another one takes in the same flush. Then the operations form a graph, which is
sorted with the usual order as the tie-break. A circle in the graph is broken where a column may be
NULL for a while; where none may, `UnresolvableCyclicDependency` names the circle.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable
from enum import IntEnum
from typing import Any, NamedTuple

from dbsession.errors import UnresolvableCyclicDependency
from dbsession.model.attributes import PendingExpression
from dbsession.model.entity import EntityBase
from dbsession.model.mapping import Mapping
from dbsession.model.references import ReferenceAttribute
from dbsession.model.state import NOT_LOADED, UNSET, Status
from dbsession.session.changes import raw_value

__all__ = ["Action", "Operation", "Pending", "Run", "frees_values", "in_order"]


class Action(IntEnum):
    """What is done to a row; the numbers are the usual order."""

    VACATE = 0  # set unique columns to NULL, so that another row can take their values
    INSERT = 1
    UPDATE = 2
    DELETE = 3


class Operation(NamedTuple):
    """One thing to do to one row. `names` are the attributes that a VACATE empties, or an INSERT leaves NULL."""

    action: Action
    obj: EntityBase
    names: tuple[str, ...] = ()


class Run(NamedTuple):
    """The same thing to do to several rows of one hierarchy of entities, one after the other."""

    action: Action
    objects: list[EntityBase]
    names: tuple[str, ...] = ()


class Pending(NamedTuple):
    """The unsaved objects of a unit of work."""

    new: list[EntityBase]
    dirty: list[EntityBase]
    deleted: list[EntityBase]

    def __bool__(self) -> bool:
        return bool(self.new or self.dirty or self.deleted)


_Group = tuple[str, ...]
_Value = tuple[Mapping, _Group, tuple[Any, ...]]


def in_order(pending: Pending) -> list[Run]:
    """Return what saves *pending*, in the order in which it has to be sent."""
    usual = _usual_order(pending)
    freed = _freed(pending)
    if not freed and not any(run.objects[0]._mapping_.refers_to_itself for run in usual):
        return usual
    operations = [Operation(run.action, obj) for run in usual for obj in run.objects]
    return _as_runs(_Graph(operations, freed).sorted())


def frees_values(pending: Pending) -> bool:
    """Tell whether saving *pending* gives up a unique value, a key among them."""
    return bool(_freed(pending))


def _usual_order(pending: Pending) -> list[Run]:
    return [
        *[Run(Action.INSERT, objects) for objects in _by_table(pending.new, known_keys=False)],
        *[Run(Action.UPDATE, objects) for objects in _by_table(pending.dirty)],
        *[Run(Action.DELETE, objects) for objects in _by_table(pending.deleted, reverse=True)],
    ]


def _as_runs(operations: list[Operation]) -> list[Run]:
    runs: list[Run] = []
    for action, obj, names in operations:
        last = runs[-1] if runs else None
        alike = last is not None and last.action is action and not names and not last.names
        if last is not None and alike and last.objects[0]._mapping_.root is obj._mapping_.root:
            last.objects.append(obj)
        else:
            runs.append(Run(action, [obj], names))
    return runs


def _by_table(
    objects: list[EntityBase], *, known_keys: bool = True, reverse: bool = False
) -> Iterable[list[EntityBase]]:
    if not objects:
        return
    tables: dict[Mapping, list[EntityBase]] = {}
    for obj in objects:
        root = obj._mapping_.root
        if root in tables:
            tables[root].append(obj)
        else:
            tables[root] = [obj]
    for root in sorted(tables, key=lambda mapping: (mapping.rank, mapping.name), reverse=reverse):
        members = tables[root]
        if len(members) > 1:
            if known_keys:
                _sort_by_key(root, members)
            elif root.auto_column is None:  # else the new objects keep the order in which they were made
                members.sort(key=_sortable_key)
        yield members


def _sort_by_key(root: Mapping, members: list[EntityBase]) -> None:
    """Sort saved objects by the keys that their rows have."""
    key_of = root.key_of
    members.sort(key=lambda obj: key_of(obj._row_))


def _sortable_key(obj: EntityBase) -> Any:
    key = obj._key_
    if key is None:  # all of it, or the part that a new object will have
        return (True, ())
    parts = key if isinstance(key, tuple) else (key,)
    return (False, tuple([(part is None, type(part).__name__, part) for part in parts]))


# --- unique values ---------------------------------------------------------------------------------


def _groups(mapping: Mapping) -> list[_Group]:
    """Return the groups of attributes that are unique together, the key among them."""
    groups: list[_Group] | None = mapping.sql.get("unique groups")
    if groups is None:
        groups = [tuple([part.name for part in mapping.key])]
        for attribute in mapping.attributes.values():
            one_to_one = isinstance(attribute, ReferenceAttribute) and isinstance(attribute.reverse, ReferenceAttribute)
            if (attribute.is_unique or one_to_one) and not attribute.is_virtual:
                groups.append((attribute.name,))
        groups += [
            tuple([part.name for part in parts]) for composite, parts in mapping.composites if composite.is_unique
        ]
        mapping.sql["unique groups"] = groups
    return groups


def _unique_names(mapping: Mapping) -> frozenset[str]:
    """Return the attributes that are part of anything unique."""
    names: frozenset[str] | None = mapping.sql.get("unique names")
    if names is None:
        names = mapping.sql["unique names"] = frozenset(name for group in _groups(mapping) for name in group)
    return names


def _row_value(obj: EntityBase, group: _Group) -> _Value | None:
    """Return what the row of *obj* holds of *group* in the database."""
    attributes = obj._mapping_.attributes
    changes: dict[str, Any] = obj._changes_ if obj._state_.status is Status.DIRTY else {}
    values: list[Any] = []
    for name in group:
        pending = changes.get(name)
        if isinstance(pending, PendingExpression):
            values.append(pending.raw)
        else:
            values += [obj._row_[column.position] for column in attributes[name].columns]
    return None if None in values else (obj._mapping_.root, group, tuple(values))


def _new_value(obj: EntityBase, group: _Group) -> _Value | None:
    """Return what the row of *obj* will hold of *group*; None where that cannot clash."""
    values: list[Any] = []
    for name in group:
        attribute = obj._mapping_.attributes[name]
        if obj._state_.is_new and obj.__dict__.get(name, UNSET) is UNSET:
            return None  # the database makes it
        raw = raw_value(obj, attribute)
        values += raw if isinstance(raw, tuple) else (raw,)
    return None if None in values else (obj._mapping_.root, group, tuple(values))


def _freed(pending: Pending) -> dict[_Value, list[Operation]]:
    """Return the unique values that this flush gives up, and the operations that do; () stands for values not known."""
    freed: dict[_Value, list[Operation]] = {}
    moving = [obj for obj in pending.dirty if not _unique_names(obj._mapping_).isdisjoint(obj._changes_)]
    if not pending.new and not moving:
        return freed  # and nobody takes any
    for obj in pending.deleted:
        for group in _groups(obj._mapping_):
            _free(freed, Operation(Action.DELETE, obj), _row_value(obj, group))
    for obj in moving:
        for group in _groups(obj._mapping_):
            if not obj._changes_.keys().isdisjoint(group):
                value = _row_value(obj, group)
                if value != _new_value(obj, group):
                    _free(freed, Operation(Action.UPDATE, obj), value)
    return freed


def _free(freed: dict[_Value, list[Operation]], giver: Operation, value: _Value | None) -> None:
    if value is not None and NOT_LOADED in value[2]:
        freed.setdefault((*value[:2], ()), []).append(giver)
    elif value is not None:
        freed[value] = [giver]


def _changes_key(obj: EntityBase) -> bool:
    return not obj._changes_.keys().isdisjoint([part.name for part in obj._mapping_.key])


# --- the graph ---------------------------------------------------------------------------------------


class _Graph:
    """Operations, and which has to wait for which."""

    def __init__(self, usual: list[Operation], freed: dict[_Value, list[Operation]]) -> None:
        self.operations = list(usual)
        self.number = {(operation.action, id(operation.obj)): index for index, operation in enumerate(usual)}
        self.waits: list[set[int]] = [set() for _ in usual]  # for each operation, those that come before it
        self.deleted = {
            (operation.obj._mapping_.root, operation.obj._key_): index
            for index, operation in enumerate(usual)
            if operation.action is Action.DELETE
        }
        self.rekeyed = {
            (operation.obj._mapping_.root, operation.obj._mapping_.key_of(operation.obj._row_)): index
            for index, operation in enumerate(usual)
            if operation.action is Action.UPDATE and _changes_key(operation.obj)
        }
        # how an edge can be taken away: by leaving attributes NULL for a while; no way if one of its reasons has none
        self.breakable: dict[tuple[int, int], Operation | None] = {}
        self.reasons: dict[tuple[int, int], list[str]] = {}  # the attributes that demand the order
        for index, operation in enumerate(usual):
            self._add_references(index, operation)
            if freed and operation.action is not Action.DELETE:
                self._add_uniques(index, operation, freed)

    def _add_references(self, index: int, operation: Operation) -> None:
        obj = operation.obj
        changes: dict[str, Any] = obj._changes_ if obj._state_.status is Status.DIRTY else {}
        for attribute in obj._mapping_.reference_attributes:
            if attribute.is_virtual:
                continue
            if operation.action is not Action.INSERT:
                parent = self.deleted.get((attribute.target.root, attribute.key_in(obj._row_)))
                if parent is not None and parent != index:
                    # The database may set it NULL by itself, but must not take the row along.
                    is_set_null = operation.action is Action.DELETE and not attribute.dies_with_target
                    action = Action.DELETE if is_set_null else Action.VACATE
                    way_out = Operation(action, obj, (attribute.name,)) if attribute.nullable else None
                    self._wait(parent, index, [repr(attribute)], way_out)
            if self.rekeyed and (operation.action is Action.DELETE or attribute.name in changes):
                parent = self.rekeyed.get((attribute.target.root, attribute.key_in(obj._row_)))
                if parent is not None and parent != index:
                    way_out = Operation(Action.VACATE, obj, (attribute.name,)) if attribute.nullable else None
                    self._wait(parent, index, [repr(attribute)], way_out)
            if operation.action is Action.INSERT or (operation.action is Action.UPDATE and attribute.name in changes):
                target = obj.__dict__.get(attribute.name)
                before = self.number.get((Action.INSERT, id(target)))
                if before is not None:
                    can_wait = attribute.nullable and operation.action is Action.INSERT
                    way_out = Operation(Action.INSERT, obj, (attribute.name,)) if can_wait else None
                    self._wait(index, before, [repr(attribute)], way_out)

    def _wait(self, index: int, before: int, reasons: list[str], way_out: Operation | None) -> None:
        """Let *index* wait for *before*, unless *way_out* (if there is one) is taken."""
        self.waits[index].add(before)
        self.reasons.setdefault((before, index), []).extend(reasons)
        if (before, index) in self.breakable:
            known = self.breakable[before, index]
            if known is not None and way_out is not None:
                way_out = way_out._replace(names=tuple(dict.fromkeys((*known.names, *way_out.names))))
            else:
                way_out = None
        self.breakable[before, index] = way_out

    def _add_uniques(self, index: int, operation: Operation, freed: dict[_Value, list[Operation]]) -> None:
        obj = operation.obj
        for group in _groups(obj._mapping_):
            value = _new_value(obj, group)
            if value is None:
                continue
            unknown = freed.get((*value[:2], ()), [])
            for giver in [*freed.get(value, ()), *unknown]:
                if giver.obj is obj:
                    continue
                nullable = [name for name in group if giver.obj._mapping_.attributes[name].nullable][:1]
                way_out = Operation(Action.VACATE, giver.obj, tuple(nullable))
                reasons = [f"{giver.obj._mapping_.name}.{name}" for name in group]
                # That somebody might have the value is no reason to refuse a circle.
                can_wait = bool(nullable) or giver in unknown
                self._wait(index, self.number[giver.action, id(giver.obj)], reasons, way_out if can_wait else None)

    def sorted(self) -> list[Operation]:
        """Sort by level, then in the usual order, breaking circles where that is possible.

        A level is what one batch can carry: behind it stands what needs the keys that the database makes in it.
        """
        waits = [set(before) for before in self.waits]
        levels = [0] * len(waits)
        followers: dict[int, list[int]] = {}
        for index, before in enumerate(waits):
            for other in before:
                followers.setdefault(other, []).append(index)
        ready = [(0, index) for index, before in enumerate(waits) if not before]
        done: list[Operation] = []
        left = set(range(len(self.operations)))
        first: dict[int, Operation] = {}
        last: dict[int, Operation] = {}
        while left:
            while not ready:  # what is left of one circle may be part of another
                self._break(waits, left, first, last)
                ready = sorted((levels[index], index) for index in left if not waits[index])
            level, index = heapq.heappop(ready)
            left.discard(index)
            action, obj, _ = operation = self.operations[index]
            done.append(operation)
            behind = level + 1 if action is Action.INSERT and obj._key_ is None else level
            for follower in followers.get(index, ()):
                if index in waits[follower]:
                    waits[follower].discard(index)
                    levels[follower] = max(levels[follower], behind)
                    if not waits[follower]:
                        heapq.heappush(ready, (levels[follower], follower))
        return [*first.values(), *done, *last.values()]

    def _break(
        self, waits: list[set[int]], left: set[int], first: dict[int, Operation], last: dict[int, Operation]
    ) -> None:
        """Take one edge of a circle away, by leaving a column NULL for a while."""
        circle = self._circle(waits, left)
        pairs = list(zip(circle, [*circle[1:], circle[0]], strict=True))
        for before, after in pairs:
            way_out = self.breakable.get((before, after))
            if way_out is None:
                continue
            waits[after].discard(before)
            if way_out.action is Action.VACATE:
                known = first.get(id(way_out.obj), way_out)
                names = tuple(dict.fromkeys((*known.names, *way_out.names)))
                if names:
                    first[id(way_out.obj)] = way_out._replace(names=names)
            elif way_out.action is Action.INSERT:
                operation = self.operations[after]
                self.operations[after] = operation._replace(names=(*operation.names, *way_out.names))
                last[id(way_out.obj)] = Operation(Action.UPDATE, way_out.obj)
            else:
                operation = self.operations[before]
                self.operations[before] = operation._replace(names=(*operation.names, *way_out.names))
            return
        steps = [f"{self.operations[index].action.name.lower()} {self.operations[index].obj!r}" for index in circle]
        columns = sorted({name for pair in pairs for name in self.reasons[pair]})
        raise UnresolvableCyclicDependency(
            f"cannot save a circle: {' -> '.join([*steps, steps[0]])}; each has to come before the next, because of "
            f"{', '.join(columns)}. Make one of these columns nullable, or flush() in between with a temporary value"
        )

    @staticmethod
    def _circle(waits: list[set[int]], left: set[int]) -> list[int]:
        """Return a circle, each member of which has to come before the next."""
        path: list[int] = []
        seen: dict[int, int] = {}
        index = min(left)
        while index not in seen:
            seen[index] = len(path)
            path.append(index)
            index = min(waits[index])
        return path[seen[index] :][::-1]
