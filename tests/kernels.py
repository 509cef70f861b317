"""Kernels to compile and to find again, in this process and in others; see `test_cache.py`."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import refimpl.jit

ROOT = Path(__file__).parents[1]

# A program with kernels of its own, which says what it found and did.
PROGRAM = """
import json, sys, time
from pathlib import Path
import numba, numpy as np
import refimpl.cache
from refimpl.jit import kernel

@kernel
def scaled(x, result):
    for i in range(x.size):
        result[i] = 2.0*x[i]

@kernel
def shifted(x, result):
    for i in range(x.size):
        result[i] = x[i] + 1.0

def main():
    answers = []
    for dtype in (np.float64, np.float32):
        for compiled in (scaled, shifted):
            x = np.arange(3, dtype=dtype)
            result = np.zeros_like(x)
            compiled(x, result)
            answers.append(result.tolist())
    both = (scaled, shifted)
    print(json.dumps({
        "answers": answers,
        "hits": sum(sum(compiled.stats.cache_hits.values()) for compiled in both),
        "misses": sum(sum(compiled.stats.cache_misses.values()) for compiled in both),
        "path": scaled.stats.cache_path,
        "setting": numba.config.CACHE_DIR,
    }))

"""
ANSWERS = 2 * [[0.0, 2.0, 4.0], [1.0, 2.0, 3.0]]


def start(path: Path, then: str = "main()\n", install: Path = ROOT, source: str = PROGRAM, **environment: str) -> subprocess.Popen[str]:
    """Start a program in the file `path`, its last lines `then`, with this package (or the one in `install`) and an environment."""
    if not path.exists() or path.read_text(encoding="utf-8") != source + then:  # others may be reading it
        path.write_text(source + then, encoding="utf-8")
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("NUMBA_")}
    return subprocess.Popen(
        [sys.executable, "-W", "error", str(path)],
        env=inherited | {"PYTHONPATH": str(install)} | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def told(process: subprocess.Popen[str]) -> tuple[dict[str, Any], str]:
    """What the program said, and its stderr."""
    out, err = process.communicate()
    assert process.returncode == 0, err
    return json.loads(out), err


def twice(x: float) -> float:
    return x + x


def fresh(function: Callable[..., Any] = twice) -> Any:
    """A kernel that this process hasn't compiled or loaded yet."""
    return refimpl.jit.kernel(function)


def found(compiled: Any) -> tuple[int, int]:
    """How often a kernel was found, and how often not."""
    return sum(compiled.stats.cache_hits.values()), sum(compiled.stats.cache_misses.values())


def kept(folder: Path) -> list[Path]:
    """The files of a cache folder."""
    return sorted(path for path in folder.rglob("*") if path.is_file())
