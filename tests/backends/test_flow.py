"""Flows: driven as data, without a database."""

import asyncio

import pytest

from dbsession.backends.flow import Flow, arun, execute, run
from dbsession.backends.statements import Batch, Kind, Result, Statement, require_transaction
from dbsession.errors import InterfaceError

ONE = Statement("SELECT 1")
TWO = Statement("SELECT 2")


class Recorder:
    """An executor that answers from a list, raising what is an exception."""

    def __init__(self, *answers):
        self.answers = list(answers)
        self.batches: list[Batch] = []

    def execute(self, batch):
        self.batches.append(batch)
        answer = self.answers.pop(0)
        if isinstance(answer, BaseException):
            raise answer
        return answer


class AsyncRecorder(Recorder):
    """The awaitable twin of `Recorder`."""

    async def execute(self, batch):
        await asyncio.sleep(0)
        return super().execute(batch)


def answer(value: int) -> list[Result]:
    return [Result([(value,)], 1)]


@pytest.fixture(params=["sync", "async"])
def drive(request):
    """Run a flow against answers, in each colour; returns its value and the batches it sent."""

    def sync_drive(flow, *answers):
        recorder = Recorder(*answers)
        return run(flow, recorder), recorder.batches

    def async_drive(flow, *answers):
        recorder = AsyncRecorder(*answers)
        return asyncio.run(arun(flow, recorder)), recorder.batches

    return sync_drive if request.param == "sync" else async_drive


def test_value_is_returned(drive):
    """A flow's return value is the value of the run, and a flow without a yield sends nothing."""

    def flow() -> Flow[str]:
        return "done"
        yield ()

    assert drive(flow()) == ("done", [])


def test_each_yield_is_one_batch(drive):
    """Statements of one `execute` travel together; its results come back to the same place."""

    def flow() -> Flow[int]:
        first = yield from execute(ONE, TWO)
        second = yield from execute(TWO)
        return first[0].rows[0][0] + second[0].rows[0][0]

    assert drive(flow(), answer(1), answer(2)) == (3, [(ONE, TWO), (TWO,)])


def test_an_error_is_raised_inside_the_flow(drive):
    """The flow may catch the error of a batch, and go on with another batch."""

    def flow() -> Flow[str]:
        try:
            yield from execute(ONE)
        except ValueError as exc:
            yield from execute(TWO)
            return f"caught {exc}"
        return "no error"

    assert drive(flow(), ValueError("x"), answer(2)) == ("caught x", [(ONE,), (TWO,)])


def test_an_error_that_the_flow_lets_pass_reaches_the_caller(drive):
    """What a flow does not catch is raised by the run, the same object."""
    error = KeyboardInterrupt()

    def flow() -> Flow[None]:
        yield from execute(ONE)

    with pytest.raises(KeyboardInterrupt) as caught:
        drive(flow(), error)
    assert caught.value is error


def test_a_flow_may_end_by_an_error_of_its_own(drive):
    """An error raised between batches is the caller's."""

    def flow() -> Flow[None]:
        yield from execute(ONE)
        raise LookupError("mine")

    with pytest.raises(LookupError, match="mine"):
        drive(flow(), answer(1))


def test_flows_nest(drive):
    """A flow calls another with ``yield from``, and gets its value."""

    def inner(statement: Statement) -> Flow[int]:
        results = yield from execute(statement)
        return results[0].rowcount

    def outer() -> Flow[int]:
        return (yield from inner(ONE)) + (yield from inner(TWO))

    assert drive(outer(), answer(1), answer(1))[0] == 2


WRITE = Statement("UPDATE t SET a = 1", kind=Kind.WRITE)
MANY = WRITE._replace(many=True, params=[])
BEGIN = Statement("BEGIN", kind=Kind.BEGIN)
COMMIT = Statement("COMMIT", kind=Kind.COMMIT)


@pytest.mark.parametrize(
    "batch, open_before",
    [
        ((WRITE,), False),
        ((ONE, TWO), False),
        ((BEGIN, WRITE, WRITE, COMMIT), False),
        ((BEGIN, MANY, COMMIT), False),
        ((WRITE, MANY), True),
        ((MANY,), True),
    ],
)
def test_batches_that_are_safe(batch, open_before):
    """Reads, a single write, and writes inside a transaction may be sent."""
    require_transaction(batch, open_before)


@pytest.mark.parametrize(
    "batch, open_before",
    [
        ((WRITE, WRITE), False),
        ((ONE, WRITE), False),
        ((MANY,), False),
        ((BEGIN, WRITE, COMMIT, WRITE), False),
        ((COMMIT, WRITE), True),
        ((Statement("x", kind=Kind.RAW), ONE), False),
    ],
)
def test_batches_that_would_write_in_pieces(batch, open_before):
    """Several writes outside a transaction are refused before anything is sent."""
    with pytest.raises(InterfaceError, match="no transaction around them"):
        require_transaction(batch, open_before)
