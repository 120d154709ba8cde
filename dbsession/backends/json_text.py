"""JSON as every database of ours gets it."""

from __future__ import annotations

import json
import re
from decimal import Decimal
from typing import Any

__all__ = ["JsonText", "decode_json", "encode_json", "encode_json_text"]


class JsonText(str):
    """JSON on its way to a database whose driver answers with values that are parsed already.

    A JSON value may itself be a str, so the type tells the text of a document from a document that is
    a text; the two are never equal.
    """

    __slots__ = ()
    __hash__ = str.__hash__

    def __eq__(self, other: object) -> bool:
        return type(other) is JsonText and str.__eq__(self, other)

    def __ne__(self, other: object) -> bool:
        return not self == other


def encode_json(value: Any) -> str:
    """Write *value* as compact JSON, its keys in their own order.

    Raises:
        ValueError: *value* holds NaN or an infinity, which JSON does not have.
    """
    return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))


_LARGE_FLOAT = re.compile(r'"(?:[^"\\]|\\.)*"|-?[0-9.]+e\+[0-9]+')


def _with_point(token: re.Match[str]) -> str:
    text = token[0]
    return text if text.startswith('"') else format(Decimal(text), "f") + ".0"


def encode_json_text(value: Any) -> JsonText:
    """Write *value* as `encode_json` does, for `decode_json`.

    PostgreSQL keeps numbers as decimals: it would answer ``1e+23`` with 100000000000000000000000, which
    is an int and not the same number. With a point behind it, a float stays a float.
    """
    text = encode_json(value)
    return JsonText(_LARGE_FLOAT.sub(_with_point, text) if "e+" in text else text)


def decode_json(value: Any) -> Any:
    """Return the value of a column whose driver parses JSON: only what has not been there yet is parsed."""
    return json.loads(value) if type(value) is JsonText else value
