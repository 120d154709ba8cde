"""What goes with a deleted object: in memory at once, in the database with the flush, each row once."""

from types import SimpleNamespace

import pytest

from dbsession import (
    ConstraintError,
    OperationWithDeletedObjectError,
    Optional,
    PrimaryKey,
    Required,
    Set,
    TransactionIntegrityError,
    db_session,
    flush,
    rollback,
)
from tests.observing import rows, sent
from tests.session.recording import recorded


@pytest.fixture
def shop(db):
    class Customer(db.Entity):
        name = Required(str)
        orders = Set("Order")
        notes = Set("Note")

    class Order(db.Entity):
        _table_ = "purchase"
        customer = Required(Customer)
        lines = Set("Line")

    class Line(db.Entity):
        text = Required(str)
        order = Required(Order)

    class Note(db.Entity):
        text = Required(str)
        customer = Optional(Customer)

    db.generate_mapping(create_tables=True)
    with db_session:
        for name in "ab":
            customer = Customer(name=name)
            for number in range(2):
                order = Order(customer=customer)
                for inner in range(2):
                    Line(text=f"{name}{number}{inner}", order=order)
            Note(text=name, customer=customer)
    return SimpleNamespace(db=db, Customer=Customer, Order=Order, Line=Line, Note=Note)


def left(shop):
    """Return what is left: customers, orders, lines, and the notes with their customers."""
    return (
        rows(shop.db, "SELECT name FROM customer ORDER BY name"),
        rows(shop.db, "SELECT count(*) FROM purchase")[0],
        rows(shop.db, "SELECT text FROM line ORDER BY text"),
        rows(shop.db, "SELECT text, customer IS NULL FROM note ORDER BY text"),
    )


ONLY_B = (["b"], 2, ["b00", "b01", "b10", "b11"], [("a", True), ("b", False)])


# --- loaded, unloaded, half loaded --------------------------------------------------------------------


def test_unloaded_children_go_by_the_database(shop, monkeypatch):
    """52. Nothing is loaded to be deleted: one DELETE, and the database does the rest."""
    with recorded(monkeypatch) as batches:
        with db_session:
            shop.Customer.get(name="a").delete()
    assert batches.writes == ["DELETE customer"]
    assert left(shop) == ONLY_B


def test_loaded_children_are_deleted_with_their_parent(shop, monkeypatch):
    """52. Objects in memory follow at once, and their rows are deleted once, children first."""
    with recorded(monkeypatch) as batches:
        with db_session:
            customer = shop.Customer.get(name="a")
            orders = list(customer.orders)
            lines = [line for order in orders for line in order.lines]
            (note,) = customer.notes
            customer.delete()
            for gone in (customer, *orders, *lines):
                with pytest.raises(OperationWithDeletedObjectError):
                    gone.set()
            assert note.customer is None
            flush()
            assert shop.Order.get(id=orders[0].id) is None
    assert batches.writes == ["UPDATE note", "DELETE line", "DELETE purchase", "DELETE customer"]
    assert left(shop) == ONLY_B


def test_children_loaded_by_other_means_follow(shop):
    """52. The collections are not loaded, but some of the children are in memory: none of them is left as if alive."""
    with db_session:
        customer = shop.Customer.get(name="a")
        order = shop.Order.select(customer=customer).first()
        line = shop.Line.select(order=order).first()
        note = shop.Note.get(text="a")
        customer.delete()
        flush()
        assert shop.Order.get(id=order.id) is None
        assert shop.Line.get(id=line.id) is None
        assert note.customer is None
    assert left(shop) == ONLY_B


def test_half_loaded_children(shop, monkeypatch):
    """52. One order is in memory with its lines, the other one is not: no row is missed, none is deleted twice."""
    with recorded(monkeypatch) as batches:
        with db_session:
            customer = shop.Customer.get(name="a")
            order = shop.Order.select(customer=customer).first()
            assert len(order.lines) == 2
            customer.delete()
    assert batches.writes == ["DELETE line", "DELETE purchase", "DELETE customer"]
    assert [len(batches.runs(f'DELETE FROM "{table}"')) for table in ("Line", "line")] in ([2, 0], [0, 2])
    assert left(shop) == ONLY_B


def test_a_grandchild_whose_parent_is_not_loaded(shop):
    """52. The row between them is not in memory: the grandchild's own delete() is no second delete of a row."""
    with db_session:
        customer = shop.Customer.get(name="a")
        line = shop.Line.get(text="a00")
        line.delete()
        customer.delete()
    assert left(shop) == ONLY_B


def test_a_changed_child_is_deleted_all_the_same(shop):
    """52. A child with unsaved changes is not saved first, or not seen any more behind its parent."""
    with db_session:
        line = shop.Line.get(text="a00")
        line.text = "changed"
        order = line.order
        order.delete()
        shop.Line.get(text="b00").text = "b99"
    assert rows(shop.db, "SELECT text FROM line ORDER BY text") == ["a10", "a11", "b01", "b10", "b11", "b99"]


