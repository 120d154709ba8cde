"""Two products: inserted together or not at all, and loaded again after another session has changed them.

Run ``python examples/products.py``, with the path of a SQLite file or the URL of a database if you like, and run
it again: the products are still there, so inserting them a second time is refused, and rolled back.
"""

from __future__ import annotations

import sys
from decimal import Decimal

from dbsession import (
    Database,
    Entity,
    PrimaryKey,
    Required,
    TransactionIntegrityError,
    db_session,
    sessionmaker,
)

db = Database()
make_session = sessionmaker(bind=db)


class Product(Entity, db=db):
    """Something that is sold."""

    id = PrimaryKey(int, auto=True)
    name = Required(str, unique=True)
    price = Required(Decimal, 10, 2)


def insert(*products: tuple[str, str]) -> None:
    """Insert all of *products*, names and prices, in one transaction; none if one of them is refused."""
    names = " and ".join([name for name, _ in products])
    session = make_session()
    try:
        session.add_all([Product(name=name, price=Decimal(price)) for name, price in products])
        session.commit()
        print(f"{names}: saved")
    except TransactionIntegrityError:
        session.rollback()
        print(f"{names}: refused, since one is there already; all was rolled back")
    finally:
        session.close()


def show(when: str) -> None:
    """Print which products there are."""
    with make_session() as session:
        found = session.query(Product).order_by(Product.id).all()
    print(f"{when}: {', '.join([f'{product.name} {product.price}' for product in found]) or 'no products'}")


@db_session(retry=10)  # somebody else may be doing the same
def raise_price(name: str) -> None:
    """Let a product cost 0.10 more: what "another session" does below."""
    product = Product.select(name=name).one()
    product.price += Decimal("0.10")


def reload() -> None:
    """Show when a session sees what others have changed."""
    session = make_session()
    try:
        notebook = session.query(Product).filter_by(name="Notebook").one()
        pencil = session.query(Product).filter_by(name="Pencil").one()
        print(f"loaded: {notebook.price}, {pencil.price}")

        raise_price("Notebook")
        raise_price("Pencil")
        print(f"another session raised both; here they still cost: {notebook.price}, {pencil.price}")

        session.expire_all()
        print(f"after expire_all(), the next access loads them: {notebook.price}, {pencil.price}")

        raise_price("Pencil")
        session.refresh(pencil)
        print(f"another one raised the second; after refresh(): {notebook.price}, {pencil.price}")
    finally:
        session.close()


def main() -> None:
    """Open the database, and run the exercise."""
    place = sys.argv[1] if len(sys.argv) > 1 else "products.db"
    db.bind(place if "://" in place else f"sqlite:///{place}")
    db.generate_mapping(create_tables=True)  # tables that are there stay as they are
    show("found")
    insert(("Notebook", "3.50"), ("Pencil", "0.80"))
    insert(("Ruler", "1.20"), ("Notebook", "3.50"))
    reload()
    show("left")
    db.close()


if __name__ == "__main__":
    main()
