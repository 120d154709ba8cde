"""The rows of the differential test: many NULLs, empty texts, zeros, negative numbers, duplicates, empty collections.

`fill` saves them through dbsession, `world` makes plain objects of them. Floats are halves and quarters, so that
sums of them are exact in whatever order they are made.
"""

from __future__ import annotations

from datetime import date, datetime, timedelta
from decimal import Decimal

from dbsession import db_session
from tests.differential.schema import TABLES, Level, attributes, key_of, lineage

ROWS = {
    "Company": [
        {"id": 1, "name": "Acme", "city": "Köln", "founded": date(1999, 12, 31), "rating": 4.5},
        {"id": 2, "name": "acme", "city": None, "founded": None, "rating": None},
        {"id": 3, "name": "Żabka", "city": "", "founded": date(2024, 2, 29), "rating": 0.0},
        {"id": 4, "name": "Empty", "city": "Köln", "founded": date(2000, 1, 1), "rating": -1.25},
    ],
    "Chief": [
        {
            "id": 1, "name": "Ann", "email": "ann@x.org", "age": 61, "points": 30, "score": 2.5,
            "balance": Decimal("1000.50"), "active": True, "born": date(1960, 2, 29), "seen": datetime(2026, 3, 1, 0, 0),
            "shift": timedelta(hours=8), "level": Level.HIGH,
            "data": {"n": 3, "s": "red", "deep": {"k": "a", "n": 7}, "tags": ["x", "y"], "flag": True},
            "company": 1, "bonus": 500, "car": "VW",
        },
        {
            "id": 2, "name": "Émile", "email": None, "age": None, "points": 0, "score": None, "balance": None,
            "active": None, "born": None, "seen": None, "shift": None, "level": None, "data": None, "company": None,
            "boss": 1, "bonus": None, "car": None,
        },
    ],
    "Manager": [
        {
            "id": 3, "name": "bob", "email": "", "age": 40, "points": -5, "score": 0.0, "balance": Decimal("0.00"),
            "active": False, "born": date(1999, 12, 31), "seen": datetime(2025, 12, 31, 23, 59, 59, 250000),
            "shift": timedelta(0), "level": Level.MID, "data": {}, "company": 1, "boss": 1, "bonus": -20,
        },
        {
            "id": 4, "name": "Bob", "email": " b@x.org ", "age": 40, "points": 30, "score": -1.5,
            "balance": Decimal("-12.25"), "active": True, "born": None, "seen": datetime(2026, 3, 1, 12, 30),
            "shift": timedelta(days=1, minutes=30), "level": Level.LOW,
            "data": {"n": 0, "s": "", "deep": {}, "tags": [], "flag": False}, "company": 2, "boss": 2, "bonus": 0,
        },
    ],
    "User": [
        {
            "id": 5, "name": "Zoë", "email": "zoe@x.org", "age": 0, "points": 7, "score": 2.5,
            "balance": Decimal("0.01"), "active": True, "born": date(2026, 1, 1), "seen": datetime(2026, 3, 1, 0, 0),
            "shift": timedelta(minutes=-90), "level": Level.LOW, "data": {"n": -2, "s": "red", "deep": {"k": None}},
            "company": 1, "boss": 3,
        },
        {
            "id": 6, "name": "Юля", "email": None, "age": 17, "points": 7, "score": 0.25, "balance": Decimal("99.90"),
            "active": False, "born": date(2008, 6, 15), "seen": None, "shift": timedelta(hours=8), "level": None,
            "data": {"n": None, "s": None, "deep": None, "tags": ["y"]}, "company": None, "boss": 3,
        },
        {
            "id": 7, "name": "a%b_c\\d'e\"f", "email": "%", "age": -1, "points": 100, "score": None,
            "balance": None, "active": None, "born": date(2000, 2, 29), "seen": datetime(1999, 12, 31, 23, 0),
            "shift": None, "level": Level.HIGH, "data": {"n": 3, "s": "it's"}, "company": 3, "boss": None,
        },
        {
            "id": 8, "name": "Ann", "email": "ann@x.org", "age": None, "points": 0, "score": -0.75,
            "balance": Decimal("1000.50"), "active": True, "born": None, "seen": datetime(2024, 2, 29, 6, 7, 8),
            "shift": timedelta(0), "level": Level.MID, "data": None, "company": 3, "boss": 4,
        },
        {
            "id": 9, "name": "x", "email": "_", "age": 17, "points": -30000, "score": 12.0,
            "balance": Decimal("-0.50"), "active": False, "born": date(1970, 1, 1), "seen": datetime(1970, 1, 1),
            "shift": timedelta(days=-2), "level": Level.LOW, "data": {"deep": {"n": 1, "k": "b"}, "tags": ["x", "x"]},
            "company": None, "boss": None,
        },
    ],
    "Category": [
        {"id": 1, "name": "all"},
        {"id": 2, "name": "food", "parent": 1},
        {"id": 3, "name": "fruit", "parent": 2},
        {"id": 4, "name": "tools", "parent": 1},
        {"id": 5, "name": "self", "parent": 5},
        {"id": 6, "name": "fruit"},
    ],
    "Tag": [{"word": "new"}, {"word": "Old"}, {"word": "sälé"}, {"word": "50%"}, {"word": "unused"}],
    "Product": [
        {"id": 1, "name": "Apple", "price": Decimal("1.20"), "stock": 100, "category": 3, "tags": ["new", "50%"]},
        {"id": 2, "name": "pear", "price": Decimal("1.20"), "stock": 0, "category": 3, "tags": ["new"]},
        {"id": 3, "name": "Hammer", "price": Decimal("19.99"), "stock": None, "category": 4, "tags": ["Old", "sälé"]},
        {"id": 4, "name": "Thing", "price": Decimal("0.00"), "stock": -3, "category": None, "tags": []},
        {"id": 5, "name": "thing", "price": Decimal("250.00"), "stock": 7, "category": 5, "tags": ["Old"]},
        {"id": 6, "name": "Apple", "price": Decimal("3.40"), "stock": 7, "category": 2, "tags": ["new", "Old", "50%"]},
    ],
    "Order": [
        {
            "id": 1, "quantity": 1, "total": Decimal("21.19"), "weight": 1.5, "placed": datetime(2026, 2, 28, 8, 0),
            "due": date(2026, 3, 1), "status": "open", "paid": False, "user": 1, "approver": 3, "products": [1, 3],
        },
        {
            "id": 2, "quantity": 0, "total": None, "weight": None, "placed": None, "due": None, "status": None,
            "paid": False, "user": 1, "approver": None, "products": [],
        },
        {
            "id": 3, "quantity": 12, "total": Decimal("0.00"), "weight": 0.0, "placed": datetime(2024, 2, 29, 6, 7, 8),
            "due": date(2024, 2, 29), "status": "", "paid": True, "user": 3, "approver": 1, "products": [4, 5],
        },
        {
            "id": 4, "quantity": 3, "total": Decimal("250.00"), "weight": 40.25, "placed": datetime(2026, 3, 1, 0, 0),
            "due": None, "status": "Open", "paid": True, "user": 5, "approver": 1, "products": [5, 1, 2],
        },
        {
            "id": 5, "quantity": 3, "total": Decimal("-5.00"), "weight": 1.5, "placed": datetime(2025, 12, 31, 23, 59),
            "due": date(2026, 1, 1), "status": "lost", "paid": False, "user": None, "approver": 2, "products": [6],
        },
        {
            "id": 6, "quantity": -2, "total": Decimal("21.19"), "weight": None, "placed": None,
            "due": date(2026, 3, 1), "status": "open", "paid": True, "user": None, "approver": None,
            "products": [1, 6],
        },
        {
            "id": 7, "quantity": 1, "total": None, "weight": 0.25, "placed": datetime(2026, 3, 1, 12, 30),
            "due": date(1999, 12, 31), "status": "ödland", "paid": False, "user": 8, "approver": 4, "products": [3],
        },
    ],
    "Seat": [
        {"hall": "A", "number": 1, "price": Decimal("10.00")},
        {"hall": "A", "number": 2, "price": None},
        {"hall": "B", "number": 1, "price": Decimal("0.00")},
        {"hall": "ü", "number": -1, "price": Decimal("10.00")},
    ],
    "Booking": [
        {"id": 1, "seat": ("A", 1), "user": 1, "day": date(2026, 3, 1), "note": "window"},
        {"id": 2, "seat": ("A", 1), "user": 5, "day": date(2026, 3, 2), "note": None},
        {"id": 3, "seat": ("B", 1), "user": 1, "day": None, "note": ""},
        {"id": 4, "seat": None, "user": 8, "day": date(2026, 3, 1), "note": " two  words "},
        {"id": 5, "seat": ("B", 1), "user": 9, "day": date(2024, 2, 29), "note": "window"},
    ],
}  # fmt: skip


