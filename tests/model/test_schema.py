"""The tables: what stands in them, what makes, checks and drops them, and names of every kind."""

from __future__ import annotations

import re
from datetime import date, datetime
from decimal import Decimal
from uuid import UUID

import pytest

from dbsession import (
    Database,
    DBSchemaError,
    ERDiagramError,
    Json,
    MappingError,
    Optional,
    PrimaryKey,
    Required,
    Set,
    TableDoesNotExist,
    TableIsNotEmpty,
    TransactionIntegrityError,
    composite_index,
    composite_key,
    db_session,
)


def declare_shop(db):
    """Declare a small model with something of everything."""

    class Customer(db.Entity):
        name = Required(str, 40)
        email = Optional(str, unique=True)
        born = Optional(date, index=True)
        orders = Set("Order")
        tags = Set("Tag")

    class Order(db.Entity):
        customer = Required(Customer)
        helper = Optional(Customer, reverse="helped")
        placed = Required(datetime, sql_default="CURRENT_TIMESTAMP")
        total = Required(Decimal, 12, 2)
        number = Required(int, size=16)
        composite_key(customer, number)
        composite_index(placed, total)

    Customer_helped = Set(Order, reverse="helper")  # noqa: F841 - declared on the class below

    class Tag(db.Entity):
        name = PrimaryKey(str, 10)
        extra = Optional(Json)
        customers = Set(Customer)

    return db.entities


SQLITE = '''\
CREATE TABLE IF NOT EXISTS "Customer" (
  "id" INTEGER PRIMARY KEY AUTOINCREMENT,
  "name" VARCHAR(40) NOT NULL,
  "email" TEXT,
  "born" TEXT,
  CONSTRAINT "dbs_uq_Customer__email" UNIQUE ("email")
);

CREATE INDEX IF NOT EXISTS "dbs_ix_Customer__born" ON "Customer" ("born");

CREATE TABLE IF NOT EXISTS "Tag" (
  "name" VARCHAR(10) NOT NULL,
  "extra" TEXT,
  CONSTRAINT "dbs_pk_Tag" PRIMARY KEY ("name")
);

CREATE TABLE IF NOT EXISTS "Order" (
  "id" INTEGER PRIMARY KEY AUTOINCREMENT,
  "customer" INTEGER NOT NULL,
  "helper" INTEGER,
  "placed" TEXT DEFAULT (CURRENT_TIMESTAMP) NOT NULL,
  "total" TEXT COLLATE dbs_decimal NOT NULL,
  "number" INTEGER NOT NULL,
  CONSTRAINT "dbs_uq_Order__customer_number" UNIQUE ("customer", "number"),
  CONSTRAINT "dbs_fk_Order__customer" FOREIGN KEY ("customer") REFERENCES "Customer" ("id") ON DELETE CASCADE,
  CONSTRAINT "dbs_fk_Order__helper" FOREIGN KEY ("helper") REFERENCES "Customer" ("id") ON DELETE SET NULL
);

CREATE INDEX IF NOT EXISTS "dbs_ix_Order__helper" ON "Order" ("helper");

CREATE INDEX IF NOT EXISTS "dbs_ix_Order__placed_total" ON "Order" ("placed", "total");

CREATE TABLE IF NOT EXISTS "Customer_Tag" (
  "customer" INTEGER NOT NULL,
  "tag" VARCHAR(10) NOT NULL,
  CONSTRAINT "dbs_pk_Customer_Tag" PRIMARY KEY ("customer", "tag"),
  CONSTRAINT "dbs_fk_Customer_Tag__customer" FOREIGN KEY ("customer") REFERENCES "Customer" ("id") ON DELETE CASCADE,
  CONSTRAINT "dbs_fk_Customer_Tag__tag" FOREIGN KEY ("tag") REFERENCES "Tag" ("name") ON DELETE CASCADE
);

CREATE INDEX IF NOT EXISTS "dbs_ix_Customer_Tag__tag" ON "Customer_Tag" ("tag");
'''
