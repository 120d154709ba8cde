"""Objects from SQL of the user's own: ``User.select_by_sql("SELECT ...")``.

The columns of the result are taken by their names. What it leaves out is not loaded, so that such an object is
completed together with all of its like when something of that is needed.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from dbsession.backends.flow import Flow
from dbsession.backends.statements import Kind, Row, Statement
from dbsession.errors import ProgrammingError
from dbsession.model.attributes import ValueAttribute
from dbsession.model.mapping import Column, Mapping
from dbsession.model.registration import suggest
from dbsession.session.loading import materialize
from dbsession.session.raw_sql import counts_as_write, send_raw, without_quoted

if TYPE_CHECKING:
    from dbsession.session.unit_of_work import UnitOfWork

__all__ = ["select_by_sql"]

_DOLLAR_NAME = re.compile(r"(?<![\w$])\$([A-Za-z_]\w*)(?![\w$])")


def select_by_sql(unit: UnitOfWork, mapping: Mapping, sql: str, params: Any) -> Flow[list[Any]]:
    """Send *sql* and return the objects of its rows; deleted ones are left out.

    Raises:
        ProgrammingError: the SQL is refused, or its columns are not those of *mapping*.
    """
    writes = counts_as_write(sql)
    if dollar := _DOLLAR_NAME.search(without_quoted(sql)):
        raise ProgrammingError(
            f"{dollar[0]} is no parameter here, and takes no variable of the caller's: write %({dollar[1]})s, and give "
            f'params={{"{dollar[1]}": {dollar[1]}}}'
        )
    text, values = unit.dialect.raw(sql, params)
    result = yield from send_raw(unit, Statement(text, values, Kind.RAW, returns=True), writes=writes)
    source = _source(mapping, result.columns)
    rows = _with_sound_keys(mapping, result.rows, source)
    _require_members(mapping, rows, source)
    found = materialize(unit, mapping, rows, source)
    there = {column.name for column in source}
    if any(column.name not in there for column in mapping.wide):
        for obj in found:
            if obj._state_.is_persistent and obj._mapping_.is_hollow(obj._row_):
                unit.identity.hollow_of(mapping)[obj._key_] = obj
    return found


def _source(mapping: Mapping, names: tuple[str, ...]) -> tuple[Column, ...]:
    """Return the columns of *mapping*, and of its subclasses, that the result has under *names*."""
    known: dict[str, Column] = {}
    for member in mapping.family():
        for column in member.columns:
            known.setdefault(column.name, column)
    folded: dict[str, list[str]] = {}
    for name in known:
        folded.setdefault(name.casefold(), []).append(name)
    found: list[str] = []
    for name in names:
        alike = [name] if name in known else folded.get(name.casefold(), [])
        if len(alike) != 1:
            raise ProgrammingError(
                f"the result has a column {name!r}, and {mapping.name} has none of that name"
                f"{suggest(name, known)}; give it the name of one with AS, or leave it out"
            )
        found += alike
    twice = next((name for place, name in enumerate(found) if name in found[:place]), None)
    if twice is not None:
        raise ProgrammingError(
            f"the result has two columns {twice!r}, and which of them is that of {mapping.name} is not clear; leave "
            f"one out, or select {mapping.quoted}.* only"
        )
    needed = [column.name for column in mapping.key_columns]
    kind = mapping.root.discriminator
    if kind is not None:  # the rows may be of other entities of the hierarchy
        needed += [column.name for column in kind.columns]
    missing = [name for name in needed if name not in found]
    if missing:
        what = "the key of" if not set(missing) - {column.name for column in mapping.key_columns} else "what makes"
        raise ProgrammingError(
            f"the result lacks {', '.join(missing)}: {what} {mapping.name}, by which its objects are known, has to be "
            f"in it; it has {', '.join(names) or 'no columns'}"
        )
    return tuple([known[name] for name in found])


def _with_sound_keys(mapping: Mapping, rows: list[Row], source: tuple[Column, ...]) -> list[Row]:
    """Return *rows* with keys of the type that rows of the table have, so that one row has one object.

    Raises:
        ProgrammingError: a key is NULL, or cannot be one.
    """
    names = {column.name for column in mapping.key_columns}
    places = [(place, column) for place, column in enumerate(source) if column.name in names]
    for number, row in enumerate(rows):
        for place, column in places:
            sound = _sound(mapping, column, row[place], number + 1)
            if sound is not row[place]:
                row = (*row[:place], sound, *row[place + 1 :])  # noqa: PLW2901
        if row is not rows[number]:
            rows[number] = row
    return rows


def _sound(mapping: Mapping, column: Column, raw: Any, number: int) -> Any:
    last = column
    while last.references is not None:
        last = last.references
    attribute = last.attribute
    assert isinstance(attribute, ValueAttribute)
    if raw is None:
        raise ProgrammingError(
            f"row {number} of the result has no {column.name}, which is of the key of {mapping.name}: leave such rows "
            f"out, with an inner join for instance"
        )
    try:
        value = attribute.raw(attribute.kind.coerce(raw if attribute.decode is None else attribute.decode(raw)))
    except (TypeError, ValueError, ArithmeticError) as error:
        raise ProgrammingError(
            f"row {number} of the result has {raw!r:.60} as {column.name}, which no {mapping.name} has as its key: "
            f"it {error}"
        ) from None
    return raw if type(value) is type(raw) else value


def _require_members(mapping: Mapping, rows: list[Row], source: tuple[Column, ...]) -> None:
    """Raise `ProgrammingError` if a row is of another entity of the hierarchy."""
    kind = mapping.root.discriminator
    if kind is None or mapping.root is mapping:
        return
    assert isinstance(kind, ValueAttribute)
    place = next(place for place, column in enumerate(source) if column.name == kind.columns[0].name)
    members = set(mapping.family())
    for number, row in enumerate(rows):
        value = row[place] if kind.decode is None or row[place] is None else kind.decode(row[place])
        member = mapping.root.by_discriminator.get(value)
        if member not in members:
            raise ProgrammingError(
                f"row {number + 1} of the result is no {mapping.name}: its {kind.columns[0].name} is {value!r}; leave "
                f"such rows out, or use {mapping.root.name}.select_by_sql()"
            )
