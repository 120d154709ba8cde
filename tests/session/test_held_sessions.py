"""Sessions that somebody holds: `Session(db)` without `with`, and `sessionmaker`."""

import gc
import warnings

import pytest

from dbsession import (
    CacheIndexError,
    Database,
    DatabaseSessionIsOver,
    InvalidRequestError,
    LockNotAvailable,
    NestedScopeError,
    NoScopeError,
    PoolTimeout,
    Required,
    ScopeOwnershipError,
    Session,
    SessionDoomed,
    Set,
    TransactionIntegrityError,
    db_session,
    sessionmaker,
)
from tests.counting import counted
from tests.observing import elsewhere, rows
from tests.session.shop import make_shop


@pytest.fixture
def shop(db):
    return make_shop(db)


@pytest.fixture
def session(db):
    """An open session; closed at the end, whatever it has been left with."""
    session = Session(db)
    yield session
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        session.close()


def names(db):
    return sorted(rows(db, "SELECT name FROM customer"))


# --- its life -------------------------------------------------------------------------------------------


def test_making_one_sends_nothing(db):
    """1. A session that is made and closed has taken no connection and sent nothing."""
    with counted(db) as sent:
        Session(db).close()
    assert (sent.statements, sent.round_trips) == (0, 0)


def test_add_commit_close(shop):
    """What is added is saved by commit(), and readable behind close()."""
    session = Session(shop.db)
    cid = shop.Customer(name="c")
    session.add(cid)
    with counted(shop.db) as sent:
        session.commit()
    assert sent.round_trips == 1
    session.close()
    assert (cid.id, cid.name, cid.status) == (3, "c", "fresh")
    assert names(shop.db) == ["a", "b", "c"]


def test_rollback_leaves_it_usable(shop, session):
    """71. What was added is transient again after a rollback, and the session goes on."""
    cid = shop.Customer(name="c")
    session.add(cid)
    session.flush()
    session.rollback()
    assert cid not in session
    session.add(shop.Customer(name="d"))
    session.commit()
    assert names(shop.db) == ["a", "b", "d"]


def test_a_rolled_back_object_can_be_added_again(shop, session):
    """67. What a rollback has made transient keeps its given values, and can be added once more."""
    cid = shop.Customer(name="c", count=7)
    session.add(cid)
    session.flush()
    session.rollback()
    assert (cid.id, cid.count) == (None, 7)
    session.add(cid)
    session.commit()
    assert rows(shop.db, "SELECT count FROM customer WHERE name = 'c'") == [7]


def test_a_failed_commit_dooms_it_until_rollback(shop, session):
    """84. After a refused flush nothing but rollback() works; then the session does."""
    session.add(shop.Customer(name="a"))
    with pytest.raises(TransactionIntegrityError):
        session.commit()
    with pytest.raises(SessionDoomed, match="TransactionIntegrityError"):
        session.commit()
    session.rollback()
    session.add(shop.Customer(name="c"))
    session.commit()
    assert names(shop.db) == ["a", "b", "c"]


def test_close_warns_of_what_it_loses(shop):
    """close() with unsaved changes rolls back, and the warning names them."""
    session = Session(shop.db)
    session.add(shop.Customer(name="c"))
    session.get(shop.Customer, 1).name = "other"
    session.delete(session.get(shop.Customer, 2))
    with pytest.warns(RuntimeWarning, match=r"Customer\[new\].*Customer\[1\].*Customer\[2\]"):
        session.close()
    assert names(shop.db) == ["a", "b"]
    session.close()  # does nothing


def test_close_warns_of_flushed_changes_too(shop):
    """close() behind flush() loses what was flushed, and says so."""
    session = Session(shop.db)
    session.add(shop.Customer(name="c"))
    session.flush()
    with pytest.warns(RuntimeWarning, match="executed or flushed since the last commit"):
        session.close()
    assert names(shop.db) == ["a", "b"]


