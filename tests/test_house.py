"""The house rules: which module may import which, nothing half-registered, no file with two jobs, no talk of this machine."""

from __future__ import annotations

import ast
import inspect
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

import refimpl
from refimpl.operation import GENERAL, Operation
from refimpl.operations import operations

ROOT = Path(__file__).parents[1]
PACKAGES = ("refimpl", "conformance", "vectors")
LIMIT = 400  # lines of a source file

# The layers of the house, lowest first. A module imports from the layers below its own, and within its own without a circle.
# A name stands for a module, or for a package with all that it holds (unless a module of it is named apart).
LAYERS: tuple[tuple[str, ...], ...] = (
    ("refimpl.cache",),
    ("refimpl.jit", "refimpl.lanes", "refimpl.constants", "refimpl.rational", "refimpl.ball"),
    ("refimpl.rounding",),
    ("refimpl.enclosure",),
    ("refimpl.operation",),
    ("refimpl.targets", "refimpl.choices"),
    ("refimpl.doubledouble",),
    ("refimpl.sums",),
    ("refimpl.elementary", "refimpl.approximate"),
    ("refimpl.portable",),
    ("refimpl.bounds",),
    ("refimpl.rows",),
    ("refimpl.reduce",),
    ("refimpl.smoothing", "refimpl.smoothing_gradient", "refimpl.pointwise", "refimpl.divergence", "refimpl.quick"),
    ("refimpl.family",),
    ("refimpl.family_terms",),
    ("refimpl.phases",),
    ("refimpl.operations",),
    ("refimpl.nearest",),
    ("refimpl",),
    ("vectors",),
    ("conformance.complaint",),
    ("conformance.spec", "conformance.page", "conformance.schema"),
    ("conformance.case",),
    ("conformance.layouts",),
    (
        "conformance.cases",
        "conformance.expect",
        "conformance.storage",
        "conformance.candidate",
        "conformance.vectors",
        "conformance.accept",
    ),
    ("conformance.metric", "conformance.texts", "conformance.summation", "conformance.bound", "conformance.conduct"),
    ("conformance.finding",),
    ("conformance.measure", "conformance.statistics"),
    ("conformance.literal", "conformance.specialise"),
    ("conformance.judge", "conformance.dialects", "conformance.promises"),
    ("conformance.export",),
    ("conformance.adapter", "conformance.adapters"),
    ("conformance.function",),
    ("conformance.link",),
    ("conformance.worker",),
    ("conformance.protocol",),
    ("conformance.links",),
    ("conformance.sources", "conformance.backend", "conformance.lane", "conformance.runner"),
    ("conformance.grade", "conformance.infer"),
    ("conformance.kernel",),
    ("conformance.correct", "conformance.faults"),
    ("conformance.rivals",),
    ("conformance.deviations", "conformance.draft", "conformance.bits"),
    ("conformance.record",),
    ("conformance.changes", "conformance.merge"),
    ("conformance.store", "conformance.history"),
    ("conformance.campaign",),
    ("conformance.report",),
    ("conformance.script",),
    ("conformance.findings", "conformance.report.html"),
    ("conformance.bench",),
    ("conformance.commands.common",),
    ("conformance.checking",),
    ("conformance.plugin", "conformance.strategies"),
    ("conformance.search",),
    ("conformance.commands",),
    ("conformance.cli",),
    ("conformance",),
)

# What a package may import from others. What isn't named here needs a reason, and a line.
OUTSIDE = {
    "refimpl": {"numpy", "numba", "llvmlite", "ml_dtypes", "flint"},
    "conformance": {"numpy", "ml_dtypes", "psutil", "rich"},
    "vectors": set(),
}
COMPILERS = {"numba", "llvmlite"}
COMPILING = {"refimpl.jit", "refimpl.lanes", "refimpl.cache"}  # the only modules of refimpl that may import them
# Each in the files of those names only, of the adapters, of the peers that are timed, of the formats to export to, of the other suites.
FRAMEWORKS = {
    "autograd": {"autograd"},
    "torch": {"torch", "keras"},
    "jax": {"jax"},
    "optax": {"jax"},
    "scipy": {"scipy"},
    "mpmath": {"mpmath"},
    "onnx": {"onnx", "model"},
    "onnxruntime": {"onnxruntime"},
    "tensorflow": {"tensorflow"},
    "keras": {"keras"},
    "mlx": {"mlx"},
    "paddle": {"paddle"},
    "tinygrad": {"tinygrad"},
}
EXECUTORS = "conformance.campaign.executors"
TOOLS = {  # each only where its users are served
    "pytest": ("conformance.plugin",),
    "hypothesis": ("conformance.strategies", "conformance.search"),
    "distributed": (EXECUTORS,),
    "mpi4py": (EXECUTORS,),
}
HOMES = ("conformance.adapters", "conformance.bench.peers", "conformance.export", "conformance.rivals")

