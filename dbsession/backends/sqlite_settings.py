"""Which user-written SQL leaves something behind on the connection that ROLLBACK does not take away."""

from __future__ import annotations

import re

__all__ = ["leaves_settings"]

_LEAVES = re.compile(r"\battach\b|\btemp(?:orary)?\b|\bload_extension\b", re.IGNORECASE)
_PRAGMA = re.compile(r"\bpragma\s+(?:\w+\s*\.\s*)?(\w+)\s*[=(]", re.IGNORECASE)
_HARMLESS = re.compile(
    "foreign_keys|query_only|busy_timeout"  # put back when the connection is
    "|defer_foreign_keys"  # ends with its transaction
    "|application_id|user_version|auto_vacuum|encoding|journal_mode|page_size"  # kept in the file
    "|foreign_key_(?:check|list)|index_x?info|index_list|table_x?info|table_list"  # questions
    "|incremental_vacuum|integrity_check|optimize|quick_check|wal_checkpoint",
    re.IGNORECASE,
)


def leaves_settings(sql: str) -> bool:
    """Tell whether *sql* may change the connection for the session after this one: ATTACH, temporary tables, PRAGMA.

    To be wrong costs a new connection.
    """
    if _LEAVES.search(sql):
        return True
    return not all(_HARMLESS.fullmatch(name) for name in _PRAGMA.findall(sql))
