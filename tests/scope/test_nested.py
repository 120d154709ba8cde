"""Scopes within scopes: the inner one joins, and what a failed one has changed is never saved by accident."""

import pytest

from dbsession import (
    Collection,
    Json,
    NestedScopeError,
    Optional,
    Required,
    SessionDoomed,
    Set,
    TransactionIntegrityError,
    commit,
    db_session,
    flush,
    rollback,
)
from dbsession.model.tracked import plain
from dbsession.scope import stack
from tests.observing import elsewhere, rows, sent


class Odd(Exception):
    pass


@pytest.fixture
def entities(db):
    class Author(db.Entity):
        name = Required(str)
        notes = Set("Note")
        card = Optional("Card")

    class Card(db.Entity):
        author = Optional(Author, column="author")

    class Tag(db.Entity):
        notes = Set("Note")

    class Note(db.Entity):
        text = Required(str, unique=True)
        likes = Required(int, default=0)
        data = Optional(Json)
        author = Optional(Author)
        tags = Set(Tag)

    db.generate_mapping(create_tables=True)
    with db_session:
        author = Author(name="Ann")
        Note(text="old", data={"a": 1}, author=author)
        Note(text="second")
        Card(author=author)
        Card()
        Tag()
    return {**db.entities, "db": db}


def snapshot(db):
    """Everything in the database."""
    tables = ("author", "card", "tag", "note", '"note_tag"')
    return [sorted(rows(db, f"SELECT * FROM {table}"), key=repr) for table in tables]


# --- joining ----------------------------------------------------------------------------------------------


def test_an_inner_scope_joins(db, entities):
    """5. An inner scope is the same session; it sends nothing at its end, and the outermost commits once."""
    Note = entities["Note"]

    @db_session
    def inner():
        Note(text="inner")
        return stack.current_session()

    with sent(db) as spent, db_session as outer:
        assert inner() is outer._core
        with db_session as session, db_session:
            assert session._core is outer._core
            Note(text="block")
        with sent(db) as at_inner_exits:
            with db_session:
                Note(text="third")
        assert at_inner_exits.statements == 0
    assert spent.transactions == 1
    assert {"inner", "block", "third"} <= set(rows(db, "SELECT text FROM note"))


def test_the_outer_failure_undoes_the_inner_success(db, entities):
    """5. If the outer scope fails, the work of inner ones that ended well is undone with it."""
    before = snapshot(db)
    with pytest.raises(Odd), db_session:
        with db_session:
            entities["Note"](text="inner")
            flush()
        raise Odd
    assert snapshot(db) == before


def test_an_error_that_leaves_both_scopes_is_the_same(db, entities):
    """5. An exception that leaves the inner and the outer scope reaches the caller as it is."""
    before = snapshot(db)
    original = Odd()
    with pytest.raises(Odd) as caught, db_session, db_session:
        entities["Note"](text="inner")
        raise original
    assert caught.value is original
    assert snapshot(db) == before


def test_commit_and_rollback_belong_to_the_outermost(db, entities):
    """An inner scope can flush, but not end the transaction of the outer one; saying so changes nothing."""
    with db_session as session:
        note = entities["Note"](text="outer")
        with db_session:
            for verb, way_out in (
                (commit, r"flush\(\) sends"),
                (rollback, "an exception out of the inner one undoes"),
            ):
                with pytest.raises(NestedScopeError, match=rf"{verb.__name__}\(\) in an inner db_session .*{way_out}"):
                    verb()
            flush()
        assert session._core is stack.current_session()
        note.likes = 5
        commit()
    assert rows(db, "SELECT likes FROM note WHERE text = 'outer'") == [5]


# --- an inner failure that the outer scope swallows -------------------------------------------------------


def _new_objects_attribute(e, note):
    note.likes = 77


def _new_objects_reference(e, note):
    note.author = e["Author"].get(name="Ann")


def _new_objects_json(e, note):
    note.data["b"] = 2


CHANGES_OF_A_NEW_OBJECT = [_new_objects_attribute, _new_objects_reference, _new_objects_json]


def _new(e, old):
    e["Note"](text="inner")


def _changed(e, old):
    old.likes = 77


def _set(e, old):
    old.set(likes=77)


def _flushed(e, old):
    old.likes = 77
    flush()


def _expression(e, old):
    old.likes = e["Note"].likes + 1


def _json(e, old):
    old.data["b"] = 2


def _reference(e, old):
    old.author = None


def _collection(e, old):
    old.author.notes.add(e["Note"].get(text="second"))


def _link(e, old):
    old.tags.add(e["Tag"][1])


def _one_to_one(e, old):
    e["Card"][2].author = old.author


def _virtual_side(e, old):
    old.author.card = e["Card"][2]


def _deleted(e, old):
    old.delete()


def _deleted_by_query(e, old):
    e["Note"].select(text="second").delete()


