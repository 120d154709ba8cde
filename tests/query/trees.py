"""What an expression is translated to, as text: the words of a query, close to how they would be written."""

from __future__ import annotations

from typing import Any

from dbsession import Query
from dbsession.model.attributes import Attribute
from dbsession.model.expressions import Operation, Ordering
from dbsession.query.selected import Selected
from dbsession.query.translation.translate import translate_filter, translate_order
from dbsession.query.tree import Path, RawSql, Slot, Subquery, Variable
from dbsession.query.verbs import left_join, select


def tree(items: Any) -> str:
    """Return the translation of a generator expression; slots are shown as ``{number: sample}``."""
    return shown(select(items).selected)


def left_tree(items: Any) -> str:
    """Return the translation of a generator expression as a left join."""
    return shown(left_join(items).selected)


def condition(items: Any) -> str:
    """Return the conditions of a generator expression alone."""
    return conditions_of(select(items).selected.conditions)


def result(items: Any) -> str:
    """Return the translation of what stands in front of the loops."""
    return node(select(items).selected.result)


def narrowed(query: Query[Any], function: Any, *, by_name: bool = False) -> str:
    """Return the conditions that a lambda adds to *query*."""
    found, _ = translate_filter(query.selected, query.values, function, by_name=by_name)
    return conditions_of(found)


def ordered(query: Query[Any], function: Any) -> str:
    """Return the orderings that a lambda asks for."""
    found, _ = translate_order(query.selected, query.values, function)
    return ", ".join(map(node, found))


def conditions_of(conditions: tuple[Any, ...]) -> str:
    return " AND ".join(map(node, conditions))


def shown(selected: Selected) -> str:
    """Return *selected* as text."""
    words = [node(selected.result)]
    for variable, origin in selected.fors:
        over = variable.mapping.name if origin is None else node(origin)
        words.append(f"{'LEFT ' if selected.is_left else ''}FOR {variable.name} IN {over}")
    if selected.conditions:
        words.append(f"IF {conditions_of(selected.conditions)}")
    if selected.orderings:
        words.append(f"ORDER BY {', '.join(map(node, selected.orderings))}")
    words += [name for name in ("is_distinct", "keeps_duplicates") if getattr(selected, name)]
    return " ".join(words)


def node(given: Any) -> str:
    """Return one node as text."""
    if isinstance(given, tuple):
        return f"({', '.join(map(node, given))})"
    if isinstance(given, Operation):
        return f"{given.operator}({', '.join(map(node, given.operands))})"
    if isinstance(given, Slot):
        return f"{{{given.number}: {given.sample!r}}}"
    if isinstance(given, Subquery):
        return f"[{shown(given.selected)}]" + (f"+{given.shift}" if given.shift else "")
    if isinstance(given, Ordering):
        return node(given.expression) + (" DESC" if given.descending else "")
    if isinstance(given, RawSql):
        parts = [given.texts[0]]
        for value, text in zip(given.values, given.texts[1:], strict=True):
            parts += [node(value), text]
        return f"raw<{''.join(parts)}>" + (f":{given.python.__name__}" if given.python else "")
    if isinstance(given, Path):
        return f"{node(given.base)}.{given.attribute.name}"
    if isinstance(given, Variable | Attribute):
        return repr(given)
    return repr(given)
