"""The statements that change all rows of a query at once: DELETE and UPDATE.

Where one table is all that is looked at, the conditions of the query are those of the statement. Where others
have to be joined, or there is a limit, rows are chosen by their keys. On PostgreSQL they are locked when they are
chosen, if there is a limit or for_update(): a row that somebody else is changing would be changed, too, without
looking at the conditions again.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from types import FunctionType
from typing import Any, TypeAlias

from dbsession.model.attributes import Attribute
from dbsession.model.expressions import Expression, Operation, plain_expression
from dbsession.model.references import ReferenceAttribute
from dbsession.query.selected import For, Selected, variables_in
from dbsession.query.sql.compiled import Compiled, written
from dbsession.query.sql.compiler import Compiler
from dbsession.query.sql.select_sql import Head, keys, place, write_select, write_where
from dbsession.query.translation.translate import translate_value
from dbsession.query.tree import Path, RawSql, Slot, Subquery, Variable, walk

__all__ = ["Shifted", "compile_delete", "compile_update", "translated"]

_Write: TypeAlias = Callable[[Compiler, str], str]
_Assignments: TypeAlias = Sequence[tuple[Attribute[Any], Any]]


class Shifted(Expression[Any]):
    """An expression whose slots are numbered by *shift* more in the values of the whole statement."""

    __slots__ = ("node", "shift")

    def __init__(self, node: Expression[Any], shift: int) -> None:
        self.node = node
        self.shift = shift

    def __repr__(self) -> str:
        return repr(self.node)


_CHOSEN = '"dbs_chosen"'
_SELECT = re.compile(r"\bselect\b", re.IGNORECASE)


def translated(
    selected: Selected, values: tuple[Any, ...], given: dict[str, Any]
) -> tuple[dict[str, Any], tuple[Any, ...]]:
    """Return the new values *given* for the objects of *selected*, lambdas translated, and the values of all slots.

    Raises:
        TranslationError: a lambda cannot be translated.
    """
    found, slots = dict(given), values
    for name, function in given.items():
        if not isinstance(function, FunctionType):
            found[name] = plain_expression(function)
            continue
        node, more = translate_value(selected, values, function)
        if isinstance(node, Slot):  # the same for all rows
            node = more[node.number - len(values)]
        elif isinstance(node, Expression):
            node, slots = Shifted(node, len(slots) - len(values)), (*slots, *more)
        found[name] = node
    return found, slots


def compile_delete(selected: Selected) -> Compiled:
    """Return the DELETE of all objects of the result at once.

    Raises:
        TypeError: the result is no object.
    """

    def deleting() -> Compiled:
        made = _changing(_of_objects(selected), lambda _, table: f"DELETE FROM {table}")
        assert made is not None  # it looks at one table
        return made

    return selected.derived("delete", deleting)


def compile_update(selected: Selected, assignments: _Assignments) -> Compiled:
    """Return the UPDATE of all objects of the result at once.

    An attribute is set to an expression, a slot, an object, or a tuple with one value for each of its
    columns, as they travel.

    Raises:
        TypeError: the result is no object; an expression does not fit the query.
    """
    objects = _of_objects(selected)
    if objects is not selected and any(variables_in(getattr(node, "node", node)) for _, node in assignments):
        return _with_computed(selected, assignments)

    reads_itself = False

    def write(compiler: Compiler, table: str) -> str:
        nonlocal reads_itself
        before, compiler.tables = compiler.tables, {}
        parts = [
            f"{column.quoted} = {part}"
            for attribute, node in assignments
            for column, part in zip(attribute.columns, _values(compiler, attribute, node), strict=True)
        ]
        reads_itself = objects.mapping.root in compiler.tables or any(_may_select(node) for _, node in assignments)
        compiler.tables = {**before, **compiler.tables}
        return f"UPDATE {table} SET {', '.join(parts)}"

    compiled = _changing(objects, write)
    if compiled is None or (reads_itself and selected.dialect.name == "sqlite"):
        return _with_computed(objects, assignments)
    return compiled


def _may_select(node: Any) -> bool:
    """Tell whether SQL of the user's own in *node* has a subquery, of whatever table."""
    raw = [part for part in walk(getattr(node, "node", node)) if isinstance(part, RawSql)]
    return any(_SELECT.search(text) for part in raw for text in part.texts)


def _values(compiler: Compiler, attribute: Attribute[Any], node: Any) -> list[str]:
    """Return the SQL of *node*, one for each column of *attribute*."""
    if isinstance(node, Shifted):
        compiler.shift += node.shift
        try:
            return _values(compiler, attribute, node.node)
        finally:
            compiler.shift -= node.shift
    if isinstance(node, tuple):
        return [compiler.parameter(part) for part in node]
    if isinstance(attribute, ReferenceAttribute):
        return compiler.columns_of(node)
    return [compiler.assigned(node, attribute)]


# --- which rows -----------------------------------------------------------------------------------


