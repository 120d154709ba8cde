"""Functions, methods and properties of the user's own, taken into a query as what they return.

A body of assignments, ``if`` and ``return`` is enough for that: ``return expr`` is the expression, and
``if test: return a`` with what follows is a conditional one.
"""

from __future__ import annotations

import ast
import inspect
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from types import FunctionType, MethodType
from typing import TYPE_CHECKING, Any, NamedTuple

from dbsession.errors import TranslationError
from dbsession.model.entity import EntityBase
from dbsession.model.expressions import Expression, Ordering
from dbsession.model.mapping import Mapping
from dbsession.model.registration import suggest
from dbsession.query import taking
from dbsession.query.selected import Selected
from dbsession.query.translation.memory import Names, Run, names_of_function
from dbsession.query.translation.names import Frame, Scope, assigned_in
from dbsession.query.translation.source import find_source, place, segment
from dbsession.query.tree import Path, Variable

if TYPE_CHECKING:
    from dbsession.query.translation.translator import Translator

__all__ = [
    "conditions",
    "inline_answer",
    "inline_with",
    "lambda_scope",
    "member",
    "method_of_object",
    "orderings",
    "value",
]


class _Given(NamedTuple):
    """The arguments that a function is called with: nodes, and what is translated already."""

    first: tuple[Any, ...] = ()
    args: tuple[ast.expr, ...] = ()
    keywords: tuple[ast.keyword, ...] = ()
    bound: int | None = None  # the answer that is the `self` of a method


# --- lambdas given to a query -----------------------------------------------------------------------------


def lambda_scope(t: Translator, selected: Selected, frame: Frame, *, by_name: bool) -> Scope:
    """Return what the parameters of a lambda for the query *selected* stand for."""
    node: Any = frame.source.node
    scope = Scope(frame, {})
    given: ast.arguments = node.args
    if given.vararg is not None or given.kwarg is not None or given.kwonlyargs:
        raise t.error(node, scope, "its parameters have to be plain ones")
    parameters = [*given.posonlyargs, *given.args]
    required = parameters[: len(parameters) - len(given.defaults)]
    loops = {loop.variable.written: loop.variable for loop in selected.fors if loop.variable.written is not None}
    if not required:
        scope = Scope(frame, dict(loops))
    elif by_name:
        scope = Scope(frame, _by_name(t, selected, loops, required, scope))
    else:
        items = selected.items
        if len(required) != len(items):
            raise t.error(
                node,
                scope,
                f"it has {_number(required, 'parameter')}, and the result has {_number(items, 'item')}: give it one "
                f"for each, or use where(), whose lambdas name the loop variables they want ({', '.join(loops)}); "
                f"without parameters a lambda sees them all",
            )
        scope = Scope(frame, {parameter.arg: item for parameter, item in zip(required, items, strict=True)})
    for index, parameter in enumerate(parameters[len(required) :]):
        number = t.ask(_default(_names_of_run, index), taking.plain)
        scope = scope.with_outside(parameter.arg, number)
    return scope


def _number(listed: Sequence[Any], noun: str) -> str:
    return f"{len(listed)} {noun}{'s'[: len(listed) != 1]}"


def _by_name(
    t: Translator, selected: Selected, loops: dict[str, Variable], required: list[ast.arg], scope: Scope
) -> dict[str, Any]:
    names = [parameter.arg for parameter in required]
    if len(names) == 1 and len(selected.fors) == 1:
        return {names[0]: selected.fors[0].variable}
    for parameter in required:
        if parameter.arg not in loops:
            known = ", ".join(loops)
            raise t.error(
                parameter,
                scope,
                f"the query has no loop variable {parameter.arg!r}, but {known}{suggest(parameter.arg, loops)}; "
                f"filter() takes its parameters by position",
            )
    return {name: loops[name] for name in names}


def _names_of_run(run: Run) -> Names:
    return run.names


def _default(names: Callable[[Run], Names], index: int) -> Callable[[Run], Any]:
    def evaluate(run: Run) -> Any:
        function = names(run).function
        return function.__defaults__[index]

    return evaluate


