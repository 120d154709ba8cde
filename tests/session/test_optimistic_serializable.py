"""Optimistic checks beyond a serializable transaction."""

from __future__ import annotations

import threading

import pytest

from dbsession import Database, OptimisticCheckError, PrimaryKey, Required, commit, db_session


def test_what_a_serializable_transaction_has_read_is_checked_in_the_next_one(db_url: str) -> None:
    """65. After the commit of a serializable transaction, what it read is checked by the next write."""
    databases = [Database(db_url), Database(db_url)]
    if db_url == "sqlite://":  # each Database has a memory of its own
        databases[1].close()
        databases[1] = databases[0]
    entities = []
    for db in dict.fromkeys(databases):

        class Account(db.Entity):  # type: ignore[name-defined, misc]
            id = PrimaryKey(int)
            balance = Required(int)

        db.generate_mapping(create_tables=True)
        entities.append(Account)
    here, there = entities[0], entities[-1]
    with db_session:
        here(id=1, balance=10)
    with (
        pytest.raises(OptimisticCheckError, match="balance: 10 was seen, 11 is there now"),
        db_session(serializable=True),
    ):
        account = here[1]
        seen = account.balance
        commit()
        _change_elsewhere(there)
        account.balance = seen + 5
    with db_session:
        assert here[1].balance == 11
    for db in dict.fromkeys(databases):
        db.close()


def _change_elsewhere(entity: type) -> None:
    def change() -> None:
        with db_session:
            entity[1].balance += 1  # type: ignore[index]

    thread = threading.Thread(target=change)
    thread.start()
    thread.join()
