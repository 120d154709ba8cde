"""What stands in the body of an entity class: ``name = Required(str)``.

A declaration is a note of what the user wrote. Registration makes the descriptors of `attributes`
and `collections` from it, anew for every concrete class. To type checkers, a declaration is the
descriptor: ``user.name`` is a ``str`` to them.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Generic, TypeVar, overload

from dbsession.errors import ERDiagramError
from dbsession.model.collections import Collection
from dbsession.model.expressions import Expression, ReferenceExpression
from dbsession.model.types import Json

__all__ = [
    "Composite",
    "Declaration",
    "Discriminator",
    "Optional",
    "PrimaryKey",
    "Required",
    "Set",
    "Version",
    "composite_index",
    "composite_key",
]

if TYPE_CHECKING:
    from dbsession.model.entity import EntityBase

T = TypeVar("T")
E = TypeVar("E", bound="EntityBase")

_VALUE_OPTIONS = frozenset(
    [
        "unique",
        "index",
        "default",
        "sql_default",
        "column",
        "columns",
        "sql_type",
        "lazy",
        "volatile",
        "optimistic",
        "nullable",
        "size",
        "unsigned",
        "min",
        "max",
        "precision",
        "scale",
        "max_len",
        "autostrip",
        "py_check",
        "auto",
        "tz",
        "reverse",
        "cascade_delete",
        "fk_name",
    ]
)
_SET_OPTIONS = frozenset(
    ["reverse", "table", "column", "columns", "reverse_column", "reverse_columns", "lazy", "cascade_delete", "volatile"]
)


class Composite:
    """Several attributes that make one key or index together."""

    def __init__(self, parts: tuple[Declaration[Any], ...], *, is_unique: bool, is_primary: bool = False) -> None:
        self.parts = parts
        self.is_unique = is_unique
        self.is_primary = is_primary


class Declaration(Generic[T]):
    """One attribute as declared: its type and its options."""

    is_required = True
    is_set = False
    allowed = _VALUE_OPTIONS

    def __init__(self, python: Any, *args: Any, **options: Any) -> None:
        what = f"{type(self).__name__}({getattr(python, '__name__', python)!s})"
        if unknown := set(options) - self.allowed:
            close = difflib.get_close_matches(min(unknown), self.allowed, n=1)
            hint = f"did you mean {close[0]!r}?" if close else f"it takes {', '.join(sorted(self.allowed))}"
            raise TypeError(f"{what} does not take {', '.join(sorted(unknown))}; {hint}")
        self.python = python
        self.options = options
        self.composites: list[Composite] = []
        if args:
            self._positional(what, args)
        if "column" in options and "columns" in options:
            raise TypeError(f"{what}: give column= or columns=, not both")
        if not self.is_set and "default" in options and "sql_default" in options:
            raise TypeError(f"{what}: give default= (Python) or sql_default= (database), not both")

    def _positional(self, what: str, args: tuple[Any, ...]) -> None:
        names = {"Decimal": ("precision", "scale"), "str": ("max_len",), "bytes": ("max_len",), "int": ("size",)}.get(
            getattr(self.python, "__name__", ""), ()
        )
        if len(args) > len(names):
            raise TypeError(
                f"{what} takes {len(names)} more positional arguments ({', '.join(names)}), not {len(args)}"
            )
        for name, value in zip(names, args, strict=False):
            if name in self.options:
                raise TypeError(f"{what}: {name} is given twice")
            self.options[name] = value

    def column_names(self) -> tuple[str, ...]:
        """Return the column names that the user chose, if any."""
        if "column" in self.options:
            return (self.options["column"],)
        return tuple(self.options.get("columns", ()))


class Required(Declaration[T]):
    """Declare an attribute that always has a value: ``name = Required(str)``, ``user = Required("User")``.

    None, and the empty string, are refused with a ValueError. The type is a Python type, `Json`,
    an Enum, ``list[int]`` (arrays, on PostgreSQL), or an entity or its name.
    """

    if TYPE_CHECKING:

        @overload
        def __init__(self: Required[Any], python: str | type[Json], *args: Any, **options: Any) -> None: ...
        @overload
        def __init__(self, python: type[T], *args: Any, **options: Any) -> None: ...
        def __init__(self, python: Any, *args: Any, **options: Any) -> None: ...
        @overload
        def __get__(self: Required[E], obj: None, owner: type) -> ReferenceExpression[E]: ...
        @overload
        def __get__(self, obj: None, owner: type) -> Expression[T]: ...
        @overload
        def __get__(self, obj: object, owner: type) -> T: ...
        def __get__(self, obj: object, owner: type) -> Any: ...
        def __set__(self, obj: object, value: T | Expression[T]) -> None: ...


class Optional(Declaration[T]):
    """Declare an attribute that may be None: ``last_login = Optional(datetime)``.

    The default is None for every type; ``Optional(str, nullable=False)`` has "" in its place.
    """

    is_required = False

    if TYPE_CHECKING:

        @overload
        def __init__(self: Optional[Any], python: str | type[Json], *args: Any, **options: Any) -> None: ...
        @overload
        def __init__(self, python: type[T], *args: Any, **options: Any) -> None: ...
        def __init__(self, python: Any, *args: Any, **options: Any) -> None: ...
        @overload
        def __get__(self: Optional[E], obj: None, owner: type) -> ReferenceExpression[E | None]: ...
        @overload
        def __get__(self, obj: None, owner: type) -> Expression[T | None]: ...
        @overload
        def __get__(self, obj: object, owner: type) -> T | None: ...
        def __get__(self, obj: object, owner: type) -> Any: ...
        def __set__(self, obj: object, value: T | Expression[Any] | None) -> None: ...


class PrimaryKey(Declaration[T]):
    """Declare the key: ``id = PrimaryKey(int, auto=True)``, or, of several attributes, ``PrimaryKey(a, b)``.

    ``auto=True``: the database makes the value. Without any PrimaryKey an entity gets
    ``id = PrimaryKey(int, auto=True)``.
    """

    if TYPE_CHECKING:

        @overload
        def __init__(self: PrimaryKey[Any], python: str | Declaration[Any], *args: Any, **options: Any) -> None: ...
        @overload
        def __init__(self, python: type[T], *args: Any, **options: Any) -> None: ...
        def __init__(self, python: Any, *args: Any, **options: Any) -> None: ...
        @overload
        def __get__(self, obj: None, owner: type) -> Expression[T]: ...
        @overload
        def __get__(self, obj: object, owner: type) -> T: ...
        def __get__(self, obj: object, owner: type) -> Any: ...
        def __set__(self, obj: object, value: T) -> None: ...
    else:

        def __init__(self, python: Any, *args: Any, **options: Any) -> None:
            if not isinstance(python, Declaration):
                super().__init__(python, *args, **options)
                return
            _composite("PrimaryKey", (python, *args), is_unique=True, is_primary=True)
            if options:
                raise TypeError(f"PrimaryKey of several attributes takes no options, but got {', '.join(options)}")
            super().__init__(type(None))


class Set(Declaration[T]):
    """Declare the many side of a relation: ``orders = Set("Order")``. Both sides are declared.

    Options: ``reverse`` (the attribute on the other side, where several fit), ``cascade_delete``,
    and, for many-to-many: ``table``, ``column``/``columns``, ``reverse_column``/``reverse_columns``.
    """

    is_required = False
    is_set = True
    allowed = _SET_OPTIONS

    if TYPE_CHECKING:

        @overload
        def __init__(self: Set[Any], python: str, **options: Any) -> None: ...
        @overload
        def __init__(self, python: type[T], **options: Any) -> None: ...
        def __init__(self, python: Any, **options: Any) -> None: ...
        @overload
        def __get__(self, obj: None, owner: type) -> ReferenceExpression[T]: ...
        @overload
        def __get__(self, obj: object, owner: type) -> Collection[T]: ...
        def __get__(self, obj: object, owner: type) -> Any: ...
        def __set__(self, obj: object, value: Iterable[T]) -> None: ...


class Discriminator(Required[T]):
    """Declare the column that says which entity of a hierarchy a row is: ``kind = Discriminator(str)``.

    Each class may choose its value with ``_discriminator_ = "x"``; the class name is the default.
    """


class Version(Declaration[int]):
    """Declare a version number, ``version = Version()``: each UPDATE and DELETE checks it, each UPDATE counts it up."""

    def __init__(self, **options: Any) -> None:
        super().__init__(int, **options)

    if TYPE_CHECKING:

        @overload
        def __get__(self, obj: None, owner: type) -> Expression[int]: ...
        @overload
        def __get__(self, obj: object, owner: type) -> int: ...
        def __get__(self, obj: object, owner: type) -> Any: ...


def composite_key(*attributes: Any) -> None:
    """Declare, in the body of an entity, that *attributes* are unique together."""
    _composite("composite_key", attributes, is_unique=True)


def composite_index(*attributes: Any) -> None:
    """Declare, in the body of an entity, an index over *attributes*."""
    _composite("composite_index", attributes, is_unique=False)


def _composite(what: str, parts: tuple[Any, ...], *, is_unique: bool, is_primary: bool = False) -> None:
    # The parts carry the note to the class that they stand in: a class body has no other place for a
    # statement without a name.
    if len(parts) < 2:
        raise ERDiagramError(f"{what}() takes two or more attributes of the same class body")
    for part in parts:
        if not isinstance(part, Declaration) or part.is_set:
            raise ERDiagramError(f"{what}() takes attributes declared above it in the same class body, not {part!r}")
    composite = Composite(parts, is_unique=is_unique, is_primary=is_primary)
    for part in parts:
        part.composites.append(composite)
