"""Every error that dbsession raises, in one tree.

::

    OrmError
     ├── ERDiagramError                 the declared entities contradict each other
     ├── DBSchemaError                  the tables do not fit the entities
     │    ├── TableDoesNotExist
     │    └── TableIsNotEmpty
     ├── MappingError                   generate_mapping() is missing, or came too early or too late
     ├── BindingError                   the database URL or its options cannot be used
     ├── ConstraintError                a rule of the entities forbids the change (nothing was sent)
     ├── CacheIndexError                two objects of one session claim the same key
     ├── ObjectNotFound                 E[key]: there is no such row
     ├── RowNotFound                    db.get(): there is no such row
     ├── MultipleObjectsFoundError      E.get(): more than one row fits
     ├── MultipleRowsFound              db.get(): more than one row fits
     ├── OperationWithDeletedObjectError
     ├── NotLoadedError                 what is asked for was not loaded, and cannot be loaded from here
     ├── WrongColourError               a sync verb in an async scope, or the reverse
     ├── TranslationError               an expression cannot be translated to SQL   (TypeError too)
     │    └── SourceNotFound            ... for there is no source, or it is not that of the running code
     ├── NoScopeError                   there is no db_session here
     │    └── QueryLeftScope            ... for a query that was made in one (DatabaseSessionIsOver too)
     ├── NestedScopeError               an inner scope asks for what the outer one cannot give
     ├── ScopeOwnershipError            the scope belongs to another thread or task
     ├── SessionForkError               a session or pool of the parent process is used in a forked child
     ├── DatabaseError                  the database, or its driver, refused       (original_exc)
     │    ├── InterfaceError
     │    ├── DataError
     │    ├── OperationalError          + SerializationConflict, DeadlockDetected, LockNotAvailable,
     │    │                               ConnectionLost, PoolTimeout (below)
     │    ├── IntegrityError            + TransactionIntegrityError (below)
     │    ├── InternalError
     │    ├── ProgrammingError
     │    └── NotSupportedError
     └── TransactionError               the transaction failed as a whole; retried by default
          ├── SerializationConflict     40001; SQLite: busy with a stale snapshot   (OperationalError too)
          ├── DeadlockDetected          40P01                                       (OperationalError too)
          ├── LockNotAvailable          55P03; SQLite: busy                         (OperationalError too)
          ├── ConnectionLost            gone before the commit could have happened  (OperationalError too)
          ├── PoolTimeout               no connection became free in time           (OperationalError too)
          ├── TransactionIntegrityError unique, foreign key, not null, check        (IntegrityError too)
          ├── IsolationError
          │    ├── OptimisticCheckError     somebody else changed the row since it was read
          │    └── UnrepeatableReadError    a second read showed another value
          ├── SessionDoomed             the transaction is already lost; nothing but rollback is possible
          ├── CommitException           COMMIT failed; nothing was committed
          │    └── PartialCommitException   ... but another database of the scope had committed
          ├── CommitOutcomeUnknown      the reply to COMMIT was lost, and nobody can say
          ├── RollbackException         ROLLBACK itself failed
          ├── ReplayDiverged            a replayed block saw other replies than the first time
          ├── InvalidRequestError       the scope was used in a way that it does not allow; never retried
          ├── DatabaseSessionIsOver     the scope has ended; what is asked for was not loaded in it
          ├── UnresolvableCyclicDependency
          └── UnexpectedError           a database error of no known kind, while writing

Every class takes ``(message)``; details go by keyword and become attributes.
Names that Pony ORM has mean here what they mean there.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

__all__ = [
    "BindingError",
    "CacheIndexError",
    "CommitException",
    "CommitOutcomeUnknown",
    "ConnectionLost",
    "ConstraintError",
    "DBSchemaError",
    "DataError",
    "DatabaseError",
    "DatabaseSessionIsOver",
    "DeadlockDetected",
    "ERDiagramError",
    "IntegrityError",
    "InterfaceError",
    "InternalError",
    "InvalidRequestError",
    "IsolationError",
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
    "OrmError",
    "PartialCommitException",
    "PoolTimeout",
    "ProgrammingError",
    "QueryLeftScope",
    "ReplayDiverged",
    "RollbackException",
    "RowNotFound",
    "ScopeOwnershipError",
    "SerializationConflict",
    "SessionDoomed",
    "SessionForkError",
    "SourceNotFound",
    "TableDoesNotExist",
    "TableIsNotEmpty",
    "TransactionError",
    "TransactionIntegrityError",
    "TranslationError",
    "UnexpectedError",
    "UnrepeatableReadError",
    "UnresolvableCyclicDependency",
    "WrongColourError",
]


class OrmError(Exception):
    """Root of every error of dbsession.

    ``nothing_sent`` is True where no connection could be had, or no transaction begun: nothing was done.
    ``transaction_lost`` is True where the database has rolled back the whole transaction on its own.
    ``results`` are the replies to the statements of a batch that were done before one failed; none
    where the connection was lost.
    """

    nothing_sent = False
    transaction_lost = False
    results: Sequence[Any] = ()

    def __init__(self, message: str = "", **details: object) -> None:
        super().__init__(message)
        for name, value in details.items():
            setattr(self, name, value)


class ERDiagramError(OrmError):
    """The declared entities contradict each other: a missing reverse, two candidates, a bad option."""


class DBSchemaError(OrmError):
    """The tables in the database do not fit the entities."""


class TableDoesNotExist(DBSchemaError):
    """A table that the mapping needs is not in the database."""


class TableIsNotEmpty(DBSchemaError):
    """A table was to be dropped without ``with_all_data=True``, and holds rows."""


class MappingError(OrmError):
    """``generate_mapping()`` is missing, or an entity came after it."""


class BindingError(OrmError):
    """The URL or the options of a database cannot be used."""


class ConstraintError(OrmError):
    """A rule of the entities forbids the change. Nothing was sent to the database."""


class CacheIndexError(OrmError):
    """Two objects of one session claim the same key."""


class ObjectNotFound(OrmError):
    """``E[key]`` found no row. ``entity`` and ``key`` say what was asked for."""

    entity: type | None = None
    key: object = None


class RowNotFound(OrmError):
    """``db.get(sql)`` found no row."""


class MultipleObjectsFoundError(OrmError):
    """``E.get(...)`` found more than one row."""


class MultipleRowsFound(OrmError):
    """``db.get(sql)`` found more than one row."""


class OperationWithDeletedObjectError(OrmError):
    """The object was deleted in this session."""


class NotLoadedError(OrmError):
    """What is asked for was not loaded, and may not be loaded from here."""


class WrongColourError(OrmError):
    """A sync verb was called in an async scope, or the reverse."""


class TranslationError(OrmError, TypeError):
    """An expression cannot be translated to SQL."""


class SourceNotFound(TranslationError):
    """An expression cannot be translated: there is no source, or it is not that of the running code."""


class NoScopeError(OrmError):
    """The database was used outside any ``db_session``."""


class NestedScopeError(OrmError):
    """An inner scope asks for what the outer one cannot give any more."""


class ScopeOwnershipError(OrmError):
    """The scope belongs to another thread or task."""


class SessionForkError(OrmError):
    """A session or pool of the parent process was used in a forked child."""


class DatabaseError(OrmError):
    """The database, or its driver, refused. ``original_exc`` (and ``__cause__``) is the driver's error."""

    original_exc: BaseException | None = None
    sqlstate: str | None = None
    sql: str | None = None


