"""Many-to-many relations in a flush: exactly one row for each link, whoever made it and how often."""

from types import SimpleNamespace

import pytest

from dbsession import ConstraintError, Optional, PrimaryKey, Required, Set, db_session, flush, rollback
from tests.observing import rows, sent
from tests.session.recording import recorded


@pytest.fixture
def blog(db):
    class Post(db.Entity):
        title = Required(str)
        tags = Set("Tag")

    class Tag(db.Entity):
        name = PrimaryKey(str)
        posts = Set(Post)

    db.generate_mapping(create_tables=True)
    with db_session:
        for title in "pq":
            Post(title=title)
        for name in "xyz":
            Tag(name=name)
    with db_session:
        Post.get(title="p").tags.add(Tag["x"])
    return SimpleNamespace(db=db, Post=Post, Tag=Tag)


LINKS = "SELECT p.title, l.tag FROM post_tag l JOIN post p ON p.id = l.post ORDER BY p.title, l.tag"


def load(blog):
    """Return the posts p and q and the tags x, y and z of this scope."""
    posts = blog.Post.select().order_by(blog.Post.title).fetch()
    return (*posts, *(blog.Tag[name] for name in "xyz"))


def test_a_link_made_on_both_sides_is_one_row(blog, monkeypatch):
    """54. The same link added from the post and from the tag is inserted once."""
    with recorded(monkeypatch) as batches:
        with db_session:
            p, q, x, y, z = load(blog)
            q.tags.add(y)
            y.posts.add(q)
            z.posts.add([p, q])
            p.tags.add(z, z)
    assert batches.runs("INSERT") == [(p.id, "z"), (q.id, "y"), (q.id, "z")]
    assert rows(blog.db, LINKS) == [("p", "x"), ("p", "z"), ("q", "y"), ("q", "z")]


def test_a_link_that_is_there_already_may_be_added(blog):
    """54. Adding to a collection that is not loaded does not load it, and a link that exists is no error."""
    with db_session:
        p, x = blog.Post.get(title="p"), blog.Tag["x"]
        p.tags.add(x)
        x.posts.add(p)
        assert not p.tags.is_loaded
        flush()
        assert list(p.tags) == [x]
        assert list(x.posts) == [p]
    assert rows(blog.db, LINKS) == [("p", "x")]


def test_both_ends_are_new(blog):
    """54. New posts with new tags: the links follow as soon as the keys are known."""
    with sent(blog.db) as spent, db_session:
        tags = [blog.Tag(name=f"t{number}") for number in range(3)]
        posts = [blog.Post(title=f"r{number}", tags=tags[: number + 1]) for number in range(3)]
        tags[2].posts.add(posts[0])
    assert rows(blog.db, LINKS)[1:] == [
        ("r0", "t0"), ("r0", "t2"), ("r1", "t0"), ("r1", "t1"), ("r2", "t0"), ("r2", "t1"), ("r2", "t2"),
    ]  # fmt: skip
    if blog.db.backend.dialect.name == "postgresql":
        assert spent.round_trips == 2


@pytest.mark.parametrize("loaded", [False, True])
def test_only_net_changes_are_sent(blog, monkeypatch, loaded):
    """54. Added and removed again, removed and added again: what remains is sent."""
    with recorded(monkeypatch) as batches:
        with db_session:
            p, q, x, y, z = load(blog)
            if loaded:
                p.tags.load()
                q.tags.load()
            q.tags.add(y)
            y.posts.remove(q)
            p.tags.remove(x)
            x.posts.add(p)
            q.tags.add(z)
    if loaded:
        assert batches.runs("INSERT") == [(q.id, "z")]
        assert batches.runs("DELETE") == []
    assert rows(blog.db, LINKS) == [("p", "x"), ("q", "z")]


def test_new_objects_linked_and_unlinked_need_no_delete(blog, monkeypatch):
    """54. A link that never was in the database is not deleted from it."""
    with recorded(monkeypatch) as batches:
        with db_session:
            post = blog.Post(title="r")
            tag = blog.Tag["y"]
            post.tags.add(tag)
            post.tags.remove(tag)
            assert list(post.tags) == []
    assert batches.writes == ["INSERT post"]
    assert rows(blog.db, LINKS) == [("p", "x")]


