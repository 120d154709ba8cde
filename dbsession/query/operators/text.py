"""Operators on text: every character stands for itself, case counts."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from dbsession.query.kinds import Kind, kind_of
from dbsession.query.operators.base import COMPARISON, PRIMARY, Operator, Sql, enclosed

if TYPE_CHECKING:
    from dbsession.query.compiler import Compiler

__all__ = ["OPERATORS"]


def _text(compiler: Compiler, node: Any, verb: str) -> str:
    """Render a text: an attribute, an expression or a value.

    Raises:
        TypeError: it is something else.
    """
    if not kind_of(node).is_text:
        raise TypeError(f"{verb}() is for text, and {node!r:.60} is none")
    return compiler.render(node)


def _case(function: str) -> Operator:
    def render(compiler: Compiler, operands: tuple[Any, ...]) -> str:
        prefix = "dbs_" if compiler.dialect.name == "sqlite" else ""  # SQLite's own know ASCII only
        return f"{prefix}{function}({_text(compiler, operands[0], function)})"

    return Operator(render, lambda operands: Kind(str, None, kind_of(operands[0]).nullable))


def _matching(verb: str, postgresql: str, sqlite: str) -> Operator:
    """Return what renders a condition on two texts, {0} and {1} in the patterns."""

    def render(compiler: Compiler, operands: tuple[Any, ...]) -> str:
        def operand(match: re.Match[str]) -> str:
            return enclosed(_text(compiler, operands[int(match[1])], verb), COMPARISON + 1)

        pattern = sqlite if compiler.dialect.name == "sqlite" else postgresql
        precedence = PRIMARY if pattern.endswith(")") else COMPARISON
        return Sql(re.sub(r"\{([01])\}", operand, pattern), precedence)

    return Operator(render, _match_kind, is_condition=True)


def _match_kind(operands: tuple[Any, ...]) -> Kind:
    return Kind(bool, None, any(kind_of(operand).nullable for operand in operands))


OPERATORS: dict[str, Operator] = {
    "lower": _case("lower"),
    "upper": _case("upper"),
    "startswith": _matching("startswith", "starts_with({0}, {1})", "substr({0}, 1, length({1})) = {1}"),
    # SQLite: counted from the front, since substr(x, -0) would be all of x
    "endswith": _matching(
        "endswith",
        "right({0}, length({1})) = {1}",
        "(length({0}) >= length({1}) AND substr({0}, length({0}) - length({1}) + 1) = {1})",
    ),
    "contains": _matching("contains", "strpos({0}, {1}) > 0", "instr({0}, {1}) > 0"),
}
