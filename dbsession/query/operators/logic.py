"""and, or, not are SQL's own, with NULL as unknown; the truth of a value is Python's: NULL, 0 and "" are false.

Where a condition chooses rows or branches, unknown is as good as false, and `as_filter` says so; that
makes `truth` of most values a plain comparison.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from dbsession.model.expressions import Operation
from dbsession.query.kinds import Kind, is_condition, is_value, kind_of, value_of
from dbsession.query.operators.base import AND, COMPARISON, NOT, OR, Operator, Sql, enclosed, joined, negated, nullable
from dbsession.query.operators.base import OPERATORS as TABLE
from dbsession.query.operators.comparison import is_null
from dbsession.query.operators.operands import as_kind, collated, common_kind, converted, rendered
from dbsession.query.selected import owner_of
from dbsession.query.tree import is_many

if TYPE_CHECKING:
    from dbsession.query.sql.compiler import Compiler

__all__ = ["OPERATORS", "as_filter"]


# The same question, where unknown is as good as false.
_HOLDS = {"truth": "holds", "isinstance": "isinstance holds"}


def as_filter(node: Any) -> Any:
    """Return the condition *node* as it is where unknown counts as false."""
    if isinstance(node, Operation):
        if node.operator in _HOLDS:
            return Operation(_HOLDS[node.operator], *node.operands)
        if node.operator in ("and", "or"):
            return Operation(node.operator, *map(as_filter, node.operands))
        if node.operator == "in":
            owner = owner_of(*node.operands)
            return node if owner is None else owner
    return node


# --- and, or, not -----------------------------------------------------------------------------------------


def _kind(operands: tuple[Any, ...]) -> Kind:
    return Kind(bool, None, nullable(operands))


def _logical(operator: str, precedence: int) -> Operator:
    def render(compiler: Compiler, operands: tuple[Any, ...]) -> str:
        return joined(operator, [compiler.condition(operand) for operand in operands], precedence)

    return Operator(render, _kind, is_condition=True)


def _not(compiler: Compiler, operands: tuple[Any, ...]) -> str:
    (node,) = operands
    if is_condition(node):
        return negated(compiler, TABLE[node.operator], node.operands)
    if isinstance(value_of(node), bool):
        return compiler.condition(not value_of(node))
    return Sql(f"NOT {enclosed(compiler.condition(node), COMPARISON + 1)}", NOT)


def _not_not(compiler: Compiler, operands: tuple[Any, ...]) -> str:
    return compiler.condition(operands[0])


# --- truth ------------------------------------------------------------------------------------------------

# What is false beside NULL, as SQL writes it; whatever is not listed is true unless it is NULL.
_EMPTY: dict[str, dict[type, str]] = {
    "postgresql": {timedelta: "interval '0'", bytes: "''", list: "'{}'"},
    "sqlite": {timedelta: "0", bytes: "x''"},
}


def _empty(compiler: Compiler, kind: Kind) -> str | None:
    """Return the SQL of the value of *kind* that is false; None: there is none."""
    if kind.is_text:
        return "''"
    if kind.is_number:
        return "'0'" if kind.is_decimal and compiler.dialect.name == "sqlite" else "0"
    return _EMPTY[compiler.dialect.name].get(kind.python) if isinstance(kind.python, type) else None


def _is_exact(compiler: Compiler, kind: Kind) -> bool:
    """Tell whether coalesce() can stand between a value and what it is compared with."""
    return not (kind.is_decimal and compiler.dialect.name == "sqlite")


def _truth(word: str, *, is_strict: bool) -> Callable[[Compiler, tuple[Any, ...]], str]:
    """Return what renders whether a value is true (*word* is <>) or false (=); *is_strict*: never unknown."""
    is_negated = word == "="

    def render(compiler: Compiler, operands: tuple[Any, ...]) -> str:
        (node,) = operands
        kind = kind_of(node)
        if is_many(node):
            exists = TABLE["exists"]
            return negated(compiler, exists, operands) if is_negated else exists.render(compiler, operands)
        if is_value(node):
            return _of_value(compiler, node, is_negated)
        is_open = is_strict and kind.nullable
        if kind.is_bool or kind.python is None:
            return _of_condition(compiler, node, is_negated, is_open)
        empty = _empty(compiler, kind)
        if empty is None:
            if not kind.nullable:
                return Sql("1 = 0" if is_negated else "1 = 1", COMPARISON)
            return is_null(compiler, node, is_negated=not is_negated)
        text = rendered(compiler, node)
        if is_open and _is_exact(compiler, kind):
            return Sql(f"coalesce({text}, {empty}) {word} {empty}", COMPARISON)
        if is_open:
            unknown = "IS NOT TRUE" if is_negated else "IS TRUE"
            return Sql(f"({enclosed(text, COMPARISON + 1)} <> {empty}) {unknown}", COMPARISON)
        return Sql(f"{enclosed(text, COMPARISON + 1)} {word} {empty}", COMPARISON)

    return render


def _of_value(compiler: Compiler, node: Any, is_negated: bool) -> str:
    value = value_of(node)
    if value is None or isinstance(value, bool):
        return Sql("1 = 1" if bool(value) != is_negated else "1 = 0", COMPARISON)
    as_bool = int if compiler.dialect.name == "sqlite" else bool
    return converted(compiler, node, lambda value: as_bool(bool(value) != is_negated))


def _of_condition(compiler: Compiler, node: Any, is_negated: bool, is_open: bool) -> str:
    if is_open:
        text = enclosed(compiler.condition(node), COMPARISON + 1)
        return Sql(f"{text} {'IS NOT TRUE' if is_negated else 'IS TRUE'}", COMPARISON)
    return _not(compiler, (node,)) if is_negated else compiler.condition(node)


def _truth_kind(operands: tuple[Any, ...]) -> Kind:
    kind_of(operands[0])
    return Kind(bool, None, nullable=False)


# --- one or the other -------------------------------------------------------------------------------------


def _if(compiler: Compiler, operands: tuple[Any, ...]) -> str:
    kind = common_kind(_branches(operands), "a conditional expression")
    parts: list[str] = []
    otherwise: Any = Operation("if", *operands)
    while isinstance(otherwise, Operation) and otherwise.operator == "if":
        condition, then, otherwise = otherwise.operands
        parts.append(f"WHEN {compiler.condition(as_filter(condition))} THEN {as_kind(compiler, then, kind)}")
    if value_of(otherwise) is not None:
        parts.append(f"ELSE {as_kind(compiler, otherwise, kind)}")
    text = f"CASE {' '.join(parts)} END"
    return collated(text) if kind.is_decimal and compiler.dialect.name == "sqlite" else text


def _branches(operands: tuple[Any, ...]) -> list[Any]:
    _, then, otherwise = operands
    if isinstance(otherwise, Operation) and otherwise.operator == "if":
        return [then, *_branches(otherwise.operands)]
    return [then, otherwise]


def _if_kind(operands: tuple[Any, ...]) -> Kind:
    branches = _branches(operands)
    return common_kind(branches, "a conditional expression")._replace(nullable=nullable(branches))


def _coalesce(compiler: Compiler, operands: tuple[Any, ...]) -> str:
    kind = common_kind(operands, "coalesce()")
    present = [operand for operand in operands if value_of(operand) is not None]
    texts = [as_kind(compiler, operand, kind) for operand in present]
    if len(texts) < 2:
        return texts[0] if texts else "NULL"
    text = f"coalesce({', '.join(texts)})"
    return collated(text) if kind.is_decimal and compiler.dialect.name == "sqlite" else text


def _coalesce_kind(operands: tuple[Any, ...]) -> Kind:
    kind = common_kind(operands, "coalesce()")
    return kind._replace(nullable=all(kind_of(operand).nullable for operand in operands))


OPERATORS: dict[str, Operator] = {
    "and": _logical("AND", AND),
    "or": _logical("OR", OR),
    "not": Operator(_not, _kind, is_condition=True, negated=_not_not),
    "truth": Operator(
        _truth("<>", is_strict=True), _truth_kind, is_condition=True, negated=_truth("=", is_strict=True)
    ),
    "holds": Operator(
        _truth("<>", is_strict=False), _truth_kind, is_condition=True, negated=_truth("=", is_strict=True)
    ),
    "if": Operator(_if, _if_kind),
    "coalesce": Operator(_coalesce, _coalesce_kind),
}
