"""Compile loops to machine code once, and keep the result between processes."""

import logging
from collections.abc import Callable
from typing import Any, TypeVar, cast

import numba
import numba.core.config

from autofocus.runtime import cache_dir

log = logging.getLogger(__name__)

FunctionT = TypeVar("FunctionT", bound=Callable[..., Any])


def compiled(function: FunctionT) -> FunctionT:
    """Return `function` compiled on its first call, without the interpreter's lock.

    No fast-math: sums must round as written, since results are compared bit for bit. The machine
    code is kept beside the source file or in the user's cache; where neither can be written, in
    `runtime.cache_dir()`; and where that cannot be written either, every process compiles anew.
    """
    try:
        return _jit(function, cache=True)
    except RuntimeError:  # numba found no folder it may write to
        pass
    settings: Any = numba.core.config
    before = settings.CACHE_DIR
    settings.CACHE_DIR = str(cache_dir() / "numba")
    try:
        return _jit(function, cache=True)
    except (RuntimeError, OSError):
        log.info("%s is compiled in every process: no cache folder is writable", function.__name__)
        return _jit(function, cache=False)
    finally:
        settings.CACHE_DIR = before


def _jit(function: FunctionT, *, cache: bool) -> FunctionT:
    jitted: Any = numba.njit(nogil=True, cache=cache)(function)
    return cast(FunctionT, jitted)
