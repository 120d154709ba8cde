"""What has changed in an object, in the words of its row: which columns to set, which to compare, with what values.

The optimistic check stands here: UPDATE and DELETE compare, beside the key, what the session has read.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

from dbsession.model.attributes import Attribute, PendingExpression, ValueAttribute
from dbsession.model.entity import EntityBase
from dbsession.model.expressions import Operation
from dbsession.model.mapping import Column, Mapping
from dbsession.model.references import ReferenceAttribute
from dbsession.model.state import NOT_LOADED, UNSET
from dbsession.model.tracked import same_raw

__all__ = [
    "Change",
    "Places",
    "change_of",
    "checked_places",
    "columns_of",
    "key_parameters",
    "raw_value",
    "row_seen",
    "spread",
    "unsaved",
    "vacating",
    "version_only",
]

Places = tuple[int, ...]  # columns, by their positions in the row


def raw_value(obj: EntityBase, attribute: Attribute[Any]) -> Any:
    """Return the value of *attribute* as it travels; several columns give a tuple."""
    if isinstance(attribute, ReferenceAttribute):
        return attribute.raw_key(obj)
    assert isinstance(attribute, ValueAttribute)
    value = obj.__dict__.get(attribute.name, UNSET)
    return obj._row_[attribute.position] if value is UNSET else attribute.raw(value)


def spread(attribute: Attribute[Any], raw: Any) -> tuple[Any, ...]:
    """Return *raw* as one value a column."""
    if len(attribute.columns) == 1:
        return (raw,)
    return (None,) * len(attribute.columns) if raw is None else tuple(raw)


def key_parameters(mapping: Mapping, key: Any) -> tuple[Any, ...]:
    """Return *key*, as the identity map has it, as one parameter a column."""
    return (key,) if len(mapping.key_columns) == 1 else tuple(key)


def columns_of(attributes: Iterable[Attribute[Any]]) -> list[Column]:
    """Return the columns of *attributes*, in order."""
    return [column for attribute in attributes for column in attribute.columns]


class Change(NamedTuple):
    """What an UPDATE of one object says: columns to set, columns to check, parameters, the row afterwards."""

    sets: Places
    checks: Places
    parameters: list[Any]  # of the sets, the key and the checks, in this order
    row: tuple[Any, ...]
    expressions: tuple[tuple[str, PendingExpression], ...] = ()


def unsaved(obj: EntityBase) -> dict[str, Any]:
    """Return the unsaved changes of *obj*."""
    return obj._changes_ if obj._state_.has_changes else {}


def _checkable(mapping: Mapping) -> dict[str, Places]:
    """Return the attributes that a check can be made of, with their columns."""
    checkable: dict[str, Places] | None = mapping.sql.get("checkable")
    if checkable is None:
        checkable = {
            attribute.name: tuple([column.position for column in attribute.columns])
            for attribute in mapping.attributes.values()
            if attribute.is_checked and not attribute.is_virtual
        }
        mapping.sql["checkable"] = checkable
    return checkable


def checked_places(obj: EntityBase, mapping: Mapping, changes: dict[str, Any], held: Places = ()) -> Places:
    """Return the columns that the session has read of *obj*, and that a check can be made of, without those *held*."""
    checkable = _checkable(mapping)
    places: Places = ()
    for name in obj.__dict__:
        if name in checkable and (name not in changes or changes[name]):
            places += checkable[name]
    for name, change in changes.items():
        if change.__class__ is PendingExpression and change.was_read and name in checkable:
            places += checkable[name]
    if held:
        places = tuple([place for place in places if place not in held])
    version = mapping.version
    if version is not None and version.position not in places:
        places += version_only(obj)
    return tuple(sorted(places)) if len(places) > 1 else places


def version_only(obj: EntityBase) -> Places:
    """Return the column of the version, if there is one and it was loaded."""
    version = obj._mapping_.version
    return () if version is None or obj._row_[version.position] is NOT_LOADED else (version.position,)


def row_seen(obj: EntityBase, changes: dict[str, Any]) -> tuple[Any, ...]:
    """Return the row as the session saw it: with what stood there before an SQL expression was assigned."""
    seen = list(obj._row_)
    for name, change in changes.items():
        if change.__class__ is PendingExpression:
            seen[obj._mapping_.attributes[name].position] = change.raw
    return tuple(seen)


def change_of(obj: EntityBase, *, checked: bool, held: Places = ()) -> Change | None:
    """Return what an UPDATE of *obj* has to say, or None if nothing has really changed.

    *checked*: compare what was read, but for the columns *held*; the version, where there is one, is compared in any
    case.
    """
    mapping = obj._mapping_
    attributes = mapping.attributes
    changes = obj._changes_
    values = obj.__dict__
    seen = obj._row_
    row = list(seen)
    sets: list[int] = []
    expressions: tuple[tuple[str, PendingExpression], ...] = ()
    for name, change in changes.items():
        attribute: Any = attributes[name]
        if change.__class__ is PendingExpression:
            expressions += ((name, change),)
        elif attribute.is_plain:  # the same as below, for the case that is nearly all cases
            value = values[name]
            if value is not None and attribute.encode is not None:
                value = attribute.encode(value)
            place = attribute.position
            if row[place] != value:
                row[place] = value
                sets.append(place)
        else:
            raw = spread(attribute, raw_value(obj, attribute))
            if not _is_same(attribute, row, raw):
                for column, value in zip(attribute.columns, raw, strict=True):
                    row[column.position] = value
                    sets.append(column.position)
    if expressions:
        seen = row_seen(obj, changes)
    elif not sets:
        return None
    version = mapping.version
    if version is not None and seen[version.position] is not NOT_LOADED:
        row[version.position] = seen[version.position] + 1
        sets.append(version.position)
    elif version is not None:  # only the key is known of the object: the database counts
        expressions += ((version.name, PendingExpression(Operation("+", version, 1), was_read=False, raw=NOT_LOADED)),)
    if len(sets) > 1:
        sets.sort()
    checks = checked_places(obj, mapping, changes, held) if checked else version_only(obj)
    parameters = [row[place] for place in sets]
    parameters += key_parameters(mapping, mapping.key_of(seen))
    parameters += [seen[place] for place in checks]
    return Change(tuple(sets), checks, parameters, tuple(row), expressions)


def _is_same(attribute: Attribute[Any], row: list[Any], raw: tuple[Any, ...]) -> bool:
    before = [row[column.position] for column in attribute.columns]
    return before == list(raw) or (len(raw) == 1 and same_raw(attribute, before[0], raw[0]))


def vacating(obj: EntityBase, names: tuple[str, ...], *, checked: bool, held: Places = ()) -> Change:
    """Return the UPDATE that sets *names* to NULL for a while, so that other rows can take their values."""
    mapping = obj._mapping_
    changes = unsaved(obj)
    seen = row_seen(obj, changes)
    row = list(obj._row_)
    sets = tuple([column.position for column in columns_of(mapping.attributes[name] for name in names)])
    for place in sets:
        row[place] = None
    checks = checked_places(obj, mapping, changes, held) if checked else version_only(obj)
    parameters = [None for _ in sets]
    parameters += key_parameters(mapping, mapping.key_of(seen))
    parameters += [seen[place] for place in checks]
    return Change(sets, checks, parameters, tuple(row))