def test_a_closed_session_does_nothing_more(shop):
    """Every verb of a closed session says that it is over; objects keep what was loaded."""
    session = Session(shop.db)
    ann = session.get(shop.Customer, 1)
    query = session.query(shop.Customer)
    session.close()
    assert ann.name == "a"
    for verb in (
        session.commit,
        session.rollback,
        session.flush,
        session.begin_nested,
        query.first,
        session.expire_all,
    ):
        with pytest.raises(DatabaseSessionIsOver):
            verb()
    with pytest.raises(DatabaseSessionIsOver):
        session.get(shop.Customer, 2)
    with pytest.raises(DatabaseSessionIsOver):
        session.add(ann)
    with pytest.raises(DatabaseSessionIsOver, match="bio"):
        _ = ann.bio
    with pytest.raises(DatabaseSessionIsOver):
        session.__enter__()


def test_the_connection_goes_back_with_each_commit(postgres_url):
    """9. Behind commit() and rollback() an open session holds no connection, which others may need."""
    db = Database(postgres_url, max_size=1, min_size=0, timeout=0.3)
    shop = make_shop(db)
    first, second = Session(db), Session(db)
    first.get(shop.Customer, 1).name = "one"
    with pytest.raises(PoolTimeout):
        second.get(shop.Customer, 1)
    first.commit()
    second.get(shop.Customer, 2).name = "two"
    second.rollback()
    assert first.get(shop.Customer, 2).name == "b"
    first.close()
    second.close()
    assert names(db) == ["b", "one"]
    db.close()


@pytest.mark.parametrize("is_used", ["reads", "writes"])
def test_a_lost_session_gives_its_connection_back(shop, is_used):
    """112. An open session that nobody holds any more ends: its connection is reclaimed, with a warning."""
    session = Session(shop.db)
    ann = session.get(shop.Customer, 1)
    if is_used == "writes":
        ann.name = "lost"
        session.flush()
        ann.count = 5
    held = [session]
    del session
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        held.clear()
    kinds = {warning.category: str(warning.message) for warning in caught}
    assert "never ended" in kinds.pop(ResourceWarning)
    if is_used == "writes":
        assert "Customer[1]" in kinds.pop(RuntimeWarning)  # which Python shows by default
    assert not kinds
    assert names(shop.db) == ["a", "b"]
    with pytest.raises(DatabaseSessionIsOver, match="never closed"):
        _ = ann.bio
    with db_session:  # nothing of it is in the way
        shop.Customer[1].name = "free"


def test_a_lost_session_that_did_nothing_says_nothing(db):
    """A session that was made, and nothing else, needs no close()."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        session = Session(db)
        del session
        gc.collect()


def test_a_query_keeps_its_session(shop):
    """A query holds the session that it runs in: `Session(db).query(...)` in one expression works."""
    held = [Session(shop.db).query(shop.Customer).order_by(shop.Customer.name)]
    gc.collect()
    assert [customer.name for customer in held[0]] == ["a", "b"]
    with pytest.warns(ResourceWarning):
        held.clear()


# --- it is no scope --------------------------------------------------------------------------------------


def test_class_verbs_want_a_scope(shop, session):
    """8. A session without `with` is no scope: User[1] outside of any stays an error."""
    with pytest.raises(NoScopeError, match=r"session\.get"):
        shop.Customer[1]
    with pytest.raises(NoScopeError):
        shop.Customer.get(name="a")
    with pytest.raises(NoScopeError):
        shop.db.select("SELECT 1")


def test_objects_are_built_for_it_only_while_it_is_open(shop):
    """An object is built outside a scope only while a session is open in this thread."""
    session = Session(shop.db)
    shop.Customer(name="c")
    with pytest.raises(NoScopeError):
        elsewhere(lambda: shop.Customer(name="d"))
    session.close()
    with pytest.raises(NoScopeError, match=r"session\.add"):
        shop.Customer(name="c")
    assert names(shop.db) == ["a", "b"]


def test_a_scope_beside_it_is_independent(shop, session):
    """7. A scope in the same thread shares no objects with an open session, and commits for itself."""
    mine = session.get(shop.Customer, 1)
    with db_session:
        theirs = shop.Customer[1]
        assert theirs is not mine
        theirs.name = "other"
        assert theirs not in session
        built = shop.Customer(name="c")
    assert mine.name == "a"
    assert built not in session
    assert names(shop.db) == ["b", "c", "other"]


def test_queries_run_in_the_session_whichever_scope_is_current(shop, session):
    """Queries, collections and lazy loads of its objects run in the session, not in the current scope."""
    with db_session:
        ann = session.query(shop.Customer).filter_by(name="a").first()
        assert ann in session
        assert ann.orders.select().order_by(shop.Order.total).first() in session
        assert ann.tags.select(text="x").first() in session
        assert ann.bio == "bio a"
        assert ann.card in session
        assert {order.total for order in ann.orders} == {1, 2}
        assert session.query(shop.Order).count() == 2
        assert list(session.query(c.name for c in shop.Customer if c.name > "a")) == ["b"]


def test_reading_from_it_without_a_scope(shop, session):
    """Everything that its objects need is loaded in the session, with no scope anywhere."""
    ann = session.get(shop.Customer, 1)
    assert (ann.bio, ann.card.number, len(ann.orders), len(ann.tags)) == ("bio a", "1", 2, 2)
    assert ann.orders.count() == 2
    assert ann.tags.select(lambda tag: tag.text == "y").get() in session
    ann.orders.create(total=3)
    session.commit()
    assert sorted(rows(shop.db, "SELECT total FROM purchase")) == [1, 2, 3]


def test_sqlite_waits_in_vain_for_nobody(tmp_path):
    """A write beside an open session of this thread that holds SQLite's write lock is refused at once."""
    shop = make_shop(Database(f"sqlite:///{tmp_path}/shop.db", timeout=60))
    session = Session(shop.db)
    session.get(shop.Customer, 1).name = "mine"
    session.flush()
    with pytest.raises(LockNotAvailable, match="another open"), db_session:
        shop.Customer[2].name = "theirs"
    session.commit()
    with db_session:
        shop.Customer[2].name = "theirs"
    session.close()
    assert names(shop.db) == ["mine", "theirs"]


