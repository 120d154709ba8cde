"""In which order a flush saves: parents before children, level by level, circles over columns that may be NULL."""

import itertools
from types import SimpleNamespace

import pytest

from dbsession import (
    Optional,
    PrimaryKey,
    Required,
    Set,
    TransactionIntegrityError,
    Version,
    db_session,
    flush,
)
from tests.observing import rows, sent
from tests.session.recording import recorded

# --- parents and children ---------------------------------------------------------------------------


@pytest.fixture
def geo(db):
    class Country(db.Entity):
        name = Required(str)
        cities = Set("City")

    class City(db.Entity):
        name = Required(str)
        country = Optional(Country)
        streets = Set("Street")

    class Street(db.Entity):
        name = Required(str)
        city = Optional(City)

    db.generate_mapping(create_tables=True)
    return SimpleNamespace(db=db, Country=Country, City=City, Street=Street)


GEO = (
    "SELECT country.name, city.name, street.name FROM street JOIN city ON city.id = street.city "
    "JOIN country ON country.id = city.country ORDER BY street.name"
)


def test_children_made_before_their_parents_carry_the_generated_keys(geo):
    """43. New children that were made before their parents are saved behind them, with the keys that those got."""
    with db_session:
        streets = [geo.Street(name=f"street {number}") for number in range(4)]
        cities = [geo.City(name=f"city {number}") for number in range(2)]
        for number, street in enumerate(streets):
            street.city = cities[number % 2]
        country = geo.Country(name="country")
        for city in cities:
            city.country = country
    assert rows(geo.db, GEO) == [("country", f"city {number % 2}", f"street {number}") for number in range(4)]
    assert [street.city for street in streets] == [cities[0], cities[1], cities[0], cities[1]]
    assert all(city.id and city.country.id == country.id for city in cities)


def test_three_levels_of_new_rows_need_three_batches(geo):
    """43. Each level of generated keys is one batch, however many rows it has, and COMMIT goes with the last."""
    with sent(geo.db) as spent, db_session:
        for number in range(3):
            country = geo.Country(name=f"{number}")
            for inner in range(3):
                city = geo.City(name=f"{number}{inner}", country=country)
                city.streets.create(name=f"{number}{inner}")
    assert rows(geo.db, GEO) == [
        (name[0], name, name) for name in sorted(f"{a}{b}" for a in range(3) for b in range(3))
    ]
    if geo.db.backend.dialect.name == "postgresql":
        assert spent.round_trips == 3


def test_new_children_of_old_and_new_parents_are_saved_together(geo):
    """43. A child may belong to a parent that is saved, one that is new, or none."""
    with db_session:
        old = geo.City(name="old")
    with db_session:
        old = geo.City[old.id]
        geo.Street(name="a", city=old)
        geo.Street(name="b", city=geo.City(name="new"))
        geo.Street(name="c")
        old.streets.create(name="d")
    found = rows(geo.db, "SELECT street.name, city.name FROM street LEFT JOIN city ON city.id = street.city ORDER BY 1")
    assert found == [("a", "old"), ("b", "new"), ("c", None), ("d", "old")]


def test_an_old_child_moves_to_a_new_parent(geo):
    """43. An UPDATE that refers to a new row waits for its key."""
    with db_session:
        street = geo.Street(name="s", city=geo.City(name="old"))
    with db_session:
        street = geo.Street[street.id]
        street.city = geo.City(name="new", country=geo.Country(name="country"))
        assert street.city.name == "new"
    assert rows(geo.db, GEO) == [("country", "new", "s")]


def test_flush_of_one_child_saves_the_parents_that_it_needs(geo):
    """43. `obj.flush()` saves the object and its new parents; what it does not need waits."""
    with db_session:
        street = geo.Street(name="s", city=geo.City(name="c", country=geo.Country(name="k")))
        other = geo.Country(name="other")
        street.flush()
        assert street.id and street.city.id and street.city.country.id
        assert other.id is None
    assert rows(geo.db, "SELECT name FROM country ORDER BY id") == ["k", "other"]


