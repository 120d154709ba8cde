"""Which options an attribute may have; that depends on its type."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import datetime, time
from decimal import Decimal
from enum import Enum
from typing import TYPE_CHECKING, Any

from dbsession.errors import ERDiagramError

if TYPE_CHECKING:
    from dbsession.model.declarations import Declaration

__all__ = ["check_options"]

_BOTH = frozenset(["unique", "index", "default", "column", "columns", "lazy", "volatile", "optimistic", "nullable"])
_REFERENCE = _BOTH | {"reverse", "cascade_delete", "fk_name"}
_VALUE = _BOTH | {"sql_default", "sql_type", "py_check", "auto"}

_BY_TYPE: dict[type, frozenset[str]] = {
    str: frozenset({"max_len", "autostrip"}),
    int: frozenset({"size", "unsigned", "min", "max"}),
    float: frozenset({"min", "max"}),
    Decimal: frozenset({"precision", "scale", "min", "max"}),
    datetime: frozenset({"precision", "tz"}),
    time: frozenset({"precision"}),
    bytes: frozenset({"max_len"}),
    bytearray: frozenset({"max_len"}),
}


def _is_int(least: int) -> Callable[[Any], bool]:
    return lambda value: value is None or (type(value) is int and value >= least)


# What an option must be, in words and as a test.
_VALUES: dict[str, tuple[str, Callable[[Any], bool]]] = {
    "max_len": ("a whole number above 0", _is_int(1)),
    "precision": ("a whole number", _is_int(0)),
    "scale": ("a whole number", _is_int(0)),
    "min": ("a number", lambda value: isinstance(value, int | float | Decimal | None)),
    "max": ("a number", lambda value: isinstance(value, int | float | Decimal | None)),
    "py_check": ("a function", lambda value: value is None or callable(value)),
    "sql_default": ("SQL text, or True for what the database does by itself", lambda value: not callable(value)),
    "index": ("True, False or a name", lambda value: isinstance(value, bool | str | None)),
}


def _of_type(python: Any) -> frozenset[str]:
    arguments = getattr(python, "__args__", None)
    if arguments:  # the items of an array
        return _of_type(arguments[0])
    if isinstance(python, type) and issubclass(python, Enum):
        return frozenset({"max_len", "size"})
    return _BY_TYPE.get(python, frozenset())


def check_options(declaration: Declaration[Any], what: str, *, is_reference: bool) -> None:
    """Refuse options of *declaration* that do not fit its type; *what* is the attribute, for the message.

    Raises:
        ERDiagramError: there is such an option.
    """
    python = declaration.python
    allowed = _REFERENCE if is_reference else _VALUE | _of_type(python)
    if wrong := sorted(set(declaration.options) - allowed):
        kind = "a reference" if is_reference else getattr(python, "__name__", repr(python))
        raise ERDiagramError(f"{what}: {kind} does not take {', '.join(wrong)}{_takers(wrong)}")
    for name, (kind, fits) in _VALUES.items():
        if name in declaration.options and not fits(declaration.options[name]):
            raise ERDiagramError(f"{what}: {name} must be {kind}, not {declaration.options[name]!r}")
    if not is_reference and len(declaration.column_names()) > 1:
        raise ERDiagramError(f"{what}: a value lies in one column; columns= is for references to composite keys")


def _takers(options: Iterable[str]) -> str:
    """Return " (that is for ...)": the types that take all of *options*."""
    types = [python.__name__ for python, taken in _BY_TYPE.items() if taken.issuperset(options)]
    if _REFERENCE.issuperset(options):
        types.append("references")
    elif _VALUE.issuperset(options):
        types.append("values")
    return f" (that is for {', '.join(types)})" if types else ""
