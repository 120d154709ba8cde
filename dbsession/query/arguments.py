"""What the verbs of a query are given: conditions, orders, numbers and expressions, checked and made expressions."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from types import FunctionType, GeneratorType
from typing import Any, TypeVar

from dbsession.errors import MultipleObjectsFoundError, ObjectNotFound
from dbsession.model.attributes import Attribute
from dbsession.model.collections import CollectionAttribute
from dbsession.model.entity import EntityBase
from dbsession.model.expressions import Expression, Operation, Ordering, plain_expression
from dbsession.model.registration import suggest
from dbsession.query.kinds import kind_of
from dbsession.query.selected import Selected
from dbsession.query.tree import Path, Placed, RawSql, Subquery, Variable, walk

__all__ = [
    "attribute_of",
    "belonging",
    "bound",
    "checked_slice",
    "condition_of",
    "measured",
    "orderings_of",
    "owned",
    "require_objects",
    "require_present",
    "require_whole",
    "sole",
]

T = TypeVar("T")
D = TypeVar("D")

_ERROR: Any = object()


def attribute_of(selected: Selected, name: str) -> Expression[Any]:
    """Return the attribute *name* of the objects that *selected* gives, or, if it gives none, of those it is about.

    Raises:
        TypeError: there is none, or there are objects of several variables that it could be one of.
    """
    is_path = isinstance(selected.result, Path) and selected.result.target is not None
    if len(selected.fors) > 1 and not (selected.gives_objects or is_path):
        names = " and ".join([repr(loop.variable) for loop in selected.fors])
        raise TypeError(f"{name!r} could be an attribute of {names}: write the condition or order as an expression")
    mapping = selected.mapping
    attribute = mapping.attributes.get(name)
    if attribute is None:
        why = f"{mapping.name} has no attribute {name!r} to compare"
        if name in mapping.collections:
            why += f"; it is a collection: ask exists({mapping.name}.{name}), or look into it by a lambda"
        elif "__" in name:
            why += f"; write {_lookup(f'{mapping.name}.{name}')}"
        elif name.startswith("-"):
            why += f"; write desc({mapping.name}.{name[1:]})"
        else:
            why += suggest(name, mapping.attributes)
        raise TypeError(why)
    return Path(selected.result, attribute) if is_path else attribute


# The suffixes of Django's conditions.
_LOOKUPS = {
    "exact": " == ...",
    "ne": " != ...",
    "gt": " > ...",
    "gte": " >= ...",
    "lt": " < ...",
    "lte": " <= ...",
    "in": ".in_([...])",
    "range": ".between(..., ...)",
    "isnull": " == None",
    "startswith": ".startswith(...)",
    "endswith": ".endswith(...)",
    "contains": ".contains(...)",
    "iexact": ".lower() == ...",
    "icontains": ".lower().contains(...)",
    "istartswith": ".lower().startswith(...)",
}


def _lookup(path: str) -> str:
    """Return what Django's *path* is here: ``User.age > ...`` for ``User.age__gt``."""
    *parts, last = path.split("__")
    condition = _LOOKUPS.get(last, f".{last} == ...")
    return ".".join(parts) + condition


def condition_of(given: Any) -> Any:
    """Return *given*, a condition.

    Raises:
        TypeError: it is none.
    """
    if isinstance(given, Expression):
        return plain_expression(given)
    if isinstance(given, bool):
        raise TypeError(
            f"a condition is an expression such as User.age > 18, but Python has computed {given} already; what is no "
            f"attribute of an entity is asked for by a lambda, such as User.select(lambda u: u.is_adult)"
        )
    raise TypeError(f"a condition is an expression such as User.age > 18, not {given!r:.80}{_instead(given)}")


def _instead(given: Any) -> str:
    """Say what may have been meant by *given*, which is no condition."""
    if isinstance(given, property | FunctionType):
        return "; a property or method of your own takes a lambda, such as lambda u: u.is_adult"
    if isinstance(given, GeneratorType):
        return "; write select(u for u in User if ...) instead of User.select(...)"
    if isinstance(given, str):
        return "; SQL of your own is written as raw_sql(...)"
    return "; an object is found by its key as User[7]" if isinstance(given, int | EntityBase) else ""


def orderings_of(selected: Selected, given: Iterable[Any]) -> list[Ordering]:
    """Return what *given* orders the results by: attributes, their names, expressions, places in the result.

    Raises:
        TypeError: one is none of these, or None beside others; there is no such attribute, or no such place.
    """
    given = tuple(given)
    return [] if len(given) == 1 and given[0] is None else [_ordering(selected, by) for by in given]


def _ordering(selected: Selected, by: Any) -> Ordering:
    if isinstance(by, str):
        by = attribute_of(selected, by)
    elif isinstance(by, int) and not isinstance(by, bool):
        items = selected.items
        if not 1 <= abs(by) <= len(items):
            many = f"1 to {len(items)}, or -1 to {-len(items)}" if len(items) > 1 else "1, or -1,"
            raise TypeError(
                f"order_by({by}): the result has {len(items)} item{'s'[: len(items) > 1]}; {many} is a place"
            )
        return Placed(abs(by), items[abs(by) - 1], descending=by < 0)
    if isinstance(by, Expression):
        return Ordering(by, descending=False)
    if isinstance(by, Ordering):
        return by
    if by is None:
        raise TypeError("order_by(None) takes the order away, and stands alone")
    raise TypeError(f"order_by() takes attributes such as User.name or desc(User.name), not {by!r:.80}")


