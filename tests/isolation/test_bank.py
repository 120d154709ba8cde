"""A bank under load: money is neither made nor lost, and every transfer is done once or not at all.

Four threads move money between eight accounts, and one adds all accounts up, again and again. Each transfer
leaves a row with an id of its own in a ledger, so that the end shows what was done: exactly those transfers
that were reported done. Runs are short; ``DBSESSION_TEST_BANK_SECONDS=10`` makes them long.
"""

from __future__ import annotations

import os
import random
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID, uuid4

import pytest

from dbsession import (
    Database,
    DeadlockDetected,
    LockNotAvailable,
    OptimisticCheckError,
    PrimaryKey,
    Required,
    SerializationConflict,
    TransactionError,
    db_session,
)
from tests.conftest import SELECTED

SECONDS = float(os.environ.get("DBSESSION_TEST_BANK_SECONDS", "3"))
ACCOUNTS, WRITERS, EACH = 8, 4, 100
TOTAL = ACCOUNTS * EACH
RETRIES = 5  # few enough that some transfers are given up: they must not have happened
CONFLICTS = {OptimisticCheckError, SerializationConflict, DeadlockDetected, LockNotAvailable}

DATABASES = ["sqlite-file" if name == "sqlite" else name for name in SELECTED]


class NotEnough(Exception):
    """The account does not hold what is to be taken from it."""


@dataclass
class Report:
    """What the threads were told."""

    done: dict[UUID, tuple[int, int, int]] = field(default_factory=dict)
    refused: set[UUID] = field(default_factory=set)
    given_up: dict[UUID, TransactionError] = field(default_factory=dict)
    runs: int = 0
    reads: dict[str, int] = field(default_factory=dict)
    reads_given_up: int = 0


class Bank:
    """The entities, and what is done with them."""

    def __init__(self, db: Database, options: dict[str, Any]) -> None:
        self.db = db

        class Account(db.Entity):
            id = PrimaryKey(int)
            balance = Required(int)

        class Transfer(db.Entity):
            id = PrimaryKey(UUID)
            source = Required(int)
            target = Required(int)
            amount = Required(int)

        db.generate_mapping(create_tables=True)
        self.Account, self.Transfer = Account, Transfer
        self.report = Report()
        self._lock = threading.Lock()
        with db_session:
            for number in range(ACCOUNTS):
                Account(id=number, balance=EACH)

        @db_session(retry=RETRIES, **options)
        def transfer(id: UUID, source: int, target: int, amount: int) -> None:
            with self._lock:
                self.report.runs += 1
            giver, taker = Account[source], Account[target]
            if giver.balance < amount:
                raise NotEnough
            giver.balance -= amount
            taker.balance += amount
            Transfer(id=id, source=source, target=target, amount=amount)

        self.transfer = transfer

    def write(self, is_over: Callable[[], bool], seed: int) -> None:
        """Move money until it *is_over*, and keep what came of each transfer."""
        report, drawn = self.report, random.Random(seed)
        while not is_over():
            source, target = drawn.sample(range(ACCOUNTS), 2)
            id, amount = uuid4(), drawn.randint(1, EACH)
            try:
                self.transfer(id, source, target, amount)
            except NotEnough:
                report.refused.add(id)
            except TransactionError as error:
                report.given_up[id] = error
            else:
                report.done[id] = (source, target, amount)

    # --- reading --------------------------------------------------------------------------------

    def read(self, is_over: Callable[[], bool]) -> None:
        """Add all accounts up until it *is_over*: in one statement, and one by one on a snapshot."""
        report = self.report
        forms = (self._at_once, self._one_by_one, self._one_by_one_read_only)
        while not is_over():
            for form in forms:
                name = form.__name__
                try:
                    balances = form()
                except TransactionError:
                    report.reads_given_up += 1
                    continue
                assert sum(balances) == TOTAL, f"{name}: {balances}"
                assert min(balances) >= 0, f"{name}: {balances}"
                report.reads[name] = report.reads.get(name, 0) + 1

    @db_session
    def _at_once(self) -> list[int]:
        return [account.balance for account in self.Account.select()]

    @db_session(isolation="repeatable read", retry=RETRIES)
    def _one_by_one(self) -> list[int]:
        return [self.Account[number].balance for number in range(ACCOUNTS)]

    @db_session(isolation="repeatable read", read_only=True)
    def _one_by_one_read_only(self) -> list[int]:
        return [self.Account[number].balance for number in range(ACCOUNTS)]

    # --- the end --------------------------------------------------------------------------------

    def ledger(self) -> dict[UUID, tuple[int, int, int]]:
        """Return the transfers that the database has."""
        with db_session:
            return {row.id: (row.source, row.target, row.amount) for row in self.Transfer.select()}

    def balances(self) -> list[int]:
        """Return the balances by number."""
        with db_session:
            return [account.balance for account in self.Account.select().order_by(self.Account.id)]


def work(bank: Bank, seconds: float) -> None:
    """Let all threads work for *seconds*; what fails in one of them fails here."""
    end = time.monotonic() + seconds
    failed = threading.Event()

    def is_over() -> bool:
        return failed.is_set() or time.monotonic() > end

    def stopping(function: Callable[..., None], *args: Any) -> None:
        try:
            function(is_over, *args)
        except BaseException:
            failed.set()
            raise

    with ThreadPoolExecutor(WRITERS + 1) as pool:
        futures = [pool.submit(stopping, bank.write, number) for number in range(WRITERS)]
        futures.append(pool.submit(stopping, bank.read))
        for future in futures:
            future.result()


@pytest.mark.parametrize("options", [{"serializable": True}, {}], ids=["serializable", "optimistic"])
@pytest.mark.parametrize("db_url", DATABASES, indirect=True)
def test_the_bank(db: Database, options: dict[str, Any]) -> None:
    """63, 89, 97, 98, 104, 113. The total never changes, no balance is negative, and the ledger has what was reported done, once."""
    bank = Bank(db, options)
    work(bank, SECONDS)
    report = bank.report
    assert bank.ledger() == report.done  # so nothing of what was refused or given up is there
    expected = [EACH] * ACCOUNTS
    for source, target, amount in report.done.values():
        expected[source] -= amount
        expected[target] += amount
    assert bank.balances() == expected
    assert report.done and report.refused
    assert report.reads.keys() == {"_at_once", "_one_by_one", "_one_by_one_read_only"}
    assert {type(error) for error in report.given_up.values()} <= CONFLICTS
    if not (options and db.backend.dialect.name == "sqlite"):  # there, one scope is let in after the other
        assert report.runs > len(report.done) + len(report.refused), "nobody met anybody: this has tested nothing"
    print(
        f"{len(report.done)} done, {len(report.refused)} refused, {len(report.given_up)} given up "
        f"in {report.runs} runs; reads {report.reads}, {report.reads_given_up} given up"
    )
