"""Calls of functions within a query. A function is known by what its name refers to, never by the name.

Builtins stand here; `verbs` enters the public functions of dbsession, which stand above.
"""

from __future__ import annotations

import ast
import builtins
from collections.abc import Callable
from decimal import Decimal
from enum import Enum
from types import FunctionType, MethodType
from typing import TYPE_CHECKING, Any, TypeAlias

from dbsession.model.entity import EntityMeta
from dbsession.model.expressions import Expression
from dbsession.query import taking
from dbsession.query.kinds import kind_of
from dbsession.query.translation.names import Scope, free_names
from dbsession.query.tree import Subquery, is_many

if TYPE_CHECKING:
    from dbsession.query.translation.translator import Translator

__all__ = [
    "Handler",
    "aggregate",
    "all_",
    "any_",
    "arguments",
    "between",
    "call",
    "coalesce",
    "concat",
    "count",
    "descending",
    "distinct",
    "enter",
    "exists",
    "extreme",
    "is_call_of",
    "is_special",
    "length",
    "not_here",
    "query",
    "random",
]

Handler: TypeAlias = Callable[["Translator", ast.Call, Scope], Any]

_handlers: dict[int, tuple[Any, Handler]] = {}  # by identity; what is called need not be hashable
_special: dict[int, str] = {}


def enter(function: Any, handler: Handler, *, special: str = "") -> None:
    """Let *function* mean *handler* within a query.

    *special*: its name, if it is the database's even where it is given no loop variable.
    """
    _handlers[id(function)] = (function, handler)
    if special:
        _special[id(function)] = special


def _handler_of(value: Any) -> Handler | None:
    known = _handlers.get(id(value))
    return None if known is None else known[1]


# --- what only the database can evaluate ------------------------------------------------------------------

_NARROWING = frozenset({"select", "filter", "where"})


def is_special(t: Translator, node: ast.Call, scope: Scope, bound: frozenset[str]) -> bool:
    """Tell whether the call *node*, which uses no loop variable, is the database's all the same.

    *bound*: the names that comprehensions around it bind.
    """
    func = node.func
    if isinstance(func, ast.Name):
        if func.id in bound:
            return False
        return _is_special(t.answer(t.ask_for(func, scope, _specially)), node)
    if not isinstance(func, ast.Attribute) or not isinstance(func.value, ast.Name | ast.Attribute):
        return False
    if not free_names(func.value).isdisjoint(bound):
        return False
    if func.attr in _NARROWING and any(isinstance(given, ast.Lambda) for given in node.args):
        return t.is_ours(func.value, scope)
    if func.attr in _special.values() and t.answer(t.ask_for(func.value, scope, taking.module)) is not None:
        return _is_special(t.answer(t.ask_for(func, scope, _specially)), node)
    return False


def _specially(value: Any) -> tuple[Any, Any]:
    name = _special.get(id(value))
    return name, name


def _is_special(name: str | None, node: ast.Call) -> bool:
    return name is not None and (name != "count" or not node.args)


# --- calls ------------------------------------------------------------------------------------------------


def call(t: Translator, node: ast.Call, scope: Scope) -> Any:
    """Return what a call stands for."""
    for given in node.args:
        if isinstance(given, ast.Starred):
            raise t.error(given, scope, "the arguments of a call in a query are written one by one")
    if any(keyword.arg is None for keyword in node.keywords):
        raise t.error(node, scope, "the arguments of a call in a query are written one by one, without **")
    func = node.func
    if isinstance(func, ast.Attribute):
        if not t.is_outside(func.value, scope):
            return t.method(t.visit(func.value, scope), func.attr, node, scope)
        number = t.ask_for(func.value, scope, _receiver)
        is_method = t.answer(number) is not _OTHER and (
            func.attr in _NARROWING or not taking.is_entity(t.answer(number))
        )
        if is_method:
            return t.method(_base(t, number, func.value, scope), func.attr, node, scope)
    if not isinstance(func, ast.Name | ast.Attribute) or not t.is_outside(func, scope):
        raise t.error(node, scope, "what is called in a query is a function with a name, or a method")
    number = t.ask_for(func, scope, taking.callee)
    value = t.answer(number)
    handler = _handler_of(value)
    if handler is not None:
        return handler(t, node, scope)
    if isinstance(value, FunctionType) or (isinstance(value, MethodType) and isinstance(value.__func__, FunctionType)):
        return t.inline_answer(number, node, scope)
    name = getattr(value, "__name__", None) or type(value).__name__
    raise t.error(node, scope, f"{name} cannot be called with what stands in a row{_instead(value)}")


_OTHER = object()


