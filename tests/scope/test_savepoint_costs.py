"""What inner scopes send: nothing of their own, until something could have to be undone."""

import re
from types import SimpleNamespace

import pytest

from dbsession import DatabaseError, Required, Set, TransactionIntegrityError, db_session, flush, savepoint
from tests.observing import rows, sent
from tests.recording import recorded


class Odd(Exception):
    pass


@pytest.fixture
def shop(db):
    class Item(db.Entity):
        name = Required(str, unique=True)
        price = Required(int, default=1)
        tags = Set("Tag")

    class Tag(db.Entity):
        items = Set(Item)

    db.generate_mapping(create_tables=True)
    with db_session:
        Item(name="one")
        Item(name="two")
        Tag()
    return SimpleNamespace(db=db, Item=Item, Tag=Tag, is_networked=db.backend.dialect.name == "postgresql")


FORMS = {"join": db_session, "savepoint": savepoint()}


@pytest.fixture(params=FORMS)
def scope(request):
    return FORMS[request.param]


_ABOUT_SAVEPOINTS = re.compile(r"(SAVEPOINT|RELEASE|ROLLBACK TO)(?: SAVEPOINT)? dbs_([0-9]+)")


def words(statements):
    """The statements in short: the first word, and for what concerns a savepoint the level."""
    found = [(_ABOUT_SAVEPOINTS.match(each.sql), each.sql.split()[0]) for each in statements]
    return [f"{match[1]} {match[2]}" if match else word for match, word in found]


def savepoints(statements):
    """What of *statements* concerns savepoints."""
    return [each.sql for each in statements if "SAVEPOINT" in each.sql]


@pytest.mark.parametrize("fails", [False, True])
@pytest.mark.parametrize("opens", [False, True])
def test_an_inner_scope_that_does_nothing_sends_nothing(shop, scope, opens, fails):
    """5. Entering and leaving, by an error too, is free: within a transaction or without, however deep."""
    with db_session:
        shop.Item.get(name="one")
        if opens:
            shop.Item(name="outer")
            flush()
        with sent(shop.db) as spent:
            try:
                with scope, scope, scope:
                    if fails:
                        raise Odd
            except Odd:
                assert fails
        assert (spent.statements, spent.connections) == (0, 0)
        with sent(shop.db) as spent:
            flush()
        assert spent.statements == 0


def test_a_scope_of_nothing_but_scopes_takes_no_connection(shop, scope):
    """1. No connection is taken by scopes that do nothing, whatever they ask for."""
    with sent(shop.db) as spent, db_session, scope, scope:
        pass
    assert (spent.statements, spent.connections) == (0, 0)


@pytest.mark.parametrize(("form", "trips"), [("join", 1), ("savepoint", 2)])
def test_one_insert_in_an_inner_scope(shop, form, trips):
    """5. An inner scope with one insert, then commit: one round trip if it joins, two if it has a savepoint."""
    with recorded() as statements, sent(shop.db) as spent, db_session, FORMS[form]:
        shop.Item(name="new")
    if form == "join":
        assert savepoints(statements) == []
    else:  # COMMIT releases it
        assert savepoints(statements) == ["SAVEPOINT dbs_1"]
    assert spent.transactions == (0 if form == "join" else 1)  # a single statement is a transaction of its own
    if shop.is_networked:
        assert spent.round_trips == trips
    assert "new" in rows(shop.db, "SELECT name FROM item")


def test_reads_outside_a_transaction_set_no_savepoint(shop, scope):
    """75. Reads in autocommit abort nothing, so an inner scope that only reads sends them alone."""
    with recorded() as statements, db_session, scope:
        assert shop.Item.select().count() == 2
        assert shop.Item.get(name="one").price == 1
    assert [each.sql.split()[0] for each in statements] == ["SELECT", "SELECT"]


def test_reads_within_a_transaction_set_one_where_they_could_abort_it(shop, scope):
    """75. Inside a transaction the first read of an inner scope carries the SAVEPOINT, except on SQLite."""
    with db_session:
        shop.Item(name="outer")
        flush()
        with scope, recorded() as statements, sent(shop.db) as spent:
            shop.Item.get(name="one")
            shop.Item.get(name="two")
        assert words(statements) == [*(["SAVEPOINT 1"] if shop.is_networked else []), "SELECT", "SELECT"]
        assert spent.round_trips == 2


@pytest.mark.parametrize("opens", [False, True])
def test_a_failed_read_is_the_inner_scopes(shop, scope, opens):
    """75. A read that fails in an inner scope takes neither the outer transaction nor what it had done."""
    wrong = "SELECT no_such_column FROM item"
    with db_session:
        one = shop.Item.get(name="one")
        if opens:
            one.price = 5
            flush()
        with pytest.raises(DatabaseError), scope:
            shop.db.select(wrong)
        assert shop.Item.get(name="two").price == 1
        one.price = 6
    assert rows(shop.db, "SELECT price FROM item ORDER BY name") == [6, 1]


def test_outer_and_inner_changes_share_a_batch(shop, scope):
    """78. BEGIN, what the outer scope has changed, SAVEPOINT, what the inner one has changed: one round trip."""
    with db_session:
        one, two = shop.Item.get(name="one"), shop.Item.get(name="two")
        one.price = 5
        with scope, recorded() as statements, sent(shop.db) as spent:
            two.price = 6
            flush()
        assert words(statements) == ["BEGIN", "UPDATE", "SAVEPOINT 1", "UPDATE"]
        if shop.is_networked:
            assert spent.round_trips == 1