def test_a_whole_collection_is_replaced(blog, monkeypatch):
    """54. Assigning a collection deletes and inserts the difference."""
    with recorded(monkeypatch) as batches:
        with db_session:
            p, q, x, y, z = load(blog)
            p.tags = [x, y]
            p.tags = [y, z]
            assert set(p.tags) == {y, z}
            assert list(x.posts) == []
    assert batches.runs("INSERT") == [(p.id, "y"), (p.id, "z")]
    assert batches.runs("DELETE") == [(p.id, "x")]
    assert rows(blog.db, LINKS) == [("p", "y"), ("p", "z")]


def test_links_of_a_deleted_object_go(blog):
    """54. Deleting one end deletes its links, also those just added, and the other end's collection shows it."""
    with db_session:
        p, q, x, y, z = load(blog)
        y.posts.add(p)
        q.tags.add(x)
        assert set(x.posts) == {p, q}
        p.delete()
        assert list(x.posts) == [q]
        assert list(y.posts) == []
        flush()
        assert list(x.posts) == [q]
    assert list(x.posts) == [q]
    assert rows(blog.db, LINKS) == [("q", "x")]


def test_a_loaded_other_end_does_not_keep_a_deleted_object(blog):
    """54. The deleted object's own collection was never touched: the other end forgets it all the same."""
    with db_session:
        x = blog.Tag["x"]
        (p,) = x.posts
        p.delete()
        assert list(x.posts) == []
        rollback()
        assert list(x.posts) == [p]
        p.delete()
    assert list(x.posts) == []
    assert rows(blog.db, LINKS) == []


def test_links_of_objects_deleted_and_made_anew(blog):
    """54. A tag is deleted and made anew with the same key: its new links stay, the old ones go."""
    with db_session:
        p, q, x, y, z = load(blog)
        x.delete()
        new = blog.Tag(name="x")
        q.tags.add(new)
    assert rows(blog.db, LINKS) == [("q", "x")]


def test_links_are_undone_by_rollback(blog):
    """54, 70. After rollback() both sides are as they were, flushed or not, and later links are saved alone."""
    with db_session:
        p, q, x, y, z = load(blog)
        assert list(p.tags) == [x]
        p.tags.add(y)
        flush()
        p.tags.remove(x)
        q.tags.add(z)
        rollback()
        assert list(p.tags) == [x]
        assert list(x.posts) == [p]
        assert list(q.tags) == list(z.posts) == []
        q.tags.add(x)
    assert rows(blog.db, LINKS) == [("p", "x"), ("q", "x")]


def test_links_do_not_change_the_objects(blog, monkeypatch):
    """54. Links alone are no UPDATE of either end."""
    with recorded(monkeypatch) as batches:
        with db_session:
            p, q, x, y, z = load(blog)
            p.tags.add(y)
    assert batches.writes == ["INSERT post_tag"]


# --- with itself --------------------------------------------------------------------------------------


@pytest.fixture
def Person(db):
    class Person(db.Entity):
        name = Required(str)
        friends = Set("Person", reverse="friends")
        follows = Set("Person", reverse="followers")
        followers = Set("Person", reverse="follows")

    db.generate_mapping(create_tables=True)
    with db_session:
        for name in "abc":
            Person(name=name)
    return Person


def people(Person):
    return Person.select().order_by(Person.name).fetch()


def link_table(Person, name):
    """Return the links of `Person.name` by the names of their ends."""
    link = Person._mapping_.collections[name].link
    left, right = link.left_columns[0].quoted, link.right_columns[0].quoted
    return (
        f"SELECT a.name, b.name FROM {link.quoted} l JOIN person a ON a.id = l.{left} "
        f"JOIN person b ON b.id = l.{right} ORDER BY a.name, b.name"
    )


