"""What belongs to no family: isinstance(), SQL of the user's own, random()."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from dbsession.model.attributes import ValueAttribute
from dbsession.query.kinds import Kind, kind_of
from dbsession.query.operators.base import COMPARISON, UNKNOWN_SQL, Operator, Sql
from dbsession.query.operators.comparison import is_null
from dbsession.query.tree import Path, RawSql

if TYPE_CHECKING:
    from collections.abc import Callable

    from dbsession.query.sql.compiler import Compiler

__all__ = ["OPERATORS"]

# --- isinstance -------------------------------------------------------------------------------------------


def _isinstance_kind(operands: tuple[Any, ...]) -> Kind:
    kind = kind_of(operands[0])
    if not kind.is_object:
        raise TypeError(f"isinstance() takes an object of an entity, and {operands[0]!r:.60} is {kind.name}")
    return Kind(bool, None, nullable=False)


def _isinstance(*, is_negated: bool, is_strict: bool = True) -> Callable[[Compiler, tuple[Any, ...]], str]:
    """Return what renders whether an object is of a class, and None of none; *is_strict*: never unknown."""

    def render(compiler: Compiler, operands: tuple[Any, ...]) -> str:
        _isinstance_kind(operands)
        node, classes = operands
        mapping: Any = kind_of(node).python
        wanted = [cls._mapping_ for cls in (classes if isinstance(classes, tuple) else (classes,))]
        possible = list(mapping.family())
        found = [one for one in possible if any(issubclass(one.entity, other.entity) for other in wanted)]
        if len(found) == len(possible):  # whatever it is; None is not
            return is_null(compiler, node, is_negated=not is_negated)
        if not found:
            return Sql("1 = 1" if is_negated else "1 = 0", COMPARISON)
        column = mapping.root.discriminator
        assert isinstance(column, ValueAttribute)
        marks = ", ".join([compiler.parameter(column.raw(one.discriminator_value)) for one in found])
        left = compiler.render(Path(node, column))
        if is_strict and kind_of(node).nullable:
            return Sql(f"({left} IN ({marks})) {'IS NOT TRUE' if is_negated else 'IS TRUE'}", COMPARISON)
        return Sql(f"{left} {'NOT IN' if is_negated else 'IN'} ({marks})", COMPARISON)

    return render


# --- raw --------------------------------------------------------------------------------------------------


def _raw(compiler: Compiler, operands: tuple[Any, ...]) -> str:
    (node,) = operands
    assert isinstance(node, RawSql)
    texts = node.texts
    if compiler.dialect.name == "postgresql":
        texts = tuple([text.replace("%", "%%") for text in texts])  # the driver takes a lone % for a placeholder
    pieces = [texts[0]]
    for value, text in zip(node.values, texts[1:], strict=True):
        pieces += [compiler.render(value), text]
    return Sql("".join(pieces).strip(), UNKNOWN_SQL)


# --- random -----------------------------------------------------------------------------------------------


def _random(compiler: Compiler, _: tuple[Any, ...]) -> str:
    return "dbs_random()" if compiler.dialect.name == "sqlite" else "random()"


OPERATORS: dict[str, Operator] = {
    # an expression that is no operation, made one (see `ValueAttribute`)
    "value": Operator(lambda compiler, operands: compiler.render(operands[0]), lambda operands: kind_of(operands[0])),
    "isinstance": Operator(
        _isinstance(is_negated=False), _isinstance_kind, is_condition=True, negated=_isinstance(is_negated=True)
    ),
    "isinstance holds": Operator(
        _isinstance(is_negated=False, is_strict=False),
        _isinstance_kind,
        is_condition=True,
        negated=_isinstance(is_negated=True),
    ),
    "raw": Operator(_raw, lambda operands: kind_of(operands[0])),
    "random": Operator(_random, lambda _: Kind(float, None, nullable=False)),
}
