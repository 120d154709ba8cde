"""Operands: how those that stand side by side are made alike, and what is said when they cannot be.

Values travel as the expressions beside them do. On SQLite a Decimal is a text with a collation of its
own; a number beside it has to become one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from decimal import Decimal
from enum import Enum
from typing import TYPE_CHECKING, Any

from dbsession.model.attributes import ValueAttribute
from dbsession.model.mapping import Mapping
from dbsession.query.kinds import UNKNOWN, Kind, is_condition, is_value, kind_of, value_of
from dbsession.query.operators.base import POSTFIX, UNARY, Sql, enclosed
from dbsession.query.tree import Path, Slot
from dbsession.query.values import Like

if TYPE_CHECKING:
    from dbsession.query.sql.compiler import Compiler

__all__ = [
    "COLLATED",
    "alike",
    "as_kind",
    "bare",
    "check_alike",
    "collated",
    "common_kind",
    "converted",
    "like_of",
    "rendered",
]

COLLATED = " COLLATE dbs_decimal"


def rendered(compiler: Compiler, node: Any, like: Like = None) -> str:
    """Return the SQL of a value, which may be that of a condition."""
    return compiler.condition(node) if is_condition(node) else compiler.render(node, like)


def converted(compiler: Compiler, node: Any, convert: Callable[[Any], Any]) -> str:
    """Return a parameter: what *convert* makes of the constant *node*, or of the value in its slot."""
    return compiler.late(node, convert) if isinstance(node, Slot) else compiler.parameter(convert(node))


# --- decimals on SQLite -----------------------------------------------------------------------------------


def bare(sql: str) -> str:
    """Return *sql* without the collation of Decimals, which functions of ours do not need."""
    return sql.removesuffix(COLLATED)


def collated(sql: str) -> str:
    """Return *sql*, a Decimal as text, so that it compares as a number."""
    return Sql(f"{enclosed(bare(sql), POSTFIX)}{COLLATED}", POSTFIX)


def _exact(compiler: Compiler, node: Any) -> str:
    """Return a number that is no Decimal as one, on SQLite."""
    function = "CAST({} AS TEXT)" if kind_of(node).python is int else "dbs_exact({})"
    return collated(function.format(rendered(compiler, node)))


# --- side by side -----------------------------------------------------------------------------------------


def like_of(*nodes: Any) -> Like:
    """Return how values beside *nodes* travel: as the first that is no value itself; as a Decimal among them."""
    kinds = [kind_of(node) for node in nodes if not is_value(node)]
    return next(filter(_is_decimal, kinds), kinds[0] if kinds else None)


def _is_decimal(kind: Kind) -> bool:
    return kind.is_decimal


def alike(compiler: Compiler, nodes: Sequence[Any], least: int, *, are_equal: bool = False) -> list[str]:
    """Return the SQL of *nodes*, which are compared with each other, each enclosed for an operator that binds so.

    *are_equal*: the operator asks whether they are.
    """
    like = like_of(*nodes)
    is_exact = compiler.dialect.name == "sqlite" and isinstance(like, Kind) and like.is_decimal
    texts = [
        _exact(compiler, node)
        if is_exact and not is_value(node) and kind_of(node).is_number and not kind_of(node).is_decimal
        else rendered(compiler, node, like)
        for node in nodes
    ]
    if (
        is_exact
        and are_equal
        and compiler.is_qualified
        and len({_scale(node) for node in nodes if not is_value(node)}) > 1
    ):
        texts = [
            text if _scale(node) is None else Sql(f"+{text}", UNARY) for node, text in zip(nodes, texts, strict=True)
        ]
    return [enclosed(text, least) for text in texts]


def _scale(node: Any) -> int | None:
    """Return how many digits behind the point the column *node* keeps; None for what is no column of Decimals.

    In a join SQLite (3.40 for one) looks for equal texts by a filter that goes by their length, so 1.2 would not
    find 1.20 in a column (unless a + keeps it from making an index of that): columns are compared as they are
    with those that keep as many digits, and with values, which travel with as many.
    """
    attribute = node.attribute if isinstance(node, Path) else node
    if not isinstance(attribute, ValueAttribute) or (isinstance(node, Path) and node.is_many):
        return None
    value_type = attribute.kind.value_type
    return value_type.scale if value_type.python is Decimal else None


def as_kind(compiler: Compiler, node: Any, kind: Kind) -> str:
    """Return the SQL of *node* as a value of *kind*, the `common_kind` of it and others."""
    if value_of(node) is None:
        return "NULL"
    if kind.python is float and is_value(node):
        return converted(compiler, node, float)
    if is_value(node):
        return compiler.render(node, kind)
    own = kind_of(node)
    if own.python is not kind.python and own.is_number and compiler.dialect.name == "sqlite":
        if kind.is_decimal:
            return _exact(compiler, node)
        if kind.python is float:
            return f"CAST({rendered(compiler, node)} AS REAL)"  # or 1 / 2 would be 0 further on
    if own.is_object:
        columns = compiler.columns_of(node)
        if len(columns) > 1:
            raise TypeError(f"{node!r} has a key of {len(columns)} columns; it can be compared, and nothing else")
        return columns[0]
    return rendered(compiler, node)


def common_kind(nodes: Sequence[Any], name: str) -> Kind:
    """Return the kind of what is one of *nodes*: of the branches of an ``if``, the arguments of coalesce().

    Its attribute is that of the first that has one, since they all travel alike; whether it may be NULL is
    for the caller to say.

    Raises:
        TypeError: they are of different types.
    """
    known = [node for node in nodes if kind_of(node).python is not None]
    if not known:
        return UNKNOWN
    first = next((node for node in known if not is_value(node)), known[0])
    kinds = [kind_of(node) for node in known]
    kind = kind_of(first)
    for node, other in zip(known, kinds, strict=True):
        check_alike(first, node, f"{name} takes values of one type")
        if kind.is_number and not other.is_number:  # a text that could be assigned is none either
            raise _different(first, node, f"{name} takes values of one type")
    pythons = {other.python for other in kinds}
    if kind.is_number and not (len(pythons) == 1 and kind.is_enum):
        if {Decimal, float} <= pythons:
            raise TypeError(f"{name} takes no Decimal together with a float: make one of them the other")
        return Kind(next((p for p in (Decimal, float) if p in pythons), int))
    if kind.is_object and any(other.python is not kind.python for other in kinds):
        mapping = kind.python
        assert isinstance(mapping, Mapping)
        return Kind(mapping.root)
    return kind


def check_alike(left: Any, right: Any, rule: str = "values of one type can be compared") -> None:
    """Check that two operands are of one type, as far as that can be told; numbers are.

    A value beside an attribute, or beside JSON, is checked when it is made to travel as that does.

    Raises:
        TypeError: they are not.
    """
    one, other = kind_of(left), kind_of(right)
    if one.python is None or other.python is None or _family(one) == _family(other):
        return
    for node, kind, beside in ((left, one, other), (right, other, one)):
        decides = beside.is_object or beside.python is dict or isinstance(beside.attribute, ValueAttribute)
        if is_value(node) and not kind.is_object and decides:
            return
        if is_value(node) and kind.is_object and beside.is_object:
            raise TypeError(f"{left!r} and {right!r} are objects of different entities, {one.name} and {other.name}")
        if is_value(node) and kind.is_object:
            raise TypeError(
                f"{left!r} is compared with {right!r}, and no reference; compare it with an attribute of that"
            )
    if _is_mixed_in(one, other) or _is_mixed_in(other, one) or _is_key(one, other) or _is_key(other, one):
        return
    raise _different(left, right, rule)


def _different(left: Any, right: Any, rule: str) -> TypeError:
    first, second = ["a condition" if is_condition(node) else kind_of(node).name for node in (left, right)]
    return TypeError(f"{left!r} is {first}, and {right!r} is {second}: {rule}")


def _family(kind: Kind) -> object:
    if isinstance(kind.python, Mapping):
        return kind.python.root
    return "number" if kind.is_number else (kind.python, kind.tz)


def _is_mixed_in(enum: Kind, other: Kind) -> bool:
    """Tell whether *enum* is an Enum whose members are texts or numbers too, as *other* is."""
    python = enum.python
    if not isinstance(python, type) or not issubclass(python, Enum):
        return False
    return (enum.is_text and other.is_text) or (enum.is_number and other.is_number)


def _is_key(kind: Kind, other: Kind) -> bool:
    """Tell whether *other* is what objects of *kind* have as their key."""
    if not isinstance(kind.python, Mapping) or len(kind.python.key_columns) != 1:
        return False
    return not other.is_object and _family(kind_of(kind.python.key[0])) == _family(other)
