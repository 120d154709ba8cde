"""Arithmetic, as Python's numbers have it; Decimals stay exact, on SQLite by functions of ours."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, Any

from dbsession.query.kinds import Kind, is_condition, kind_of
from dbsession.query.operators.base import ADDITION, MULTIPLICATION, POSTFIX, PRIMARY, UNARY, Operator, Sql, enclosed
from dbsession.query.operators.comparison import like_of

if TYPE_CHECKING:
    from dbsession.query.compiler import Compiler

__all__ = ["OPERATORS"]

_COLLATED = " COLLATE dbs_decimal"


def _operands(compiler: Compiler, operands: tuple[Any, ...], operator: str) -> list[str]:
    for operand in operands:
        if is_condition(operand):
            raise TypeError(f"{operand!r} is a condition, and no value: {operator} takes numbers")
        if not kind_of(operand).is_number:
            raise TypeError(f"{operand!r} is no number: {operator} takes numbers")
    like = like_of(*operands)
    return [compiler.render(operand, like) for operand in operands]


def _on_decimals(compiler: Compiler, operands: tuple[Any, ...]) -> bool:
    """Tell whether functions of ours are needed: SQLite has Decimals as texts."""
    return compiler.dialect.name == "sqlite" and any(kind_of(operand).is_decimal for operand in operands)


def _call(function: str, numbers: list[str]) -> str:
    return Sql(f"{function}({', '.join([number.removesuffix(_COLLATED) for number in numbers])}){_COLLATED}", POSTFIX)


def _kind(operands: tuple[Any, ...]) -> Kind:
    kinds = [kind_of(operand) for operand in operands]
    nullable = any(kind.nullable for kind in kinds)
    for python in (Decimal, float):
        if any(kind.python is python for kind in kinds):
            return Kind(python, None, nullable)
    return Kind(int, None, nullable)


def _arithmetic(operator: str, precedence: int, decimal_function: str) -> Operator:
    def render(compiler: Compiler, operands: tuple[Any, ...]) -> str:
        numbers = _operands(compiler, operands, operator)
        if _on_decimals(compiler, operands):
            return _call(decimal_function, numbers)
        left, right = enclosed(numbers[0], precedence), enclosed(numbers[1], precedence + 1)
        return Sql(f"{left} {operator} {right}", precedence)

    return Operator(render, _kind)


def _negation(compiler: Compiler, operands: tuple[Any, ...]) -> str:
    numbers = _operands(compiler, operands, "-")
    if _on_decimals(compiler, operands):
        return _call("dbs_neg", numbers)
    return Sql(f"- {enclosed(numbers[0], PRIMARY)}", UNARY)


OPERATORS: dict[str, Operator] = {
    "+": _arithmetic("+", ADDITION, "dbs_add"),
    "-": _arithmetic("-", ADDITION, "dbs_sub"),
    "*": _arithmetic("*", MULTIPLICATION, "dbs_mul"),
    "/": _arithmetic("/", MULTIPLICATION, "dbs_div"),
    "neg": Operator(_negation, _kind),
}