def _of_objects(selected: Selected) -> Selected:
    """Return the query for the objects of the result by a variable.

    Raises:
        TypeError: the result is something else.
    """
    result = selected.result
    if isinstance(result, Variable):
        return selected
    if not isinstance(result, Path) or result.target is None:
        raise TypeError(f"the query gives {result!r}, and only objects can be deleted or updated; select these")
    return _by_key(Variable.of(result.target), selected)


def _by_key(variable: Variable, selected: Selected) -> Selected:
    return Selected((For(variable),), variable, (Operation("in", variable, Subquery(selected)),))


def _locks(selected: Selected) -> bool:
    """Whether the rows are chosen and locked before they are changed."""
    is_wanted = selected.is_sliced or selected.lock
    return bool(is_wanted) and selected.dialect.has_row_locks and _can_lock(selected)


def _can_lock(selected: Selected) -> bool:
    is_plain = isinstance(selected.result, Variable) and not selected.is_distinct
    return is_plain and not selected.is_grouped


def _changing(selected: Selected, write: _Write) -> Compiled | None:
    """Return the statement that changes the rows of *selected*: what *write* writes, and a WHERE clause.

    None if *write* itself looks at other tables.
    """
    variable: Variable = selected.result
    if not _locks(selected):
        is_joined = selected.is_left and len(selected.fors) > 1  # EXISTS would have no row for an empty collection
        is_by_key = selected.is_sliced or selected.is_grouped or is_joined
        direct = None if is_by_key else _alone(selected, lambda compiler: _direct(compiler, selected, write))
        return direct or _alone(selected, lambda compiler: _direct(compiler, _by_key(variable, selected), write))

    def write_chosen(compiler: Compiler) -> str:
        chosen = _chosen(compiler, selected, keys)
        return f"{chosen} {_direct(compiler, Selected((For(variable),), variable), write, chosen=True)}"

    return _alone(selected, write_chosen)


def _alone(selected: Selected, write: Callable[[Compiler], str]) -> Compiled | None:
    """Return what *write* writes, if there is only one table at its level."""
    tables = 0

    def counted(compiler: Compiler) -> str:
        nonlocal tables
        text = write(compiler)
        tables = len(compiler.level.sources)
        return text

    compiled = written(selected.dialect, counted)
    return compiled if tables == 1 else None


def _direct(compiler: Compiler, selected: Selected, write: _Write, *, chosen: bool = False) -> str:
    variable = selected.result
    conditions = place(compiler, selected, [loop for loop in selected.fors if loop.variable is variable])
    if chosen:
        key = compiler.place_of(variable).key()
        left = key[0] if len(key) == 1 else f"({', '.join(key)})"
        compiler.level.conditions.append(f"{left} IN (SELECT * FROM {_CHOSEN})")
    head = write(compiler, str(compiler.level.sources[0]).strip())
    return head + write_where(compiler, conditions)


def _chosen(compiler: Compiler, selected: Selected, head: Head) -> str:
    """Return the WITH clause that chooses the rows, once, and locks them where that can be done."""
    alias = ""

    def noting(compiler: Compiler, selected: Selected) -> list[str]:
        nonlocal alias
        columns = head(compiler, selected)
        if is_locked:
            prefix = compiler.place_of(selected.result).joined()  # its key may be known without the table
            alias = f" OF {prefix[:-1]}" if prefix else ""
        return columns

    is_locked = compiler.dialect.has_row_locks and _can_lock(selected)
    sql = write_select(compiler, selected, noting)
    if is_locked:
        sql += f" FOR UPDATE{alias}{selected.lock.removeprefix('FOR UPDATE')}"
    return f"WITH {_CHOSEN} AS MATERIALIZED ({sql})"


# --- new values from other tables -----------------------------------------------------------------


def _with_computed(selected: Selected, assignments: _Assignments) -> Compiled:
    """Return the UPDATE whose new values are worked out together with the keys of the rows."""
    mapping = selected.mapping
    found: list[str] = []

    def head(compiler: Compiler, selected: Selected) -> list[str]:
        columns = [f'{text} AS "dbs_key{place}"' for place, text in enumerate(keys(compiler, selected))]
        found.clear()
        for attribute, node in assignments:
            for column, text in zip(attribute.columns, _values(compiler, attribute, node), strict=True):
                if isinstance(node, Expression) and not isinstance(node, Slot):
                    name = f'"dbs_value{len(found)}"'
                    columns.append(f"{text} AS {name}")
                    text = f"{_CHOSEN}.{name}"  # noqa: PLW2901
                found.append(f"{column.quoted} = {text}")
        return columns

    def write(compiler: Compiler) -> str:
        if compiler.dialect.has_row_locks:
            first, source = _chosen(compiler, selected, head) + " ", _CHOSEN
        else:  # sqlite3 counts the rows of what begins with UPDATE only
            first, source = "", f"({write_select(compiler, selected, head)}) AS {_CHOSEN}"
        match = [
            f'{mapping.quoted}.{column.quoted} = {_CHOSEN}."dbs_key{place}"'
            for place, column in enumerate(mapping.key_columns)
        ]
        where = " AND ".join(match)
        return f"{first}UPDATE {mapping.quoted} SET {', '.join(found)} FROM {source} WHERE {where}"

    return written(selected.dialect, write)
