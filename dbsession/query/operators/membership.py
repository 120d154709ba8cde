"""``in``: one of listed values, an item of a collection, a subquery or an array, a part of a text.

None among listed values matches NULL. A short list is written out; a long one travels as one parameter:
an array on PostgreSQL (which is faster from some hundred values on, and one statement for every
length), JSON on SQLite (whose statements take 32,766 parameters).
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from dbsession.model.attributes import ValueAttribute
from dbsession.model.mapping import Mapping
from dbsession.query.kinds import Kind, is_value, kind_of, value_of
from dbsession.query.operators.base import AND, COMPARISON, OR, Operator, Sql, enclosed, joined, negated, nullable
from dbsession.query.operators.base import OPERATORS as TABLE
from dbsession.query.operators.comparison import is_null, key_columns
from dbsession.query.operators.operands import alike, check_alike, like_of, rendered
from dbsession.query.tree import Slot, is_many
from dbsession.query.values import traveller

if TYPE_CHECKING:
    from dbsession.query.sql.compiler import Compiler

__all__ = ["OPERATORS"]

_LISTS = (tuple, list, set, frozenset)
_WRITTEN_OUT = {"postgresql": 100, "sqlite": 1000}  # the longest lists that are; measured


def _membership(*, is_negated: bool) -> Callable[[Compiler, tuple[Any, ...]], str]:
    def render(compiler: Compiler, operands: tuple[Any, ...]) -> str:
        node, among = operands
        if is_many(among):
            return compiler.contained(node, among, is_negated=is_negated)
        if isinstance(value_of(among), _LISTS):
            return _in_list(compiler, node, among, is_negated)
        if kind_of(among).python is list:
            return _in_array(compiler, node, among, is_negated)
        contains, turned = TABLE["contains"], (among, node)
        _check_text(node, among)
        return negated(compiler, contains, turned) if is_negated else contains.render(compiler, turned)

    return render


def _check_text(node: Any, among: Any) -> None:
    if not kind_of(among).is_text or not kind_of(node).is_text:
        raise TypeError(
            f"{node!r} in {among!r:.60}: `in` looks into lists, subqueries, collections and texts, "
            f"and {among!r:.60} is {kind_of(among).name}"
        )


def _in_array(compiler: Compiler, node: Any, among: Any, is_negated: bool) -> str:
    """Render the question whether a PostgreSQL array has an item."""
    attribute = kind_of(among).attribute
    item = attribute.kind.value_type.item if isinstance(attribute, ValueAttribute) else None
    one = rendered(compiler, node, None if item is None else Kind(item.python))
    array = enclosed(rendered(compiler, among), COMPARISON + 1)
    return Sql(f"{enclosed(one, COMPARISON + 1)} {'<> ALL' if is_negated else '= ANY'}({array})", COMPARISON)


# --- lists ------------------------------------------------------------------------------------------------


def _in_list(compiler: Compiler, node: Any, among: Any, is_negated: bool) -> str:
    values = value_of(among)
    present = [value for value in values if value_of(value) is not None]
    _check_items(node, present)
    parts = [_in_values(compiler, node, among, present, is_negated)] if present else []
    if len(present) < len(values):
        parts.append(is_null(compiler, node, is_negated=is_negated))
    if not parts:
        return Sql("1 = 1" if is_negated else "1 = 0", COMPARISON)
    return joined("AND", parts, AND) if is_negated else joined("OR", parts, OR)


def _check_items(node: Any, present: Sequence[Any]) -> None:
    seen: set[type] = set()
    for item in present:
        if type(item) not in seen or not is_value(item) or isinstance(item, Slot):
            seen.add(type(item))
            check_alike(node, item)


def _in_values(compiler: Compiler, node: Any, among: Any, present: list[Any], is_negated: bool) -> str:
    word = "NOT IN" if is_negated else "IN"
    kind = kind_of(node)
    is_plain = all(map(is_value, present)) and not any(isinstance(item, Slot) for item in present)
    is_long = is_plain and len(present) > _WRITTEN_OUT[compiler.dialect.name]
    if isinstance(kind.python, Mapping) and len(kind.python.key_columns) > 1:
        return _in_keys(compiler, node, kind, among if isinstance(among, Slot) else present, word, is_long)
    if is_long and kind.python not in (None, bytes, list):
        return _in_long(compiler, node, kind, among if isinstance(among, Slot) else present, is_negated)
    if isinstance(among, Slot):
        left = enclosed(rendered(compiler, node), COMPARISON + 1)
        travel = traveller(like_of(node), compiler.dialect)
        marks = compiler.listed(among, _each(travel), len(present))
    elif isinstance(kind.python, Mapping):
        mapping = kind.python
        (left,), *listed = [key_columns(compiler, item, mapping, kind) for item in (node, *present)]
        marks = [mark for (mark,) in listed]
    else:
        left, *marks = alike(compiler, (node, *present), COMPARISON + 1, are_equal=True)
    return Sql(f"{left} {word} ({', '.join(marks)})", COMPARISON)


def _each(convert: Callable[[Any], Any]) -> Callable[[Any], list[Any]]:
    """Return what converts all items of a list but None."""
    return lambda values: [convert(value) for value in values if value is not None]


def _in_long(compiler: Compiler, node: Any, kind: Kind, among: Any, is_negated: bool) -> str:
    left = enclosed(rendered(compiler, node), COMPARISON + 1)
    travel = _each(traveller(kind, compiler.dialect))
    if compiler.dialect.name == "sqlite":
        mark = compiler.made_of(among, lambda values: _json(travel(values)))
        return Sql(f"{left} {'NOT IN' if is_negated else 'IN'} (SELECT value FROM json_each({mark}))", COMPARISON)
    fit = _fitting(kind)
    mark = compiler.made_of(among, lambda values: fit(travel(values)))
    return Sql(f"{left} {'<> ALL' if is_negated else '= ANY'}({mark})", COMPARISON)


def _json(values: list[Any]) -> str:
    if any(isinstance(value, float) and math.isinf(value) for value in values):
        return f"[{','.join([_json_number(value) for value in values])}]"
    return json.dumps(values)


def _json_number(value: float) -> str:
    return ("9e999" if value > 0 else "-9e999") if math.isinf(value) else json.dumps(value)


def _fitting(kind: Kind) -> Callable[[list[Any]], list[Any]]:
    """Return what leaves out the items that no array of *kind* can hold, and so equal nothing."""
    while isinstance(kind.python, Mapping):
        kind = kind_of(kind.python.key[0])
    if isinstance(kind.python, type) and issubclass(kind.python, float):
        return lambda values: [float(value) for value in values if abs(value) < 2**1023 or math.isinf(value)]
    if not isinstance(kind.python, type) or not issubclass(kind.python, int) or kind.is_bool:
        return lambda values: values
    value_type = kind.attribute.kind.value_type if isinstance(kind.attribute, ValueAttribute) else None
    bits = (value_type and value_type.size) or 64
    low, high = (0, 2**bits) if value_type and value_type.unsigned else (-(2 ** (bits - 1)), 2 ** (bits - 1))
    return lambda values: [int(value) for value in values if low <= value < high and value == int(value)]


# --- keys of several parts --------------------------------------------------------------------------------


def _in_keys(compiler: Compiler, node: Any, kind: Kind, among: Any, word: str, is_long: bool) -> str:
    mapping: Any = kind.python
    left = f"({', '.join(compiler.columns_of(node))})"
    if is_long:
        return Sql(f"{left} {word} ({_long_keys(compiler, kind, mapping, among)})", COMPARISON)
    width = len(mapping.key_columns)
    if isinstance(among, Slot):
        travel = _each(traveller(kind, compiler.dialect))
        count = len([item for item in among.sample if item is not None])
        marks = compiler.listed(among, lambda keys: [part for key in travel(keys) for part in key], count * width)
        rows = [marks[start : start + width] for start in range(0, len(marks), width)]
    else:
        rows = [key_columns(compiler, item, mapping, kind) for item in among]
    listed = ", ".join([f"({', '.join(row)})" for row in rows])
    return Sql(f"{left} {word} ({'VALUES ' if compiler.dialect.row_values_need_values else ''}{listed})", COMPARISON)


def _long_keys(compiler: Compiler, kind: Kind, mapping: Mapping, among: Any) -> str:
    """Return the SELECT of many keys from as few parameters as there are columns, or one."""
    travel = _each(traveller(kind, compiler.dialect))
    columns = mapping.key_columns
    if compiler.dialect.name == "sqlite":
        mark = compiler.made_of(among, lambda keys: _json([list(key) for key in travel(keys)]))
        parts = ", ".join([f"json_extract(value, '$[{index}]')" for index in range(len(columns))])
        return f"SELECT {parts} FROM json_each({mark})"

    def parts_at(index: int) -> Callable[[Any], list[Any]]:
        return lambda keys: [key[index] for key in travel(keys)]

    arrays = [
        f"{compiler.made_of(among, parts_at(index))}::{_element_type(column.sql_type)}[]"
        for index, column in enumerate(columns)
    ]
    return f"SELECT * FROM unnest({', '.join(arrays)})"


def _element_type(sql_type: str) -> str:
    """Return the type of a column without its limits, which would cut and round what is compared."""
    base = re.sub(r"\s*\([^)]*\)", "", sql_type)
    return "text" if base in ("varchar", "character varying", "char") else base


# --- the table --------------------------------------------------------------------------------------------


def _kind(operands: tuple[Any, ...]) -> Kind:
    node, among = operands
    listed = value_of(among)
    if not isinstance(listed, _LISTS):
        return Kind(bool, None, nullable((node, among)))
    finds_null = any(value_of(item) is None for item in listed)
    items = [item for item in listed if not is_value(item)]
    return Kind(bool, None, nullable(items) or (kind_of(node).nullable and not finds_null))


OPERATORS: dict[str, Operator] = {
    "in": Operator(_membership(is_negated=False), _kind, is_condition=True, negated=_membership(is_negated=True)),
}
