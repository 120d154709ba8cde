"""The public functions that make queries, or stand in them: `select`, `count`, `sum`, `raw_sql`, ...

Those that share a name with a builtin are the builtin for everything that is not the database's, so a
module may import them all. Within a query they are known by identity, and the builtins do as well.
"""

from __future__ import annotations

import builtins
import random as _random
import sys
from collections.abc import Callable, Iterable
from types import FunctionType, GeneratorType
from typing import Any, Protocol, TypeVar, overload

from dbsession.model.collections import Collection
from dbsession.model.entity import EntityMeta
from dbsession.model.expressions import Expression, Operation, desc
from dbsession.query.query import Query
from dbsession.query.translation import functions, raw
from dbsession.query.translation.ranges import range_of
from dbsession.query.translation.translate import translate_generator
from dbsession.query.tree import RawSql

__all__ = [
    "avg",
    "between",
    "coalesce",
    "concat",
    "count",
    "delete",
    "distinct",
    "exists",
    "get",
    "group_concat",
    "left_join",
    "max",
    "min",
    "random",
    "raw_sql",
    "select",
    "sum",
]

T = TypeVar("T")
D = TypeVar("D")


class _Addable(Protocol):
    def __add__(self, other: Any, /) -> Any: ...

    def __radd__(self, other: Any, /) -> Any: ...


class _Comparable(Protocol):
    def __lt__(self, other: Any, /) -> bool: ...


A = TypeVar("A", bound=_Addable)
C = TypeVar("C", bound=_Comparable)


# --- which queries ----------------------------------------------------------------------------------------


def _query_of(items: Any, *, is_left: bool = False) -> Query[Any] | None:
    """Return the query that *items* stands for, or None if the database has nothing to do with it."""
    if isinstance(items, GeneratorType):
        given = range_of(items)
        if given is None:
            return None
        selected, values = translate_generator(items, given, is_left=is_left)
        made: Query[Any] = selected.fors[0].variable.mapping.gateway.query(selected, values)
        return made
    if isinstance(items, EntityMeta | Collection):
        everything: Any = items.select()
        found: Query[Any] = everything
        return found
    return items if isinstance(items, Query) else None


def _require_query(items: Any, verb: str, *, is_left: bool = False) -> Query[Any]:
    query = _query_of(items, is_left=is_left)
    if query is None:
        what = f"{type(items).__name__} ({items!r:.60})"
        if isinstance(items, GeneratorType):
            what = "a generator over something else; its first loop has to be over one of those"
        elif isinstance(items, list | set | dict):
            what += "; without the brackets, or this has loaded all objects already"
        elif isinstance(items, Expression | FunctionType):
            what += "; write User.select(...) for a condition"
        raise TypeError(
            f"{verb}() takes a generator expression over an entity, a query or a collection, such as "
            f"{verb}(u for u in User if u.age > 18), not {what}"
        )
    return query


def select(items: Iterable[T], /) -> Query[T]:
    """Return the query that a generator expression stands for: ``select(u for u in User if u.age > 18)``.

    Its results are what the generator would give: objects, values, ``(u.name, u.age)`` as tuples. It is
    translated from its source, with the values that names from outside have now. Nothing is sent until the
    query is read.

    Raises:
        TranslationError: it has no counterpart in the database, or its source is not to be found.
        TypeError: it is no generator expression over an entity, a query or a collection.
    """
    return _require_query(items, "select")


def left_join(items: Iterable[T], /) -> Query[T]:
    """Return the query of a generator expression whose loops over collections keep those who have none.

    ``left_join((u.name, count(o)) for u in User for o in u.orders)`` has every user. A loop variable
    that stands for nothing is None, and so are its attributes: ``left_join(o for u in User for o in u.orders)``
    gives a None for each user without orders. Results that may be None cannot be deleted, updated or locked;
    `select` gives the objects alone.

    Raises:
        TranslationError: it has no counterpart in the database, or its source is not to be found.
        TypeError: it is no generator expression over an entity, a query or a collection.
    """
    return _require_query(items, "left_join", is_left=True)


def get(items: Iterable[T], /) -> T | None:
    """Return the only result of a query, or None: ``get(u for u in User if u.email == email)``.

    Raises:
        MultipleObjectsFoundError: there is more than one.
        TranslationError: it cannot be translated.
    """
    return _require_query(items, "get").get()