def test_a_child_that_moved_away_stays(shop):
    """52. A child that was given to another parent in this session is not deleted with its old one."""
    with db_session:
        line = shop.Line.get(text="a00")
        old = line.order
        line.order = shop.Line.get(text="b00").order
        old.delete()
        flush()
        assert shop.Line.get(text="a00") is line
    assert rows(shop.db, "SELECT text FROM line ORDER BY text") == ["a00", "a10", "a11", "b00", "b01", "b10", "b11"]


def test_a_child_that_moved_in_goes(shop):
    """52. A child that was given to the parent in this session is deleted with it."""
    with db_session:
        line = shop.Line.get(text="b00")
        order = shop.Line.get(text="a00").order
        line.order = order
        order.delete()
    assert rows(shop.db, "SELECT text FROM line ORDER BY text") == ["a10", "a11", "b01", "b10", "b11"]


def test_new_children_go_without_any_sql(shop, monkeypatch):
    """52. Children that were never saved just go, and so does a new parent with them."""
    with recorded(monkeypatch) as batches:
        with db_session:
            order = shop.Customer.get(name="a").orders.create()
            order.lines.create(text="x")
            order.delete()
            other = shop.Customer(name="never")
            other.orders.create().lines.create(text="y")
            other.delete()
    assert batches.writes == []


def test_two_parents_of_one_child_are_deleted_together(db):
    """52. A child with two required parents, both deleted, is deleted once."""

    class Left(db.Entity):
        pairs = Set("Pair")

    class Right(db.Entity):
        pairs = Set("Pair")

    class Pair(db.Entity):
        left = Required(Left)
        right = Required(Right)

    db.generate_mapping(create_tables=True)
    with db_session:
        pairs = [Pair(left=Left(), right=Right()) for _ in range(2)]
    with db_session:
        pair = Pair[pairs[0].id]
        pair.left.delete()
        pair.right.delete()
        Pair[pairs[1].id].left.delete()
    assert rows(db, "SELECT count(*) FROM pair") == [0]
    assert rows(
        db,
        'SELECT count(*) FROM "right"' if db.backend.dialect.name == "postgresql" else 'SELECT count(*) FROM "Right"',
    ) == [1]


def test_removing_from_a_collection_deletes_what_cannot_stay(shop):
    """52. `remove` and `clear` delete children whose parent is required, and release the others."""
    with db_session:
        customer = shop.Customer.get(name="a")
        first = customer.orders.select().first()
        customer.orders.remove(first)
        customer.notes.clear()
    assert left(shop)[1] == 3
    assert left(shop)[3] == [("a", True), ("b", False)]


# --- trees --------------------------------------------------------------------------------------------


@pytest.fixture
def Folder(db):
    class Folder(db.Entity):
        name = Required(str)
        parent = Optional("Folder", reverse="folders")
        folders = Set("Folder", reverse="parent", cascade_delete=True)

    db.generate_mapping(create_tables=True)
    with db_session:
        folder = None
        for name in "abcde":
            folder = Folder(name=name, parent=folder)
        Folder(name="z")
    return Folder


FOLDERS = "SELECT name FROM folder ORDER BY name"


def test_cascade_delete_over_an_optional_parent(db, Folder):
    """52. `cascade_delete=True` deletes children although they could stay alone; the database does it too."""
    with db_session:
        Folder.get(name="c").delete()
    assert rows(db, FOLDERS) == ["a", "b", "z"]
    with db_session:
        a = Folder.get(name="a")
        (b,) = a.folders
        a.delete()
        with pytest.raises(OperationWithDeletedObjectError):
            b.name = "x"
    assert rows(db, FOLDERS) == ["z"]


def test_removing_from_a_cascading_collection_deletes(db, Folder):
    """52. With `cascade_delete=True`, `remove` deletes; giving the child another parent does not."""
    with db_session:
        a, b, c, z = (Folder.get(name=name) for name in "abcz")
        c.parent = z
        a.folders.remove(b)
    assert rows(db, FOLDERS) == ["a", "c", "d", "e", "z"]


def test_a_tree_of_which_only_both_ends_are_loaded(db, Folder):
    """52. Root and leaf are deleted, and what lies between was never loaded: no row is deleted twice."""
    with db_session:
        leaf = Folder.get(name="e")
        root = Folder.get(name="a")
        root.delete()
        leaf.delete()
    assert rows(db, FOLDERS) == ["z"]


def test_a_leaf_deleted_before_the_root_that_takes_it_along(db, Folder):
    """52. The same with two leaves, one of them read, and the keys in the other order."""
    with db_session:
        extra = Folder(name="extra", parent=Folder.get(name="d"))
    with db_session:
        for name in ("extra", "e", "c", "a"):
            folder = Folder.get(name=name)
            assert folder.name == name
            folder.delete()
    assert rows(db, FOLDERS) == ["z"]
    assert extra.id


# --- not allowed --------------------------------------------------------------------------------------


