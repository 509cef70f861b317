"""A long compilation says so, once a process; what is short, found, or another's says nothing."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numba
import pytest

from refimpl import cache
from tests.kernels import fresh, kept, told

SLOW = "refimpl.cache._PATIENCE = 0.0\n"
FOUR = "import threading\nfour = [threading.Thread(target=main) for _ in range(4)]\n[t.start() for t in four]\n[t.join() for t in four]\n"


def test_a_long_compilation_says_so_once_a_process(program: Callable[..., Any], tmp_path: Path) -> None:
    place = str(tmp_path / "kernels")
    said, err = told(program(SLOW + "main()\n", NUMBA_CACHE_DIR=place))
    assert err == f"lossref: compiling kernels for this machine takes some seconds; later runs find them in {said['path']}\n"
    assert told(program(SLOW + "main()\n", NUMBA_CACHE_DIR=place))[1] == "", "what is found is not compiled"


def test_threads_say_so_once(program: Callable[..., Any], tmp_path: Path) -> None:
    process = program(SLOW + FOUR, NUMBA_CACHE_DIR=str(tmp_path / "kernels"))
    assert process.communicate()[1].count("compiling") == 1
    assert process.returncode == 0


def test_a_short_compilation_says_nothing(program: Callable[..., Any], tmp_path: Path) -> None:
    patient = "refimpl.cache._PATIENCE = 600.0\n"
    assert told(program(patient + "main()\n", NUMBA_CACHE_DIR=str(tmp_path / "kernels")))[1] == ""


def test_logging_silences_it(program: Callable[..., Any], tmp_path: Path) -> None:
    silent = "import logging\nlogging.getLogger('refimpl').setLevel(logging.ERROR)\n"
    assert told(program(SLOW + silent + "main()\n", NUMBA_CACHE_DIR=str(tmp_path / "kernels")))[1] == ""


def test_without_a_folder_it_says_what_to_do(program: Callable[..., Any], tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    _, err = told(program(SLOW + "main()\n", NUMBA_CACHE_DIR=str(tmp_path / "file/below")))
    assert err.count("\n") == 1
    assert "set NUMBA_CACHE_DIR to a folder that can be written" in err


def test_other_peoples_compilations_are_not_spoken_of(program: Callable[..., Any]) -> None:
    theirs = "numba.njit(lambda x: x + 1)(1)\nprint('{}')\n"
    assert told(program(SLOW + theirs))[1] == ""


def test_a_compilation_that_fails_is_over(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache, "_PATIENCE", 600.0)

    def wrong(x: float) -> Any:
        return x.no_such_attribute  # type: ignore[attr-defined]

    with pytest.raises(numba.TypingError):
        fresh(wrong)(1.5)
    assert not cache._WATCH._running
    for timer in (thread for thread in threading.enumerate() if isinstance(thread, threading.Timer)):
        timer.join(5.0)
        assert not timer.is_alive(), "it would still say that something is being compiled"
    assert not kept(folder)