def delete(items: Iterable[Any], /, *, bulk: bool = False) -> int:
    """Delete the objects of a query at once, and return how many: ``delete(o for o in Order if o.total < 5)``.

    Each is loaded and deleted with its hooks and cascades; *bulk*: with one DELETE, without them.

    Raises:
        TranslationError: it cannot be translated.
    """
    return _require_query(items, "delete").delete(bulk=bulk)


def exists(items: Any, /) -> bool:
    """Tell whether a query has a result, or any other iterable an item: ``exists(u for u in User if u.age > 90)``.

    Of the collection of a class, ``exists(User.orders)``, it is the condition that an object has an item.
    """
    if isinstance(items, Expression):
        is_there: bool = _operation("exists", items)
        return is_there
    query = _query_of(items)
    if query is not None:
        return query.exists()
    return builtins.any(True for _ in items)


def distinct(items: Iterable[T], /) -> Iterable[T]:
    """Return the query for each result once, or the different items of any other iterable, in their order.

    Within a query it stands in an aggregate: ``count(distinct(u.age))``.
    """
    query: Any = _query_of(items)
    return dict.fromkeys(items) if query is None else query.distinct()


# --- aggregates -------------------------------------------------------------------------------------------


def count(items: Any, /, *, distinct: bool = False) -> int:
    """Return how many results a query has, or items any other iterable; *distinct*: how many different ones.

    Within a query, ``count(x)`` counts the rows where x is not None, ``count()`` all rows, and
    ``count(u.orders)`` the items of a collection.
    """
    if isinstance(items, Expression):
        counted: int = _operation("count_distinct" if distinct else "count", items)
        return counted
    query: Any = _query_of(items)
    if query is not None:
        return int((query.distinct() if distinct else query).count())
    return len(set(items)) if distinct else builtins.sum(1 for _ in items)


def _operation(operator: str, *operands: Any) -> Any:
    return Operation(operator, *operands)


@overload
def sum(items: Iterable[A], /) -> A: ...
@overload
def sum(items: Iterable[A | None], /) -> A: ...
@overload
def sum(items: Iterable[A | None], /, *, distinct: bool) -> A: ...
@overload
def sum(items: Iterable[Any], /, start: A) -> A: ...
def sum(items: Any, /, *start: Any, distinct: bool = False, **named: Any) -> Any:
    """Return the sum of a query's results, 0 if it has none; of anything else, what the builtin returns.

    *distinct*: equal values count once.
    """
    if not start and not named:
        if isinstance(items, Expression):
            return _operation("sum", items, *([True] if distinct else []))
        query: Any = _query_of(items)
        if query is not None:
            return query.sum(distinct=distinct)
    return builtins.sum(set(items) if distinct else items, *start, **named)


def avg(items: Iterable[Any], /, *, distinct: bool = False) -> float | None:
    """Return the average of a query's results, or of the items of any other iterable; None if it has none.

    None among them does not count. *distinct*: equal values count once.
    """
    if isinstance(items, Expression):
        average: float = _operation("avg", items, *([True] if distinct else []))
        return average
    query: Any = _query_of(items)
    if query is not None:
        found: float | None = query.avg(distinct=distinct)
        return found
    values = [item for item in (set(items) if distinct else items) if item is not None]
    return float(builtins.sum(values)) / len(values) if values else None


@overload
def min(items: Iterable[C], /, *, key: None = None) -> C: ...
@overload
def min(items: Iterable[C | None], /) -> C | None: ...
@overload
def min(items: Iterable[T], /, *, key: Callable[[T], _Comparable]) -> T: ...
@overload
def min(items: Iterable[C], /, *, key: None = None, default: D) -> C | D: ...
@overload
def min(items: Iterable[T], /, *, key: Callable[[T], _Comparable], default: D) -> T | D: ...
@overload
def min(first: C, second: C, /, *rest: C, key: None = None) -> C: ...
@overload
def min(first: T, second: T, /, *rest: T, key: Callable[[T], _Comparable]) -> T: ...
def min(*items: Any, **named: Any) -> Any:
    """Return the smallest of a query's results, None if it has none; of anything else, what the builtin returns."""
    return _extreme("min", builtins.min, items, named)