# --- whose it is -----------------------------------------------------------------------------------------


def test_another_thread_may_not_use_it(shop, session):
    """114. What needs the session is refused in another thread; what is loaded can be read there."""
    ann = session.get(shop.Customer, 1)
    assert elsewhere(lambda: ann.name) == "a"
    for work in (session.commit, session.flush, lambda: session.get(shop.Customer, 2), lambda: ann.bio):
        with pytest.raises(ScopeOwnershipError, match="adopt"):
            elsewhere(work)
    session.commit()


def test_handing_it_on(shop, session):
    """118. adopt() makes it that of the caller's thread, and of no other."""
    ann = session.get(shop.Customer, 1)

    def work():
        session.adopt()
        ann.name = "changed there"
        session.add(shop.Customer(name="built there"))
        session.commit()

    elsewhere(work)
    with pytest.raises(ScopeOwnershipError):
        session.get(shop.Customer, 1)
    session.adopt()
    assert session.get(shop.Customer, 1) is ann
    assert names(shop.db) == ["b", "built there", "changed there"]


# --- what is in it ---------------------------------------------------------------------------------------


def test_what_is_in_it(shop, session):
    """new, dirty, deleted, `in`, iteration and the identity map show what the session has."""
    ann, bob = session.get(shop.Customer, 1), session.get(shop.Customer, 2)
    cid = shop.Customer(name="c")
    assert cid not in session
    session.add(cid)
    ann.name = "other"
    session.delete(bob)
    assert (session.new, session.dirty, session.deleted) == ({cid}, {ann}, {bob})
    assert ann in session and bob in session and cid in session
    assert set(session) == {ann, bob, cid}
    ann.name = "a"  # changed back
    assert session.dirty == frozenset()
    session.commit()
    assert (session.new, session.dirty, session.deleted) == (set(), set(), set())
    assert bob not in session
    assert set(session) == {ann, cid}
    assert "no entity" not in session


def test_the_identity_map_can_be_looked_at(shop, session):
    """17, 18. identity_map maps entity and key to the session's object, sends nothing, and cannot be written."""
    assert len(session.identity_map) == 0
    ann = session.get(shop.Customer, 1)
    tag = session.get(shop.Tag, "x")
    with counted(shop.db) as sent:
        seen = session.identity_map
        assert seen[shop.Customer, 1] is ann
        assert seen[shop.Tag, "x"] is tag
        assert (shop.Customer, 2) not in seen
        assert dict(seen) == {(shop.Customer, 1): ann, (shop.Tag, "x"): tag}
    assert sent.statements == 0
    with pytest.raises(TypeError):
        seen[shop.Customer, 1] = tag


