"""Shapes: what of a value decides which SQL it needs. Values of one shape can be put into the same statement."""

from __future__ import annotations

from typing import Any

__all__ = ["shape_of"]

_LISTS = (list, tuple, set, frozenset)


def shape_of(value: Any) -> Any:
    """Return the shape of *value*: equal shapes, same SQL."""
    cls = type(value)
    if cls in _LISTS:
        return cls, tuple(dict.fromkeys(map(shape_of, value))), len(value)
    if value is True or value is False:
        return value
    return cls
