"""Entity hooks: what they change is saved in the same commit, and they do not run for ever."""

from types import SimpleNamespace

import pytest

from dbsession import (
    Optional,
    Required,
    SessionDoomed,
    Set,
    TransactionError,
    commit,
    db_session,
    flush,
    rollback,
)
from tests.observing import rows, sent

KINDS = ("insert", "update", "delete")


@pytest.fixture
def log():
    return []


@pytest.fixture
def Item(db, log):
    """An entity that logs its hooks, and an entity `Entry` without any."""

    class Item(db.Entity):
        name = Required(str)
        seen = Optional(str)
        parent = Optional("Item", reverse="children")
        children = Set("Item", reverse="parent")

        def before_insert(self):
            log.append(("before_insert", self.name, self.id))

        def after_insert(self):
            log.append(("after_insert", self.name, self.id is not None))

        def before_update(self):
            log.append(("before_update", self.name))

        def after_update(self):
            log.append(("after_update", self.name))

        def before_delete(self):
            log.append(("before_delete", self.name))

        def after_delete(self):
            log.append(("after_delete", self.name))

    db.generate_mapping(create_tables=True)
    return Item


def declare(db, **hooks):
    """Declare `Item` with *hooks* and `Entry`, which has none."""

    class Entry(db.Entity):
        text = Required(str)
        item = Optional("Item")

    namespace = {
        "name": Required(str),
        "count": Optional(int, default=0),
        "entries": Set(Entry),
        **{
            f"{when}_{kind}": hooks[f"{when}_{kind}"]
            for when in ("before", "after")
            for kind in KINDS
            if f"{when}_{kind}" in hooks
        },
    }
    Item = type(db.Entity)("Item", (db.Entity,), namespace)
    db.generate_mapping(create_tables=True)
    return SimpleNamespace(db=db, Item=Item, Entry=Entry)


# --- when they run --------------------------------------------------------------------------------------


def test_hooks_run_around_the_flush(db, Item, log):
    """57. before_... ahead of the first statement, after_... behind it, with generated keys known by then."""
    with db_session:
        item = Item(name="a")
        assert log == []
        flush()
        assert log == [("before_insert", "a", None), ("after_insert", "a", True)]
        log.clear()
        item.name = "b"
        flush()
        assert log == [("before_update", "b"), ("after_update", "b")]
        log.clear()
        item.delete()
        assert log == []
    assert log == [("before_delete", "b"), ("after_delete", "b")]


def test_hooks_run_once_for_each_object(db, Item, log):
    """57. Several flushes: each object's hooks run with the flush that saves it, and only then."""
    with db_session:
        parent = Item(name="p")
        for name in "xyz":
            Item(name=name, parent=parent)
        flush()
        flush()
        Item.select().fetch()
    assert sorted(name for kind, name, *_ in log if kind == "before_insert") == ["p", "x", "y", "z"]
    assert sorted(name for kind, name, *_ in log if kind == "after_insert") == ["p", "x", "y", "z"]
    assert {kind for kind, *_ in log} == {"before_insert", "after_insert"}


def test_loaded_and_unchanged_objects_have_no_hooks_run(db, Item, log):
    """57. Reading, and assigning what was there already, is no update."""
    with db_session:
        Item(name="a")
    log.clear()
    with db_session:
        item = Item.get(name="a")
        item.name = "a"
        item.name = "b"
        item.name = "a"
    assert [entry for entry in log if "update" in entry[0]] == []


def test_hooks_of_deleted_new_objects_do_not_run(db, Item, log):
    """56. An object that never was saved has neither an insert nor a delete."""
    with db_session:
        Item(name="a").delete()
    assert log == []


def test_an_object_changed_by_its_parents_deletion_has_its_update_hooks_run(db, Item, log):
    """57. The children of a deleted parent change: before_update runs, although nothing but the flush noticed them."""
    with db_session:
        child = Item(name="c", parent=Item(name="p"))
    with db_session:
        child = Item[child.id]
        log.clear()
        Item.get(name="p").delete()
        flush()
        assert ("before_update", "c") in log
        assert ("after_update", "c") in log


# --- what they change -----------------------------------------------------------------------------------


def test_before_hooks_change_their_own_object(db):
    """57. What before_insert and before_update assign is part of the same INSERT and UPDATE."""

    def stamp(self):
        self.count = self.count + 1

    shop = declare(db, before_insert=stamp, before_update=stamp)
    with sent(db) as spent, db_session:
        item = shop.Item(name="a")
    assert rows(db, "SELECT name, count FROM item") == [("a", 1)]
    assert spent.statements == 1
    with db_session:
        item = shop.Item[item.id]
        item.name = "b"
    assert rows(db, "SELECT name, count FROM item") == [("b", 2)]


