"""The ``%s`` and ``%(name)s`` of user-written SQL, read in one way for every database.

The rules are psycopg's: with parameters, ``%%`` is one percent sign and any other ``%`` must begin
a placeholder, within quotes too; without parameters the SQL is left alone.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from itertools import count
from typing import Any

from dbsession.errors import ProgrammingError

__all__ = ["numbered", "parse", "positional"]

_OTHER_STYLES = re.compile(r"(?<![:\w])[:@$]([A-Za-z_]\w*)")
_PERCENT = re.compile(r"%(?:(%)|\(([^)]*)\)s|(s)|(.?))", re.DOTALL)


@lru_cache(maxsize=64)
def numbered(sql: str) -> str:
    """Return *sql* with ``$1``, ``$2``, ... in place of ``%s``, the style of PostgreSQL itself.

    psycopg would do the same each time that a long text is sent; it remembers short ones only.
    """
    numbers = count(1)
    return _PERCENT.sub(lambda match: "%" if match[1] else f"${next(numbers)}", sql)


def parse(sql: str) -> tuple[list[str], list[str | None]]:
    """Cut *sql* at its placeholders.

    Returns the pieces between them, with ``%%`` made ``%``, and for each placeholder its name, or
    None for ``%s``.

    Raises:
        ProgrammingError: a ``%`` stands alone, or both styles are mixed.
    """
    pieces: list[str] = []
    names: list[str | None] = []
    piece = ""
    end = 0
    for match in _PERCENT.finditer(sql):
        piece += sql[end : match.start()]
        end = match.end()
        percent, name, plain, _ = match.groups()
        if percent:
            piece += "%"
        elif name is not None or plain:
            pieces.append(piece)
            names.append(name)
            piece = ""
        else:
            raise ProgrammingError(
                f"{match.group()!r} in the SQL is not a placeholder: write %s or %(name)s for a "
                "parameter, and %% for a percent sign",
                sql=sql,
            )
    pieces.append(piece + sql[end:])
    if None in names and len(set(names)) > 1:
        raise ProgrammingError("%s and %(name)s cannot be mixed in one statement", sql=sql)
    return pieces, names


def positional(sql: str, names: Sequence[str | None], params: Any) -> tuple[Any, ...]:
    """Return the values for the placeholders *names*, in their order.

    Raises:
        ProgrammingError: *params* are of the wrong shape, too few or too many.
    """
    if isinstance(params, Mapping):
        if None in names:
            raise ProgrammingError("the SQL has %s, so its parameters must be a list or a tuple", sql=sql)
        missing = sorted({name for name in names if name is not None and name not in params})
        if missing:
            raise ProgrammingError(f"no parameter is given for %({missing[0]})s", sql=sql)
        if params and not names and (other := _OTHER_STYLES.search(sql)) is not None and other[1] in params:
            raise ProgrammingError(f"{other[0]} is no placeholder here: write %({other[1]})s", sql=sql)
        return tuple(params[name] for name in names)
    if isinstance(params, (str, bytes)) or not isinstance(params, Sequence):
        raise ProgrammingError(
            f"parameters must be a list, a tuple or a dictionary, not {type(params).__name__}", sql=sql
        )
    if names and names[0] is not None:
        raise ProgrammingError("the SQL has %(name)s, so its parameters must be a dictionary", sql=sql)
    if len(params) != len(names):
        raise ProgrammingError(
            f"the SQL has {len(names)} placeholders (%s), but {len(params)} parameters are given", sql=sql
        )
    return tuple(params)
