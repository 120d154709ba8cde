"""What JSON, dates and times make of the operators of numbers, texts and conditions, and those that they alone have."""

from __future__ import annotations

from collections.abc import Mapping

from dbsession.query.operators import dates, json
from dbsession.query.operators.base import Case, Operator, with_cases

__all__ = ["overloaded"]


def overloaded(general: Mapping[str, Operator]) -> dict[str, Operator]:
    """Return the operators of *general*, each with its meanings for JSON and dates, and theirs."""
    tables = ((json.fits, json.overloads(general)), (dates.fits, dates.overloads(general)))
    chosen: dict[str, Operator] = {}
    for name in {**general, **tables[0][1], **tables[1][1]}:
        cases = [Case(fits, table[name]) for fits, table in tables if name in table]
        # what only one of them has refuses what it must by itself
        otherwise = general.get(name) or cases.pop().operator
        chosen[name] = with_cases(cases, otherwise)
    return chosen
