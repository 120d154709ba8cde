"""Two like sessions take their locks in the same order, so that they wait for each other instead of deadlocking."""

import threading
from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest

from dbsession import Database, Optional, Required, Set, db_session
from tests.observing import rows, wait_until_blocked


@pytest.fixture
def shop(postgres_url):
    """A shop with two products of one shelf, and a connection of nobody's session."""
    db = Database(postgres_url)

    class Shelf(db.Entity):
        name = Required(str)
        products = Set("Product")

    class Product(db.Entity):
        name = Required(str)
        red = Optional(int)
        blue = Optional(int)
        shelf = Optional(Shelf)

    db.generate_mapping(create_tables=True)
    with db_session:
        shelf = Shelf(name="shelf")
        for name in "abc":
            Product(name=name, shelf=shelf)
    yield db, Product, Shelf
    db.close()


def run_blocked(url, lock, *works):
    """Run *works* in threads while the rows of the statement *lock* are locked; each starts when the one before waits."""
    with psycopg.connect(url) as holder, psycopg.connect(url, autocommit=True) as watcher:
        holder.execute(lock)
        with ThreadPoolExecutor(len(works)) as pool:
            futures = []
            for number, work in enumerate(works, 1):
                futures.append(pool.submit(work))
                wait_until_blocked(watcher, number)
            holder.rollback()
            return [future.result(60) for future in futures]


def test_two_scopes_that_update_in_opposite_orders_do_not_deadlock(shop, postgres_url):
    """51. Both lock row 1 first: one waits, holding nothing, and both commit."""
    db, Product, _ = shop

    @db_session
    def work(attribute, order):
        products = {product.id: product for product in Product.select()}
        for id in order:
            setattr(products[id], attribute, id)  # written unread, so that neither checks the other's change

    run_blocked(
        postgres_url,
        "SELECT FROM product WHERE id = 1 FOR UPDATE",
        lambda: work("red", [1, 2, 3]),
        lambda: work("blue", [3, 2, 1]),
    )
    assert rows(db, "SELECT id, red, blue FROM product ORDER BY id") == [(1, 1, 1), (2, 2, 2), (3, 3, 3)]


def test_updates_in_two_tables_do_not_deadlock(shop, postgres_url):
    """51. Tables have an order too, whatever was touched first."""
    db, Product, Shelf = shop

    @db_session
    def work(first, *, shelf_first):
        product, shelf = Product[1], Shelf[1]
        steps = [lambda: setattr(shelf, "name", first), lambda: setattr(product, first, 1)]
        for step in steps if shelf_first else reversed(steps):
            step()

    run_blocked(
        postgres_url,
        "SELECT FROM shelf FOR UPDATE",
        lambda: work("red", shelf_first=True),
        lambda: work("blue", shelf_first=False),
    )
    assert rows(db, "SELECT red, blue FROM product WHERE id = 1") == [(1, 1)]


def test_deletes_in_opposite_orders_do_not_deadlock(shop, postgres_url):
    """51. Deletes go by key: the second scope finds the rows gone, which is a conflict and no deadlock."""
    db, Product, _ = shop
    outcomes = []

    def work(order):
        try:
            with db_session:
                products = {product.id: product for product in Product.select()}
                for id in order:
                    products[id].delete()
        except Exception as error:
            outcomes.append(type(error).__name__)
        else:
            outcomes.append("committed")

    run_blocked(
        postgres_url,
        "SELECT FROM product WHERE id = 1 FOR UPDATE",
        lambda: work([1, 2, 3]),
        lambda: work([3, 2, 1]),
    )
    assert sorted(outcomes) == ["OptimisticCheckError", "committed"]
    assert rows(db, "SELECT count(*) FROM product") == [0]


def test_links_in_opposite_orders_do_not_deadlock(postgres_url):
    """51. Rows of link tables are inserted in the order of their keys: two scopes that add the same ones both commit."""
    db = Database(postgres_url)

    class Post(db.Entity):
        tags = Set("Tag")

    class Tag(db.Entity):
        posts = Set(Post)

    db.generate_mapping(create_tables=True)
    with db_session:
        posts = [Post() for _ in range(3)]
        tag = Tag()
    ids = [post.id for post in posts]

    @db_session
    def work(order):
        for id in order:
            Post[id].tags.add(Tag[tag.id])

    # Somebody has inserted the link in the middle and not committed: whoever inserts it too waits.
    run_blocked(
        postgres_url,
        f"INSERT INTO post_tag (post, tag) VALUES ({ids[1]}, {tag.id})",
        lambda: work(ids),
        lambda: work(ids[::-1]),
    )
    assert rows(db, "SELECT post FROM post_tag ORDER BY post") == ids
    db.close()


def test_many_scopes_in_random_orders_all_commit(shop):
    """51. Eight threads update the same rows in different orders, many times: nobody is a victim."""
    db, Product, _ = shop
    start = threading.Barrier(8)

    def work(number):
        start.wait(30)
        for turn in range(10):
            with db_session:
                products = Product.select().fetch()
                rotation = (number + turn) % 3
                for product in products[rotation:] + products[:rotation]:
                    product.red = number * 100 + turn
        return number

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(work, range(8))) == list(range(8))
    assert len(set(rows(db, "SELECT red FROM product"))) == 1
