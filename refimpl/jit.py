"""How everything is compiled: strict IEEE arithmetic. (`refimpl.lanes` adds a type, `refimpl.cache` keeps what was compiled.)

`inline` marks the small building blocks (always inlined by LLVM), `routine` the larger ones, `kernel` the loops over rows
(entered from Python, run without the GIL, kept on disk by `refimpl.cache`). All are compiled without fastmath: no reassociation, no
unrequested fusing, the same bits on every IEEE machine. The only fused operation is the one written as `fma`.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import Any

import numba
import numpy as np
from llvmlite import ir
from numba import types
from numba.core.registry import cpu_target
from numba.extending import intrinsic, overload
from numpy.typing import NDArray

from refimpl.cache import keep

_GRAIN = 1 << 15  # elements below which a second thread costs more than it saves
_RANGES = 4  # of rows, for each thread


def inline(function: Callable[..., Any]) -> Any:
    """Compile a building block that LLVM always inlines into its caller."""
    return numba.njit(error_model="numpy", forceinline=True)(function)


def routine(function: Callable[..., Any]) -> Any:
    """Compile a building block that is too large to be inlined wherever it is used."""
    return numba.njit(error_model="numpy")(function)


def kernel(function: Callable[..., Any]) -> Any:
    """Compile a loop over rows that Python calls; it holds no lock while it runs."""
    return keep(numba.njit(error_model="numpy", nogil=True)(function))


@intrinsic
def fma(typingctx: Any, x: Any, y: Any, z: Any) -> Any:
    """x*y + z with one rounding."""
    return types.float64(types.float64, types.float64, types.float64), lambda ctx, b, sig, args: b.fma(*args)


@intrinsic
def float_from_bits(typingctx: Any, x: Any) -> Any:
    """The float64 whose bits are those of an int64."""
    return types.float64(types.int64), lambda ctx, b, sig, args: b.bitcast(args[0], ir.DoubleType())


@intrinsic
def bits_from_float(typingctx: Any, x: Any) -> Any:
    """The bits of a float64 as an int64."""
    return types.int64(types.float64), lambda ctx, b, sig, args: b.bitcast(args[0], ir.IntType(64))


def bits_of(row: Any) -> Any:
    """The bits of a row of floats as integers of their width, without a copy."""
    return row.view(np.int32 if row.dtype == np.float32 else np.int64)


@overload(bits_of)
def _bits_of(row: Any) -> Any:
    def narrow(row: Any) -> Any:
        return row.view(np.int32)

    def wide(row: Any) -> Any:
        return row.view(np.int64)

    return narrow if row.dtype == types.float32 else wide


def frozen(array: NDArray[Any]) -> NDArray[Any]:
    """A read-only view in C order: the one type that the kernels are compiled for."""
    view = np.ascontiguousarray(array).view()
    view.flags.writeable = False
    return view


@cache
def _pool() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(threads(), thread_name_prefix="refimpl")


if hasattr(os, "register_at_fork"):  # a forked child has the pool, but none of its threads
    os.register_at_fork(after_in_child=_pool.cache_clear)


def threads() -> int:
    """The processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def target() -> str:
    """What the kernels are compiled for: the platform and the processor's name, as LLVM writes them."""
    triple, processor, _ = cpu_target.target_context.codegen().magic_tuple()
    return f"{processor} ({triple})"


def over_rows(compiled: Any, rows: int, elements: int, *arguments: Any) -> None:
    """Call `compiled(start, stop, *arguments)` on consecutive ranges of rows, shared out to threads, of which the caller's is one.

    A row's result doesn't depend on the range it falls in, so neither do the bits on the number of threads. `elements` is the
    size of the work; small work stays in the caller's thread. There are a few ranges a thread, so that one that wakes up late
    leaves more of them to the others.
    """
    count = max(1, min(threads(), rows, elements // _GRAIN))
    compiled(0, 0, *arguments)  # compiles, or loads the cache, before threads run
    parts = 1 if count == 1 else min(rows, count * _RANGES)
    ranges = iter([(rows * part // parts, rows * (part + 1) // parts) for part in range(parts)])

    def work() -> None:
        for start, stop in ranges:
            compiled(start, stop, *arguments)

    others = [_pool().submit(work) for _ in range(count - 1)]
    work()
    for other in others:
        other.result()
