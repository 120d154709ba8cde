"""From rows to objects: keys, queries, references, collections, and what they cost.

`materialize` is the one place where objects of saved rows are made. A row whose object is in the
identity map is merged into it: what the session has changed stays, what it has not looked at takes
the new value, and what it has looked at must not have changed (`UnrepeatableReadError`).

Against N+1: one unloaded reference that is touched loads what all objects in memory refer to by the
same attribute. For collections see `relations`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from itertools import islice, repeat
from typing import TYPE_CHECKING, Any

from dbsession.backends.flow import Flow
from dbsession.backends.statements import Result, Statement
from dbsession.errors import ObjectNotFound, OptimisticCheckError, UnrepeatableReadError
from dbsession.model.attributes import Attribute, PendingExpression, ValueAttribute
from dbsession.model.entity import EntityBase
from dbsession.model.mapping import Column, Mapping
from dbsession.model.pickling import read_again
from dbsession.model.references import ReferenceAttribute
from dbsession.model.state import NOT_LOADED, UNSET, Status, set_row, set_state
from dbsession.model.tracked import same_raw
from dbsession.session.conflicts import key_statement
from dbsession.session.lookups import Load, by_keys, run_loads

if TYPE_CHECKING:
    from dbsession.session.unit_of_work import UnitOfWork

__all__ = [
    "assigned_key",
    "below",
    "columns_load",
    "concerns",
    "fill_hollow",
    "get",
    "load_attribute",
    "load_missing",
    "losing",
    "make_hollow",
    "materialize",
    "reload",
    "rows_load",
]


def make_hollow(unit: UnitOfWork, mapping: Mapping, key: Any) -> EntityBase:
    """Make the object with *key*, of which nothing else is known yet."""
    unit.check_owner()  # reading a reference leads here, and reading is allowed everywhere while nothing is missing
    obj: EntityBase = object.__new__(mapping.entity)
    set_row(obj, mapping.hollow_row(key))
    set_state(obj, unit.states.clean)
    unit.identity.add(obj, key)
    if len(mapping.columns) > len(mapping.key_columns):
        unit.identity.hollow_of(mapping)[key] = obj
    return obj


def assigned_key(obj: EntityBase) -> Any:
    """Return the key that a saved object will have after the flush."""
    values = [value for part in obj._mapping_.key for value in _raw_parts(obj, part)]
    return values[0] if len(values) == 1 else tuple(values)


def _raw_parts(obj: EntityBase, attribute: Attribute[Any]) -> Sequence[Any]:
    value = obj.__dict__.get(attribute.name, UNSET)
    if value is UNSET:
        return [obj._row_[column.position] for column in attribute.columns]
    if isinstance(attribute, ReferenceAttribute):
        key = value._key_
        return key if len(attribute.columns) > 1 else (key,)
    assert isinstance(attribute, ValueAttribute)
    return (attribute.raw(value),)


def concerns(unit: UnitOfWork, mapping: Mapping) -> bool:
    """Whether anything unsaved lies in the table of *mapping*, or in the links of its many-to-many relations."""
    root = mapping.root
    for objects in (unit.new, unit.dirty, unit.deleted):
        if any(obj._mapping_.root is root for obj in objects):
            return True
    if unit.deleted and any(root in below(obj._mapping_.root) for obj in unit.deleted):
        return True  # the database may cascade into this table
    return any(root in (link.left.mapping.root, link.right.mapping.root) for link in unit.links)


def below(root: Mapping) -> set[Mapping]:
    """Return the tables that rows of *root* may take with them when they are deleted."""
    known: set[Mapping] | None = root.sql.get("below")
    if known is None:
        known = set()
        todo = [root]
        while todo:
            for member in todo.pop().family():
                for attribute in member.references_here:
                    if attribute.mapping.root not in known:
                        known.add(attribute.mapping.root)
                        todo.append(attribute.mapping.root)
        root.sql["below"] = known
    return known


def losing(root: Mapping) -> set[Mapping]:
    """Return the tables whose rows may be deleted with rows of *root*: those of `below` that do not stay without."""
    known: set[Mapping] | None = root.sql.get("losing")
    if known is None:
        known = set()
        todo = [root]
        while todo:
            for attribute in [each for member in todo.pop().family() for each in member.references_here]:
                if attribute.dies_with_target and attribute.mapping.root not in known:
                    known.add(attribute.mapping.root)
                    todo.append(attribute.mapping.root)
        root.sql["losing"] = known
    return known


# --- rows to objects -----------------------------------------------------------------------------


def materialize(
    unit: UnitOfWork, mapping: Mapping, rows: list[Any], source: tuple[Column, ...], *, refresh: bool = False
) -> list[Any]:
    """Return the objects of *rows*, which have the columns *source*; deleted ones are left out.

    *refresh*: the caller asked for the values of these rows, so that what was read before is forgotten.
    """
    if not rows:
        return []
    if mapping.is_polymorphic:
        return _materialize_family(unit, mapping, rows, source, refresh=refresh)
    project = mapping.projection(source)
    if project is not None:
        rows = [project(row) for row in rows]
    objects = unit.identity.of(mapping)
    keys = list(map(mapping.key_of, rows))
    if unit.identity.released:
        unit.identity.hold_again(mapping, keys)
    if objects.keys().isdisjoint(keys) and len(set(keys)) == len(keys):
        made: list[Any] = list(map(object.__new__, repeat(mapping.entity, len(rows))))
        deque(map(set_row, made, rows), 0)
        deque(map(set_state, made, repeat(unit.states.clean)), 0)
        objects.update(zip(keys, made, strict=True))
        if unit.transaction.wrote:
            unit.journal.loaded(made)
    else:
        made = _merge_all(unit, mapping, keys, rows, refresh=refresh)
    if unit.fresh is not None:
        unit.fresh.update(made)
    return made


def _merge_all(unit: UnitOfWork, mapping: Mapping, keys: list[Any], rows: list[Any], *, refresh: bool) -> list[Any]:
    objects = unit.identity.of(mapping)
    clean = unit.states.clean
    wrote = unit.transaction.wrote
    found: list[Any] = []
    for key, row in zip(keys, rows, strict=True):
        obj = objects.get(key)
        if obj is None or (type(obj) is not mapping.entity and _is_none(unit, obj, mapping, key)):
            obj = objects[key] = object.__new__(mapping.entity)
            set_row(obj, row)
            set_state(obj, clean)
            if wrote:
                unit.journal.loaded((obj,))
        elif obj._state_.may_change:
            _merge(unit, obj, mapping, row, refresh=refresh)
        else:
            continue  # deleted here, and not flushed yet
        found.append(obj)
    return found


def _is_none(unit: UnitOfWork, obj: EntityBase, mapping: Mapping, key: Any) -> bool:
    """Tell whether *obj* is not that of the row, but known only by a key that is of another class: there is none."""
    if issubclass(mapping.entity, type(obj)) or unit.identity.hollow_of(mapping).get(key) is not obj:
        return False
    del unit.identity.hollow_of(mapping)[key]
    return True


def _materialize_family(
    unit: UnitOfWork, mapping: Mapping, rows: list[Any], source: tuple[Column, ...], *, refresh: bool
) -> list[Any]:
    """Make each object of the class that its discriminator names."""
    discriminator = mapping.root.discriminator
    assert isinstance(discriminator, ValueAttribute)
    place = next(index for index, column in enumerate(source) if column.name == discriminator.columns[0].name)
    decode = discriminator.decode
    found: list[Any] = []
    for row in rows:
        value = row[place] if decode is None else decode(row[place])
        member = mapping.root.by_discriminator.get(value, mapping)
        project = member.projection(source)
        fitted = row if project is None else project(row)
        key = member.key_of(fitted)
        if unit.identity.released:
            unit.identity.hold_again(mapping, [key])
        found += _merge_all(unit, member, [key], [fitted], refresh=refresh)
    if unit.fresh is not None:
        unit.fresh.update(found)
    return found


def _merge(unit: UnitOfWork, obj: EntityBase, mapping: Mapping, row: tuple[Any, ...], *, refresh: bool) -> None:
    """Take a newer row of an object that is known already."""
    old = obj._row_
    if type(obj) is not mapping.entity and issubclass(mapping.entity, type(obj)):
        # A reference to a base class turned out to be to an object of a subclass.
        object.__setattr__(obj, "__class__", mapping.entity)
        old = old + (NOT_LOADED,) * (len(mapping.columns) - len(old))
        set_row(obj, old)
    if obj._state_.is_new:
        return
    if type(obj) is not mapping.entity:
        raise UnrepeatableReadError(
            f"{obj!r} was read as one of {type(obj).__name__}, but its row is of {mapping.name} now: somebody else has "
            f"changed it. Retry the work, with @db_session(retry=...) for instance",
            obj=obj,
        )
    if unit.identity.hollow_of(mapping).pop(mapping.key_of(row), None) is not None:
        for reference in unit.referring:  # who refers to whom is known of one more
            unit.seen_for.pop(("rows", reference), None)
    if old == row and len(old) == len(row):
        return
    changes: dict[str, Any] = obj._changes_ if obj._state_.status is Status.DIRTY else {}
    # What was read in an earlier transaction of the scope may have changed since.
    refresh = refresh or unit.forgets_reads or (unit.fresh is not None and obj not in unit.fresh)
    if unit.transaction.wrote:
        unit.journal.merging(obj)
    merged = list(row)
    for attribute in obj._mapping_.attributes.values():
        for column in attribute.columns:
            place = column.position
            if row[place] is NOT_LOADED:
                merged[place] = old[place]
            elif old[place] is not row[place] and old[place] != row[place]:
                merged[place] = _newer(unit, obj, attribute, changes, old[place], row[place], refresh=refresh)
    set_row(obj, tuple(merged))


def fill_hollow(unit: UnitOfWork, obj: EntityBase, other: EntityBase) -> None:
    """Let *obj*, of which only the key is known, have the row of *other*, and count as read what was read of that."""
    _merge(unit, obj, other._mapping_, other._row_, refresh=False)
    attributes = obj._mapping_.attributes
    names = [name for name in other.__dict__ if name in attributes and not attributes[name].is_virtual]
    read_again(obj, [name for name in names if name not in obj.__dict__])


def _newer(
    unit: UnitOfWork,
    obj: EntityBase,
    attribute: Attribute[Any],
    changes: dict[str, Any],
    old: Any,
    new: Any,
    *,
    refresh: bool,
) -> Any:
    """Return the raw value to keep for a column that differs, or raise because the program rests on the old one."""
    name = attribute.name
    change = changes.get(name, UNSET)
    kept = old
    if isinstance(change, PendingExpression):
        if not change.was_read or change.raw == new or same_raw(attribute, change.raw, new):
            changes[name] = change._replace(raw=new)
            return NOT_LOADED
        old, kept = change.raw, NOT_LOADED
    elif same_raw(attribute, old, new):
        return new
    if change is not UNSET:
        if change and refresh and attribute.is_checked and not unit.forgets_reads:
            unit.rests_on_old = True
            raise OptimisticCheckError(
                f"{obj!r}.{name} has an unsaved change that rests on {old!r}, but the row has {new!r} now; "
                f"retry the work, or lock the row before reading it",
                obj=obj,
            )
        return kept if change else new  # read, then written: the check of the flush will find it
    if old is NOT_LOADED or name not in obj.__dict__:
        return new
    if refresh or not attribute.is_checked:
        obj.__dict__.pop(name)
        return new
    unit.rests_on_old = True
    raise UnrepeatableReadError(
        f"{obj!r}.{name} was read as {obj.__dict__[name]!r}, but the row has {new!r} now: "
        f"somebody else has changed it. "
        f"Retry the work, with @db_session(retry=...) for instance, or run it with @db_session(serializable=True)",
        obj=obj,
    )


# --- by key ----------------------------------------------------------------------------------------


def get(unit: UnitOfWork, mapping: Mapping, key: Any) -> Flow[EntityBase | None]:
    """Load the object with *key*, which the identity map does not have (or only its key); None if there is no row."""
    base = mapping.root  # the row may belong to another class of the hierarchy
    results = yield from unit.transaction.read(key_statement(base, key))
    rows = results[0].rows
    if not rows:
        return None
    found = materialize(unit, base, rows, base.wide)
    return found[0] if found and isinstance(found[0], mapping.entity) else None


def columns_load(
    unit: UnitOfWork, mapping: Mapping, columns: Iterable[Column], keys: Iterable[Any], *, refresh: bool = False
) -> Load:
    """Return what loads *columns*, and no others, of the objects with *keys*, which are in memory."""
    kind = mapping.root.discriminator
    source = tuple(dict.fromkeys((*mapping.key_columns, *(kind.columns if kind is not None else ()), *columns)))
    return rows_load(unit, mapping, keys, source, refresh=refresh)


def rows_load(
    unit: UnitOfWork,
    mapping: Mapping,
    keys: Iterable[Any],
    source: tuple[Column, ...] = (),
    *,
    refresh: bool = False,
) -> Load:
    """Return what loads the rows with *keys*: the columns *source*, or all that are not lazy."""

    def take(results: list[Result]) -> None:
        for result in results:
            materialize(unit, mapping, result.rows, source or mapping.wide, refresh=refresh)

    return Load(by_keys(mapping, keys, source), take)


# --- what a row lacks ------------------------------------------------------------------------------


def load_attribute(unit: UnitOfWork, obj: EntityBase, attribute: Attribute[Any]) -> Flow[None]:
    """Load what *obj* lacks of *attribute*; for an object of which only the key is known, all of its like too."""
    yield from _load_if_hollow(unit, obj, attribute.name, attribute.columns if attribute.is_lazy else ())
    if obj._row_[attribute.position] is NOT_LOADED:
        yield from load_missing(unit, obj, [attribute])


def _load_if_hollow(unit: UnitOfWork, obj: EntityBase, wanted: str, lazy: tuple[Column, ...] = ()) -> Flow[None]:
    """Load *obj*, and all of its like, if only its key is known; it may turn out to be of a subclass.

    *lazy*: columns of *obj* alone to come along.
    """
    mapping = obj._mapping_
    hollow = unit.identity.hollow_of(mapping)
    key = mapping.key_of(obj._row_)
    if _is_hollow(obj):
        hollow[key] = obj
    elif hollow.get(key) is not obj:
        return
    yield from _load_hollow(unit, mapping, hollow, key, [columns_load(unit, mapping, lazy, [key])] if lazy else [])
    if _is_hollow(obj):
        raise ObjectNotFound(
            f"{obj!r} does not exist: there is no row with this key (anymore), so {wanted} cannot be read",
            entity=type(obj),
            key=obj.get_pk(),
        )


def _is_hollow(obj: EntityBase) -> bool:
    """Tell whether *obj* lacks what every load brings; what an unsaved SQL expression stands for is not lacking."""
    mapping = obj._mapping_
    if not mapping.is_hollow(obj._row_):
        return False
    changes: dict[str, Any] = obj._changes_ if obj._state_.status is Status.DIRTY else {}
    return any(
        obj._row_[column.position] is NOT_LOADED
        and not column.is_key
        and not isinstance(changes.get(column.attribute.name), PendingExpression)
        for column in mapping.eager
    )


def _load_hollow(
    unit: UnitOfWork, mapping: Mapping, hollow: dict[Any, EntityBase], first: Any, more: list[Load]
) -> Flow[None]:
    """Load the objects of which only keys are known, *first* among them, and *more* in one round trip."""
    base = mapping.root
    keys = list(dict.fromkeys([first, *hollow, *_referred_like(unit, base, first)]))
    yield from run_loads(unit, [rows_load(unit, base, keys), *more])
    for key in keys:  # what has no row is not there to be found by its key, so it stays
        obj = hollow.get(key)
        if obj is not None and not obj._state_.may_change:
            del hollow[key]


def _referred_like(unit: UnitOfWork, base: Mapping, first: Any) -> list[Any]:
    """Return the keys of what is not in memory, and is referred to by an attribute by which *first* is referred to.

    What the objects that were looked at before refer to has been loaded then, so that only the ones behind them
    count; a loop that gets one object after the other would look at all of them each time.
    """
    objects = unit.identity.of(base)
    wanted: list[Any] = []
    is_found = False
    for seen in (unit.seen_for, {}):
        for reference in [reference for member in base.family() for reference in member.references_here]:
            others = unit.identity.of(reference.mapping)
            entity, key_in = reference.mapping.entity, reference.key_in
            latest = islice(reversed(others.values()), max(len(others) - seen.get(reference, 0), 0))
            keys = dict.fromkeys([key_in(obj._row_) for obj in latest if isinstance(obj, entity)])
            if first in keys:
                is_found = True
                unit.seen_for[reference] = len(others)
                wanted += [key for key in keys if key is not None and key is not NOT_LOADED and key not in objects]
        if is_found:
            break
    return wanted


def reload(unit: UnitOfWork, objects: Iterable[EntityBase]) -> Flow[None]:
    """Load *objects*, which this session has just saved, again."""
    keys: dict[Mapping, list[Any]] = {}
    for obj in objects:
        keys.setdefault(obj._mapping_.root, []).append(obj._key_)
    yield from run_loads(unit, [rows_load(unit, base, known, refresh=True) for base, known in keys.items()])


def load_missing(unit: UnitOfWork, obj: EntityBase, attributes: list[Attribute[Any]]) -> Flow[None]:
    """Load the columns of *attributes* that the row of *obj* lacks."""
    loads_all_alike = obj._mapping_.is_polymorphic or not any(attribute.is_lazy for attribute in attributes)
    if loads_all_alike and not obj._state_.is_new:
        yield from _load_if_hollow(unit, obj, ", ".join([attribute.name for attribute in attributes]))
    mapping = obj._mapping_
    pending: dict[str, Any] = obj._changes_ if obj._state_.status is Status.DIRTY else {}
    columns = [
        column
        for attribute in attributes
        if not attribute.is_virtual and not isinstance(pending.get(attribute.name), PendingExpression)
        for column in attribute.columns
        if obj._row_[column.position] is NOT_LOADED
    ]
    if not columns or obj._state_.is_new:
        return
    mark = mapping.dialect.placeholder
    keys = " AND ".join([f"{column.quoted} = {mark}" for column in mapping.key_columns])
    wanted = ", ".join([column.quoted for column in columns])
    key = obj._key_
    params = key if isinstance(key, tuple) else (key,)
    statement = Statement(f"SELECT {wanted} FROM {mapping.quoted} WHERE {keys}", params, returns=True)
    results = yield from unit.transaction.read(statement)
    if not results[0].rows:
        raise ObjectNotFound(
            f"{obj!r} does not exist: there is no row with this key (anymore)", entity=type(obj), key=obj.get_pk()
        )
    row = list(obj._row_)
    for column, value in zip(columns, results[0].rows[0], strict=True):
        row[column.position] = value
    if unit.transaction.wrote:
        unit.journal.merging(obj)
    set_row(obj, tuple(row))
    if not mapping.is_hollow(obj._row_):
        unit.identity.hollow_of(mapping).pop(key, None)
