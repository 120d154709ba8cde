"""The log of what a session sends: logger ``dbsession.sql``, level INFO, a line a statement, the SQL first.

Values are shown only where somebody has asked for them: a log is read by more people than a database.
"""

from __future__ import annotations

import logging
import re
import sys
from typing import Any

from dbsession.backends.statements import Batch, Kind, Statement

__all__ = ["SqlLog", "make_sql_log", "set_sql_debug"]

_logger = logging.getLogger("dbsession.sql")

_NEWLINE = re.compile(r"\s*\n\s*")
_LONGEST = 2000  # characters of values in a line


class SqlLog:
    """Writes the statements of a session, if it `is_on`."""

    __slots__ = ("is_on", "shows_values")

    def __init__(self, *, is_on: bool, shows_values: bool) -> None:
        self.is_on = is_on
        self.shows_values = shows_values

    def write(self, batch: Batch) -> None:
        """Write a line for each statement of *batch*, which is about to be sent."""
        is_configured = _logger.hasHandlers()
        if is_configured and not _logger.isEnabledFor(logging.INFO):
            return
        for statement in batch:
            line = self.line(statement)
            if is_configured:
                _logger.info("%s", line)
            else:  # whoever asks for the SQL wants to see it, with or without logging.basicConfig()
                sys.stderr.write(f"{line}\n")

    def line(self, statement: Statement) -> str:
        """Return *statement* in one line."""
        line = _NEWLINE.sub(" ", statement.sql.strip())
        params = statement.params
        if params is None or statement.kind is Kind.BEGIN:
            return line
        if statement.many:
            line += f"  -- {len(params)} runs"
        if self.shows_values:
            line += f"  -- {_shown(params)}"
        return line


_default = SqlLog(is_on=False, shows_values=False)


def _shown(params: Any) -> str:
    text = repr(params)
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}..."


def make_sql_log(debug: bool | None = None, show_values: bool | None = None) -> SqlLog:
    """Return the log of a session with these options; None leaves it to `set_sql_debug`, at any time."""
    if debug is None and show_values is None:
        return _default
    return SqlLog(
        is_on=_default.is_on if debug is None else debug,
        shows_values=_default.shows_values if show_values is None else show_values,
    )


def set_sql_debug(debug: bool = True, show_values: bool | None = None) -> None:
    """Log the SQL of every session from now on, with the values of its parameters if *show_values*.

    It holds for all threads, and for sessions that say nothing themselves with ``db_session(sql_debug=...)``.
    Without *show_values* that setting stays as it is; at first values are not shown.

    Raises:
        TypeError: *debug* is neither True nor False, or *show_values* neither of them nor None.
    """
    if not isinstance(debug, bool) or not (show_values is None or isinstance(show_values, bool)):
        raise TypeError(f"set_sql_debug() takes True or False, not {debug!r} and show_values={show_values!r}")
    _default.is_on = debug
    if show_values is not None:
        _default.shows_values = show_values