def test_a_generated_key_becomes_part_of_the_childs_key(db):
    """43. A child whose own key contains the key of a new parent is saved behind it, and found by the whole key."""

    class Order(db.Entity):
        _table_ = "purchase"
        lines = Set("Line")

    class Line(db.Entity):
        order = Required(Order)
        number = Required(int)
        text = Required(str)
        PrimaryKey(order, number)

    db.generate_mapping(create_tables=True)
    with db_session:
        order = Order()
        lines = [Line(order=order, number=number, text=str(number)) for number in (2, 1)]
    with db_session:
        assert Line[order.id, 2].text == "2"
        assert [line.get_pk() for line in lines] == [(order.id, 2), (order.id, 1)]
        assert {line.text for line in Order[order.id].lines} == {"1", "2"}


def test_composite_keys_that_are_known_and_not_known_yet_are_saved_together(db):
    """19, 43. New rows whose key has a reference in it: some parents are saved already, others come with them."""

    class Order(db.Entity):
        name = Required(str)
        lines = Set("Line")

    class Line(db.Entity):
        order = Required(Order)
        pos = Required(int)
        PrimaryKey(order, pos)

    class Code(db.Entity):
        text = PrimaryKey(str)

    db.generate_mapping(create_tables=True)
    with db_session:
        Order(name="old")
    with db_session:
        new = Order(name="new")
        for order, pos in ((new, 2), (Order[1], 2), (new, 1), (Order[1], 1)):
            Line(order=order, pos=pos)
        Code(text="b"), Code(text="a")
    assert rows(db, 'SELECT "order", pos FROM line ORDER BY 1, 2') == [(1, 1), (1, 2), (2, 1), (2, 2)]
    assert rows(db, "SELECT text FROM code ORDER BY 1") == ["a", "b"]


def test_a_parent_with_a_given_key_and_its_children_share_one_batch(db):
    """43. Where the parent's key is known beforehand, nothing waits."""

    class Author(db.Entity):
        name = PrimaryKey(str)
        books = Set("Book")

    class Book(db.Entity):
        title = Required(str)
        author = Required(Author)

    db.generate_mapping(create_tables=True)
    with sent(db) as spent, db_session:
        author = Author(name="Eco")
        for number in range(3):
            Book(title=f"book {number}", author=author)
    if db.backend.dialect.name == "postgresql":
        assert spent.round_trips == 1
    assert rows(db, "SELECT author, title FROM book ORDER BY title") == [("Eco", f"book {n}") for n in range(3)]


# --- trees ------------------------------------------------------------------------------------------


@pytest.fixture
def Node(db):
    class Node(db.Entity):
        name = Required(str)
        parent = Optional("Node", reverse="children")
        children = Set("Node", reverse="parent")
        friend = Optional("Node", reverse="friends")
        friends = Set("Node", reverse="friend")

    db.generate_mapping(create_tables=True)
    return Node


TREE = "SELECT n.name, p.name FROM node n LEFT JOIN node p ON p.id = n.parent ORDER BY n.name"


def grow(Node, name, depth, width):
    """Make a tree depth first, so that children stand between their aunts."""
    node = Node(name=name)
    if depth:
        for number in range(width):
            node.children.add(grow(Node, f"{name}{number}", depth - 1, width))
    return node


def test_a_tree_is_inserted_level_by_level(db, Node):
    """44. A tree of 3 levels is saved in 3 batches, in whatever order its nodes were made."""
    with sent(db) as spent, db_session:
        grow(Node, "r", 2, 4)
    names = [name for name, _ in rows(db, TREE)]
    assert len(names) == 21
    assert rows(db, TREE) == [(name, name[:-1] or None) for name in names]
    if db.backend.dialect.name == "postgresql":
        assert spent.round_trips == 3


def test_a_chain_made_from_the_leaf_up_is_inserted_from_the_root_down(Node, monkeypatch):
    """44. Each row of a chain waits for the one above it."""
    with recorded(monkeypatch) as sent:
        with db_session:
            chain = [Node(name=f"{depth}") for depth in range(6, 0, -1)]
            for child, parent in itertools.pairwise(chain):
                child.parent = parent
    inserted = list(sent.runs("INSERT"))
    assert [values[0] for values in inserted] == [str(depth) for depth in range(1, 7)]
    assert len(sent.batches) == 6


