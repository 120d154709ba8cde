"""Paths into JSON documents: ``u.data["a"]["b"][0]``, and JSON as an operand of what compares values."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from dbsession.model.attributes import Attribute
from dbsession.model.expressions import Operation
from dbsession.query.kinds import Kind, is_value, kind_of
from dbsession.query.operators.base import CONCATENATION, POSTFIX, PRIMARY, UNARY, Sql, enclosed
from dbsession.query.tree import Path

if TYPE_CHECKING:
    from dbsession.query.sql.compiler import Compiler

__all__ = [
    "COLLATED",
    "JSON",
    "as_json",
    "extracted",
    "is_document",
    "is_item",
    "is_json",
    "item_kind",
    "key_text",
    "plain",
]

JSON = Kind(dict)
COLLATED = " COLLATE dbs_json"

_WORD = re.compile(r"(?!null$)[a-z_][a-z0-9_]*", re.IGNORECASE)
_SIMPLE = re.compile(r"""[^\x00-\x1f\x7f'"\\]+""")


def is_document(kind: Kind) -> bool:
    """Tell whether *kind* is that of an expression that is JSON; a dict from outside is none."""
    return kind.python is dict and (kind.nullable or kind.attribute is not None)


def is_json(node: Any) -> bool:
    """Tell whether *node* is an expression that is JSON."""
    return is_document(kind_of(node))


def is_item(node: Any) -> bool:
    """Tell whether *node* is a path into a document."""
    return isinstance(node, Operation) and node.operator == "item" and is_json(node.operands[0])


def _path(node: Any) -> tuple[Any, list[Any]]:
    """Return the document and the keys that lead to *node*."""
    keys: list[Any] = []
    while is_item(node):
        node, key = node.operands
        keys.insert(0, key)
    return node, keys


def item_kind(operands: tuple[Any, ...]) -> Kind:
    """Return what a key finds in a document.

    Raises:
        TypeError: it is no document, or the key is neither a text nor an int.
    """
    document, key = operands
    if not is_json(document):
        raise TypeError(f"{document!r} is {kind_of(document).name}, which has no items")
    python = kind_of(key).python
    if python is not int and not kind_of(key).is_text:
        what = f"{key!r} ({kind_of(key).name})"
        how = f"; write str({key!r}) or int({key!r})" if is_json(key) else ""
        raise TypeError(f"{document!r}[...] takes a str, the key of an object, or an int, not {what}{how}")
    return JSON


def extracted(compiler: Compiler, node: Any, *, as_text: bool = False) -> str:
    """Return what a JSON expression is, without making NULL of JSON's null.

    *as_text*: of a text its characters, of everything else the JSON text; JSON's null is NULL. (On SQLite
    only for telling whether it is NULL.)
    """
    base, keys = _path(node)
    if not keys:
        rendered = plain(compiler.render(base))
        return Sql(f"{enclosed(rendered, CONCATENATION)} #>> '{{}}'", CONCATENATION) if as_text else rendered
    for key in keys:
        item_kind((base, key))
    document = enclosed(plain(compiler.render(base)), CONCATENATION)
    if compiler.dialect.name == "sqlite":
        return _found_sqlite(compiler, document, keys, "->>" if as_text else "->")
    steps = list(_steps(compiler, keys))
    if as_text:
        arrow, last = steps[-1]
        steps[-1] = (f"{arrow}>", last)
    return Sql(" ".join([document, *[f"{arrow} {key}" for arrow, key in steps]]), CONCATENATION)


def plain(rendered: str) -> str:
    """Return SQL without the collation of JSON."""
    if not rendered.endswith(COLLATED):
        return rendered
    return rendered.removesuffix(COLLATED)  # what is collated is a name, a call, or stands in parentheses


def _steps(compiler: Compiler, keys: list[Any]) -> Iterator[tuple[str, str]]:
    """Yield the operators of a path on PostgreSQL with what stands behind them.

    ``->`` is exact about its key: a text never counts in a list. But an int behind it finds a text or a
    number itself at 0, so ints go by ``#>``, together with the plain words around them.
    """
    run: list[Any] = []
    for key in [*keys, None]:
        if type(key) is int or (type(key) is str and _WORD.fullmatch(key)):
            run.append(key)
            continue
        if len(run) == 1 and isinstance(run[0], str):
            yield "->", f"'{run[0]}'"
        elif run:
            yield "#>", f"'{{{','.join(map(str, run))}}}'"
        run = []
        if key is not None:
            yield _step(compiler, key)


def _step(compiler: Compiler, key: Any) -> tuple[str, str]:
    if type(key) is str and _SIMPLE.fullmatch(key):
        return "->", "'" + key.replace("%", "%%") + "'"
    if kind_of(key).is_text:
        if is_value(key):
            return "->", compiler.parameter_of(key, Kind(str), key_text)
        return "->", enclosed(compiler.render(key), CONCATENATION + 1)
    if is_value(key):
        return "#>", f"ARRAY[{compiler.parameter_of(key, Kind(int), str)}]"
    return "#>", f"ARRAY[{enclosed(compiler.render(key), PRIMARY)}::text]"


def key_text(key: str) -> str:
    """Return *key* as it travels.

    Raises:
        ValueError: it has a NUL character.
    """
    if "\0" in key:
        raise ValueError(f"a key of JSON has no NUL character, and {key!r} has one")
    return str(key)


def _found_sqlite(compiler: Compiler, document: str, keys: list[Any], arrow: str) -> str:
    """Return the path by SQLite's own operator where that knows all keys, and by a function of ours elsewhere."""
    if compiler.dialect.has_json_arrow and all(map(_is_simple, keys)):
        return Sql(f"{document} {arrow} '${''.join(map(_native, keys))}'", CONCATENATION)
    shown: list[str] = []
    for key in keys:
        if _is_simple(key):
            shown.append(f"'{key}'" if isinstance(key, str) else str(key))
        elif is_value(key):
            shown.append(compiler.parameter_of(key, kind_of(key), key_text if kind_of(key).is_text else None))
        else:
            shown.append(compiler.render(key))
    return f"dbs_json({', '.join([document, *shown])})"


def _is_simple(key: Any) -> bool:
    return (type(key) is int and abs(key) < 2**31) or (type(key) is str and _SIMPLE.fullmatch(key) is not None)


def _native(key: Any) -> str:
    if isinstance(key, int):
        return f"[{key}]" if key >= 0 else f"[#{key}]"
    return f".{key}" if _WORD.fullmatch(key) else f'."{key}"'


def as_json(compiler: Compiler, node: Any) -> str:
    """Return JSON as an operand: NULL for JSON's null, on SQLite with the collation that compares values."""
    if is_value(node):
        return compiler.parameter_of(node, JSON)
    if not is_json(node):
        return _made_json(compiler, node)
    found = extracted(compiler, node)
    if is_item(node) and not found.startswith("dbs_json("):
        found = f"NULLIF({found}, 'null')"
    if compiler.dialect.name == "sqlite":
        if compiler.is_qualified and isinstance(
            node, Attribute | Path
        ):  # + keeps SQLite from looking for texts of equal length (see operands)
            found = Sql(f"+{found}", UNARY)
        return Sql(f"{enclosed(found, UNARY)}{COLLATED}", POSTFIX)
    return found


def _made_json(compiler: Compiler, node: Any) -> str:
    """Return a column or an expression of another kind as JSON.

    Raises:
        TypeError: JSON has no such values.
    """
    kind = kind_of(node)
    if kind.python not in (bool, int, float, str):
        raise TypeError(f"{node!r} is {kind.name}, which JSON has not; write str({node!r}) or float({node!r})")
    rendered = compiler.render(node, Kind(bool))
    if compiler.dialect.name == "postgresql":
        return f"to_jsonb({rendered})"
    if kind.is_bool:
        return f"CASE {rendered} WHEN 1 THEN 'true' WHEN 0 THEN 'false' END"
    return f"dbs_to_json({rendered})"
