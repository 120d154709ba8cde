"""`Database`: where the data is, which entities it has, and the verbs that need no entity.

A database is made of a URL (or bound to one later), has entities declared in it, and gets its
mapping by `generate_mapping`. Connections are opened at first use.
"""

from __future__ import annotations

from collections import namedtuple
from collections.abc import Iterable
from typing import Any

from dbsession.backends.base import Backend, Counters
from dbsession.backends.flow import Executor, Flow, execute
from dbsession.backends.statements import Kind, Result, Statement
from dbsession.backends.urls import make_backend, make_backend_from_provider
from dbsession.errors import (
    BindingError,
    CommitOutcomeUnknown,
    ConnectionLost,
    DBSchemaError,
    ERDiagramError,
    InvalidRequestError,
    MappingError,
    MultipleRowsFound,
    NestedScopeError,
    ProgrammingError,
    RowNotFound,
    TableDoesNotExist,
    TableIsNotEmpty,
)
from dbsession.model.elsewhere import DatabaseNames
from dbsession.model.entity import Entity, EntityBase, EntityMeta
from dbsession.model.mapper import complete_mappings
from dbsession.model.mapping import LinkTable, Mapping
from dbsession.model.schema import Table, tables_of
from dbsession.scope.gateway import ScopeGateway
from dbsession.session.raw_sql import RawResult, counts_as_write, execute_raw
from dbsession.session.taps import tapped
from dbsession.session.transaction import Phase

__all__ = ["Database", "RawResult"]

# What may follow the name of a provider without a keyword.
_PROVIDERS = {"sqlite": "filename", "postgres": "dsn", "postgresql": "dsn"}