def _receiver(value: Any) -> tuple[Any, Any]:
    """Take what a method is called on: something of the database's, or a value that it has methods for."""
    value = taking.as_value(value)
    if taking.is_ours(value):
        return taking.plain(value)
    if isinstance(value, taking.VALUES) and not isinstance(value, Enum):
        return taking.plain(value)
    return _OTHER, None


def _base(t: Translator, number: int, node: ast.expr, scope: Scope) -> Any:
    value = t.answer(number)
    if taking.is_entity(value):
        return t.all_of(value)
    return t.taken(number, node, scope) if taking.is_ours(value) else t.outside(node, scope)


def _instead(value: Any) -> str:
    if isinstance(value, EntityMeta):
        return "; a query makes no objects: select a tuple, and make objects of the rows"
    if value is Decimal:
        return "; compare it as it is, numbers of all types go together"
    if value is dict:
        return "; select a tuple, and make dicts of the rows"
    if isinstance(value, type) and issubclass(value, taking.VALUES):
        return "; make the value before the query, and compare with that"
    return (
        "; call it on the results, or write it as a function of one `return` in Python, which is taken into the query"
    )


def arguments(t: Translator, node: ast.Call, scope: Scope, *names: str, required: int) -> list[ast.expr | None]:
    """Return the arguments of a call by the *names* of the parameters; None for one that is not given.

    A name with a ``=`` behind it is given by name only.
    """
    positional = [name for name in names if not name.endswith("=")]
    plain = [name.rstrip("=") for name in names]
    given: dict[str, ast.expr] = dict(zip(positional, node.args, strict=False))
    what = _called(node)
    if len(node.args) > len(positional):
        number = f"{len(positional)} argument{'s'[: len(positional) != 1]}"
        raise t.error(node, scope, f"{what} takes {number} at most within a query")
    for keyword in node.keywords:
        assert keyword.arg is not None
        if keyword.arg not in plain or keyword.arg in given:
            raise t.error(node, scope, f"{what} takes no argument {keyword.arg!r} within a query")
        given[keyword.arg] = keyword.value
    for name in names[:required]:
        if name not in given:
            raise t.error(node, scope, f"{what} lacks its argument {name!r}")
    return [given.get(name) for name in plain]


def _called(node: ast.Call) -> str:
    return f"{ast.unparse(node.func)}()"


# --- functions of single values ---------------------------------------------------------------------------


def _operator(operator: str, names: tuple[str, ...], required: int) -> Handler:
    """Return what handles a function that is an operator of its arguments."""

    def handle(t: Translator, node: ast.Call, scope: Scope) -> Any:
        given = arguments(t, node, scope, *names, required=required)
        operands = [t.visit(each, scope) for each in given if each is not None]
        return t.make(operator, *operands, node=node, scope=scope)

    return handle


def _several(operator: str, least: int) -> Handler:
    """Return what handles a function of any number of arguments."""

    def handle(t: Translator, node: ast.Call, scope: Scope) -> Any:
        if node.keywords or len(node.args) < least:
            raise t.error(node, scope, f"{_called(node)} takes {least} arguments or more, and no keywords")
        operands = [t.visit(each, scope) for each in node.args]
        if len(operands) == 1:
            return operands[0]
        return t.make(operator, *operands, node=node, scope=scope)

    return handle


def concat(t: Translator, node: ast.Call, scope: Scope) -> Any:
    """Translate ``concat(a, b, ...)``: the texts of all, one behind the other."""
    if node.keywords or not node.args:
        raise t.error(node, scope, f"{_called(node)} takes one argument or more, and no keywords")
    parts = [t.as_text(t.visit(each, scope), each, scope) for each in node.args]
    return parts[0] if len(parts) == 1 else t.make("concat", *parts, node=node, scope=scope)


def _str(t: Translator, node: ast.Call, scope: Scope) -> Any:
    (given,) = arguments(t, node, scope, "object", required=1)
    assert given is not None
    return t.as_text(t.visit(given, scope), node, scope)


def _bool(t: Translator, node: ast.Call, scope: Scope) -> Any:
    (given,) = arguments(t, node, scope, "object", required=1)
    assert given is not None
    return t.condition(given, scope)


def _isinstance(t: Translator, node: ast.Call, scope: Scope) -> Any:
    given, of = arguments(t, node, scope, "object", "class_or_tuple", required=2)
    assert given is not None
    assert of is not None
    found = t.visit(given, scope)
    if not kind_of(found).is_object:
        raise t.error(
            node, scope, "isinstance() asks for the class of an object, and this is a value, whose type is known"
        )
    if not t.is_outside(of, scope):
        raise t.error(of, scope, "isinstance() takes an entity, or a tuple of entities")
    classes = t.answer(t.ask_for(of, scope, _classes))
    if not all(map(taking.is_entity, classes)):
        raise t.error(of, scope, "isinstance() takes an entity, or a tuple of entities")
    return t.make("isinstance", found, classes, node=node, scope=scope)