def test_info_is_the_users(db):
    """Info is a dict for the user's notes; each session has its own."""
    make = sessionmaker(db, info={"request": 1})
    first, second = make(), make(info={"user": "ann"})
    first.info["more"] = True
    assert first.info == {"request": 1, "more": True}
    assert second.info == {"request": 1, "user": "ann"}
    assert Session(db).info == {}


# --- its verbs -------------------------------------------------------------------------------------------


def test_get(shop, session):
    """get() takes a key or attributes, asks the database once, and returns None where there is nothing."""
    ann = session.get(shop.Customer, 1)
    with counted(shop.db) as sent:
        assert session.get(shop.Customer, 1) is ann
    assert sent.statements == 0
    assert session.get(shop.Customer, name="a") is ann
    assert session.get(shop.Customer, 9) is None
    assert session.get(shop.Customer, name="nobody") is None
    assert session.get(shop.Tag, "x").text == "x"
    for arguments in ((), (1, 2)):
        with pytest.raises(TypeError, match="primary key"):
            session.get(shop.Customer, *arguments)
    with pytest.raises(TypeError, match="primary key"):
        session.get(shop.Customer, 1, name="a")
    with pytest.raises(TypeError, match="entity class"):
        session.get("Customer", 1)


def test_get_for_update(shop, session):
    """93. get(for_update=True) returns what the locked row holds, also of an object that is loaded."""
    ann = session.get(shop.Customer, 1)

    @db_session
    def rename():
        shop.Customer[1].name = "renamed"

    elsewhere(rename)
    assert session.get(shop.Customer, 1, for_update=True) is ann
    assert ann.name == "renamed"
    session.commit()


def test_adding_what_has_its_key_already(shop, session):
    """29. A new object with the key of a loaded one is refused by add(), naming both; nothing was added."""
    session.get(shop.Customer, 1)
    other = shop.Customer(name="c")
    with pytest.raises(CacheIndexError, match=r"Customer\[1\]"):
        session.add_all([other, shop.Customer(id=1, name="double")])
    assert session.new == frozenset()


def test_execute(shop, session):
    """execute() runs SQL in the session's own transaction, behind what is unsaved."""
    session.add(shop.Customer(name="c"))
    assert session.execute("UPDATE customer SET count = %s", (4,)).rowcount == 3
    session.rollback()
    assert sorted(rows(shop.db, "SELECT count FROM customer")) == [0, 0]


def test_no_autoflush(shop):
    """55. Queries flush what concerns them; not within no_autoflush(), nor in a session made with autoflush=False."""
    session = Session(shop.db)
    session.add(shop.Customer(name="c"))
    with session.no_autoflush():
        assert session.query(shop.Customer).count() == 2
    assert session.query(shop.Customer).count() == 3
    session.rollback()
    session.close()
    session = Session(shop.db, autoflush=False)
    session.add(shop.Customer(name="c"))
    assert session.query(shop.Customer).count() == 2
    session.commit()
    assert session.query(shop.Customer).count() == 3
    session.close()


def test_objects_of_elsewhere(shop, session):
    """23. delete() and expire() of an object that is not in the session say where it is."""
    with db_session:
        theirs = shop.Customer[1]
        for verb in (session.delete, session.expire, session.refresh):
            with pytest.raises(InvalidRequestError, match="another live session"):
                verb(theirs)
    with pytest.raises(TypeError, match="object of an entity"):
        session.add("text")


def test_entities_of_another_database(shop, session):
    """A session is for its database alone."""
    other = Database("sqlite://")

    class Note(other.Entity):
        text = Required(str)

    other.generate_mapping(create_tables=True)
    with pytest.raises(InvalidRequestError, match="alone"):
        session.get(Note, 1)
    with pytest.raises(InvalidRequestError, match="alone"):
        session.query(Note)
    with pytest.raises(InvalidRequestError, match="alone"):
        session.add(Note(text="x"))
    other.close()


