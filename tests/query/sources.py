"""Programs whose expressions are looked for."""

from __future__ import annotations

import importlib.util
import itertools
import sys
from types import CodeType, FunctionType, GeneratorType

_numbers = itertools.count()


def load(path, text, *, encoding="utf-8"):
    """Write *text* to *path* and import it, under a name of its own, as a program would."""
    path.write_bytes(text if isinstance(text, bytes) else text.encode(encoding))
    return imported(path)


def imported(path):
    """Import the file *path* under a name of its own."""
    name = f"written_for_a_test_{next(_numbers)}"
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def code_of(found):
    """Return the code object of a generator, a function, a property, or of itself."""
    if isinstance(found, GeneratorType):
        return found.gi_code
    if isinstance(found, property):
        return found.fget.__code__
    return found.__code__ if isinstance(found, FunctionType) else getattr(found, "ag_code", found)


def codes_in(code):
    """Yield all code objects within *code*."""
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield constant
            yield from codes_in(constant)
