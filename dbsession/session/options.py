"""The options of a scope, checked once, where they are written."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import Any, Literal, TypeAlias, TypedDict

from dbsession.backends.base import TransactionMode
from dbsession.errors import TransactionError
from dbsession.model.registration import suggest
from dbsession.session.transaction import TransactionPolicy

__all__ = [
    "CommonOptions",
    "ExceptionFilter",
    "GivenOptions",
    "Nesting",
    "Options",
    "OptionsButRetry",
    "RetryPolicy",
    "SessionOptions",
    "make_options",
    "make_session_options",
]

ExceptionFilter: TypeAlias = Callable[[BaseException], bool]

# From the weakest to the strongest. PostgreSQL 13.2 "Transaction Isolation"; every one is serializable on SQLite.
_ISOLATION = ("read committed", "repeatable read", "serializable")


def _check_seconds(name: str, value: Any) -> None:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(f"{name} is a number of seconds, not {value!r}")
    if not 0 < value < math.inf:
        raise ValueError(f"{name} is a finite number of seconds above 0, not {value!r}")


class Nesting(Enum):
    """What a scope does where another one is open already."""

    JOIN = "join"
    SAVEPOINT = "savepoint"
    INDEPENDENT = "independent"
    FORBID = "forbid"


@dataclass(frozen=True)
class RetryPolicy:
    """How often work is run again after a conflict, and how long to wait before that.

    At most *retries* more runs. The wait before the n-th of them is drawn evenly between nothing and
    ``min(cap, base * 2**n)`` seconds. No run begins later than *deadline* seconds after the first one.

    Raises:
        TypeError: *retries* is no int of at least 0, or one of the others no number.
        ValueError: *base*, *cap* or *deadline* is not above 0, or not finite.
    """

    retries: int
    base: float = 0.01
    cap: float = 1.0
    deadline: float | None = None

    def __post_init__(self) -> None:
        if type(self.retries) is not int or self.retries < 0:
            raise TypeError(f"retry is the number of retries, an int of at least 0, not {self.retries!r}")
        _check_seconds("base", self.base)
        _check_seconds("cap", self.cap)
        if self.deadline is not None:
            _check_seconds("deadline", self.deadline)

    def __bool__(self) -> bool:
        return self.retries > 0


_NO_RETRY = RetryPolicy(0)

# A class, several, or a predicate. What a predicate says that it takes is its own business.
_Exceptions: TypeAlias = type[BaseException] | Iterable[type[BaseException]] | Callable[[Any], object]


class CommonOptions(TypedDict, total=False):
    """The options that scopes and sessions share."""

    allowed_exceptions: _Exceptions
    optimistic: bool
    immediate: bool
    serializable: bool
    isolation: Literal["read committed", "repeatable read", "serializable"] | None
    read_only: bool
    deferrable: bool
    statement_timeout: float | None
    lock_timeout: float | None
    nested: Literal["join", "savepoint", "independent", "forbid"]
    strict: bool
    ddl: bool
    sql_debug: bool | None
    show_values: bool | None


class OptionsButRetry(CommonOptions, total=False):
    """The options of a scope as users write them, without *retry*."""

    retry_exceptions: _Exceptions


class SessionOptions(CommonOptions, total=False):
    """The options of a session that somebody holds, as users write them."""

    autoflush: bool
    info: dict[Any, Any]


class GivenOptions(OptionsButRetry, total=False):
    """The options of a scope as users write them; see `make_options`."""

    retry: int | RetryPolicy


@dataclass(frozen=True)
class Options:
    """What a scope was asked to be."""

    retry: RetryPolicy = _NO_RETRY
    immediate: bool = False
    ddl: bool = False
    serializable: bool = False
    strict: bool = False
    optimistic: bool = True
    sql_debug: bool | None = None
    show_values: bool | None = None
    nested: Nesting = Nesting.JOIN
    isolation: str | None = None
    read_only: bool = False
    deferrable: bool = False
    statement_timeout: float | None = None  # seconds
    lock_timeout: float | None = None  # seconds
    autoflush: bool = field(default=True, repr=False)  # of sessions that somebody holds
    is_retried: ExceptionFilter = lambda error: isinstance(error, TransactionError)
    is_allowed: ExceptionFilter = lambda _: False

    policy: TransactionPolicy = field(init=False, compare=False, repr=False)
    """What these options want of a transaction; made once, since each scope asks for it."""
    is_demanding: bool = field(init=False, compare=False, repr=False)
    """Whether an outer scope may have to be asked for something, where this one joins it."""

    def __post_init__(self) -> None:
        mode = TransactionMode(
            write=not self.read_only,
            isolation="serializable" if self.serializable else self.isolation,
            read_only=self.read_only,
            deferrable=self.deferrable,
            statement_timeout=self.statement_timeout,
            lock_timeout=self.lock_timeout,
            foreign_keys=not self.ddl,
        )
        policy = TransactionPolicy(
            mode,
            immediate=self.immediate or not self.optimistic or mode != TransactionMode(),
            # A retry must know whether a commit whose reply was lost has happened; autocommit cannot tell.
            autocommit_writes=not self.retry,
        )
        object.__setattr__(self, "policy", policy)
        object.__setattr__(self, "is_demanding", policy.immediate)

    def require_agreement(self) -> None:
        """Raise unless the options go together.

        Raises:
            TypeError: two of them contradict each other.
        """
        if self.ddl and self.retry:
            raise TypeError("ddl and retry do not go together: a schema change that was made cannot be run again")
        if self.ddl and self.read_only:
            raise TypeError("ddl and read_only contradict each other")
        if self.serializable and self.isolation not in (None, "serializable"):
            raise TypeError(f"serializable=True and isolation={self.isolation!r} contradict each other")
        if self.deferrable and not (self.is_serializable and self.read_only):
            raise TypeError("deferrable=True has an effect only together with serializable=True and read_only=True")

    @property
    def is_serializable(self) -> bool:
        """Whether its transactions are serializable, however that was said."""
        return self.policy.mode.isolation == "serializable"

    @property
    def isolation_rank(self) -> int:
        """How strong the isolation is that was asked for; 0: the database's default will do."""
        isolation = self.policy.mode.isolation
        return 0 if isolation is None else 1 + _ISOLATION.index(isolation)

    def beyond(self, asked: Options) -> dict[str, Any]:
        """Return what *asked*, the options of an inner scope, want that these do not give."""
        more: dict[str, Any] = {}
        if asked.isolation_rank > self.isolation_rank:
            more |= {"serializable": asked.serializable, "isolation": asked.isolation}
        if asked.immediate and not self.policy.immediate:
            more["immediate"] = True
        if not asked.optimistic and self.optimistic and not self.is_serializable:
            more["optimistic"] = False
        if asked.deferrable and self.read_only and not self.deferrable:  # else it would have no effect
            more["deferrable"] = True
        if asked.ddl and not self.ddl:
            more["ddl"] = True
        for name in ("statement_timeout", "lock_timeout"):
            wanted, given = getattr(asked, name), getattr(self, name)
            if wanted is not None and (given is None or wanted < given):
                more[name] = wanted
        return more