def identity(entity, row):
    """Return what tells the object of *row* from all others: the root of its entity, and its key."""
    return lineage(entity)[-1], tuple(row[name] for name in key_of(entity))


def identity_of(entity, key):
    """Return the identity of the object of *entity* with *key*."""
    return lineage(entity)[-1], key if isinstance(key, tuple) else (key,)


def fill(entities):
    """Save the rows."""
    made = {}
    with db_session:
        for entity, rows in ROWS.items():
            for row in rows:
                given = {name: value for name, value in row.items() if name in attributes(entity, "values")}
                for name, target in attributes(entity, "references").items():
                    if row.get(name) is not None and identity_of(target, row[name]) in made:
                        given[name] = made[identity_of(target, row[name])]
                made[identity(entity, row)] = obj = getattr(entities, entity)(**given)
                for name, target in attributes(entity, "references").items():
                    if row.get(name) is not None and name not in given:  # to itself
                        setattr(obj, name, made[identity_of(target, row[name])])
                for name, (target, _) in attributes(entity, "collections").items():
                    getattr(obj, name).add([made[identity_of(target, key)] for key in row.get(name, ())])


# --- the same as plain objects --------------------------------------------------------------------------


class Row:
    """A plain object: its `entity`, its `key`, and its attributes, references and collections included."""

    def __init__(self, entity, key, values):
        self.entity = entity
        self.key = key
        self.__dict__.update(values)

    def __repr__(self):
        return f"{self.entity}[{', '.join(map(repr, self.key))}]"


def world():
    """Return the rows as plain objects that refer to each other: a list for each entity, its subclasses' objects included."""
    made, found = {}, {entity: [] for entity in TABLES}
    for entity, rows in ROWS.items():
        for row in rows:
            values = {name: row.get(name) for name in attributes(entity, "values")}
            collections = {name: [] for name in attributes(entity, "collections")}
            made[identity(entity, row)] = new = Row(entity, identity(entity, row)[1], values | collections)
            for table in lineage(entity):
                found[table].append(new)
    for entity, rows in ROWS.items():
        for row in rows:
            obj = made[identity(entity, row)]
            for name, target in attributes(entity, "references").items():
                other = made[identity_of(target, row[name])] if row.get(name) is not None else None
                setattr(obj, name, other)
                for back, (items, way) in attributes(target, "collections").items():
                    if (way, other is None) == (name, False) and items in lineage(entity):
                        getattr(other, back).append(obj)
            for name, (target, way) in attributes(entity, "collections").items():
                for key in row.get(name, ()):
                    other = made[identity_of(target, key)]
                    getattr(obj, name).append(other)
                    getattr(other, way).append(obj)
    return found
