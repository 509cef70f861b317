"""Kernels on disk: found again by any number of processes; not loaded when damaged or foreign; not needed where nothing can be written."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numba
import numpy as np
import pytest

import refimpl.jit
from refimpl import cache

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


@pytest.fixture
def program(tmp_path: Path) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Starts the program, its last lines `then`, with this package (or the one in `install`) and an environment."""
    path = tmp_path / "program.py"
    started: list[subprocess.Popen[str]] = []

    def start(then: str = "main()\n", install: Path = ROOT, source: str = PROGRAM, **environment: str) -> subprocess.Popen[str]:
        if not path.exists() or path.read_text(encoding="utf-8") != source + then:  # others may be reading it
            path.write_text(source + then, encoding="utf-8")
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("NUMBA_")}
        process = subprocess.Popen(
            [sys.executable, "-W", "error", str(path)],
            env=inherited | {"PYTHONPATH": str(install)} | environment,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        started.append(process)
        return process

    yield start
    for process in started:
        with process:
            process.kill()


def told(process: subprocess.Popen[str]) -> tuple[dict[str, Any], str]:
    """What the program said, and its stderr."""
    out, err = process.communicate()
    assert process.returncode == 0, err
    return json.loads(out), err


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache folder of this process."""
    path = tmp_path / "kernels"
    monkeypatch.setattr(numba.config, "CACHE_DIR", str(path))
    return path


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


def test_a_second_process_finds_what_the_first_compiled(program: Callable[..., Any], tmp_path: Path) -> None:
    place = str(tmp_path / "kernels")
    first, _ = told(program(NUMBA_CACHE_DIR=place))
    second, _ = told(program(NUMBA_CACHE_DIR=place))
    assert (first["hits"], first["misses"]) == (0, 4)
    assert (second["hits"], second["misses"]) == (4, 0)
    assert first["answers"] == second["answers"] == ANSWERS
    assert first["setting"] == second["setting"] == place, "Numba's own setting is the user's"
    assert Path(first["path"]).parent == Path(place)


def test_processes_that_compile_at_once_lose_nothing(program: Callable[..., Any], tmp_path: Path) -> None:
    place, go = tmp_path / "kernels", tmp_path / "go"
    wait = f"while not Path({str(go)!r}).exists(): time.sleep(0.001)\nmain()\n"
    processes = [program(wait, NUMBA_CACHE_DIR=str(place)) for _ in range(8)]
    time.sleep(1.0)
    go.touch()
    together = [told(process)[0] for process in processes]
    assert all(said["answers"] == ANSWERS for said in together)
    assert len(kept(place)) == 4, "one file for each kernel and signature, and none half-written"
    after, _ = told(program(wait, NUMBA_CACHE_DIR=str(place)))
    assert (after["hits"], after["misses"]) == (4, 0)


def test_a_reader_sees_a_whole_file_or_none_while_others_write(tmp_path: Path) -> None:
    path, done = tmp_path / "kernel", threading.Event()
    contents = [bytes([n]) * 300_000 for n in range(3)]
    cache._write(path, contents[0])

    def write(content: bytes) -> None:
        while not done.is_set():
            cache._write(path, content)

    writers = [threading.Thread(target=write, args=(content,)) for content in contents]
    for writer in writers:
        writer.start()
    seen = Counter(cache._read(path) for _ in range(300))
    done.set()
    for writer in writers:
        writer.join()
    assert seen.keys() <= set(contents)
    assert kept(tmp_path) == [path]


def test_no_part_of_a_file_is_taken_for_it(tmp_path: Path) -> None:
    path = tmp_path / "kernel"
    cache._write(path, b"what was compiled")
    whole = path.read_bytes()
    assert cache._read(path) == b"what was compiled"
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        assert cache._read(path) is None
    for place in range(len(whole)):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        assert cache._read(path) is None
    path.write_bytes(whole + b"\0")
    assert cache._read(path) is None


DAMAGE: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda whole: b"",
    "cut": lambda whole: whole[: len(whole) // 2],
    "one byte short": lambda whole: whole[:-1],
    "one bit": lambda whole: whole[:1000] + bytes([whole[1000] ^ 4]) + whole[1001:],
    "zeros": lambda whole: bytes(len(whole)),
    "garbage": lambda whole: bytes(range(256)) * 40,
    "no digest": lambda whole: whole[32:],
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
def test_a_damaged_file_is_compiled_anew_and_replaced(damage: Callable[[bytes], bytes], folder: Path) -> None:
    assert fresh()(1.5) == 3.0
    (path,) = kept(folder)
    whole = path.read_bytes()
    path.write_bytes(damage(whole))
    again = fresh()
    assert again(1.5) == 3.0
    assert found(again) == (0, 1)
    assert kept(folder) == [path]
    mended = fresh()
    assert mended(1.5) == 3.0
    assert found(mended) == (1, 0)


def test_a_folder_in_the_place_of_a_file_does_no_harm(folder: Path) -> None:
    fresh()(1.5)
    (path,) = kept(folder)
    path.unlink()
    path.mkdir()
    again = fresh()
    assert again(1.5) == 3.0
    assert found(again) == (0, 1)


def test_a_changed_source_is_compiled_anew(program: Callable[..., Any], tmp_path: Path) -> None:
    place = str(tmp_path / "kernels")
    told(program(NUMBA_CACHE_DIR=place))
    changed, _ = told(program(source=PROGRAM.replace("2.0*x[i]", "3.0*x[i]"), NUMBA_CACHE_DIR=place))
    assert changed["misses"] == 4
    assert changed["answers"][0] == [0.0, 3.0, 6.0]


@pytest.fixture
def install(tmp_path: Path) -> Path:
    """An installation of the package of its own."""
    copy = tmp_path / "install"
    shutil.copytree(ROOT / "refimpl", copy / "refimpl", ignore=shutil.ignore_patterns("__pycache__"))
    return copy


def test_a_change_anywhere_in_the_package_is_compiled_anew(program: Callable[..., Any], install: Path, tmp_path: Path) -> None:
    place = str(tmp_path / "kernels")
    first, _ = told(program(install=install, NUMBA_CACHE_DIR=place))
    with (install / "refimpl/doubledouble.py").open("a", encoding="utf-8") as source:
        source.write("# a change\n")
    second, _ = told(program(install=install, NUMBA_CACHE_DIR=place))
    assert (second["hits"], second["misses"]) == (0, 4)
    assert first["path"] != second["path"]


def test_another_processor_or_setting_has_kernels_of_its_own(program: Callable[..., Any], tmp_path: Path) -> None:
    place = str(tmp_path / "kernels")
    others = ({"NUMBA_CPU_NAME": "generic", "NUMBA_CPU_FEATURES": ""}, {"NUMBA_OPT": "1"}, {"NUMBA_BOUNDSCHECK": "1"})
    for other in ({}, *others):
        assert told(program(NUMBA_CACHE_DIR=place, **other))[0]["misses"] == 4
    for other in ({}, *others):
        assert told(program(NUMBA_CACHE_DIR=place, **other))[0]["hits"] == 4


def test_kernels_that_differ_in_what_they_enclose_are_kept_apart(folder: Path) -> None:
    def times(factor: float) -> Any:
        def scaled(x: float) -> float:
            return factor * x

        return fresh(scaled)

    assert times(2.0)(1.5) == 3.0
    assert times(4.0)(1.5) == 6.0
    again = times(2.0)
    assert again(1.5) == 3.0
    assert found(again) == (1, 0)


def test_the_package_keeps_its_kernels_beside_its_code(program: Callable[..., Any], install: Path, tmp_path: Path) -> None:
    said, _ = told(program(install=install, XDG_CACHE_HOME=str(tmp_path / "user")))
    assert Path(said["path"]).parent == install / "refimpl/__pycache__"
    assert said["setting"] == ""
    assert not (tmp_path / "user").exists()


@pytest.mark.skipif(sys.platform != "linux", reason="XDG_CACHE_HOME names the user's cache folder on Linux")
def test_a_read_only_install_keeps_them_in_the_users_folder(program: Callable[..., Any], install: Path, tmp_path: Path) -> None:
    (install / "refimpl/__pycache__").touch()  # a file: not even root makes a folder in it
    for hits in (0, 4):
        said, _ = told(program(install=install, XDG_CACHE_HOME=str(tmp_path / "user")))
        assert Path(said["path"]).parent == tmp_path / "user/lossref"
        assert said["hits"] == hits


@pytest.mark.parametrize("named", [True, False])
def test_without_a_folder_they_are_compiled_in_every_process(
    named: bool, program: Callable[..., Any], install: Path, tmp_path: Path
) -> None:
    (install / "refimpl/__pycache__").touch()
    (tmp_path / "file").touch()
    nowhere = {"NUMBA_CACHE_DIR" if named else "XDG_CACHE_HOME": str(tmp_path / "file/below")}
    for _ in range(2):
        said, _ = told(program(install=install, HOME=str(tmp_path / "file"), **nowhere))
        assert said["answers"] == ANSWERS
        assert (said["path"], said["misses"]) == (None, 4)


def test_a_named_folder_stands_alone(folder: Path) -> None:
    assert list(cache._bases()) == [folder]


@pytest.mark.skipif(not Path("/proc/self").is_dir(), reason="needs a folder in which not even root may write")
def test_a_folder_that_is_there_but_read_only_is_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bases = [tmp_path / "install", tmp_path / "user"]
    bases[0].mkdir()
    (bases[0] / "lossref-0123456789abcdef").symlink_to("/proc/self")
    monkeypatch.setattr(cache, "_bases", lambda: iter(bases))
    assert cache._writable("lossref-0123456789abcdef") == bases[1] / "lossref-0123456789abcdef"


def test_what_a_read_only_folder_holds_is_used(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fresh()(1.5)
    monkeypatch.setattr(cache, "_writable", lambda name: None)
    monkeypatch.setattr(os, "utime", refuse)
    again = fresh()
    assert again(1.5) == 3.0
    assert found(again) == (1, 0)


def refuse(*_: Any, **__: Any) -> None:
    raise OSError


def test_a_full_disk_does_no_harm(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Path, "replace", refuse)
    assert fresh()(1.5) == 3.0
    assert not kept(folder)


def test_a_table_too_large_to_be_kept_is_told_of(folder: Path) -> None:
    table = np.zeros(1 << 20)

    def entry(i: int) -> float:
        return table[i]

    with pytest.warns(RuntimeWarning, match="entry can't be kept"):
        assert fresh(entry)(3) == 0.0
    assert not kept(folder)


def test_old_folders_go_when_a_new_one_is_made(folder: Path) -> None:
    for age in range(12):
        old = folder / f"lossref-{age:016x}"
        old.mkdir(parents=True)
        (old / "kernel").touch()
        os.utime(old, (1e9 - age, 1e9 - age))
    others = [folder / "lossref-notes", folder / "theirs"]
    for other in others:
        other.mkdir()
    fresh()(1.5)
    (new,) = {path.parent for path in kept(folder) if path.name != "kernel"}
    latest = {folder / f"lossref-{age:016x}" for age in range(cache._KEPT - 1)}
    assert set(folder.iterdir()) == {new, *latest, *others}


def test_a_folder_that_is_used_is_not_old(folder: Path) -> None:
    fresh()(1.5)
    (path,) = kept(folder)
    os.utime(path.parent, (1e9, 1e9))
    fresh()(1.5)
    assert path.parent.stat().st_mtime > 1e9


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


EVERY_OPERATION = """
import hashlib, json
import numba, numpy as np
from numba.core import event
import refimpl.cache
from refimpl.operations import operations

def bits(enclosure):
    return b"".join(part.tobytes() for part in (enclosure.kind, enclosure.hi, enclosure.lo, enclosure.radius))

digest = hashlib.sha256()
with event.install_recorder("numba:compile") as recorded:
    for op in operations().values():
        for reduction in ("none", "mean"):
            example = next(example for clause in op.clauses for example in clause.examples)
            call = {name: np.array(value) if name in op.inputs else value for name, value in example.call.items() if name != "cotangent"}
            if "reduction" in op.parameters:
                call["reduction"] = reduction
            output = op.forward(**call)
            digest.update(bits(output))
            for gradient in op.vjp(**call, cotangent=np.ones(output.shape)).values():
                digest.update(bits(gradient))
print(json.dumps({"bits": digest.hexdigest(), "compiled": [str(what.data["dispatcher"]) for _, what in recorded.buffer if what.is_start]}))
"""


def test_every_operation_starts_from_the_disk_without_compiling(program: Callable[..., Any]) -> None:
    """Kernels are loaded without Numba's registries: code that needed more of them would end the process."""
    first, _ = told(program("", source=EVERY_OPERATION))
    second, _ = told(program("", source=EVERY_OPERATION))
    assert second["compiled"] == []
    assert first["bits"] == second["bits"]
