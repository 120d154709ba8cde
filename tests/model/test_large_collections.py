"""The rule against N+1 where there is much to load: more keys than one statement takes, still few round trips."""

from __future__ import annotations

import pytest

from dbsession import Optional, PrimaryKey, Required, Set, db_session
from tests.counting import counted

MANY = 1_201  # more than two statements take


@pytest.fixture(params=["plain keys", "composite keys"])
def shop(request, db):
    """Many owners with an item, a link and a badge each; the key of an owner has one part or two."""

    class Owner(db.Entity):
        if request.param == "plain keys":
            a = PrimaryKey(int)
        else:
            a = Required(int)
            b = Required(str)
            PrimaryKey(a, b)
        name = Required(str)
        items = Set("Item")
        tags = Set("Tag")
        badge = Optional("Badge")

    class Item(db.Entity):
        owner = Required(Owner)

    class Tag(db.Entity):
        owners = Set(Owner)

    class Badge(db.Entity):
        owner = Required(Owner)

    db.generate_mapping(create_tables=True)
    second = {} if request.param == "plain keys" else {"b": "x"}
    with db_session:
        tag = Tag()
        for number in range(MANY):
            owner = Owner(a=number, name=f"N{number}", **second)
            Item(owner=owner), Badge(owner=owner)
            tag.owners.add(owner)
    return db


@pytest.mark.parametrize("kind", ["items", "tags"])
def test_collections(shop, kind):
    """The collections of all owners come in one round trip, whatever number of statements that takes."""
    with db_session:
        owners = list(shop.entities["Owner"].select())
        with counted(shop) as sent:
            assert sum(len(getattr(owner, kind)) for owner in owners) == MANY
        assert (sent.round_trips, sent.statements) == (2, 4)


def test_one_to_one(shop):
    """So do the other ends of a one-to-one relation."""
    with db_session:
        owners = list(shop.entities["Owner"].select())
        with counted(shop) as sent:
            assert all(owner.badge.owner is owner for owner in owners)
        assert (sent.round_trips, sent.statements) == (2, 4)


def test_references(shop):
    """And what many objects refer to."""
    with db_session:
        items = list(shop.entities["Item"].select())
        with counted(shop) as sent:
            assert len({item.owner.name for item in items}) == MANY
        assert (sent.round_trips, sent.statements) == (1, 3)
        with counted(shop) as sent:
            assert len({badge.owner.name for badge in shop.entities["Badge"].select()}) == MANY
        assert sent.statements == 1


def test_conditions(shop):
    """in_() takes as many objects."""
    Owner, Item = shop.entities["Owner"], shop.entities["Item"]
    with db_session:
        owners = list(Owner.select())
        assert Item.select(Item.owner.in_(owners)).count() == MANY
        assert Item.select(~Item.owner.in_(owners[1:])).count() == 1
        assert Item.select(Item.owner.in_([None, *owners[:7]])).count() == 7