class Database(DatabaseNames):
    """A database: ``Database("postgresql://...")``, ``Database("sqlite:///app.db")``.

    Without arguments it is bound later, with `bind`. Declare entities with ``class User(db.Entity)`` or
    ``class User(Entity, db=db)``, then call `generate_mapping` once.
    """

    def __init__(self, url: str | None = None, *args: Any, **options: Any) -> None:
        self.entities: dict[str, type[EntityBase]] = {}
        self.gateway = ScopeGateway(self)
        self.Entity: type[Entity] = EntityMeta("Entity", (Entity,), {"__doc__": Entity.__doc__}, db=self, abstract=True)  # type: ignore[assignment]
        self._backend: Backend | None = None
        self._closed: Backend | None = None  # what it was bound to before `close`
        self._links: list[LinkTable] = []
        self._tables: list[Table] | None = None
        if url is not None or args or options:
            self.bind(url, *args, **options)

    def __repr__(self) -> str:
        bound = self._backend or self._closed
        return f"<Database {bound.url if bound is not None else 'not bound'}>"

    @property
    def catalog(self) -> Database:
        """What entities register in: this database."""
        return self

    # --- binding ------------------------------------------------------------------------------

    def bind(self, url: str | None = None, *args: Any, **options: Any) -> None:
        """Say where the database is; opens no connection.

        Either a URL (``sqlite://``, ``sqlite:///relative.db``, ``postgresql://user@host/name``,
        ``embedded-postgresql:///./data``), or libpq keywords (``"host=... dbname=..."``), or
        ``provider="sqlite", filename="app.db"``, ``provider="postgres", user=..., host=..., database=...``.

        Raises:
            BindingError: it is bound already, or the URL or an option cannot be used.
        """
        if (bound := self._backend or self._closed) is not None:
            raise BindingError(f"this database is bound already, to {bound.url}")
        provider: str | None = options.pop("provider", None)
        if isinstance(url, str) and url.lower() in _PROVIDERS and provider is None:
            provider, url = url, None  # as Pony has it: bind("sqlite", "app.db"), bind("postgres", host=...)
            if args:
                options[_PROVIDERS[provider.lower()]], args = args[0], args[1:]
        if args or (url is None) is (provider is None):
            raise BindingError(
                'say where the database is in one way: a URL, or provider="sqlite" with filename=, '
                'or provider="postgres" with host=, user=, database=, ...'
            )
        if url is not None:
            self._backend = make_backend(url, **options)
        elif provider is not None:
            self._backend = make_backend_from_provider(provider, **options)

    @property
    def backend(self) -> Backend:
        """Where connections come from.

        Raises:
            BindingError: the database is bound to nothing yet.
        """
        if self._backend is None:
            if self._closed is None:
                raise BindingError("the database is not bound yet: give Database() a URL, or call db.bind(url)")
            self._backend, self._closed = self._closed.reopened(), None
        return self._backend

    @property
    def counters(self) -> Counters:
        """How many statements, round trips, transactions and connections there have been."""
        return (self._closed or self.backend).counters

    def close(self) -> None:
        """Close every connection. In-memory data is gone; the database can be used again."""
        if self._backend is not None:
            self._closed, self._backend = self._backend, None
            self._closed.close()

    # --- entities -----------------------------------------------------------------------------

    def register(self, entity: type[EntityBase]) -> None:
        """Take in a new entity class.

        Raises:
            MappingError: `generate_mapping` was called already.
            ERDiagramError: another entity has its name.
        """
        name = entity.__name__
        if self._tables is not None:
            raise MappingError(f"{name} was declared after generate_mapping(); declare all entities before it")
        if name in self.entities:
            raise ERDiagramError(f"there is an entity {name} in this database already")
        self.entities[name] = entity

    def _mappings(self) -> list[Mapping]:
        return [entity._mapping_ for entity in self.entities.values()]

    def generate_mapping(self, *, create_tables: bool = False, check_tables: bool = True) -> None:
        """Complete the entities: relations, columns, keys. Call it once, after the last entity is declared.

        *create_tables* makes the tables that are not there; those that are stay as they are.
        *check_tables* looks whether every table and column is there.

        Raises:
            ERDiagramError: the entities contradict each other.
            TableDoesNotExist, DBSchemaError: a table is missing, or lacks columns.
            MappingError: it was called before.
        """
        if self._tables is not None:
            raise MappingError("generate_mapping() was called already; call it once, after all entities are declared")
        dialect = self.backend.dialect
        self._links = complete_mappings(self._mappings(), dialect)
        self._tables = tables_of(self._mappings(), self._links, dialect)
        if create_tables:
            self.create_tables(check_tables=check_tables)
        elif check_tables:
            self.check_tables()

    def _require_tables(self) -> list[Table]:
        if self._tables is None:
            raise MappingError("call db.generate_mapping() first, after all entities are declared")
        return self._tables

    # --- schema -------------------------------------------------------------------------------

    def schema_sql(self) -> str:
        """Return the SQL that makes the tables."""
        statements = [statement for table in self._require_tables() for statement in table.statements()]
        if self.backend.dialect.placeholder == "%s":  # a percent sign in a name is doubled for the driver only
            statements = [statement.replace("%%", "%") for statement in statements]
        return ";\n\n".join(statements) + ";\n" if statements else ""

    def create_tables(self, *, check_tables: bool = True) -> None:
        """Make the tables and indexes that are not there; what is there stays as it is."""
        tables, dialect = self._require_tables(), self.backend.dialect.name
        with _Direct(self.backend) as connection:
            connection.execute(_alone(dialect))  # two processes may start at once, and IF NOT EXISTS is a race
            existing = _existing(connection, tables, dialect)
            statements: list[str] = []
            later: list[str] = []
            for table in tables:
                if table.quoted not in existing:
                    statements.append(table.create)
                    later += table.afterwards
            connection.execute((*[Statement(sql, kind=Kind.WRITE) for sql in [*statements, *later]], _COMMIT))
        if check_tables:
            self.check_tables()

    def check_tables(self) -> None:
        """Look whether every table and every column of the mapping is in the database.

        Raises:
            TableDoesNotExist: a table is missing.
            DBSchemaError: a table lacks columns.
        """
        tables, dialect = self._require_tables(), self.backend.dialect.name
        with _Direct(self.backend) as connection:
            existing = _existing(connection, tables, dialect)
            for table in tables:
                if table.quoted not in existing:
                    raise TableDoesNotExist(
                        f"the table {table.name} is not in {self.backend.url}: "
                        f"call generate_mapping(create_tables=True), "
                        f"or create it with the SQL of db.schema_sql()"
                    )
            if not tables:
                return
            checks = [Statement(f"SELECT * FROM {table.quoted} WHERE 1 = 0", returns=True) for table in tables]
            results = connection.execute(tuple(checks))
        for table, result in zip(tables, results, strict=True):
            there = {_folded(name, dialect) for name in result.columns}
            missing = [column.name for column in table.columns if _folded(column.name, dialect) not in there]
            if missing:
                raise DBSchemaError(
                    f"the table {table.name} in {self.backend.url} lacks {', '.join(missing)}; it has "
                    f"{', '.join(result.columns)}. Change the table, or name its columns with column="
                )

    def drop_all_tables(self, *, with_all_data: bool = False) -> None:
        """Drop the tables of the mapping; those that are not there are passed over.

        Raises:
            TableIsNotEmpty: a table holds rows, and *with_all_data* was not given; nothing is dropped.
        """
        tables = list(reversed(self._require_tables()))
        dialect = self.backend.dialect.name
        is_sqlite = dialect == "sqlite"
        with _Direct(self.backend) as connection:
            existing = _existing(connection, tables, dialect)
            tables = [table for table in tables if table.quoted in existing]
            if not with_all_data:
                for table in tables:
                    if connection.execute((Statement(f"SELECT 1 FROM {table.quoted} LIMIT 1", returns=True),))[0].rows:
                        raise TableIsNotEmpty(
                            f"the table {table.name} holds rows; say with_all_data=True to drop it with them"
                        )
            if is_sqlite:  # or it would check the references of every row that goes; a no-op within a transaction
                connection.execute((Statement("PRAGMA foreign_keys = OFF"),))
            try:
                _run_ddl(connection, _drops(tables, is_sqlite=is_sqlite))
            finally:
                if is_sqlite:
                    connection.execute((Statement("PRAGMA foreign_keys = ON"),))

    # --- raw SQL ------------------------------------------------------------------------------

    def execute(self, sql: str, params: Any = None, *, autocommit: bool = False) -> RawResult:
        """Run *sql* in the current scope's transaction; it counts as a write.

        Parameters are ``%s`` with a sequence or ``%(name)s`` with a dict, on every database; without
        *params* the text is sent as it is. Unsaved changes are flushed first. What objects have read
        is forgotten where they are loaded again, since the statement may have changed anything.

        With *autocommit* it runs outside any transaction, as CREATE INDEX CONCURRENTLY and VACUUM
        want it, and no rollback takes it back. That needs ``db_session(ddl=True)``, and a session in
        which nothing waits to be committed.

        Raises:
            NoScopeError: there is no db_session here.
            ProgrammingError: the SQL is wrong, or tries to end the transaction; or *autocommit* outside
                ``db_session(ddl=True)``.
            InvalidRequestError: *autocommit*, and a transaction is open or something is unsaved.
            NestedScopeError: *autocommit* in an inner scope.
            CommitOutcomeUnknown: the connection broke while a statement with *autocommit* ran.
        """
        if autocommit:
            return RawResult(self._raw_alone(sql, params))
        return self._raw(sql, params, writes=True)

    def select(self, sql: str, params: Any = None) -> list[Any]:
        """Return the rows of the SELECT *sql*: named tuples, or plain values where there is one column.

        It is sent in autocommit as long as nothing was written. What writes or locks, as far as its text
        shows, is run as `execute` does; call functions that write by `execute`.
        """
        result = self._raw(sql, params, writes=False)
        if len(result.columns) == 1:
            return [row[0] for row in result.rows]
        named: Any = namedtuple("Row", list(result.columns), rename=True)  # type: ignore[misc]  # noqa: PYI024 - fields known at run time
        return list(map(named._make, result.rows))

    def get(self, sql: str, params: Any = None) -> Any:
        """Return the only row of the SELECT *sql*, as `select` does.

        Raises:
            RowNotFound: there is none.
            MultipleRowsFound: there is more than one.
        """
        rows = self.select(sql, params)
        if not rows:
            raise RowNotFound("the query gave no row, and get() needs one")
        if len(rows) > 1:
            raise MultipleRowsFound(f"the query gave {len(rows)} rows, and get() takes one; use select()")
        return rows[0]

    def exists(self, sql: str, params: Any = None) -> bool:
        """Tell whether the SELECT *sql* gives a row."""
        return bool(self._raw(sql, params, writes=False).rows)

    def _raw(self, sql: str, params: Any, *, writes: bool) -> RawResult:
        return execute_raw(self.gateway.unit(), sql, params, writes=writes)

    def _raw_alone(self, sql: str, params: Any) -> Result:
        """Run *sql* outside any transaction."""
        counts_as_write(sql)  # or it is refused
        unit = self.gateway.unit()
        transaction = unit.transaction
        if transaction.policy.mode.foreign_keys:
            raise ProgrammingError(
                "execute(..., autocommit=True) cannot be taken back by a rollback, so it has to be asked for: "
                "use it in `with db_session(ddl=True)`"
            )
        if unit.savepoint is not None:
            raise NestedScopeError(
                "execute(..., autocommit=True) in an inner db_session could not be undone with it; run it in the "
                "outermost scope"
            )
        transaction.require_usable()
        if transaction.phase is not Phase.IDLE or unit.has_pending():
            raise InvalidRequestError(
                "execute(..., autocommit=True) runs outside any transaction, and this session has an open one or "
                "unsaved changes; call commit() first (or make it the first statement of the scope)"
            )
        text, values = unit.dialect.raw(sql, params)
        unit.forgets_reads = True
        self.gateway.saving_now()
        return unit.run(_alone_flow(Statement(text, values, Kind.RAW, returns=True)))


