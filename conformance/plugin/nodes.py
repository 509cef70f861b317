"""The tests of `--lossref`: one a vector of each backend and mode, under one node a backend."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from conformance.complaint import Complaint
from conformance.link import Source
from conformance.plugin.outcome import Fallen, settle
from conformance.plugin.plan import Plan, marks
from conformance.report.message import command_line
from conformance.runner import Run, Task
from conformance.sources import command_of
from conformance.vectors import installed


class Suite(pytest.Collector):
    """All backends of a session."""

    def __init__(self, *, plan: Plan, **node: Any) -> None:
        super().__init__(**node)
        self.plan = plan

    def collect(self) -> Iterator[pytest.Collector]:
        """A node for each backend of which tests are wanted."""
        for source in self.plan.sources:
            nodeid = f"{self.nodeid}::{source.name}"
            if self.plan.needs(nodeid):
                yield BackendTests.from_parent(self, name=source.name, nodeid=nodeid, source=source, plan=self.plan)


class BackendTests(pytest.Collector):
    """One backend. Collecting starts its process, which says in which modes it runs, and then waits for the tests."""

    def __init__(self, *, source: Source, plan: Plan, **node: Any) -> None:
        super().__init__(**node)
        self.source = source
        self.plan = plan

    def collect(self) -> Iterator[pytest.Item]:
        """A test for each vector and mode, in the order of modes and vectors."""
        try:
            run = self.plan.start(self.source)
        except Complaint as error:
            raise self.CollectError(str(error)) from error
        folder = installed()
        for task in run.calls(self.source.name):
            case = task.vector.case
            name = f"{case.id}[{task.mode}]"
            nodeid = f"{self.nodeid}::{name}"
            if self.plan.wants(nodeid):
                path = folder / case.operation / f"{case.group}.json"
                test = VectorTest.from_parent(self, name=name, nodeid=nodeid, path=path, task=task, run=run, plan=self.plan)
                for mark in marks(task.vector, backend=self.source.name, mode=task.mode):
                    test.add_marker(mark)
                yield test


class VectorTest(pytest.Item):
    """One call of a backend, judged."""

    def __init__(self, *, task: Task, run: Run, plan: Plan, **node: Any) -> None:
        super().__init__(**node)
        self.task = task
        self.run = run
        self.plan = plan

    def runtest(self) -> None:
        """Ask, and judge."""
        ((name, about),) = self.run.descriptions.items()
        again = command_line(command_of(name, self.plan.options), self.task.vector.case.id)
        settle(self, self.run.ask(name, self.task), self.plan.known[name], about, again)

    def repr_failure(self, excinfo: pytest.ExceptionInfo[BaseException], style: Any = None) -> Any:
        """The messages of the findings; of another exception, which is a defect, its traceback."""
        return str(excinfo.value) if isinstance(excinfo.value, Fallen) else super().repr_failure(excinfo, style)

    def reportinfo(self) -> tuple[Path, None, str]:
        """The file of the vector, and its id."""
        return self.path, None, self.name
