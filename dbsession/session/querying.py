"""From queries to results: objects, values, and tuples of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from operator import itemgetter
from typing import TYPE_CHECKING, Any

from dbsession.backends.flow import Flow
from dbsession.backends.statements import Statement
from dbsession.model.attributes import Attribute
from dbsession.model.entity import EntityBase
from dbsession.model.mapping import Column, Mapping
from dbsession.model.state import NOT_LOADED
from dbsession.query.selected import Selected, filtered_by
from dbsession.query.sql.compiled import Compiled, compile_aggregate, compile_fetch
from dbsession.query.sql.results import Item
from dbsession.session import loading
from dbsession.session.autoflush import flush_ahead_of_rows
from dbsession.session.loading import columns_load, materialize
from dbsession.session.lookups import run_loads
from dbsession.session.prefetch import prefetch

if TYPE_CHECKING:
    from dbsession.session.unit_of_work import UnitOfWork

__all__ = ["aggregate", "ask", "fetch", "get", "key_in", "load_ahead", "received", "results_of"]

_GONE: Any = object()  # in the place of an object that is deleted here


def get(unit: UnitOfWork, mapping: Mapping, key: Any) -> Flow[EntityBase | None]:
    """Load the object with *key*, of which memory has nothing but the key; None if there is no row."""
    yield from flush_ahead_of_rows(unit, mapping)
    return (yield from loading.get(unit, mapping, key))


def ask(unit: UnitOfWork, compiled: Compiled, values: tuple[Any, ...]) -> Flow[list[Any]]:
    """Send a query, after what is unsaved in its tables, and return its rows as they come."""
    yield from unit.autoflush_for(*compiled.tables, comparing=compiled.objects(values))
    results = yield from unit.transaction.read(Statement(compiled.sql, compiled.bind(values), returns=True))
    return results[0].rows


def aggregate(unit: UnitOfWork, selected: Selected, values: tuple[Any, ...], operator: str, *options: Any) -> Flow[Any]:
    """Return the aggregate *operator* of the values of the query *selected*."""
    compiled = compile_aggregate(selected, operator, *options)
    rows = yield from ask(unit, compiled, values)
    return _values(rows, compiled.items[0])[0]


def fetch(unit: UnitOfWork, selected: Selected, values: tuple[Any, ...]) -> Flow[list[Any]]:
    """Send the query *selected* and return its results."""
    compiled = compile_fetch(selected)
    if selected.lock:
        rows = yield from _lock(unit, selected, compiled, values)
    else:
        rows = yield from ask(unit, compiled, values)
    return (yield from received(unit, selected, compiled, rows))


def received(unit: UnitOfWork, selected: Selected, compiled: Compiled, rows: list[Any]) -> Flow[list[Any]]:
    """Return what *rows*, the reply to *selected*, are made into, with what is to be loaded ahead for it."""
    if selected.lock:
        found = yield from _locked(unit, selected, compiled, rows)
    else:
        found = results_of(unit, selected, compiled, rows)
    yield from load_ahead(unit, selected, found)
    return found


def load_ahead(unit: UnitOfWork, selected: Selected, found: list[Any]) -> Flow[None]:
    """Load what *selected* is to prefetch for the results *found*."""
    if selected.prefetched is not None:
        parts = [part for result in found for part in result] if isinstance(selected.result, tuple) else found
        yield from prefetch(unit, [part for part in parts if isinstance(part, EntityBase)], selected.prefetched)


def results_of(unit: UnitOfWork, selected: Selected, compiled: Compiled, rows: list[Any]) -> list[Any]:
    """Return what *rows* are made into; what objects were filtered by counts as read."""
    items = compiled.items
    if isinstance(selected.result, tuple):
        columns = [_column(unit, item, rows) for item in items]
        return [found for found in zip(*columns, strict=True) if not any(part is _GONE for part in found)]
    (item,) = items
    if item.mapping is None:
        return _values(rows, item)
    if not selected.gives_objects:
        return [obj for obj in _column(unit, item, rows) if obj is not _GONE]
    if selected.may_give_none:
        found = [obj for obj in _column(unit, item, rows) if obj is not _GONE]
        objects = [obj for obj in found if obj is not None]
    else:
        found = objects = materialize(unit, item.mapping, rows, item.source)
    for attribute in filtered_by(selected):
        _mark_read(attribute, objects)
    return found


def _mark_read(attribute: Attribute[Any], found: Iterable[EntityBase]) -> None:
    for obj in found:
        if obj._row_[attribute.position] is not NOT_LOADED:  # a lazy one stays so
            getattr(obj, attribute.name)


def _values(rows: list[Any], item: Item) -> list[Any]:
    place, decode = item.start, item.decode
    if decode is None:
        return [row[place] for row in rows]
    return [None if row[place] is None else decode(row[place]) for row in rows]


def _column(unit: UnitOfWork, item: Item, rows: list[Any]) -> list[Any]:
    """Return one item of each result."""
    mapping = item.mapping
    if mapping is None:
        return _values(rows, item)
    parts = [row[item.start : item.stop] for row in rows]
    keys = list(map(key_in(item), rows))
    present = [part for part, key in zip(parts, keys, strict=True) if _is_key(key)]
    materialize(unit, mapping, present, item.source)
    objects = unit.identity.of(mapping)
    return [_found(objects.get(key)) if _is_key(key) else None for key in keys]


def _found(obj: EntityBase | None) -> Any:
    return obj if obj is not None and obj._state_.may_change else _GONE


def _is_key(key: Any) -> bool:
    return key is not None and (type(key) is not tuple or None not in key)


def key_in(item: Item) -> Callable[[tuple[Any, ...]], Any]:
    """Return what finds the key of the object *item* in a row."""
    assert item.mapping is not None
    names = [column.name for column in item.source]
    return itemgetter(*[item.start + names.index(column.name) for column in item.mapping.key_columns])


def _lock(unit: UnitOfWork, selected: Selected, compiled: Compiled, values: tuple[Any, ...]) -> Flow[list[Any]]:
    yield from unit.autoflush_for(*compiled.tables, comparing=compiled.objects(values))
    statement = Statement(compiled.sql, compiled.bind(values), returns=True)
    nowait = selected.lock.endswith("NOWAIT")
    results = yield from unit.transaction.write(statement, is_flush=False, nowait=nowait)
    return results[0].rows


def _locked(unit: UnitOfWork, selected: Selected, compiled: Compiled, rows: list[Any]) -> Flow[list[Any]]:
    found = materialize(unit, selected.mapping, rows, compiled.source, refresh=True)
    yield from _refresh_lazy(unit, found, compiled.source)
    # What has unsaved changes (there was no autoflush) may have read what the row had before.
    unit.exempt.update([obj for obj in found if not obj._state_.has_changes])
    return found


def _refresh_lazy(unit: UnitOfWork, locked: Iterable[EntityBase], source: tuple[Column, ...]) -> Flow[None]:
    """Load again what was loaded of the lazy attributes of *locked*: it may be older than the lock.

    *source*: the columns that came with the lock.
    """
    fresh = {column.name for column in source}
    stale: dict[tuple[Mapping, tuple[Column, ...]], list[Any]] = {}
    for obj in locked:
        mapping, row = obj._mapping_, obj._row_
        if len(mapping.eager) < len(mapping.columns):
            lazy = [column for column in mapping.columns if column.attribute.is_lazy and column.name not in fresh]
            loaded = tuple([column for column in lazy if row[column.position] is not NOT_LOADED])
            if loaded:
                stale.setdefault((mapping, loaded), []).append(obj._key_)
    loads = [columns_load(unit, mapping, columns, keys, refresh=True) for (mapping, columns), keys in stale.items()]
    yield from run_loads(unit, loads)