def test_what_hooks_make_is_saved_in_the_same_commit(db):
    """57. New, changed and deleted objects of before and after hooks: one transaction for all."""

    def after_insert(self):
        self.entries.create(text=f"made for {self.name}")

    def before_update(self):
        for entry in self.entries:
            entry.text = f"changed for {self.name}"

    def before_delete(self):
        for entry in self.entries:
            entry.delete()

    shop = declare(db, after_insert=after_insert, before_update=before_update, before_delete=before_delete)
    with sent(db) as spent, db_session:
        item = shop.Item(name="a")
    assert spent.transactions == 1
    assert rows(db, "SELECT text, item FROM entry") == [("made for a", item.id)]
    with db_session:
        shop.Item[item.id].name = "b"
    assert rows(db, "SELECT text FROM entry") == ["changed for b"]
    with db_session:
        shop.Item[item.id].delete()
    assert rows(db, "SELECT count(*) FROM entry") == [0]


def test_what_hooks_make_has_hooks_too(db):
    """57. A chain: each new object's hook makes the next one, until it stops by itself."""

    def after_insert(self):
        if self.count < 5:
            type(self)(name=f"{self.name}+", count=self.count + 1)

    shop = declare(db, after_insert=after_insert)
    with sent(db) as spent, db_session:
        shop.Item(name="a")
    assert spent.transactions == 1
    assert rows(db, "SELECT name FROM item ORDER BY id") == ["a" + "+" * number for number in range(6)]


def test_a_hook_makes_the_parent_of_its_object(db):
    """57. A new parent, made by a before hook, is saved ahead of the object; also by `obj.flush()`."""

    class Folder(db.Entity):
        name = Required(str)
        files = Set("File")

    class File(db.Entity):
        name = Required(str)
        folder = Optional(Folder)

        def before_insert(self):
            if self.folder is None:
                self.folder = Folder(name=f"of {self.name}")

    db.generate_mapping(create_tables=True)
    with db_session:
        File(name="a").flush()
        File(name="b")
    found = rows(db, "SELECT d.name, f.name FROM file f JOIN folder d ON d.id = f.folder ORDER BY f.name")
    assert found == [("of a", "a"), ("of b", "b")]


def test_after_hooks_that_change_another_object_run_its_hooks(db, Item, log):
    """57. An object saved in one round and changed by a hook in the next has its update hooks run, again and again."""

    def after_insert(self):
        log.append(("after_insert", self.name, True))
        if self.parent is not None:
            self.parent.seen = self.name

    Item.after_insert = after_insert
    with db_session:
        parent = Item(name="p")
        flush()
        log.clear()
        parent.name = "q"
        Item(name="c", parent=parent)
    updates = [entry for entry in log if entry == ("before_update", "q")]
    assert len(updates) == 2
    assert rows(db, "SELECT name, seen FROM item ORDER BY id") == [("q", "c"), ("c", None)]


def test_hooks_may_read(db):
    """57. A hook may load and query; what is unsaved then is not flushed for it."""
    found = []

    def before_insert(self):
        found.append(
            (type(self).select().count(), len(type(self).select().fetch()), db.get("SELECT count(*) FROM item"))
        )

    def after_insert(self):
        found.append((type(self).select().count(), type(self)[self.id] is self, len(self.entries)))

    shop = declare(db, before_insert=before_insert, after_insert=after_insert)
    with db_session:
        shop.Item(name="a")
        shop.Item(name="b")
    assert found == [(0, 0, 0), (0, 0, 0), (2, True, 0), (2, True, 0)]


def test_before_insert_may_delete_its_object(db):
    """57. A new object that its hook deletes is not inserted."""

    def before_insert(self):
        if self.name == "bad":
            self.delete()

    shop = declare(db, before_insert=before_insert)
    with db_session:
        shop.Item(name="bad")
        shop.Item(name="good")
    assert rows(db, "SELECT name FROM item") == ["good"]


# --- without an end -------------------------------------------------------------------------------------


def endless_before(self):
    type(self)(name="more")


def endless_after(self):
    self.count = (self.count or 0) + 1


