"""The descriptors of entities: what ``user.name`` and ``user.name = "x"`` do.

They are *non-data* descriptors. The first read finds the value in the object's row, converts it and
stores it in the object's ``__dict__``, where every later read finds it without running any Python.
So the attributes that have been read are those in ``__dict__`` that were not first written; that is
what the optimistic check goes by. Writes come through `EntityBase.__setattr__`, which calls `assign`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Generic, NamedTuple, NoReturn, TypeVar

from dbsession.errors import ConstraintError, DatabaseSessionIsOver, OrmError
from dbsession.model import one_to_one
from dbsession.model.expressions import Expression, Operation
from dbsession.model.keys import change_key
from dbsession.model.mapping import Column, Mapping
from dbsession.model.state import NOT_LOADED, UNSET, Status, set_row, set_state
from dbsession.model.tracked import Holder, plain, release, same, track

if TYPE_CHECKING:
    from dbsession.backends.base import Codec
    from dbsession.model.declarations import Declaration
    from dbsession.model.entity import EntityBase
    from dbsession.model.state import Unit
    from dbsession.model.types import AttributeType

__all__ = ["Attribute", "PendingExpression", "ReferenceAttribute", "ValueAttribute"]

T = TypeVar("T")


class PendingExpression(NamedTuple):
    """An SQL expression assigned to an attribute: what is sent, and what the row held before."""

    expression: Operation[Any]
    was_read: bool
    raw: Any


class Attribute(Expression[T], Generic[T]):
    """What value and reference attributes have in common."""

    is_virtual = False  # a one-to-one attribute whose column is on the other side
    is_plain = False

    def __init__(self, declaration: Declaration[T], name: str, mapping: Mapping) -> None:
        options = declaration.options
        self.declaration = declaration
        self.name = name
        self.mapping = mapping
        self.is_required = declaration.is_required
        self.is_key = False
        self.is_auto: bool = options.get("auto", False)
        self.is_lazy: bool = options.get("lazy", False)
        self.is_volatile: bool = options.get("volatile", False)
        self.is_checked: bool = options.get("optimistic", True) and not self.is_volatile
        self.is_unique: bool = options.get("unique", False)
        self.default: Any = options.get("default", UNSET)
        self.sql_default: Any = options.get("sql_default")
        self.check: Callable[[Any], Any] | None = options.get("py_check")
        self.columns: tuple[Column, ...] = ()
        self.position = -1

    def __repr__(self) -> str:
        return f"{self.mapping.name}.{self.name}"

    @property
    def nullable(self) -> bool:
        """Whether the column takes NULL."""
        return bool(self.declaration.options.get("nullable", not self.is_required)) and not self.is_key

    @property
    def is_given_by_database(self) -> bool:
        """Whether the database makes the value where the program gives none."""
        return self.is_auto or self.sql_default is not None

    def refuse(self, obj: EntityBase, value_of: str = "assign a new value to") -> NoReturn:
        """Raise what fits the state of *obj*, which may not be changed."""
        doing = f"{value_of} {obj!r}.{self.name}"
        obj._state_.require_change(obj, doing)
        raise OrmError(f"Cannot {doing}")

    def require_change(self, obj: EntityBase) -> None:
        """Raise unless *obj* may be changed."""
        state = obj._state_
        if not state.may_change or state.unit is None:
            self.refuse(obj)
        state.unit.check_owner()

    def load(self, obj: EntityBase) -> None:
        """Fill the gap in the row of *obj*, or raise what says why that cannot be done."""
        state = obj._state_
        if state.status is Status.TRANSIENT:
            return  # in no database: what the database would have made is None, as it is before the flush
        if state.unit is None:
            raise DatabaseSessionIsOver(
                f"Cannot load attribute {obj!r}.{self.name}: {state.reason or 'the database session is over'}; "
                f"read it within the scope, or load it there with {self.mapping.name.lower()}.load()"
            )
        state.require_unit(obj, f"load attribute {obj!r}.{self.name}")
        state.unit.load(obj, self)

    def _changes(self, obj: EntityBase, unit: Unit) -> dict[str, Any]:
        """Return the dict of the unsaved changes of a persistent object."""
        if obj._state_.status is Status.CLEAN:
            return unit.mark_dirty(obj)
        unit.generation += 1
        return obj._changes_

    def refuse_missing(self) -> NoReturn:
        """Raise what says that a new object lacks this attribute."""
        raise ValueError(
            f"{self!r} is required, and was not given: write {self.mapping.name}({self.name}=...), or declare a default="
        )

    def default_value(self) -> Any:
        """Return the default of the declaration, calling it where it is a function."""
        default = self.default
        return default() if callable(default) else default

    def checked(self, obj: EntityBase, value: Any) -> Any:
        """Return *value* as `assign` takes it, or raise what `assign` would raise."""
        raise NotImplementedError

    def assign(self, obj: EntityBase, value: Any) -> None:
        """Do what ``obj.attribute = value`` means."""
        raise NotImplementedError


class ValueAttribute(Attribute[T]):
    """An attribute with a plain value in one column."""

    def __init__(self, declaration: Declaration[T], name: str, mapping: Mapping, kind: AttributeType) -> None:
        super().__init__(declaration, name, mapping)
        self.kind = kind
        self.is_checked = self.is_checked and (kind.is_checked or declaration.options.get("optimistic") is True)
        self.is_tracked = kind.is_tracked
        self.is_plain = not kind.is_tracked  # one column, and equal values are equal in the database
        self.decode: Callable[[Any], Any] | None = None
        self.encode: Callable[[Any], Any] | None = None
        if self.default is UNSET and not self.is_given_by_database:
            self.default = self._implicit_default(mapping)
        self.empty = kind.empty if self.is_required else None

    def _implicit_default(self, mapping: Mapping) -> Any:
        if self.is_required:
            return UNSET
        return None if self.declaration.options.get("nullable", True) else self.kind.empty

    def complete(self, codec: Codec) -> None:
        """Take over the conversions of the dialect."""
        self.encode = _chain(self.kind.to_storage, codec.encode)
        self.decode = _chain(codec.decode, self.kind.from_storage)
        if codec.check is not None:
            coerce, check = self.kind.coerce, codec.check
            self.kind = replace(self.kind, coerce=lambda value: check(coerce(value)))

    def __get__(self, obj: EntityBase | None, owner: type | None = None) -> Any:
        if obj is None:
            return self
        value = obj._row_[self.position]
        if value is NOT_LOADED:
            self.load(obj)
            if self.name in obj.__dict__:
                return obj.__dict__[self.name]
            value = obj._row_[self.position]
            if value is NOT_LOADED:  # an object not yet saved, whose database is to make the value
                return None
        if value is not None:
            if self.decode is not None:
                value = self.decode(value)
            if self.is_tracked:
                value = track(plain(value), Holder(obj, self, self.kind.coerce))
        obj.__dict__[self.name] = value
        return value

    def coerce(self, value: Any) -> Any:
        """Check *value* and return it as the database will give it back.

        Raises:
            TypeError: it has another type.
            ValueError: it is missing, too long, out of range, or refused by ``py_check``.
        """
        if value is not None:
            try:
                value = self.kind.coerce(value)
            except (TypeError, ValueError) as error:
                raise type(error)(f"{self!r} {error}") from None
            except (ArithmeticError, RecursionError) as error:  # beyond the type's limits, nested in itself
                raise ValueError(f"{self!r} cannot take {value!r:.60}: {error}") from None
            if (self.empty is None or value != self.empty) and (self.check is None or self.check(value)):
                return value
            if self.empty is not None and value == self.empty:
                raise ValueError(f"{self!r} is required, and {value!r} is empty")
            raise ValueError(f"{self!r}: py_check refused {value!r}")
        if self.is_required and not self.nullable:
            raise ValueError(f"{self!r} is required, and cannot be None")
        if self.nullable or self.is_given_by_database:
            return None
        if self.kind.empty is None:
            raise ValueError(f"{self!r} cannot be None: it is declared with nullable=False")
        return self.kind.empty

    def raw(self, value: Any) -> Any:
        """Return *value* as it travels to the database."""
        if value is None or self.encode is None:
            return value
        return self.encode(value)

    def checked(self, obj: EntityBase, value: Any) -> Any:
        """Return *value* checked; an SQL expression as it is."""
        if isinstance(value, Expression):
            self._require_no_change(obj)
            return value
        return self.coerce(value)

    def assign(self, obj: EntityBase, value: Any) -> None:
        """Check *value* and record the change; an equal value changes nothing."""
        state = obj._state_
        unit = state.unit
        if not state.may_change or unit is None:
            self.refuse(obj)
        unit.check_owner()
        if isinstance(value, Expression):
            self._assign_expression(obj, unit, value)
            return
        value = self.coerce(value)
        if self.is_key:
            change_key(obj, unit, (self.name,), lambda: self.store(obj, unit, value))
            return
        values = obj.__dict__
        if state.is_new:
            unit.generation += 1
            values[self.name] = self.held(obj, value)
            return
        changes = obj._changes_ if state.status is Status.DIRTY else None
        if changes is not None and isinstance(changes.get(self.name), PendingExpression):
            unit.generation += 1
            self.forget_expression(obj)
        if self._equals_row(obj, value):
            self._unchange(obj, unit, value, changes)
            return
        if changes is None:
            changes = unit.mark_dirty(obj)
        unit.generation += 1
        if self.name not in changes:
            changes[self.name] = self.name in values
        values[self.name] = self.held(obj, value)

    def store(self, obj: EntityBase, unit: Unit, value: Any) -> None:
        """Take *value*, which is checked, as the new part of the key of *obj*."""
        unit.generation += 1
        if obj._state_.is_new:
            obj.__dict__[self.name] = value
        elif self._equals_row(obj, value):
            self._unchange(obj, unit, value, obj._changes_ if obj._state_.status is Status.DIRTY else None)
        else:
            self._changes(obj, unit).setdefault(self.name, self.name in obj.__dict__)
            obj.__dict__[self.name] = value

    def held(self, obj: EntityBase, value: Any) -> Any:
        """Return *value* as the object holds it."""
        if not self.is_tracked:
            return value
        release(obj.__dict__.get(self.name))
        return track(value, Holder(obj, self, self.kind.coerce))

    def _equals_row(self, obj: EntityBase, value: Any) -> bool:
        """Tell whether *value* is what the row has, without counting as a read."""
        known = obj._row_[self.position]
        if known is NOT_LOADED:
            return False
        if known is None or value is None:
            return known is value
        if self.decode is not None:
            known = self.decode(known)
        return same(known, value) if self.is_tracked else bool(known == value or (known != known and value != value))

    def _unchange(self, obj: EntityBase, unit: Unit, value: Any, changes: dict[str, Any] | None) -> None:
        """Take back the change of this attribute, if there is one."""
        if changes is None or self.name not in changes:
            return
        unit.generation += 1
        if changes.pop(self.name):
            obj.__dict__[self.name] = self.held(obj, value)
        else:
            release(obj.__dict__.pop(self.name, None))

    def _require_no_change(self, obj: EntityBase) -> None:
        """Raise unless an SQL expression can be assigned."""
        if obj._state_.is_new or self.is_key:
            raise TypeError(
                f"{self!r}: an SQL expression can be assigned to a saved object only, and not to its key; "
                f"assign a value, or flush() first"
            )
        before = obj._changes_.get(self.name, UNSET) if obj._state_.status is Status.DIRTY else UNSET
        if isinstance(before, PendingExpression):
            raise ConstraintError(f"{obj!r}.{self.name} has an unsaved SQL expression already; flush() between the two")
        if before is not UNSET:
            raise ConstraintError(
                f"{obj!r}.{self.name} has an unsaved value, which the expression would not see; flush() between the two"
            )

    def _assign_expression(self, obj: EntityBase, unit: Unit, value: Expression[Any]) -> None:
        self._require_no_change(obj)
        expression = value if isinstance(value, Operation) else Operation("value", value)
        changes = self._changes(obj, unit)
        was_read = self.name in obj.__dict__
        release(obj.__dict__.pop(self.name, None))
        row = list(obj._row_)
        changes[self.name] = PendingExpression(expression, was_read, row[self.position])
        row[self.position] = NOT_LOADED
        set_row(obj, tuple(row))

    def forget_expression(self, obj: EntityBase) -> None:
        """Take back an unsaved SQL expression of *obj*."""
        pending = obj._changes_.pop(self.name)
        row = list(obj._row_)
        row[self.position] = pending.raw
        set_row(obj, tuple(row))
        if pending.was_read:
            self.__get__(obj)

    def changed_in_place(self, obj: EntityBase) -> None:
        """Record that the value, a dict or list, was changed in place."""
        state = obj._state_
        unit = state.unit
        if unit is None:
            return
        if state.is_new:
            unit.generation += 1
        else:
            self._changes(obj, unit).setdefault(self.name, True)


def _chain(first: Callable[[Any], Any] | None, second: Callable[[Any], Any] | None) -> Callable[[Any], Any] | None:
    if first is None or second is None:
        return first or second
    return lambda value: second(first(value))


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
        """Whether deleting the target deletes the object, too: the other side has ``cascade_delete``, or it is required."""
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
            return self
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
        set_state(hollow, obj._state_)
        return hollow

    def _read_virtual(self, obj: EntityBase) -> Any:
        state = obj._state_
        if state.is_new or state.status is Status.TRANSIENT:
            return None
        if state.unit is None:
            raise DatabaseSessionIsOver(f"Cannot load attribute {obj!r}.{self.name}: the database session is over")
        state.unit.check_owner()
        state.unit.load_back_reference(obj, self)
        return obj.__dict__[self.name]

    def coerce(self, obj: EntityBase | None, unit: Unit, value: Any) -> EntityBase | None:
        """Return the object that *value* (an object, its key, or None) stands for.

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
                self._refuse_stranger(obj, other)
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
            raise type(error)(
                f"{self!r} refers to {target.name}, and {value!r:.60} is no object or key of it: {error}"
            ) from None
        found = unit.reference(target, key)
        return found if isinstance(found, target.entity) else self.coerce(obj, unit, found)

    def _refuse_stranger(self, obj: EntityBase | None, other: EntityBase) -> NoReturn:
        mine = repr(obj) if obj is not None else f"a new {self.mapping.name}"
        if other._state_.unit is None:
            raise ConstraintError(
                f"{mine}.{self.name} cannot refer to {other!r}: {other._state_.reason or 'its session is over'}; "
                f"get it again in this scope, for instance with {type(other).__name__}[key]"
            )
        raise ConstraintError(
            f"{mine}.{self.name} cannot refer to {other!r}, which belongs to another live session (or database); "
            f"get it in this scope, for instance with {type(other).__name__}[key]"
        )

    def checked(self, obj: EntityBase, value: Any) -> EntityBase | None:
        """Return the object that *value* stands for, or raise as `coerce` does."""
        unit = obj._state_.require_change(obj, f"change object {obj!r}")
        target = self.coerce(obj, unit, value)
        if target is not None and not self.is_virtual:
            self.require_free_end(obj, target)
        return target

    def assign(self, obj: EntityBase, value: Any) -> None:
        """Refer to another object; both ends of the relation agree at once."""
        state = obj._state_
        unit = state.unit
        if not state.may_change or unit is None:
            self.refuse(obj)
        unit.check_owner()
        self.refer(obj, self.coerce(obj, unit, value), unit)

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
        unit = obj._state_.unit
        if self.is_required and unit is not None and isinstance(self.reverse, ReferenceAttribute):
            one_to_one.require_free_end(self, obj, target, unit)

    def tell(self, obj: EntityBase, old: EntityBase | None, target: EntityBase | None, unit: Unit) -> None:
        """Tell both other ends that *obj* has left *old* for *target*."""
        if old is not None and self.reverse is not None:
            self.reverse.released(old, obj, unit)
        if target is not None and self.reverse is not None:
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
        if obj._state_.is_new:
            unit.generation += 1
        else:
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
