"""Random programs that expire, refresh and discard among their changes: memory agrees with itself and the database."""

from __future__ import annotations

import random
from contextlib import suppress
from functools import partial
from types import SimpleNamespace
from typing import Any

import pytest

from dbsession import CacheIndexError, ConstraintError, commit, db_session, flush, rollback
from tests.observing import elsewhere
from tests.session.shop import make_shop


class _Undo(Exception):
    """Leaves an inner scope."""


class Program:
    """One program: what it may do next is chosen at random."""

    def __init__(self, shop: SimpleNamespace, session: Any, seed: int) -> None:
        self.shop = shop
        self.session = session
        self.random = random.Random(seed)
        self.names = 0
        self.held = [obj for entity in (shop.Customer, shop.Order, shop.Card, shop.Tag) for obj in entity]

    def run(self, steps: int, depth: int = 0) -> None:
        """Take *steps* steps, and look after each whether both ends of all relations agree."""
        for _ in range(steps):
            verbs = [self.change, self.change, self.expire, self.refresh, self.expire_all, self.flush, self.look]
            if depth < 2:
                verbs.append(lambda: self.inner(depth))
            if not depth:
                verbs += [rollback, commit]
            self.random.choice(verbs)()
            if self.random.random() < 0.15:
                self.agree()

    def one(self, *entities: type) -> Any:
        """Return an object (of *entities*) that is saved and not deleted, or None; nothing is loaded for it."""
        alive = [obj for obj in self.held if obj._state_.may_change and not obj._state_.is_new]
        return self.random.choice([obj for obj in alive if isinstance(obj, entities or object)] or [None])

    def change(self) -> None:
        """Change something."""
        shop, choose = self.shop, self.random.choice
        customer, order, card, tag = (self.one(each) for each in (shop.Customer, shop.Order, shop.Card, shop.Tag))
        self.names += 1

        def move_card() -> None:
            with suppress(CacheIndexError):
                card.owner = customer

        changes = [
            lambda: setattr(customer, "count", self.random.randrange(30)),
            lambda: setattr(customer, "count", shop.Customer.count + 1),
            lambda: customer.data is not None and customer.data.update(x=self.names),
            lambda: setattr(customer, "name", f"n{self.names}"),
            lambda: order and setattr(order, "customer", choose([customer, None])),
            lambda: card and move_card(),
            lambda: tag and customer.tags.add(tag),
            lambda: tag and customer.tags.remove(tag),
            lambda: self.held.append(shop.Order(total=self.names, customer=customer)),
            lambda: self.held.append(shop.Tag(text=f"t{self.names}", customers=[customer])),
            lambda: self.held.append(shop.Customer(name=f"n{self.names}")),
            lambda: customer.get_pk() != 1 and self.random.random() < 0.3 and customer.delete(),
            lambda: order and order.delete(),
            lambda: tag and self.random.random() < 0.3 and tag.delete(),
        ]
        with self.session.no_autoflush():
            with suppress(ConstraintError):  # an SQL expression is unsaved already
                choose(changes)()

    def expire(self) -> None:
        """Expire an object, or a part of it."""
        obj = self.one()
        names = self.random.choice([(), (), self.random.sample(list(type(obj)._attributes_), 1)])
        with suppress(CacheIndexError):  # another one has the place at the other end
            self.session.expire(obj, *names, discard=True)

    def refresh(self) -> None:
        """Refresh an object, or a part of it."""
        obj = self.one()
        names = self.random.choice([(), (), self.random.sample(list(type(obj)._attributes_), 1)])
        with suppress(CacheIndexError):
            self.session.refresh(obj, *names, discard=True, for_update=self.random.random() < 0.2)

    def expire_all(self) -> None:
        """Expire everything."""
        self.session.expire_all()

    def flush(self) -> None:
        """Save everything."""
        flush()

    def look(self) -> None:
        """Read something."""
        customer = self.one(self.shop.Customer)
        self.random.choice([lambda: list(customer.orders), lambda: customer.card, lambda: len(customer.tags)])()

    def inner(self, depth: int) -> None:
        """Do something in an inner scope, which may fail: then everything is as it was."""
        fails = self.random.random() < 0.5
        before = self.picture() if fails else None
        try:
            with db_session:
                self.run(self.random.randrange(1, 6), depth + 1)
                if fails:
                    raise _Undo
        except _Undo:
            assert self.picture() == before

    def picture(self) -> list[Any]:
        """Return all that memory shows, sorted."""
        shop = self.shop
        with self.session.no_autoflush():
            flush()
        return sorted(
            [
                repr((c, c.name, c.count, sorted((c.data or {}).items()), c.bio, sorted(map(repr, c.tags))))
                for c in shop.Customer
            ]
            + [repr((o, o.total, o.customer)) for o in shop.Order]
            + [repr((c, c.number, c.owner)) for c in shop.Card]
        )

    def exists(self, obj: Any) -> bool:
        """Ask the database whether *obj* has a row still."""
        (key,) = obj._mapping_.key
        table = obj._mapping_.quoted
        return bool(self.shop.db.select(f"SELECT 1 FROM {table} WHERE {key.name} = %(key)s", {"key": obj.get_pk()}))

    def agree(self) -> None:
        """Compare both ends of all relations."""
        shop = self.shop
        customers, orders, tags = (list(each) for each in (shop.Customer, shop.Order, shop.Tag))
        for customer in customers:
            assert set(customer.orders) == {order for order in orders if order.customer is customer}
            assert set(customer.tags) == {tag for tag in tags if customer in tag.customers}
            assert set(customer.tags) == {tag for tag in tags if customer in set(tag.customers)}
            card = customer.card
            assert [card] * (card is not None) == [each for each in shop.Card if each.owner is customer]


