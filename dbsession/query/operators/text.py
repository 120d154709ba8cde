"""Operators on text: every character stands for itself, and case counts.

Positions are Python's: negative ones count from the end, and open ends are the ends. A character
beyond the text is the empty text, where Python would raise IndexError. strip() takes away what Python
takes for white space. upper() and lower() know every alphabet, but PostgreSQL changes single characters
only (no SS of ß).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeGuard

from dbsession.query.kinds import Kind, is_value, kind_of, value_of
from dbsession.query.operators.base import (
    AND,
    COMPARISON,
    CONCATENATION,
    OR,
    Case,
    Operator,
    Sql,
    enclosed,
    joined,
    nullable,
)
from dbsession.query.operators.conversions import as_text, str_kind
from dbsession.query.operators.operands import converted
from dbsession.query.tree import Slot

if TYPE_CHECKING:
    from dbsession.query.sql.compiler import Compiler

__all__ = ["CASES", "OPERATORS"]

_TEXT = Kind(str)


def _check_text(node: Any, verb: str) -> Kind:
    kind = kind_of(node)
    if kind.is_text or (kind.python is None and not is_value(node)):
        return kind
    raise TypeError(f"{verb}() is for text, and {node!r:.60} is {_what(kind)}")


def _what(kind: Kind) -> str:
    return "None" if kind.python is None else kind.name


def _text(compiler: Compiler, node: Any, verb: str) -> str:
    """Render a text: an attribute, an expression or a value.

    Raises:
        TypeError: it is something else.
    """
    _check_text(node, verb)
    return compiler.render(node, _TEXT)


def _text_kind(verb: str) -> Callable[[tuple[Any, ...]], Kind]:
    def kind(operands: tuple[Any, ...]) -> Kind:
        return Kind(str, None, _check_text(operands[0], verb).nullable)

    return kind


# --- together ---------------------------------------------------------------------------------------------


def _concat(compiler: Compiler, operands: tuple[Any, ...]) -> str:
    parts = [enclosed(as_text(compiler, operand), CONCATENATION) for operand in operands]
    return joined("||", parts, CONCATENATION) if parts else "''"


def _concat_kind(operands: tuple[Any, ...]) -> Kind:
    kinds = [str_kind((operand,)) for operand in operands]
    return Kind(str, None, any(kind.nullable for kind in kinds))


def _both_text(kinds: tuple[Kind, ...]) -> bool:
    return all(kind.is_text for kind in kinds)


# --- other letters, fewer characters ----------------------------------------------------------------------


def _case(function: str) -> Operator:
    def render(compiler: Compiler, operands: tuple[Any, ...]) -> str:
        prefix = "dbs_" if compiler.dialect.name == "sqlite" else ""  # SQLite's own know ASCII only
        return f"{prefix}{function}({_text(compiler, operands[0], function)})"

    return Operator(render, _text_kind(function))


_SPACE = "".join([chr(code) for code in range(0x3001) if chr(code).isspace()])


def _strip(name: str, postgresql: str, sqlite: str) -> Operator:
    def render(compiler: Compiler, operands: tuple[Any, ...]) -> str:
        function = sqlite if compiler.dialect.name == "sqlite" else postgresql
        node, *given = operands
        chars = given[0] if given and value_of(given[0]) is not None else _SPACE
        return f"{function}({_text(compiler, node, name)}, {_text(compiler, chars, name)})"

    def kind(operands: tuple[Any, ...]) -> Kind:
        given = [operand for operand in operands if value_of(operand) is not None]
        for operand in (*operands[:1], *given):
            _check_text(operand, name)
        return Kind(str, None, nullable(given))

    return Operator(render, kind)


def _replace(compiler: Compiler, operands: tuple[Any, ...]) -> str:
    return f"replace({', '.join([_text(compiler, operand, 'replace') for operand in operands])})"


def _replace_kind(operands: tuple[Any, ...]) -> Kind:
    for operand in operands:
        _check_text(operand, "replace")
    return Kind(str, None, nullable(operands))


def _length(compiler: Compiler, operands: tuple[Any, ...]) -> str:
    _length_kind(operands)
    kind = kind_of(operands[0])
    function = "cardinality" if kind.python is list else "length"
    return f"{function}({compiler.render(operands[0])})"


def _length_kind(operands: tuple[Any, ...]) -> Kind:
    kind = kind_of(operands[0])
    if not kind.is_text and kind.python not in (bytes, list, None):
        raise TypeError(f"len() is for text, bytes and collections, and {operands[0]!r:.60} is {_what(kind)}")
    return Kind(int, None, kind.nullable)


# --- parts of a text --------------------------------------------------------------------------------------


def _matching(verb: str, postgresql: tuple[str, str], sqlite: tuple[str, str]) -> Operator:
    """Return what tells whether a text has another at a place.

    The patterns, {0} for the text and {1} for its part, are that it has and that it has not. The part may
    be a tuple, any of which will do.
    """

    def match(compiler: Compiler, whole: str, part: str, is_negated: bool) -> str:
        pattern = (sqlite if compiler.dialect.name == "sqlite" else postgresql)[is_negated]
        text = pattern.format(whole, part)
        return text if pattern.endswith(")") else Sql(text, COMPARISON)

    def render(compiler: Compiler, operands: tuple[Any, ...], is_negated: bool) -> str:
        whole = enclosed(_text(compiler, operands[0], verb), COMPARISON + 1)
        parts = [enclosed(part, COMPARISON + 1) for part in _parts(compiler, operands[1], verb)]
        matches = [match(compiler, whole, part, is_negated) for part in parts]
        if not matches:
            return Sql("1 = 1" if is_negated else "1 = 0", COMPARISON)
        return joined("AND", matches, AND) if is_negated else joined("OR", matches, OR)

    def kind(operands: tuple[Any, ...]) -> Kind:
        parts = value_of(operands[1])
        for operand in (operands[0], *(parts if isinstance(parts, tuple) else operands[1:])):
            _check_text(operand, verb)
        return Kind(bool, None, nullable(operands[:1] if isinstance(parts, tuple) else operands))

    return Operator(
        lambda compiler, operands: render(compiler, operands, False),
        kind,
        is_condition=True,
        negated=(lambda compiler, operands: render(compiler, operands, True)) if sqlite[1] else None,
    )


def _parts(compiler: Compiler, node: Any, verb: str) -> list[str]:
    parts = value_of(node)
    if not isinstance(parts, tuple):
        return [_text(compiler, node, verb)]
    for part in parts:
        _check_text(part, verb)
    if isinstance(node, Slot):
        return compiler.listed(node, list, len(parts))
    return [_text(compiler, part, verb) for part in parts]


# --- slices and characters --------------------------------------------------------------------------------


_LONGEST = 999_999_999  # SQLite takes 10**9 for no limit, and PostgreSQL holds 1 GB


def _check_position(node: Any, what: str) -> None:
    if value_of(node) is None:
        return
    if kind_of(node).python is not int:
        raise TypeError(f"{what} of a text takes ints, and {node!r:.60} is {_what(kind_of(node))}")


def _near(position: int) -> int:
    """Return a position that functions of text take, near *position*: no text is longer."""
    return max(min(position, _LONGEST), -_LONGEST)


def _int(compiler: Compiler, node: Any, change: Callable[[int], int] = _near) -> str:
    """Return a position for a function of text: a parameter, which *change* makes of the value, or an expression."""
    if is_value(node):
        return converted(compiler, node, lambda position: change(_near(position)))
    text = compiler.render(node)
    return text if compiler.dialect.name == "sqlite" else f"{enclosed(text, CONCATENATION + 10)}::int"


def _is_known(node: Any) -> TypeGuard[int]:
    """Tell whether the sign of a position is known before the query is sent."""
    return isinstance(node, int)


def _slice(compiler: Compiler, operands: tuple[Any, ...]) -> str:
    _slice_kind(operands)
    text = _text(compiler, operands[0], "a slice")
    bounds: list[Any] = [None if value_of(bound) is None else bound for bound in operands[1:]]
    start, stop = bounds
    if _is_known(start) and start == 0:
        start = None
    if start is None and stop is None:
        return text
    if _is_known(start) and start > 0 and _is_known(stop) and stop >= 0:
        return f"substr({text}, {_int(compiler, start + 1)}, {_int(compiler, max(stop - start, 0))})"
    if _is_known(start) and start > 0 and stop is None:
        return f"substr({text}, {_int(compiler, start + 1)})"
    write = _slice_sqlite if compiler.dialect.name == "sqlite" else _slice_postgresql
    return write(compiler, text, start, stop)


def _slice_sqlite(compiler: Compiler, text: str, start: Any, stop: Any) -> str:
    if start is None and _is_known(stop):
        if stop >= 0:
            return f"substr({text}, 1, {_int(compiler, stop)})"
        return f"substr({text}, 1, length({text}) - {_int(compiler, -stop)})"
    if stop is None and _is_known(start):
        return f"substr({text}, {_int(compiler, start)})"
    bounds = ["0" if start is None else _int(compiler, start), *([] if stop is None else [_int(compiler, stop)])]
    return f"dbs_slice({', '.join([text, *bounds])})"


def _slice_postgresql(compiler: Compiler, text: str, start: Any, stop: Any) -> str:
    if start is None:  # left() and right() take negative numbers as Python does, as all but so many
        return f"left({text}, {_int(compiler, stop)})"
    if stop is None and is_value(start):
        return f"right({text}, {_int(compiler, start, lambda position: -position or _LONGEST)})"
    if _is_known(start) and start < 0 and _is_known(stop) and stop < 0:
        return f"left(right({text}, {_int(compiler, -start)}), {_int(compiler, stop)})"
    shorter = text if stop is None else f"left({text}, {_int(compiler, stop)})"
    if _is_known(start) and start > 0:
        return f"substr({shorter}, {_int(compiler, start + 1)})"
    return f"substr({shorter}, {_offset(compiler, text, start)} + 1)"


def _offset(compiler: Compiler, text: str, start: Any) -> str:
    """Return how many characters stand before *start*, which may be negative."""
    if _is_known(start):
        return f"greatest(length({text}) - {_int(compiler, -start)}, 0)"
    if is_value(start):
        from_end = _int(compiler, start, lambda position: int(position < 0))
        return f"greatest(length({text}) * {from_end} + {_int(compiler, start)}, 0)"
    position = _int(compiler, start)
    return f"CASE WHEN {position} < 0 THEN greatest(length({text}) + {position}, 0) ELSE {position} END"


def _slice_kind(operands: tuple[Any, ...]) -> Kind:
    _check_text(operands[0], "a slice")
    for bound in operands[1:]:
        _check_position(bound, "a slice")
    return Kind(str, None, nullable([node for node in operands if value_of(node) is not None]))


def _character(compiler: Compiler, operands: tuple[Any, ...]) -> str:
    _character_kind(operands)
    node, index = operands
    text = _text(compiler, node, "[...]")
    if not is_value(index):
        place = _int(compiler, index)
        back = place if compiler.dialect.name == "sqlite" else f"length({text}) + {place} + 1"
        return f"substr({text}, CASE WHEN {place} < 0 THEN {back} ELSE {place} + 1 END, 1)"
    if compiler.dialect.name == "sqlite":
        return f"substr({text}, {_int(compiler, index, lambda place: place + (place >= 0))}, 1)"
    if not _is_known(index):
        from_end = _int(compiler, index, lambda place: int(place < 0))
        return f"substr({text}, length({text}) * {from_end} + {_int(compiler, index, lambda place: place + 1)}, 1)"
    if index >= 0:
        return f"substr({text}, {_int(compiler, index + 1)}, 1)"
    return f"right({text}, 1)" if index == -1 else f"substr({text}, length({text}) - {_int(compiler, -index - 1)}, 1)"


def _character_kind(operands: tuple[Any, ...]) -> Kind:
    node, index = operands
    if not kind_of(node).is_text:
        raise TypeError(f"{node!r:.60} is {_what(kind_of(node))}, and has no items")
    if value_of(index) is None:
        raise TypeError(f"{node!r:.60}[None]: a character has a number")
    _check_position(index, "an index")
    return Kind(str, None, nullable(operands))


# --- the table --------------------------------------------------------------------------------------------

OPERATORS: dict[str, Operator] = {
    "concat": Operator(_concat, _concat_kind),
    "lower": _case("lower"),
    "upper": _case("upper"),
    "strip": _strip("strip", "btrim", "trim"),
    "lstrip": _strip("lstrip", "ltrim", "ltrim"),
    "rstrip": _strip("rstrip", "rtrim", "rtrim"),
    "replace": Operator(_replace, _replace_kind),
    "len": Operator(_length, _length_kind),
    "startswith": _matching(
        "startswith",
        ("starts_with({0}, {1})", "NOT starts_with({0}, {1})"),
        ("substr({0}, 1, length({1})) = {1}", "substr({0}, 1, length({1})) <> {1}"),
    ),
    # SQLite: what starts before the text is shorter than the part, and so does not equal it
    "endswith": _matching(
        "endswith",
        ("right({0}, length({1})) = {1}", "right({0}, length({1})) <> {1}"),
        (
            "substr({0}, length({0}) - length({1}) + 1) = {1}",
            "substr({0}, length({0}) - length({1}) + 1) <> {1}",
        ),
    ),
    "contains": _matching(
        "contains",
        ("strpos({0}, {1}) > 0", "strpos({0}, {1}) = 0"),
        ("instr({0}, {1}) > 0", "instr({0}, {1}) = 0"),
    ),
    "slice": Operator(_slice, _slice_kind),
    "item": Operator(_character, _character_kind),
}

CASES: dict[str, Case] = {"+": Case(_both_text, Operator(_concat, _concat_kind))}
