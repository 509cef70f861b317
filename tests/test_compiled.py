"""No bit of a kernel depends on the compiler: nothing is rearranged or fused unasked, and no library computes.

`make bits` runs this for other targets and versions; the target of a run is what NUMBA_CPU_NAME and NUMBA_CPU_FEATURES say.
"""

from __future__ import annotations

import math
import os
import platform
import re
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numba
import numpy as np
import pytest
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

import refimpl.jit
from conformance import bits
from refimpl.operations import operations
from tests import compiled

ROOT = Path(__file__).parents[1]
ALL = pytest.mark.parametrize("name", operations())
X86 = platform.machine() in ("x86_64", "AMD64")
READABLE = X86 or platform.machine() in ("aarch64", "arm64")  # by `compiled`


@cache
def digests(name: str) -> list[bits.Digest]:
    """The short digest of an operation on one thread and on two; its kernels have been compiled."""
    found = []
    with ThreadPoolExecutor(2) as pool, pytest.MonkeyPatch.context() as patch:
        patch.setattr(refimpl.jit, "_GRAIN", 1)  # even small work is shared out
        patch.setattr(refimpl.jit, "_pool", lambda: pool)
        for count in (1, 2):
            patch.setattr(refimpl.jit, "threads", lambda count=count: count)
            found.append(bits.digest(operations()[name], short=True))
    return found


@ALL
def test_the_bits_are_those_of_the_record_on_one_thread_and_two(name: str) -> None:
    recorded = {name: bits.read()["short"][name]}
    assert [bits.differences({name: one}, recorded) for one in digests(name)] == [[], []]


@pytest.mark.skipif(not READABLE, reason="the assembly of this processor is not one that the test reads")
@ALL
def test_the_compiled_kernels_do_what_was_asked_and_no_more(name: str) -> None:
    digests(name)
    for kernel, compiled_kernel in compiled.kernels().items():
        for signature in compiled_kernel.signatures:
            assert flaws_of(kernel, signature) == []


@cache
def flaws_of(kernel: str, signature: Any) -> list[str]:
    """Operations share kernels: each is looked at once."""
    return compiled.flaws(compiled.code(kernel, compiled.kernels()[kernel], signature))


def test_every_kernel_is_among_them() -> None:
    for name in operations():
        digests(name)
    found = compiled.kernels()
    written = [mark for path in ROOT.glob("refimpl/**/*.py") for mark in re.findall(r"^@kernel$", path.read_text("utf-8"), re.MULTILINE)]
    assert len(found) == len(written), "a kernel that `compiled.kernels` doesn't find"
    assert not [kernel for kernel, there in found.items() if not there.signatures], "a kernel that no call of the digest compiles"


