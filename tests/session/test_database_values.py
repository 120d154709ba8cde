"""Values that the database makes: SQL expressions, defaults, keys and triggers (scenarios 37 and 38)."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal

import pytest

from dbsession import (
    ConstraintError,
    Database,
    Json,
    OptimisticCheckError,
    Optional,
    PrimaryKey,
    Required,
    Set,
    commit,
    db_session,
    flush,
    rollback,
)
from tests.observing import elsewhere, rows, sent
from tests.recording import recorded, set_columns, verbs


class Bank:
    """Accounts, whose numbers are counted up in SQL."""

    def __init__(self, db: Database) -> None:
        class Account(db.Entity):
            name = Required(str, unique=True)
            hits = Required(int, default=0, min=0)
            spare = Optional(int)
            balance = Required(Decimal, 12, 2, default=0)
            level = Optional(float)
            data = Optional(Json)
            about = Optional(str, lazy=True)
            parent = Optional("Account", reverse="parts")
            parts = Set("Account", reverse="parent")

        db.generate_mapping(create_tables=True)
        self.db, self.Account, self.table = db, Account, Account._mapping_.table
        with db_session:
            Account(name="a", hits=1, spare=5, balance="0.10", about="first")
            Account(name="b", hits=2, balance="7.25")

    def column(self, name: str) -> list[object]:
        """Return what others see of one column."""
        return rows(self.db, f'SELECT {name} FROM "{self.table}" ORDER BY id')


@pytest.fixture
def bank(db):
    return Bank(db)


# --- 37: SQL expressions ---------------------------------------------------------------------------------


def test_an_expression_is_evaluated_by_the_database(bank):
    """37. ``n = n + 1`` counts up what the row holds by then, not what was loaded, and no SELECT is sent for it."""
    with db_session:
        account = bank.Account[1]
        elsewhere(db_session(lambda: setattr(bank.Account[1], "hits", 100)))
        account.hits = bank.Account.hits + 1
        with recorded() as statements:
            flush()
        assert verbs(statements) == ["UPDATE"] and set_columns(statements[-1]) == ["hits"]
        with sent(bank.db) as spent:
            assert account.hits == 101
            account.hits = 101
            flush()
        assert spent.statements == 0
    assert bank.column("hits") == [101, 2] and account.hits == 101


def test_an_expression_costs_no_trip(bank):
    """37. An expression is written, read back and committed in the round trips of a plain value."""
    with sent(bank.db) as plain, db_session:
        bank.Account[1].hits = 7
    with sent(bank.db) as spent, db_session:
        account = bank.Account[1]
        account.hits = bank.Account.hits * 2 - 1
    assert account.hits == 13
    assert (spent.statements, spent.round_trips) == (plain.statements, plain.round_trips)


def test_reading_the_value_of_an_expression_saves_it(bank):
    """37. Reading the attribute before the flush sends the UPDATE, since only the database knows the value."""
    with db_session:
        account, other = bank.Account[1], bank.Account[2]
        account.balance = bank.Account.balance + Decimal("0.20")
        other.hits = 50
        with recorded() as statements:
            assert account.balance == Decimal("0.30")
        assert verbs(statements) == ["UPDATE"]  # of this object alone
        rollback()
        assert account.balance == Decimal("0.10") and other.hits == 2


EXPRESSIONS = [
    ("hits", lambda A: A.hits + A.spare, 6),
    ("hits", lambda A: A.spare, 5),
    ("hits", lambda A: 10 - A.hits, 9),
    ("hits", lambda A: (A.hits + 1) * 3, 6),
    ("spare", lambda A: -A.spare, -5),
    ("balance", lambda A: A.balance * 3, Decimal("0.30")),
    ("balance", lambda A: A.balance - Decimal("0.30"), Decimal("-0.20")),
    ("level", lambda A: A.hits * 1.5, 1.5),
    ("name", lambda A: A.name.upper(), "A"),
    ("about", lambda A: A.name, "a"),
]


@pytest.mark.parametrize("name, make, wanted", EXPRESSIONS)
def test_expressions_of_every_kind(bank, name, make, wanted):
    """37. The object has the value that the row has, converted as on loading, before the commit and after it."""
    with db_session:
        account = bank.Account[1]
        setattr(account, name, make(bank.Account))
        flush()
        assert getattr(account, name) == wanted and type(getattr(account, name)) is type(wanted)
    with db_session:
        account = bank.Account[1]
        assert getattr(account, name) == wanted and type(getattr(account, name)) is type(wanted)


def test_an_expression_beside_plain_values(bank):
    """37. One UPDATE sets plain values and expressions of one object; other objects keep their own."""
    with db_session:
        first, second = bank.Account[1], bank.Account[2]
        first.spare = 6
        first.hits = bank.Account.hits + bank.Account.spare  # what the row holds before the UPDATE
        first.name = "z"
        second.hits = bank.Account.hits + 10
        second.spare = 1
        with recorded() as statements:
            flush()
        assert verbs(statements) == ["UPDATE", "UPDATE"]
        assert (first.hits, first.spare, first.name) == (6, 6, "z")
        assert (second.hits, second.spare, second.name) == (12, 1, "b")
    assert bank.column("hits") == [6, 12]


def test_an_expression_is_replaced_or_taken_back(bank):
    """37. A plain value in place of an expression is what is written; the loaded value takes the change back."""
    with db_session:
        account = bank.Account[1]
        for reads in (False, True):
            if reads:
                assert account.hits == 1
            account.hits = bank.Account.hits + 1
            account.hits = 1
            with sent(bank.db) as spent:
                flush()
                assert account.hits == 1
            assert spent.statements == 0
        account.hits = bank.Account.hits + 1
        account.hits = 40
        assert account.hits == 40
    assert bank.column("hits") == [40, 2]


@pytest.mark.parametrize("reads", [True, False])
def test_an_expression_is_rolled_back(bank, reads):
    """37. After a rollback the attribute has the value of the database, whether the expression was sent or not."""
    with db_session:
        account = bank.Account[1]
        for flushes in (False, True):
            if reads:
                assert account.hits == 1
            account.hits = bank.Account.hits + 1
            if flushes:
                flush()
            rollback()
            assert account.hits == 1
    assert bank.column("hits") == [1, 2]


def test_two_expressions_need_a_flush_between_them(bank):
    """37. An expression over an unsaved change is refused with the way out, and the change stays."""
    with db_session:
        account = bank.Account[1]
        account.hits = bank.Account.hits + 1
        with pytest.raises(ConstraintError, match=r"Account\[1\]\.hits.*flush\(\)"):
            account.hits = bank.Account.hits + 1
        account.spare = 9
        with pytest.raises(ConstraintError, match=r"Account\[1\]\.spare.*flush\(\)"):
            account.set(name="never", spare=bank.Account.spare + 1)
        flush()
        account.hits = bank.Account.hits + 1
        account.spare = bank.Account.spare + 1
        assert (account.hits, account.spare, account.name) == (3, 10, "a")


def test_where_an_expression_does_not_fit(bank):
    """37. New objects, keys, and references take values; an attribute of another entity is no expression here."""
    A = bank.Account
    with db_session:
        account = A[1]
        for refused in (
            lambda: A(name="n", hits=A.hits + 1),
            lambda: setattr(account, "id", A.id + 1),
            lambda: setattr(account, "parent", A.parent),
            lambda: setattr(A(name="new"), "hits", A.hits + 1),
        ):
            with pytest.raises(TypeError, match=r"Account\."):
                refused()
        with sent(bank.db) as spent:
            assert account.id == 1 and account.parent is None
        assert spent.statements == 0


def test_an_expression_and_the_rest_of_the_object(bank):
    """37. With an expression pending, other attributes are read, loaded and looked for as ever."""
    with db_session:
        account = bank.Account[1]
        account.hits = bank.Account.hits + 1
        assert account.name == "a" and account.about == "first"
        with db_session() as session, session.no_autoflush():
            assert bank.Account.select(name="a").get() is account
        assert bank.Account.select(hits=2).order_by(bank.Account.id).fetch() == [account, bank.Account[2]]
    assert bank.column("hits") == [2, 2]


@pytest.mark.parametrize("name, value", [("hits", 70), ("name", "zz")])
def test_an_expression_checks_what_was_read(bank, name, value):
    """37. What was read of the object is checked as in every UPDATE: the attribute itself, too."""
    with pytest.raises(OptimisticCheckError, match=rf"Account\[1\].*{name}"):
        with db_session:
            account = bank.Account[1]
            getattr(account, name)
            elsewhere(db_session(lambda: setattr(bank.Account[1], name, value)))
            account.hits = bank.Account.hits + 1


def test_an_expression_for_a_row_that_was_not_loaded(bank):
    """36, 37. An object of which only the key is known is counted up without being loaded."""
    with db_session:
        bank.Account[2].parent = bank.Account[1]
    with db_session:
        parent = bank.Account[2].parent
        with recorded() as statements:
            parent.hits = bank.Account.hits + 1
            flush()
            assert parent.hits == 2
        assert verbs(statements) == ["UPDATE"]
        assert parent.name == "a"


# --- 38: defaults and keys -------------------------------------------------------------------------------


class Registry:
    """Entities with values that the database makes."""

    def __init__(self, db: Database) -> None:
        class Person(db.Entity):
            name = Required(str)
            status = Optional(str, sql_default="'fresh'")
            points = Required(int, sql_default="41 + 1")
            made = Required(datetime, sql_default="CURRENT_TIMESTAMP")
            settings = Optional(Json, sql_default="'{\"a\": [1]}'")
            rate = Optional(Decimal, 5, 2, sql_default="1.5")

        class Tag(db.Entity):
            code = PrimaryKey(str)
            weight = Optional(int, sql_default="3")

        db.generate_mapping(create_tables=True)
        self.db, self.Person, self.Tag = db, Person, Tag


def test_defaults_and_keys_come_with_the_insert(db):
    """38. What the database makes of one new object, or of many, is there after the flush without a SELECT."""
    registry = Registry(db)
    for number in (1, 40):
        with db_session:
            with recorded() as statements:
                people = [registry.Person(name=f"{index}") for index in range(number)]
                tags = [registry.Tag(code=f"{number}-{index}") for index in range(number)]
                flush()
            assert set(verbs(statements)) <= {"INSERT", "WITH"}
            with sent(db) as spent:
                assert len({person.id for person in people}) == number
                for person in people:
                    assert (person.status, person.points, person.rate) == ("fresh", 42, Decimal("1.50"))
                    assert person.settings == {"a": [1]} and type(person.made) is datetime
                assert {tag.weight for tag in tags} == {3}
            assert spent.statements == 0
        assert people[-1].points == 42 and tags[-1].weight == 3  # the scope is over


def test_defaults_come_with_a_commit(db):
    """38. The values that the database makes are in the object after a scope that was never flushed by hand."""
    registry = Registry(db)
    with sent(db) as spent, db_session:
        person = registry.Person(name="x")
    assert spent.round_trips == (1 if db.backend.dialect.name == "postgresql" else spent.round_trips)
    assert (person.id, person.status, person.points, person.settings) == (1, "fresh", 42, {"a": [1]})
    with db_session:
        assert registry.Person[1].made == person.made


def test_before_the_flush_there_is_no_value(db):
    """38. Before the flush an attribute that the database is to make reads as None, and is not thereby given."""
    registry = Registry(db)
    with db_session:
        person = registry.Person(name="x")
        assert person.id is None and person.points is None and person.status is None
        person.points = 7
        flush()
        assert (person.id, person.points, person.status) == (1, 7, "fresh")
        person.points = 42
    assert rows(db, f'SELECT points, status FROM "{registry.Person._mapping_.table}"') == [(42, "fresh")]


def test_given_values_win_over_defaults(db):
    """38. What the program gives is written, and stays what the object has."""
    registry = Registry(db)
    with db_session:
        person = registry.Person(id=70, name="x", status="given", points=1, rate=Decimal(2), settings=None)
        flush()
        assert (person.id, person.status, person.points, person.rate) == (70, "given", 1, 2) and person.settings is None
        assert registry.Person[70] is person


def test_values_of_the_database_go_with_a_rollback(db):
    """38. A rollback takes back what the database has made, and leaves what the program gave."""
    registry = Registry(db)
    with db_session:
        person = registry.Person(name="x", status="given")
        flush()
        assert person.points == 42 and person.id == 1
        rollback()
        assert (person.name, person.status) == ("x", "given")
        assert "points" not in person.__dict__ and "id" not in person.__dict__


# --- 38: triggers ----------------------------------------------------------------------------------------


@pytest.fixture
def Doc(db):
    class Doc(db.Entity):
        title = Required(str)
        stamp = Optional(str, volatile=True)
        edits = Required(int, default=0, volatile=True)
        note = Optional(str)

    db.generate_mapping(create_tables=True)
    with db_session:
        if db.backend.dialect.name == "postgresql":
            db.execute(
                "CREATE FUNCTION touch() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
                "NEW.stamp := lower(TG_OP) || ' ' || NEW.title; NEW.edits := NEW.edits + 1; RETURN NEW; END $$"
            )
            db.execute("CREATE TRIGGER touch BEFORE INSERT OR UPDATE ON doc FOR EACH ROW EXECUTE FUNCTION touch()")
        else:
            for event in ("INSERT", "UPDATE OF title, note"):
                verb = event.split()[0]
                db.execute(
                    f'CREATE TRIGGER touch_{verb} AFTER {event} ON "Doc" BEGIN UPDATE "Doc" '
                    f"SET stamp = '{verb.lower()} ' || NEW.title, edits = NEW.edits + 1 WHERE id = NEW.id; END"
                )
    return Doc


def test_what_a_trigger_makes_of_a_new_row(db, Doc):
    """38. A volatile attribute has what a trigger made of it, given or not; PostgreSQL needs no SELECT for that."""
    with db_session:
        with recorded() as statements:
            docs = [Doc(title=f"t{index}") for index in range(3)]
            given = Doc(title="g", stamp="mine")
            flush()
            assert [doc.stamp for doc in docs] == ["insert t0", "insert t1", "insert t2"]
            assert given.stamp == "insert g" and {doc.edits for doc in (*docs, given)} == {1}
        last = Doc(title="last")
        if db.backend.dialect.name == "postgresql":
            assert "SELECT" not in verbs(statements)
    assert (last.stamp, last.edits, given.stamp) == ("insert last", 1, "insert g")  # the scope is over
    assert rows(db, "SELECT edits FROM doc") == [1] * 5


def test_what_a_trigger_makes_of_a_changed_row(db, Doc):
    """38. The same after an UPDATE, of one object or of several, and the next one does not fail for it."""
    with db_session:
        first, second = Doc(title="a"), Doc(title="b")
    with db_session:
        first, second = Doc[1], Doc[2]
        assert (first.stamp, first.edits) == ("insert a", 1)
        with recorded() as statements:
            first.title, second.title = "aa", "bb"
            flush()
            assert (first.stamp, second.stamp, first.edits) == ("update aa", "update bb", 2)
        if db.backend.dialect.name == "postgresql":
            assert "SELECT" not in verbs(statements)
        commit()
        first.note = "x"
        commit()
        assert (first.stamp, first.edits) == ("update aa", 3)
        first.note = "y"
    assert (first.stamp, first.edits) == ("update aa", 4)
    assert rows(db, "SELECT edits FROM doc ORDER BY id") == [4, 2]


def test_a_volatile_attribute_that_is_assigned(db, Doc):
    """38. A volatile attribute may be assigned; what the trigger made of it is what the object has after the flush."""
    with db_session:
        doc = Doc(title="a")
        flush()
        doc.edits = 10
        doc.stamp = "mine"
        doc.title = "c"
        flush()
        assert doc.stamp == "update c" and doc.edits == db.get("SELECT edits FROM doc") == 11
        rollback()
    with db_session:
        doc = Doc(title="z")
        assert doc.edits == 0 and doc.stamp is None
