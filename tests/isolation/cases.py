"""The anomalies: for each, transactions and the order of their steps.

The names are those of Adya, "Weak Consistency" (1999), and of Berenson and others, "A Critique of ANSI SQL
Isolation Levels" (1995); the schedules follow Kleppmann's Hermitage. What a transaction returns is what it has
seen or decided: it belongs to the outcome, as the rows do.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from dbsession import Database, PrimaryKey, Required, Set, db_session, flush

__all__ = ["CASES", "Case", "ChangedMind", "Run", "View", "World"]

Body = Callable[["View", Callable[[], None]], Any]


class ChangedMind(Exception):
    """What a transaction leaves its scope with to be rolled back."""


class World:
    """The entities in one database."""

    def __init__(self, db: Database) -> None:
        self.db = db

        class Account(db.Entity):
            id = PrimaryKey(int)
            balance = Required(int)

        class Booking(db.Entity):
            room = Required(int)
            guest = Required(str)

        class Name(db.Entity):
            text = PrimaryKey(str)
            taken_by = Required(str)

        class Team(db.Entity):
            id = PrimaryKey(int)
            members = Set("Member")

        class Member(db.Entity):
            name = PrimaryKey(str)
            team = Required(Team)

        db.generate_mapping(create_tables=True)
        self.Account, self.Booking, self.Name, self.Team, self.Member = Account, Booking, Name, Team, Member

    @db_session
    def reset(self) -> None:
        """Bring the rows back that each schedule begins with: accounts 1 and 2 with 10 and 20, and an empty team."""
        for table in ("member", "team", "name", "booking", "account"):
            self.db.execute(f"DELETE FROM {table}")
        self.db.execute("INSERT INTO account (id, balance) VALUES (1, 10), (2, 20)")
        self.db.execute("INSERT INTO team (id) VALUES (1)")

    @db_session
    def rows(self) -> tuple[Any, ...]:
        """Return what is committed; keys that the database makes are left out."""
        columns = {"account": "id, balance", "booking": "room, guest", "name": "text, taken_by"}
        columns |= {"team": "id, id", "member": "name, team"}
        return tuple(
            tuple(map(tuple, self.db.select(f"SELECT {names} FROM {table} ORDER BY {names}")))
            for table, names in columns.items()
        )


class View:
    """How a transaction reads: with locks, or without."""

    def __init__(self, world: World, *, locks: bool) -> None:
        self.world = world
        self._locks = locks

    def get(self, entity: Any, **key: Any) -> Any:
        """Return the object with *key*, or None."""
        return entity.get_for_update(**key) if self._locks else entity.get(**key)

    def select(self, entity: Any, *conditions: Any) -> Any:
        """Return the query."""
        query = entity.select(*conditions)
        return query.for_update() if self._locks else query

    def account(self, number: int) -> Any:
        """Return an account."""
        return self.get(self.world.Account, id=number)


@dataclass(frozen=True)
class Run:
    """What came of a schedule: the results of the transactions that have committed, and the rows."""

    results: Mapping[str, Any]
    rows: tuple[Any, ...]


@dataclass(frozen=True)
class Case:
    """One anomaly: the transactions A, B and C, and whose step comes after whose.

    *shows* tells whether a run has it. Without, a run has it if its results and rows are not those that its
    transactions have in any order, one after the other.
    """

    name: str
    story: str
    schedule: str
    works: tuple[Body, ...]
    shows: Callable[[Run], bool] | None = None

    @property
    def bodies(self) -> dict[str, Body]:
        """The transactions by their names in the schedule."""
        return dict(zip("ABC", self.works, strict=False))


Pause = Callable[[], None]


# --- writes ---------------------------------------------------------------------------------------------


def _write(first: int, second: int, value: int) -> Body:
    """Write *value* to two accounts, whatever they hold."""

    def body(view: View, pause: Pause) -> None:
        view.account(first).balance = value
        flush()
        pause()
        view.account(second).balance = value

    return body


def _write_then_fail(view: View, pause: Pause) -> None:
    view.account(1).balance = 99
    flush()
    pause()
    raise ChangedMind


def _write_twice(view: View, pause: Pause) -> None:
    account = view.account(1)
    account.balance = 99
    flush()
    pause()
    account.balance = 11


def _write_then_read(mine: int, other: int) -> Body:
    def body(view: View, pause: Pause) -> int:
        view.account(mine).balance = 99
        flush()
        pause()
        seen: int = view.account(other).balance
        return seen

    return body


def _add(number: int, amount: int) -> Body:
    """Add to an account what it holds when it is read."""

    def body(view: View, pause: Pause) -> int:
        account = view.account(number)
        seen: int = account.balance
        pause()
        account.balance = seen + amount
        flush()
        pause()
        return seen

    return body


def _add_in_sql(amount: int) -> Body:
    def body(view: View, pause: Pause) -> int:
        account = view.account(1)
        account.balance = view.world.Account.balance + amount
        flush()
        pause()
        made: int = account.balance
        return made

    return body


def _move(view: View, pause: Pause) -> None:
    view.account(1).balance -= 5
    view.account(2).balance += 5


# --- reads ----------------------------------------------------------------------------------------------


def _read_now_and_later(view: View, pause: Pause) -> tuple[int, int]:
    seen = view.account(1).balance
    pause()
    Account = view.world.Account
    return seen, len(view.select(Account, Account.balance == 99).fetch())


def _read(view: View, pause: Pause) -> int:
    seen: int = view.account(1).balance
    return seen


def _read_twice(view: View, pause: Pause) -> tuple[int, int]:
    seen = view.account(1).balance
    pause()
    Account = view.world.Account
    return seen, view.select(Account, Account.id == 1).first().balance


def _sum(view: View, pause: Pause) -> int:
    first: int = view.account(1).balance
    pause()
    return first + int(view.account(2).balance)


def _report(view: View, pause: Pause) -> tuple[int, int]:
    return view.account(1).balance, view.account(2).balance


# --- decisions ------------------------------------------------------------------------------------------


def _withdraw_if_enough(number: int) -> Body:
    """Take 10 from one account if both together keep 20."""

    def body(view: View, pause: Pause) -> bool:
        is_enough = view.account(1).balance + view.account(2).balance >= 30
        pause()
        if is_enough:
            view.account(number).balance -= 10
        return bool(is_enough)

    return body


def _withdraw_with_penalty(view: View, pause: Pause) -> None:
    first, second = view.account(1), view.account(2)
    penalty = 1 if first.balance + second.balance < 40 else 0
    pause()
    first.balance -= 40 + penalty


def _deposit(view: View, pause: Pause) -> None:
    view.account(2).balance += 20


# --- conditions -----------------------------------------------------------------------------------------


def _count_twice(view: View, pause: Pause) -> tuple[int, int]:
    Account = view.world.Account
    first = len(view.select(Account, Account.balance >= 30).fetch())
    pause()
    return first, len(view.select(Account, Account.balance >= 30).fetch())


def _insert(view: View, pause: Pause) -> None:
    view.world.Account(id=3, balance=30)


def _raise_all(view: View, pause: Pause) -> None:
    for account in view.select(view.world.Account):
        account.balance += 10
    flush()
    pause()


def _delete_where(*, bulk: bool) -> Body:
    def body(view: View, pause: Pause) -> int:
        Account = view.world.Account
        deleted: int = view.select(Account, Account.balance == 20).delete(bulk=bulk)
        return deleted

    return body


def _load_then_delete(view: View, pause: Pause) -> int:
    chosen = [account for account in view.select(view.world.Account) if account.balance == 20]
    pause()
    for account in chosen:
        account.delete()
    return len(chosen)


def _book_if_free(guest: str) -> Body:
    def body(view: View, pause: Pause) -> bool:
        Booking = view.world.Booking
        is_free = not view.select(Booking, Booking.room == 1).fetch()
        pause()
        if is_free:
            Booking(room=1, guest=guest)
        return is_free

    return body


# --- keys -----------------------------------------------------------------------------------------------


def _take_name(who: str) -> Body:
    def body(view: View, pause: Pause) -> str:
        Name = view.world.Name
        name = view.get(Name, text="x")
        pause()
        if name is None:
            name = Name(text="x", taken_by=who)
        return str(name.taken_by)

    return body


def _join(view: View, pause: Pause) -> bool:
    team = view.get(view.world.Team, id=1)
    pause()
    if team is not None:
        view.world.Member(name="Ann", team=team)
    return team is not None


def _dissolve(view: View, pause: Pause) -> None:
    view.get(view.world.Team, id=1).delete()
    flush()
    pause()


# --- the table ------------------------------------------------------------------------------------------

_ALL = (
    Case(
        "dirty write (G0)",
        "Two transactions write the same two rows. Each row must have its value from the same one.",
        "ABAB",
        (_write(1, 2, 1), _write(1, 2, 2)),
    ),
    Case(
        "aborted read (G1a)",
        "A value that is rolled back later is read.",
        "ABAB",
        (_write_then_fail, _read_now_and_later),
    ),
    Case(
        "intermediate read (G1b)",
        "A value that its own transaction overwrites before it commits is read.",
        "ABA",
        (_write_twice, _read),
    ),
    Case(
        "circular flow (G1c)",
        "Each of two transactions sees what the other one has written.",
        "ABAB",
        (_write_then_read(1, 2), _write_then_read(2, 1)),
        lambda run: run.results == {"A": 99, "B": 99},
    ),
    Case(
        "lost update (P4)",
        "Both read a number and write a larger one; the first has committed when the second writes.",
        "ABAAB",
        (_add(1, 1), _add(1, 2)),
    ),
    Case(
        "lost update, at once (P4)",
        "The same; the first has written, and not committed, when the second writes.",
        "ABABAB",
        (_add(1, 1), _add(1, 2)),
    ),
    Case(
        "increment in SQL",
        "Both write `account.balance = Account.balance + 1`, which reads the row when it writes it.",
        "ABAB",
        (_add_in_sql(1), _add_in_sql(2)),
    ),
    Case(
        "unrepeatable read (P2)",
        "A row is read twice, and another transaction changes it in between.",
        "ABA",
        (_read_twice, _move),
    ),
    Case(
        "read skew (G-single)",
        "Of two rows one is read before another transaction changes both, and the other one after.",
        "ABA",
        (_sum, _move),
    ),
    Case(
        "stale delete (G-single)",
        "Objects are chosen by what they were when they were loaded, and deleted after another transaction changed them.",
        "ABBA",
        (_load_then_delete, _raise_all),
    ),
    Case(
        "write skew (G2-item)",
        "Both read two rows, and each changes another one of them.",
        "ABAB",
        (_withdraw_if_enough(1), _withdraw_if_enough(2)),
    ),
    Case(
        "read-only anomaly",
        "A transaction that only reads sees an order of two others that their writes contradict.",
        "ABCA",
        (_withdraw_with_penalty, _deposit, _report),
    ),
    Case(
        "phantom read (PMP)",
        "The same condition is asked twice, and a row that fits it is inserted in between.",
        "ABA",
        (_count_twice, _insert),
    ),
    Case(
        "phantom, deleted by a condition (PMP)",
        "Objects are selected by a condition and deleted, while another transaction changes which ones fit.",
        "ABA",
        (_raise_all, _delete_where(bulk=False)),
    ),
    Case(
        "phantom, deleted in bulk (PMP)",
        "The same, with one DELETE: `delete(bulk=True)`.",
        "ABA",
        (_raise_all, _delete_where(bulk=True)),
    ),
    Case(
        "write skew by a condition (G2)",
        "Both find that no row fits a condition, and insert one that does.",
        "ABAB",
        (_book_if_free("Ann"), _book_if_free("Bob")),
    ),
    Case(
        "deadlock",
        "Two transactions write the same two rows in opposite orders.",
        "ABAB",
        (_write(1, 2, 1), _write(2, 1, 2)),
    ),
    Case(
        "check, then insert",
        "Both find that a key is free, and insert it.",
        "ABAB",
        (_take_name("Ann"), _take_name("Bob")),
    ),
    Case(
        "insert below a deleted parent",
        "A row is inserted that refers to one which another transaction deletes.",
        "ABAB",
        (_join, _dissolve),
    ),
)

CASES = {case.name: case for case in _ALL}