@pytest.mark.parametrize("seed", range(30))
def test_random_programs(db, seed):
    """75, 68, 70. Whatever is expired, refreshed and discarded, in whatever scope, nothing is lost and nothing stays."""
    shop = make_shop(db)
    with db_session as session:
        program = Program(shop, session, seed)
        program.run(60)
        commit()
        shown = program.picture()
    with db_session as session:
        assert Program(shop, session, seed).picture() == shown


SOMEBODY = (
    "UPDATE customer SET count = {0}, bio = 'b{0}', name = 'n{0}-{1}' WHERE id = {1}",
    "UPDATE purchase SET customer = {1}, total = {0} WHERE id = {2}",
    "UPDATE purchase SET customer = NULL WHERE id = {2}",
    "INSERT INTO purchase (total, customer) VALUES ({0}, {1})",
    "DELETE FROM purchase WHERE id = {2} AND id > 2",
    "DELETE FROM customer_tag WHERE customer = {1}",
    "INSERT INTO customer_tag SELECT {1}, text FROM tag WHERE NOT EXISTS (SELECT 1 FROM customer_tag WHERE customer = {1})",
    "UPDATE card SET owner = {1}, number = '{0}'",
)


@pytest.mark.parametrize("seed", range(10))
def test_what_somebody_else_does(db, seed):
    """Behind expire_all, and behind refresh of everything in memory, all is as a new session sees it."""
    shop = make_shop(db)
    with db_session as session:
        program = Program(shop, session, seed)
        for number in range(25):
            for _ in range(program.random.randrange(4)):
                program.look()
            for _ in range(program.random.randrange(1, 4)):
                sql = program.random.choice(SOMEBODY)
                change = sql.format(
                    100 * seed + number, program.random.choice([1, 2]), program.random.choice([1, 2, 3])
                )
                elsewhere(db_session(partial(db.execute, change)))
            if program.random.random() < 0.7:
                session.expire_all()
            else:
                held = [obj for obj in session if program.exists(obj)]
                for obj in held:
                    session.refresh(obj, *program.random.choice([(), obj._attributes_]))
                for obj in set(session) - set(held):
                    session.expire(obj)
            program.agree()
            assert program.picture() == elsewhere(partial(picture_of, shop))


def picture_of(shop):
    """Return what a new session sees."""
    with db_session as session:
        return Program(shop, session, 0).picture()
