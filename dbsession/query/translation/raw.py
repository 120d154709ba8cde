"""SQL of the user's own: ``raw_sql("lower(u.name) = $name")``.

``$name`` and ``$(expression)`` are Python's, evaluated where the query is made, and become
parameters; ``$$`` is a dollar sign. The rest is sent as it stands.
"""

from __future__ import annotations

import ast
import re
from types import FrameType
from typing import TYPE_CHECKING, Any

from dbsession.query import taking
from dbsession.query.translation.functions import arguments
from dbsession.query.translation.names import Scope, evaluator, free_names
from dbsession.query.tree import RawSql

if TYPE_CHECKING:
    from dbsession.query.translation.translator import Translator

__all__ = ["cut", "evaluated", "raw_sql"]

_DOLLAR = re.compile(r"\$(?:(\$)|([^\W\d]\w*(?:\.[^\W\d]\w*)*)|(\())?")


def cut(sql: str) -> tuple[tuple[str, ...], list[ast.expr]]:
    """Cut *sql* at its ``$``: return the pieces between, and the expressions of Python.

    Raises:
        TypeError: a ``$`` stands alone, or the expression behind it is none.
    """
    pieces: list[str] = [""]
    expressions: list[ast.expr] = []
    place = 0
    while match := _DOLLAR.search(sql, place):
        pieces[-1] += sql[place : match.start()]
        place = match.end()
        dollar, name, parenthesis = match.groups()
        if dollar:
            pieces[-1] += "$"
            continue
        if parenthesis:
            expression, place = _enclosed(sql, place)
        elif name:
            expression = ast.parse(name, mode="eval").body
        else:
            raise TypeError(f"a $ stands alone in {sql!r:.60}: write $name or $(expression), and $$ for a dollar sign")
        expressions.append(expression)
        pieces.append("")
    pieces[-1] += sql[place:]
    return tuple(pieces), expressions


def _enclosed(sql: str, start: int) -> tuple[ast.expr, int]:
    """Return the expression that begins at *start*, behind a parenthesis, and where what follows begins."""
    end = sql.find(")", start)
    while end >= 0:
        try:
            return ast.parse(f"({sql[start:end]})", mode="eval").body, end + 1
        except SyntaxError:
            end = sql.find(")", end + 1)
    raise TypeError(f"$( is followed by no expression of Python in {sql!r:.60}")


def raw_sql(t: Translator, node: ast.Call, scope: Scope) -> Any:
    """Translate ``raw_sql(sql, result_type)``."""
    given, wanted = arguments(t, node, scope, "sql", "result_type", required=1)
    assert given is not None
    sql = t.answer(t.ask_for(given, scope, taking.exact)) if t.is_outside(given, scope) else None
    if not isinstance(sql, str):
        raise t.error(given, scope, "raw_sql() takes a text that is known to Python; values go into it by $name")
    python = None if wanted is None else t.answer(t.ask_for(wanted, scope, taking.callee))
    if python is not None and not isinstance(python, type):
        raise t.error(node, scope, f"the result_type of raw_sql() is a type, such as int, not {python!r:.60}")
    try:
        pieces, expressions = cut(sql)
    except TypeError as error:
        raise t.error(given, scope, str(error)) from None
    values: list[Any] = []
    for expression in expressions:
        loop = free_names(expression) & scope.inside.keys()
        if loop:
            raise t.error(
                given, scope, f"{ast.unparse(expression)} is not known to Python: leave out the $, and name its column"
            )
        placed = ast.fix_missing_locations(ast.copy_location(expression, given))
        number = t.ask(evaluator(placed, scope, is_written=True), taking.plain)
        values.append(t.taken(number, given, scope))
    return RawSql(pieces, tuple(values), python)


def evaluated(expression: ast.expr, frame: FrameType) -> Any:
    """Return the value of *expression* as the code of *frame* sees it."""
    code = compile(ast.fix_missing_locations(ast.Expression(expression)), "<raw_sql>", "eval")
    return eval(code, frame.f_globals, frame.f_locals)  # noqa: S307 - the program's own text