# --- savepoints ------------------------------------------------------------------------------------------


def test_a_nested_block_fails_alone(shop, session):
    """75. What fails within begin_nested() is undone; what was done before it stays."""
    ann = session.get(shop.Customer, 1)
    ann.count = 5
    with pytest.raises(TransactionIntegrityError), session.begin_nested():
        ann.count = 6
        session.add(shop.Customer(name="a"))
    assert ann.count == 5
    with session.begin_nested():
        session.add(shop.Customer(name="c"))
    session.commit()
    assert sorted(rows(shop.db, "SELECT name, count FROM customer")) == [("a", 5), ("b", 0), ("c", 0)]


def test_a_nested_part_that_is_ended_by_hand(shop, session):
    """75, 77. begin_nested() can be ended by commit() and rollback(), the inner one first."""
    ann = session.get(shop.Customer, 1)
    outer = session.begin_nested()
    ann.count = 1
    inner = session.begin_nested()
    ann.count = 2
    with pytest.raises(NestedScopeError, match="another one in it"):
        outer.commit()
    inner.rollback()
    assert ann.count == 1
    with pytest.raises(NestedScopeError, match="ended already"):
        inner.commit()
    with pytest.raises(NestedScopeError, match="begin_nested"):
        session.commit()
    outer.commit()
    session.commit()
    assert rows(shop.db, "SELECT count FROM customer WHERE name = 'a'") == [1]


# --- making them -----------------------------------------------------------------------------------------


def test_options(db):
    """A session has the options of a scope: optimistic, read_only and the rest."""
    shop = make_shop(db)
    session = Session(db, read_only=True)
    session.get(shop.Customer, 1).name = "x"
    with pytest.raises(Exception, match=r"read.only"):
        session.commit()
    session.rollback()
    session.close()
    session = Session(db, strict=True)
    ann = session.get(shop.Customer, 1)
    session.close()
    with pytest.raises(DatabaseSessionIsOver, match="strict"):
        _ = ann.name


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"retry": 3}, "cannot run code again"),
        ({"optimistc": False}, "optimistic"),
        ({"expire_on_commit": False}, "stay readable"),
        ({"autoflush": 1}, "autoflush is True or False"),
        ({"info": 1}, "info is a dict"),
        ({"read_only": "yes"}, "read_only"),
    ],
)
@pytest.mark.parametrize("maker", [Session, sessionmaker])
def test_wrong_options(maker, options, text):
    """A wrong option is refused where it is written, by the factory as by the session."""
    with pytest.raises(TypeError, match=text):
        maker(Database("sqlite://"), **options)


@pytest.mark.parametrize("maker", [Session, sessionmaker])
def test_what_is_no_database(maker):
    """A URL in the place of a Database gets the way out."""
    with pytest.raises(TypeError, match=r"write Database\('sqlite://'\)"):
        maker("sqlite://")


def test_a_factory(shop):
    """sessionmaker(bind=db) gives sessions with its options; those of a call win."""
    make = sessionmaker(bind=shop.db, autoflush=False)
    assert "autoflush=False" in repr(make)
    first, second = make(), make(autoflush=True)
    for session, expected in ((first, 2), (second, 3)):
        session.add(shop.Customer(name="c"))
        assert session.query(shop.Customer).count() == expected
        session.rollback()
        session.close()


def test_sets_of_transient_objects(db):
    """A graph built before the session knows of it is added with its root."""

    class Author(db.Entity):
        name = Required(str)
        books = Set("Book")

    class Book(db.Entity):
        title = Required(str)
        author = Required(Author)

    db.generate_mapping(create_tables=True)
    session = Session(db)
    author = Author(name="x")
    book = Book(title="one", author=author)
    assert book in author.books
    session.add(author)
    assert book in session
    author.books.add(Book(title="two", author=Author(name="nobody's")))  # comes by its author
    with counted(db) as sent:
        session.commit()
    assert sent.round_trips == 2  # the keys of authors, then the rest
    session.close()
    assert rows(db, "SELECT title FROM book ORDER BY title") == ["one", "two"]
