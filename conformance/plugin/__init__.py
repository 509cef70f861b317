"""The pytest plugin: with `--lossref=BACKEND`, one test a vector; with the fixture `lossref`, one a vector in a user's own test.

    pytest --lossref=torch --lossref=jax -m "lossref(dtype='float32')" -k masked
    pytest --lossref=package.module:function --lossref-operation=kl_div
    pytest --lossref=torch "lossref::torch::kl_div/edges/masked-float32[eager]"

It is loaded wherever this package is installed, so it imports nothing until it is asked for something.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Generator
from typing import TYPE_CHECKING

import pytest

from conformance.plugin.names import OWN, UNJUDGED

if TYPE_CHECKING:
    from conformance.plugin.fixture import Subject
    from conformance.plugin.plan import Plan

MARKER = (
    f"{OWN}(operation, dtype, tier, clause, backend, mode): on a vector's test, what it is about, for -m; "
    f"on a function with the fixture {OWN}, the keywords of conformance.check, which choose its vectors"
)
PLAN: pytest.StashKey[Plan] = pytest.StashKey()


def pytest_addoption(parser: pytest.Parser) -> None:
    """The options, which are those of `lossref run`; one that isn't given is None or empty."""
    group = parser.getgroup(OWN, "lossref: the conformance of classification losses")
    group.addoption(
        "--lossref",
        metavar="BACKEND",
        action="append",
        default=[],
        help="test a backend: torch, jax, ... (see `lossref backends`), exec:COMMAND, or package.module:function (may be repeated)",
    )
    group.addoption("--lossref-operation", metavar="O", help="only this operation; of a function, what it is")
    group.addoption("--lossref-dtype", metavar="D", help="only this dtype")
    group.addoption("--lossref-tier", choices=("smoke", "core", "full"), help="smoke, core or full (default core)")
    group.addoption("--lossref-expect", metavar="F", help="known deviations, instead of those that come with the package")
    group.addoption("--lossref-dialect", metavar="D", help="judge by this dialect: a name, or a file of your own")
    group.addoption("--lossref-tensors", metavar="T", help="what functions get: numpy (default), torch or jax")
    group.addoption(
        "--lossref-promise", metavar="P", action="append", default=[], help="what functions promise: DTYPE=CLASS,... (may be repeated)"
    )


def pytest_configure(config: pytest.Config) -> None:
    """Register the marker; with --lossref, see whether what is asked for exists, and take out the ids that are ours."""
    config.addinivalue_line("markers", MARKER)
    ids = [argument for argument in config.args if argument.partition("::")[0] == OWN]
    if not config.option.lossref:
        if ids:
            raise pytest.UsageError(f"{ids[0]} is the test of a vector, and no backend is named; add --lossref=BACKEND")
        for name, value in vars(config.option).items():
            if name.startswith(f"{OWN}_") and value:
                option = f"--{name.replace('_', '-')}"
                raise pytest.UsageError(f"{option} is about a backend, and none is named; add --{OWN}=BACKEND, or leave {option} out")
        return
    from conformance.plugin.plan import plan, register

    config.stash[PLAN] = plan(config.option, ids)
    config.args[:] = [argument for argument in config.args if argument not in ids]
    register(config)
    config.add_cleanup(config.stash[PLAN].close)


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(collector: pytest.Collector) -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    """The tests of the vectors stand beside those of the files."""
    report = yield
    if isinstance(collector, pytest.Session) and PLAN in collector.config.stash and report.passed:
        from conformance.plugin.nodes import Suite

        suite = Suite.from_parent(collector, name=OWN, nodeid=OWN, plan=collector.config.stash[PLAN])
        report.result = [*report.result, suite]
    return report


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(session: pytest.Session, config: pytest.Config, items: list[pytest.Item]) -> None:
    """Refuse an id that names no vector's test; where a backend can't be started, that is said instead."""
    if PLAN in config.stash and not session.testsfailed:
        config.stash[PLAN].refuse_unknown(item.nodeid for item in items)


def pytest_report_collectionfinish(config: pytest.Config) -> list[str]:
    """The versions of the backends, and whether what is expected was measured with others."""
    return config.stash[PLAN].notes if PLAN in config.stash else []


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """A test that takes the fixture becomes one for each vector that its marker chooses."""
    if OWN in metafunc.fixturenames:
        from conformance.plugin.fixture import parametrize

        parametrize(metafunc)


@pytest.fixture
def lossref(request: pytest.FixtureRequest) -> Subject:
    """One vector, for the function under test: `lossref.assert_conforms(function)`; `lossref.case` has its inputs."""
    from conformance.plugin.fixture import subject

    return subject(request)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """What of passed tests was not judged: a backend without gradients passes by its output alone."""
    passed = terminalreporter.stats.get("passed", [])
    found = [value for report in passed for name, value in report.user_properties if name == UNJUDGED]
    if found:
        terminalreporter.section(f"{OWN}: not judged in tests that passed")
        for text, number in Counter(found).most_common():
            terminalreporter.line(f"{number} times {text}")
