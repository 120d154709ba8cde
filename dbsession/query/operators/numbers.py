"""Arithmetic, as Python's numbers have it: / divides truly, // floors, % has the sign of the divisor.

Decimals stay exact, on SQLite by functions of ours; // and % of Decimals cut towards zero, as they do in
Python. round() rounds halves to even; to digits behind the point, PostgreSQL takes a float as the decimal
that it is written as (2.675, where Python goes by 2.67499...), and to a number of digits that is an
expression it rounds half away from zero. // of whole numbers is exact as long as the divisor has fewer
than 17 digits. Decimals do not mix with floats, and text not with numbers, as in Python.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from dbsession.model.attributes import ValueAttribute
from dbsession.model.expressions import Operation
from dbsession.query.kinds import UNKNOWN, Kind, is_condition, is_value, kind_of, value_of
from dbsession.query.operators.base import ADDITION, MULTIPLICATION, PRIMARY, UNARY, Operator, Sql, enclosed, nullable
from dbsession.query.operators.operands import alike, bare, collated, common_kind, converted

if TYPE_CHECKING:
    from dbsession.query.sql.compiler import Compiler

__all__ = ["OPERATORS", "check_numbers"]

_Render = Callable[["Compiler", tuple[Any, ...], Kind], str]


def check_numbers(operands: Sequence[Any], operator: str) -> Kind:
    """Return the kind that the numbers *operands* make together.

    Raises:
        TypeError: one is no number, or a Decimal meets a float.
    """
    kinds = [kind_of(operand) for operand in operands]
    for operand, kind in zip(operands, kinds, strict=True):
        if is_condition(operand):
            raise TypeError(f"{operand!r} is a condition, and no value: {operator} takes numbers; write int(...)")
        if not kind.is_number and (kind.python is not None or is_value(operand)):
            hint = "; str() makes text of a number" if any(other.is_text for other in kinds) else ""
            hint = "; int() makes a number of it" if kind.is_bool else hint
            raise TypeError(f"{operand!r} is no number: {operator} takes numbers{hint}")
    pythons = {kind.python for kind in kinds}
    if Decimal in pythons and float in pythons:
        raise TypeError(f"{operator} takes no Decimal together with a float, as in Python: make one of them the other")
    found = next((python for python in (Decimal, float) if python in pythons), int if pythons != {None} else None)
    return UNKNOWN if found is None else Kind(found, None, nullable(operands))


_CHOICES = frozenset({"coalesce", "if", "max2", "min2"})  # whose results are as wide as the widest operand


def _texts(compiler: Compiler, operands: Sequence[Any], kind: Kind) -> list[str]:
    """Return the SQL of *operands*, whose values travel as *kind* does.

    PostgreSQL adds two numbers of 16 bits to one of 16 bits, so one of them is made wider.
    """
    texts = [compiler.render(operand, kind) for operand in operands]
    if compiler.dialect.name == "postgresql" and kind.python is int:
        places = [place for place, operand in enumerate(operands) if not is_value(operand)]
        if places and all(_is_narrow(operands[place]) for place in places):
            texts[places[0]] = f"{enclosed(texts[places[0]], PRIMARY)}::bigint"
    return texts


def _is_narrow(node: Any) -> bool:
    """Tell whether the whole numbers of *node* have less than 64 bits on PostgreSQL."""
    if isinstance(node, Operation) and node.operator in _CHOICES:
        return all(is_value(operand) or _is_narrow(operand) for operand in node.operands[node.operator == "if" :])
    attribute = kind_of(node).attribute
    return isinstance(attribute, ValueAttribute) and (attribute.kind.value_type.size or 64) < 64


def _call(function: str, texts: Sequence[str], kind: Kind) -> str:
    """Return the call of a function of ours on SQLite."""
    call = f"{function}({', '.join(map(bare, texts))})"
    return collated(call) if kind.is_decimal else call


def _operator(name: str, render: _Render) -> Operator:
    """Return the operator *name* of numbers that are made alike."""

    def kind(operands: tuple[Any, ...]) -> Kind:
        return check_numbers(operands, name)

    return Operator(lambda compiler, operands: render(compiler, operands, kind(operands)), kind)


def _on_decimals(compiler: Compiler, kind: Kind) -> bool:
    return kind.is_decimal and compiler.dialect.name == "sqlite"


# --- + - * / ----------------------------------------------------------------------------------------------


def _arithmetic(operator: str, precedence: int, function: str) -> Operator:
    def render(compiler: Compiler, operands: tuple[Any, ...], kind: Kind) -> str:
        texts = _texts(compiler, operands, kind)
        if _on_decimals(compiler, kind):
            return _call(function, texts, kind)
        return _infix(texts, operator, precedence)

    return _operator(operator, render)


def _infix(texts: Sequence[str], operator: str, precedence: int) -> str:
    return Sql(f"{enclosed(texts[0], precedence)} {operator} {enclosed(texts[1], precedence + 1)}", precedence)


def _quotient_kind(operands: tuple[Any, ...]) -> Kind:
    kind = check_numbers(operands, "/")
    return kind if kind.is_decimal else kind._replace(python=float)


def _divide(compiler: Compiler, operands: tuple[Any, ...]) -> str:
    kind = _quotient_kind(operands)
    if kind.is_decimal:
        texts = _texts(compiler, operands, kind)
        if compiler.dialect.name == "sqlite":
            return _call("dbs_div", texts, kind)
        return _infix(texts, "/", MULTIPLICATION)
    texts = [
        converted(compiler, operand, float) if is_value(operand) else compiler.render(operand) for operand in operands
    ]
    if all(kind_of(operand).python is not float and not is_value(operand) for operand in operands):
        texts[0] = _as_float(compiler, texts[0])
    return _infix(texts, "/", MULTIPLICATION)


def _as_float(compiler: Compiler, text: str) -> str:
    if compiler.dialect.name == "sqlite":
        return f"CAST({text} AS REAL)"
    return f"{enclosed(text, PRIMARY)}::float8"


# --- // % ** ----------------------------------------------------------------------------------------------


def _floor_divide(compiler: Compiler, operands: tuple[Any, ...], kind: Kind) -> str:
    texts = _texts(compiler, operands, kind)
    if compiler.dialect.name == "sqlite":
        return _call("dbs_floordiv", texts, kind)
    if kind.is_decimal:
        return f"div({texts[0]}, {texts[1]})"
    if kind.python is int:  # SQL's own would cut towards zero
        texts[0] = f"{enclosed(texts[0], PRIMARY)}::numeric"
    return f"floor({_infix(texts, '/', MULTIPLICATION)})"


def _modulo(compiler: Compiler, operands: tuple[Any, ...], kind: Kind) -> str:
    texts = _texts(compiler, operands, kind)
    if compiler.dialect.name == "sqlite":
        return _call("dbs_mod", texts, kind)
    left, right = texts
    if kind.is_decimal:
        return f"mod({left}, {right})"
    if kind.python is int:  # SQL's own has the sign of the dividend
        return f"mod(mod({left}, {right}) + {enclosed(right, ADDITION + 1)}, {right})"
    whole = f"{enclosed(right, MULTIPLICATION)} * floor({_infix(texts, '/', MULTIPLICATION)})"
    return Sql(f"{enclosed(left, ADDITION)} - {whole}", ADDITION)


def _power_kind(operands: tuple[Any, ...]) -> Kind:
    kind = check_numbers(operands, "**")
    exponent = operands[1]
    if kind.python is not int or (is_value(exponent) and value_of(exponent) >= 0):
        return kind
    return kind._replace(python=float)  # the exponent may be negative


def _power(compiler: Compiler, operands: tuple[Any, ...]) -> str:
    kind = _power_kind(operands)
    base, exponent = operands
    is_whole = kind_of(exponent).python is int and is_value(exponent)
    texts = [
        compiler.render(base, kind),
        converted(compiler, exponent, _natural) if is_whole and kind.python is int else compiler.render(exponent, kind),
    ]
    if compiler.dialect.name == "sqlite":
        call = _call("dbs_pow", texts, kind)
        return f"CAST({call} AS REAL)" if kind.python is float else call
    if kind.python is int:
        return f"round(power({enclosed(texts[0], PRIMARY)}::numeric, {texts[1]}))"
    if kind.python is float:
        return f"power({_as_float(compiler, texts[0])}, {texts[1]})"
    return f"power({texts[0]}, {texts[1]})"


def _natural(exponent: int) -> int:
    if exponent < 0:
        raise ValueError(f"** {exponent}: a negative exponent makes a float; write 1.0 * (...) ** {exponent}")
    return exponent


# --- neg abs round ----------------------------------------------------------------------------------------


def _negate(compiler: Compiler, operands: tuple[Any, ...], kind: Kind) -> str:
    texts = _texts(compiler, operands, kind)
    if _on_decimals(compiler, kind):
        return _call("dbs_neg", texts, kind)
    return Sql(f"- {enclosed(texts[0], PRIMARY)}", UNARY)


def _absolute(compiler: Compiler, operands: tuple[Any, ...], kind: Kind) -> str:
    texts = _texts(compiler, operands, kind)
    return _call("dbs_abs", texts, kind) if _on_decimals(compiler, kind) else f"abs({texts[0]})"


def _round_kind(operands: tuple[Any, ...]) -> Kind:
    kind = check_numbers(operands[:1], "round()")
    if len(operands) > 1 and value_of(operands[1]) is not None:
        if kind_of(operands[1]).python is not int:
            raise TypeError(f"round() takes a whole number of digits, not {operands[1]!r}")
        return kind
    return kind if kind.python is None else kind._replace(python=int)


def _round(compiler: Compiler, operands: tuple[Any, ...]) -> str:
    kind = _round_kind(operands)
    number, *given = operands
    own = kind_of(number)
    digits = given[0] if given and value_of(given[0]) is not None else None
    text = compiler.render(number, own)
    if own.python is int and (digits is None or (isinstance(digits, int) and digits >= 0)):
        return text
    if compiler.dialect.name == "sqlite":
        places = [] if digits is None else [compiler.render(digits, Kind(int))]
        return _call("dbs_round_even", [text, *places], kind)
    if own.python is float and digits is None:
        return f"round({text})::bigint"
    if own.python in (Decimal, None):
        return _round_even(compiler, text, digits)
    rounded = _round_even(compiler, f"{enclosed(text, PRIMARY)}::numeric", digits)
    if own.python is float:
        return f"({rounded})::float8" if rounded.startswith("CASE") else f"{rounded}::float8"
    return f"trunc({rounded})"


def _round_even(compiler: Compiler, text: str, digits: Any) -> str:
    """Round on PostgreSQL, whose own round() takes halves away from zero: those above an even digit are cut."""
    if digits is None:
        return f"CASE WHEN abs(mod({text}, 2)) = 0.5 THEN trunc({text}) ELSE round({text}) END"
    places = compiler.render(digits, Kind(int))
    if not is_value(digits):
        return f"round({text}, {places}::int)"
    double = converted(compiler, digits, lambda places: Decimal(2).scaleb(-places))
    half = converted(compiler, digits, lambda places: Decimal(5).scaleb(-places - 1))
    is_even = f"abs(mod({text}, {double})) = {half}"
    return f"CASE WHEN {is_even} THEN trunc({text}, {places}) ELSE round({text}, {places}) END"


# --- the smallest and the largest of several --------------------------------------------------------------


def _extreme(name: str, postgresql: str, sqlite: str) -> Operator:
    def kind(operands: tuple[Any, ...]) -> Kind:
        for operand in operands:
            if value_of(operand) is None:
                raise TypeError(f"{name} takes values, and None is none; write coalesce(...) around what may be None")
        return common_kind(operands, name)._replace(nullable=nullable(operands))

    def render(compiler: Compiler, operands: tuple[Any, ...]) -> str:
        common = kind(operands)
        texts = alike(compiler, operands, 0)
        if compiler.dialect.name == "sqlite":
            call = f"{sqlite}({', '.join(texts)})"
            return collated(call) if common.is_decimal else call
        call = f"{postgresql}({', '.join(texts)})"
        # NULLs are left out by it, and not by Python
        present = [
            f"{enclosed(text, ADDITION)} IS NOT NULL"
            for text, operand in zip(texts, operands, strict=True)
            if kind_of(operand).nullable
        ]
        return f"CASE WHEN {' AND '.join(present)} THEN {call} END" if present else call

    return Operator(render, kind)


OPERATORS: dict[str, Operator] = {
    "+": _arithmetic("+", ADDITION, "dbs_add"),
    "-": _arithmetic("-", ADDITION, "dbs_sub"),
    "*": _arithmetic("*", MULTIPLICATION, "dbs_mul"),
    "/": Operator(_divide, _quotient_kind),
    "//": _operator("//", _floor_divide),
    "%": _operator("%", _modulo),
    "**": Operator(_power, _power_kind),
    "neg": _operator("-", _negate),
    "abs": _operator("abs()", _absolute),
    "round": Operator(_round, _round_kind),
    "min2": _extreme("min()", "least", "min"),
    "max2": _extreme("max()", "greatest", "max"),
}
