"""The descriptor of a reference: what ``order.user`` and ``order.user = bob`` do.

Both ends of a relation agree at once: whoever is left or taken is told, see `tell`. What is special
about one-to-one relations stands in `one_to_one`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from dbsession.errors import ConstraintError
from dbsession.model import one_to_one
from dbsession.model.attributes import Attribute
from dbsession.model.expressions import ReferenceExpression
from dbsession.model.keys import change_key
from dbsession.model.linking import joined, require_linkable, with_room
from dbsession.model.mapping import Mapping
from dbsession.model.stand_ins import object_in
from dbsession.model.state import NOT_LOADED, UNSET, State, Status, set_row, set_state

if TYPE_CHECKING:
    from dbsession.model.declarations import Declaration
    from dbsession.model.entity import EntityBase
    from dbsession.model.state import Unit

__all__ = ["ReferenceAttribute"]


class ReferenceAttribute(Attribute[Any]):
    """An attribute that refers to another object, by the columns of that object's key.

    With `is_virtual` it is the side of a one-to-one relation that has no column.
    """

    target: Mapping
    reverse: Any  # ReferenceAttribute or CollectionAttribute of the target
    positions: tuple[int, ...] = ()

    def __init__(self, declaration: Declaration[Any], name: str, mapping: Mapping) -> None:
        super().__init__(declaration, name, mapping)
        if self.default is UNSET and not self.is_required:
            self.default = None
        self.cascade_delete: bool | None = declaration.options.get("cascade_delete")

    @property
    def dies_with_target(self) -> bool:
        """Whether deleting the target deletes the object: the other side has ``cascade_delete``, or it is required."""
        cascades: bool | None = self.reverse.cascade_delete
        return self.is_required if cascades is None else cascades

    def key_in(self, row: tuple[Any, ...]) -> Any:
        """Return the key that *row* refers to, None, or NOT_LOADED."""
        if len(self.positions) == 1:
            return row[self.position]
        key = tuple([row[position] for position in self.positions])
        if NOT_LOADED in key:
            return NOT_LOADED
        return None if None in key else key

    def __get__(self, obj: EntityBase | None, owner: type | None = None) -> Any:
        if obj is None:
            return ReferenceExpression(self, self.target) if self.mapping.is_complete else self
        if self.is_virtual:
            return self._read_virtual(obj)
        key = self.key_in(obj._row_)
        if key is NOT_LOADED:
            self.load(obj)
            if self.name in obj.__dict__:
                return obj.__dict__[self.name]
            key = self.key_in(obj._row_)
        value = None if key is None or key is NOT_LOADED else self._object(obj, key)
        obj.__dict__[self.name] = value
        return value

    def _object(self, obj: EntityBase, key: Any) -> EntityBase:
        unit = obj._state_.unit
        if unit is not None:
            return unit.reference(self.target, key)
        # The scope is over and this reference was never read in it: its key is all that there is.
        hollow = self.target.entity.__new__(self.target.entity)
        set_row(hollow, self.target.hollow_row(key))
        reason = f"{obj._state_.reason}, and {obj!r}.{self.name} was not read in it"
        example = f"{self.mapping.variable}.{self.name}.load()"
        set_state(hollow, State(Status.DETACHED, None, reason, example, repr(self), obj._state_.group))
        return hollow

    def _read_virtual(self, obj: EntityBase) -> Any:
        state = obj._state_
        if state.is_new or state.status is Status.TRANSIENT:
            return None
        if state.unit is None:
            raise self.unreadable(obj)
        state.unit.check_owner()
        state.unit.load_back_reference(obj, self)
        return obj.__dict__[self.name]

    def coerce(self, obj: EntityBase | None, unit: Unit, value: Any) -> EntityBase | None:
        """Return the object that *value* (an object, a proxy, a key, or None) stands for.

        Raises:
            TypeError: it is no object of the target, and no key of one.
            ValueError: it is None and the attribute is required.
        """
        if value is None:
            if self.is_required and not self.nullable:
                raise ValueError(f"{self!r} is required, and cannot be None")
            return None
        target = self.target
        if isinstance(value, target.entity):
            other: EntityBase = value
            if other._state_.unit is not unit:
                mine = repr(obj) if obj is not None else f"a new {self.mapping.name}"
                doing = f"{mine}.{self.name} cannot refer to"
                require_linkable(obj, unit, other, doing, one_sided=not self.is_virtual)
            if not other._state_.may_change:
                raise ConstraintError(f"{self!r} cannot refer to {other!r}, which was deleted in this session")
            return other
        if hasattr(value, "_state_"):
            if target.may_turn_out(value):
                value.load()
                return self.coerce(obj, unit, value)
            raise TypeError(f"{self!r} refers to {target.name}, not to {type(value).__name__} ({value!r})")
        try:
            key = target.entity._key_from_(value)
        except (TypeError, ValueError) as error:
            stand_in = object_in(unit, value)
            if stand_in is not None:
                return self.coerce(obj, unit, stand_in)
            raise type(error)(
                f"{self!r} refers to {target.name}, and {value!r:.60} is no object or key of it: {error}"
            ) from None
        found = unit.reference(target, key)
        is_usual = isinstance(found, target.entity) and found._state_.may_change
        return found if is_usual else self.coerce(obj, unit, found)

    def checked(self, obj: EntityBase, value: Any) -> EntityBase | None:
        """Return the object that *value* stands for, or raise as `coerce` does."""
        unit = obj._state_.require_change(obj, f"change object {obj!r}")
        target = self.coerce(obj, unit, value)
        if target is not None and not self.is_virtual:
            self.require_free_end(obj, target)
        return target

    def assign(self, obj: EntityBase, value: Any) -> None:
        """Refer to another object; both ends of the relation agree at once."""
        unit = self.require_change(obj)
        target = self.coerce(obj, unit, value)
        if target is not None and target._state_.unit is not unit:
            with_room(unit, (target,))
        self.refer(obj, target, unit)

    def refer(self, obj: EntityBase, target: EntityBase | None, unit: Unit) -> None:
        """Let *obj* refer to *target*, and bring the other end into agreement."""
        if self.is_virtual:
            one_to_one.refer_virtual(self, obj, target, unit)
            return
        old = one_to_one.partner(self, obj, unit) if self.reverse is self else self.known(obj, unit)
        if old is target and (target is not None or self.name in obj.__dict__ or not self._has_key(obj)):
            return
        if target is not None:
            self.require_free_end(obj, target)
        if self.is_key:
            change_key(obj, unit, (self.name,), lambda: self.store(obj, unit, target))
        else:
            self.store(obj, unit, target)
        self.tell(obj, old, target, unit)

    def require_free_end(self, obj: EntityBase, target: EntityBase) -> None:
        """Raise unless *target* is free for *obj*, where the relation is one-to-one and needs both ends."""
        unit = target._state_.unit  # not that of *obj*, which may be in no session yet
        if self.is_required and unit is not None and isinstance(self.reverse, ReferenceAttribute):
            one_to_one.require_free_end(self, obj, target, unit)

    def tell(self, obj: EntityBase, old: EntityBase | None, target: EntityBase | None, unit: Unit) -> None:
        """Tell both other ends that *obj* has left *old* for *target*."""
        if old is not None and self.reverse is not None and (not unit.is_detached or old._state_.unit is unit):
            self.reverse.released(old, obj, unit)
        if (
            target is not None
            and self.reverse is not None
            and (target._state_.unit is unit or joined(unit, target))  # a session need not know of what is transient
        ):
            self.reverse.taken(target, obj, unit)

    def _has_key(self, obj: EntityBase) -> bool:
        return self.key_in(obj._row_) is not None

    def known(self, obj: EntityBase, unit: Unit) -> EntityBase | None:
        """Return the object referred to as far as it is in memory, without counting as a read."""
        value = obj.__dict__.get(self.name, UNSET)
        if value is not UNSET:
            known: EntityBase | None = value
            return known
        if self.is_virtual:
            return None
        key = self.key_in(obj._row_)
        return None if key is None or key is NOT_LOADED else unit.find(self.target, key)

    def store(self, obj: EntityBase, unit: Unit, target: EntityBase | None) -> None:
        """Take *target* as the new one of *obj*; the other end is not told."""
        values = obj.__dict__
        if unit.savepoint is not None:
            unit.savepoint.keep(obj)
        if not obj._state_.is_new:
            changes = self._changes(obj, unit)
            if self.name not in changes:
                changes[self.name] = self.name in values
            elif self._is_as_loaded(obj, target):
                was_read = changes.pop(self.name)
                if not was_read:
                    values.pop(self.name, None)
                    return
        values[self.name] = target

    def _is_as_loaded(self, obj: EntityBase, target: EntityBase | None) -> bool:
        key = self.key_in(obj._row_)
        if target is None:
            return key is None
        return not target._state_.is_new and bool(key == target._key_)

    def released(self, owner: EntityBase, item: EntityBase, unit: Unit) -> None:
        """Note on the other end of a one-to-one relation that *item* refers to *owner* no more."""
        one_to_one.released(self, owner, item, unit)

    def taken(self, owner: EntityBase, item: EntityBase, unit: Unit) -> None:
        """Note on the other end of a one-to-one relation that *item* now refers to *owner*."""
        one_to_one.taken(self, owner, item, unit)

    def raw_key(self, obj: EntityBase) -> Any:
        """Return the key that *obj* refers to as it travels to the database, or None."""
        value = obj.__dict__.get(self.name, UNSET)
        if value is UNSET:
            return self.key_in(obj._row_)
        return None if value is None else value._key_
