"""Queries: which objects to read. A `Query` is a value; every verb that narrows it returns a new one.

Nothing is sent until it is iterated, sliced, counted or fetched. Then it asks its *runner*, which
the session room provides, in the scope that is current at that moment.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Generic, NamedTuple, NoReturn, Protocol, TypeVar

from dbsession.errors import MultipleObjectsFoundError
from dbsession.model.collections import CollectionAttribute
from dbsession.model.expressions import Expression, Ordering
from dbsession.model.mapping import Mapping
from dbsession.model.registration import suggest
from dbsession.query.compiler import Compiled, Compiler, objects_in, select_columns

__all__ = ["Query", "QueryRunner", "Selected"]

E = TypeVar("E")


class Selected(NamedTuple):
    """What a query asks for."""

    mapping: Mapping
    conditions: tuple[Any, ...] = ()
    orderings: tuple[Ordering, ...] = ()
    limit: int | None = None
    offset: int = 0
    lock: str = ""  # "FOR UPDATE", perhaps with NOWAIT or SKIP LOCKED
    link: tuple[CollectionAttribute, Any] | None = None  # the owner whose many-to-many items are wanted

    def compile(self) -> Compiled:
        """Return the SELECT for the objects."""
        source = select_columns(self.mapping)
        columns = ", ".join([column.quoted for column in source])
        sql, params = self._body(f"SELECT {columns}")
        if self.lock and self.mapping.dialect.has_row_locks:
            sql += f" {self.lock}"
        return Compiled(sql, params, source)

    def compile_count(self) -> tuple[str, tuple[Any, ...]]:
        """Return the SELECT that counts."""
        if self.limit is None and not self.offset:
            return self._replace(orderings=())._body("SELECT count(*)")
        sql, params = self._body("SELECT 1")
        return f"SELECT count(*) FROM ({sql}) AS counted", params

    def compile_exists(self) -> tuple[str, tuple[Any, ...]]:
        """Return the SELECT that has a row if there is an object."""
        return self._replace(orderings=(), limit=1 if self.limit is None else min(1, self.limit))._body("SELECT 1")

    def compile_delete(self) -> tuple[str, tuple[Any, ...]]:
        """Return the DELETE for all rows at once."""
        if self.limit is not None or self.offset:
            key = ", ".join([column.quoted for column in self.mapping.key_columns])
            sql, params = self._body(f"SELECT {key}")
            return f"DELETE FROM {self.mapping.quoted} WHERE ({key}) IN ({sql})", params
        compiler = Compiler(self.mapping)
        where = compiler.where(self.conditions)
        where += self._linked(compiler, has_where=bool(where))
        return f"DELETE FROM {self.mapping.quoted}{where}", tuple(compiler.params)

    def _body(self, select: str) -> tuple[str, tuple[Any, ...]]:
        compiler = Compiler(self.mapping)
        where = compiler.where(self.conditions)
        sql = f"{select} FROM {self.mapping.quoted}{where}{self._linked(compiler, has_where=bool(where))}"
        sql += compiler.order_by(self.orderings)
        if self.limit is not None:
            sql += f" LIMIT {int(self.limit)}"
        elif self.offset and self.mapping.dialect.name == "sqlite":
            sql += " LIMIT -1"  # SQLite has no OFFSET without LIMIT
        if self.offset:
            sql += f" OFFSET {int(self.offset)}"
        return sql, tuple(compiler.params)

    def _linked(self, compiler: Compiler, *, has_where: bool) -> str:
        """Return the condition that keeps the items of one many-to-many collection."""
        if self.link is None:
            return ""
        side, owner = self.link
        assert side.link is not None
        mine, theirs = side.link.columns_of(side)
        key = compiler.key(owner)
        parts = key if isinstance(key, tuple) else (key,)
        match = " AND ".join([f"{c.quoted} = {compiler.parameter(part)}" for c, part in zip(mine, parts, strict=True)])
        columns = ", ".join([column.quoted for column in self.mapping.key_columns])
        picked = ", ".join([column.quoted for column in theirs])
        glue = " AND" if has_where else " WHERE"
        left = f"({columns})" if len(theirs) > 1 else columns
        return f"{glue} {left} IN (SELECT {picked} FROM {side.link.quoted} WHERE {match})"

    def objects(self) -> list[Any]:
        """Return the objects that the conditions compare with, and the owner whose items are wanted."""
        found = [obj for condition in self.conditions for obj in objects_in(condition)]
        return found if self.link is None else [*found, self.link[1]]

    def as_expression(self, name: str) -> Expression[Any]:
        """Return the attribute *name* of the entity.

        Raises:
            TypeError: there is none.
        """
        attribute = self.mapping.attributes.get(name)
        if attribute is None:
            raise TypeError(
                f"{self.mapping.name} has no attribute {name!r} to compare{suggest(name, self.mapping.attributes)}"
            )
        return attribute


class QueryRunner(Protocol):
    """Whoever sends queries: it finds the current unit of work and runs the flow."""

    def fetch(self, selected: Selected) -> list[Any]:
        """Return the objects."""
        ...

    def count(self, selected: Selected) -> int:
        """Return how many there are."""
        ...

    def exists(self, selected: Selected) -> bool:
        """Return whether there is one."""
        ...

    def delete(self, selected: Selected, *, bulk: bool) -> int:
        """Delete the objects, and return how many there were."""
        ...


class Query(Generic[E]):
    """The objects of one entity that fit some conditions.

    >>> User.select(User.age > 18).order_by(User.name)[:10]   # doctest: +SKIP
    """

    __slots__ = ("_runner", "_selected")

    def __init__(self, selected: Selected, runner: QueryRunner) -> None:
        self._selected = selected
        self._runner = runner

    def __repr__(self) -> str:
        return f"<Query {self.get_sql()}>"

    def _with(self, **changes: Any) -> Query[E]:
        return Query(self._selected._replace(**changes), self._runner)

    def filter(self, /, *conditions: Any, **values: Any) -> Query[E]:
        """Keep the objects for which all *conditions* hold and the attributes equal *values*.

        Raises:
            TypeError: a condition is no expression, or an attribute does not exist.
        """
        selected = self._selected
        checked = [self._condition(condition) for condition in conditions]
        checked += [selected.as_expression(name) == value for name, value in values.items()]
        if selected.limit is not None or selected.offset:
            raise TypeError("filter() after limit() would choose from what the limit left; filter first")
        return self._with(conditions=(*selected.conditions, *checked))

    @staticmethod
    def _condition(condition: Any) -> Any:
        if isinstance(condition, (Expression, bool)):
            return condition
        raise TypeError(
            f"a condition is an expression such as User.age > 18, not {condition!r:.80}; "
            f"combine conditions with & | ~ instead of and, or, not"
        )

    def order_by(self, *orderings: Any) -> Query[E]:
        """Order by attributes or expressions, from the smallest; `desc` turns one round. Replaces an earlier order."""
        checked: list[Ordering] = []
        for given in orderings:
            ordering: Any = self._selected.as_expression(given) if isinstance(given, str) else given
            if isinstance(ordering, Expression):
                ordering = Ordering(ordering, descending=False)
            if not isinstance(ordering, Ordering):
                raise TypeError(
                    f"order_by() takes attributes such as User.name or desc(User.name), not {ordering!r:.80}"
                )
            checked.append(ordering)
        return self._with(orderings=tuple(checked))

    def limit(self, limit: int | None, offset: int = 0) -> Query[E]:
        """Keep *limit* objects at most (None: all), leaving out the first *offset*."""
        if not isinstance(limit, int | None) or not isinstance(offset, int):
            raise TypeError(f"limit and offset are whole numbers, not {limit!r} and {offset!r}")
        if (limit is not None and limit < 0) or offset < 0:
            raise ValueError(f"limit and offset cannot be negative, but are {limit} and {offset}")
        selected = self._selected
        offset += selected.offset
        if selected.limit is not None:
            left = max(selected.limit - (offset - selected.offset), 0)
            limit = left if limit is None else min(limit, left)
        return self._with(limit=limit, offset=offset)

    def for_update(self, *, nowait: bool = False, skip_locked: bool = False, of: Any = None) -> Query[E]:
        """Lock the rows until the transaction ends; the objects take the values of the locked rows.

        *nowait*: raise `LockNotAvailable` instead of waiting. *skip_locked*: leave out what is locked
        elsewhere. *of*: the entity whose rows to lock. On SQLite, which has no row locks, the transaction
        takes the lock of the database. PostgreSQL 13.3.2. Row-Level Locks.

        Raises:
            TypeError: both *nowait* and *skip_locked*; the query has no rows of the entity *of*.
        """
        if nowait and skip_locked:
            raise TypeError("nowait and skip_locked exclude each other")
        mapping = self._selected.mapping
        if of is not None and getattr(getattr(of, "_mapping_", None), "root", None) is not mapping.root:
            raise TypeError(f"of={of!r:.80}: this query has rows of {mapping.name} only")
        lock = "FOR UPDATE" if of is None else f"FOR UPDATE OF {mapping.quoted}"
        return self._with(lock=lock + (" NOWAIT" if nowait else " SKIP LOCKED" if skip_locked else ""))

    # --- sending ------------------------------------------------------------------------------

    def fetch(self) -> list[E]:
        """Return all objects."""
        return self._runner.fetch(self._selected)

    all = fetch

    # No __len__: list(query) would ask for it first, and so send the query twice.
    def __iter__(self) -> Iterator[E]:
        return iter(self.fetch())

    def __bool__(self) -> NoReturn:
        raise TypeError("a query is neither true nor false before it is sent; ask with exists() or count()")

    def __getitem__(self, index: slice) -> list[E]:
        """Return the objects from ``start`` to ``stop``: ``query[10:20]``."""
        if not isinstance(index, slice) or index.step is not None or not isinstance(index.start, int | None):
            raise TypeError(
                "a query takes slices without a step, such as query[:10]; for one object use first() or get()"
            )
        start = index.start or 0
        if start < 0 or (index.stop is not None and index.stop < 0):
            raise TypeError("a query cannot be sliced from its end; turn the order round with desc()")
        return self.limit(None if index.stop is None else max(index.stop - start, 0), start).fetch()

    def first(self) -> E | None:
        """Return the first object, in the order of the key where no order was asked for, or None."""
        selected = self._selected
        keyed = self if selected.orderings else self.order_by(*selected.mapping.key)
        found = keyed.limit(1).fetch()
        return found[0] if found else None

    def get(self) -> E | None:
        """Return the only object, or None.

        Raises:
            MultipleObjectsFoundError: there is more than one.
        """
        found = self.limit(2).fetch()
        if len(found) > 1:
            raise MultipleObjectsFoundError(
                f"more than one {self._selected.mapping.name} fits, and get() takes one; "
                f"narrow the conditions, or use select() or first()"
            )
        return found[0] if found else None

    def count(self) -> int:
        """Ask the database how many objects there are."""
        return self._runner.count(self._selected)

    def exists(self) -> bool:
        """Ask the database whether there is an object."""
        return self._runner.exists(self._selected)

    def delete(self, *, bulk: bool = False) -> int:
        """Delete the objects, and return how many there were.

        Each object is loaded and deleted with its hooks and cascades. With *bulk*, one DELETE is
        sent instead: no hooks, and cascades only as the database has them.
        """
        return self._runner.delete(self._selected, bulk=bulk)

    def get_sql(self) -> str:
        """Return the SQL that fetching would send."""
        return self._selected.compile().sql
