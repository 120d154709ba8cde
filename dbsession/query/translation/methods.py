"""Methods and parts: of texts, dates and JSON, of collections and of queries, as a query calls them."""

from __future__ import annotations

import ast
from datetime import timedelta
from enum import Enum
from typing import TYPE_CHECKING, Any

from dbsession.errors import TranslationError
from dbsession.model.expressions import Expression
from dbsession.model.registration import suggest
from dbsession.query import taking
from dbsession.query.kinds import is_condition, kind_of
from dbsession.query.selected import For
from dbsession.query.translation import functions
from dbsession.query.translation.names import Scope, own_names
from dbsession.query.tree import Path, Subquery, Variable, is_many

if TYPE_CHECKING:
    from dbsession.query.translation.translator import Translator

__all__ = ["items_of", "method", "part"]

# Methods of values: the operator, and how many arguments there may be.
_METHODS: dict[str, tuple[str, int, int]] = {
    "date": ("date", 0, 0),
    "endswith": ("endswith", 1, 1),
    "isoformat": ("isoformat", 0, 0),
    "isoweekday": ("isoweekday", 0, 0),
    "lower": ("lower", 0, 0),
    "lstrip": ("lstrip", 0, 1),
    "replace": ("replace", 2, 2),
    "rstrip": ("rstrip", 0, 1),
    "startswith": ("startswith", 1, 1),
    "strip": ("strip", 0, 1),
    "time": ("time", 0, 0),
    "total_seconds": ("total_seconds", 0, 0),
    "upper": ("upper", 0, 0),
    "weekday": ("weekday", 0, 0),
}
_PARTS = frozenset(
    {"year", "month", "day", "hour", "minute", "second", "microsecond", "days", "seconds", "microseconds"}
)

_INSTEAD = {
    "between": "write a <= x <= b, or between(x, a, b)",
    "contains": 'write "..." in x',
    "in_": "write x in [...]",
    "is_null": "write x is None",
    "asc": "give order_by() the expression itself",
    "desc": "write desc(x) in order_by()",
    "like": 'write "..." in x, x.startswith("..."), x.endswith("..."), or raw_sql()',
    "ilike": 'write "..." in x.lower(), x.lower().startswith("..."), or raw_sql()',
    "casefold": "write x.lower()",
    "find": 'write "..." in x',
    "index": 'write "..." in x',
    "strftime": "take its parts, such as .year and .month, or format the results",
    "format": 'write an f-string, such as f"{u.name}!"',
    "join": 'write an f-string, such as f"{u.name}!", or group_concat() for many rows',
}


def part(t: Translator, base: Any, name: str, node: ast.expr, scope: Scope) -> Any:
    """Return ``base.name`` of a value that is no object."""
    if isinstance(base, tuple):
        raise t.error(node, scope, "a tuple has no attributes")
    if name in _PARTS and name in t.operators:
        return t.make(name, base, node=node, scope=scope)
    kind = kind_of(base)
    if kind.python is dict:
        why = f"JSON has keys, no attributes: write [{name!r}]"
    elif name in _METHODS:
        why = f"{name} is a method: write {name}()"
    elif name in ("name", "value") and isinstance(kind.python, type) and issubclass(kind.python, Enum):
        why = f"compare with a member, such as {next(iter(kind.python))}, and take .{name} of the results"
    else:
        why = f"{kind.name} has no attribute {name!r} in a query{suggest(name, sorted(_PARTS - {name}))}"
    raise t.error(node, scope, why)


def method(t: Translator, base: Any, name: str, node: ast.Call, scope: Scope) -> Any:
    """Return ``base.name(...)``."""
    if is_many(base):
        return _of_many(t, base, name, node, scope)
    mapping = base.mapping if isinstance(base, Variable) else base.target if isinstance(base, Path) else None
    if mapping is not None:
        return t.method_of_object(base, mapping, name, node, scope)
    operator, least, most = _METHODS.get(name, ("", 0, 0))
    if name == "get" and kind_of(base).python is dict:
        return _got(t, base, node, scope)
    if operator not in t.operators:
        raise _no_method(t, base, name, node, scope)
    if node.keywords or not least <= len(node.args) <= most:
        number = str(most) if least == most else f"{least} to {most}"
        raise t.error(node, scope, f"{name}() takes {number} arguments within a query, and no keywords")
    if operator in ("startswith", "endswith"):
        return _matching(t, operator, base, node, scope)
    return t.make(operator, base, *[t.visit(given, scope) for given in node.args], node=node, scope=scope)


def _got(t: Translator, base: Any, node: ast.Call, scope: Scope) -> Any:
    """Translate ``u.data.get(key)`` and ``u.data.get(key, default)``; JSON's null counts as missing."""
    if node.keywords or not 1 <= len(node.args) <= 2:
        raise t.error(node, scope, "get() takes 1 to 2 arguments within a query, and no keywords")
    key, *default = [t.visit(given, scope) for given in node.args]
    item = t.make("item", base, key, node=node, scope=scope)
    return t.make("coalesce", item, *default, node=node, scope=scope) if default else item