@pytest.fixture
def strict(db):
    class Top(db.Entity):
        name = Required(str)
        middles = Set("Middle")

    class Middle(db.Entity):
        name = Required(str)
        top = Required(Top)
        bottoms = Set("Bottom", cascade_delete=False)

    class Bottom(db.Entity):
        middle = Required(Middle)

    db.generate_mapping(create_tables=True)
    with db_session:
        top = Top(name="top")
        Middle(name="empty", top=top)
        Bottom(middle=Middle(name="full", top=top))
    return SimpleNamespace(db=db, Top=Top, Middle=Middle, Bottom=Bottom)


def test_children_that_neither_go_nor_stay_alone_forbid_the_delete(strict):
    """53. The error comes from `delete()`, names object, attribute and the way out; nothing is marked or sent."""
    with db_session:
        full = strict.Middle.get(name="full")
        with pytest.raises(ConstraintError) as caught:
            full.delete()
        message = str(caught.value)
        assert f"Middle[{full.id}]" in message and "Bottom.middle" in message and "cascade_delete" in message
        full.name = "still here"
        strict.Middle.get(name="empty").delete()
    assert rows(strict.db, "SELECT name FROM middle") == ["still here"]


def test_a_refusal_below_leaves_nothing_marked(strict):
    """53. Deleting the top would delete the middle, whose children forbid it: nothing at all is deleted."""
    with db_session:
        top = strict.Top.get(name="top")
        middles = list(top.middles)
        for middle in middles:
            middle.bottoms.load()
        with pytest.raises(ConstraintError):
            top.delete()
        top.name = "changed"
        for middle in middles:
            middle.name += "!"
    assert rows(strict.db, "SELECT name FROM middle ORDER BY name") == ["empty!", "full!"]
    assert rows(strict.db, "SELECT name FROM top") == ["changed"]


def test_a_refusal_by_the_database_restores_everything(strict):
    """53. Where nothing is loaded the database refuses; the error names the constraint, and rollback() restores."""
    with db_session:
        top = strict.Top.get(name="top")
        top.delete()
        with pytest.raises(TransactionIntegrityError) as caught:
            flush()
        if strict.db.backend.dialect.name == "postgresql":
            assert caught.value.table == "bottom"
        assert f"Top[{top.id}]" in str(caught.value)
        rollback()
        assert top.name == "top"
        top.name = "alive"
    assert rows(strict.db, "SELECT name FROM top") == ["alive"]
    assert rows(strict.db, "SELECT count(*) FROM middle") == [2]


def test_deleting_the_children_first_clears_the_way(strict):
    """53. The way out that the error names works, within the same unit of work."""
    with db_session:
        full = strict.Middle.get(name="full")
        for bottom in full.bottoms:
            bottom.delete()
        full.delete()
    assert rows(strict.db, "SELECT name FROM middle") == ["empty"]


# --- hooks --------------------------------------------------------------------------------------------


@pytest.fixture
def hooked(db):
    log = []

    class Author(db.Entity):
        name = PrimaryKey(str)
        books = Set("Book")

    class Book(db.Entity):
        title = PrimaryKey(str)
        author = Required(Author)
        pages = Set("Page")

        def before_delete(self):
            log.append(f"before {self.title}")

        def after_delete(self):
            log.append(f"after {self.title}")

    class Page(db.Entity):
        book = Required(Book)

    db.generate_mapping(create_tables=True)
    with db_session:
        author = Author(name="a")
        for title in "xy":
            book = Book(title=title, author=author)
            Page(book=book)
    return SimpleNamespace(db=db, Author=Author, Book=Book, Page=Page, log=log)


@pytest.mark.parametrize("loaded", ["none", "half", "all"])
def test_delete_hooks_run_for_every_child(hooked, loaded):
    """52. Children with delete hooks are loaded to be deleted, so that their hooks run, once each."""
    with db_session:
        author = hooked.Author["a"]
        if loaded == "half":
            hooked.Book["x"].load()
        elif loaded == "all":
            author.books.load()
        author.delete()
        assert hooked.log == []
        flush()
        assert sorted(hooked.log) == ["after x", "after y", "before x", "before y"]
        assert max(map(hooked.log.index, ["before x", "before y"])) < min(map(hooked.log.index, ["after x", "after y"]))
    assert rows(hooked.db, "SELECT count(*) FROM book") == [0]
    assert rows(hooked.db, "SELECT count(*) FROM page") == [0]


def test_delete_100_costs_two_trips(db):
    """52. Loaded objects of which nothing cascades in memory: one round trip to load, one to delete and commit."""

    class Item(db.Entity):
        n = Required(int)

    db.generate_mapping(create_tables=True)
    with db_session:
        for n in range(100):
            Item(n=n)
    with sent(db) as spent, db_session:
        for item in Item.select():
            item.delete()
    if db.backend.dialect.name == "postgresql":
        assert spent.round_trips == 2
    assert rows(db, "SELECT count(*) FROM item") == [0]