def checked_slice(selected: Selected, limit: Any, offset: Any) -> tuple[int | None, int]:
    """Return the limit and the offset of *selected* of which *limit* results are kept, behind *offset*.

    Raises:
        TypeError, ValueError: one is no whole number, or negative.
    """
    if not isinstance(limit, int | None) or not isinstance(offset, int):
        raise TypeError(f"limit and offset are whole numbers, not {limit!r} and {offset!r}")
    if (limit is not None and limit < 0) or offset < 0:
        raise ValueError(f"limit and offset cannot be negative, but are {limit} and {offset}")
    if selected.limit is not None:
        left = max(selected.limit - offset, 0)
        limit = left if limit is None else min(limit, left)
    return limit, offset + selected.offset


def measured(selected: Selected, verb: str, expression: Any) -> tuple[Selected, Any]:
    """Return what *verb*, an aggregate, is of: a query, and *expression* (or the attribute of that name) or its result.

    Raises:
        TypeError: it is no expression; the results are objects or tuples and there is none, or values and there is one.
    """
    is_of_objects = not isinstance(selected.result, tuple) and kind_of(selected.result).is_object
    if expression is None:
        if isinstance(selected.result, tuple) or is_of_objects:
            if not is_of_objects:
                raise TypeError(f"{verb}() of tuples: select the one value that it is to be of")
            fitting = [a for a in selected.mapping.value_attributes if not a.is_key and _fits(verb, a)]
            of = next(iter(fitting), selected.mapping.key[0])
            raise TypeError(f"{verb}() of objects: say of what, for instance query.{verb}({of!r})")
        return selected, selected.result
    if not is_of_objects:
        raise TypeError(f"{verb}({expression!r:.80}): the query gives values of its own; {verb}() is of these")
    if isinstance(expression, str):
        expression = attribute_of(selected, expression)
    expression = plain_expression(expression)
    if not isinstance(expression, Expression):
        raise TypeError(f"{verb}() takes an attribute or an expression such as User.age, not {expression!r:.80}")
    for part in walk(expression):
        if isinstance(part, Attribute | CollectionAttribute) and part.mapping.root is not selected.mapping.root:
            raise TypeError(f"{part!r} is no attribute of {selected.mapping.name}, whose objects are queried")
    if selected.is_distinct or selected.is_grouped:  # each object once, and not each value
        whole = Selected.of(selected.mapping)
        selected = whole.replace(conditions=(Operation("in", whole.result, Subquery(selected)),))
    return selected, expression


def _fits(verb: str, attribute: Attribute[Any]) -> bool:
    return verb not in ("sum", "avg") or kind_of(attribute).is_number


def require_objects(selected: Selected) -> None:
    """Refuse a query whose results cannot be changed: values, tuples, or None where a left join finds nothing.

    Raises:
        TypeError: it gives such.
    """
    result = selected.result
    if isinstance(result, tuple) or not kind_of(result).is_object:
        raise TypeError(f"the query gives {result!r}, and only objects can be deleted or updated; select these")
    require_present(selected)


def require_present(selected: Selected) -> None:
    """Refuse a query for objects that gives None, too, which has no row.

    Raises:
        TypeError: it does.
    """
    if selected.may_give_none:
        raise TypeError(
            f"the loop over {selected.result!r} in this left_join() gives None where a collection is empty, and None "
            f"has no row to be deleted, updated or locked; use select(...) instead of left_join(...), which has only "
            f"the objects"
        )


def require_whole(selected: Selected, verb: str, way_out: str) -> None:
    """Refuse *verb* for a query with a limit: SQL limits last, so that it would change which results are left.

    Raises:
        TypeError: there is a limit or an offset.
    """
    if selected.is_sliced:
        raise TypeError(f"{verb}() behind limit() would not choose from its results, since SQL limits last; {way_out}")


def owned(selected: Selected, node: Any) -> Any:
    """Return *node*, a condition or ordering, with collections as those of the objects that *selected* gives."""
    if isinstance(node, Ordering):
        expression = owned(selected, node.expression)
        return node if expression is node.expression else Ordering(expression, descending=node.descending)
    has_collection = selected.gives_objects and any(isinstance(part, CollectionAttribute) for part in walk(node))
    return belonging(selected.result, node) if has_collection else node


def belonging(base: Path | Variable, node: Any) -> Any:
    """Return *node* with bare attributes as those of *base*."""
    return bound(node, lambda _: base)


def bound(node: Any, base_of: Callable[[Any], Path | Variable]) -> Any:
    """Return *node* with each bare attribute as that of what *base_of* it returns."""
    if isinstance(node, Attribute | CollectionAttribute):
        return Path(base_of(node), node)
    if isinstance(node, Path):
        return Path(bound(node.base, base_of), node.attribute)
    if isinstance(node, Operation):
        return Operation(node.operator, *[bound(operand, base_of) for operand in node.operands])
    if isinstance(node, RawSql):
        return RawSql(node.texts, bound(node.values, base_of), node.python)
    return tuple([bound(item, base_of) for item in node]) if type(node) is tuple else node


def sole(selected: Selected, found: list[T], default: D = _ERROR) -> T | D:
    """Return the only one of *found*, the results of *selected*, or *default*.

    Raises:
        MultipleObjectsFoundError: there is more than one.
        ObjectNotFound: there is none, and no *default* either.
    """
    what = selected.mapping.name if selected.gives_objects else "result"
    verb = "one" if default is _ERROR else "get"
    if len(found) > 1:
        raise MultipleObjectsFoundError(
            f"more than one {what} fits, and {verb}() takes one; narrow the conditions, or use select() or first()"
        )
    if not found and default is _ERROR:
        raise ObjectNotFound(
            f"no {what} fits, and one() takes exactly one; get() returns None instead of raising",
            entity=selected.mapping.entity,
        )
    return found[0] if found else default
