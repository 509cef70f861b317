"""How a search stands, while it goes on: on a terminal a line that says so, elsewhere nothing but the findings."""

from __future__ import annotations

import time
from types import TracebackType

from rich.console import Console
from rich.status import Status

from conformance.search.engine import Search
from conformance.search.subject import Cell


class Watch:
    """The line of a search of so many seconds. Use it as a context manager."""

    def __init__(self, out: Console, seconds: float) -> None:
        self.calls = 0
        self._out = out
        self._seconds = seconds
        self._status: Status | None = None

    def __enter__(self) -> Watch:
        self._began = time.monotonic()
        if self._out.is_terminal:
            self._status = self._out.status("what is known is asked again")
            self._status.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._status is not None:
            self._status.stop()

    def note(self, cell: Cell, search: Search) -> None:
        """Another call was made."""
        if self.calls == 0:
            self._began = time.monotonic()
        self.calls += 1
        if self._status is not None:
            gone = time.monotonic() - self._began
            left = max(0.0, self._seconds - gone)
            rate = self.calls / gone if gone > 0.0 else 0.0
            self._status.update(
                f"{' '.join(cell)}: {self.calls} calls, {rate:.0f} a second, {left / 60:.1f} minutes left, {len(search.known)} causes known"
            )

    def say(self, text: str) -> None:
        """Print a text above the line."""
        self._out.print(text, markup=False, highlight=False, soft_wrap=True)