def test_a_symmetric_relation_has_one_pair_of_rows(db, Person):
    """54. `friends` is its own reverse: added on either side or on both, stored once in each direction."""
    with db_session:
        a, b, c = people(Person)
        a.friends.add(b)
        b.friends.add(a)
        c.friends.add(b)
        assert set(b.friends) == {a, c}
    friends = link_table(Person, "friends")
    assert rows(db, friends) == [("a", "b"), ("b", "a"), ("b", "c"), ("c", "b")]
    with db_session:
        a, b, c = people(Person)
        b.friends.remove(a)
        assert list(a.friends) == []
        assert list(b.friends) == [c]
    assert rows(db, friends) == [("b", "c"), ("c", "b")]


def test_a_symmetric_relation_is_undone_on_both_sides(db, Person):
    """54. Removed on one side and added again on the other: nothing has changed."""
    with db_session:
        a, b, c = people(Person)
        a.friends.add(b)
    with db_session:
        a, b, c = people(Person)
        a.friends.remove(b)
        b.friends.add(a)
        c.friends.add(a)
        a.friends.remove(c)
    assert rows(db, link_table(Person, "friends")) == [("a", "b"), ("b", "a")]


def test_an_object_may_be_its_own_friend(db, Person):
    """54. A symmetric link of an object to itself is one row."""
    with db_session:
        a, b, c = people(Person)
        a.friends.add(a)
        assert list(a.friends) == [a]
    assert rows(db, link_table(Person, "friends")) == [("a", "a")]
    with db_session:
        a, b, c = people(Person)
        a.friends.remove(a)
    assert rows(db, link_table(Person, "friends")) == []


def test_two_directions_of_one_table(db, Person):
    """54. `follows` and `followers` are two sides of one table: a follows b is not b follows a."""
    with db_session:
        a, b, c = people(Person)
        a.follows.add(b)
        b.followers.add(c)
        c.follows.add(a)
        assert list(a.followers) == [c]
    sides = rows(db, link_table(Person, "follows"))
    assert sorted(sides) in ([("a", "b"), ("c", "a"), ("c", "b")], [("a", "c"), ("b", "a"), ("b", "c")])
    with db_session:
        a, b, c = people(Person)
        assert set(b.followers) == {a, c}
        assert list(c.follows.select().order_by(Person.name)) == [a, b]


# --- composite keys ------------------------------------------------------------------------------------


def test_links_of_composite_keys_with_generated_parts(db):
    """54. The key of one end has several parts, one of them made by the database in the same flush."""

    class Course(db.Entity):
        name = Required(str)
        groups = Set("Group")

    class Group(db.Entity):
        _table_ = "team"
        course = Required(Course)
        number = Required(int)
        students = Set("Student")
        PrimaryKey(course, number)

    class Student(db.Entity):
        name = Required(str)
        groups = Set(Group)
        mentor = Optional("Student", reverse="mentees")
        mentees = Set("Student", reverse="mentor")

    db.generate_mapping(create_tables=True)
    with db_session:
        course = Course(name="c")
        groups = [Group(course=course, number=number) for number in (1, 2)]
        students = [Student(name=name, groups=groups) for name in "st"]
        lost = Student(name="u")
        lost.groups.add(groups[0])
        lost.groups.remove(groups[0])
    with db_session:
        group = Group[course.id, 2]
        assert sorted(student.name for student in group.students) == ["s", "t"]
        group.students.remove(Student[students[0].id])
    with db_session:
        assert [student.name for student in Group[course.id, 2].students] == ["t"]
        assert [group.number for group in Student[students[0].id].groups] == [1]
        assert list(Student[lost.id].groups) == []


def test_a_link_to_an_object_of_an_ended_scope_is_refused(blog):
    """54. An object of an earlier scope cannot be linked; the error says what to do, and nothing is half added."""
    with db_session:
        old = blog.Tag["y"]
    with db_session:
        p = blog.Post.get(title="p")
        with pytest.raises(ConstraintError, match="get it again in this scope"):
            p.tags.add(old)
    assert rows(blog.db, LINKS) == [("p", "x")]