MACHINE = re.compile(rb"(?<![\w.~-])/(?:work|root|home|Users|opt)/[\w.]|(?<![\w.])\.\./shared\b")


@cache
def modules() -> dict[str, Path]:
    """Every module of ours by its dotted name."""
    found = {}
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            parts = path.relative_to(ROOT).with_suffix("").parts
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


@cache
def imports(module: str) -> frozenset[str]:
    """What a module imports, wherever in it the import stands: our modules in full, of others the top-level name."""
    tree = ast.parse(modules()[module].read_text(encoding="utf-8"))
    named: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            named.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module} line {node.lineno}: write the import in full"
            within = {f"{node.module}.{alias.name}" for alias in node.names} & modules().keys()
            named.update(within)
            if len(within) < len(node.names):
                named.add(str(node.module))
    return frozenset(name if name.partition(".")[0] in PACKAGES else name.partition(".")[0] for name in named)


def layer(module: str) -> int | None:
    """The index of a module's layer: that of the longest name in LAYERS which is the module or holds it."""
    found = [
        (len(name), index)
        for index, names in enumerate(LAYERS)
        for name in names
        if module == name or (module.startswith(name + ".") and name not in PACKAGES)
    ]
    return max(found)[1] if found else None


def ours(module: str) -> Iterator[str]:
    """The modules of ours that a module imports; an import of a package's own parts by its `__init__` included."""
    return (name for name in imports(module) if name.partition(".")[0] in PACKAGES)