_DEFAULT_RETRY_EXCEPTIONS = (TransactionError,)


def make_options(
    *,
    retry: int | RetryPolicy = 0,
    immediate: bool = False,
    ddl: bool = False,
    serializable: bool = False,
    strict: bool = False,
    optimistic: bool = True,
    retry_exceptions: Any = _DEFAULT_RETRY_EXCEPTIONS,
    allowed_exceptions: Any = (),
    sql_debug: bool | None = None,
    show_values: bool | None = None,
    nested: str = "join",
    isolation: str | None = None,
    read_only: bool = False,
    deferrable: bool = False,
    statement_timeout: float | None = None,
    lock_timeout: float | None = None,
) -> Options:
    """Check the options of a scope.

    Raises:
        TypeError: an option has the wrong type; options contradict each other; an exception list holds something
            else; the same class is in both lists.
        ValueError: there is no such nesting or isolation level; a timeout is not above 0, or not finite.
    """
    flags = {"immediate": immediate, "ddl": ddl, "serializable": serializable, "strict": strict}
    flags |= {"optimistic": optimistic, "read_only": read_only, "deferrable": deferrable}
    for name, value in flags.items():
        if not isinstance(value, bool):
            raise TypeError(f"{name} is True or False, not {value!r}")
    for name, debug in (("sql_debug", sql_debug), ("show_values", show_values)):
        if debug is not None and not isinstance(debug, bool):
            raise TypeError(f"{name} is True, False or None (as set_sql_debug() says), not {debug!r}")
    policy = retry if isinstance(retry, RetryPolicy) else RetryPolicy(retry)
    isolation = _isolation(isolation)
    for name, seconds in (("statement_timeout", statement_timeout), ("lock_timeout", lock_timeout)):
        if seconds is not None:
            _check_seconds(name, seconds)
    retried = _classes("retry_exceptions", retry_exceptions)
    allowed = _classes("allowed_exceptions", allowed_exceptions)
    if retry_exceptions is not _DEFAULT_RETRY_EXCEPTIONS and retried and allowed and set(retried) & set(allowed):
        both = ", ".join(sorted(cls.__name__ for cls in set(retried) & set(allowed)))
        raise TypeError(f"{both}: an exception cannot be retried and allowed at the same time")
    options = Options(
        retry=policy,
        **flags,
        sql_debug=sql_debug,
        show_values=show_values,
        nested=_nesting(nested),
        isolation=isolation,
        statement_timeout=statement_timeout,
        lock_timeout=lock_timeout,
        is_retried=_filter("retry_exceptions", retried, retry_exceptions),
        is_allowed=_filter("allowed_exceptions", allowed, allowed_exceptions),
    )
    options.require_agreement()
    return options


