"""What SQLite cannot do with JSON: look a key up whatever characters it has, and compare values by their types.

SQLite's own ``json_extract`` answers with 1 for true, with the same text for a text and a list, and
knows no key with a quotation mark in it. The functions here take the JSON text of a value. NULL is a
value that is not there; JSON's null is taken for NULL.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from decimal import Decimal
from functools import lru_cache
from typing import Any

from dbsession.backends.json_text import encode_json

__all__ = ["SCALARS", "compare"]


@lru_cache(maxsize=32)
def _document(text: str) -> Any:
    """Parse a document; several paths of one row parse it once. Nobody changes the result."""
    return json.loads(text)


def _scalar(text: str | None) -> Any:
    if text is None:
        return None
    if text.startswith('"') and "\\" not in text:  # most texts, at a tenth of the time
        return text[1:-1]
    return json.loads(text)


def _item(document: str | None, *keys: Any) -> str | None:
    """Return the JSON text at the end of a path: a text is a key of an object, an int counts in a list."""
    if document is None:
        return None
    value = _document(document)
    for key in keys:
        if isinstance(key, str) and isinstance(value, dict):
            value = value.get(key)
        elif isinstance(key, int) and isinstance(value, list) and -len(value) <= key < len(value):
            value = value[key]
        else:
            return None
    return None if value is None else encode_json(value)


# --- comparing ------------------------------------------------------------------------------------------


def _order_key(text: str) -> Any:
    """Return what *text* sorts by: scalars are read by their first character, which is most of what is compared."""
    first = text[:1]
    try:
        if first == '"' and "\\" not in text:
            return (1, text[1:-1])
        if first in _DIGITS:
            return (2, int(text) if text.lstrip("-").isdecimal() else Decimal(text))
        return _document_key(text)
    except (ValueError, ArithmeticError, RecursionError):  # no JSON; an order of some kind is still needed
        return (-1, text)


_DIGITS = frozenset("-0123456789")


@lru_cache(maxsize=256)
def _document_key(text: str) -> Any:
    return _ranked(json.loads(text, parse_float=Decimal))


def _ranked(value: Any) -> Any:
    """Return what sorts as PostgreSQL's jsonb does: null, texts, numbers, bools, lists, objects."""
    if value is None:
        return (0,)
    if isinstance(value, str):
        return (1, value)
    if isinstance(value, bool):
        return (3, value)
    if isinstance(value, list):
        return (4, len(value), [_ranked(item) for item in value])
    if isinstance(value, dict):
        return (5, len(value), [(key, _ranked(item)) for key, item in sorted(value.items())])
    return (2, value)


def compare(left: str, right: str) -> int:
    """Compare the JSON texts *left* and *right* by the values that they stand for."""
    if left == right:
        return 0
    first, second = _order_key(left), _order_key(right)
    return int(first > second) - int(first < second)


def _order(left: str | None, right: str | None) -> int | None:
    """Compare two numbers or two texts; NULL for everything else."""
    if left is None or right is None:
        return None
    first, second = _order_key(left), _order_key(right)
    if first[0] != second[0] or first[0] not in (1, 2):
        return None
    return int(first > second) - int(first < second)


# --- as something else ----------------------------------------------------------------------------------


def _number(text: str | None) -> float | None:
    """Return a number as a float, and NULL for everything else."""
    value = _scalar(text)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        return float(value)
    except OverflowError:
        return None


def _text(text: str | None) -> str | None:
    """Return a text, and NULL for everything else."""
    value = _scalar(text)
    return value if isinstance(value, str) else None


_NUMERAL = re.compile(r"[-+]?[0-9]+([.][0-9]+)?(e[-+]?[0-9]+)?", re.IGNORECASE)


def _numeral(text: str | None) -> Decimal | None:
    """Return a number, or a text that is written as one."""
    value = None if text is None else json.loads(text, parse_float=Decimal)
    if isinstance(value, str):
        return Decimal(value) if _NUMERAL.fullmatch(value) else None
    return Decimal(value) if isinstance(value, int | Decimal) and not isinstance(value, bool) else None


def _int(text: str | None) -> int | None:
    number = _numeral(text)
    return None if number is None or abs(number) >= 2**63 else int(number)


def _float(text: str | None) -> float | None:
    number = _numeral(text)
    return None if number is None else float(number)


def _str(text: str | None) -> str | None:
    """Return a text as it is, and everything else as Python writes it; lists and objects as JSON."""
    value = _scalar(text)
    if value is None:
        return None
    return encode_json(value) if isinstance(value, list | dict) else str(value)


def _len(text: str | None) -> int | None:
    value = _scalar(text)
    return len(value) if isinstance(value, str | list | dict) else None


def _truth(text: str | None) -> int:
    return int(bool(_scalar(text)))


def _contains(container: str | None, item: str | None) -> int | None:
    """Say whether *item* is an item of a list, a key of an object, or a part of a text."""
    if container is None or item is None:
        return None
    outer, inner = _scalar(container), _scalar(item)
    if outer is None:
        return None
    if isinstance(outer, list):
        return int(any(compare(encode_json(value), item) == 0 for value in outer))
    if isinstance(inner, list | dict):
        return None
    return int(isinstance(outer, str | dict) and isinstance(inner, str) and inner in outer)


def _written(value: Any) -> str | None:
    return None if value is None else encode_json(value)


SCALARS: Mapping[str, tuple[int, Callable[..., Any]]] = {
    "dbs_json": (-1, _item),
    "dbs_json_order": (2, _order),
    "dbs_json_number": (1, _number),
    "dbs_json_text": (1, _text),
    "dbs_json_int": (1, _int),
    "dbs_json_float": (1, _float),
    "dbs_json_str": (1, _str),
    "dbs_json_len": (1, _len),
    "dbs_json_truth": (1, _truth),
    "dbs_json_contains": (2, _contains),
    "dbs_to_json": (1, _written),
}