def _no_method(t: Translator, base: Any, name: str, node: ast.Call, scope: Scope) -> TranslationError:
    instead = _INSTEAD.get(name)
    if instead is None:
        python = kind_of(base).python
        guess = suggest(name, [known for known in _METHODS if hasattr(python, known)])
        instead = guess.removeprefix("; ") or "call it on the results, or give what it returns to the query"
    kind = "a condition" if is_condition(base) else kind_of(base).name
    return t.error(node, scope, f"{name}() of {kind} has no counterpart in the database; {instead}")


def _matching(t: Translator, operator: str, base: Any, node: ast.Call, scope: Scope) -> Any:
    """Translate ``startswith(("a", "b"))``: any of them."""
    (given,) = node.args
    if isinstance(given, ast.Tuple):
        parts = [t.make(operator, base, t.visit(each, scope), node=node, scope=scope) for each in given.elts]
        return t.joined("or", parts, node, scope)
    return t.make(operator, base, t.visit(given, scope), node=node, scope=scope)


# The parameters of timedelta(), in their order.
_UNITS = ("days", "seconds", "microseconds", "milliseconds", "minutes", "hours", "weeks")


def _timedelta(t: Translator, node: ast.Call, scope: Scope) -> Any:
    """Translate ``timedelta(days=u.number)``: so many times a day."""
    spans: list[Any] = []
    for unit, given in zip(_UNITS, functions.arguments(t, node, scope, *_UNITS, required=0), strict=True):
        if given is not None:
            number = t.visit(given, scope)
            spans.append(t.make("*", timedelta(**{unit: 1}), number, node=node, scope=scope))
    total, *others = spans
    for span in others:
        total = t.make("+", total, span, node=node, scope=scope)
    return total


functions.enter(timedelta, _timedelta)

# --- collections and queries ------------------------------------------------------------------------------


def items_of(t: Translator, found: Any, node: ast.expr, scope: Scope) -> Subquery:
    """Return the subquery for a collection, or the one that *found* is."""
    if isinstance(found, Subquery):
        return found
    if isinstance(found, Path) and found.is_many:
        return Subquery(t.items_of_path(found))
    raise t.error(node, scope, "this is no collection and no query")


_ASKING = frozenset(
    {"avg", "count", "distinct", "exists", "group_concat", "is_empty", "max", "min", "sum", "without_distinct"}
)


def _of_many(t: Translator, base: Subquery | Path, name: str, node: ast.Call, scope: Scope) -> Any:
    if name in ("select", "filter", "where"):
        return _narrowed(t, base, node, scope)
    if name not in _ASKING:
        raise t.error(
            node,
            scope,
            f"{name}() has no counterpart within a query; there are select(), count(), exists(), is_empty(), sum(), "
            f"avg(), min(), max(). A query that uses no loop variable can be made before this one and used by its name",
        )
    if node.args or node.keywords:
        raise t.error(node, scope, f"{name}() takes no arguments within a query; give them to select()")
    if name in ("distinct", "without_distinct"):
        found = items_of(t, base, node, scope)
        changes = {"is_distinct": True} if name == "distinct" else {"keeps_duplicates": True}
        return Subquery(found.selected.replace(**changes), found.shift)
    if name == "is_empty":
        return t.negated(t.make("exists", base, node=node, scope=scope), node, scope)
    return t.make(name, base, node=node, scope=scope)


def _narrowed(t: Translator, base: Subquery | Path, node: ast.Call, scope: Scope) -> Subquery:
    """Translate ``u.orders.select(lambda o: ...)``, ``.filter(total=5)``."""
    found = items_of(t, base, node, scope)
    selected = found.selected
    if not node.args and not node.keywords:
        return found
    if selected.is_sliced or selected.is_grouped or not (t.is_own(selected) or selected.gives_objects):
        raise t.error(
            node, scope, "what is aggregated or limited can be narrowed no more within a query; narrow it before"
        )
    if not t.is_own(selected):
        item = Variable.of(selected.mapping)
        selected = t.selected((For(item, found),), item, ())
    conditions = list(selected.conditions)
    for given in node.args:
        condition = _condition(t, given, selected.items, scope)
        if isinstance(condition, Expression):
            conditions.append(condition)
        elif not condition:
            conditions.append(False)
    for keyword in node.keywords:
        assert keyword.arg is not None
        attribute = t.attribute_of(selected.result, keyword.arg, node, scope)
        conditions.append(t.make("=", attribute, t.visit(keyword.value, scope), node=node, scope=scope))
    return Subquery(t.own(selected.replace(conditions=tuple(conditions))))


def _condition(t: Translator, given: ast.expr, items: tuple[Any, ...], scope: Scope) -> Any:
    if not isinstance(given, ast.Lambda):
        if t.is_outside(given, scope):
            number = t.ask_for(given, scope, taking.callee)
            if callable(t.answer(number)):
                return t.as_condition(t.inline_with(number, items, given, scope), given, scope)
        return t.condition(given, scope)
    names = [parameter.arg for parameter in (*given.args.posonlyargs, *given.args.args)]
    if len(own_names(given.args)) != len(items) or len(names) != len(items) or given.args.defaults:
        raise t.error(
            given, scope, f"this lambda has to have {len(items)} parameter{'s'[: len(items) != 1]}: one for each item"
        )
    for name, item in zip(names, items, strict=True):
        scope = scope.with_inside(name, item)
    return t.condition(given.body, scope)