def _alone_flow(statement: Statement) -> Flow[Result]:
    try:
        return (yield from execute(statement))[0]
    except ConnectionLost as error:
        if not error.commit_sent:
            raise
        raise CommitOutcomeUnknown(
            f"the connection broke while the statement ran, so nobody here knows whether it was done ({error}); look "
            f"at the database before running it again",
            original_exc=error.original_exc,
        ) from error


class _Direct:
    """A connection outside any scope, for the schema."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend

    def __enter__(self) -> Executor:
        self._connection = self._backend.acquire()
        return tapped(self._backend, self._connection)

    def __exit__(self, *exc_info: object) -> None:
        self._backend.release(self._connection)


def _drops(tables: list[Table], *, is_sqlite: bool) -> list[str]:
    """Return what drops *tables*; PostgreSQL drops them all at once, so that they may refer to each other.

    There is no CASCADE: what others have built upon the tables, a view for instance, is an error and stays.
    """
    if is_sqlite:
        return [f"DROP TABLE {table.quoted}" for table in tables]
    return [f"DROP TABLE {', '.join([table.quoted for table in tables])}"] if tables else []


_COMMIT = Statement("COMMIT", kind=Kind.COMMIT)


def _alone(dialect: str) -> tuple[Statement, ...]:
    """Return what begins a transaction that nobody else makes tables beside."""
    if dialect == "sqlite":
        return (Statement("BEGIN IMMEDIATE", kind=Kind.BEGIN),)
    lock = Statement("SELECT pg_advisory_xact_lock(hashtext('dbsession: create tables'))", returns=True)
    return (Statement("BEGIN", kind=Kind.BEGIN), lock)


def _run_ddl(connection: Executor, statements: Iterable[str]) -> None:
    """Run *statements* as one transaction."""
    batch = [Statement(sql, kind=Kind.WRITE) for sql in statements]
    if batch:
        connection.execute((Statement("BEGIN", kind=Kind.BEGIN), *batch, _COMMIT))


def _existing(connection: Executor, tables: Iterable[Table], dialect: str) -> set[str]:
    """Return the quoted names of those of *tables* that are there, found as a statement would find them."""
    if dialect == "sqlite":
        sql = "SELECT name FROM sqlite_master WHERE type IN ('table', 'view')"
        found = {_folded(row[0], dialect) for row in connection.execute((Statement(sql, returns=True),))[0].rows}
        return {table.quoted for table in tables if _folded(table.name, dialect) in found}
    names = {table.quoted.replace("%%", "%"): table.quoted for table in tables}
    sql = (
        "SELECT name FROM unnest(%s::text[]) AS name JOIN pg_catalog.pg_class AS c "
        "ON c.oid = pg_catalog.to_regclass(name) WHERE c.relkind IN ('r', 'v', 'm', 'f', 'p')"
    )
    rows = connection.execute((Statement(sql, (list(names),), returns=True),))[0].rows
    return {names[row[0]] for row in rows}


def _folded(name: str, dialect: str) -> str:
    """Return *name* as it is compared: SQLite does not tell cases apart, quoted or not."""
    return name.lower() if dialect == "sqlite" else name