def test_savepoints_of_several_levels_share_a_batch(shop, scope):
    """77. Three levels, each with a change: all savepoints are set in one flight, each before its own level's change."""
    with db_session:
        one, two = shop.Item.get(name="one"), shop.Item.get(name="two")
        with db_session:
            one.price = 2
            with db_session, scope, recorded() as statements, sent(shop.db) as spent:
                two.price = 3
                flush()
        assert words(statements) == ["BEGIN", "SAVEPOINT 1", "UPDATE", "SAVEPOINT 2", "SAVEPOINT 3", "UPDATE"]
        if shop.is_networked:
            assert spent.round_trips == 1


def test_rollback_to_travels_with_the_next_statement(shop, scope):
    """75. Undoing an inner scope costs no round trip: ROLLBACK TO goes with what is sent next."""
    with db_session:
        shop.Item(name="outer")
        flush()
        with recorded() as statements, sent(shop.db) as spent:
            with pytest.raises(Odd), scope:
                shop.Item(name="inner")
                flush()
                raise Odd
            assert words(statements) == ["SAVEPOINT 1", "INSERT"]
            assert shop.Item.get(name="inner") is None
        assert words(statements)[2:4] == ["ROLLBACK TO 1", "RELEASE 1"]
        assert len(statements) == 5
        if shop.is_networked:
            assert spent.round_trips == 2
    assert "inner" not in rows(shop.db, "SELECT name FROM item")


def test_rollback_to_travels_with_commit(shop, scope):
    """75. If nothing is sent after an inner scope that failed, ROLLBACK TO and COMMIT are one round trip."""
    with recorded() as statements:
        with db_session:
            shop.Item(name="outer")
            flush()
            with pytest.raises(Odd), scope:
                shop.Item(name="inner")
                flush()
                raise Odd
            with sent(shop.db) as spent:
                db_session.commit()
            if shop.is_networked:
                assert spent.round_trips == 1
    assert words(statements)[-2:] == ["ROLLBACK TO 1", "COMMIT"]
    names = rows(shop.db, "SELECT name FROM item")
    assert "outer" in names and "inner" not in names


def test_an_outer_failure_sends_one_rollback(shop, scope):
    """76. What is undone as a whole needs no ROLLBACK TO, however many inner scopes have failed before."""
    with recorded() as statements, pytest.raises(Odd), db_session:
        with pytest.raises(Odd), scope:
            shop.Item(name="inner")
            flush()
            raise Odd
        raise Odd
    assert words(statements)[-1] == "ROLLBACK"
    assert [each for each in words(statements) if each.startswith("ROLLBACK")] == ["ROLLBACK"]


def test_a_savepoint_is_released(shop, scope):
    """75. Scopes that ended well leave no savepoint behind: a hundred of them are never more than one deep."""
    with db_session, recorded() as statements:
        for number in range(100):
            with scope:
                shop.Item(name=f"number {number}")
                flush()
    assert savepoints(statements).count("SAVEPOINT dbs_1") == 100
    assert savepoints(statements).count("RELEASE SAVEPOINT dbs_1") == 99  # COMMIT does the last
    assert len(rows(shop.db, "SELECT name FROM item")) == 102


def test_inner_scopes_need_no_other_connection(shop, scope):
    """109. Joined and savepoint scopes work on the connection of the outermost one."""
    with sent(shop.db) as spent, db_session:
        shop.Item(name="outer")
        flush()
        with scope, scope:
            shop.Item(name="inner")
            flush()
            shop.Item.select().fetch()
    assert spent.connections <= 1 and spent.transactions == 1


def test_what_only_the_outer_scope_has_changed_is_no_reason_for_a_savepoint(shop):
    """78. A query in an inner scope sends the outer one's changes; the inner one has none, so no savepoint is set yet."""
    with db_session:
        one = shop.Item.get(name="one")
        one.price = 5
        with pytest.raises(Odd), db_session, recorded() as statements:
            assert shop.Item.select(price=5).count() == 1
            raise Odd
        assert [each for each in savepoints(statements) if not shop.is_networked] == []
        assert one.price == 5
    assert rows(shop.db, "SELECT price FROM item ORDER BY name") == [5, 1]


def test_statements_prepared_around_an_undone_scope(shop, scope):
    """75. Raw SQL, an inner scope that failed, and then the same statements again: the server knows them all."""
    with db_session:
        one, two, tag = shop.Item.get(name="one"), shop.Item.get(name="two"), shop.Tag[1]
        three = shop.Item(name="three")
        shop.db.execute("UPDATE item SET price = 1")
        one.tags.add(tag)
        flush()
        with pytest.raises(Odd), scope:
            one.price = 7
            flush()
            raise Odd
        assert shop.db.select("SELECT price FROM item WHERE name = 'one'") == [1]
        for item in (two, three):
            item.tags.add(tag)
            flush()
    assert rows(shop.db, 'SELECT count(*) FROM "item_tag"') == [3]


def test_a_refused_insert_takes_no_more_than_its_scope(shop):
    """80. In one flight: the outer scope's insert, SAVEPOINT, an insert that is refused. The first one is there."""
    with db_session:
        outer = shop.Item(name="outer")
        with sent(shop.db) as spent, pytest.raises(TransactionIntegrityError), savepoint():
            shop.Item(name="one")
        if shop.is_networked:
            assert spent.round_trips == 1
        assert outer.id is not None
        with sent(shop.db) as spent:
            assert shop.Item[outer.id] is outer
            flush()
        assert spent.statements == 0
    assert sorted(rows(shop.db, "SELECT name FROM item")) == ["one", "outer", "two"]
