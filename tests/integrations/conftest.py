"""Fixtures for the tests of test support: one entity, on every database."""

from __future__ import annotations

import pytest

from dbsession import Database, Required


@pytest.fixture
def Account(db: Database):
    """An entity with a unique name, whose table is there."""

    class Account(db.Entity):
        name = Required(str, unique=True)
        balance = Required(int, default=0)

    db.generate_mapping(create_tables=True)
    return Account