def make_session_options(given: Mapping[str, Any]) -> tuple[Options, dict[Any, Any] | None]:
    """Check the options of ``Session(db, ...)``; return them, and *info*.

    Raises:
        TypeError, ValueError: as for `make_options`; *retry* was given; an option does not exist.
    """
    options = dict(given)
    autoflush, info = options.pop("autoflush", True), options.pop("info", None)
    if "retry" in options or "retry_exceptions" in options:
        raise TypeError(
            "a Session cannot run code again: retry is an option of @db_session and of "
            "`for attempt in db_session.attempts(retry=3):`"
        )
    for name in options:
        if name not in CommonOptions.__annotations__:
            known = (*CommonOptions.__annotations__, "autoflush", "info")
            hint = suggest(name, known) or _FOREIGN.get(name, "")
            raise TypeError(f"Session has no option {name!r}{hint}; it has {', '.join(known)}")
    if not isinstance(autoflush, bool):
        raise TypeError(f"autoflush is True or False, not {autoflush!r}")
    if info is not None and not isinstance(info, dict):
        raise TypeError(f"info is a dict, not {info!r:.80}")
    chosen = make_options(**options)
    return chosen if autoflush else replace(chosen, autoflush=False), None if info is None else dict(info)


# What sessions elsewhere can be told, and this one need not be.
_FOREIGN = {
    "expire_on_commit": " (loaded values stay readable after a commit; session.expire_all() forgets them)",
    "autocommit": " (a session without `with` commits when commit() is called)",
    "autobegin": " (a transaction begins with the first statement that needs one)",
}


def _nesting(given: str) -> Nesting:
    try:
        return Nesting(given)
    except ValueError:
        known = ", ".join(repr(nesting.value) for nesting in Nesting)
        raise ValueError(f"nested is one of {known}, not {given!r}") from None


def _isolation(given: str | None) -> str | None:
    if given is None:
        return None
    if not isinstance(given, str):
        raise TypeError(f"isolation is the name of a level, not {given!r}")
    if given.lower() not in _ISOLATION:
        raise ValueError(f"isolation is one of {', '.join(map(repr, _ISOLATION))}, not {given!r}")
    return given.lower()


def _classes(name: str, given: Any) -> tuple[type[BaseException], ...] | None:
    """Return the exception classes of *given*; None if it is a predicate.

    A class can be called, too, so a class is asked for first: ``allowed_exceptions=ValueError`` means the class.
    """
    if isinstance(given, type) and issubclass(given, BaseException):
        return (given,)
    if isinstance(given, Iterable):
        classes = tuple(given)
        if all(isinstance(cls, type) and issubclass(cls, BaseException) for cls in classes):
            return classes
    elif callable(given) and not isinstance(given, type):
        return None
    raise TypeError(
        f"{name} is an exception class, several of them, or a function that takes the exception, not {given!r}"
    )


def _filter(name: str, classes: tuple[type[BaseException], ...] | None, given: Any) -> ExceptionFilter:
    if classes is not None:
        return lambda error: isinstance(error, classes)

    def decide(error: BaseException) -> bool:
        try:
            return bool(given(error))
        except Exception as failure:  # the end of a scope must not depend on it
            error.add_note(f"{name} was asked about this error, and raised {failure!r}: taken for a no")
            return False

    return decide
