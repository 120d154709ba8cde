"""A library with as many books as a test wants: what streams are read from."""

from __future__ import annotations

import gc
from types import SimpleNamespace
from typing import Any

from dbsession import Database, Json, Optional, Required, Set, db_session
from tests.conftest import SELECTED
from tests.observing import elsewhere

__all__ = ["BATCH", "BOOKS", "DATABASES", "alive", "change_elsewhere", "make_library"]

# SQLite in a file reads a stream step by step; in memory, where readers keep writers waiting, it is put aside at once.
DATABASES = [*SELECTED, "sqlite-file"] if "sqlite" in SELECTED else SELECTED

BOOKS = 25
BATCH = 10


def make_library(db: Database, books: int = BOOKS) -> SimpleNamespace:
    """Declare the entities in *db*, and save *books* books of the years 0, 1, 2, ... and five authors."""

    class Author(db.Entity):
        name = Required(str)
        books = Set("Book")

    class Book(db.Entity):
        title = Required(str)
        year = Required(int)
        tags = Optional(Json)
        text = Optional(str, lazy=True)
        author = Optional(Author)
        readers = Set("Reader")
        card = Optional("Card")

    class Card(db.Entity):
        book = Required(Book)

    class Reader(db.Entity):
        name = Required(str)
        books = Set(Book)

    db.generate_mapping(create_tables=True)
    with db_session:
        authors = [Author(name=f"author {number}") for number in range(5)]
        for year in range(books):
            Book(title=f"book {year}", year=year, tags={"year": year}, text="once", author=authors[year % 5])
    del authors
    gc.collect()  # so that `alive` counts none of these
    return SimpleNamespace(db=db, Author=Author, Book=Book, Card=Card, Reader=Reader)


def change_elsewhere(library: SimpleNamespace, old_year: int, **values: Any) -> None:
    """Let somebody else change the book of *old_year*."""
    elsewhere(db_session(lambda: library.Book.get(year=old_year).set(**values)))


def alive(entity: Any) -> int:
    """Count the objects of *entity* that are in memory, garbage in circles included."""
    return sum(isinstance(obj, entity) for obj in gc.get_objects())
