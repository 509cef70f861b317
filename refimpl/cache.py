"""Compiled kernels kept on disk: one file for each kernel and signature, which is whole or is ignored.

Numba's own cache is not enough. It keys a kernel on its own source file, so that a change in a callee's file goes unnoticed; its index
is read, changed and written back, so that of two processes that compile at once one may lose its entries; a file that was cut short
raises; and before it loads anything it fills all of Numba's registries, which takes as long as to import Numba. Here

    the folder   is named by a digest of all sources of this package and of the versions of what compiles them;
    the file     is named by the kernel and by a digest of its source file, its signature, the processor and Numba's settings;
    its content  starts with its own digest, so that what a full disk, a crash or a bad block left of it is known as damaged, is
                 compiled anew and replaced; the rest is what Numba's cache would have kept;
    a write      goes to a file of another name, which then takes the place of the old one in one step. There is no index and no
                 lock: processes that compile the same kernel at once write the same thing, and none waits for another that died.

Kernels are looked for in every folder and written to the first that can be written: NUMBA_CACHE_DIR alone where it is set, else the
package's `__pycache__`, else the user's cache folder. Where none can be, they are compiled in every process. Each source
gives a new folder, so whoever makes one removes the least recently used beyond the latest `_KEPT`; a process that still wanted
one of those compiles again.

A compilation that takes longer than `_PATIENCE` says so, once a process, by the logger `refimpl`. The level is WARNING: who has not
configured logging sees the line on stderr, which explains the pause; who has, decides.
"""

from __future__ import annotations

import hashlib
import inspect
import logging
import os
import pickle
import shutil
import sys
import tempfile
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

import llvmlite
import numba
import numpy as np
from numba.core import event
from numba.core.caching import NullCache
from numba.core.compiler import CompileResult
from numba.core.runtime import rtsys
from numba.core.serialize import dumps
from numba.misc.appdirs import AppDirs

_ROOT = Path(__file__).parent
_KEPT = 8  # folders beside each other
_PATIENCE = 1.0  # seconds
_LOG = logging.getLogger("refimpl")


def keep(compiled: Any) -> Any:
    """Give a function that Numba compiles this cache; it is compiled in every process where its source can't be read."""
    if numba.config.DISABLE_JIT:  # a plain function
        return compiled
    function = compiled.py_func
    with suppress(OSError):
        compiled._cache = KernelCache(function, _digest(Path(inspect.getfile(function)).read_bytes()))
    return compiled


class KernelCache(NullCache):
    """What Numba asks for the compiled forms of one function, and hands them to."""

    def __init__(self, function: Callable[..., Any], source: str) -> None:
        self._function = function
        self._source = source
        self._folder = f"lossref-{_sources()[:16]}"  # of the sources as they were imported

    @property
    def cache_path(self) -> str | None:
        """The folder that is written to."""
        folder = _writable(self._folder)
        return None if folder is None else str(folder)

    def load_overload(self, signature: Any, target: Any) -> Any:
        """The compiled function, or None."""
        name = self._name(signature, target.codegen())
        for base in _bases():
            kept = _read(base / self._folder / name)
            if kept is not None:
                _mark(base / self._folder)
                rtsys.initialize(target)  # all that code of ours needs of what Numba's own cache prepares
                return CompileResult._rebuild(target, *pickle.loads(kept))
        return None

    def save_overload(self, signature: Any, result: Any) -> None:
        """Keep a compiled function, where anything can be written."""
        if result.library.has_dynamic_globals:  # addresses of this process
            warnings.warn(f"{self._function.__qualname__} can't be kept: a table in it is too large", RuntimeWarning, stacklevel=2)
            return
        folder = _writable(self._folder)
        if folder is not None:
            with suppress(OSError):  # the disk is full, or another process is replacing the file
                _write(folder / self._name(signature, result.codegen), dumps(result._reduce()))

    def _name(self, signature: Any, codegen: Any) -> str:
        function, config = self._function, numba.config
        settings = [str(value) for value in (config.OPT, config.LOOP_VECTORIZE, config.SLP_VECTORIZE, config.BOUNDSCHECK)]
        cells = dumps(tuple(cell.cell_contents for cell in function.__closure__ or ()))
        key = (self._source, function.__code__.co_firstlineno, cells, str(signature), codegen.magic_tuple(), settings)
        title = "".join(c for c in f"{function.__module__}.{function.__qualname__}" if c.isalnum() or c in "._")
        return f"{title}-{_digest(repr(key).encode())[:32]}"


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