def _classes(value: Any) -> tuple[Any, Any]:
    classes = value if isinstance(value, tuple) else (value,)
    return classes, tuple(map(taking.Same, classes))


def _getattr(t: Translator, node: ast.Call, scope: Scope) -> Any:
    base, named = arguments(t, node, scope, "object", "name", required=2)
    assert base is not None
    assert named is not None
    name = t.answer(t.ask_for(named, scope, taking.exact)) if t.is_outside(named, scope) else None
    if not isinstance(name, str):
        raise t.error(named, scope, "the name of an attribute has to be known to Python")
    return t.attribute_of(t.visit(base, scope), name, node, scope)


def _known_to_python(t: Translator, node: ast.Call, scope: Scope) -> Any:
    """Translate ``list(...)``, ``set(...)`` around a subquery: it is one either way."""
    (given,) = arguments(t, node, scope, "iterable", required=1)
    assert given is not None
    found = t.visit(given, scope)
    if is_many(found):
        return found
    raise t.error(node, scope, f"{_called(node)} takes a collection or a query here")


def not_here(why: str) -> Handler:
    """Return what refuses a function within a query."""

    def handle(t: Translator, node: ast.Call, scope: Scope) -> Any:
        raise t.error(node, scope, why)

    return handle


# --- aggregates -------------------------------------------------------------------------------------------


def aggregate(operator: str, *more: str) -> Handler:
    """Return what handles ``sum(x)`` and its like; *more*: further parameters, values of Python."""

    def handle(t: Translator, node: ast.Call, scope: Scope) -> Any:
        given, *rest, distinctly = arguments(t, node, scope, "x", *more, "distinct=", required=1)
        assert given is not None
        given, is_distinct = _each_once(t, given, distinctly, scope)
        options = [None if each is None else t.visit(each, scope) for each in rest]
        while options and options[-1] is None and not is_distinct:
            del options[-1]
        found = _aggregated(t, given, scope)
        return t.make(operator, found, *options, *([True] if is_distinct else []), node=node, scope=scope)

    return handle


def _each_once(t: Translator, given: ast.expr, distinctly: ast.expr | None, scope: Scope) -> tuple[ast.expr, bool]:
    """Return what is aggregated, and whether equal values count once, as in ``sum(distinct(x))``."""
    if isinstance(given, ast.Call) and is_call_of(t, given, scope, distinct):
        return given.args[0], True
    return given, distinctly is not None and _flag(t, distinctly, scope)


def extreme(operator: str) -> Handler:
    """Return what handles ``min(...)`` and ``max(...)``: of many rows, or of several values."""
    alone = aggregate(operator)

    def handle(t: Translator, node: ast.Call, scope: Scope) -> Any:
        if node.keywords:
            raise t.error(node, scope, f"{operator}() takes no key= and no default= within a query; use coalesce()")
        listed = node.args
        if len(listed) == 1 and isinstance(listed[0], ast.Tuple | ast.List):
            listed = listed[0].elts
        if len(listed) < 2:
            return alone(t, node, scope)
        return t.make(f"{operator}2", *[t.visit(each, scope) for each in listed], node=node, scope=scope)

    return handle


def count(t: Translator, node: ast.Call, scope: Scope) -> Any:
    """Translate ``count(x)``: the rows where x is not None, or what a collection has; ``count()`` counts all rows."""
    given, distinctly = arguments(t, node, scope, "x", "distinct=", required=0)
    if given is None:
        return t.make("count", node=node, scope=scope)
    given, is_distinct = _each_once(t, given, distinctly, scope)
    found = t.visit(given, scope)
    if isinstance(found, tuple):
        raise t.error(given, scope, "one expression can be counted, and this is a tuple; count() counts rows")
    if is_distinct and isinstance(found, Subquery):
        return t.make("count", _distinct(found), node=node, scope=scope)
    return t.make("count_distinct" if is_distinct else "count", found, node=node, scope=scope)


def _flag(t: Translator, node: ast.expr, scope: Scope) -> bool:
    value = t.answer(t.ask_for(node, scope, taking.exact)) if t.is_outside(node, scope) else None
    if not isinstance(value, bool):
        raise t.error(node, scope, "this has to be True or False, and known to Python")
    return value


def is_call_of(t: Translator, node: ast.Call, scope: Scope, handler: Handler) -> bool:
    """Tell whether *node* calls, with one argument, the function that *handler* handles."""
    if not isinstance(node.func, ast.Name | ast.Attribute) or not t.is_outside(node.func, scope) or len(node.args) != 1:
        return False
    return _handler_of(t.answer(t.ask_for(node.func, scope, taking.callee))) is handler


