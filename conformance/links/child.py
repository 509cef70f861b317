"""A program that runs beside us, with all that it starts: read without waiting, heard to its last words, and ended as a whole.

Threads read its standard output and its standard error, so that nothing it does, or leaves undone, makes the parent wait: half a
message stays in the reading thread, and of what it writes to standard error only the end is kept. It leads a session of its own, which
the terminal's Ctrl-C doesn't reach. A shell beside it (`GUARD`) ends its process group when the parent ends, however that happens.

All that it starts carries a mark in its environment, by which also what has left its process group is found and ended. Programs that run
at the same time get an equal share of the processors but one, which is the parent's: libraries would otherwise start a thread for each,
and where one of these has to wait for its processor, the others wait for it at full speed.
"""

from __future__ import annotations

import os
import queue
import secrets
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import IO

import psutil

from conformance.link import Gone
from refimpl import jit

MARK = "LOSSREF_LINK"  # the variable that marks a child and all that it starts
THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")  # what libraries read; a user's own setting stays
GUARD = 'read -r _; kill -s KILL -- "-$0"'  # a shell's: waits for the end of its input, which is that of the parent
AT_ONCE = 16384  # bytes that a pipe surely takes when what was sent before was read
FAMILY = 0.5  # seconds for which a count of its descendants serves
UNREAD = 8  # messages that may wait to be taken; the reading thread pauses there
LAST_WORDS = 1000  # bytes of standard error that are kept
ENDING = 5.0  # seconds for a process to end once it was told to, or closed its output


class Child:
    """A program and all that it starts. `read` takes one message from its output and raises at its end, or for what is no message.

    `wake` is called, from a thread, whenever `take` has something to give. It is one of `jobs` that run at the same time. Raises `OSError`
    where the program can't be started.
    """

    def __init__(self, command: Sequence[str], read: Callable[[IO[bytes]], object], wake: Callable[[], None], jobs: int = 1) -> None:
        self._mark, self._wake, self._read = f"{os.getpid()}-{secrets.token_hex(8)}", wake, read
        self._inbox: queue.Queue[object] = queue.Queue(UNREAD)
        self._killed, self._ending = threading.Event(), threading.Lock()
        self._wrong: str | None = None  # why what it sent is no message
        self._last_words = b""
        self._family: list[psutil.Process] = []
        self._counted = -FAMILY
        self._writer: threading.Thread | None = None
        environment = {**_share(jobs), **os.environ, MARK: self._mark}
        pipe = subprocess.PIPE
        self._process = subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, env=environment, start_new_session=True)
        self._guard = subprocess.Popen(["/bin/sh", "-c", GUARD, str(self._process.pid)], stdin=pipe, start_new_session=True)
        self._reader = threading.Thread(target=self._take_in, daemon=True)
        self._listener = threading.Thread(target=self._listen, daemon=True)
        self._reader.start()
        self._listener.start()

    def send(self, message: bytes) -> None:
        """Write a message; never waits for the program to read it."""
        if len(message) <= AT_ONCE:
            self._write(message)
        else:
            self._writer = threading.Thread(target=self._write, args=(message,), daemon=True)
            self._writer.start()

    def take(self) -> object | None:
        """The next message; None while there is none; `Gone` once all were taken and there will be no more."""
        with suppress(queue.Empty):
            return self._inbox.get_nowait()
        if self._reader.is_alive() and self._process.poll() is None:
            return None
        self._reader.join(1.0)  # what it sent before it ended comes first
        with suppress(queue.Empty):
            return self._inbox.get_nowait()
        return Gone(self._post_mortem())

    def memory(self) -> int:
        """The resident memory in bytes of the program and its descendants, as they were within the last `FAMILY` seconds."""
        if time.monotonic() > self._counted + FAMILY:  # to find them takes longer than to ask them
            with suppress(psutil.Error):
                parent = psutil.Process(self._process.pid)
                self._family = [parent, *parent.children(recursive=True)]
            self._counted = time.monotonic()
        total = 0
        for process in self._family:
            with suppress(psutil.Error):
                total += process.memory_info().rss
        return total

    def leave(self, seconds: float = ENDING) -> None:
        """Close its input and wait for it to end by itself, at most so long; then end what is left."""
        with suppress(OSError):
            self._pipe(self._process.stdin).close()
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(seconds)
        self.kill()

    def kill(self) -> None:
        """End the program and all that it started, now; may be called again, and from any thread."""
        with self._ending:
            if not self._killed.is_set():
                self._killed.set()
                self._end()

    def _end(self) -> None:
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        until = time.monotonic() + ENDING  # for what may not be ended: it runs as someone else
        while (escaped := self._escaped()) and time.monotonic() < until:
            for process in escaped:
                with suppress(psutil.Error):
                    process.kill()
            psutil.wait_procs(escaped, timeout=1.0)
        self._guard.kill()
        self._guard.wait()
        with suppress(queue.Empty):
            self._inbox.get_nowait()  # the reader may wait for room
        process, guard = self._process, self._guard
        ends = ((self._writer, process.stdin), (self._reader, process.stdout), (self._listener, process.stderr), (None, guard.stdin))
        for thread, stream in ends:
            if thread is not None:
                thread.join(1.0)
            if thread is None or not thread.is_alive():  # who still waits at the other end of a pipe is no child of ours
                with suppress(OSError):
                    self._pipe(stream).close()

    def _escaped(self) -> list[psutil.Process]:
        found = []
        for process in psutil.process_iter():
            with suppress(psutil.Error, OSError):
                if process.environ().get(MARK) == self._mark:
                    found.append(process)
        return found

    def _write(self, message: bytes) -> None:
        stdin = self._pipe(self._process.stdin)
        with suppress(OSError, ValueError):  # that nobody reads any more shows in `take`
            stdin.write(message)
            stdin.flush()

    def _take_in(self) -> None:
        stdout = self._pipe(self._process.stdout)
        try:
            while not self._killed.is_set():
                self._inbox.put(self._read(stdout))
                self._wake()
        except EOFError:
            pass
        except Exception as error:  # bytes that are no message may look like anything
            self._wrong = f"it sent something that is no answer ({type(error).__name__}: {error})"
        finally:
            self._wake()

    def _listen(self) -> None:
        stderr = self._pipe(self._process.stderr).fileno()
        with suppress(OSError):
            while heard := os.read(stderr, 65536):
                self._last_words = (self._last_words + heard)[-LAST_WORDS:]

    def _post_mortem(self) -> str:
        """How it ended, with the last line that it wrote."""
        if self._wrong is None:
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(ENDING)
        code = self._process.poll()
        if self._wrong is not None:
            how = self._wrong
        elif code is None:
            how = "the process closed its output"
        elif code < 0:
            how = f"the process was ended by {_signal(-code)}"
        else:
            how = f"the process ended with status {code}"
        self._listener.join(0.5)
        lines = self._last_words.decode(errors="replace").strip().splitlines()
        return how + (f" ({lines[-1]})" if lines else "")

    @staticmethod
    def _pipe(stream: IO[bytes] | None) -> IO[bytes]:
        assert stream is not None  # each was asked for
        return stream


def _share(jobs: int) -> dict[str, str]:
    """The settings that leave the others, and the parent, their processors."""
    return dict.fromkeys(THREADS, str(max(1, (jit.threads() - 1) // jobs)))


def _signal(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
