"""The SELECTs of a query: the SQL that fetches, counts or probes, made once for each `Selected`.

A `Compiled` is SQL with a plan for its parameters; `bind` makes them from the values of one query.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from dbsession.backends.base import Dialect
from dbsession.model.entity import EntityBase
from dbsession.model.expressions import Operation
from dbsession.model.mapping import Column, Mapping
from dbsession.query.selected import Selected
from dbsession.query.sql.compiler import Compiler, Late
from dbsession.query.sql.results import Item, item_of
from dbsession.query.sql.select_sql import one, probe_of, probing, rows, write_select
from dbsession.query.tree import Computed, walk

__all__ = [
    "Compiled",
    "compile_aggregate",
    "compile_count",
    "compile_exists",
    "compile_fetch",
    "written",
]


class Compiled(NamedTuple):
    """A statement ready to be sent.

    *plan*: its parameters, some of which are `Late`; *items*: what becomes of its rows; *tables*: the
    mappings of the tables that it reads, None for those that SQL of the user's own may read; *fixed*: the
    objects that stand in the query itself.
    """

    sql: str
    plan: tuple[Any, ...]
    tables: tuple[Mapping | None, ...]
    items: tuple[Item, ...] = ()
    fixed: tuple[EntityBase, ...] = ()

    def bind(self, values: Sequence[Any]) -> tuple[Any, ...]:
        """Return the parameters for a query with the slots' *values*.

        Raises:
            ConstraintError: an object among them has no key yet.
            ValueError: a value cannot be stored anywhere.
        """
        lists: dict[int, list[Any]] = {}

        def made(part: Late) -> Any:
            value = None if part.number is None else values[part.number]
            if part.item is None:
                return part.convert(value)
            known = lists.get(id(part.convert))
            if known is None:
                known = lists[id(part.convert)] = part.convert(value)
            return known[part.item]

        return tuple([made(part) if type(part) is Late else part for part in self.plan])

    def objects(self, values: Sequence[Any]) -> list[EntityBase]:
        """Return the objects that the query compares with."""
        given = [value for value in values if isinstance(value, EntityBase | tuple | list | set | frozenset)]
        return [*self.fixed, *[part for part in walk(tuple(given)) if isinstance(part, EntityBase)]]

    @property
    def source(self) -> tuple[Column, ...]:
        """The columns of the rows, where they are those of one object."""
        return self.items[0].source


def written(dialect: Dialect, write: Callable[[Compiler], str]) -> Compiled:
    """Return what *write* writes, with aliases only if there are several tables."""
    compiler = Compiler(dialect)
    text = write(compiler)
    if compiler.is_ambiguous:
        compiler = Compiler(dialect, is_qualified=True)
        text = write(compiler)
    sql, plan = compiler.finished(text)
    return Compiled(sql, tuple(plan), tuple(compiler.tables), fixed=tuple(compiler.fixed))


def compile_fetch(selected: Selected) -> Compiled:
    """Return the SELECT for the result."""
    return selected.derived("fetch", lambda: _fetching(selected))


def _fetching(selected: Selected) -> Compiled:
    items: list[Item] = []
    locked = ""

    def head(compiler: Compiler, selected: Selected) -> list[str]:
        nonlocal locked
        items.clear()
        columns: list[str] = []
        for node in selected.items:
            item, texts = item_of(compiler, node, len(columns), selected.prefetched)
            items.append(item)
            columns += texts
        if selected.lock:
            if selected.is_grouped:
                raise TypeError(
                    f"for_update() locks rows, and this query puts them into groups; lock the rows of the groups: "
                    f"select(x for x in {selected.mapping.name} if x in query).for_update()"
                )
            prefix = compiler.place_of(selected.result).prefix
            locked = f" OF {prefix[:-1]}" if prefix else ""  # the other tables may be joined by LEFT JOIN
        return columns

    def write(compiler: Compiler) -> str:
        sql = write_select(compiler, selected, head)
        if selected.lock and compiler.dialect.has_row_locks:
            sql += f" FOR UPDATE{locked}{selected.lock.removeprefix('FOR UPDATE')}"
        return sql

    return written(selected.dialect, write)._replace(items=tuple(items))


def compile_count(selected: Selected) -> Compiled:
    """Return the SELECT that counts the rows of the result."""
    return selected.derived("count", lambda: written(selected.dialect, _counting(selected)))


def _counting(selected: Selected) -> Callable[[Compiler], str]:
    if not (selected.is_sliced or selected.is_distinct or selected.is_grouped):
        bare = selected.replace(orderings=())
        return lambda compiler: write_select(compiler, bare, lambda *_: ["count(*)"])
    counted = selected if selected.is_sliced else selected.unordered()
    head = rows if selected.is_distinct or selected.is_grouped else one
    return lambda compiler: f"SELECT count(*) FROM ({write_select(compiler, counted, head)}) AS counted"


def compile_exists(selected: Selected) -> Compiled:
    """Return the SELECT that has a row if the result has one."""

    def probe() -> Compiled:
        probed = probing(selected).replace(limit=1 if selected.limit is None else min(1, selected.limit))
        return written(selected.dialect, lambda compiler: write_select(compiler, probed, probe_of(probed)))

    return selected.derived("exists", probe)


def compile_aggregate(selected: Selected, operator: str, *options: Any) -> Compiled:
    """Return the SELECT of one aggregate over the only value of the result; texts are put together in its order.

    Its one item says how it is decoded.
    """
    return selected.derived((operator, options), lambda: _aggregating(selected, operator, options))


def _aggregating(selected: Selected, operator: str, options: tuple[Any, ...]) -> Compiled:
    is_ordered = operator == "group_concat" and bool(selected.orderings)
    node: Operation[Any]
    if not (selected.is_sliced or selected.is_distinct or selected.is_grouped or is_ordered):
        node = Operation(operator, selected.result, *options)
        return compile_fetch(selected.replace(result=node, orderings=()))
    value = selected.dialect.quote("value")
    node = Operation(operator, Computed(selected.result, value), *options)
    items: list[Item] = []

    def write(compiler: Compiler) -> str:
        inner = write_select(compiler, selected, lambda c, s: [f"{text} AS {value}" for text in rows(c, s)])
        item, (text,) = item_of(compiler, node, 0)
        items[:] = [item]
        return f"SELECT {text} FROM ({inner}) AS rows"

    return written(selected.dialect, write)._replace(items=tuple(items))
