"""What one DELETE for many rows leaves in memory."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from dbsession import (
    ObjectNotFound,
    OperationWithDeletedObjectError,
    OptimisticCheckError,
    Optional,
    Required,
    Set,
    TransactionIntegrityError,
    db_session,
    desc,
    flush,
    savepoint,
)
from tests.observing import elsewhere, rows, sent
from tests.session.squad import declare, fill


@pytest.fixture
def m(db):
    class Shelf(db.Entity):
        books = Set("Book")

    class Tag(db.Entity):
        books = Set("Book")

    class Book(db.Entity):
        title = Required(str)
        shelf = Required(Shelf)
        tags = Set(Tag)
        cover = Optional("Cover")

    class Cover(db.Entity):
        book = Required(Book)

    db.generate_mapping(create_tables=True)
    with db_session:
        shelf, tag = Shelf(), Tag()
        for number in range(4):
            book = Book(title=f"b{number}", shelf=shelf, tags=[tag])
            Cover(book=book)
    return SimpleNamespace(db=db, **db.entities)


def test_loaded_collections_are_not_stale(m):
    """125. Collections that were loaded have what the DELETE has left, both in the scope and after it."""
    with db_session:
        shelf, tag = m.Shelf[1], m.Tag[1]
        assert (len(shelf.books), len(tag.books)) == (4, 4)
        assert m.Book.select(m.Book.title < "b2").delete(bulk=True) == 2
        assert sorted(book.title for book in shelf.books) == ["b2", "b3"]
        assert sorted(book.title for book in tag.books) == ["b2", "b3"]
        shelf.books.clear()
    with db_session:
        assert m.Book.select().count() == 0


def test_a_one_to_one_end_is_not_stale(m):
    """125. The end of a one-to-one relation that has no column loses an object that is deleted in bulk."""
    with db_session:
        book = m.Book[1]
        assert book.cover is not None
        m.Cover.select(m.Cover.book == book).delete(bulk=True)
        assert book.cover is None


def test_a_rollback_brings_everything_back(m):
    """69 and 70. After a rollback the objects live again, and the collections have them."""
    with db_session as session:
        shelf = m.Shelf[1]
        books = list(shelf.books)
        m.Book.select().delete(bulk=True)
        assert list(shelf.books) == []
        session.rollback()
        assert sorted(shelf.books) == books
        assert [book.title for book in sorted(books)] == ["b0", "b1", "b2", "b3"]


def test_an_object_that_takes_a_deleted_one_s_key_has_none_of_its_links(m):
    """48. Links of a deleted object are not those of a new one with its key."""
    with db_session:
        book = m.Book[1]
        m.Tag[1].delete()
        tag = m.Tag(id=1)
        assert list(book.tags) == []
        assert list(tag.books) == []
    with db_session:
        assert list(m.Tag[1].books) == []


# --- whom it concerns -----------------------------------------------------------------------------------------


@pytest.fixture
def squad(db):
    squad = declare(db)
    fill(squad)
    squad.hooked.clear()
    return squad


class Tree:
    """A forest in which nodes go with their parents, and pages with their nodes; notes only lose their page."""

    def __init__(self, db):
        class Node(db.Entity):
            name = Required(str)
            parent = Optional("Node", reverse="children")
            children = Set("Node", reverse="parent", cascade_delete=True)
            pages = Set("Page")

        class Page(db.Entity):
            text = Required(str)
            node = Required(Node)
            notes = Set("Note", reverse="page")
            drafts = Set("Note", reverse="draft")
            links = Set("Link")
            labels = Set("Label")

        class Note(db.Entity):
            text = Required(str)
            page = Optional(Page)
            draft = Optional(Page, lazy=True)

        class Link(db.Entity):
            text = Required(str)
            page = Required(Page)

        class Label(db.Entity):
            pages = Set(Page)

        db.generate_mapping(create_tables=True)
        self.db, self.Node, self.Page, self.Note, self.Link, self.Label = db, Node, Page, Note, Link, Label
        with db_session:
            label = Label()
            for name in "ab":
                root = Node(name=name)
                middle = Node(name=name * 2, parent=root)
                leaf = Node(name=name * 3, parent=middle)
                page = Page(text=name, node=leaf, labels=[label])
                Note(text=name, page=page)
                Link(text=name, page=page)
            flush()


@pytest.fixture
def tree(db):
    return Tree(db)


def test_the_number_of_rows(squad):
    """The number that comes back is the database's, without what it has cascaded to, with or without objects in memory."""
    with db_session:
        assert squad.Player.select(squad.Player.count > 9).delete(bulk=True) == 0
        assert squad.Player.select(squad.Player.count > 4).delete(bulk=True) == 1
        assert squad.Team[1].name == "reds"
        assert squad.Team.select().delete(bulk=True) == 2
    assert rows(squad.db, "SELECT count(*) FROM trophy") == [0]
    assert rows(squad.db, "SELECT team FROM player") == [None] * 4


