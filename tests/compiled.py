"""What LLVM made of the kernels: their optimised code and their assembly, and what in it could change a bit.

The code is read from Numba's library of a compiled signature, which a kernel that was loaded from disk has too.
"""

from __future__ import annotations

import re
import sys
from dataclasses import dataclass, replace
from typing import Any

from llvmlite.binding import parse_assembly
from numba.core.dispatcher import Dispatcher

FUSED = re.compile(r"^\s+vf(?:n?m(?:add|sub)|maddsub|msubadd)\d*([sp])([sd])\s+(.*)$", re.MULTILINE)  # x86-64
FUSED_ARM = re.compile(r"^\s+(?:fn?m(?:add|sub)|fml[as])\s+v?\d*[a-z]?\d*(?:\.(\d+)[sdh])?", re.MULTILINE)
FLAGS = re.compile(r"=\s+(?:(?:tail|musttail|notail)\s+)?[a-z]+\s+(?:\w+\s+)*?(fast|nnan|ninf|nsz|arcp|contract|afn|reassoc)\s")
RELAXED = re.compile(r'"(?:[\w-]+-fp-math|approx-func-fp-math|no-signed-zeros-fp-math)"="true"|"denormal-fp-math[\w-]*"="(?!ieee)[^"]*"')
CALLED = re.compile(r"\bcall\b[^@\n]*@\"?([\w.$]+)")
FMA_LANES = re.compile(r"\bcall\b[^@\n]*@llvm\.fma\.(?:v(\d+))?f\d+")
REFERENCED = re.compile(r"(?:movabsq\s+\$|^\s+(?:callq?|jmpq?|bl?)\s+|#:abs_g\d(?:_nc)?:|:got(?:_lo12)?:)([A-Za-z_][\w$]*)", re.MULTILINE)
DEFINED = re.compile(r'^"?([\w.$]+)"?:', re.MULTILINE)

# Intrinsics on floating-point numbers that give the same bits everywhere: one rounding as IEEE 754 has it, or none.
EXACT = ("fma", "fabs", "copysign", "is.fpclass", "masked.load", "masked.store", "masked.gather", "masked.scatter")
# Functions that a kernel may call: Python's and Numba's for arguments, memory and errors, and those of the C library that move bytes.
HARMLESS = re.compile(r"_?Py[A-Z_]\w*|NRT_\w+|numba_\w+|memset|memcpy|memmove")


@dataclass(frozen=True)
class Code:
    """One compiled signature of a function."""

    name: str
    ir: str
    assembly: str
    unasked: int = 0  # fused operations in the assembly of the code without those that were asked for

    @property
    def lanes(self) -> int:
        """The fused operations that were asked for, a vector's lanes each for itself."""
        return sum(int(lanes or 1) for lanes in FMA_LANES.findall(self.ir))

    @property
    def fused(self) -> int:
        """The fused operations that the processor's instructions do, lane by lane."""
        size = {"x": 16, "y": 32, "z": 64}
        x86 = sum(
            1 if scalar == "s" else max(size[register] for register in re.findall(r"%([xyz])mm", operands)) // {"d": 8, "s": 4}[width]
            for scalar, width, operands in FUSED.findall(self.assembly)
        )
        return x86 + sum(int(lanes or 1) for lanes in FUSED_ARM.findall(self.assembly))

    @property
    def symbols(self) -> set[str]:
        """The functions and data of others that the assembly names."""
        return set(REFERENCED.findall(self.assembly)) - set(DEFINED.findall(self.assembly))


def kernels() -> dict[str, Any]:
    """Every function of refimpl that Python calls in compiled form, by its full name."""
    found = {}
    for name, module in sorted(sys.modules.items()):
        if name.partition(".")[0] == "refimpl":
            for value in vars(module).values():
                if isinstance(value, Dispatcher) and value.targetoptions.get("nogil") and value.py_func.__module__ == name:
                    found[f"{name}.{value.py_func.__name__}"] = value
    return found


def code(name: str, compiled: Any, signature: Any) -> Code:
    """The code that a function has been compiled to for a signature.

    LLVM leaves out the lanes of a vector that nobody uses, so that there may be fewer fused operations than were asked for. Then those
    are made calls of an unknown function, and what is fused still is counted: it was asked for by nobody.
    """
    library = compiled.overloads[signature].library
    module, machine = library._get_module_for_linking(), library._codegen._tm
    found = Code(name, str(module), machine.emit_assembly(module))
    if found.fused == found.lanes:
        return found
    without = parse_assembly(found.ir.replace("@llvm.fma.", "@unknown.fma."))
    return replace(found, unasked=replace(found, assembly=machine.emit_assembly(without)).fused)


def flaws(of: Code) -> list[str]:
    """What could change a bit of a result, in words; nothing for a sound function."""
    found = [f"an instruction may be rearranged or fused: {line.strip()}" for line in of.ir.splitlines() if FLAGS.search(line)]
    found += [f"an attribute relaxes arithmetic: {text}" for text in sorted(set(RELAXED.findall(of.ir)))]
    for name in sorted(set(CALLED.findall(of.ir))):
        parts = re.fullmatch(r"llvm\.(.+?)\.(?:v\d+)?(?:f(?:16|32|64)|bf16)\b.*", name)
        if parts and parts[1] not in EXACT:
            found.append(f"the intrinsic {name} may round differently elsewhere; if it can't, name it in EXACT")
    called = {name for name in CALLED.findall(of.ir) if not name.startswith(("llvm.", "_Z")) and name not in DEFINED.findall(of.assembly)}
    outside = sorted(name for name in of.symbols | called if not HARMLESS.fullmatch(name) and not name.startswith("_Z"))
    by_library = "fma" in outside
    found += [f"{name} of a library is called or read" for name in outside if name != "fma"]
    if not by_library and (of.fused > of.lanes or of.unasked or (of.lanes and not of.fused)):
        found.append(f"{of.lanes} fused operations are asked for, {of.fused} are in the assembly, {of.unasked} without those asked for")
    if by_library and (of.fused or not of.lanes):
        found.append(
            f"{of.lanes} fused operations are asked for; the C library's fma is called, and {of.fused} are in the assembly besides"
        )
    return found
