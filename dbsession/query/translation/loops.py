"""Loops: what the ``for`` clauses of generator expressions range over, and what their variables stand for."""

from __future__ import annotations

import ast
from collections.abc import Callable
from enum import Enum
from types import NoneType
from typing import TYPE_CHECKING, Any, NamedTuple

from dbsession.model.collections import Collection, CollectionAttribute
from dbsession.model.expressions import Expression, Operation, Ordering
from dbsession.model.mapping import Mapping
from dbsession.query import taking
from dbsession.query.kinds import value_of
from dbsession.query.selected import For, Selected
from dbsession.query.translation.copies import copied, may_merge
from dbsession.query.translation.names import Scope
from dbsession.query.tree import Path, Subquery, Variable

if TYPE_CHECKING:
    from dbsession.query.translation.translator import Translator

__all__ = ["belongs", "collection_of", "generator", "items_of_answer", "items_of_path", "subquery"]


class _Loops(NamedTuple):
    """The clauses of a generator, as far as they are translated."""

    fors: list[For]
    conditions: list[Any]
    orderings: list[Ordering]
    is_left: bool = False


def subquery(t: Translator, node: ast.GeneratorExp | ast.ListComp | ast.SetComp, scope: Scope) -> Subquery:
    """Return the subquery that a generator or comprehension within an expression stands for."""
    return Subquery(generator(t, node, scope))


def generator(
    t: Translator,
    node: ast.GeneratorExp | ast.ListComp | ast.SetComp,
    scope: Scope,
    *,
    given: int | None = None,
    is_left: bool = False,
    result: Callable[[ast.expr, Scope], Any] | None = None,
) -> Selected:
    """Return what the generator expression *node* asks for.

    *given*: the answer that is what its first loop ranges over, where that is known. *result*: what
    translates the expression in front of the loops.
    """
    loops = _Loops([], [], [], is_left)
    for clause in node.generators:
        if clause.is_async:
            raise t.error(clause.target, scope, "a query is no asynchronous generator; leave out async")
        scope = _enter(t, clause, scope, loops, given)
        given = None
        for test in clause.ifs:
            if not any(condition is False for condition in loops.conditions):
                _add(t, loops, t.condition(test, scope))
    _require_one_database(t, loops.fors, node, scope)
    found = _result(t, node.elt, scope, loops) if result is None else result(node.elt, scope)
    selected = t.selected(tuple(loops.fors), found, tuple(loops.conditions), is_left=is_left)
    return t.own(selected.replace(orderings=tuple(loops.orderings))) if loops.orderings else selected


def _add(t: Translator, loops: _Loops, condition: Any) -> None:
    """Add a condition; behind one that is false, nothing else matters."""
    if condition is False:
        loops.conditions[:] = [False]
    else:
        loops.conditions.extend(t.conjuncts(condition))


def _result(t: Translator, node: ast.expr, scope: Scope, loops: _Loops) -> Any:
    """Return what is in front of the loops; a collection there, ``u.orders.total``, or a query is one loop more."""
    if isinstance(node, ast.Tuple) and not t.is_constant(node):
        items = tuple([t.visit(element, scope) for element in node.elts])
        for element, item in zip(node.elts, items, strict=True):
            if isinstance(item, tuple):
                raise t.error(element, scope, "a result has no tuples within a tuple; write its items one by one")
            if t.is_many(item):
                raise t.error(
                    element,
                    scope,
                    "what has many values can be the whole result, but beside other items it has to be a loop, as in "
                    "((u.name, o) for u in User for o in u.orders), or an aggregate, such as count(u.orders)",
                )
            _require_value(t, item, element, scope)
        return items
    found = t.visit(node, scope)
    if t.is_many(found):
        return _over_node(t, found, "", node, scope, loops)
    _require_value(t, found, node, scope)
    return found


_RESULTS = (Expression, Enum, NoneType, tuple, *taking.VALUES)


def _require_value(t: Translator, found: Any, node: ast.expr, scope: Scope) -> None:
    """Refuse what is no value of a row, such as a list that Python knows."""
    value = value_of(found)
    if not isinstance(value, _RESULTS) or isinstance(value, dict | list):
        raise t.error(
            node, scope, f"this is {_a(value)}, and the same for all rows; put it beside the results in Python"
        )


def _require_one_database(t: Translator, fors: list[For], node: ast.expr, scope: Scope) -> None:
    first = fors[0].variable.mapping
    for loop in fors:
        mapping = loop.variable.mapping
        if mapping.gateway is not first.gateway:
            raise t.error(
                node,
                scope,
                f"{first.name} and {mapping.name} are in different databases; make a query for each, and put the "
                f"results together in Python",
            )


# --- one clause -------------------------------------------------------------------------------------------


def _enter(t: Translator, clause: ast.comprehension, scope: Scope, loops: _Loops, given: int | None) -> Scope:
    """Add the loop of *clause*, and return the scope within it."""
    target = clause.target
    name = target.id if isinstance(target, ast.Name) else ""
    if given is None and t.is_outside(clause.iter, scope):
        given = t.ask_for(clause.iter, scope, taking.looped)
    if given is not None:
        item = _over_answer(t, given, name, clause.iter, scope, loops)
    else:
        item = _over_node(t, t.visit(clause.iter, scope), name, clause.iter, scope, loops)
    if isinstance(target, ast.Name):
        return scope.with_inside(name, item)
    if isinstance(target, ast.Tuple | ast.List) and isinstance(item, tuple) and len(item) == len(target.elts):
        for part, found in zip(target.elts, item, strict=True):
            if not isinstance(part, ast.Name):
                raise t.error(part, scope, "a loop of a query has names for its variables")
            scope = scope.with_inside(part.id, found)
        return scope
    raise t.error(target, scope, "a loop of a query has one name for its variable, such as u in `for u in User`")