def _deleted_in_bulk(e, old):
    e["Note"].select(text="second").delete(bulk=True)


def _updated_in_bulk(e, old):
    e["Note"].select(text="second").update(likes=5, author=old.author)


def _raw(e, old):
    e["db"].execute("UPDATE note SET likes = 77")


CHANGES = [
    _new,
    _changed,
    _set,
    _flushed,
    _expression,
    _json,
    _reference,
    _collection,
    _link,
    _one_to_one,
    _virtual_side,
    _deleted,
    _deleted_by_query,
    _deleted_in_bulk,
    _updated_in_bulk,
    _raw,
]


def in_memory(entities):
    """What the objects of the session show, without sending anything."""
    unit = stack.current_session().unit(entities["db"])
    shown = {}
    for obj in [*unit.identity, *unit.new]:
        for name, value in vars(obj).items():
            if isinstance(value, Collection):
                if value.is_loaded:
                    shown[obj, name] = set(value)
            elif value is not None:
                shown[obj, name] = plain(value)
    return shown


def change_outside(entities):
    """What an outer scope does before its inner one fails."""
    old = entities["Note"].get(text="old")
    old.text = "changed by the outer scope"
    old.data["outer"] = True
    old.author.name = "too"
    entities["Card"].select().fetch()
    entities["Note"](text="new in the outer scope", author=old.author)
    return old


@pytest.mark.parametrize("opens", [False, True], ids=["autocommit", "transaction"])
@pytest.mark.parametrize("ends", ["raises", "flushes"])
@pytest.mark.parametrize("change", CHANGES)
def test_a_swallowed_failure_leaves_nothing(db, entities, change, ends, opens):
    """5. 75. An inner scope that failed leaves nothing, in memory or in the database; what the outer one did is saved."""
    with db_session:  # what the outer scope alone would leave
        change_outside(entities)
        entities["Tag"]()
        flush()
        session = stack.current_session()
        expected = [sorted(session_rows(db, table), key=repr) for table in TABLES]
        session.rollback()
    with db_session:
        if opens:
            db.execute("UPDATE note SET likes = 0 WHERE text = 'nobody'")
        old = change_outside(entities)
        before = in_memory(entities)
        with pytest.raises(Odd), db_session:
            change(entities, old)
            if ends == "flushes":
                flush()
                entities["Note"].select().fetch()
            raise Odd
        after = in_memory(entities)
        assert {place: after.get(place, getattr(*place)) for place in before} == before
        entities["Tag"]()
    found = snapshot(db)
    assert [without_keys(table) for table in found] == [without_keys(table) for table in expected]


TABLES = ("author", "card", "tag", "note", '"note_tag"')


def session_rows(db, table):
    return [tuple(row) if isinstance(row, tuple) else row for row in db.select(f"SELECT * FROM {table}")]


def without_keys(table):
    """New rows may have got other keys than the first time."""
    return sorted([repr(row[1:]) if isinstance(row, tuple) and len(row) > 2 else "" for row in table])


def test_a_row_read_again_behind_a_new_partner_that_is_undone(db, entities):
    """A row that a scope has changed in the database, read again when an inner one has given it a partner, keeps its own."""
    Author, Card = entities["Author"], entities["Card"]
    with db_session:
        author = Author[1]
        with pytest.raises(Odd), db_session:
            db.execute("UPDATE author SET name = 'raw'")
            with pytest.raises(Odd), db_session:
                author.card = Card()
                assert [each.name for each in Author.select()] == ["raw"]
                raise Odd
            raise Odd
        assert (author.card is Card[1], author.name) == (True, "Ann")
    assert rows(db, "SELECT id, author FROM card ORDER BY id") == [(1, 1), (2, None)]


def test_a_swallowed_failure_that_took_a_change_back(db, entities):
    """5. An inner scope has only undone what the outer one had changed: after its failure the outer change is there."""
    for values in ({"text": "outer"}, {"likes": entities["Note"].likes + 1}, {"author": None}):
        with db_session:
            old = entities["Note"][1]
            author = entities["Author"][1]
            old.set(text="old", likes=0, author=author)
        with db_session:
            old = entities["Note"][1]
            old.set(**values)
            with pytest.raises(Odd), db_session:
                old.set(text="old", likes=0, author=author.id)
                raise Odd
        with db_session:
            old = entities["Note"][1]
            name, value = next(iter(values.items()))
            assert getattr(old, name) == (1 if name == "likes" else value)


@pytest.mark.parametrize("change", CHANGES_OF_A_NEW_OBJECT)
def test_a_swallowed_change_of_a_new_object(db, entities, change):
    """75. The inner scope has changed an object that the outer one made and has not saved yet: it is saved as it was."""
    with db_session:
        note = entities["Note"](text="outer", data={"a": 1})
        with pytest.raises(Odd), db_session, db_session:
            change(entities, note)
            raise Odd
        assert (note.likes, note.author, note.data) == (0, None, {"a": 1})
        note.data["later"] = True
    with db_session:
        note = entities["Note"].get(text="outer")
        assert (note.likes, note.author, note.data) == (0, None, {"a": 1, "later": True})


