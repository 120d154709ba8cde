"""Rows of every type with NULLs, and what operators give on them held against what Python gives.

Python's None stands for NULL: where Python would raise TypeError because of one, the database gives NULL.
"""

from __future__ import annotations

import math
from decimal import Decimal

from dbsession import Optional, Required, Set, db_session
from dbsession.query.query import Query
from dbsession.query.selected import Selected

NAMES = ["i", "j", "small", "f", "g", "d", "e", "t", "u", "b", "c"]
ROWS = [
    (None, 3, None, None, 1.5, None, Decimal("2.5"), None, "x", None, True),
    (7, -2, 5, 2.5, -0.5, Decimal("10.50"), Decimal(-3), "hello", "ell", True, False),
    (-7, 2, -5, -7.25, 3.0, Decimal("-7.25"), Decimal(2), "  Ab\t\u2003", "A", False, True),
    (0, 5, 0, 0.0, 0.25, Decimal(0), Decimal("0.125"), "", "é", False, False),
    (100, 7, 99, 1e10, 2.0, Decimal("9.00"), Decimal(3), "abcabc", "bc", True, True),
    (2**62, 10**9, 1, 1e-9, 1e9, Decimal("0.01"), Decimal("99999999999999999999.5"), "İß\U0001f600ab", "ß", None, True),
]


def declare(db):
    """Return an entity with every row of ROWS; its optional attributes are NULL in the first one."""

    class Thing(db.Entity):
        i = Optional(int)
        j = Required(int)
        small = Optional(int, size=16)
        f = Optional(float)
        g = Required(float)
        d = Optional(Decimal, 12, 2)
        e = Required(Decimal, 30, 5)
        t = Optional(str, autostrip=False, nullable=True)
        u = Required(str)
        b = Optional(bool)
        c = Required(bool)
        owner = Optional("Thing", reverse="owned")
        owned = Set("Thing", reverse="owner")

    db.generate_mapping(create_tables=True)
    with db_session:
        things = [Thing(**dict(zip(NAMES, row, strict=True))) for row in ROWS]
        things[1].owner = things[2].owner = things[0]
        things[3].owner = things[3]
    return Thing


def results(Thing, node, values=()):
    """Return what the expression *node*, with the slots' *values*, gives for each thing, in the order of their ids."""
    selected = Selected.of(Thing._mapping_)
    selected = selected.replace(result=(selected.result, node))
    found = Query(selected, Thing.select()._runner, values).fetch()
    return [value for _, value in sorted(found, key=lambda row: row[0].id)]


def sql_of(Thing, node, values=()):
    """Return the SQL of the expression *node*."""
    selected = Selected.of(Thing._mapping_).replace(result=node)
    return Query(selected, Thing.select()._runner, values).get_sql()


def mismatches(Thing, cases):
    """Return where the database and Python differ. *cases*: name -> expression, function of a thing, values of slots."""
    found = []
    with db_session:
        things = Thing.select().order_by(Thing.id).fetch()
        for name, (node, python, *values) in cases.items():
            wanted = [evaluated(python, thing) for thing in things]
            got = results(Thing, node, tuple(values))
            found += [
                f"{name} of row {number}: {one!r}, and Python says {other!r}"
                for number, (one, other) in enumerate(zip(got, wanted, strict=True))
                if not same(one, other)
            ]
    return found


def evaluated(python, thing):
    """Return what *python* gives for *thing*, or None where a None is in its way."""
    try:
        return python(thing)
    except TypeError:
        return None


def same(one, other):
    """Tell whether two results have the same type and value; what was divided may differ in the last digits."""
    if type(one) is not type(other):
        return False
    if isinstance(one, float):
        return math.isclose(one, other, rel_tol=1e-12)
    if isinstance(one, Decimal):
        return abs(one - other) <= abs(other) * Decimal("1e-15")
    return one == other
