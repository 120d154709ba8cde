"""Queries: which objects to read. A `Query` is a value; every verb that narrows it returns a new one.

Nothing is sent until it is iterated, sliced, counted or fetched. Then it asks its *runner*, which
the session room provides, in the scope that is current at that moment.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import count, groupby
from shutil import get_terminal_size
from types import FunctionType
from typing import Any, Generic, NoReturn, Protocol, TypeVar, overload

from dbsession.model.elsewhere import QueryNames
from dbsession.model.entity import EntityBase
from dbsession.model.expressions import Expression, Operation
from dbsession.model.iterators import over
from dbsession.query.arguments import (
    attribute_of,
    belonging,
    checked_slice,
    condition_of,
    measured,
    orderings_of,
    owned,
    require_objects,
    require_present,
    require_whole,
    sole,
)
from dbsession.query.prefetched import prefetched
from dbsession.query.selected import Selected
from dbsession.query.shapes import expression_shape, with_slots
from dbsession.query.sql.changing import translated
from dbsession.query.sql.compiled import compile_fetch
from dbsession.query.table import table_of
from dbsession.query.translation.translate import translate_filter, translate_order

__all__ = ["Query", "QueryRunner"]

T = TypeVar("T")
U = TypeVar("U")


class QueryRunner(Protocol):
    """Whoever sends queries: it finds the current unit of work and runs the flow."""

    def fetch(self, selected: Selected, values: tuple[Any, ...]) -> list[Any]:
        """Return the results."""
        ...

    def stream(self, selected: Selected, values: tuple[Any, ...], batch: int) -> Iterator[Any]:
        """Iterate over the results, *batch* of them in memory at a time."""
        ...

    def count(self, selected: Selected, values: tuple[Any, ...]) -> int:
        """Return how many there are."""
        ...

    def exists(self, selected: Selected, values: tuple[Any, ...]) -> bool:
        """Return whether there is one."""
        ...

    def aggregate(self, selected: Selected, values: tuple[Any, ...], operator: str, *options: Any) -> Any:
        """Return the aggregate *operator* of the values."""
        ...

    def delete(self, selected: Selected, values: tuple[Any, ...], *, bulk: bool) -> int:
        """Delete the objects, and return how many there were."""
        ...

    def update(
        self, selected: Selected, values: tuple[Any, ...], assigned: dict[str, Any], *, bump_version: bool
    ) -> int:
        """Change all rows with one statement, and return how many there were."""
        ...


class Query(QueryNames, Generic[T]):
    """A question to the database, whose results are objects, values or tuples of them.

    >>> select(u for u in User if u.age > 18).order_by(User.name)[:10]   # doctest: +SKIP

    It is a value: what narrows or orders it returns a new one. Nothing is sent before it is read, by a loop, a
    slice, or `fetch`, `first`, `get`, `count`, `exists` and their like; each time it is read, it is sent.
    """

    __slots__ = ("_runner", "selected", "values")

    def __init__(self, selected: Selected, runner: QueryRunner, values: tuple[Any, ...] = ()) -> None:
        self.selected = selected
        self.values = values  # of the slots in `selected`
        self._runner = runner

    def __repr__(self) -> str:
        try:
            return f"<Query {self.get_sql()}>"
        except TypeError as error:  # which is for who reads the query
            return f"<Query of {self.selected.mapping.name}, which cannot be written: {error}>"

    def _with(self, **changes: Any) -> Query[T]:
        selected = self.selected
        return Query(
            selected.derived(tuple(changes.items()), lambda: selected.replace(**changes)), self._runner, self.values
        )

    def through(self, runner: QueryRunner) -> Query[T]:
        """Return this query, to be sent by *runner*."""
        return Query(self.selected, runner, self.values)

    def filter(self, /, *conditions: Any, **values: Any) -> Query[T]:
        """Keep the results for which all *conditions* hold and the attributes equal *values*.

        A condition is an expression or a lambda. The parameters of a lambda are the items of the result, in order;
        one without parameters sees the loop variables of the query by their names.

        Raises:
            TypeError: a condition is neither, or an attribute does not exist.
            TranslationError: a lambda cannot be translated.
        """
        return self._narrowed(conditions, values, by_name=False)

    def filter_by(self, /, **values: Any) -> Query[T]:
        """Keep the results whose attributes equal *values*: ``filter_by(name="x")``."""
        return self._narrowed((), values, by_name=False)

    def where(self, /, *conditions: Any, **values: Any) -> Query[T]:
        """Keep the results as `filter` does, but the parameters of a lambda are the loop variables that it names.

        So ``where(lambda o: o.total > 5)`` narrows a query for ``(u.name, o.total)``, whose items are no objects.
        """
        return self._narrowed(conditions, values, by_name=True)

    def _narrowed(self, conditions: tuple[Any, ...], values: dict[str, Any], *, by_name: bool) -> Query[T]:
        query = self
        require_whole(query.selected, "filter", "filter first")
        expressions: list[Any] = []
        for condition in conditions:
            if isinstance(condition, FunctionType):
                translated = translate_filter(query.selected, query.values, condition, by_name=by_name)
                query = query._translated(*translated, "conditions")
            else:
                expressions.append(condition_of(condition))
        expressions += [attribute_of(query.selected, name) == values[name] for name in values]
        return query._grown(expressions, "conditions") if expressions else query

    def _translated(self, nodes: tuple[Any, ...], values: tuple[Any, ...], field: str) -> Query[T]:
        """Return this with *nodes*, whose slots have *values*, appended to the *field* of what it asks for."""
        selected = self.selected
        derived = selected.derived(
            (field, nodes), lambda: selected.replace(**{field: (*getattr(selected, field), *nodes)})
        )
        return Query(derived, self._runner, (*self.values, *values))

    def _grown(self, nodes: list[Any], field: str) -> Query[T]:
        """Return this with *nodes* appended to the *field* of what it asks for, and their values in slots."""
        values: list[Any] = []
        shape = (field, *[expression_shape(node, values) for node in nodes])
        selected, first = self.selected, len(self.values)

        def grow() -> Selected:
            numbers = count(first)
            grown = [owned(selected, with_slots(node, numbers)) for node in nodes]
            return selected.replace(**{field: (*getattr(selected, field), *grown)})

        return Query(selected.derived(shape, grow), self._runner, (*self.values, *values) if values else self.values)

    def order_by(self, *orderings: Any) -> Query[T]:
        """Order by attributes, their names, expressions or lambdas, from the smallest; `desc` turns one round.

        A number is a place in the result: ``order_by(-2)`` orders tuples by their second item, the largest first; the
        place of an object is that of its key. The parameters of a lambda are the items of the result. Replaces an
        earlier order; ``order_by(None)`` takes it away.

        Raises:
            TypeError: one is nothing to order by; there is no such attribute, or no such place; the query is limited.
            TranslationError: a lambda cannot be translated.
        """
        require_whole(self.selected, "order_by", "order first, or sort what fetch() gives")
        return self._ordered(orderings)

    def _ordered(self, orderings: Iterable[Any]) -> Query[T]:
        query = self._with(orderings=())
        for is_lambda, group in groupby(orderings, lambda given: isinstance(given, FunctionType)):
            if is_lambda:
                for given in group:
                    query = query._translated(*translate_order(query.selected, query.values, given), "orderings")
            elif checked := orderings_of(query.selected, group):
                query = query._grown(checked, "orderings")
        return query

    def limit(self, limit: int | None, offset: int = 0) -> Query[T]:
        """Keep *limit* results at most (None: all), leaving out the first *offset*; ``query[10:20]`` also reads them.

        Raises:
            TypeError, ValueError: one is no whole number, or negative.
        """
        limit, offset = checked_slice(self.selected, limit, offset)
        return self._with(limit=limit, offset=offset)

    def page(self, number: int, pagesize: int = 10) -> Query[T]:
        """Keep the *number*-th page, counted from 1; give the query an order first, or pages may overlap.

        Raises:
            TypeError, ValueError: *number* or *pagesize* is no whole number, or below 1.
        """
        for name, given in (("number", number), ("pagesize", pagesize)):
            if not isinstance(given, int) or isinstance(given, bool):
                raise TypeError(f"page(): {name} is a whole number, not {given!r:.80}")
            if given < 1:
                raise ValueError(f"page(): {name} is counted from 1, and cannot be {given}")
        return self.limit(pagesize, (number - 1) * pagesize)

    def distinct(self) -> Query[T]:
        """Let equal results come once.

        The objects of a loop do so already, unless they come from left_join() or `without_distinct`. What a path leads
        to (``o.user``) does not: many orders may have one user.

        Raises:
            TypeError: the query is limited.
        """
        selected = self.selected
        require_whole(selected, "distinct", "take it first, or set() of what fetch() gives")
        is_needed = not selected.gives_objects or selected.is_left
        return self._with(is_distinct=is_needed, keeps_duplicates=False)

    def without_distinct(self) -> Query[T]:
        """Let results come as often as the loops of Python would give them, one for each way to a result.

        Of several loops, those that the result does not use do not multiply it otherwise.

        Raises:
            TypeError: the query is limited.
        """
        require_whole(self.selected, "without_distinct", "take it first")
        return self._with(is_distinct=False, keeps_duplicates=True)

    def for_update(self, *, nowait: bool = False, skip_locked: bool = False, of: Any = None) -> Query[T]:
        """Lock the rows until the transaction ends; the objects take the values of the locked rows.

        *nowait*: raise `LockNotAvailable` instead of waiting. *skip_locked*: leave out what is locked
        elsewhere. *of*: the entity whose rows to lock. On SQLite, which has no row locks, the transaction
        takes the lock of the database. PostgreSQL 13.3.2. Row-Level Locks.

        Raises:
            TypeError: both *nowait* and *skip_locked*; the query has no rows of the entity *of*, or gives no objects,
                or None beside them, as a `left_join` may.
        """
        if not self.selected.gives_objects:
            raise TypeError(
                f"for_update() locks the rows of objects, and this query gives {self.selected.result!r:.80}"
            )
        require_present(self.selected)
        if nowait and skip_locked:
            raise TypeError("nowait and skip_locked exclude each other")
        mapping = self.selected.mapping
        if of is not None and getattr(getattr(of, "_mapping_", None), "root", None) is not mapping.root:
            raise TypeError(f"of={of!r:.80}: this query has rows of {mapping.name} only")
        return self._with(lock="FOR UPDATE" + (" NOWAIT" if nowait else " SKIP LOCKED" if skip_locked else ""))

    def prefetch(self, *what: type[EntityBase] | Expression[Any]) -> Query[T]:
        """Load ahead what the objects lead to: entities (whatever refers to them), or attributes, each step named.

        ``prefetch(Order.user, User.company, User.bio)`` loads the users of the orders, with their lazy bio, and the
        companies of these: one round trip for each step, none for lazy attributes. It can be read after the scope,
        and nothing counts as read. Several calls add to each other.

        Raises:
            TypeError: the objects do not lead to one of *what*; or it is no entity or attribute.
        """
        selected = self.selected

        def loading() -> Selected:
            return selected.replace(prefetched=prefetched(what, selected.items, selected.prefetched))

        return Query(selected.derived(("prefetch", what), loading), self._runner, self.values)

    # --- sending ------------------------------------------------------------------------------

    def fetch(self) -> list[T]:
        """Send the query, and return all results as a list; `all` is another name for this."""
        return self._runner.fetch(self.selected, self.values)

    all = fetch

    def stream(self, batch: int = 1000) -> Iterator[T]:
        """Iterate over all results with *batch* of them in memory at a time: for more than memory would hold.

        They come from a cursor in the database, and show what was there at the first step. What the loop is
        done with is forgotten, unless the program holds it or has changed it. A batch is a round trip.
        The cursor lives until the loop is left, the scope ends, or its transaction does: after
        ``commit()`` and ``rollback()`` the next step is an error.

        Raises:
            TypeError, ValueError: *batch* is no number, or none that can be fetched.
            InvalidRequestError: (of a step) its transaction was ended.
            DatabaseSessionIsOver: (of a step) its scope has ended.
        """
        if not isinstance(batch, int) or isinstance(batch, bool):
            raise TypeError(f"batch is the number of objects to load at a time, not {batch!r:.60}")
        if batch < 1:
            raise ValueError(f"batch is the number of objects to load at a time, and {batch} would load none")
        return self._runner.stream(self.selected, self.values, batch)

    # No __len__: list(query) would ask for it first, and so send the query twice.
    def __iter__(self) -> Iterator[T]:
        return over(self, Query.fetch)

    def __bool__(self) -> NoReturn:
        raise TypeError("a query is neither true nor false before it is sent; ask with exists() or count()")

    def __getitem__(self, index: slice) -> list[T]:
        """Send the query, and return the results from ``start`` to ``stop``: ``query[10:20]``.

        Raises:
            TypeError: it is no slice, or one with a step or from the end.
        """
        if not isinstance(index, slice) or index.step is not None or not isinstance(index.start, int | None):
            raise TypeError(
                "a query takes slices without a step, such as query[:10]; for one object use first() or get()"
            )
        start = index.start or 0
        if start < 0 or (index.stop is not None and index.stop < 0):
            raise TypeError("a query cannot be sliced from its end; turn the order round with desc()")
        return self.limit(None if index.stop is None else max(index.stop - start, 0), start).fetch()

    def first(self) -> T | None:
        """Return the first result, or None. Without an order, objects go by their keys, and values by themselves."""
        selected = self.selected
        query = self
        if not selected.orderings:
            by = selected.mapping.key if selected.gives_objects else range(1, len(selected.items) + 1)
            query = self._ordered(by)
        found = query.limit(1).fetch()
        return found[0] if found else None

    def random(self, limit: int) -> list[T]:
        """Return *limit* results at most, chosen at random, in random order.

        Raises:
            TypeError: the query is limited already, or has distinct values.
        """
        selected = self.selected
        way_out = f"use random.sample(query.fetch(), {limit})"
        require_whole(selected, "random", way_out)
        if selected.is_distinct:
            raise TypeError(f"random() behind distinct() would not choose from its results; {way_out}")
        return self.order_by(Operation("random")).limit(limit).fetch()

    def get(self) -> T | None:
        """Return the only result, or None.

        Raises:
            MultipleObjectsFoundError: there is more than one.
        """
        return sole(self.selected, self.limit(2).fetch(), None)

    def one(self) -> T:
        """Return the only result.

        Raises:
            ObjectNotFound, MultipleObjectsFoundError: there is none; there is more than one.
        """
        return sole(self.selected, self.limit(2).fetch())

    def count(self) -> int:
        """Ask the database how many results there are; equal ones count each, unless `distinct` was called."""
        return self._runner.count(self.selected, self.values)

    def exists(self) -> bool:
        """Ask the database whether there is a result."""
        return self._runner.exists(self.selected, self.values)

    @overload
    def sum(self, expression: Expression[U | None] | Callable[[T], U | None], *, distinct: bool = False) -> U: ...
    @overload
    def sum(self, expression: str | None = None, *, distinct: bool = False) -> Any: ...
    def sum(self, expression: Any = None, *, distinct: bool = False) -> Any:
        """Ask the database for the sum of the values, or of *expression* of the objects: ``query.sum(Order.total)``.

        *expression* may be a lambda, too: ``query.sum(lambda order: order.total)``. NULLs are left out, and the sum of
        nothing is 0. *distinct*: equal values count once.

        Raises:
            TypeError: the results are no numbers; they are objects, and there is no *expression*.
        """
        return self._measure("sum", expression, distinct=distinct)

    def avg(
        self, expression: Expression[Any] | Callable[[T], Any] | str | None = None, *, distinct: bool = False
    ) -> float | None:
        """Ask the database for the mean, as `sum` does; None of nothing."""
        mean: float | None = self._measure("avg", expression, distinct=distinct)
        return mean

    @overload
    def min(self, expression: Expression[U | None] | Callable[[T], U | None]) -> U | None: ...
    @overload
    def min(self, expression: str) -> Any: ...
    @overload
    def min(self, expression: None = None) -> T | None: ...
    def min(self, expression: Any = None) -> Any:
        """Ask the database for the smallest value, or the smallest *expression* of the objects; None of nothing."""
        return self._measure("min", expression)

    @overload
    def max(self, expression: Expression[U | None] | Callable[[T], U | None]) -> U | None: ...
    @overload
    def max(self, expression: str) -> Any: ...
    @overload
    def max(self, expression: None = None) -> T | None: ...
    def max(self, expression: Any = None) -> Any:
        """Ask the database for the largest value, or the largest *expression* of the objects; None of nothing."""
        return self._measure("max", expression)

    def group_concat(
        self,
        sep: str = ",",
        distinct: bool = False,
        *,
        expression: Expression[Any] | Callable[[T], Any] | str | None = None,
    ) -> str | None:
        """Ask the database for the values as one text, with *sep* between them, in the order of the query.

        With *distinct*, or behind `distinct`, equal values come once, and their order is the database's.
        """
        text: str | None = self._measure("group_concat", expression, sep, distinct=distinct)
        return text

    def _measure(self, operator: str, expression: Any, *options: Any, distinct: bool | None = None) -> Any:
        """Ask for the aggregate *operator*; *distinct*: whether equal values count once, None: it is all the same."""
        if isinstance(expression, FunctionType):
            (ordering, *more), slots = translate_order(self.selected, self.values, expression)
            if more or ordering.descending:
                raise TypeError(f"{operator}() takes a lambda that gives one value, such as lambda u: u.age")
            query: Query[Any] = Query(self.selected, self._runner, (*self.values, *slots))
            return query._measure(operator, ordering.expression, *options, distinct=distinct)
        selected, of = measured(self.selected, operator, expression)
        values: list[Any] = []
        shape = ("measured", None if expression is None else expression_shape(of, values))
        first = len(self.values)
        is_whole = not (selected.is_sliced or selected.is_grouped)  # so that the aggregate can do what DISTINCT does

        def measuring() -> Selected:
            result = of if expression is None else belonging(selected.result, with_slots(of, count(first)))
            kept = selected.is_distinct and expression is None and not is_whole
            main = selected.result if selected.gives_objects else selected.main
            return selected.replace(result=result, main=main, is_distinct=kept, lock="", prefetched=None)

        if distinct is not None and (distinct or (selected.is_distinct and is_whole)):
            options = (*options, True)
        asked = self.selected.derived(shape, measuring)
        return self._runner.aggregate(asked, (*self.values, *values), operator, *options)

    def delete(self, *, bulk: bool = False) -> int:
        """Delete the objects, and return how many different ones there were.

        All objects are loaded first, and then deleted one by one, each once, with its hooks and cascades; None, where
        a reference leads to nothing, is left out. With *bulk*, one DELETE is sent instead: no hooks, and cascades
        only as the database has them.

        Raises:
            TypeError: the query gives values, tuples, or None beside objects, as a `left_join` may; nothing was sent.
            ConstraintError: an object cannot go, since others refer to it; without *bulk*, nothing is deleted.
        """
        require_objects(self.selected)
        return self._runner.delete(self.selected, self.values, bulk=bulk)

    def update(self, /, *, bump_version: bool = False, **values: Any) -> int:
        """Change the rows of all objects with one UPDATE, and return how many there were.

        *values* are values, checked as in an assignment, or expressions or lambdas, which the database works out
        for each row: ``User.select().update(count=User.count + 1, city=lambda u: u.firm.city, name="x")``. Unsaved
        changes are sent first. Objects in memory take the new values; what was read of them before is not
        compared, and their hooks do not run. *bump_version* counts up the `Version` of each row, so that others
        who have read it get a conflict. With limit(), or for_update(), the rows are chosen and locked first.

        Raises:
            TypeError: the query gives values, tuples, or None beside objects, as a `left_join` may; an attribute does
                not exist, or cannot be set in bulk: a key, a discriminator, a collection.
            TypeError, ValueError: a value does not fit its attribute. Nothing was sent.
            TranslationError: a lambda cannot be translated.
            TransactionIntegrityError: a constraint of the database refuses a row; the session is doomed.
        """
        require_objects(self.selected)
        assigned, slots = translated(self.selected, self.values, values)
        return self._runner.update(self.selected, slots, assigned, bump_version=bump_version)

    def get_sql(self) -> str:
        """Return the SQL that fetching would send, with placeholders for the values; nothing is sent."""
        return compile_fetch(self.selected).sql

    def show(self, width: int | None = None) -> None:
        """Print the results as a table, *width* characters wide at most (None: as the terminal is)."""
        print(table_of(self.selected, self.fetch(), width or get_terminal_size().columns))  # noqa: T201 - what it is for