@overload
def max(items: Iterable[C], /, *, key: None = None) -> C: ...
@overload
def max(items: Iterable[C | None], /) -> C | None: ...
@overload
def max(items: Iterable[T], /, *, key: Callable[[T], _Comparable]) -> T: ...
@overload
def max(items: Iterable[C], /, *, key: None = None, default: D) -> C | D: ...
@overload
def max(items: Iterable[T], /, *, key: Callable[[T], _Comparable], default: D) -> T | D: ...
@overload
def max(first: C, second: C, /, *rest: C, key: None = None) -> C: ...
@overload
def max(first: T, second: T, /, *rest: T, key: Callable[[T], _Comparable]) -> T: ...
def max(*items: Any, **named: Any) -> Any:
    """Return the largest of a query's results, None if it has none; of anything else, what the builtin returns."""
    return _extreme("max", builtins.max, items, named)


def _extreme(operator: str, builtin: Any, items: tuple[Any, ...], named: dict[str, Any]) -> Any:
    if not named and builtins.any(isinstance(item, Expression) for item in items):
        return _operation(operator if len(items) == 1 else f"{operator}2", *items)
    if len(items) == 1 and not named:
        query = _query_of(items[0])
        if query is not None:
            return getattr(query, operator)()
    return builtin(*items, **named)


def group_concat(items: Iterable[Any], /, sep: str = ",", *, distinct: bool = False) -> str | None:
    """Return the texts of a query's results, or of any other iterable's items, with *sep* between them.

    None if there are none; None among them is left out. *distinct*: equal ones come once.
    """
    if isinstance(items, Expression):
        joined: str = _operation("group_concat", items, sep, *([True] if distinct else []))
        return joined
    query: Any = _query_of(items)
    if query is not None:
        found: str | None = query.group_concat(sep, distinct=distinct)
        return found
    texts = [str(item) for item in (dict.fromkeys(items) if distinct else items) if item is not None]
    return sep.join(texts) if texts else None


# --- functions of single values ---------------------------------------------------------------------------


def coalesce(*values: Any) -> Any:
    """Return the first of *values* that is not None; of expressions, the expression for that."""
    if builtins.any(isinstance(value, Expression) for value in values):
        return _operation("coalesce", *values)
    return next((value for value in values if value is not None), None)


def between(x: Any, a: Any, b: Any) -> Any:
    """Tell whether *x* is neither below *a* nor above *b*; of expressions, the condition for that."""
    if builtins.any(isinstance(value, Expression) for value in (x, a, b)):
        return _operation("between", x, a, b)
    return a <= x <= b


def concat(*values: Any) -> Any:
    """Return the texts of all *values*, one behind the other; of expressions, the expression for that."""
    if builtins.any(isinstance(value, Expression) for value in values):
        return _operation("concat", *values)
    return "".join(map(str, values))


def random() -> float:
    """Draw a random number from 0 up to 1; within a query, another one for each row."""
    return _random.random()


def raw_sql(sql: str, result_type: type | None = None) -> Any:
    """Put SQL of your own into a query, as a condition or a value.

    >>> select(u for u in User if raw_sql("lower(u.name) = $name"))  # doctest: +SKIP

    ``$name`` and ``$(expression)`` are Python's, evaluated where the query is made and sent as
    parameters, never put into the text; ``$$`` is a dollar sign. All else is sent as it stands, so *sql*
    must not be made of what users hand in. *result_type*: what type it gives, where it is a value.

    Raises:
        TypeError: a ``$`` is followed by no expression.
    """
    pieces, expressions = raw.cut(sql)
    frame = sys._getframe(1)
    values = [raw.evaluated(expression, frame) for expression in expressions]
    return RawSql(pieces, tuple(values), result_type)


for _function, _handler in (
    (avg, functions.aggregate("avg")),
    (between, functions.between),
    (coalesce, functions.coalesce),
    (delete, functions.not_here("delete() deletes at once; a query changes nothing")),
    (desc, functions.descending),
    (distinct, functions.distinct),
    (exists, functions.exists),
    (get, functions.not_here("get() is asked at once; compare with the object, or use exists() or a subquery")),
    (group_concat, functions.aggregate("group_concat", "sep")),
    (left_join, functions.query(is_left=True)),
    (max, functions.extreme("max")),
    (min, functions.extreme("min")),
    (select, functions.query()),
    (sum, functions.aggregate("sum")),
):
    functions.enter(_function, _handler)

functions.enter(concat, functions.concat)
functions.enter(count, functions.count, special="count")
functions.enter(random, functions.random, special="random")
functions.enter(raw_sql, raw.raw_sql, special="raw_sql")
