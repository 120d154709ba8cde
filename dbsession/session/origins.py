"""Where in the program an object was made: for the error of a flush, which is raised somewhere else."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from types import CodeType
from typing import TypeAlias

__all__ = ["Origin", "describe", "origin"]

Origin: TypeAlias = tuple[CodeType, int]
"""A place in the code. The line is worked out only if somebody asks, since that costs more than to keep this."""

_PACKAGE = f"{Path(__file__).parent.parent}{os.sep}"


def origin() -> Origin:
    """Return the innermost place that is not in this package."""
    frame = sys._getframe(3)  # add_new, the constructor, whoever called it
    while frame.f_code.co_filename.startswith(_PACKAGE) and frame.f_back is not None:
        frame = frame.f_back
    return frame.f_code, frame.f_lasti


def describe(place: Origin) -> str:
    """Return the line, file and function of *place*."""
    code, offset = place
    lines = [line for start, end, line in code.co_lines() if start <= offset < end]
    return f"line {lines[0] if lines else '?'} of {code.co_filename}, in {code.co_qualname}"