def test_with_hooks_or_without(squad):
    """delete() loads the objects and runs their hooks; delete(bulk=True) sends one statement and runs none."""
    Player = squad.Player
    with db_session:
        assert Player.select(Player.count > 3).delete() == 2
    assert squad.hooked == ["before delete"] * 2
    with db_session, sent(squad.db) as spent:
        assert Player.select(Player.count > 1).delete(bulk=True) == 2
    assert squad.hooked == ["before delete"] * 2
    assert spent.round_trips <= 2  # and COMMIT
    assert rows(squad.db, "SELECT name FROM player") == ["ann"]


def test_objects_that_it_does_not_concern_stay_as_they_are(squad):
    """83, 125. What refers to rows that stay is neither loaded again, nor forgotten after the scope."""
    with db_session:
        gold, iron, dan = squad.Cup[2], squad.Cup[3], squad.Player[4]
        blues = squad.Team[2]
        assert (gold.litres, iron.litres, dan.name, len(blues.players)) == (3, None, "dan", 2)
        squad.Team.select(name="reds").delete(bulk=True)
        with sent(squad.db) as spent:
            assert (iron.litres, iron.team, dan.team, len(blues.players), dan.count) == (None, blues, blues, 2, 4)
        assert spent.statements == 0
    assert (iron.name, dan.name) == ("iron", "dan")


def test_what_was_read_of_others_is_checked_still(squad):
    """89. The reads of objects in tables that the DELETE may reach are not forgotten: a change by others is a conflict."""
    with pytest.raises(OptimisticCheckError, match="'iron' was seen"), db_session:
        iron = squad.Cup[3]
        assert iron.name == "iron"
        elsewhere(db_session(lambda: squad.Cup[3].set(name="steel")))
        squad.Team.select(name="reds").delete(bulk=True)
        iron.litres = 5 if iron.name == "iron" else 6
    assert rows(squad.db, "SELECT name, litres FROM trophy WHERE id = 3") == [("steel", None)]


def test_those_who_refer_to_deleted_rows(squad):
    """52, 125. Whose reference cascades is deleted, others refer to nothing; both at once, and without any SELECT."""
    with db_session:
        old, gold, iron = squad.Trophy.select().order_by(squad.Trophy.id)
        ann, cid, kim = squad.Player[1], squad.Player[3], squad.Coach[1]
        blues = squad.Team[2]
        assert (ann.team.id, cid.team, kim.team.id) == (1, blues, 1)
        with sent(squad.db) as spent:
            assert squad.Team.select(name="reds").delete(bulk=True) == 1
            assert (ann.team, cid.team, kim.team) == (None, blues, None)
            assert (ann.name, kim.name, iron.team) == ("ann", "kim", blues)
            for trophy in (old, gold):
                with pytest.raises(OperationWithDeletedObjectError):
                    trophy.name = "x"
        assert spent.round_trips == 1
        ann.note = "alive"
        kim.team = blues
    assert rows(squad.db, "SELECT name FROM trophy") == ["iron"]
    assert rows(squad.db, "SELECT team FROM coach WHERE id = 1") == [2]


def test_unsaved_changes_of_those_who_go_with_it(squad):
    """55. What is unsaved in tables that the DELETE reaches is sent first, and goes with it: nobody is missed later."""
    with db_session:
        gold, reds = squad.Cup[2], squad.Team[1]
        gold.name = "changed"
        new = squad.Cup(name="new", team=reds)
        squad.Player[1].note = "changed"
        assert squad.Team.select(name="reds").delete(bulk=True) == 1
        for trophy in (gold, new):
            with pytest.raises(OperationWithDeletedObjectError):
                trophy.name = "x"
    assert rows(squad.db, "SELECT name FROM trophy") == ["iron"]
    assert rows(squad.db, "SELECT note, team FROM player WHERE id = 1") == [("changed", None)]


