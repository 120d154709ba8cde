"""One UPDATE for many rows, and what the objects in memory make of it.

The statement answers with the keys of the rows that it has changed, and with what the database has worked
out, if there are objects of the table in memory. These take the new values: what was read is read again, and later
checks compare with what this UPDATE has left. Collections and the ends of one-to-one relations follow as they do
when a single object is assigned; a row that is not in memory makes the collection that it came to be loaded again.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from enum import Enum
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn

from dbsession.backends.flow import Flow
from dbsession.backends.statements import Row
from dbsession.errors import ConstraintError
from dbsession.model.attributes import Attribute, PendingExpression, ValueAttribute
from dbsession.model.collections import Collection, CollectionAttribute
from dbsession.model.entity import EntityBase
from dbsession.model.expressions import Expression, Operation
from dbsession.model.mapping import Column, Mapping
from dbsession.model.references import ReferenceAttribute
from dbsession.model.registration import suggest
from dbsession.model.state import NOT_LOADED, UNSET, set_row
from dbsession.model.tracked import same_raw
from dbsession.query.kinds import kind_of
from dbsession.query.selected import Selected
from dbsession.query.sql.changing import Shifted, compile_update
from dbsession.query.values import key_of
from dbsession.session.bulk import key_in, require_writable, saved_objects, send
from dbsession.session.changes import spread, unsaved

if TYPE_CHECKING:
    from dbsession.session.unit_of_work import UnitOfWork

__all__ = ["Assignment", "checked", "update_in_bulk"]


class Assignment(NamedTuple):
    """An attribute and its new value: an expression, an object, or what travels, one value for each column."""

    attribute: Attribute[Any]
    value: Any

    def raw(self) -> tuple[Any, ...] | None:
        """Return the value as it travels; the key of an object is known by now. None: the database works it out."""
        if isinstance(self.value, Expression):
            return None
        return self.value if isinstance(self.value, tuple) else spread(self.attribute, key_of(self.value))


# --- what may be assigned -------------------------------------------------------------------------


def checked(unit: UnitOfWork, mapping: Mapping, values: dict[str, Any], *, bump_version: bool) -> list[Assignment]:
    """Return *values*, of attributes by their names, as they are to be set; nothing is sent.

    Raises:
        TypeError: an attribute does not exist, or cannot be set in bulk.
        TypeError, ValueError: a value does not fit its attribute.
    """
    require_writable(unit, f"update {mapping.name} in bulk")
    if not values:
        raise TypeError(f'update() takes what to set, such as {mapping.name}.select().update(name="x")')
    found = [_assignment(unit, mapping, name, value) for name, value in values.items()]
    if bump_version:
        version = mapping.version
        if version is None:
            raise TypeError(f"bump_version=True: {mapping.name} has no Version")
        found.append(Assignment(version, Operation("+", version, 1)))
    return found


def _assignment(unit: UnitOfWork, mapping: Mapping, name: str, value: Any) -> Assignment:
    attribute = mapping.attributes.get(name)
    if attribute is None:
        _refuse_name(mapping, name)
    kind = mapping.root.discriminator
    if attribute.is_key:
        raise TypeError(
            f"{attribute!r} is part of the key, which objects are known by, and cannot be set in bulk; assign it to "
            f"one object after the other"
        )
    if kind is not None and name == kind.name:
        raise TypeError(f"{attribute!r} says which entity a row is, and cannot be changed")
    if attribute is mapping.version:
        raise TypeError(f"{attribute!r} counts changes, and cannot be set; update(..., bump_version=True) counts it up")
    if isinstance(attribute, ReferenceAttribute):
        return Assignment(attribute, _referred(unit, attribute, value))
    assert isinstance(attribute, ValueAttribute)
    if isinstance(value, Expression):
        return Assignment(attribute, _fitting(attribute, value))
    return Assignment(attribute, (attribute.raw(attribute.coerce(value)),))


def _fitting(attribute: Attribute[Any], expression: Expression[Any]) -> Expression[Any]:
    """Return *expression*, or raise TypeError if its values are of a kind that *attribute* does not take."""
    wanted, found = kind_of(attribute), kind_of(expression.node if isinstance(expression, Shifted) else expression)
    if found.python is None or found.python == wanted.python:
        return expression
    if isinstance(wanted.python, Mapping) and isinstance(found.python, Mapping):
        if wanted.python.root is found.python.root:
            return expression
    elif found.is_number and wanted.is_number and wanted.python is not int:
        return expression
    elif isinstance(wanted.python, type) and issubclass(wanted.python, Enum):
        values = attribute.kind.value_type.python if isinstance(attribute, ValueAttribute) else None
        if found.python is values:
            return expression
    raise TypeError(f"{attribute!r} is {wanted.name}, and cannot be set to {expression!r}, which is {found.name}")


def _refuse_name(mapping: Mapping, name: str) -> NoReturn:
    collection = mapping.collections.get(name)
    if collection is None:
        owner = next((member for member in mapping.family() if name in member.attributes), None)
        hint = f"; query {owner.name} for it" if owner is not None else suggest(name, mapping.attributes)
        raise TypeError(f"unexpected attribute {name!r} of {mapping.name}{hint}")
    if isinstance(collection.reverse, CollectionAttribute):
        way_out = "add to it, or remove from it, object by object"
    else:
        way_out = f"update {collection.reverse!r} instead"
    raise TypeError(f"{collection!r} is a collection, which has no column, and cannot be set in bulk; {way_out}")


def _referred(unit: UnitOfWork, attribute: ReferenceAttribute, value: Any) -> Any:
    """Return what *attribute* is to refer to: an object, a key as it travels, or another reference of the row."""
    if attribute.is_virtual:
        raise TypeError(
            f"{attribute!r} has no column, since {attribute.reverse!r} has it, and cannot be set in bulk; update "
            f"{attribute.target.name} instead"
        )
    if attribute.reverse.reverse is attribute.reverse:
        raise TypeError(
            f"{attribute!r} is its own reverse: in bulk, only one end of each pair would change; assign it to one "
            f"object after the other"
        )
    if isinstance(value, Expression):
        return _fitting(attribute, value)
    if isinstance(value, attribute.target.entity) and value._state_.unit is not unit:
        why = value._state_.why_stranger(f"{type(value).__name__}[key]")
        raise ConstraintError(f"{attribute!r} cannot refer to {value!r}{why}")
    target = attribute.coerce(None, unit, value)
    if target is None:
        return spread(attribute, None)
    return attribute.coerce(None, unit, target)  # found by its key, it may be one that was deleted


# --- the statement --------------------------------------------------------------------------------


def update_in_bulk(
    unit: UnitOfWork, selected: Selected, values: tuple[Any, ...], assignments: list[Assignment]
) -> Flow[int]:
    """Change the rows of *selected* with one statement; objects in memory whose rows it changes take the new values."""
    mapping = selected.mapping
    compiled = compile_update(selected, assignments)
    moved = [each.attribute.target for each in assignments if isinstance(each.attribute, ReferenceAttribute)]
    tables = (mapping, *compiled.tables, *(moved if unit.moves_keys else ()))
    yield from unit.autoflush_for(*tables, comparing=compiled.objects(values))
    objects = saved_objects(unit, mapping)
    news = _News(mapping, [(each.attribute, each.raw()) for each in assignments], objects.values())
    returned = news.returned if objects else ()
    result = yield from send(unit, mapping, compiled.sql, compiled.bind(values), returned, doing="updating")
    count = len(result.rows) if returned else result.rowcount
    rows = news.as_stored(result.rows) if returned else []
    known = [(objects.get(key_in(row, mapping)), row) for row in rows]
    matched = [(obj, row) for obj, row in known if obj is not None]
    unit.remember([obj for obj, _ in matched])
    references = [each.attribute for each in assignments if isinstance(each.attribute, ReferenceAttribute)]
    moves = [_Moves(news, attribute, known, count) for attribute in references]
    for obj, row in matched:
        _take(unit, obj, news.spots(obj._mapping_), row)
    unit.hold([obj for obj, _ in matched], news.places)
    for move in moves:
        move.tell(unit)
    return count


class _Spot(NamedTuple):
    """Where the new value of an attribute is: in *raw*, or in the columns *places* of the reply; else nobody knows."""

    attribute: Attribute[Any]
    raw: tuple[Any, ...] | None
    places: tuple[int, ...] | None

    def value(self, row: Row) -> tuple[Any, ...] | None:
        """Return the new value, as it travels, of the object that *row* came back for; None: it is to be loaded."""
        return self.raw if self.places is None else tuple([row[place] for place in self.places])


class _News:
    """What the UPDATE changes, and which columns it has to answer with."""

    def __init__(
        self,
        mapping: Mapping,
        assigned: Sequence[tuple[Attribute[Any], tuple[Any, ...] | None]],
        objects: Iterable[EntityBase],
    ) -> None:
        self.mapping = mapping
        self._assigned = {attribute.name: value for attribute, value in assigned}
        wanted: dict[str, Column] = {}
        for attribute, value in assigned:
            if value is None:
                wanted.update({column.name: column for column in attribute.columns})
        if mapping.dialect.returns_what_triggers_made:
            for member in mapping.family():
                wanted.update({column.name: column for column in member.columns if column.attribute.is_volatile})
        lazy = {name for name, column in wanted.items() if column.attribute.is_lazy}
        if lazy:  # large, perhaps, and of no use where nobody has loaded them
            lazy -= {name for obj in objects for name in lazy if _has_loaded(obj, name)}
        columns = [column for name, column in wanted.items() if name not in lazy and not column.is_key]
        self.returned = (*mapping.key_columns, *columns)
        self._index = {column.name: place for place, column in enumerate(self.returned)}
        is_sqlite = mapping.dialect.name == "sqlite"
        self._reals = [place for place, c in enumerate(self.returned) if is_sqlite and c.sql_type == "REAL"]
        self._spots: dict[Mapping, list[_Spot]] = {}
        self.places = tuple([column.position for attribute, _ in assigned for column in attribute.columns])

    def as_stored(self, rows: list[Any]) -> list[Any]:
        """Return *rows* as a SELECT would give them: RETURNING of SQLite gives the int 0 for a stored 0.0."""
        if not self._reals:
            return rows
        made = [list(row) for row in rows]
        for row in made:
            for place in self._reals:
                row[place] = None if row[place] is None else float(row[place])
        return [tuple(row) for row in made]

    def spot(self, attribute: Attribute[Any]) -> _Spot | None:
        """Return where *attribute* gets its new value; None: it keeps the old one."""
        is_changed = attribute.name in self._assigned or attribute.is_volatile
        if attribute.is_virtual or attribute.is_key or not is_changed:
            return None
        if all(column.name in self._index for column in attribute.columns):
            return _Spot(attribute, None, tuple([self._index[column.name] for column in attribute.columns]))
        return _Spot(attribute, None if attribute.is_volatile else self._assigned[attribute.name], None)

    def spots(self, mapping: Mapping) -> list[_Spot]:
        """Return what changes in the objects of *mapping*, which may know more or less than the entity of the query."""
        found = self._spots.get(mapping)
        if found is None:
            found = [spot for each in mapping.attributes.values() if (spot := self.spot(each)) is not None]
            self._spots[mapping] = found
        return found


def _has_loaded(obj: EntityBase, name: str) -> bool:
    column = next((column for column in obj._mapping_.columns if column.name == name), None)
    return column is not None and (obj._row_[column.position] is not NOT_LOADED or obj._state_.has_changes)


# --- what objects make of it ----------------------------------------------------------------------


def _take(unit: UnitOfWork, obj: EntityBase, spots: list[_Spot], row: Row) -> None:
    """Let *obj* have what its row has now; what is not loaded of it stays so, what is unsaved as well."""
    changes = unsaved(obj)
    values = list(obj._row_)
    stale: list[tuple[str, bool]] = []
    for spot in spots:
        attribute = spot.attribute
        name, new = attribute.name, spot.value(row)
        change = changes.get(name, UNSET)
        if isinstance(change, PendingExpression):
            if change.raw is not NOT_LOADED:
                changes[name] = change._replace(raw=NOT_LOADED if new is None else new[0])
            continue
        old = [values[column.position] for column in attribute.columns]
        if any(part is NOT_LOADED for part in old) or (new is not None and _is_same(attribute, old, new)):
            continue
        for column, part in zip(attribute.columns, new or (NOT_LOADED,) * len(old), strict=True):
            values[column.position] = part
        if change is UNSET:
            stale.append((name, new is not None))
    set_row(obj, tuple(values))
    for name, is_known in stale:
        if name in obj.__dict__:
            del obj.__dict__[name]
            if is_known:
                getattr(obj, name)  # it was read, so it counts as read with the value that this session has given it
        if not is_known and obj._mapping_.is_hollow(obj._row_):
            unit.identity.hollow_of(obj._mapping_)[obj._key_] = obj  # loaded with all of its like


def _is_same(attribute: Attribute[Any], old: list[Any], new: tuple[Any, ...]) -> bool:
    return old == list(new) or (len(new) == 1 and same_raw(attribute, old[0], new[0]))


class _Moves:
    """Who refers to whom now, by one reference that was set."""

    def __init__(
        self, news: _News, attribute: ReferenceAttribute, known: list[tuple[EntityBase | None, Row]], count: int
    ) -> None:
        self.attribute = attribute
        self.targets: dict[EntityBase, Any] = {}  # keys, of the objects in memory
        self.arrivals: dict[Any, list[EntityBase]] = {}
        # The keys that rows which are not in memory refer to now; None: nobody knows.
        self.elsewhere: set[Any] | None = set()
        spot = news.spot(attribute)
        assert spot is not None
        if count and not known:
            self.elsewhere = None if spot.raw is None else {_joined(spot.raw)}
        for obj, row in known:
            value = spot.value(row)
            if value is None:  # volatile
                self.elsewhere = None
            elif obj is None:
                if self.elsewhere is not None:
                    self.elsewhere.add(_joined(value))
            elif obj._state_.may_change and attribute.name not in unsaved(obj):  # else memory has its own opinion
                key = self.targets[obj] = _joined(value)
                self.arrivals.setdefault(key, []).append(obj)

    def tell(self, unit: UnitOfWork) -> None:
        """Let the other ends of the relation follow."""
        reverse = self.attribute.reverse
        unit.seen_for.pop(("rows", reverse.reverse), None)  # those who refer are found by their rows
        for owner in list(unit.identity.alive(self.attribute.target).values()):
            value = owner.__dict__.get(reverse.name, UNSET)
            if value is UNSET or not isinstance(owner, reverse.mapping.entity):
                continue
            if isinstance(reverse, CollectionAttribute):
                self._tell_collection(unit, value, owner._key_)
            else:
                self._tell_end(unit, owner, value)

    def _is_unknown(self, key: Any) -> bool:
        return self.elsewhere is None or key in self.elsewhere

    def _tell_collection(self, unit: UnitOfWork, collection: Collection[Any], key: Any) -> None:
        before = set(collection.known)
        for item in before:
            if item in self.targets and self.targets[item] != key:
                collection.note_removed(item, unit)
        for item in self.arrivals.get(key, ()):
            if item not in before:
                collection.note_added(item, unit)
        if self._is_unknown(key) and collection.is_loaded:
            if unit.savepoint is not None:
                unit.savepoint.filling(collection)
            collection.forget()

    def _tell_end(self, unit: UnitOfWork, owner: EntityBase, partner: EntityBase | None) -> None:
        key = owner._key_
        has_left = partner is not None and self.targets.get(partner, key) != key
        if not has_left and key not in self.arrivals and not self._is_unknown(key):
            return
        unit.back_reference_changing(owner, self.attribute.reverse)
        if key in self.arrivals:
            owner.__dict__[self.attribute.reverse.name] = self.arrivals[key][0]
        elif self._is_unknown(key):
            del owner.__dict__[self.attribute.reverse.name]
        else:
            owner.__dict__[self.attribute.reverse.name] = None


def _joined(raw: tuple[Any, ...]) -> Any:
    """Return the columns of a reference as one key; None if it refers to nothing."""
    if len(raw) == 1:
        return raw[0]
    return None if None in raw else raw
