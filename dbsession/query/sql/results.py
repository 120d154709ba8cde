"""What becomes of the rows of a query: which columns are an object's, and how values are decoded."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

from dbsession.model.expressions import Operation
from dbsession.model.mapping import Column, Mapping
from dbsession.query.kinds import decoder_of, kind_of
from dbsession.query.operators import OPERATORS
from dbsession.query.prefetched import Prefetched

if TYPE_CHECKING:
    from dbsession.query.sql.compiler import Compiler

__all__ = ["Item", "item_of"]


class Item(NamedTuple):
    """One item of the result, from the columns *start* to *stop* of each row.

    An object of *mapping* has the columns *source*; a value has one column, which *decode* (None: it is
    as it should be) makes the value that the program gets.
    """

    start: int
    stop: int
    mapping: Mapping | None = None
    source: tuple[Column, ...] = ()
    decode: Callable[[Any], Any] | None = None


def item_of(
    compiler: Compiler, node: Any, start: int = 0, prefetched: Prefetched | None = None
) -> tuple[Item, list[str]]:
    """Return what becomes of the columns from *start* on that give *node*, and the SQL of those columns.

    Lazy attributes that are *prefetched* are among them.
    """
    kind = kind_of(node)
    if isinstance(kind.python, Mapping):
        mapping = kind.python
        place = compiler.place_of(node)
        source = mapping.wide if prefetched is None else prefetched.source(mapping)
        if all(column.is_key for column in source):  # which may be known without the table
            texts = [place.column(column) for column in source]
        else:
            texts = [place.joined() + column.quoted for column in source]
        return Item(start, start + len(source), mapping, source), texts
    is_condition = isinstance(node, Operation) and OPERATORS[node.operator].is_condition
    text = compiler.condition(node) if is_condition else compiler.render(node)
    return Item(start, start + 1, decode=decoder_of(kind, compiler.dialect)), [text]