def _over_answer(t: Translator, number: int, name: str, node: ast.expr, scope: Scope, loops: _Loops) -> Any:
    """Range over what Python knows: an entity, a query, the collection of an object."""
    value = t.answer(number)
    if taking.is_entity(value):
        value._mapping_.require_complete()
        return _new(loops, value._mapping_, name)
    if taking.is_query(value):
        return _over_node(t, t.subquery_of(number), name, node, scope, loops)
    if isinstance(value, Collection):
        item = _new(loops, value.attribute.target, name)
        loops.conditions.append(belongs(t, number, item))
        return item
    raise t.error(
        node,
        scope,
        f"a loop of a query ranges over an entity, a query or a collection, and this is {_a(value)}; look for values "
        f"of a list with `in`",
    )


def _a(value: Any) -> str:
    name = value.__name__ if isinstance(value, type) else type(value).__name__.removesuffix("_iterator")
    article = "an" if name[0] in "aeiou" else "a"
    return f"the class {name}" if isinstance(value, type) else f"{article} {name}"


def _new(loops: _Loops, mapping: Mapping, name: str, origin: Path | Subquery | None = None) -> Variable:
    is_optional = loops.is_left and bool(loops.fors)
    variable = Variable(mapping, name or Variable.of(mapping).name, written=name or None, is_optional=is_optional)
    loops.fors.append(For(variable, origin))
    return variable


def _over_node(t: Translator, found: Any, name: str, node: ast.expr, scope: Scope, loops: _Loops) -> Any:
    """Range over a collection of a loop variable, or over a subquery."""
    if isinstance(found, Subquery):
        return _over_subquery(t, found, name, node, scope, loops)
    if isinstance(found, Path):
        if isinstance(found.attribute, CollectionAttribute):
            return _new(loops, found.attribute.target, name, found)
        if found.is_many and found.target is None:  # `for total in u.orders.total`
            return _value_of(loops, found)
        if found.is_many and found.target is not None and not loops.is_left:  # `for boss in company.users.boss`
            return _new(loops, found.target, name, Subquery(t.items_of_path(found)))
        if found.target is not None and not found.is_many:
            raise t.error(
                node, scope, f"this is one {found.target.name} or None, and a loop ranges over many; use it as it is"
            )
    raise t.error(
        node,
        scope,
        "a loop of a query ranges over an entity, a query or a collection, such as `for o in u.orders`",
    )


def _value_of(loops: _Loops, path: Path) -> Path:
    """Range over the collection in *path*, and return what leads on from its items."""
    base = path.base
    assert isinstance(base, Path)
    if isinstance(base.attribute, CollectionAttribute):
        return Path(_new(loops, base.attribute.target, "", base), path.attribute)
    return Path(_value_of(loops, base), path.attribute)


def _over_subquery(t: Translator, found: Subquery, name: str, node: ast.expr, scope: Scope, loops: _Loops) -> Any:
    selected = found.selected
    if may_merge(selected):
        if not t.is_own(selected):
            selected = copied(selected, found.shift, name)
        if not loops.fors:
            loops.orderings.extend(selected.orderings)
        loops.fors.extend(selected.fors)
        for condition in selected.conditions:
            _add(t, loops, condition)
        return selected.result
    if selected.gives_objects:
        return _new(loops, selected.mapping, name, found)
    raise t.error(
        node,
        scope,
        "this query gives values, and is aggregated, limited or made distinct, so that no other can range over it; "
        "range over objects, and take the values of those",
    )


# --- collections as subqueries ----------------------------------------------------------------------------


def items_of_answer(t: Translator, number: int) -> Subquery:
    """Return the items of a collection of an object that Python knows."""
    loops = _Loops([], [], [])
    item = _new(loops, t.answer(number).attribute.target, "")
    return Subquery(t.selected(tuple(loops.fors), item, (belongs(t, number, item),)))


def belongs(t: Translator, number: int, item: Variable) -> Operation[bool]:
    """Return the condition that *item* is in the collection that answer *number* is."""
    return Operation("in", item, collection_of(t, number))


def collection_of(t: Translator, number: int) -> Path:
    """Return the path to the collection of an object that Python knows, which answer *number* is."""
    return Path(t.slot(t.ask_about(number, taking.plain, _owner)), t.answer(number).attribute)


def _owner(collection: Collection[Any]) -> Any:
    return collection.owner


def items_of_path(t: Translator, path: Path) -> Selected:
    """Return the query for what *path*, through a collection, leads to."""
    loops = _Loops([], [], [])
    attribute = path.attribute
    is_collection = isinstance(attribute, CollectionAttribute)
    item = _new(loops, attribute.target, "", path) if is_collection else _value_of(loops, path)
    return t.selected(tuple(loops.fors), item, ())
