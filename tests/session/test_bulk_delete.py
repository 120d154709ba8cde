"""What one DELETE for many rows leaves in memory."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from dbsession import Optional, Required, Set, db_session


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