def conditions(t: Translator, node: Any, scope: Scope) -> tuple[Any, ...]:
    """Return the conditions that the body of a lambda stands for."""
    if isinstance(node, ast.Lambda):
        found = t.condition(node.body, scope)
    else:
        found = t.as_condition(_body(t, node, scope), node, scope)
    return t.conjuncts(found)


def orderings(t: Translator, node: ast.AST, scope: Scope) -> tuple[Ordering, ...]:
    """Return the orderings that the body of a lambda stands for."""
    if not isinstance(node, ast.Lambda):
        raise t.error(node, scope, "order_by() takes a lambda, attributes or expressions")
    listed = node.body.elts if isinstance(node.body, ast.Tuple | ast.List) else [node.body]
    found: list[Ordering] = []
    for listed_node in listed:
        each, descending = listed_node, False
        while t.is_call_of_desc(each, scope):
            assert isinstance(each, ast.Call)
            each, descending = each.args[0], not descending
        expression = t.visit(each, scope)
        t.require_one(expression, each, scope)
        if not isinstance(expression, Expression):
            raise t.error(each, scope, "this is the same for all rows, and orders nothing")
        found.append(Ordering(expression, descending=descending))
    return tuple(found)


def value(t: Translator, node: Any, scope: Scope) -> Any:
    """Return what the body of a lambda stands for as a value: an expression, or what is the same for all rows."""
    return t.visit(node.body, scope) if isinstance(node, ast.Lambda) else _body(t, node, scope)


# --- members of entities ----------------------------------------------------------------------------------


def member(t: Translator, base: Path | Variable, mapping: Mapping, name: str, node: ast.expr, scope: Scope) -> Any:
    """Return ``base.name``, which is no attribute of the entity: a property of its class, or a value that it has."""
    found = inspect.getattr_static(mapping.entity, name, taking.NOTHING)
    if found is taking.NOTHING or name.startswith("__") or _is_of_all(name):
        return taking.NOTHING
    getter: Any = (
        found.fget if isinstance(found, property) else found.func if isinstance(found, cached_property) else None
    )
    number = t.ask(_defined(mapping, name), _as_defined)
    if isinstance(getter, FunctionType):
        _require_one(t, mapping, name, found, node, scope)
        return _inline(t, getter, _answered(number), _Given((base,)), node, scope)
    if isinstance(found, FunctionType | staticmethod | classmethod):
        raise t.error(node, scope, f"{name} is a method: write {name}()")
    if hasattr(type(found), "__get__"):
        raise t.error(node, scope, f"{mapping.name}.{name} is a {type(found).__name__}, which a query cannot look into")
    entity = mapping.entity
    number = t.ask(lambda _: getattr(entity, name), taking.plain)
    return t.taken(number, node, scope)


def method_of_object(
    t: Translator, base: Path | Variable, mapping: Mapping, name: str, node: ast.Call, scope: Scope
) -> Any:
    """Return ``base.name(...)`` for a method of the class of an entity."""
    if name == "get_pk" and len(mapping.key) == 1 and not node.args and not node.keywords:
        return Path(base, mapping.key[0])
    found = inspect.getattr_static(mapping.entity, name, taking.NOTHING)
    given = _Given((base,), tuple(node.args), tuple(node.keywords))
    if isinstance(found, staticmethod):
        found, given = found.__func__, given._replace(first=())
    elif isinstance(found, classmethod):
        found = taking.NOTHING
    if isinstance(found, FunctionType) and not _is_of_all(name):
        number = t.ask(_defined(mapping, name), _as_defined)
        _require_one(t, mapping, name, inspect.getattr_static(mapping.entity, name), node, scope)
        return _inline(t, found, _answered(number), given, node, scope)
    if mapping.member(name) is not None:
        raise t.error(node, scope, f"{mapping.name}.{name} is an attribute, and is not called")
    if isinstance(found, property | cached_property):
        raise t.error(node, scope, f"{mapping.name}.{name} is a property: leave out the parentheses")
    if found is not taking.NOTHING:
        raise t.error(node, scope, f"{name}() cannot be called on what stands in a row; call it on the results")
    methods = [known for known, each in vars(mapping.entity).items() if isinstance(each, FunctionType)]
    raise t.error(node, scope, f"{mapping.name} has no method {name!r}{suggest(name, methods)}")


