"""Entities: the classes that users declare, and what their objects can do.

An object has three slots of its own (row, state, unsaved changes) and a ``__dict__`` that is empty
until an attribute is touched. It knows its unit of work through its state, and nothing above that.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, ClassVar, Never, Self, SupportsIndex, TypeVar, cast

from dbsession.errors import CacheIndexError, ERDiagramError, ObjectNotFound
from dbsession.model import export
from dbsession.model.assignments import set_values
from dbsession.model.attributes import Attribute, ValueAttribute
from dbsession.model.collections import CollectionAttribute
from dbsession.model.copying import copy_object
from dbsession.model.declarations import Declaration, PrimaryKey
from dbsession.model.elsewhere import EntityNames
from dbsession.model.export import Names
from dbsession.model.expressions import Expression, plain_expression
from dbsession.model.iterators import over
from dbsession.model.linking import with_room
from dbsession.model.making import unit_given
from dbsession.model.mapping import Catalog, Gateway, Mapping, Selection, mapping_of
from dbsession.model.pickling import reduce_object
from dbsession.model.raw_verbs import RawVerbs
from dbsession.model.references import ReferenceAttribute
from dbsession.model.registration import begin_mapping, suggest
from dbsession.model.stand_ins import stands_for
from dbsession.model.state import UNSET, KeyRow, Slots, Status, set_row, set_state

__all__ = ["Entity", "EntityBase", "EntityMeta"]

E = TypeVar("E")  # not bound to EntityBase: type checkers want the self type of a metaclass' method so


class EntityMeta(RawVerbs, EntityNames, type):
    """The class of entity classes: registration, and the class verbs ``User[1]``, ``User.get(...)``, ..."""

    _mapping_: Mapping  # None on bases that are no entities of a database
    _declared_: dict[str, Declaration[Any]]
    _catalog_: Catalog
    _gateway_: Gateway
    if TYPE_CHECKING:  # pyright looks for the __dict__ of an object here, and finds that of a class
        __dict__: Any  # type: ignore[misc]  # pyright: ignore[reportGeneralTypeIssues]

    def __new__(
        mcs, name: str, bases: tuple[type, ...], namespace: dict[str, Any], *, db: Any = None, abstract: bool = False
    ) -> EntityMeta:
        """Make the class of an entity of the database *db*, or, with *abstract*, a base of entities.

        Raises:
            ERDiagramError: the declarations contradict each other, or there is no database.
            MappingError: the database has its mapping already.
        """
        declared = {key: value for key, value in namespace.items() if isinstance(value, Declaration)}
        namespace = {key: value for key, value in namespace.items() if key not in declared}
        if namespace.get("__slots__"):
            raise ERDiagramError(f"{name}: an entity cannot have __slots__")
        cls = super().__new__(mcs, name, bases, namespace)
        cls._mapping_ = None  # type: ignore[assignment]
        cls._declared_ = declared
        if db is not None:
            cls._catalog_, cls._gateway_ = db.catalog, db.gateway
        if not abstract and getattr(cls, "_catalog_", None) is not None:
            begin_mapping(cast("Any", cls), cls._catalog_, cls._gateway_)
        elif not abstract and bases and name != "Entity":
            raise ERDiagramError(
                f"{name} belongs to no database: write class {name}(Entity, db=db) or class {name}(db.Entity)"
            )
        return cls

    def __init__(
        cls, name: str, bases: tuple[type, ...], namespace: dict[str, Any], *, db: Any = None, abstract: bool = False
    ) -> None:
        super().__init__(name, bases, namespace)

    def __getitem__(cls: type[E], key: Any) -> E:
        """Return the object with the primary key *key*; several key attributes: ``E[1, "a"]``.

        Raises:
            ObjectNotFound: there is no such row.
        """
        mapping = mapping_of(cls)
        raw = mapping.entity._key_from_(key)
        found: Any = mapping.gateway.get(mapping, raw)
        if found is None:
            raise ObjectNotFound(
                f"{mapping.describe_key(raw)} does not exist: there is no row with this key; "
                f"{mapping.name}.get(...) returns None instead of raising",
                entity=cls,
                key=key,
            )
        entity: E = found
        return entity

    def __iter__(cls: type[E]) -> Iterator[E]:
        """Iterate over all objects; the same as ``select()``, which is sent with the first step."""
        return over(cls, _fetch_all)

    def __repr__(cls) -> str:
        return f"<entity {cls.__name__}>"

    def get(cls: type[E], /, *conditions: Any, **values: Any) -> E | None:
        """Return the object that fits, or None.

        Raises:
            MultipleObjectsFoundError: more than one fits.
        """
        mapping = mapping_of(cls)
        if not conditions and len(values) == len(mapping.key) and all(part.name in values for part in mapping.key):
            parts: tuple[Any, ...] = tuple([values[part.name] for part in mapping.key])
            if None not in parts and not any(isinstance(part, Expression) for part in parts):
                raw = mapping.entity._key_from_(parts)
                found: Any = mapping.gateway.get(mapping, raw)
                entity: E | None = found
                return entity
        return _select(cls, *conditions, **values).get()

    def get_for_update(
        cls: type[E], /, *conditions: Any, nowait: bool = False, skip_locked: bool = False, **values: Any
    ) -> E | None:
        """Return the object that fits with its row locked until the transaction ends, or None.

        What it returns has the values of the locked row, whatever was loaded before.

        Raises:
            MultipleObjectsFoundError: more than one fits.
            LockNotAvailable: *nowait*, and somebody else has the lock.
            OptimisticCheckError: an attribute with an unsaved change was changed by somebody else.
        """
        return _select(cls, *conditions, **values).for_update(nowait=nowait, skip_locked=skip_locked).get()

    def exists(cls, /, *conditions: Any, **values: Any) -> bool:
        """Ask the database whether an object fits."""
        return cls.select(*conditions, **values).exists()

    def select(cls: type[E], /, *conditions: Any, **values: Any) -> Selection[E]:
        """Return the query for the objects that fit: ``User.select(User.age > 18, name="x")``."""
        return _select(cls, *conditions, **values)


def _select(entity: type[E], /, *conditions: Any, **values: Any) -> Selection[E]:
    mapping = mapping_of(entity)
    selection: Selection[E] = mapping.gateway.select(mapping, conditions, values)
    return selection


def _fetch_all(entity: type[E]) -> list[E]:
    return _select(entity).fetch()


class EntityBase(Slots, metaclass=EntityMeta, abstract=True):
    """The root of all entity objects."""

    __slots__ = ()

    _mapping_: ClassVar[Mapping]
    _attributes_: ClassVar[dict[str, Any]]

    if TYPE_CHECKING:
        # The key that an entity gets where it declares none.
        id = PrimaryKey[Any](int)

    def __init__(self, /, *unnamed: Never, **values: Any) -> None:
        mapping = mapping_of(type(self))
        unit = unit_given(mapping, unnamed) if unnamed else mapping.gateway.unit_for_new(values)
        attributes = self._attributes_
        if not values.keys() <= attributes.keys():
            unknown = next(name for name in values if name not in attributes)
            raise TypeError(f"unexpected attribute {unknown!r} of {mapping.name}{suggest(unknown, attributes)}")
        plain = self._plain_values_(mapping, values)
        relations = self._relations_(mapping, values, unit) if mapping.reference_attributes else ()
        set_row(self, mapping.template)
        set_state(self, unit.states.new)
        values_here = self.__dict__
        values_here.update(plain)
        coming: list[Any] = []
        for attribute, target in relations:
            if target is not None:
                if target._state_.unit is not unit:
                    coming.append(target)
                if not attribute.is_virtual:
                    attribute.require_free_end(self, target)
            if target is None or not attribute.is_virtual:
                values_here[attribute.name] = target
        for name in mapping.collections:
            if name in values:
                values[name] = attributes[name].checked(self, values[name])
                coming += values[name]
        if coming:
            coming = with_room(unit, coming)
        unit.add_new(self)
        try:  # Only now do others learn of the object, when nothing can be refused any more.
            if coming:
                unit.take_in(*coming)
            for attribute, target in relations:
                if target is not None:
                    attribute.refer(self, target, unit) if attribute.is_virtual else attribute.tell(
                        self, None, target, unit
                    )
            for name in mapping.collections:
                if name in values:
                    attributes[name].assign(self, values[name])
        except CacheIndexError:  # but that what it brings along has its key
            unit.withdraw(self)
            raise

    def _plain_values_(self, mapping: Mapping, values: dict[str, Any]) -> dict[str, Any]:
        plain: dict[str, Any] = {}
        for attribute in mapping.value_attributes:
            name = attribute.name
            if name in values:
                value = values[name]
                if isinstance(value, Expression):
                    raise TypeError(f"{attribute!r}: a new object takes values, not SQL expressions; use sql_default=")
            else:
                value = attribute.default
                if value is UNSET:
                    if attribute.is_given_by_database:
                        continue
                    if attribute.is_required and not attribute.nullable:
                        attribute.refuse_missing()
                    value = None
                elif callable(value):
                    value = value()
            if value is not None or not attribute.nullable:
                value = attribute.coerce(value)
                if attribute.is_tracked:
                    value = attribute.held(self, value)
            plain[name] = value
        return plain

    def _relations_(self, mapping: Mapping, values: dict[str, Any], unit: Any) -> list[tuple[Any, Any]]:
        relations: list[tuple[Any, Any]] = []
        for attribute in mapping.reference_attributes:
            if attribute.name in values:
                value = values[attribute.name]
            elif attribute.is_virtual:
                value = None
            else:
                value = attribute.default_value()
                if value is UNSET:
                    if attribute.is_required and not attribute.nullable:
                        attribute.refuse_missing()
                    value = None
            relations.append((attribute, attribute.coerce(None, unit, value)))
        return relations

    if not TYPE_CHECKING:  # hidden, so that assigning an unknown attribute is an error to type checkers too

        def __setattr__(self, name: str, value: Any) -> None:
            attribute = self._attributes_.get(name)
            if attribute is not None:
                attribute.assign(self, value)
            else:
                self._set_other_(name, value)

    def _set_other_(self, name: str, value: Any) -> None:
        """Assign what is no declared attribute: a property with a setter, or a mistake."""
        if hasattr(getattr(type(self), name, None), "__set__"):
            object.__setattr__(self, name, value)
            return
        guess = suggest(name, self._attributes_) or "; only what the class declares can be assigned"
        raise AttributeError(f"{type(self).__name__} has no attribute {name!r}{guess}")

    def __delattr__(self, name: str) -> None:
        raise AttributeError(f"{type(self).__name__}.{name} cannot be deleted from an object; assign None")

    def __repr__(self) -> str:
        key = self._key_
        if key is None:
            label = self._state_.label
            return f"{type(self).__name__}[{label}]"
        return self._mapping_.describe_key(key)

    def __reduce_ex__(self, protocol: SupportsIndex) -> Any:
        return reduce_object(self)

    def __copy__(self) -> Self:
        return copy_object(self)

    def __lt__(self, other: Any) -> bool:
        return bool(self._ordered_() < other._ordered_()) if isinstance(other, EntityBase) else NotImplemented

    def __le__(self, other: Any) -> bool:
        return bool(self._ordered_() <= other._ordered_()) if isinstance(other, EntityBase) else NotImplemented

    def __gt__(self, other: Any) -> bool:
        return bool(self._ordered_() > other._ordered_()) if isinstance(other, EntityBase) else NotImplemented

    def __ge__(self, other: Any) -> bool:
        return bool(self._ordered_() >= other._ordered_()) if isinstance(other, EntityBase) else NotImplemented

    def _ordered_(self) -> Any:
        key = self.get_pk()
        if key is None:
            raise TypeError(f"{self!r} has no key yet to be ordered by; flush() first, or give sorted() a key=")
        return key

    @classmethod
    def _key_from_(cls, key: Any) -> Any:
        """Return *key* (a value, a tuple, or an object for a key that is a reference) as rows have it.

        Raises:
            TypeError: it has another number of parts than the key, or a part of another type.
        """
        mapping = cls._mapping_
        attributes = mapping.key
        if len(attributes) == 1:
            if isinstance(key, tuple):
                if len(key) == 1:
                    key = key[0]
                elif isinstance(attributes[0], ValueAttribute):
                    alone = attributes[0].name
                    raise TypeError(f"the key of {mapping.name} is {alone} alone, and {key!r} does not fit")
            return cls._key_part_(attributes[0], key)
        if not isinstance(key, tuple) or len(key) != len(attributes):
            names = ", ".join(part.name for part in attributes)
            raise TypeError(
                f"the key of {mapping.name} has {len(attributes)} parts ({names}), and {key!r} does not fit; "
                f"write {mapping.name}[{names}]"
            )
        raw: list[Any] = []
        for attribute, part in zip(attributes, key, strict=True):
            value = cls._key_part_(attribute, part)
            raw.extend(value if len(attribute.columns) > 1 else (value,))
        return tuple(raw)

    @staticmethod
    def _key_part_(attribute: Attribute[Any], part: Any) -> Any:
        if part is None:
            raise TypeError(f"{attribute!r} is a key, and cannot be None")
        if isinstance(attribute, ReferenceAttribute):
            if isinstance(part, attribute.target.entity):
                return part._key_
            try:
                return attribute.target.entity._key_from_(part)
            except (TypeError, ValueError):
                key = stands_for(attribute.target, part)
                if key is None:
                    raise
                return key
        assert isinstance(attribute, ValueAttribute)
        return attribute.raw(attribute.coerce(part))

    @property
    def _key_(self) -> Any:
        """The key as rows have it: that of the row, or, of a new object, that of its attributes; None if not known."""
        mapping = self._mapping_
        row = self._row_
        if self._state_.has_row:
            return mapping.key_of(row)
        if isinstance(row, KeyRow):
            return row.key
        raw: list[Any] = []
        for attribute in mapping.key:
            value = self.__dict__.get(attribute.name)
            if value is None:
                return None
            if isinstance(attribute, ReferenceAttribute):
                part = value._key_
                if part is None:
                    return None
                raw.extend(part if len(attribute.columns) > 1 else (part,))
            else:
                raw.append(attribute.raw(value))  # type: ignore[attr-defined]
        return raw[0] if len(raw) == 1 else tuple(raw)

    def get_pk(self) -> Any:
        """Return the primary key: a value, or a tuple where the key has several parts. None before it is known."""
        if isinstance(self._row_, KeyRow):
            return self._mapping_.shown_key(self._row_.key)
        values = tuple([self._key_value_(attribute) for attribute in self._mapping_.key])
        return values[0] if len(values) == 1 else values

    def _key_value_(self, attribute: Attribute[Any]) -> Any:
        value = getattr(self, attribute.name)
        return value.get_pk() if isinstance(value, EntityBase) else value

    def set(self, /, **values: Any) -> None:
        """Assign several attributes; if one is refused, none is assigned.

        Raises:
            TypeError, ValueError: an attribute does not exist, or a value does not fit.
        """
        set_values(self, values)

    def delete(self) -> None:
        """Delete the object, and what cascades from it, at the next flush. A second call does nothing.

        Raises:
            ConstraintError: objects refer to it by a required attribute, and ``cascade_delete=False``.
            DatabaseSessionIsOver: the scope has ended.
        """
        state = self._state_
        unit = state.require_unit(self, f"delete object {self!r}")
        if state.status not in {Status.MARKED_FOR_DELETION, Status.DELETED}:
            unit.delete(self)

    def flush(self) -> None:
        """Save this object, and the new objects that it refers to, now; the rest waits."""
        state = self._state_
        unit = state.require_unit(self, f"flush object {self!r}")
        if state.status is not Status.CLEAN:
            unit.flush_objects((self,))

    def load(self, *attributes: Any) -> None:
        """Load what is missing of the object: the named *attributes*, or its whole row, lazy ones too.

        Attributes are given by name or as ``User.bio``. What lies in other tables (collections, the end of a
        one-to-one relation that has no column) has to be named.

        Raises:
            ObjectNotFound: the row is gone.
            DatabaseSessionIsOver: the scope has ended.
        """
        unit = self._state_.require_unit(self, f"load object {self!r}")
        chosen = [self._attribute_(attribute) for attribute in attributes] or [
            *self._mapping_.attributes.values(),
        ]
        entity = type(self)
        unit.refresh_lazy(self, [attribute for attribute in chosen if isinstance(attribute, Attribute)])
        if not attributes and type(self) is not entity:  # it turned out to be of a subclass, which has more of them
            unit.refresh_lazy(self, self._mapping_.attributes.values())
        for attribute in chosen:
            if isinstance(attribute, CollectionAttribute):
                attribute.of(self).load()
            elif attributes and attribute.is_virtual:
                getattr(self, attribute.name)

    def _attribute_(self, attribute: Any) -> Any:
        attribute = plain_expression(attribute)
        name = attribute if isinstance(attribute, str) else getattr(attribute, "name", None)
        if name not in self._attributes_:
            raise TypeError(
                f"{type(self).__name__} has no attribute {attribute!r}{suggest(str(name), self._attributes_)}"
            )
        return self._attributes_[name]

    def to_dict(
        self,
        only: Names = None,
        exclude: Names = None,
        with_collections: bool = False,
        with_lazy: bool = False,
        related_objects: bool = False,
    ) -> dict[str, Any]:
        """Return the attributes as a dict.

        Related objects stand as their keys, for which nothing is loaded, unless *related_objects*. Collections (as
        sorted lists of keys) and lazy attributes are left out unless asked for, or named in *only*.

        Raises:
            TypeError: *only* or *exclude* names an attribute that does not exist.
            DatabaseSessionIsOver: something that is asked for was not loaded, and the scope has ended.
        """
        return export.to_dict(self, only, exclude, with_collections, with_lazy, related_objects)

    def to_json(
        self,
        only: Names = None,
        exclude: Names = None,
        with_collections: bool = False,
        with_lazy: bool = False,
        related_objects: bool = False,
        **json_options: Any,
    ) -> str:
        """Return the attributes as JSON text; the arguments are those of `to_dict`, and of ``json.dumps``.

        Dates, times and timedeltas are ISO 8601, Decimal and UUID their text, an Enum its value, bytes base64.
        *related_objects* nests dicts: for references all the way, for collections as far as they are
        one-to-many; an object whose dict is being written stands in it as its key. `Session.merge` takes it back.

        Raises:
            TypeError, DatabaseSessionIsOver: as for `to_dict`.
        """
        return export.to_json(self, only, exclude, with_collections, with_lazy, related_objects, json_options)


class Entity(EntityBase, abstract=True):
    """Base of entity classes: ``class User(Entity, db=db): name = Required(str)``.

    The same as ``class User(db.Entity)``, in the form that every type checker understands.
    """

    __slots__ = ()