@cache
def _sources() -> str:
    """The digest of this package's sources and of what compiles them."""
    parts = [sys.implementation.cache_tag or sys.version, numba.__version__, llvmlite.__version__, np.__version__]
    parts += [_digest(source.read_bytes()) for source in sorted(_ROOT.rglob("*.py"))]
    return _digest(" ".join(parts).encode())


def _bases() -> Iterator[Path]:
    """Where folders of kernels may lie, in the order in which they are tried."""
    if numba.config.CACHE_DIR:
        yield Path(numba.config.CACHE_DIR)
        return
    yield _ROOT / "__pycache__"
    user = Path(AppDirs("lossref", appauthor=False).user_cache_dir)
    if user.is_absolute():  # a user without a home has none
        yield user


def _writable(name: str) -> Path | None:
    """The first folder of that name that can be written, made where it is missing; None where there is none."""
    for base in _bases():
        folder = base / name
        with suppress(OSError):
            missing = not folder.is_dir()
            folder.mkdir(parents=True, exist_ok=True)
            tempfile.TemporaryFile(dir=folder).close()  # permissions alone don't say it
            if missing:
                _prune(base)
            return folder
    return None


def _prune(base: Path) -> None:
    """Remove all but the most recently used folders."""
    folders = []
    for folder in base.glob("lossref-" + 16 * "[0-9a-f]"):
        with suppress(OSError):  # another process has removed it
            folders.append((folder.stat().st_mtime, folder))
    for _, folder in sorted(folders, reverse=True)[_KEPT:]:
        shutil.rmtree(folder, ignore_errors=True)


@cache
def _mark(folder: Path) -> None:
    """Let a folder count as used now, once a process."""
    with suppress(OSError):  # of a read-only install
        os.utime(folder)


def _read(path: Path) -> bytes | None:
    """The content that was written to a file; None where it is missing or damaged."""
    try:
        content = path.read_bytes()
    except OSError:
        return None
    digest, kept = content[:32], content[32:]
    return kept if hashlib.sha256(kept).digest() == digest else None


def _write(path: Path, kept: bytes) -> None:
    """Put a file in place whole, as readable to others as the user lets new files be."""
    part = path.with_name(f"{path.name}.{os.urandom(8).hex()}")
    try:
        part.write_bytes(hashlib.sha256(kept).digest() + kept)
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def _cache_of(event: Any) -> KernelCache | None:
    """The cache of the function that an event of Numba is about; None for what isn't ours."""
    kept = getattr(event.data["dispatcher"], "_cache", None)
    return kept if isinstance(kept, KernelCache) else None


class _Watch(event.Listener):
    """Says that kernels are being compiled, when one takes longer than `_PATIENCE`."""

    def __init__(self) -> None:
        self._running: list[threading.Timer] = []  # one, and one more for each kernel that it calls
        self._said = threading.Lock()

    def on_start(self, event: Any) -> None:
        """A function is about to be compiled; Numba's lock keeps other threads from compiling."""
        kept = _cache_of(event)
        if kept is not None:
            timer = threading.Timer(_PATIENCE, self._say, (kept,))
            timer.daemon = True
            with suppress(RuntimeError):  # no thread to be had: then nothing is said
                timer.start()
            self._running.append(timer)

    def on_end(self, event: Any) -> None:
        """It has been compiled, or couldn't be."""
        if _cache_of(event) is not None:
            self._running.pop().cancel()

    def _say(self, kept: KernelCache) -> None:
        if self._said.acquire(blocking=False):  # never released: once a process
            folder = kept.cache_path
            later = f"later runs find them in {folder}" if folder else "set NUMBA_CACHE_DIR to a folder that can be written, to keep them"
            _LOG.warning("lossref: compiling kernels for this machine takes some seconds; %s", later)


_WATCH = _Watch()
event.register("numba:compile", _WATCH)
