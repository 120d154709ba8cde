"""The options of a scope, checked once, where they are written."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from dbsession.backends.base import TransactionMode
from dbsession.errors import TransactionError
from dbsession.session.transaction import TransactionPolicy

__all__ = ["ExceptionFilter", "Options", "make_options"]

ExceptionFilter: TypeAlias = Callable[[BaseException], bool]


@dataclass(frozen=True)
class Options:
    """What a scope was asked to be."""

    retry: int = 0
    immediate: bool = False
    serializable: bool = False
    optimistic: bool = True
    retries: ExceptionFilter = lambda error: isinstance(error, TransactionError)
    allows: ExceptionFilter = lambda _: False

    policy: TransactionPolicy = field(init=False, compare=False, repr=False)
    """What these options want of a transaction; made once, since each scope asks for it."""

    def __post_init__(self) -> None:
        policy = TransactionPolicy(
            TransactionMode(isolation="serializable" if self.serializable else None),
            immediate=self.immediate or self.serializable or not self.optimistic,
            # A retry must know whether a commit whose reply was lost has happened; autocommit cannot tell.
            autocommit_writes=not self.retry,
        )
        object.__setattr__(self, "policy", policy)


_DEFAULT_RETRY_EXCEPTIONS = (TransactionError,)


def make_options(
    *,
    retry: int = 0,
    immediate: bool = False,
    serializable: bool = False,
    optimistic: bool = True,
    retry_exceptions: Any = _DEFAULT_RETRY_EXCEPTIONS,
    allowed_exceptions: Any = (),
) -> Options:
    """Check the options of a scope.

    Raises:
        TypeError: *retry* is no int of at least 0; an exception list holds something else; the same class is
            in both lists.
    """
    if type(retry) is not int or retry < 0:
        raise TypeError(f"retry is the number of retries, an int of at least 0, not {retry!r}")
    for name, value in (("immediate", immediate), ("serializable", serializable), ("optimistic", optimistic)):
        if not isinstance(value, bool):
            raise TypeError(f"{name} is True or False, not {value!r}")
    retried = _classes("retry_exceptions", retry_exceptions)
    allowed = _classes("allowed_exceptions", allowed_exceptions)
    if retry_exceptions is not _DEFAULT_RETRY_EXCEPTIONS and retried and allowed and set(retried) & set(allowed):
        both = ", ".join(sorted(cls.__name__ for cls in set(retried) & set(allowed)))
        raise TypeError(f"{both}: an exception cannot be retried and allowed at the same time")
    return Options(
        retry=retry,
        immediate=immediate,
        serializable=serializable,
        optimistic=optimistic,
        retries=_filter(retried, retry_exceptions),
        allows=_filter(allowed, allowed_exceptions),
    )


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


def _filter(classes: tuple[type[BaseException], ...] | None, given: Any) -> ExceptionFilter:
    if classes is None:
        return lambda error: bool(given(error))
    return lambda error: isinstance(error, classes)