def test_a_tree_is_deleted_leaves_first(db, Node, monkeypatch):
    """44. Deleting every node of a tree deletes children before parents, each row once."""
    with db_session:
        root = grow(Node, "r", 2, 2)
    with recorded(monkeypatch) as sent:
        with db_session:
            nodes = Node.select().fetch()
            parents = {node.id: node.parent and node.parent.id for node in nodes}
            for node in nodes:
                node.delete()
    order = [values[0] for values in sent.runs("DELETE")]
    assert sorted(order) == sorted(parents)
    assert all(order.index(node) < order.index(parent) for node, parent in parents.items() if parent)
    assert rows(db, "SELECT count(*) FROM node") == [0]


def test_a_tree_grows_moves_and_shrinks_in_one_flush(db, Node):
    """44. New nodes below old ones, old ones below new ones, and deleted ones, all at once."""
    with db_session:
        a = Node(name="a")
        b = Node(name="b", parent=a)
        c = Node(name="c", parent=b)
        d = Node(name="d", parent=a)
    with db_session:
        a, b, c, d = (Node[obj.id] for obj in (a, b, c, d))
        x = Node(name="x", parent=a)
        c.parent = Node(name="y", parent=x)
        d.delete()
        b.delete()
    assert rows(db, TREE) == [("a", None), ("c", "y"), ("x", "a"), ("y", "x")]


# --- circles ----------------------------------------------------------------------------------------


@pytest.fixture
def blog(db):
    class User(db.Entity):
        name = Required(str)
        posts = Set("Post", reverse="author")
        favourite = Optional("Post", reverse="fans")

    class Post(db.Entity):
        text = Required(str)
        author = Required(User, reverse="posts")
        fans = Set(User, reverse="favourite")

    db.generate_mapping(create_tables=True)
    return SimpleNamespace(db=db, User=User, Post=Post)


BLOG = 'SELECT u.name, p.text FROM "user" u LEFT JOIN post p ON p.id = u.favourite ORDER BY u.name'


def test_two_tables_that_refer_to_each_other_with_different_rows(blog):
    """45. Tables in a circle, rows in none: saved without any UPDATE."""
    with db_session:
        post = blog.Post(text="p", author=blog.User(name="author"))
        blog.User(name="fan", favourite=post)
    assert rows(blog.db, BLOG) == [("author", None), ("fan", "p")]


def test_two_rows_that_refer_to_each_other(blog, monkeypatch):
    """45. The column that may be NULL is left so at first, and set by an UPDATE once both keys are known."""
    with recorded(monkeypatch) as sent:
        with db_session:
            user = blog.User(name="u")
            user.favourite = blog.Post(text="p", author=user)
    assert rows(blog.db, BLOG) == [("u", "p")]
    assert user.favourite.author is user
    assert sent.writes == ["INSERT user", "INSERT post", "UPDATE user"]


def test_a_circle_can_be_deleted(blog):
    """45. Rows that refer to each other are deleted together, whatever was read of them."""
    with db_session:
        user = blog.User(name="u")
        user.favourite = blog.Post(text="p", author=user)
    with db_session:
        user = blog.User[user.id]
        post = user.favourite
        assert post.author is user
        post.delete()
        user.delete()
    assert rows(blog.db, BLOG) == []
    assert rows(blog.db, "SELECT count(*) FROM post") == [0]


def test_rows_of_one_table_that_refer_to_each_other(db, Node):
    """45. Two new rows of one table, each the parent of the other."""
    with db_session:
        a, b = Node(name="a"), Node(name="b")
        a.parent, b.parent = b, a
    assert rows(db, TREE) == [("a", "b"), ("b", "a")]


def test_a_circle_of_five(db, Node):
    """45. A longer circle needs one UPDATE, not five."""
    with sent(db) as spent, db_session:
        ring = [Node(name=str(number)) for number in range(5)]
        for number, node in enumerate(ring):
            node.parent = ring[(number + 1) % 5]
    assert rows(db, TREE) == [(str(number), str((number + 1) % 5)) for number in range(5)]
    assert spent.statements == 5 + 1 + 2  # rows, one UPDATE, BEGIN and COMMIT


def test_a_new_object_refers_to_itself(db, Node):
    """45. A row may be its own parent."""
    with db_session:
        node = Node(name="n")
        node.parent = node
    assert rows(db, TREE) == [("n", "n")]
    with db_session:
        node = Node[node.id]
        assert node.parent is node
        assert list(node.children) == [node]
        node.delete()
    assert rows(db, TREE) == []


