"""dbsession: a unit of work on PostgreSQL and SQLite, with nothing passed around.

General layout, for whoever opens the package first. Five rooms, each importing only what stands
before it:

- `backends`: where the data is. Statements and flows; SQLite and PostgreSQL.
- `model`: what it is. Entities, attributes, collections, their states and tables.
- `query`: how to read it. Queries as values; expressions to SQL.
- `session`: how to change it. Identity map, flush, optimistic checks, transactions.
- `scope`: how code enters. `db_session`, the stack of scopes, retry.

`errors` stands before all of them, `database` (the `Database` class) behind them. Begin with
`scope/db_session.py`, then `session/session.py` and `session/flush.py`.
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
from dbsession.scope.db_session import DBSession, db_session, savepoint, with_transaction
from dbsession.scope.hooks import on_commit, on_rollback
from dbsession.scope.stack import commit, flush, rollback
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
    "commit",
    "composite_index",
    "composite_key",
    "db_session",
    "desc",
    "flush",
    "on_commit",
    "on_rollback",
    "rollback",
    "savepoint",
    "set_sql_debug",
    "with_transaction",
]
