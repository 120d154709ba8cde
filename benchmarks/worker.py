"""A process for each contender, so that no library runs on the heap of another.

The parent sends a `Request` and waits; nothing else runs meanwhile. Whatever goes wrong in the child
comes back as a `Reply` with words in it, never as silence.
"""

from __future__ import annotations

import gc
import multiprocessing
import signal
import traceback
from dataclasses import dataclass
from multiprocessing.connection import Connection
from types import TracebackType
from typing import Any, Literal, Self

from benchmarks import contenders
from benchmarks.contenders import Contender, ContenderMissing, NotOffered
from benchmarks.data import Sizes
from benchmarks.memory import Footprint, footprint
from benchmarks.operations import OPERATIONS, measure
from benchmarks.placement import pin_contender
from benchmarks.streams import Growth, growth
from benchmarks.target import Target

__all__ = ["Failed", "Worker"]

TIME_LIMIT = 300.0
"""Seconds after which a contender is taken to hang."""


class Failed(Exception):
    """A contender raised, returned a wrong result, died or hung."""


@dataclass(frozen=True)
class Request:
    """What the child should do. `operation` is a name of `OPERATIONS` for ``measure``, a reading for ``growth``."""

    verb: Literal["settings", "measure", "footprint", "growth"]
    operation: str = ""


@dataclass(frozen=True)
class Reply:
    """How it went; `value` is the result or the message."""

    kind: Literal["done", "failed", "missing", "not offered"]
    value: Any


class Worker:
    """The parent's end. A context manager: leaving it ends the child."""

    def __init__(self, name: str, target: Target, sizes: Sizes, *, pin: bool, collect: bool = True) -> None:
        """Start the child, which imports the contender and connects it.

        With *pin* it stays on one processor; without *collect* it has no cyclic garbage collection
        while the clock runs.

        Raises:
            ContenderMissing: the library cannot be imported.
            Failed: it was imported, and could not connect or map the table.
        """
        self.name = name
        context = multiprocessing.get_context("spawn")
        self._connection, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs, name, target, sizes, pin, collect), daemon=True)
        self._process.start()
        theirs.close()
        try:
            self.version = str(self._receive("start"))
        except (ContenderMissing, Failed):
            self.close()
            raise

    def settings(self) -> dict[str, str]:
        """Return the durability settings as the contender's own connection sees them."""
        found: dict[str, str] = self._ask(Request("settings"))
        return found

    def measure(self, operation: str) -> float:
        """Return microseconds for one unit of *operation*.

        Raises:
            NotOffered: the contender has no such operation.
            Failed: it did not do what was asked.
        """
        return float(self._ask(Request("measure", operation)))

    def footprint(self) -> Footprint:
        """Weigh the loaded objects. The child should do nothing else before or after."""
        found: Footprint = self._ask(Request("footprint"))
        return found

    def growth(self, reading: str) -> Growth:
        """Read many rows. The child should do nothing else before or after.

        Raises:
            NotOffered, Failed: as for `measure`.
        """
        found: Growth = self._ask(Request("growth", reading))
        return found

    def close(self) -> None:
        """End the child: first politely."""
        self._connection.close()
        self._process.join(timeout=5)
        if self._process.is_alive():
            self._process.kill()
            self._process.join()

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """End the child."""
        self.close()

    def _ask(self, request: Request) -> Any:
        what = request.operation or request.verb
        try:
            self._connection.send(request)
        except OSError as error:
            raise Failed(f"{self.name} could not be asked for {what}: its process is gone") from error
        return self._receive(what)

    def _receive(self, what: str) -> Any:
        try:
            if not self._connection.poll(TIME_LIMIT):
                self._process.kill()
                raise Failed(f"{self.name} hung in {what}: no answer in {TIME_LIMIT:.0f} s")
            reply: Reply = self._connection.recv()
        except (EOFError, OSError) as error:
            self._process.join(timeout=5)
            raise Failed(f"{self.name} died in {what}, exit code {self._process.exitcode}") from error
        if reply.kind == "missing":
            raise ContenderMissing(reply.value)
        if reply.kind == "not offered":
            raise NotOffered(reply.value)
        if reply.kind == "failed":
            raise Failed(f"{self.name} failed in {what}: {reply.value}")
        return reply.value


def _serve(connection: Connection, name: str, target: Target, sizes: Sizes, pin: bool, collect: bool) -> None:
    """Be the child: answer requests until the parent closes its end."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent, which then ends us
    if pin:
        pin_contender()
    if not collect:
        gc.disable()
    try:
        contender = contenders.load(name, target.database)
        contender.open(target)
        connection.send(Reply("done", contender.version))
    except ContenderMissing as error:
        connection.send(Reply("missing", str(error)))
        return
    except Exception as error:
        connection.send(Reply("failed", _words(error)))
        return
    while True:
        try:
            request: Request = connection.recv()
        except (EOFError, OSError):
            contender.close()
            return
        connection.send(_answer(contender, request, target, sizes))


def _answer(contender: Contender, request: Request, target: Target, sizes: Sizes) -> Reply:
    try:
        if request.verb == "settings":
            return Reply("done", {name: contender.scalar(query) for name, query in target.durability.items()})
        if request.verb == "footprint":
            return Reply("done", footprint(contender))
        if request.verb == "growth":
            return Reply("done", growth(contender, request.operation, sizes.streamed))
        operation = next(known for known in OPERATIONS if known.name == request.operation)
        return Reply("done", measure(contender, operation, sizes))
    except NotOffered as error:
        return Reply("not offered", str(error))
    except Exception as error:
        return Reply("failed", _words(error))


def _words(error: Exception) -> str:
    """Return the error and where it was raised, on one line."""
    frames = traceback.extract_tb(error.__traceback__)
    place = f" ({frames[-1].name}, line {frames[-1].lineno})" if frames else ""
    return f"{type(error).__name__}: {' '.join(str(error).split())}{place}"
