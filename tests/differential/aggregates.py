"""Aggregates of plain values: NULLs are left out."""

from __future__ import annotations

from tests.differential.values import Undefined, Untyped, as_untyped, number

__all__ = ["AGGREGATES", "Joined", "aggregate"]

AGGREGATES = {"count", "sum", "avg", "min", "max", "group_concat"}


class Joined(str):
    """What group_concat() gives: texts in any order, with a `separator` between them."""

    __slots__ = ("separator",)

    def parts(self):
        """Return the texts in an order of their own."""
        return sorted(self.split(self.separator))


def aggregate(name, values, separator=","):
    """Return the aggregate *name* of *values*."""
    values = [value for value in values if value is not None]
    if name == "count":
        return len(values)
    if name == "sum":
        found = number(sum(values))
        return as_untyped(found) if {type(value) for value in values} <= {Untyped} else found
    if not values:
        return None
    if name == "avg":
        return float(sum(values) / len(values))
    if name == "group_concat":
        if any(isinstance(value, float | bool) for value in values):
            raise Undefined("the text of a float")
        joined = Joined(separator.join(map(str, values)))
        joined.separator = separator
        return joined
    return min(values) if name == "min" else max(values)