class InterfaceError(DatabaseError):
    """The driver was used in a way that it does not support."""


class DataError(DatabaseError):
    """A value does not fit its column (too long, out of range, malformed)."""


class OperationalError(DatabaseError):
    """The database could not do its work (connection, memory, locks, disk)."""


class IntegrityError(DatabaseError):
    """A constraint of the database was violated."""

    constraint: str | None = None
    table: str | None = None
    columns: Sequence[str] = ()


class InternalError(DatabaseError):
    """The database reports an error within itself."""


class ProgrammingError(DatabaseError):
    """The SQL is wrong: syntax, or a table or column that does not exist."""


class NotSupportedError(DatabaseError):
    """The database does not have the feature."""


class TransactionError(OrmError):
    """The transaction failed as a whole. Retried by default where a retry is asked for."""


class SerializationConflict(TransactionError, OperationalError):
    """The transaction conflicts with a concurrent one (SQLSTATE 40001; SQLITE_BUSY_SNAPSHOT)."""


class DeadlockDetected(TransactionError, OperationalError):
    """The database ended this transaction to break a deadlock (SQLSTATE 40P01)."""


class LockNotAvailable(TransactionError, OperationalError):
    """A lock could not be had at once, or in time (SQLSTATE 55P03; SQLITE_BUSY)."""


class ConnectionLost(TransactionError, OperationalError):
    """The connection broke before anything could have been committed.

    ``commit_sent`` is False where it was found dead before the COMMIT, or the write that commits itself,
    was sent: so that was not done. True says nothing: a statement may have been on its way.
    """

    commit_sent = True


class PoolTimeout(TransactionError, OperationalError):
    """No connection of the pool became free in time."""


class TransactionIntegrityError(TransactionError, IntegrityError):
    """A unique, foreign key, not null or check constraint was violated by a write.

    ``constraint``, ``table`` and ``columns`` name it, as far as the database tells.
    """


class IsolationError(TransactionError):
    """The work rests on data that somebody else has changed."""


class OptimisticCheckError(IsolationError):
    """A row to be written was changed or deleted by somebody else since it was read."""


class UnrepeatableReadError(IsolationError):
    """A second read of a row shows another value for an attribute that the code has used."""


class SessionDoomed(TransactionError):
    """The transaction is already lost; only ``rollback()`` or leaving the scope is possible."""


class CommitException(TransactionError):
    """COMMIT failed: nothing was committed."""


class PartialCommitException(CommitException):
    """One of several databases failed to commit after another one had committed.

    ``committed`` and ``failed`` name the databases.
    """

    committed: Sequence[object] = ()
    failed: Sequence[object] = ()


class CommitOutcomeUnknown(TransactionError):
    """The reply to COMMIT was lost, and nobody can say whether the work was saved. Never retried."""


class RollbackException(TransactionError):
    """ROLLBACK itself failed. The connection was discarded, so that the server rolls back on its own."""


class ReplayDiverged(TransactionError):
    """A replayed block saw other replies than the first time."""


class InvalidRequestError(TransactionError):
    """The scope was used in a way that it does not allow: running it again would not help. Never retried."""


class DatabaseSessionIsOver(TransactionError):
    """The scope of the object has ended, and what is asked for was not loaded in it."""


class QueryLeftScope(NoScopeError, DatabaseSessionIsOver):
    """A query that was made in a ``db_session`` is sent where there is none."""


class UnresolvableCyclicDependency(TransactionError):
    """Rows depend on each other in a circle that no order of statements can save."""


class UnexpectedError(TransactionError):
    """The database refused a write for a reason of no known kind."""

    original_exc: BaseException | None = None
