"""The rows that every contender works on, and how many of them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Protocol

__all__ = [
    "FULL",
    "QUICK",
    "Item",
    "Row",
    "Sizes",
    "Stored",
    "checksum",
    "each_stored",
    "keys",
    "seeds",
    "stored",
    "total",
]

Row = tuple[str, int, float, str | None]
"""What is inserted: name, amount, price, note."""

Stored = tuple[int, str, int, float, str | None]
"""What stands in the table: the key before it."""


class Item(Protocol):
    """An object that an ORM made of a row."""

    id: int
    name: str
    amount: int
    price: float
    note: str | None


@dataclass(frozen=True)
class Sizes:
    """How much of everything one measurement does."""

    rows: int
    singles: int
    gets: int
    scopes: int
    streamed: int


FULL = Sizes(rows=10_000, singles=500, gets=1_000, scopes=20_000, streamed=100_000)
QUICK = Sizes(rows=1_000, singles=50, gets=100, scopes=2_000, streamed=20_000)


def seeds(count: int) -> list[Row]:
    """Return *count* rows: all different, every second note NULL, sums of price exact in binary."""
    return [row[1:] for row in each_stored(count)]


def stored(count: int, raised: int = 0) -> list[Stored]:
    """Return what the table holds after filling it with `seeds`, each amount raised by *raised*."""
    return list(each_stored(count, raised))


def each_stored(count: int, raised: int = 0) -> Iterator[Stored]:
    """Yield the same one by one: what is weighed in this process is not to be the yardstick."""
    for i in range(count):
        note = None if i % 2 else f"note number {i}"
        yield (i + 1, f"item {i:06d}", i * 7919 % 1000 + raised, i * 0.25, note)


def keys(count: int, rows: int) -> list[int]:
    """Return *count* different keys out of 1..*rows*, spread over the table, in no simple order."""
    step = 7919  # prime, and no divisor of any size used here
    return [index * step % rows + 1 for index in range(count)]


def checksum(items: Iterable[Item]) -> float:
    """Read every attribute of every object, once, and make one number of it."""
    result = 0.0
    for item in items:
        result += item.id + len(item.name) + item.amount + item.price
        if item.note is not None:
            result += 1
    return result


def total(rows: Iterable[Stored]) -> float:
    """Return the number that `checksum` must come to for objects of these rows."""
    result = 0.0
    for key, name, amount, price, note in rows:
        result += key + len(name) + amount + price
        if note is not None:
            result += 1
    return result