def test_an_object_refers_to_itself_twice(db, Node):
    """45. Every reference that was left NULL is set, not the last one only."""
    with db_session:
        node = Node(name="n")
        node.parent = node.friend = node
    assert rows(db, "SELECT parent = id, friend = id FROM node") in ([(True, True)], [(1, 1)])


def test_crossing_circles_over_two_references(db, Node):
    """45. Two objects that refer to each other by both of their references."""
    with db_session:
        a, b = Node(name="a"), Node(name="b")
        a.parent, b.parent = b, a
        a.friend, b.friend = b, a
    found = rows(
        db, "SELECT n.name, p.name, f.name FROM node n JOIN node p ON p.id = n.parent JOIN node f ON f.id = n.friend"
    )
    assert sorted(found) == [("a", "b", "b"), ("b", "a", "a")]


PARTS = (
    "SELECT p.name, p.version, l.name, r.name FROM part p "
    "JOIN part l ON l.id = p.before JOIN part r ON r.id = p.after ORDER BY p.name"
)


def test_a_circle_of_versioned_rows(db):
    """45. The UPDATE that closes a circle is sent once, and the version that it counts up is in memory."""

    class Part(db.Entity):
        name = Required(str)
        version = Version()
        before = Optional("Part", reverse="followers")
        followers = Set("Part", reverse="before")
        after = Optional("Part", reverse="leaders")
        leaders = Set("Part", reverse="after")

    db.generate_mapping(create_tables=True)
    with db_session:
        parts = [Part(name=name) for name in "abc"]
        for number, part in enumerate(parts):
            part.before, part.after = parts[number - 1], parts[(number + 1) % 3]
        flush()
        versions = {part.name: part.version for part in parts}
    found = rows(db, PARTS)
    assert found == [("a", versions["a"], "c", "b"), ("b", versions["b"], "a", "c"), ("c", versions["c"], "b", "a")]


def test_an_open_circle_closes_over_an_old_row(blog):
    """45. A circle of one new and one old row: the INSERT first, then the UPDATE of the old one."""
    with db_session:
        user = blog.User(name="u")
    with db_session:
        user = blog.User[user.id]
        user.favourite = blog.Post(text="p", author=user)
    assert rows(blog.db, BLOG) == [("u", "p")]


def test_a_missing_parent_is_reported_not_swallowed(geo):
    """43. A child of a row that does not exist is refused by the database, and the error names the child."""
    with pytest.raises(TransactionIntegrityError) as caught:
        with db_session:
            geo.Street(name="s", city=4711)
    assert caught.value.table == "street" or geo.db.backend.dialect.name == "sqlite"
    assert "while saving Street[new]" in str(caught.value)
    assert rows(geo.db, "SELECT count(*) FROM street") == [0]


def test_a_circle_over_a_required_and_an_optional_reference(db):
    """45. Two references to the same row, one of which cannot be NULL: the circle is opened elsewhere."""

    class Team(db.Entity):
        name = Required(str)
        captain = Optional("Player", reverse="captain_of")
        players = Set("Player", reverse="team")
        guests = Set("Player", reverse="guest_of")

    class Player(db.Entity):
        name = Required(str)
        guest_of = Optional(Team, reverse="guests")
        team = Required(Team, reverse="players")
        captain_of = Set(Team, reverse="captain")

    db.generate_mapping(create_tables=True)
    with db_session:
        team = Team(name="t")
        team.captain = Player(name="p", team=team, guest_of=team)
    found = rows(db, "SELECT t.name, p.name, p.team, p.guest_of FROM team t JOIN player p ON p.id = t.captain")
    assert found == [("t", "p", team.id, team.id)]
    with db_session:
        team = Team[team.id]
        player = team.captain
        assert player.team is player.guest_of is team
        team.delete()
    assert rows(db, "SELECT count(*) FROM player") == [0]


def test_two_rows_that_refer_to_each_other_twice_are_deleted(db, Node):
    """45. Deleting rows that refer to each other by two references each, all of them read."""
    with db_session:
        a, b = Node(name="a"), Node(name="b")
        a.parent, b.parent, a.friend, b.friend = b, a, b, a
    with db_session:
        a, b = Node[a.id], Node[b.id]
        assert a.parent is a.friend is b
        assert b.parent is b.friend is a
        a.delete()
        b.delete()
    assert rows(db, TREE) == []