def _defined(mapping: Mapping, name: str) -> Callable[[Run], Any]:
    """Return what looks up how the classes of *mapping* and its subclasses define *name*; programs may change it."""
    family = [each.entity for each in mapping.family()]
    return lambda _: [inspect.getattr_static(entity, name, taking.NOTHING) for entity in family]


def _as_defined(found: list[Any]) -> tuple[Any, Any]:
    """Take the function behind a property or method by its code, and how the classes of the family define it."""
    first = found[0]
    inner = getattr(first, _INNER.get(type(first), ""), first)
    function, shape = taking.callee(inner)
    return function, (type(first), shape, *[each is first for each in found[1:]])


_INNER = {property: "fget", cached_property: "func", staticmethod: "__func__"}


def _is_of_all(name: str) -> bool:
    """Tell whether *name* is what all entities have, such as load()."""
    return inspect.getattr_static(EntityBase, name, taking.NOTHING) is not taking.NOTHING


def _require_one(t: Translator, mapping: Mapping, name: str, found: Any, node: ast.AST, scope: Scope) -> None:
    """Refuse what a subclass has another version of: the class of a row is known to the database alone."""
    for each in mapping.family():
        if inspect.getattr_static(each.entity, name, None) is not found:
            raise t.error(
                node,
                scope,
                f"{each.name} has a {name} of its own, and which one it is depends on the row; query the entities one "
                f"by one, or ask isinstance() in {mapping.name}.{name}",
            )


# --- functions --------------------------------------------------------------------------------------------


def inline_answer(t: Translator, number: int, node: ast.Call, scope: Scope) -> Any:
    """Return what the function or method that is answer *number* returns for a call."""
    value = t.answer(number)
    given = _Given((), tuple(node.args), tuple(node.keywords))
    if isinstance(value, MethodType):
        given = given._replace(bound=t.ask_about(number, taking.plain, lambda method: method.__self__))
        value = value.__func__
    return _inline(t, value, _answered(number), given, node, scope)


def inline_with(t: Translator, number: int, items: tuple[Any, ...], node: ast.expr, scope: Scope) -> Any:
    """Return what the function that is answer *number* returns for *items*."""
    value = t.answer(number)
    if not isinstance(value, FunctionType):
        raise t.error(node, scope, f"this takes a function written in Python, not {value!r:.60}")
    return _inline(t, value, _answered(number), _Given(items), node, scope)


def _answered(number: int) -> Callable[[Run], Names]:
    def names(run: Run) -> Names:
        function = run.answers[number]
        plain: Any = function.__func__ if isinstance(function, MethodType) else function
        return names_of_function(plain)

    return names


def _inline(
    t: Translator, function: FunctionType, names: Callable[[Run], Names], given: _Given, node: ast.expr, scope: Scope
) -> Any:
    code = function.__code__
    if code in t.inlined:
        raise t.error(node, scope, f"{function.__qualname__}() calls itself, and a query has to end")
    t.inlined.append(code)
    try:
        frame = Frame(code, find_source(code), names)
        inner = _bound(t, function, frame, given, node, scope)
        return _body(t, frame.source.node, inner)
    except TranslationError as error:
        source = scope.frame.source
        error.add_note(f"in {function.__qualname__}(), for `{segment(source, node)}` ({place(source, node)})")
        raise
    finally:
        t.inlined.pop()