def _aggregated(t: Translator, node: ast.expr, scope: Scope) -> Any:
    found = t.visit(node, scope)
    result = found.selected.result if isinstance(found, Subquery) else found
    if isinstance(result, tuple):
        raise t.error(node, scope, "one expression can be summed up, and this is a tuple")
    return found


def distinct(t: Translator, node: ast.Call, scope: Scope) -> Any:
    """Translate ``distinct(...)``: each value of a subquery once."""
    (given,) = arguments(t, node, scope, "x", required=1)
    assert given is not None
    found = t.visit(given, scope)
    if isinstance(found, Subquery):
        return _distinct(found)
    raise t.error(node, scope, "distinct() is for count(distinct(x)) and for queries")


def _distinct(found: Subquery) -> Subquery:
    return Subquery(found.selected.replace(is_distinct=True), found.shift)


def length(t: Translator, node: ast.Call, scope: Scope) -> Any:
    """Translate ``len(x)``: of a text, or of a collection or subquery."""
    (given,) = arguments(t, node, scope, "x", required=1)
    assert given is not None
    found = t.visit(given, scope)
    return t.make("count" if is_many(found) else "len", found, node=node, scope=scope)


def exists(t: Translator, node: ast.Call, scope: Scope) -> Any:
    """Translate ``exists(...)``: whether a subquery or collection has anything."""
    (given,) = arguments(t, node, scope, "x", required=1)
    assert given is not None
    found = t.visit(given, scope)
    if is_many(found):
        return t.make("exists", found, node=node, scope=scope)
    raise t.error(node, scope, "exists() takes a generator expression, a query or a collection")


def _quantified(t: Translator, node: ast.Call, scope: Scope) -> tuple[Any, Any]:
    """Return the subquery of ``any(...)`` or ``all(...)``, and the condition that its rows are asked for."""
    (given,) = arguments(t, node, scope, "iterable", required=1)
    if not isinstance(given, ast.GeneratorExp | ast.ListComp | ast.SetComp):
        raise t.error(
            node, scope, f"{_called(node)} takes a generator expression; for a collection itself use exists()"
        )
    selected = t.generator(given, scope, result=t.condition)
    return selected.replace(result=selected.fors[0].variable), selected.result


def any_(t: Translator, node: ast.Call, scope: Scope) -> Any:
    """Translate ``any(condition for ...)``: EXISTS."""
    selected, condition = _quantified(t, node, scope)
    if condition is False:
        return False
    if isinstance(condition, Expression):
        selected = selected.replace(conditions=(*selected.conditions, condition))
    return t.make("exists", Subquery(selected), node=node, scope=scope)


def all_(t: Translator, node: ast.Call, scope: Scope) -> Any:
    """Translate ``all(condition for ...)``: there is none for which it is not true."""
    selected, condition = _quantified(t, node, scope)
    if condition is True:
        return True
    if isinstance(condition, Expression):
        if t.may_be_unknown(condition):  # unknown is not true
            condition = t.make("truth", condition, node=node, scope=scope)
        opposite = t.negated(condition, node, scope)
        selected = selected.replace(conditions=(*selected.conditions, opposite))
    found = t.make("exists", Subquery(selected), node=node, scope=scope)
    return t.negated(found, node, scope)


def query(*, is_left: bool = False) -> Handler:
    """Return what handles ``select(...)`` and ``left_join(...)`` within a query."""

    def handle(t: Translator, node: ast.Call, scope: Scope) -> Any:
        (given,) = arguments(t, node, scope, "generator", required=1)
        assert given is not None
        if isinstance(given, ast.GeneratorExp):
            return Subquery(t.generator(given, scope, is_left=is_left))
        return t.items_of(t.visit(given, scope), given, scope)

    return handle


# --- the table --------------------------------------------------------------------------------------------

for _function, _handler in (
    (builtins.abs, _operator("abs", ("x",), 1)),
    (builtins.all, all_),
    (builtins.any, any_),
    (builtins.bool, _bool),
    (builtins.float, _operator("float", ("x",), 1)),
    (builtins.frozenset, _known_to_python),
    (builtins.getattr, _getattr),
    (builtins.int, _operator("int", ("x",), 1)),
    (builtins.isinstance, _isinstance),
    (builtins.len, length),
    (builtins.list, _known_to_python),
    (builtins.max, extreme("max")),
    (builtins.min, extreme("min")),
    (builtins.round, _operator("round", ("number", "ndigits"), 1)),
    (builtins.set, _known_to_python),
    (builtins.str, _str),
    (builtins.sum, aggregate("sum")),
    (builtins.tuple, _known_to_python),
):
    enter(_function, _handler)

coalesce = _several("coalesce", 1)
between = _operator("between", ("x", "a", "b"), 3)
random = _operator("random", (), 0)
descending = not_here("desc() is for order_by()")
