"""dbsession: a unit of work on PostgreSQL and SQLite, with nothing passed around.

General layout, for whoever opens the package first. Five rooms, each importing only what stands
before it:

- `backends`: where the data is. Statements and flows; SQLite and PostgreSQL.
- `model`: what it is. Entities, attributes, collections, their states and tables.
- `query`: how to read it. Queries as values; expressions to SQL.
- `session`: how to change it. `Session`, identity map, flush, optimistic checks, transactions.
- `scope`: how code enters. `db_session`, the stack of scopes, retry, proxies.

`errors` stands before all of them, `database` (the `Database` class) behind them, and behind that
`integrations`, which is for other tools: pytest. Begin with `scope/db_session.py`, then
`session/session.py`, the handle, `session/core.py`, which does its work, and `session/flush.py`.
"""

from __future__ import annotations

from dbsession.database import Database
from dbsession.errors import (
    BindingError,
    CacheIndexError,
    CommitException,
    CommitOutcomeUnknown,
    ConnectionLost,
    ConstraintError,
    DatabaseError,
    DatabaseSessionIsOver,
    DataError,
    DBSchemaError,
    DeadlockDetected,
    ERDiagramError,
    IntegrityError,
    InterfaceError,
    InternalError,
    InvalidRequestError,
    IsolationError,
    LockNotAvailable,
    MappingError,
    MultipleObjectsFoundError,
    MultipleRowsFound,
    NestedScopeError,
    NoScopeError,
    NotLoadedError,
    NotSupportedError,
    ObjectNotFound,
    OperationalError,
    OperationWithDeletedObjectError,
    OptimisticCheckError,
    OrmError,
    PartialCommitException,
    PoolTimeout,
    ProgrammingError,
    QueryLeftScope,
    ReplayDiverged,
    RollbackException,
    RowNotFound,
    ScopeOwnershipError,
    SerializationConflict,
    SessionDoomed,
    SessionForkError,
    SourceNotFound,
    TableDoesNotExist,
    TableIsNotEmpty,
    TransactionError,
    TransactionIntegrityError,
    TranslationError,
    UnexpectedError,
    UnrepeatableReadError,
    UnresolvableCyclicDependency,
    WrongColourError,
)
from dbsession.model.collections import Collection
from dbsession.model.declarations import (
    Discriminator,
    Optional,
    PrimaryKey,
    Required,
    Set,
    Version,
    composite_index,
    composite_key,
)
from dbsession.model.entity import Entity
from dbsession.model.expressions import desc
from dbsession.model.types import Json
from dbsession.query.query import Query
from dbsession.query.verbs import (
    avg,
    between,
    coalesce,
    concat,
    count,
    delete,
    distinct,
    exists,
    get,
    group_concat,
    left_join,
    max,
    min,
    random,
    raw_sql,
    select,
    sum,
)
from dbsession.scope.db_session import DBSession, db_session, savepoint, with_transaction
from dbsession.scope.hooks import on_commit, on_rollback
from dbsession.scope.proxy import EntityProxy, make_proxy
from dbsession.scope.stack import commit, flush, rollback
from dbsession.session.factory import sessionmaker
from dbsession.session.options import RetryPolicy
from dbsession.session.session import Session
from dbsession.session.sql_log import set_sql_debug

__version__ = "0.1.0"

__all__ = [
    "BindingError",
    "CacheIndexError",
    "Collection",
    "CommitException",
    "CommitOutcomeUnknown",
    "ConnectionLost",
    "ConstraintError",
    "DBSchemaError",
    "DBSession",
    "DataError",
    "Database",
    "DatabaseError",
    "DatabaseSessionIsOver",
    "DeadlockDetected",
    "Discriminator",
    "ERDiagramError",
    "Entity",
    "EntityProxy",
    "IntegrityError",
    "InterfaceError",
    "InternalError",
    "InvalidRequestError",
    "IsolationError",
    "Json",
    "LockNotAvailable",
    "MappingError",
    "MultipleObjectsFoundError",
    "MultipleRowsFound",
    "NestedScopeError",
    "NoScopeError",
    "NotLoadedError",
    "NotSupportedError",
    "ObjectNotFound",
    "OperationWithDeletedObjectError",
    "OperationalError",
    "OptimisticCheckError",
    "Optional",
    "OrmError",
    "PartialCommitException",
    "PoolTimeout",
    "PrimaryKey",
    "ProgrammingError",
    "Query",
    "QueryLeftScope",
    "ReplayDiverged",
    "Required",
    "RetryPolicy",
    "RollbackException",
    "RowNotFound",
    "ScopeOwnershipError",
    "SerializationConflict",
    "Session",
    "SessionDoomed",
    "SessionForkError",
    "Set",
    "SourceNotFound",
    "TableDoesNotExist",
    "TableIsNotEmpty",
    "TransactionError",
    "TransactionIntegrityError",
    "TranslationError",
    "UnexpectedError",
    "UnrepeatableReadError",
    "UnresolvableCyclicDependency",
    "Version",
    "WrongColourError",
    "avg",
    "between",
    "coalesce",
    "commit",
    "composite_index",
    "composite_key",
    "concat",
    "count",
    "db_session",
    "delete",
    "desc",
    "distinct",
    "exists",
    "flush",
    "get",
    "group_concat",
    "left_join",
    "make_proxy",
    "max",
    "min",
    "on_commit",
    "on_rollback",
    "random",
    "raw_sql",
    "rollback",
    "savepoint",
    "select",
    "sessionmaker",
    "set_sql_debug",
    "sum",
    "with_transaction",
]