def test_unsaved_changes_without_autoflush(squad):
    """Without autoflush the objects are deleted with what was unsaved of them, and the flush has nothing left to send."""
    with db_session as session:
        ann, gold = squad.Player[1], squad.Cup[2]
        with session.no_autoflush():
            ann.note, gold.name, gold.litres = "unsaved", "unsaved", squad.Cup.litres + 1
            squad.Player.select().delete(bulk=True)
            squad.Team.select().delete(bulk=True)
        with sent(squad.db) as spent:
            flush()
        assert spent.statements == 0
        assert (ann in session._core.unit(squad.db).dirty, gold in session._core.unit(squad.db).dirty) == (False, False)
        session.rollback()
        assert (ann.note, gold.name, gold.litres) == (None, "gold", 3)
        ann.note = "again"
    assert rows(squad.db, "SELECT note FROM player WHERE id = 1") == ["again"]


def test_a_new_object_with_the_key_of_a_deleted_one(squad):
    """Without autoflush it is the row of the old object that goes; the new one is saved."""
    Tag = squad.Tag
    with db_session as session:
        old = Tag[1]
        old.delete()
        new = Tag(id=1, name="new")
        with session.no_autoflush():
            assert Tag.select(name="fast").delete(bulk=True) == 1
        assert new.name == "new"
    assert rows(squad.db, "SELECT name FROM tag") == ["new"]


def test_a_new_object_with_the_key_of_a_row_that_is_there(squad):
    """Without autoflush the row goes, which is in memory by no object; the new one, which has its key, is saved."""
    Tag = squad.Tag
    with db_session as session:
        new = Tag(id=1, name="new")
        with session.no_autoflush():
            assert Tag.select(name="fast").update(name="slow") == 1
            assert Tag.select(name="slow").delete(bulk=True) == 1
        assert new.name == "new"
    assert rows(squad.db, "SELECT name FROM tag") == ["new"]


# --- chains of references ---------------------------------------------------------------------------------------


def test_a_chain_that_is_in_memory(tree):
    """52. Whoever goes with what goes is deleted as well; the other tree is left alone, and nothing is loaded."""
    with db_session:
        nodes = {node.name: node for node in tree.Node.select()}
        pages, notes, links = list(tree.Page.select()), list(tree.Note.select()), list(tree.Link.select())
        assert [note.page for note in notes] == pages
        with sent(tree.db) as spent:
            assert tree.Node.select(name="a").delete(bulk=True) == 1
            assert [note.page for note in notes] == [None, pages[1]]
            alive = [obj for obj in (*nodes.values(), *pages, *links) if obj._state_.may_change]
            assert alive == [nodes["b"], nodes["bb"], nodes["bbb"], pages[1], links[1]]
            assert (pages[1].text, links[1].page, nodes["bbb"].parent) == ("b", pages[1], nodes["bb"])
        assert spent.round_trips == 1


def test_a_chain_of_which_a_part_is_not_in_memory(tree):
    """52, 125. Who hangs on what is not in memory is loaded again when it is needed, and may be gone."""
    with db_session:
        leaves = [tree.Node.get(name=name) for name in ("aaa", "bbb")]
        pages, notes, links = list(tree.Page.select()), list(tree.Note.select()), list(tree.Link.select())
        assert [note.page.text for note in notes] == ["a", "b"]
        tree.Node.select(name="a").delete(bulk=True)
        assert [note.page for note in notes] == [None, pages[1]]
        for gone in (leaves[0], pages[0], links[0]):
            with pytest.raises(ObjectNotFound):
                getattr(gone, "name" if gone is leaves[0] else "text")
        assert (leaves[1].name, pages[1].text, links[1].text) == ("bbb", "b", "b")


