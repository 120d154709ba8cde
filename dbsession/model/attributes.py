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

from dbsession.errors import ConstraintError, OrmError
from dbsession.model.expressions import Expression, Operation, leaves_its_row
from dbsession.model.keys import change_key
from dbsession.model.mapping import Column, Mapping
from dbsession.model.state import NOT_LOADED, UNSET, Status, set_row
from dbsession.model.tracked import Holder, plain, release, same, track

if TYPE_CHECKING:
    from dbsession.backends.base import Codec
    from dbsession.model.declarations import Declaration
    from dbsession.model.entity import EntityBase
    from dbsession.model.state import Unit
    from dbsession.model.types import AttributeType

__all__ = ["Attribute", "PendingExpression", "ValueAttribute"]

T = TypeVar("T")


class PendingExpression(NamedTuple):
    """An SQL expression assigned to an attribute: what is sent, and what the row held before."""

    expression: Operation[Any]
    was_read: bool
    raw: Any


class Attribute(Expression[T], Generic[T]):
    """What value and reference attributes have in common."""

    is_many = False
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

    def refuse(self, obj: EntityBase, doing: str) -> NoReturn:
        """Raise what fits the state of *obj*, which may not be changed."""
        doing = f"{doing} {obj!r}.{self.name}"
        obj._state_.require_change(obj, doing)
        raise OrmError(f"Cannot {doing}")

    def require_change(self, obj: EntityBase, doing: str = "assign a new value to") -> Unit:
        """Return the unit of work of *obj*, or raise unless the object may be changed from here."""
        state = obj._state_
        unit = state.unit
        if not state.may_change or unit is None:
            self.refuse(obj, doing)
        unit.check_owner()
        return unit

    def load(self, obj: EntityBase) -> None:
        """Fill the gap in the row of *obj*, or raise what says why that cannot be done."""
        state = obj._state_
        if state.status is Status.TRANSIENT:
            return  # in no database: what the database would have made is None, as it is before the flush
        if state.unit is None:
            raise self.unreadable(obj)
        state.require_unit(obj, f"load attribute {obj!r}.{self.name}")
        state.unit.load(obj, self)

    def unreadable(self, obj: EntityBase) -> OrmError:
        """Return the error for a value that the scope of *obj* has not loaded before it ended."""
        mapping = obj._mapping_
        call, also, ahead = f'{mapping.variable}.load("{self.name}")', "", repr(self)
        if obj._state_.example:
            call, ahead = obj._state_.example, obj._state_.ahead
        elif not self.is_virtual and mapping.is_hollow(obj._row_):
            also = f", and only the key of {obj!r} was known in it"
            if not self.is_lazy:
                call = f"{mapping.variable}.load()"
                if mapping.root.references_here:  # by which it must have become known
                    reference = mapping.root.references_here[0]
                    call += f", such as {reference.mapping.variable}.{reference.name}.load()"
                    ahead = repr(reference)
        return obj._state_.unreadable(f"attribute {obj!r}.{self.name}", call, ahead, also)

    def _changes(self, obj: EntityBase, unit: Unit) -> dict[str, Any]:
        """Return the dict of the unsaved changes of a persistent object."""
        if obj._state_.status is Status.CLEAN:
            return unit.mark_dirty(obj)
        if unit.savepoint is not None:
            unit.savepoint.keep(obj)
        return obj._changes_

    def refuse_missing(self) -> NoReturn:
        """Raise what says that a new object lacks this attribute."""
        raise ValueError(
            f"{self!r} is required, and was not given: write {self.mapping.name}({self.name}=...), "
            f"or declare a default="
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


_INSTEAD = {
    "like": 'startswith("..."), endswith("...") or contains("...")',
    "ilike": 'lower().contains("...")',
    "is_": "== None",
    "is_not": "!= None",
    "isnot": "!= None",
    "label": "a generator expression, whose values need no names",
}


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

    if not TYPE_CHECKING:  # which knows what there is

        def __getattr__(self, name: str) -> NoReturn:
            kind = self.__dict__.get("kind")
            if kind is None or name.startswith("_"):
                raise AttributeError(name)
            instead = _INSTEAD.get(name, "")
            if hasattr(kind.value_type.python, name):
                mapping = self.mapping
                instead = f"a lambda, such as {mapping.name}.select(lambda x: x.{self.name}.{name} ...)"
            hint = f"; write {instead}" if instead else ""
            raise AttributeError(f"{self!r} has no {name!r} in the expression form{hint}", name=name, obj=self)

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
                why = error or "it is out of range"
                raise ValueError(f"{self!r} cannot take this {type(value).__name__}: {why}") from None
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
        unit = self.require_change(obj)
        state = obj._state_
        if isinstance(value, Expression):
            self._assign_expression(obj, unit, value)
            return
        value = self.coerce(value)
        if self.is_key:
            change_key(obj, unit, (self.name,), lambda: self.store(obj, unit, value))
            return
        values = obj.__dict__
        if unit.savepoint is not None:
            unit.savepoint.keep(obj)
        if state.is_new:
            values[self.name] = self.held(obj, value)
            return
        changes = obj._changes_ if state.status is Status.DIRTY else None
        if changes is not None and isinstance(changes.get(self.name), PendingExpression):
            self.forget_expression(obj)
        if self._equals_row(obj, value):
            self._unchange(obj, unit, value, changes)
            return
        if changes is None:
            changes = unit.mark_dirty(obj)
        if self.name not in changes:
            changes[self.name] = self.name in values
        values[self.name] = self.held(obj, value)

    def store(self, obj: EntityBase, unit: Unit, value: Any) -> None:
        """Take *value*, which is checked, as the new part of the key of *obj*."""
        if unit.savepoint is not None:
            unit.savepoint.keep(obj)
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
            try:
                known = self.decode(known)
            except ValueError:  # the row has what the type has not; it can be replaced
                return False
        if self.is_tracked:
            return same(known, value)
        return bool(known == value or (known != known and value != value))  # noqa: PLR0124 - NaN

    def _unchange(self, obj: EntityBase, unit: Unit, value: Any, changes: dict[str, Any] | None) -> None:
        """Take back the change of this attribute, if there is one."""
        if changes is None or self.name not in changes:
            return
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
        if leaves_its_row(value):
            raise TypeError(
                f"{self!r}: what is assigned to an object is worked out from its own row, and {value!r} lies in "
                f"others; update many at once with {self.mapping.name}.select(...).update({self.name}=lambda x: ...)"
            )
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
        if not state.is_new:
            self._changes(obj, unit).setdefault(self.name, True)


def _chain(first: Callable[[Any], Any] | None, second: Callable[[Any], Any] | None) -> Callable[[Any], Any] | None:
    if first is None or second is None:
        return first or second
    return lambda value: second(first(value))
