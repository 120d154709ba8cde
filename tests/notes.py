"""Notes: the small entity that several files of tests save, change and fight over."""

from __future__ import annotations

from typing import Any

from dbsession import Database, Optional, Required, Set, db_session
from tests.observing import elsewhere, rows

__all__ = ["conflict", "declare_note", "declare_notes_on_a_shelf", "texts"]


def declare_note(db: Database) -> Any:
    """Declare `Note` in *db*, save the first one, and return the entity."""

    class Note(db.Entity):
        text = Required(str, unique=True)
        likes = Required(int, default=0)

    db.generate_mapping(create_tables=True)
    with db_session:
        Note(text="first")
    return Note


def declare_notes_on_a_shelf(db: Database) -> Any:
    """Declare `Note` and `Shelf` in *db*, save one shelf with three notes, and return `Note`."""

    class Shelf(db.Entity):
        name = Required(str)
        notes = Set("Note")

    class Note(db.Entity):
        text = Required(str, unique=True)
        likes = Required(int, default=0)
        shelf = Optional(Shelf)

    db.generate_mapping(create_tables=True)
    with db_session:
        shelf = Shelf(name="shelf")
        for text in "abc":
            Note(text=text, shelf=shelf)
    return Note


def texts(db: Database) -> list[Any]:
    """Return the texts of the notes, as everybody else sees them."""
    return sorted(rows(db, "SELECT text FROM note"))


def conflict(Note: Any) -> None:
    """Let the commit of the current scope fail, as another one has changed what it read."""
    note = Note[1]
    note.likes += 1
    elsewhere(db_session(lambda: setattr(Note[1], "likes", Note[1].likes + 10)))
