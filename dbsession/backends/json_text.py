"""JSON as every database of ours gets it."""

from __future__ import annotations

import json
from typing import Any

__all__ = ["JsonText", "decode_json", "encode_json"]


class JsonText(str):
    """JSON on its way to a database.

    A driver may answer with values that are parsed already, and a JSON value may itself be a str:
    the type tells the text of a document from a document that is a text.
    """

    __slots__ = ()


def encode_json(value: Any) -> JsonText:
    """Write *value* as compact JSON, its keys in their own order.

    Raises:
        ValueError: *value* holds NaN or an infinity, which JSON does not have.
    """
    return JsonText(json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":")))


def decode_json(value: Any) -> Any:
    """Return the value of a column whose driver parses JSON: only what has not been there yet is parsed."""
    return json.loads(value) if type(value) is JsonText else value
