"""Kernels on disk: found again by any number of processes; not loaded when damaged or foreign; not needed where nothing can be written."""

from __future__ import annotations

import os
import shutil
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from refimpl import cache
from tests.kernels import ANSWERS, PROGRAM, ROOT, found, fresh, kept, told


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
    others = ({"NUMBA_CPU_NAME": "generic", "NUMBA_CPU_FEATURES": ""}, {"NUMBA_OPT": "1"})
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


def test_the_package_is_imported_where_nothing_may_be_compiled(program: Callable[..., Any]) -> None:
    assert told(program("", source="import refimpl\nprint('{}')\n", NUMBA_DISABLE_JIT="1"))[1] == ""


EVERY_OPERATION = """
import hashlib, json, sys
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
print(json.dumps({
    "bits": digest.hexdigest(),
    "compiled": [str(what.data["dispatcher"]) for _, what in recorded.buffer if what.is_start],
    "registries": "numba.np.linalg" in sys.modules,
}))
"""


def test_every_operation_starts_from_the_disk_without_compiling(program: Callable[..., Any]) -> None:
    """Kernels are loaded without Numba's registries: code that needed more of them would end the process."""
    first, _ = told(program("", source=EVERY_OPERATION))
    second, _ = told(program("", source=EVERY_OPERATION))
    assert second["compiled"] == []
    assert not second["registries"], "to fill them takes as long as to import Numba"
    assert first["bits"] == second["bits"]
