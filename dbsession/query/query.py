"""Queries: which objects to read. A `Query` is a value; every verb that narrows it returns a new one.

Nothing is sent until it is iterated, sliced, counted or fetched. Then it asks its *runner*, which
the session room provides, in the scope that is current at that moment.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count
from typing import Any, Generic, NoReturn, Protocol, TypeVar

from dbsession.errors import MultipleObjectsFoundError
from dbsession.model.entity import EntityBase
from dbsession.model.expressions import Expression, Ordering
from dbsession.model.iterators import over
from dbsession.model.registration import suggest
from dbsession.query.compiled import compile_fetch
from dbsession.query.prefetched import prefetched
from dbsession.query.selected import Selected
from dbsession.query.shapes import expression_shape, with_slots
from dbsession.query.tree import Path

__all__ = ["Query", "QueryRunner"]

T = TypeVar("T")


def attribute_of(selected: Selected, name: str) -> Expression[Any]:
    """Return the attribute *name* of the objects that *selected* gives.

    Raises:
        TypeError: there is none.
    """
    mapping = selected.mapping
    attribute = mapping.attributes.get(name)
    if attribute is None:
        raise TypeError(f"{mapping.name} has no attribute {name!r} to compare{suggest(name, mapping.attributes)}")
    return attribute if selected.gives_objects else Path(selected.result, attribute)


class QueryRunner(Protocol):
    """Whoever sends queries: it finds the current unit of work and runs the flow."""

    def fetch(self, selected: Selected, values: tuple[Any, ...]) -> list[Any]:
        """Return the results."""
        ...

    def count(self, selected: Selected, values: tuple[Any, ...]) -> int:
        """Return how many there are."""
        ...

    def exists(self, selected: Selected, values: tuple[Any, ...]) -> bool:
        """Return whether there is one."""
        ...

    def delete(self, selected: Selected, values: tuple[Any, ...], *, bulk: bool) -> int:
        """Delete the objects, and return how many there were."""
        ...


class Query(Generic[T]):
    """What fits some conditions: objects, values or tuples of them.

    >>> User.select(User.age > 18).order_by(User.name)[:10]   # doctest: +SKIP
    """

    __slots__ = ("_runner", "selected", "values")

    def __init__(self, selected: Selected, runner: QueryRunner, values: tuple[Any, ...] = ()) -> None:
        self.selected = selected
        self.values = values  # of the slots in `selected`
        self._runner = runner

    def __repr__(self) -> str:
        return f"<Query {self.get_sql()}>"

    def _with(self, **changes: Any) -> Query[T]:
        selected = self.selected
        return Query(
            selected.derived(tuple(changes.items()), lambda: selected.replace(**changes)), self._runner, self.values
        )

    def filter(self, /, *conditions: Any, **values: Any) -> Query[T]:
        """Keep the objects for which all *conditions* hold and the attributes equal *values*.

        Raises:
            TypeError: a condition is no expression, or an attribute does not exist.
        """
        selected = self.selected
        if selected.is_sliced:
            raise TypeError("filter() after limit() would choose from what the limit left; filter first")
        given = [*map(self._condition, conditions), *[attribute_of(selected, name) == values[name] for name in values]]
        return self._grown(given, "conditions") if given else self

    def _grown(self, nodes: list[Any], field: str) -> Query[T]:
        """Return this with *nodes* appended to the *field* of what it asks for, and their values in slots."""
        values: list[Any] = []
        shape = (field, *[expression_shape(node, values) for node in nodes])
        selected, first = self.selected, len(self.values)

        def grow() -> Selected:
            numbers = count(first)
            return selected.replace(**{field: (*getattr(selected, field), *[with_slots(n, numbers) for n in nodes])})

        return Query(selected.derived(shape, grow), self._runner, (*self.values, *values) if values else self.values)

    @staticmethod
    def _condition(condition: Any) -> Any:
        if isinstance(condition, Expression):
            return condition
        if isinstance(condition, bool):
            raise TypeError(
                f"a condition is an expression such as User.age > 18, but Python has computed {condition} already; "
                f"what lies behind a reference is asked for by a lambda: Order.select(lambda o: o.user.age > 18)"
            )
        raise TypeError(
            f"a condition is an expression such as User.age > 18, not {condition!r:.80}; "
            f"combine conditions with & | ~ instead of and, or, not"
        )

    def order_by(self, *orderings: Any) -> Query[T]:
        """Order by attributes or expressions, from the smallest; `desc` turns one round. Replaces an earlier order."""
        checked: list[Ordering] = []
        for given in orderings:
            ordering: Any = attribute_of(self.selected, given) if isinstance(given, str) else given
            if isinstance(ordering, Expression):
                ordering = Ordering(ordering, descending=False)
            if not isinstance(ordering, Ordering):
                raise TypeError(
                    f"order_by() takes attributes such as User.name or desc(User.name), not {ordering!r:.80}"
                )
            checked.append(ordering)
        return self._with(orderings=())._grown(checked, "orderings") if checked else self._with(orderings=())

    def limit(self, limit: int | None, offset: int = 0) -> Query[T]:
        """Keep *limit* objects at most (None: all), leaving out the first *offset*."""
        if not isinstance(limit, int | None) or not isinstance(offset, int):
            raise TypeError(f"limit and offset are whole numbers, not {limit!r} and {offset!r}")
        if (limit is not None and limit < 0) or offset < 0:
            raise ValueError(f"limit and offset cannot be negative, but are {limit} and {offset}")
        selected = self.selected
        offset += selected.offset
        if selected.limit is not None:
            left = max(selected.limit - (offset - selected.offset), 0)
            limit = left if limit is None else min(limit, left)
        return self._with(limit=limit, offset=offset)

    def for_update(self, *, nowait: bool = False, skip_locked: bool = False, of: Any = None) -> Query[T]:
        """Lock the rows until the transaction ends; the objects take the values of the locked rows.

        *nowait*: raise `LockNotAvailable` instead of waiting. *skip_locked*: leave out what is locked
        elsewhere. *of*: the entity whose rows to lock. On SQLite, which has no row locks, the transaction
        takes the lock of the database. PostgreSQL 13.3.2. Row-Level Locks.

        Raises:
            TypeError: both *nowait* and *skip_locked*; the query has no rows of the entity *of*.
        """
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
        """Return all objects."""
        return self._runner.fetch(self.selected, self.values)

    all = fetch

    # No __len__: list(query) would ask for it first, and so send the query twice.
    def __iter__(self) -> Iterator[T]:
        return over(self, Query.fetch)

    def __bool__(self) -> NoReturn:
        raise TypeError("a query is neither true nor false before it is sent; ask with exists() or count()")

    def __getitem__(self, index: slice) -> list[T]:
        """Return the objects from ``start`` to ``stop``: ``query[10:20]``."""
        if not isinstance(index, slice) or index.step is not None or not isinstance(index.start, int | None):
            raise TypeError(
                "a query takes slices without a step, such as query[:10]; for one object use first() or get()"
            )
        start = index.start or 0
        if start < 0 or (index.stop is not None and index.stop < 0):
            raise TypeError("a query cannot be sliced from its end; turn the order round with desc()")
        return self.limit(None if index.stop is None else max(index.stop - start, 0), start).fetch()

    def first(self) -> T | None:
        """Return the first object, in the order of the key where no order was asked for, or None."""
        selected = self.selected
        keyed = self if selected.orderings else self.order_by(*selected.mapping.key)
        found = keyed.limit(1).fetch()
        return found[0] if found else None

    def get(self) -> T | None:
        """Return the only object, or None.

        Raises:
            MultipleObjectsFoundError: there is more than one.
        """
        found = self.limit(2).fetch()
        if len(found) > 1:
            raise MultipleObjectsFoundError(
                f"more than one {self.selected.mapping.name} fits, and get() takes one; "
                f"narrow the conditions, or use select() or first()"
            )
        return found[0] if found else None

    def count(self) -> int:
        """Ask the database how many objects there are."""
        return self._runner.count(self.selected, self.values)

    def exists(self) -> bool:
        """Ask the database whether there is an object."""
        return self._runner.exists(self.selected, self.values)

    def delete(self, *, bulk: bool = False) -> int:
        """Delete the objects, and return how many there were.

        Each object is loaded and deleted with its hooks and cascades. With *bulk*, one DELETE is
        sent instead: no hooks, and cascades only as the database has them.
        """
        return self._runner.delete(self.selected, self.values, bulk=bulk)

    def get_sql(self) -> str:
        """Return the SQL that fetching would send."""
        return compile_fetch(self.selected).sql
