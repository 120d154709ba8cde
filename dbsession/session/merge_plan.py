"""What is to be merged, as a tree: dictionaries and objects of other sessions, read before anything is loaded.

A `Node` stands for one object: which class and key it has, and what is to be assigned. Values are plain, or stand for
other objects: a `Node`, a `Reference` (a key), an object of the session, None.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from collections.abc import Mapping as MappingOf
from typing import TYPE_CHECKING, Any, NamedTuple

from dbsession.errors import ConstraintError, DatabaseSessionIsOver, OperationWithDeletedObjectError
from dbsession.model.attributes import Attribute, PendingExpression, ValueAttribute
from dbsession.model.collections import Collection, CollectionAttribute
from dbsession.model.departed import Departed
from dbsession.model.entity import EntityBase
from dbsession.model.json_values import key_from_json, value_from_json
from dbsession.model.mapping import Mapping
from dbsession.model.references import ReferenceAttribute
from dbsession.model.registration import suggest
from dbsession.model.stand_ins import object_behind
from dbsession.model.state import NOT_LOADED, UNSET, Status
from dbsession.model.tracked import plain
from dbsession.session.undone import require_not_undone

if TYPE_CHECKING:
    from dbsession.session.unit_of_work import UnitOfWork

__all__ = ["Change", "Node", "Plan", "Reference", "member_of", "wrong_name"]


_DELETED = frozenset({Status.MARKED_FOR_DELETION, Status.DELETED})


class Reference(NamedTuple):
    """An object by its key, as rows have it."""

    mapping: Mapping
    key: Any


class Change(NamedTuple):
    """What a copy has added to a collection, and removed from it, unless a node of the item says so."""

    added: list[Any]
    removed: list[Any]


class Node:
    """One object to be found or made, and what it is to get."""

    def __init__(self, mapping: Mapping, source: EntityBase | None = None) -> None:
        self.mapping = mapping
        self.source = source  # the object to be merged; None: the data are a dict
        self.key: Any = None  # as rows have it; None: the object is to be made
        self.values: dict[str, Any] = {}  # of attributes
        self.sets: dict[
            str, Any
        ] = {}  # what to do behind it: collections, as lists or `Change`, and nodes that refer here
        self.expected: dict[str, tuple[Any, ...]] = {}  # of the attributes that a copy has changed: what its row had
        self.version: Any = UNSET
        self.must_exist = False
        self.obj: EntityBase | None = None


class Plan:
    """All nodes, in the order in which they were met."""

    def __init__(self, unit: UnitOfWork) -> None:
        self.unit = unit
        self.nodes: list[Node] = []
        self._by_source: dict[int, Node] = {}
        self._by_link: dict[tuple[int, str], Node] = {}
        self._departed = Departed()
        self._todo: list[Node] = []
        self._owners: list[EntityBase] = []

    # --- dictionaries ---------------------------------------------------------------------------------

    def from_dict(self, mapping: Mapping, data: Any, owner: tuple[ReferenceAttribute, Node] | None = None) -> Node:
        """Return the node of *data*, a dict, for an object of *mapping*.

        *owner*: the data stand in those of this node, and the attribute refers to it.

        Raises:
            TypeError, ValueError: the data are no dict, have an unknown name, or a value that does not fit.
        """
        if not isinstance(data, MappingOf):
            raise TypeError(f"what is merged into {mapping.name} is a dict of its attributes, not {data!r:.80}")
        node = Node(_class_of(mapping, data))
        self.nodes.append(node)
        for name, value in data.items():
            self._take(node, name, value)
        if owner is not None:
            _give_owner(node, *owner)
        node.key = self._key_of(node)
        for name, value in data.items():
            attribute = member_of(node.mapping, name)
            if _is_owned(attribute, value):
                node.sets[name] = self.from_dict(attribute.target, value, (attribute.reverse, node))
            elif isinstance(attribute, CollectionAttribute):
                node.sets[name] = list(self._items(node, attribute, value))
        return node

    def _take(self, node: Node, name: Any, value: Any) -> None:
        """Take over a value for which the key of *node* need not be known."""
        attribute = member_of(node.mapping, name)
        if attribute is node.mapping.root.discriminator or isinstance(attribute, CollectionAttribute):
            return
        if attribute is node.mapping.version:
            node.version = UNSET if value is None else value
        elif isinstance(attribute, ValueAttribute):
            node.values[name] = value_from_json(attribute, value)
        elif not _is_owned(attribute, value):
            node.values[name] = self._related(attribute, value)

    def _key_of(self, node: Node) -> Any:
        """Return the key among the values of *node*, or None if it is not (all) there."""
        raw: list[Any] = []
        for attribute in node.mapping.key:
            value = node.values.get(attribute.name)
            if isinstance(value, Node) and value.source is not None and not value.must_exist:
                value = self._key_of(value)
            elif isinstance(value, Node | Reference):
                value = value.key
            elif isinstance(value, EntityBase):
                value = value._key_
            elif value is not None:
                assert isinstance(attribute, ValueAttribute)
                value = attribute.raw(attribute.coerce(value))
            if value is None:
                if getattr(attribute, "is_auto", False):
                    node.values.pop(attribute.name, None)
                return None
            raw += value if len(attribute.columns) > 1 else (value,)
        return raw[0] if len(raw) == 1 else tuple(raw)

    def _items(self, node: Node, attribute: CollectionAttribute, values: Any) -> Iterator[Any]:
        if isinstance(values, str | MappingOf) or not isinstance(values, Iterable):
            raise TypeError(f"{attribute!r} takes a list of dicts, keys or objects, not {values!r:.80}")
        reverse = attribute.reverse
        for value in values:
            if isinstance(value, MappingOf) and isinstance(reverse, ReferenceAttribute):
                yield self.from_dict(attribute.target, value, (reverse, node))
            elif value is None:
                raise TypeError(f"{attribute!r} holds {attribute.target.name}, not None")
            else:
                yield self._related(attribute, value)

    def _related(self, attribute: ReferenceAttribute | CollectionAttribute, value: Any) -> Any:
        """Return what *value*, a dict, a key, an object, a proxy or None, stands for."""
        target = attribute.target
        if isinstance(value, MappingOf):
            return self.from_dict(target, value)
        if isinstance(value, EntityBase):
            return self._other(value)
        behind = None if value is None else object_behind(value)
        if behind is not None:
            return Reference(behind._mapping_, behind._key_)
        if value is None:
            return None
        try:
            return Reference(target, target.entity._key_from_(key_from_json(target, value)))
        except (TypeError, ValueError) as error:
            raise type(error)(f"{attribute!r} refers to {target.name}: {error}") from None

    # --- objects ----------------------------------------------------------------------------------------

    def from_object(self, obj: EntityBase) -> Node:
        """Return the node of *obj*, which is in no live session, with what it has changed; of a new one, all it has.

        Raises:
            ConstraintError: it belongs to another live session.
            OperationWithDeletedObjectError: it was deleted.
            DatabaseSessionIsOver: its scope has left open whether its changes were saved.

        Also raises `OperationWithDeletedObjectError` if one of the objects that it was linked to was deleted with it in
        memory: that would have to be saved, too.
        """
        wanted = self._node_of(obj)
        new: list[Node] = []
        while self._todo or self._owners:
            if not self._todo:
                self._take_departed(self._owners.pop())
                continue
            node = self._todo.pop()
            self._read(node)
            if not node.must_exist:
                new.append(node)
        for node in new:
            node.key = self._key_of(node)
        return wanted

    def _node_of(self, obj: EntityBase) -> Node:
        """Return the node of *obj*, which is read later, so that a chain of objects may be long."""
        known = self._by_source.get(id(obj))
        if known is not None:
            return known
        _require_free(obj)
        catalog: Any = obj._mapping_.catalog
        if catalog is not self.unit.database:
            raise ConstraintError(f"{obj!r} cannot be merged with the others: its entity belongs to another database")
        node = self._by_source[id(obj)] = Node(obj._mapping_, obj)
        self.nodes.append(node)
        self._todo.append(node)
        return node

    def _read(self, node: Node) -> None:
        """Let *node* have what its object has changed, or, if that is new, all that it has."""
        obj: Any = node.source
        state, mapping = obj._state_, obj._mapping_
        is_unsaved = state.is_new or state.status is Status.TRANSIENT
        node.must_exist = not is_unsaved
        changes: dict[str, Any] = obj._changes_ if state.has_changes else {}
        names: Iterable[str] = [n for n in mapping.attributes if n in obj.__dict__] if is_unsaved else changes
        for name in names:
            attribute = mapping.attributes[name]
            if attribute is mapping.version or attribute is mapping.root.discriminator or attribute.is_virtual:
                continue
            if not (is_unsaved or _is_blind(changes[name])):
                node.expected[name] = _raw_before(obj, attribute, changes[name])
            node.values[name] = self._changed(obj, attribute, changes.get(name))
        if not is_unsaved:
            node.key = obj._key_
            self._expect_version(node, obj)
        if is_unsaved or state.unit is not None:
            self._take_other_ends(node, obj)

    def _changed(self, obj: EntityBase, attribute: Attribute[Any], change: Any) -> Any:
        if isinstance(change, PendingExpression):
            return change.expression
        value = obj.__dict__[attribute.name]
        if not isinstance(value, EntityBase):
            return plain(value)
        if value._state_.unit is not self.unit:
            self._owners.append(value)
        return self._other(value)

    @staticmethod
    def _expect_version(node: Node, obj: EntityBase) -> None:
        version = node.mapping.version
        if version is not None and obj._state_.has_changes:
            node.expected[version.name] = _raw_before(obj, version, True)

    def _take_other_ends(self, node: Node, obj: EntityBase) -> None:
        """Take over what has changed in relations, where it is others that have the columns."""
        for reference in node.mapping.reference_attributes:
            self._require_kept(obj, reference)
            if isinstance(reference.reverse, ReferenceAttribute) and not reference.reverse.is_virtual:
                partner = obj.__dict__.get(reference.name)
                if partner is not None and not self._take_link(obj, partner, reference.reverse):
                    other = self._other(partner)
                    if reference.is_virtual and isinstance(other, Node):
                        node.sets[reference.name] = other
        self._owners.append(obj)
        for name, attribute in node.mapping.collections.items():
            collection = obj.__dict__.get(name)
            if isinstance(collection, Collection):
                items, *changed = collection.contents()
                added, removed = map(list, changed)
                if attribute.link is None:
                    added = [item for item in added if not self._take_link(obj, item, attribute.reverse)]
                    removed = [item for item in removed if not self._take_link(obj, item, attribute.reverse)]
                else:
                    for item in items or ():
                        _require_alive(obj, item)
                if added or removed:
                    node.sets[name] = self._change(obj, added, removed)

    def _take_departed(self, owner: EntityBase) -> None:
        """Take over that others have left one-to-one relations to *owner*, which may be taken by somebody else now."""
        for other in self._departed.of(owner):
            for attribute in other._mapping_.reference_attributes:
                if not attribute.is_virtual and isinstance(attribute.reverse, ReferenceAttribute):
                    self._take_link(owner, other, attribute)

    def _change(self, obj: EntityBase, added: Iterable[EntityBase], removed: Iterable[EntityBase]) -> Change:
        """Return what came into a collection of *obj*, and what has left it; what is in no database need not leave."""
        gone = [item for item in removed if item._state_.has_row]
        for item in gone:
            _require_alive(obj, item)
        return Change([self._other(item) for item in added], [self._other(item) for item in gone])

    def _take_link(self, obj: EntityBase, other: EntityBase, attribute: ReferenceAttribute) -> bool:
        """Take over what *other*, which came to *obj* or has left it, refers to by *attribute*.

        Returns False for what is new, which is taken over whole, and for what belongs to the session.
        """
        state = other._state_
        if state.unit is None or state.unit is self.unit or not state.has_row:
            return False
        _require_alive(obj, other)
        place = (id(other), attribute.name)
        if state.has_changes and attribute.name in other._changes_ and place not in self._by_link:
            node = self._by_link[place] = Node(other._mapping_, other)
            node.must_exist = True
            node.key = other._key_
            node.expected[attribute.name] = _raw_before(other, attribute, True)
            node.values[attribute.name] = self._changed(other, attribute, True)
            self._expect_version(node, other)
            self.nodes.append(node)
        return True

    def _require_kept(self, obj: EntityBase, attribute: ReferenceAttribute) -> None:
        """Raise if *obj* refers to nobody by *attribute* since the object that it referred to was deleted."""
        state = obj._state_
        if state.unit is None or not state.has_changes or attribute.name not in obj._changes_:
            return
        key = attribute.key_in(obj._row_)
        if obj.__dict__.get(attribute.name) is None and key is not None and key is not NOT_LOADED:
            before = state.unit.find(attribute.target, key)
            if before is not None:
                _require_alive(obj, before)

    def _other(self, obj: EntityBase) -> Any:
        """Return what stands for *obj*, which what is merged refers to: by its key, if it has been saved."""
        if obj._state_.unit is self.unit:
            return obj
        is_unsaved = obj._state_.is_new or obj._state_.status is Status.TRANSIENT
        return self._node_of(obj) if is_unsaved else Reference(obj._mapping_, obj._key_)


def member_of(mapping: Mapping, name: Any) -> Any:
    """Return the attribute or collection *name* of *mapping*, or of what an object of it may turn out to be.

    Raises:
        TypeError: there is none.
    """
    for each in mapping.family():
        found = each.entity._attributes_.get(name)
        if found is not None:
            return found
    raise wrong_name(mapping, name)


def wrong_name(mapping: Mapping, name: Any) -> TypeError:
    """Return the error for an attribute *name* that objects of *mapping* do not have."""
    known = mapping.entity._attributes_
    return TypeError(f"unexpected attribute {name!r} of {mapping.name}{suggest(str(name), known)}")


def _require_free(obj: EntityBase) -> None:
    """Raise unless *obj* can be merged: it is in no live session, and neither deleted nor in doubt."""
    state = obj._state_
    if state.unit is not None and not state.unit.is_detached:
        raise ConstraintError(
            f"{obj!r} cannot be merged: it belongs to another live session (or database); merge it when that is over, "
            f"or merge obj.to_dict()"
        )
    require_not_undone(obj, "merge")
    status = state.before if state.unit is None else state.status
    if status in _DELETED:
        raise OperationWithDeletedObjectError(
            f"{obj!r} cannot be merged: it was deleted; session.attach(obj) of a copy brings the deletion along"
        )
    if state.doubt:
        raise DatabaseSessionIsOver(f"{obj!r} cannot be merged: {state.doubt}")


def _require_alive(obj: EntityBase, other: EntityBase) -> None:
    """Raise if *other*, which is or was linked to *obj*, is to be deleted: merging *obj* would not delete it."""
    if other._state_.status is Status.MARKED_FOR_DELETION:
        raise OperationWithDeletedObjectError(
            f"{obj!r} cannot be merged: {other!r}, which it was linked to, was deleted, and merge() deletes nothing; "
            f"session.attach(obj) brings the deletion along"
        )


def _is_owned(attribute: Any, value: Any) -> bool:
    """Tell whether *value*, for *attribute*, is the data of an object that has the column of a one-to-one relation."""
    return isinstance(attribute, ReferenceAttribute) and attribute.is_virtual and isinstance(value, MappingOf)


def _class_of(mapping: Mapping, data: MappingOf[Any, Any]) -> Mapping:
    """Return the mapping that the discriminator among *data* names; without one it is *mapping*."""
    kind = mapping.root.discriminator
    if kind is None or data.get(kind.name) is None or kind.name not in mapping.entity._attributes_:
        return mapping
    assert isinstance(kind, ValueAttribute)
    value = kind.kind.coerce(value_from_json(kind, data[kind.name]))
    found = mapping.root.by_discriminator.get(value)
    if found is None or not issubclass(found.entity, mapping.entity):
        raise TypeError(f"{kind!r} is {value!r}, which is no {mapping.name}")
    return found


def _give_owner(node: Node, attribute: ReferenceAttribute, owner: Node) -> None:
    """Let *node* refer to *owner*, in whose data it stands.

    Raises:
        ValueError: its own data name another one.
    """
    named = node.values.get(attribute.name)
    key = named._key_ if isinstance(named, EntityBase) else getattr(named, "key", None)
    if named is not None and (key is None or key != owner.key):  # None: it is new
        there = "a new object" if owner.key is None else owner.mapping.describe_key(owner.key)
        here = "a new object" if key is None else owner.mapping.describe_key(key)
        raise ValueError(f"{attribute!r} is {here} in data that stand within those of {there}")
    if not isinstance(named, Node):
        node.values[attribute.name] = owner


def _is_blind(change: Any) -> bool:
    """Tell whether *change* is an SQL expression for an attribute that was not read: it rests on whatever is there."""
    return isinstance(change, PendingExpression) and not change.was_read


def _raw_before(obj: EntityBase, attribute: Attribute[Any], change: Any) -> tuple[Any, ...]:
    """Return what the columns of a changed *attribute* had in the row of *obj*."""
    if isinstance(change, PendingExpression):
        return (change.raw,)
    return tuple([obj._row_[column.position] for column in attribute.columns])