def tracked() -> list[Path]:
    """The files that are committed or about to be."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"], cwd=ROOT, check=True, capture_output=True, text=True
    )
    return [path for name in listed.stdout.split("\0") if name and (path := ROOT / name).is_file()]


def test_every_module_has_its_layer() -> None:
    homeless = [module for module in modules() if layer(module) is None]
    assert not homeless, f"place these in LAYERS: {homeless}"


@pytest.mark.parametrize("module", sorted(modules()))
def test_imports_run_one_way(module: str) -> None:
    own = layer(module)
    upward = [name for name in ours(module) if own is not None and (other := layer(name)) is not None and other > own]
    assert not upward, f"{module} imports {upward}, which stand above it"


def test_no_circle_within_a_layer() -> None:
    finished: set[str] = set()

    def visit(module: str, trail: tuple[str, ...]) -> None:
        assert module not in trail, f"a circle of imports: {' -> '.join((*trail, module))}"
        if module not in finished and module in modules():
            for name in sorted(ours(module)):
                visit(name, (*trail, module))
            finished.add(module)

    for module in modules():
        visit(module, ())


@pytest.mark.parametrize("module", sorted(modules()))
def test_only_what_a_package_may_lean_on(module: str) -> None:
    package = module.partition(".")[0]
    foreign = {name for name in imports(module) if name.partition(".")[0] not in PACKAGES} - sys.stdlib_module_names
    allowed = set(OUTSIDE[package])
    if package == "refimpl" and module not in COMPILING:
        allowed -= COMPILERS
    allowed |= {name for name, files in FRAMEWORKS.items() if module in {f"{home}.{file}" for home in HOMES for file in files}}
    allowed |= {name for name, homes in TOOLS.items() if any(f"{module}.".startswith(f"{home}.") for home in homes)}
    assert foreign <= allowed, f"{module} imports {sorted(foreign - allowed)}"
    if package == "refimpl":
        assert not any(name.startswith(("conformance", "vectors")) for name in imports(module))


def loaded_by(statement: str) -> set[str]:
    """The top-level modules that a fresh interpreter has loaded after a statement; what it prints on the way is dropped."""
    program = (
        "import contextlib, io, json, sys\n"
        "with contextlib.redirect_stdout(io.StringIO()), contextlib.suppress(SystemExit):\n"
        f"    {statement}\n"
        "print(json.dumps(sorted({name.partition('.')[0] for name in sys.modules})))"
    )
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False, cwd=ROOT)
    assert run.returncode == 0, run.stderr
    return set(json.loads(run.stdout))


HELP = "sys.argv = ['lossref', '--help']; from conformance.cli import main; main()"
PEERS = "from conformance.bench.peer import peers; peers()"


@pytest.mark.parametrize(
    "statement", ["import refimpl", "import conformance", HELP, PEERS], ids=["refimpl", "conformance", "help", "peers"]
)
def test_loads_no_framework(statement: str) -> None:
    assert not sorted(loaded_by(statement) & FRAMEWORKS.keys() - loaded_by("import numba"))  # which itself loads scipy


def test_starts_without_more_than_it_needs() -> None:
    """What a first call costs is what is imported for it; `conformance.bench.startup` measures it."""
    leant_on = loaded_by(f"import {', '.join(OUTSIDE['refimpl'])}")
    assert loaded_by("import refimpl") - leant_on - sys.stdlib_module_names == {"refimpl"}
    assert "numba" not in loaded_by(HELP), "a help text needs no compiler"


@pytest.fixture(params=sorted(operations()))
def operation(request: pytest.FixtureRequest) -> Operation:
    return operations()[request.param]


def test_an_operation_is_named_as_its_file(operation: Operation) -> None:
    assert f"refimpl.operations.{operation.name}" in modules()


def test_an_operation_is_public_with_its_gradient(operation: Operation) -> None:
    for name in (operation.name, f"{operation.name}_vjp"):
        assert name in refimpl.__all__
        function = getattr(refimpl, name)
        assert inspect.getdoc(function), f"refimpl.{name} has no docstring"
        expected = {*operation.inputs, *operation.parameters, *(choice.name for choice in operation.choices)}
        taken = set(inspect.signature(function).parameters) - {"cotangent"}
        assert taken == expected, f"refimpl.{name} takes {sorted(taken)}; its declaration says {sorted(expected)}"


def test_an_operation_is_specified(operation: Operation) -> None:
    ids = [clause.id for clause in operation.clauses]
    assert ids, "no clauses"
    assert len(set(ids)) == len(ids), "an id stands for one clause"
    assert all(re.fullmatch(rf"{re.escape(operation.prefix)}-\d+", name) for name in ids), ids
    assert any(clause.examples for clause in operation.clauses), "no clause has an example"
    assert operation.variations, "no variation for random vectors"
    known = {*ids, *(clause.id for clause in GENERAL)}
    for variation in operation.variations:
        assert variation.clauses, f"variation {variation.name} is evidence for nothing"
        assert set(variation.clauses) <= known, f"variation {variation.name} names an unknown clause"


def test_prefixes_are_unique() -> None:
    prefixes = [operation.prefix for operation in operations().values()]
    assert len(set(prefixes)) == len(prefixes)


def test_every_adapter_has_its_expectations_and_the_reverse() -> None:
    adapters = {path.stem for path in (ROOT / "conformance/adapters").glob("*.py")} - {"__init__"}
    assert adapters
    assert adapters == {path.stem for path in (ROOT / "conformance/expected").glob("*.toml")}


def test_a_file_has_one_job() -> None:
    sources = [path for path in tracked() if path.suffix == ".py"]
    lengths = {str(path.relative_to(ROOT)): len(path.read_text(encoding="utf-8").splitlines()) for path in sources}
    assert lengths
    assert not {name: length for name, length in lengths.items() if length > LIMIT}


def test_the_project_speaks_only_of_itself() -> None:
    found = [f"{path.relative_to(ROOT)}: {match.group().decode()}" for path in tracked() for match in MACHINE.finditer(path.read_bytes())]
    assert not found
    assert MACHINE.search("/".join(("", "work", "main")).encode()), "the pattern finds what it is for"
