"""and, or, not: SQL's own, with NULL as unknown."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from dbsession.query.kinds import Kind, kind_of
from dbsession.query.operators.base import AND, NOT, OR, Operator, Sql, enclosed, joined

if TYPE_CHECKING:
    from dbsession.query.compiler import Compiler

__all__ = ["OPERATORS"]


def _kind(operands: tuple[Any, ...]) -> Kind:
    return Kind(bool, None, any(kind_of(operand).nullable for operand in operands))


def _not(compiler: Compiler, operands: tuple[Any, ...]) -> str:
    return Sql(f"NOT {enclosed(compiler.condition(operands[0]), NOT + 2)}", NOT)


def _logical(operator: str, precedence: int) -> Operator:
    def render(compiler: Compiler, operands: tuple[Any, ...]) -> str:
        return joined(operator, [compiler.condition(operand) for operand in operands], precedence)

    return Operator(render, _kind, is_condition=True)


OPERATORS: dict[str, Operator] = {
    "and": _logical("AND", AND),
    "or": _logical("OR", OR),
    "not": Operator(_not, _kind, is_condition=True),
}