def _bound(t: Translator, function: FunctionType, frame: Frame, given: _Given, node: ast.expr, scope: Scope) -> Scope:
    """Return the scope of the body: the parameters stand for the arguments."""
    taken: ast.arguments = frame.source.node.args  # type: ignore[union-attr]
    what = f"{function.__qualname__}()"
    if taken.vararg is not None or taken.kwarg is not None:
        raise t.error(
            node, scope, f"{what} takes any number of arguments; to be taken into a query it has to name them"
        )
    positional = [parameter.arg for parameter in (*taken.posonlyargs, *taken.args)]
    names = [*positional, *[parameter.arg for parameter in taken.kwonlyargs]]
    inner = Scope(frame, {})
    bound: set[str] = set()

    def bind(name: str) -> None:
        if name not in names or name in bound:
            raise t.error(
                node, scope, f"{what} does not take these arguments; its parameters are {', '.join(names) or 'none'}"
            )
        bound.add(name)

    places: Iterator[str] = iter([*positional, *([""] * len(given.args))])
    if given.bound is not None:
        bind(first := next(places))
        inner = inner.with_outside(first, given.bound)
    for item in given.first:
        bind(first := next(places, ""))
        inner = inner.with_inside(first, item)
    named = [(next(places, ""), each) for each in given.args]
    for name, each in [*named, *[(keyword.arg or "", keyword.value) for keyword in given.keywords]]:
        bind(name)
        inner = _with(t, inner, name, each, scope)
    for index, name in enumerate(positional[len(positional) - len(taken.defaults) :]):
        if name not in bound:
            bind(name)
            inner = inner.with_outside(name, t.ask(_default(frame.names, index), taking.plain))
    for parameter, default in zip(taken.kwonlyargs, taken.kw_defaults, strict=True):
        if parameter.arg not in bound and default is not None:
            bind(parameter.arg)
            inner = inner.with_outside(parameter.arg, t.ask(_keyword_default(frame.names, parameter.arg), taking.plain))
    missing = [name for name in names if name not in bound]
    if missing:
        raise t.error(node, scope, f"{what} lacks its argument {missing[0]!r}")
    return inner


def _keyword_default(names: Callable[[Run], Names], name: str) -> Callable[[Run], Any]:
    def evaluate(run: Run) -> Any:
        function = names(run).function
        return function.__kwdefaults__[name]

    return evaluate


def _with(t: Translator, inner: Scope, name: str, node: ast.expr, scope: Scope) -> Scope:
    """Let *name* stand for *node*, which is an expression in *scope*."""
    if t.is_outside(node, scope):
        return inner.with_outside(name, t.ask_for(node, scope, taking.plain))
    return inner.with_inside(name, t.visit(node, scope))


# --- bodies -----------------------------------------------------------------------------------------------


def _body(t: Translator, node: ast.AST, scope: Scope) -> Any:
    if isinstance(node, ast.Lambda):
        return t.visit(node.body, scope)
    if isinstance(node, ast.FunctionDef):
        return _block(t, node.body, scope.with_unassigned(assigned_in(node)))
    raise t.error(node, scope, "this function does more than return a value, and cannot be taken into a query")


def _block(t: Translator, statements: list[ast.stmt], scope: Scope) -> Any:
    """Return what *statements* return; None if they end without a return."""
    for place_, statement in enumerate(statements):
        rest = statements[place_ + 1 :]
        if isinstance(statement, ast.Return):
            return None if statement.value is None else t.visit(statement.value, scope)
        if isinstance(statement, ast.If):
            return _branches(t, statement, rest, scope)
        if isinstance(statement, ast.Assign | ast.AnnAssign):
            scope = _assigned(t, statement, scope)
        elif not isinstance(statement, ast.Pass) and not _is_docstring(statement):
            raise t.error(
                statement,
                scope,
                "a function that is taken into a query has assignments, if and return, and nothing else",
            )
    return None


def _branches(t: Translator, statement: ast.If, rest: list[ast.stmt], scope: Scope) -> Any:
    test = t.condition(statement.test, scope)
    if isinstance(test, bool):
        return _block(t, [*(statement.body if test else statement.orelse), *rest], scope)
    yes = _block(t, [*statement.body, *rest], scope)
    no = _block(t, [*statement.orelse, *rest], scope)
    return t.make("if", test, yes, no, node=statement.test, scope=scope)


def _assigned(t: Translator, statement: ast.Assign | ast.AnnAssign, scope: Scope) -> Scope:
    targets = statement.targets if isinstance(statement, ast.Assign) else [statement.target]
    if statement.value is None:
        return scope
    if len(targets) != 1 or not isinstance(targets[0], ast.Name):
        raise t.error(statement, scope, "a query assigns to names only, one at a time")
    return _with(t, scope, targets[0].id, statement.value, scope)


def _is_docstring(statement: ast.stmt) -> bool:
    return isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant)