@pytest.mark.skipif(not X86, reason="these targets are x86-64's; another machine checks its own")
@pytest.mark.parametrize("processor", ["generic", "haswell"])
def test_the_same_on_other_processors(processor: str) -> None:
    """One operation, as the others take minutes: without fma and AVX, and with AVX2; `make bits` does all."""
    environment = os.environ | {"NUMBA_CPU_NAME": processor, "NUMBA_CPU_FEATURES": ""}
    tests = [f"{__file__}::{test.__name__}[log_softmax]" for test in (ONE_AND_TWO, AS_ASKED)]
    ran = subprocess.run([sys.executable, "-m", "pytest", "-q", *tests], cwd=ROOT, env=environment, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert "2 passed" in ran.stdout


ONE_AND_TWO = test_the_bits_are_those_of_the_record_on_one_thread_and_two
AS_ASKED = test_the_compiled_kernels_do_what_was_asked_and_no_more


@intrinsic
def fuse_at_will(typingctx: Any, x: Any, y: Any, z: Any) -> Any:
    """x*y + z with one rounding or two, as the target likes."""
    double = ir.DoubleType()

    def build(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        function = numba.core.cgutils.get_or_insert_function(builder.module, ir.FunctionType(double, [double] * 3), "llvm.fmuladd.f64")
        return builder.call(function, arguments)

    return types.float64(types.float64, types.float64, types.float64), build


def product(x: Any, y: Any) -> float:
    total = 0.0
    for i in range(x.size):
        total += x[i] * y[i]
    return total


def fused_product(x: Any, y: Any) -> float:
    total = 0.0
    for i in range(x.size):
        total = refimpl.jit.fma(x[i], y[i], total)
    return total


def both_products(x: Any, y: Any) -> float:
    total = 0.0
    for i in range(x.size):
        total = refimpl.jit.fma(x[i], y[i], total) + x[i] * x[i]
    return total


def loosely_fused_product(x: Any, y: Any) -> float:
    total = 0.0
    for i in range(x.size):
        total = fuse_at_will(x[i], y[i], total)
    return total


def exponential(x: Any, y: Any) -> float:
    return math.exp(x[0]) + y[0]


def remainder(x: Any, y: Any) -> float:
    return x[0] % y[0]


def power(x: Any, y: Any) -> float:
    return x[0] ** y[0]


def found(function: Callable[..., float], **options: Any) -> list[str]:
    """The flaws of a function of two arrays."""
    dispatcher = numba.njit(error_model="numpy", nogil=True, **options)(function)
    dispatcher(np.ones(3), np.ones(3))
    (signature,) = dispatcher.signatures
    return compiled.flaws(compiled.code(function.__name__, dispatcher, signature))


@pytest.mark.skipif(not READABLE, reason="the assembly of this processor is not one that the test reads")
def test_a_product_and_a_sum_stay_two_operations_and_a_fused_one_stays_fused() -> None:
    assert not found(product)
    assert not found(fused_product)


@pytest.mark.skipif(not READABLE, reason="the assembly of this processor is not one that the test reads")
@pytest.mark.parametrize(
    ("function", "options", "words"),
    [
        (product, {"fastmath": True}, "may be rearranged or fused"),
        (product, {"fastmath": {"contract"}}, "may be rearranged or fused"),
        (product, {"fastmath": {"reassoc"}}, "may be rearranged or fused"),
        (loosely_fused_product, {}, "the intrinsic llvm.fmuladd.f64"),
        (exponential, {}, "exp"),
        (remainder, {}, "fmod"),
        (power, {}, "pow"),
    ],
)
def test_what_is_not_sound_is_found(function: Callable[..., float], options: dict[str, Any], words: str) -> None:
    assert any(words in flaw for flaw in found(function, **options))


@pytest.mark.skipif(not READABLE, reason="the assembly of this processor is not one that the test reads")
def test_a_fused_operation_that_nobody_asked_for_is_found_among_those_asked_for() -> None:
    """The fused operations that were asked for are made unknown calls; the processor must have the instruction for any to be left."""
    dispatcher = numba.njit(error_model="numpy", nogil=True, fastmath={"contract"})(both_products)
    dispatcher(np.ones(3), np.ones(3))
    (signature,) = dispatcher.signatures
    there = compiled.code("both_products", dispatcher, signature)
    by_library = "fma" in there.symbols
    assert (there.unasked > 0) != by_library
    assert any("may be rearranged or fused" in flaw for flaw in compiled.flaws(there))


@pytest.mark.skipif(not X86, reason="the assembly below is x86-64's")
def test_a_fused_operation_too_many_is_found() -> None:
    """What a compiler that contracts would write: the code asks for none, the assembly has them."""
    clean = compiled.Code("f", "define double @f(double %x) {\n  %y = fmul double %x, %x\n}\n", "f:\n\tvmulsd\t%xmm0, %xmm0, %xmm0\n")
    assert not compiled.flaws(clean)
    one = replace(clean, assembly=clean.assembly + "\tvfmadd213sd\t%xmm1, %xmm0, %xmm0\n")
    assert compiled.flaws(one) == ["0 fused operations are asked for, 1 are in the assembly, 0 without those asked for"]
    eight = replace(clean, ir="  %y = call <8 x double> @llvm.fma.v8f64(<8 x double> %x)\n")
    halves = "\tvfnmsub231pd\t(%rax), %ymm1, %ymm0\n"
    assert compiled.flaws(replace(eight, assembly=2 * halves)) == []
    assert compiled.flaws(replace(eight, assembly=halves)) == [], "lanes that nobody uses"
    assert len(compiled.flaws(replace(eight, assembly=halves, unasked=1))) == 1
    assert len(compiled.flaws(replace(eight, assembly=""))) == 1
    assert compiled.flaws(replace(eight, assembly="\tmovabsq\t$fma, %rax\n\tcallq\t*%rax\n")) == []
    assert len(compiled.flaws(replace(eight, assembly="\tmovabsq\t$fma, %rax\n\tcallq\t*%rax\n" + halves))) == 1
