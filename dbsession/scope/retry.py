"""Retry: which errors are worth another attempt, and how long to wait before it.

The wait has *full jitter*: it is drawn evenly between nothing and a limit that doubles with each
attempt, so that two transactions that met do not meet again (AWS Architecture Blog, "Exponential
Backoff And Jitter").
"""

from __future__ import annotations

import random
import time

from dbsession.errors import (
    CommitOutcomeUnknown,
    DatabaseSessionIsOver,
    PartialCommitException,
    SessionDoomed,
    UnresolvableCyclicDependency,
)
from dbsession.session.options import Options

__all__ = ["may_retry", "wait_before"]

_BASE = 0.01  # seconds
_CAP = 1.0  # seconds

# Trying again cannot help, or would do twice what may have happened.
_NEVER = (CommitOutcomeUnknown, DatabaseSessionIsOver, PartialCommitException, UnresolvableCyclicDependency)


def may_retry(error: BaseException, options: Options) -> bool:
    """Tell whether *error* is one that the scope asked to be retried; never for KeyboardInterrupt and its like."""
    if not isinstance(error, Exception) or isinstance(error, _NEVER):
        return False
    if isinstance(error, SessionDoomed):
        cause = error.__cause__
        return cause is not None and may_retry(cause, options)
    return options.is_retried(error)


def wait_before(attempt: int) -> None:
    """Sleep before the *attempt*-th retry (1, 2, ...), for a random time that may be longer each time."""
    time.sleep(random.uniform(0, min(_CAP, _BASE * 2**attempt)))
