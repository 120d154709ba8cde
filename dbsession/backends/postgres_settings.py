"""Which user-written SQL leaves something behind on the connection that ROLLBACK does not take away."""

from __future__ import annotations

import re

__all__ = ["leaves_settings"]

_SETTINGS = re.compile(
    r"\bset\s+(?!local\b|transaction\b|constraints\b)"
    r"(?:session\s+|role\b|time\s+zone\b|\w+(?:\.\w+)?\s*(?:=|\bto\b))"
    r"|\b(?:listen|load|declare|prepare)\s|\btemp(?:orary)?\s|advisory_lock|\bset_config\b",
    re.IGNORECASE,
)


def leaves_settings(sql: str) -> bool:
    """Tell whether *sql* may change the connection for the session after this one: SET, LISTEN, temporary tables.

    To be wrong costs a new connection; ``UPDATE t SET a = 1`` looks like a setting, so it is taken away first.
    """
    return _SETTINGS.search(_UPDATE.sub("", sql)) is not None


_UPDATE = re.compile(r"\b(?:update\s+.*?|do\s+update\s+)set\s", re.IGNORECASE | re.DOTALL)
