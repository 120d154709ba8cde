"""What every operator says about itself, and when SQL needs parentheses."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, Self

from dbsession.query.kinds import Kind, kind_of

if TYPE_CHECKING:
    from dbsession.query.sql.compiler import Compiler

__all__ = [
    "ADDITION",
    "AND",
    "COMPARISON",
    "CONCATENATION",
    "MULTIPLICATION",
    "NOT",
    "OPERATORS",
    "OR",
    "POSTFIX",
    "PRIMARY",
    "UNARY",
    "UNKNOWN_SQL",
    "Case",
    "Operator",
    "Sql",
    "conjunction",
    "enclosed",
    "joined",
    "negated",
    "nullable",
    "prepared",
    "with_cases",
]

# How strongly an operator binds its operands, on both databases. Where they differ (|| stands below
# + on PostgreSQL, and above * on SQLite) the rules below take no chances.
UNKNOWN_SQL = 0  # what a user wrote
OR = 1
AND = 2
NOT = 3
COMPARISON = 4  # and IS, IN, BETWEEN
CONCATENATION = 5  # || and every other operator: -> of JSON
ADDITION = 6
MULTIPLICATION = 7
UNARY = 8
POSTFIX = 9  # COLLATE
PRIMARY = 10  # names, placeholders, calls, what stands in parentheses


class Sql(str):
    """A piece of SQL that knows how strongly its outermost operator binds; a plain str counts as `PRIMARY`."""

    __slots__ = ("precedence",)
    precedence: int

    def __new__(cls, text: str, precedence: int) -> Self:
        """Make *text* with the *precedence* of its outermost operator."""
        sql = super().__new__(cls, text)
        sql.precedence = precedence
        return sql


def enclosed(sql: str, least: int) -> str:
    """Return *sql*, in parentheses if its outermost operator binds less strongly than *least*."""
    return f"({sql})" if isinstance(sql, Sql) and sql.precedence < least else sql


def joined(operator: str, parts: Iterable[str], precedence: int) -> str:
    """Join *parts* with an *operator* of which ``a op (b op c)`` is ``(a op b) op c``."""
    listed = list(parts)
    if len(listed) == 1:
        return listed[0]
    return Sql(f" {operator} ".join([enclosed(part, precedence) for part in listed]), precedence)


def conjunction(parts: Iterable[str]) -> str:
    """Join conditions with AND; ``1 = 1`` if there are none."""
    return joined("AND", parts, AND) or Sql("1 = 1", COMPARISON)


_Render = Callable[["Compiler", tuple[Any, ...]], str]


class Operator(NamedTuple):
    """What an operator means.

    *render*: its SQL for the operands, rendered in the order in which they stand in it, since
    parameters have no numbers. *kind*: what comes out. *is_condition*: whether it is a condition, true,
    false or unknown, rather than a value. *negated*: the SQL of NOT of it, where there is a shorter one.
    """

    render: _Render
    kind: Callable[[tuple[Any, ...]], Kind]
    is_condition: bool = False
    negated: _Render | None = None


OPERATORS: dict[str, Operator] = {}
"""The whole table; the package fills it, since operators need each other."""


def negated(compiler: Compiler, operator: Operator, operands: tuple[Any, ...]) -> str:
    """Return the SQL of NOT of a condition."""
    if operator.negated is not None:
        return operator.negated(compiler, operands)
    return Sql(f"NOT {enclosed(operator.render(compiler, operands), PRIMARY)}", NOT)


def nullable(operands: Iterable[Any]) -> bool:
    """Tell whether one of *operands* may be NULL."""
    kinds = [kind_of(operand) for operand in operands]  # of all: one may be refused
    return any(kind.nullable for kind in kinds)


def prepared(operator: Operator, prepare: Callable[[tuple[Any, ...]], tuple[Any, ...]]) -> Operator:
    """Return *operator* over what *prepare* makes of its operands, which may refuse them."""
    short = operator.negated
    return operator._replace(
        render=lambda compiler, operands: operator.render(compiler, prepare(operands)),
        kind=lambda operands: operator.kind(prepare(operands)),
        negated=None if short is None else lambda compiler, operands: short(compiler, prepare(operands)),
    )


class Case(NamedTuple):
    """What the name of an operator means where its operands are of certain kinds: ``+`` of two texts.

    *fits* is asked with the kinds of the operands (`UNKNOWN` for tuples and None).
    """

    fits: Callable[[tuple[Kind, ...]], bool]
    operator: Operator


def with_cases(cases: Sequence[Case], otherwise: Operator) -> Operator:
    """Return the operator that is the first of *cases* that fits, and else *otherwise*, which refuses what it must."""
    if not cases:
        return otherwise

    def choose(operands: tuple[Any, ...]) -> Operator:
        kinds = tuple(map(kind_of, operands))
        return next((case.operator for case in cases if case.fits(kinds)), otherwise)

    return Operator(
        lambda compiler, operands: choose(operands).render(compiler, operands),
        lambda operands: choose(operands).kind(operands),
        otherwise.is_condition,
        lambda compiler, operands: negated(compiler, choose(operands), operands),
    )
