"""str(), int() and float(), as Python has them: int() cuts towards zero, a text that is no number is an error."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, Any
from uuid import UUID

from dbsession.query.kinds import Kind, is_value, kind_of
from dbsession.query.operators.base import OPERATORS as TABLE
from dbsession.query.operators.base import PRIMARY, Operator, enclosed
from dbsession.query.operators.operands import bare, converted, rendered
from dbsession.query.values import traveller

if TYPE_CHECKING:
    from dbsession.query.sql.compiler import Compiler

__all__ = ["OPERATORS", "as_text", "str_kind"]

# --- str --------------------------------------------------------------------------------------------------


def as_text(compiler: Compiler, node: Any) -> str:
    """Return the SQL of ``str()`` of *node*; a text is one already."""
    return TABLE["str"].render(compiler, (node,))


def str_kind(operands: tuple[Any, ...]) -> Kind:
    """Return the kind of ``str()`` of an operand.

    Raises:
        TypeError: no database writes it as Python does.
    """
    return TABLE["str"].kind(operands)


def _str(compiler: Compiler, operands: tuple[Any, ...]) -> str:
    (node,) = operands
    _str_kind(operands)
    if is_value(node):
        travel = traveller(Kind(str), compiler.dialect)
        return converted(compiler, node, lambda value: travel(str(value)))
    kind = kind_of(node)
    text = rendered(compiler, node)
    if kind.is_bool:
        otherwise = f"WHEN NOT {enclosed(text, PRIMARY)} THEN" if kind.nullable else "ELSE"
        return f"CASE WHEN {text} THEN 'True' {otherwise} 'False' END"
    if kind.is_text or kind.python is None:
        return text
    if compiler.dialect.name == "postgresql":
        return f"{enclosed(text, PRIMARY)}::text"
    if kind.python is float:
        return f"dbs_str({text})"
    return f"CAST({text} AS TEXT)" if kind.python is int else bare(text)


def _str_kind(operands: tuple[Any, ...]) -> Kind:
    (node,) = operands
    kind = kind_of(node)
    if is_value(node) or kind.is_text or kind.python in (int, float, bool, Decimal, UUID, None):
        return Kind(str, None, not is_value(node) and kind.nullable)
    raise TypeError(
        f"{node!r:.60} is {kind.name}, and no database makes the text of it that Python does; str() takes texts, "
        f"numbers, bools and UUIDs"
    )


# --- int and float ----------------------------------------------------------------------------------------


def _number_kind(python: type) -> Any:
    def kind(operands: tuple[Any, ...]) -> Kind:
        own = kind_of(operands[0])
        if own.is_number or own.is_bool or own.is_text or own.python is None:
            return Kind(python, None, own.nullable)
        raise TypeError(f"{python.__name__}() takes a number, a text or a bool, and {operands[0]!r:.60} is {own.name}")

    return kind


_int_kind = _number_kind(int)
_float_kind = _number_kind(float)


def _int(compiler: Compiler, operands: tuple[Any, ...]) -> str:
    _int_kind(operands)
    (node,) = operands
    kind = kind_of(node)
    if is_value(node):
        return converted(compiler, node, int)
    text = rendered(compiler, node)
    if kind.python is int or (kind.is_bool and compiler.dialect.name == "sqlite"):
        return text
    if compiler.dialect.name == "sqlite":
        return f"dbs_int({text})" if kind.is_text else f"CAST({bare(text)} AS INTEGER)"
    if kind.is_bool:
        return f"{enclosed(text, PRIMARY)}::int"
    return f"{enclosed(text, PRIMARY)}::bigint" if kind.is_text else f"trunc({text})::bigint"


def _float(compiler: Compiler, operands: tuple[Any, ...]) -> str:
    _float_kind(operands)
    (node,) = operands
    kind = kind_of(node)
    if is_value(node):
        return converted(compiler, node, float)
    text = rendered(compiler, node)
    if kind.python is float:
        return text
    if compiler.dialect.name == "sqlite":
        return f"dbs_float({text})" if kind.is_text else f"CAST({bare(text)} AS REAL)"
    return f"{enclosed(text, PRIMARY)}{'::int' if kind.is_bool else ''}::float8"


OPERATORS: dict[str, Operator] = {
    "str": Operator(_str, _str_kind),
    "int": Operator(_int, _int_kind),
    "float": Operator(_float, _float_kind),
}
