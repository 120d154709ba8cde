"""Merging: dictionaries, and objects of sessions that are over, onto the objects of this one.

What is merged is read first, into a `Plan`. Then all rows that it names are loaded in one round trip, versions are
compared, and only then everything is assigned, through the checks of ordinary assignments: all of it, or, if
anything is refused, nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any, cast

from dbsession.backends.flow import Flow
from dbsession.errors import CacheIndexError, ObjectNotFound, OperationWithDeletedObjectError, OptimisticCheckError
from dbsession.model.attributes import Attribute
from dbsession.model.collections import CollectionAttribute
from dbsession.model.entity import EntityBase, EntityMeta
from dbsession.model.json_values import value_from_json
from dbsession.model.making import For
from dbsession.model.mapping import Column, Mapping, mapping_of
from dbsession.model.state import NOT_LOADED, UNSET
from dbsession.model.tracked import same_raw
from dbsession.session.loading import load_missing, rows_load
from dbsession.session.lookups import Load, run_loads, with_columns
from dbsession.session.merge_plan import Change, Node, Plan, Reference, member_of, wrong_name
from dbsession.session.relations import items_load, partners_load

if TYPE_CHECKING:
    from dbsession.session.unit_of_work import UnitOfWork

__all__ = ["merge"]


def merge(unit: UnitOfWork, what: Any, data: Any = None) -> Flow[Any]:
    """Bring *data*, a dict or a list of dicts, onto objects of the entity *what*; or *what*, an object, onto its own.

    Returns the object of this session, or a list of them. The rows that are named are loaded in one round trip, if
    they are not in memory; the collections that are given, in one more.

    Raises:
        TypeError, ValueError: there is no such attribute, or a value does not fit.
        OptimisticCheckError: the row has another version, or what a copy has changed is another value there now.
        ObjectNotFound: the object is in the database no more, or an item of a collection is not there.
        ConstraintError, OperationWithDeletedObjectError, CacheIndexError: as for assignments.

    Nothing is assigned if anything is refused.
    """
    unit.check_owner()
    plan = Plan(unit)
    if isinstance(what, EntityMeta):
        mapping = mapping_of(what)
        several = isinstance(data, list | tuple)
        wanted: list[Any] = [plan.from_dict(mapping, each) for each in (data if several else (data,))]
    elif data is not None or not isinstance(what, EntityBase | list | tuple):
        raise TypeError(f"merge() takes an entity and a dict of its attributes, or an object, not {what!r:.80}")
    else:
        several = not isinstance(what, EntityBase)
        wanted = [_given(plan, each) for each in (cast("Iterable[Any]", what) if several else (what,))]
    if plan.nodes:
        yield from _load(unit, plan)
        _Applying(unit).run(plan.nodes)
    objects = [each.obj if isinstance(each, Node) else each for each in wanted]
    return objects if several else objects[0]


def _given(plan: Plan, obj: Any) -> Any:
    """Return the node of *obj*, or *obj* itself if it is of this session."""
    if not isinstance(obj, EntityBase):
        raise TypeError(f"merge() takes objects, or an entity and a dict of its attributes, not {obj!r:.80}")
    return obj if obj._state_.unit is plan.unit else plan.from_object(obj)


# --- what has to be known ---------------------------------------------------------------------------------


def _load(unit: UnitOfWork, plan: Plan) -> Flow[None]:
    """Find the objects of *plan*, loading what is not in memory, and compare what the data were made from."""
    items = list(_items_by_key(plan.nodes))
    wanted = [*[Reference(node.mapping, node.key) for node in plan.nodes if node.key is not None], *items]
    for mapping in dict.fromkeys(reference.mapping.root for reference in wanted) if unit.moves_keys else ():
        yield from unit.autoflush_for(mapping)
    missing: dict[Mapping, dict[Any, None]] = {}
    for mapping, key in wanted:
        if not _is_known(unit, mapping, key):
            missing.setdefault(mapping.root, {})[key] = None
    loads = [rows_load(unit, root, keys, _columns(root, plan.nodes)) for root, keys in missing.items()]
    yield from run_loads(unit, loads)
    for mapping, key in items:
        if not _is_known(unit, mapping, key):
            described = mapping.describe_key(key)
            raise ObjectNotFound(
                f"{described} does not exist, and cannot be an item of a collection that is merged",
                entity=mapping.entity,
                key=mapping.shown_key(key),
            )
    loads = []
    for node in plan.nodes:
        if node.key is not None:
            _find(unit, node)
        if node.obj is not None:
            yield from load_missing(unit, node.obj, _looked_at(node))
            _compare(node, node.obj)
            loads += _further_loads(unit, node, node.obj)
    yield from run_loads(unit, loads)


def _looked_at(node: Node) -> list[Attribute[Any]]:
    """Return the attributes of which the values in the row decide what is done; equal ones are not written."""
    members = [member_of(node.mapping, name) for name in (*node.values, *node.expected)]
    return [member for member in members if not member.is_virtual]


def _columns(root: Mapping, nodes: Iterable[Node]) -> tuple[Column, ...]:
    """Return what to load of rows of *root*: with the lazy columns that are looked at, or, if there are none, ()."""
    looked_at = [attribute for node in nodes if node.mapping.root is root for attribute in _looked_at(node)]
    lazy = [attribute for attribute in looked_at if attribute.is_lazy]
    return with_columns(root.wide, lazy) if lazy else ()


def _items_by_key(nodes: Iterable[Node]) -> Iterator[Reference]:
    """Yield the items of one-to-many collections that are given by key: the rows that are to be changed."""
    for node in nodes:
        for name, given in node.sets.items():
            attribute = node.mapping.collections.get(name)
            if attribute is not None and attribute.link is None:
                items = (*given.added, *given.removed) if isinstance(given, Change) else given
                yield from (item for item in items if isinstance(item, Reference))


def _is_known(unit: UnitOfWork, mapping: Mapping, key: Any) -> bool:
    return unit.find(mapping, key) is not None and key not in unit.identity.hollow_of(mapping)


def _find(unit: UnitOfWork, node: Node) -> None:
    """Let *node* have its object, if the row exists.

    Raises:
        OperationWithDeletedObjectError: it was deleted in this session.
        OptimisticCheckError, ObjectNotFound: the node is of an object that was saved, and the row is gone.
        CacheIndexError: it is of an object that was never saved, and the row is there.
        TypeError: it is of another class, or lacks a name that is given.
    """
    mapping, key = node.mapping, node.key
    found = unit.find(mapping, key) if _is_known(unit, mapping, key) else None
    described = mapping.describe_key(key)
    if found is None:
        if node.must_exist and (node.values or node.sets):
            raise OptimisticCheckError(
                f"{described} was deleted by somebody else since it was read: what was changed of it cannot be merged",
                obj=node.source,
            )
        if node.must_exist:
            raise ObjectNotFound(
                f"{described} does not exist: its row was deleted", entity=mapping.entity, key=mapping.shown_key(key)
            )
        return
    if node.source is not None and not node.must_exist:
        raise CacheIndexError(
            f"Cannot merge {node.source!r}, which was never saved: {described} exists already, and would lose what the "
            f"new object was not given; merge a dict of what is to change: session.merge({mapping.name}, {{...}})"
        )
    if not found._state_.may_change:
        raise OperationWithDeletedObjectError(
            f"Cannot merge into {found!r}: it was deleted in this session; rollback() would bring it back"
        )
    if not isinstance(found, mapping.entity):
        raise TypeError(f"Cannot merge what is of {mapping.name} into {found!r}, which is none")
    for name in (*node.values, *node.sets):
        if name not in found._attributes_:
            raise wrong_name(found._mapping_, name)
    node.obj = found


def _compare(node: Node, obj: EntityBase) -> None:
    """Raise `OptimisticCheckError` unless the row of *obj* is what the data of *node* were made from."""
    version = obj._mapping_.version
    differences: list[tuple[str, Any, Any]] = []
    if version is not None and node.version is not UNSET and obj._state_.is_persistent:
        given, found = version.coerce(value_from_json(version, node.version)), getattr(obj, version.name)  # type: ignore[attr-defined,arg-type]
        if given != found:
            differences.append((version.name, given, found))
    for name, expected in node.expected.items():
        attribute = node.mapping.attributes[name]
        places = [column.position for column in attribute.columns] if attribute.is_checked else []
        for column, before, now in zip(
            attribute.columns, expected, [obj._row_[place] for place in places], strict=False
        ):
            if before is not NOT_LOADED and before != now and not same_raw(attribute, before, now):
                differences.append((name, column.shown(before), column.shown(now)))
    if differences:
        changed = "; ".join([f"{name}: {before!r} was expected, {now!r} is there" for name, before, now in differences])
        raise OptimisticCheckError(
            f"{obj!r} was changed by somebody else since what is merged was read ({changed}); "
            f"read it again, and merge what is made of that",
            obj=obj,
            differences=differences,
        )


def _further_loads(unit: UnitOfWork, node: Node, obj: EntityBase) -> Iterator[Load]:
    """Yield what loads that which assignments would look at: collections, and one-to-one ends without a column."""
    if not obj._state_.is_persistent:
        return
    for name in (*node.sets, *node.values):
        attribute = obj._attributes_[name]
        if isinstance(attribute, CollectionAttribute):
            if not attribute.of(obj).is_loaded and isinstance(node.sets[name], list):
                yield items_load(unit, attribute, [obj], is_read=True)
        elif attribute.is_virtual and name not in obj.__dict__:
            yield partners_load(unit, attribute, [obj], is_read=True)


# --- what is done --------------------------------------------------------------------------------------------


class _Applying:
    """Assigns what a plan says."""

    def __init__(self, unit: UnitOfWork) -> None:
        self._unit = unit
        self._begun: set[Node] = set()
        self._done: set[Node] = set()
        self._postponed: list[tuple[Node, str, Node]] = []

    def run(self, nodes: list[Node]) -> None:
        """Assign everything, or, if anything is refused, nothing."""
        unit = self._unit
        unit.enter_savepoint(read_only=False)
        try:
            for node in nodes:
                self._assign(node)
            for node, name, target in self._postponed:
                setattr(node.obj, name, target.obj)
            for node in nodes:
                self._assign_sets(node)
        except BaseException:
            unit.rollback_savepoint()
            raise
        unit.release_savepoint()

    def _assign(self, first: Node) -> None:
        """Make the object of *first*, if there is none, and assign its attributes; before it, what it refers to."""
        todo = [first]
        while todo:
            node = todo[-1]
            ahead: list[Node] = []
            if node not in self._begun:
                self._begun.add(node)
                ahead = [
                    value for value in node.values.values() if isinstance(value, Node) and value not in self._begun
                ]
            if ahead:
                todo += ahead
                continue
            todo.pop()
            if node not in self._done:
                self._done.add(node)
                self._assign_one(node)

    def _assign_one(self, node: Node) -> None:
        values: dict[str, Any] = {}
        for name, value in node.values.items():
            if isinstance(value, Node) and value.obj is None:  # they refer to each other
                self._postponed.append((node, name, value))
            else:
                values[name] = self._object(value)
        if node.obj is None and node.key is not None:  # it may have come twice
            found = self._unit.find(node.mapping, node.key)
            node.obj = found if found is not None and found._state_.is_new else None
        if node.obj is None:
            node.obj = object.__new__(node.mapping.entity)
            cast("Any", EntityBase).__init__(node.obj, For(self._unit), **values)
            return
        for name in node.expected:  # counts as read: the row in memory may be older than what somebody has saved since
            getattr(node.obj, name)
        known = {attribute.name for attribute in node.mapping.key if attribute.name not in node.expected}
        node.obj.set(**{name: value for name, value in values.items() if name not in known})

    def _object(self, value: Any) -> Any:
        """Return the object that *value* stands for; what stands for none is itself."""
        if isinstance(value, Node):
            return value.obj
        if isinstance(value, Reference):
            return self._unit.reference(*value)
        return value

    def _assign_sets(self, node: Node) -> None:
        assert node.obj is not None
        for name, given in node.sets.items():
            attribute = node.obj._attributes_[name]
            if isinstance(given, Change):
                collection = attribute.of(node.obj)
                collection.add([self._object(item) for item in given.added])
                collection.remove([self._object(item) for item in given.removed])
            elif isinstance(given, Node):
                attribute.assign(node.obj, given.obj)
            else:
                attribute.assign(node.obj, [self._object(item) for item in given])
