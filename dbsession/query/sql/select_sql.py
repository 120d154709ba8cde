"""How a SELECT is written: its columns, tables, conditions, groups and order.

`write_select` writes one SELECT of a statement, the outermost one or a subquery, at a level of its own
(see `levels`). What it selects is its *head*: a function that gives the columns, as SQL.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeAlias

from dbsession.model.attributes import Attribute
from dbsession.model.collections import CollectionAttribute
from dbsession.model.expressions import Operation, Ordering
from dbsession.model.mapping import Mapping
from dbsession.query.kinds import kind_of
from dbsession.query.operators.base import conjunction
from dbsession.query.operators.logic import as_filter
from dbsession.query.selected import For, Selected, has_aggregate, is_aggregate, items_of, variables_in
from dbsession.query.sql.levels import Level
from dbsession.query.sql.results import item_of
from dbsession.query.tree import Path, RawSql, Subquery, Variable, is_same

if TYPE_CHECKING:
    from dbsession.query.sql.compiler import Compiler

__all__ = ["Head", "keys", "one", "place", "probe_of", "probing", "rows", "write_select", "write_where"]

Head: TypeAlias = "Callable[[Compiler, Selected], list[str]]"


def one(_compiler: Compiler, _selected: Selected) -> list[str]:
    """Select nothing but that there is a row."""
    return ["1"]


def keys(compiler: Compiler, selected: Selected) -> list[str]:
    """Select the keys of the objects, or the values."""
    return [column for item in selected.items for column in compiler.columns_of(item)]


def rows(compiler: Compiler, selected: Selected) -> list[str]:
    """Select everything that the result is made of."""
    return [text for item in selected.items for text in item_of(compiler, item, 0, selected.prefetched)[1]]


def probing(selected: Selected) -> Selected:
    """Return the query that has a row if *selected* has one."""
    if selected.is_distinct and not selected.offset:  # the first result is there once, anyway
        selected = selected.replace(is_distinct=False)
    return selected.unordered()


def probe_of(selected: Selected) -> Head:
    """Return what to select of *selected*, to see whether it has a row: nothing, unless rows are merged by it."""
    return rows if selected.is_grouped or selected.is_distinct else one


def write_select(compiler: Compiler, selected: Selected, head: Head = rows) -> str:
    """Return the SELECT of *selected* for *head*."""
    level = compiler.level = Level(compiler.level)
    try:
        kept = selected.kept()
        _require_ordered(selected, kept)
        conditions = place(compiler, selected, kept)
        columns = head(compiler, selected)
        tail = _groups(compiler, selected, conditions, columns) + _order(compiler, selected, columns)
        where = write_where(compiler, [node for node in conditions if not has_aggregate(node)])
        distinct = "DISTINCT " if selected.is_distinct else ""
        return f"SELECT {distinct}{', '.join(columns)}{level.from_clause()}{where}{tail}{_slice(compiler, selected)}"
    finally:
        assert level.outer is not None
        compiler.level = level.outer


def write_where(compiler: Compiler, conditions: list[Any]) -> str:
    """Return the WHERE clause of the level with a leading blank, or nothing."""
    level = compiler.level
    rendered = [compiler.condition(as_filter(condition)) for condition in conditions]  # may add to the level's
    parts = [*level.conditions, *rendered, *level.narrowings]
    return f" WHERE {conjunction(parts)}" if parts else ""


def place(compiler: Compiler, selected: Selected, kept: list[For]) -> list[Any]:
    """Put the tables of the loops *kept* into the FROM clause, and return the conditions that are left to be written.

    The other loops of *selected* are asked for by EXISTS, together with the conditions that speak of them.
    """
    hidden = [loop for loop in selected.fors if not any(loop is other for other in kept)]
    gone = {id(loop.variable) for loop in hidden}
    outside: list[Any] = []
    inside: list[Any] = []
    for loop in kept:
        variable, origin = loop
        if origin is not None and any(id(used) in gone for used in variables_in(origin)):
            compiler.range_over(variable, "CROSS JOIN")
            if not _turned_round(hidden, variable, origin):
                inside.append(Operation("in", variable, origin))
        else:
            outside += _range(compiler, loop, "LEFT JOIN" if selected.is_left else "JOIN")
    if selected.bare in compiler.level.places:
        compiler.level.main = selected.bare
    for condition in selected.conditions:
        (inside if gone and gone & selected.used_in(condition) else outside).append(condition)
    if hidden:
        asked = Selected(tuple(hidden), hidden[0].variable, tuple(inside), keeps_duplicates=True, main=selected.main)
        compiler.level.conditions.append(compiler.exists(Subquery(asked)))
    return outside


def _turned_round(hidden: list[For], variable: Variable, origin: Path | Subquery) -> bool:
    """Let an owner among *hidden* range over the owners of *variable*, an item of its many-to-many collection *origin*.

    Returns False where it is not that: a longer path, or an owner that ranges over less than its whole entity.
    """
    if isinstance(origin, Subquery) or not isinstance(origin.attribute, CollectionAttribute):
        return False
    reverse = origin.attribute.reverse
    if not isinstance(reverse, CollectionAttribute):  # an item of one owner says whose it is
        return False
    for place, (owner, ranges_over) in enumerate(hidden):
        if owner is origin.base and ranges_over is None and owner.mapping is reverse.target:
            hidden[place] = For(owner, Path(variable, reverse))
            return True
    return False


def _range(compiler: Compiler, loop: For, join: str) -> list[Any]:
    """Put the table of one loop into the FROM clause, and return the conditions that come with it."""
    variable, origin = loop
    if origin is None:
        compiler.range_over(variable, "CROSS JOIN")
    elif isinstance(origin, Subquery):
        compiler.range_over(variable, "CROSS JOIN")
        return [Operation("in", variable, origin)]
    else:
        base = origin.base
        if isinstance(base, Path) and base.is_many:
            before = items_of(base)
            for outer in before.fors:
                _range(compiler, outer, join)
            origin = Path(before.result, origin.attribute)
        compiler.range_over_items(variable, origin, join)
    return []


def _groups(compiler: Compiler, selected: Selected, conditions: list[Any], columns: list[str]) -> str:
    """Return GROUP BY and HAVING with leading blanks, or nothing."""
    parts = _grouped_by(compiler, selected) if selected.is_grouped else []
    for ordering in selected.orderings if selected.is_grouped else ():
        _require_grouped(compiler, selected, ordering.expression, parts)
    having = [node for node in conditions if has_aggregate(node)]
    for node in having:
        _require_grouped(compiler, selected, node, parts)
        if len(selected.fors) == 1 and any(item is selected.fors[0].variable for item in selected.items):
            raise TypeError(
                f"{node!r}: the aggregate is over the rows of each {selected.mapping.name}, of which there is one; of "
                f"all it is a subquery, such as max(x.age for x in User)"
            )
    text = f" HAVING {conjunction([compiler.condition(as_filter(node)) for node in having])}" if having else ""
    for item in selected.items if selected.is_grouped else ():
        if _is_column(item) and kind_of(item).is_object:  # what refers to it may stand there, too
            parts += [column for column in compiler.columns_of(item) if any(column in t for t in (*columns, text))]
    return f" GROUP BY {', '.join(dict.fromkeys(parts))}{text}" if parts else text


def _grouped_by(compiler: Compiler, selected: Selected) -> list[str]:
    """Return what the rows of *selected* are grouped by: all that its result has beside aggregates."""
    parts: list[str] = []
    place = 1
    for item in selected.items:
        width = len(item_of(compiler, item, 0, selected.prefetched)[1])
        if has_aggregate(item):
            parts += [column for leaf in _leaves(item) for column in _own_columns(compiler, leaf)]
        elif kind_of(item).is_object:
            parts += compiler.place_of(item).own_key()  # only by its own key does PostgreSQL know the other columns
        elif _is_column(item):
            parts += compiler.columns_of(item)
        elif _leaves(item):
            parts.append(str(place))  # a parameter in it would be another one the second time
        place += width
    return parts


def _require_grouped(compiler: Compiler, selected: Selected, node: Any, columns: list[str]) -> None:
    """Refuse in *node* what may have many values in a group; SQLite would take any of them.

    A group has one value of what it is grouped by, *columns*, and of the attributes of an object among that.
    """
    objects = [compiler.place_of(item) for item in selected.items if _is_column(item) and kind_of(item).is_object]
    for leaf in _leaves(node, selected.items):
        base = leaf if isinstance(leaf, Variable) else compiler.step(leaf)[0]
        if any(compiler.place_of(base) is place for place in objects) or set(compiler.columns_of(leaf)) <= {*columns}:
            continue
        raise TypeError(
            f"{leaf!r} has many values in a group of {', '.join(map(repr, selected.items))}; aggregate it, or make it "
            f"an item of the result"
        )


def _own_columns(compiler: Compiler, leaf: Any) -> list[str]:
    """Return the columns of *leaf*, with the key of its own table, by which PostgreSQL knows its other columns."""
    columns = compiler.columns_of(leaf)
    if not isinstance(leaf, Variable) or compiler.place_of(leaf).prefix is None:
        return columns
    return [*columns, *compiler.place_of(leaf).own_key()]


def _leaves(node: Any, known: tuple[Any, ...] = ()) -> list[Any]:
    """Return the attributes and objects in *node* that stand in no aggregate, and in nothing that is *known*.

    Raises:
        TypeError: so does SQL of the user's own, of which nobody knows what it looks at.
    """
    if is_aggregate(node) or any(is_same(node, item) for item in known):
        return []
    if _is_column(node):
        return [node]
    if isinstance(node, RawSql):
        raise TypeError(
            f"{node!r} stands beside aggregates, and may have many values in a group; put it into an aggregate, such "
            f"as min(), or write the whole query as SQL"
        )
    if isinstance(node, Subquery | Path | CollectionAttribute):
        return [leaf for leaf in _outer(node) if not any(is_same(leaf, item) for item in known)]
    operands = node.operands if isinstance(node, Operation) else ()
    return [leaf for operand in operands for leaf in _leaves(operand, known)]


def _outer(node: Any, own: frozenset[int] = frozenset(), mains: tuple[Mapping, ...] = ()) -> list[Any]:
    """Return what the subqueries in *node* look at outside of them: variables, paths and bare attributes.

    *own* are the ids of their variables; attributes of *mains* are those of their objects.
    """
    if isinstance(node, Variable):
        return [] if id(node) in own else [node]
    if isinstance(node, Attribute):
        return [] if node.mapping.root in mains else [node]
    if isinstance(node, CollectionAttribute):
        return [] if node.mapping.root in mains else [*node.mapping.key]
    if isinstance(node, Path):
        if node.is_many:
            return _outer(node.base, own, mains)
        return [node] if _outer(node.base, own, mains) else []
    if isinstance(node, Subquery):
        inner = node.selected
        own |= {id(loop.variable) for loop in inner.fors}
        mains = (*mains, inner.bare.mapping.root)
        origins = tuple([loop.origin for loop in inner.fors])
        orderings = tuple([ordering.expression for ordering in inner.orderings])
        return _outer((origins, inner.items, inner.conditions, orderings), own, mains)
    parts = node.operands if isinstance(node, Operation) else node if isinstance(node, tuple) else ()
    return [leaf for part in parts for leaf in _outer(part, own, mains)]


def _is_column(node: Any) -> bool:
    return isinstance(node, Variable | Attribute) or (isinstance(node, Path) and not node.is_many)


def _require_ordered(selected: Selected, kept: list[For]) -> None:
    """Refuse an order by a loop of which each result, which comes once, may have several items."""
    gone = {id(loop.variable) for loop in selected.fors} - {id(loop.variable) for loop in kept}
    for ordering in selected.orderings if gone else ():
        if gone & selected.used_in(ordering.expression):
            raise TypeError(
                f"results that come once cannot be ordered by {ordering.expression!r}, of which each may have several; "
                f"order by an aggregate of it, such as max(), or take without_distinct()"
            )


def _order(compiler: Compiler, selected: Selected, columns: list[str]) -> str:
    """Return the ORDER BY clause with a leading blank, or nothing."""
    parts: list[str] = []
    for ordering in selected.orderings:
        direction = " DESC" if ordering.descending else ""
        texts = _ordered(compiler, selected, ordering, columns)
        if selected.is_distinct and not all(text in columns or text.isdigit() for text in texts):
            raise TypeError(
                f"results that come once cannot be ordered by {ordering.expression!r}, of which each may have several; "
                f"order by what they consist of, or do without distinct()"
            )
        parts += [text + direction for text in texts]
    return f" ORDER BY {', '.join(parts)}" if parts else ""


def _ordered(compiler: Compiler, selected: Selected, ordering: Ordering, columns: list[str]) -> list[str]:
    expression = ordering.expression
    if _is_column(expression):
        texts = compiler.columns_of(expression)
        if not (selected.is_grouped or (selected.is_distinct and not set(texts) <= set(columns))):
            return texts
        if kind_of(expression).is_object and any(is_same(item, expression) for item in selected.items):
            return compiler.place_of(expression).own_key()  # which the rows are made of
        return texts
    place = 1
    for item in selected.items:
        if is_same(item, expression) and len(columns) >= place:
            return [str(place)]
        place += len(item_of(compiler, item, 0, selected.prefetched)[1])
    return compiler.columns_of(expression)


def _slice(compiler: Compiler, selected: Selected) -> str:
    text = ""
    if selected.limit is not None:
        text = f" LIMIT {int(selected.limit)}"
    elif selected.offset and compiler.dialect.name == "sqlite":
        text = " LIMIT -1"  # SQLite has no OFFSET without LIMIT
    return f"{text} OFFSET {int(selected.offset)}" if selected.offset else text