@pytest.mark.parametrize(
    "hooks",
    [
        {"before_insert": endless_before},
        {"after_insert": endless_before},
        {"after_update": endless_after, "after_insert": endless_after},
    ],
    ids=["before", "after", "update"],
)
def test_endless_hooks_are_an_error(db, hooks):
    """57. Hooks that always make more work end in an error that says so, and nothing is committed."""
    shop = declare(db, **hooks)
    with pytest.raises(TransactionError, match="hooks"):
        with db_session:
            shop.Item(name="a")
    assert rows(db, "SELECT count(*) FROM item") == [0]


def test_a_swallowed_error_of_endless_hooks_commits_nothing(db):
    """57. Half of what the rounds made was sent: whoever goes on is told that it is lost."""
    stop = []

    def after_insert(self):
        if not stop:
            type(self)(name="more")

    shop = declare(db, after_insert=after_insert)
    with pytest.raises(SessionDoomed, match="hooks"):
        with db_session:
            shop.Item(name="a")
            with pytest.raises(TransactionError, match="hooks"):
                flush()
            stop.append(True)
    assert rows(db, "SELECT count(*) FROM item") == [0]


# --- errors in hooks ------------------------------------------------------------------------------------


@pytest.mark.parametrize("hook", ["before_insert", "after_insert"])
def test_an_error_in_a_hook_rolls_back(db, hook):
    """57, 88. The hook's own error leaves the scope, and nothing is committed."""

    def fail(self):
        if self.name == "bad":
            raise ZeroDivisionError("in the hook")

    shop = declare(db, **{hook: fail})
    with pytest.raises(ZeroDivisionError, match="in the hook"):
        with db_session:
            shop.Item(name="good")
            shop.Item(name="bad")
    assert rows(db, "SELECT count(*) FROM item") == [0]


@pytest.mark.parametrize("hook", ["before_insert", "after_insert"])
def test_an_error_in_a_hook_that_is_swallowed_dooms_the_session(db, hook):
    """88. As any failed flush: nothing but rollback() is possible, and after it the session works."""
    failing = [True]

    def fail(self):
        if failing:
            raise ZeroDivisionError("in the hook")

    shop = declare(db, **{hook: fail})
    with db_session:
        shop.Entry(text="before")
        flush()
        item = shop.Item(name="bad")
        with pytest.raises(ZeroDivisionError):
            flush()
        with pytest.raises(SessionDoomed, match="ZeroDivisionError"):
            shop.Entry.select().fetch()
        failing.clear()
        with pytest.raises(SessionDoomed):
            commit()
        rollback()
        assert item.id is None
        shop.Item(name="good")
    assert rows(db, "SELECT name FROM item") == ["good"]
    assert rows(db, "SELECT count(*) FROM entry") == [0]


# --- flush within a hook ----------------------------------------------------------------------------------


@pytest.mark.parametrize("hook", ["before_insert", "after_insert", "before_delete", "after_delete"])
@pytest.mark.parametrize("verb", [flush, commit, rollback], ids=["flush", "commit", "rollback"])
def test_flush_commit_and_rollback_within_a_hook_are_refused(db, hook, verb):
    """58. The flush is under way: none of the three may cut into it, whether or not anything is left to be sent."""

    def cut_in(self):
        verb()

    shop = declare(db, **{hook: cut_in})
    if "delete" in hook:
        with db_session:
            db.execute("INSERT INTO item (name, count) VALUES ('a', 0)")
    with pytest.raises(TransactionError, match=f"{verb.__name__}.*hook"):
        with db_session:
            if "delete" in hook:
                shop.Item.get(name="a").delete()
            else:
                shop.Item(name="a")
                shop.Entry(text="e")
    assert rows(db, "SELECT count(*) FROM item") == [1 if "delete" in hook else 0]
    assert rows(db, "SELECT count(*) FROM entry") == [0]


def test_flushing_one_object_within_a_hook_is_refused(db):
    """58. `obj.flush()` is a flush, too."""

    def before_insert(self):
        self.entries.create(text="e").flush()

    shop = declare(db, before_insert=before_insert)
    with pytest.raises(TransactionError, match="hook"):
        with db_session:
            shop.Item(name="a")
    assert rows(db, "SELECT count(*) FROM entry") == [0]


def test_the_session_is_not_stuck_after_a_refused_flush(db):
    """58. A hook that catches the refusal goes on, and so does the flush around it."""
    refused = []

    def before_insert(self):
        try:
            flush()
        except TransactionError as error:
            refused.append(str(error))

    shop = declare(db, before_insert=before_insert)
    with db_session:
        shop.Item(name="a")
        flush()
        shop.Item(name="b")
    assert len(refused) == 2
    assert rows(db, "SELECT name FROM item ORDER BY name") == ["a", "b"]