def test_collections_of_what_is_in_doubt(tree):
    """125. A loaded collection with an item that may be gone is loaded again; one without any is not."""
    with db_session:
        leaf, root = tree.Node.get(name="aaa"), tree.Node.get(name="b")
        page = leaf.pages.select().first()
        assert (list(leaf.pages), [child.name for child in root.children]) == ([page], ["bb"])
        tree.Node.select(name="nobody").delete(bulk=True)
        assert [each.text for each in leaf.pages] == ["a"]
        with sent(tree.db) as spent:
            assert [child.name for child in root.children] == ["bb"]
        assert spent.statements == 0


def test_links_of_what_is_in_doubt(tree):
    """125. So is one of the other end of a many-to-many relation; after the failure of an inner scope it is as before."""
    with db_session:
        pages, label = list(tree.Page.select()), tree.Label[1]
        assert set(label.pages) == set(pages)
        with pytest.raises(LookupError), savepoint():
            tree.Node.select(name="a").delete(bulk=True)
            raise LookupError
        with sent(tree.db) as spent:
            assert set(label.pages) == set(pages)
        assert spent.statements <= 2  # ROLLBACK TO and RELEASE
        tree.Node.select(name="a").delete(bulk=True)
        assert list(label.pages) == [pages[1]]


def test_a_lazy_reference_that_is_not_loaded(tree):
    """18. An object that lacks nothing but a lazy reference to what may be gone is found by its key without any SQL."""
    with db_session:
        tree.Note(text="alone")
    with db_session:
        note = tree.Note.get(text="alone")
        tree.Node.select(name="a").delete(bulk=True)
        with sent(tree.db) as spent:
            assert tree.Note[note.id] is note and note.text == "alone"
        assert spent.statements == 0
        assert note.draft is None


def test_ends_of_one_to_one_relations_come_back(squad):
    """75. The end that has no column has its object again, after the failure of an inner scope, without a SELECT."""
    with db_session:
        reds, kim = squad.Team[1], squad.Coach[1]
        assert reds.coach is kim
        with pytest.raises(LookupError), savepoint():
            squad.Coach.select().delete(bulk=True)
            assert reds.coach is None
            raise LookupError
        with sent(squad.db) as spent:
            assert (reds.coach, kim.name) == (kim, "kim")
        assert spent.statements == 0


@pytest.mark.parametrize("ends", ["rollback", "inner scope"])
def test_a_chain_comes_back(tree, ends):
    """69, 75. After a rollback, or the failure of an inner scope, all of them are alive with their values and relations."""
    with db_session as session:
        nodes = list(tree.Node.select().order_by(tree.Node.id))
        pages, notes = list(tree.Page.select()), list(tree.Note.select())

        def look():
            children = [[child.name for child in node.children] for node in nodes]
            return children, [page.node.name for page in pages], [(note.text, note.page.text) for note in notes]

        before = look()
        if ends == "rollback":
            tree.Node.select(name="a").delete(bulk=True)
            assert notes[0].page is None
            session.rollback()
        else:
            with pytest.raises(LookupError), savepoint():
                tree.Node.select(name="a").delete(bulk=True)
                assert notes[0].page is None
                raise LookupError
        with sent(tree.db) as spent:
            assert look() == before
        assert spent.statements <= 2  # ROLLBACK TO and RELEASE
        nodes[0].name = "alive"
    assert "alive" in rows(tree.db, "SELECT name FROM node")


def test_limit_and_order(squad):
    """With an order and a limit, those rows are deleted that fetching would have given."""
    Player = squad.Player
    with db_session:
        eve, ann = Player[5], Player[1]
        assert Player.select().order_by(desc(Player.count)).limit(2).delete(bulk=True) == 2
        assert ann.name == "ann"
        with pytest.raises(OperationWithDeletedObjectError):
            eve.note = "x"
    assert rows(squad.db, "SELECT name FROM player ORDER BY id") == ["ann", "bob", "cid"]


def test_a_constraint_of_the_database(db):
    """86. What the database refuses dooms the session, and the error says what was being deleted."""

    class Owner(db.Entity):
        things = Set("Thing", cascade_delete=False)

    class Thing(db.Entity):
        owner = Required(Owner)

    db.generate_mapping(create_tables=True)
    with db_session:
        Thing(owner=Owner())
    with pytest.raises(TransactionIntegrityError, match="while deleting Owner in bulk"), db_session:
        Owner.select().delete(bulk=True)
    assert rows(db, "SELECT count(*) FROM thing") == [1]
