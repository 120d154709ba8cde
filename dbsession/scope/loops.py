"""Whether a loop goes on: what becomes of an error that the `with` block in it swallows.

``for attempt in db_session.attempts(...): with attempt:`` runs the block again by swallowing the error and
letting the loop go on. That is right only if the loop does go on. Behind a block that was left by
`return` or `break` it does not, and `__exit__` is not told which it was: a commit that failed there
would look like one that was done. The same holds where a `break` stands behind the block.

So the bytecode is asked what comes next. How it has to look is not written down here, since every
release of Python changes it: it is read off a loop of this module, on the interpreter that runs.
What looks in any other way is taken for a loop that does not go on; nothing is lost by that, the
error is raised.
"""

from __future__ import annotations

import dis
import functools
import sys
from contextlib import AbstractContextManager
from types import CodeType, FrameType

__all__ = ["goes_on"]

_NOTHING = {"CACHE", "EXTENDED_ARG", "NOP", "NOT_TAKEN"}  # steps without any effect
_LONGEST = 20  # steps: more than any interpreter takes from the end of a block to the next turn

_Way = tuple[str, ...]


def goes_on(frame: FrameType) -> bool:
    """Tell whether *frame*, which is calling `__exit__` of a `with` block, takes the next turn of its loop after it.

    That is so if the block is the last thing in the body of a `for` loop, and is left at its end, by
    `continue`, or by an exception that `__exit__` swallows.
    """
    return _way_on(frame.f_code, frame.f_lasti) in _usual_ways()


def _way_on(code: CodeType, offset: int) -> _Way:
    """Return the steps from the one at *offset* to where the code jumps back, and where to."""
    steps = list(dis.get_instructions(code))
    places = {step.offset: place for place, step in enumerate(steps)}
    place = places.get(offset)
    if place is None:
        return ()
    way = [steps[place].opname]
    while len(way) < _LONGEST and place + 1 < len(steps):
        place += 1
        step = steps[place]
        if step.opname in _NOTHING:
            continue
        if "JUMP" not in step.opname:
            way.append(step.opname)
        elif step.argval > step.offset:
            place = places[step.argval] - 1
        else:
            target = next(step for step in steps[places[step.argval] :] if step.opname not in _NOTHING)
            return (*way, target.opname)
    return tuple(way)


class _Probe(AbstractContextManager[None]):
    """Notes where it is left, and swallows what leaves it."""

    def __init__(self, ways: set[_Way]) -> None:
        self._ways = ways

    def __exit__(self, *exc: object) -> bool:
        frame = sys._getframe(1)
        self._ways.add(_way_on(frame.f_code, frame.f_lasti))
        return True


@functools.cache
def _usual_ways() -> frozenset[_Way]:
    """Return how a loop goes on behind a block that ended well, and behind one that failed."""
    ways: set[_Way] = set()
    for probe in (_Probe(ways), _Probe(ways)):
        with probe:
            if not ways:
                raise LookupError
    return frozenset(ways)
