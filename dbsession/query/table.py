"""Results as a table of plain text, for `Query.show`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from dbsession.model.entity import EntityBase
from dbsession.model.references import ReferenceAttribute
from dbsession.model.state import NOT_LOADED
from dbsession.query.selected import Selected

__all__ = ["table_of"]

_GAP, _NARROW = "  ", 4


def table_of(selected: Selected, results: list[Any], width: int) -> str:
    """Return *results* of *selected* as a table that is *width* characters wide at most, if it can be.

    Objects stand with their attributes, which do not count as read, or, beside others in a tuple, as ``User[1]``.
    """
    if selected.gives_objects:
        mapping = selected.mapping
        shown = [
            attribute for attribute in mapping.attributes.values() if not (attribute.is_virtual or attribute.is_lazy)
        ]
        return _table([a.name for a in shown], [[_value(obj, a) for a in shown] for obj in results], width)
    rows = results if isinstance(selected.result, tuple) else [(result,) for result in results]
    return _table([repr(item) for item in selected.items], rows, width)


def _value(obj: EntityBase | None, attribute: Any) -> Any:
    """Return the value of *attribute*, without reading it; those of None, in a left join, are None."""
    if obj is None:
        return None
    if attribute.name in obj.__dict__:
        return obj.__dict__[attribute.name]
    if isinstance(attribute, ReferenceAttribute):
        key = attribute.key_in(obj._row_)
        return key if key is None or key is NOT_LOADED else attribute.target.describe_key(key)
    raw = obj._row_[attribute.position]
    return raw if raw is None or raw is NOT_LOADED or attribute.decode is None else attribute.decode(raw)


def _table(names: list[str], rows: Sequence[Sequence[Any]], width: int) -> str:
    lines = [names, *[[_text(value) for value in row] for row in rows]]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    room = width - len(_GAP) * (len(widths) - 1)
    while sum(widths) > room and max(widths) > _NARROW:  # the widest gives way
        widest = widths.index(max(widths))
        widths[widest] -= 1
    lines.insert(1, ["-" * size for size in widths])
    return "\n".join(
        [_GAP.join([_cut(text, size) for text, size in zip(line, widths, strict=True)]).rstrip() for line in lines]
    )


def _text(value: Any) -> str:
    return "".join([char if char.isprintable() else repr(char)[1:-1] for char in str(value)])


def _cut(text: str, size: int) -> str:
    return text.ljust(size) if len(text) <= size else f"{text[: size - 1]}…"