def test_a_failure_that_changed_nothing_is_nothing(db, entities):
    """5. An inner scope that only read may fail: the outer one goes on and commits."""
    Note = entities["Note"]
    with db_session:
        Note(text="outer")
        with pytest.raises(Odd), db_session:
            assert Note.get(text="second").likes == 0
            assert Note.select().count() == 3
            flush()
            raise Odd
        Note(text="later")
    assert {"outer", "later"} <= set(rows(db, "SELECT text FROM note"))


def test_an_inner_scope_may_fail_as_allowed(db, entities):
    """5. An inner scope that fails with an exception that it allows has not failed."""
    with db_session:
        with pytest.raises(Odd), db_session(allowed_exceptions=Odd):
            entities["Note"](text="inner")
            raise Odd
    assert "inner" in rows(db, "SELECT text FROM note")


def test_the_outer_scope_commits_and_rolls_back_after_an_inner_failure(db, entities):
    """75. commit() and rollback() of the outer scope do their work after an inner one has failed."""
    Note = entities["Note"]
    with db_session:
        Note(text="saved")
        with pytest.raises(Odd), db_session:
            Note(text="inner")
            flush()
            raise Odd
        commit()
        Note(text="outer")
        with pytest.raises(Odd), db_session:
            Note(text="inner")
            raise Odd
        rollback()
        Note(text="later")
    texts = set(rows(db, "SELECT text FROM note"))
    assert {"saved", "later"} <= texts and not texts & {"outer", "inner"}


@pytest.mark.parametrize("opens", [False, True], ids=["autocommit", "transaction"])
def test_a_database_error_in_an_inner_scope(db, entities, opens):
    """80. An inner flush that the database refuses is undone with the inner scope; the outer one goes on and commits."""
    with db_session:
        tag = entities["Tag"]()
        if opens:
            flush()
        with pytest.raises(TransactionIntegrityError), db_session:
            entities["Note"](text="second")
            flush()
        assert entities["Note"].get(text="second").likes == 0
        later = entities["Tag"]()
    assert rows(db, "SELECT id FROM tag ORDER BY id") == [1, tag.id, later.id]


def test_a_doomed_inner_scope_refuses_everything_until_it_is_left(db, entities):
    """84. After the failed flush everything in the inner scope is SessionDoomed, from the first error."""
    with db_session:
        tag = entities["Tag"]()
        with pytest.raises(SessionDoomed, match="the work of the inner db_session is undone") as caught, db_session:
            entities["Note"](text="second")
            with pytest.raises(TransactionIntegrityError):
                flush()
            for attempt in (flush, entities["Note"].select().fetch, lambda: entities["Tag"].get(id=99)):
                with pytest.raises(SessionDoomed):
                    attempt()
        assert isinstance(caught.value.__cause__, TransactionIntegrityError)
    assert rows(db, "SELECT id FROM tag ORDER BY id") == [1, tag.id]


def test_a_refused_change_of_the_outer_scope_dooms_the_session(db, entities):
    """An inner flush fails over what the outer scope had changed before: no savepoint helps, the session is doomed."""
    before = snapshot(db)
    with pytest.raises(SessionDoomed), db_session:
        entities["Note"](text="second")  # there is one already
        with pytest.raises(TransactionIntegrityError), db_session:
            entities["Tag"]()
            flush()
        with pytest.raises(SessionDoomed):
            entities["Tag"].select().fetch()
    assert snapshot(db) == before


def test_inner_scopes_work_in_other_threads_too(db, entities):
    """An inner scope is inner to the thread's own outer scope, not to that of another thread."""
    with db_session:
        elsewhere(db_session(lambda: entities["Tag"]()))
        assert rows(db, "SELECT count(*) FROM tag") == [2]


@pytest.mark.parametrize("verb", ["commit", "rollback"])
def test_the_handle_of_an_inner_scope_does_not_end_the_transaction(entities, verb):
    """79. session.commit() and session.rollback() in an inner scope are refused as the functions are."""
    before = snapshot(entities["db"])
    with pytest.raises(ZeroDivisionError), db_session as outer:
        entities["Tag"]()
        with db_session as session:
            assert session._core is outer._core
            with pytest.raises(NestedScopeError, match=f"{verb}\\(\\) in an inner db_session"):
                getattr(session, verb)()
        outer.flush()
        1 / 0
    assert snapshot(entities["db"]) == before


def test_the_handle_works_again_after_the_inner_scope(entities):
    """79. When the inner scope has ended, also by an error, the outer one may commit."""
    with db_session as outer:
        with pytest.raises(Odd), db_session:
            raise Odd
        tag = entities["Tag"]()
        outer.commit()
    assert tag.id is not None
