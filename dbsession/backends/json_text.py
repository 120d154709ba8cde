"""JSON as every database of ours gets it."""

from __future__ import annotations

import json
from typing import Any

__all__ = ["encode_json"]


def encode_json(value: Any) -> str:
    """Write *value* as compact JSON, its keys in their own order.

    Raises:
        ValueError: *value* holds NaN or an infinity, which JSON does not have.
    """
    return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
