"""A script in a backend's own API that shows one finding, to be filed with whoever makes the library: it needs nothing of ours.

The inputs are written out, the operation is the adapter's own source for this call (`conformance.specialise`), and how the library is
written by hand, the adapter's idiom says. What is expected stands in the script as text. For a program it is a line of a shell, which
sends the request to it.
"""

from __future__ import annotations

import ast
import shlex
import textwrap
from collections.abc import Iterator
from itertools import islice

import numpy as np

from conformance.adapter import Arrays, Description, Idiom
from conformance.case import Case, Vector
from conformance.complaint import UNABLE, Complaint
from conformance.finding import Finding, Verdict
from conformance.judge import promised
from conformance.link import Request
from conformance.literal import expression
from conformance.protocol import messages
from conformance.runner import Result
from conformance.spec import sections
from conformance.specialise import Module, NoSource, Specialised
from conformance.texts import decimal_text
from refimpl.enclosure import format_of

WIDTH = 110  # columns of a comment
NAMED = 4  # values that are named where no single one was compared
STANDARD = {"inf": "from math import inf", "nan": "from math import nan", "np": "import numpy as np"}
STANDARD |= {"base64": "import base64", "zlib": "import zlib"}


class ScriptError(Complaint):
    """No script can be written for that backend; the message says what it would need."""

    status = UNABLE


def script(vector: Vector, result: Result, about: Description, title: str = "", why: str = "") -> str:
    """The text of a script for a result of the backend described by `about`, passing or not.

    `title` says in one line what is wrong, `why` how it comes about (by default, what the finding says). Raises `ScriptError`.
    """
    idiom = about.idiom_of(result.mode)
    if idiom is None:
        raise ScriptError(f"{about.name} states no idiom, and a script can't be written without one; add it to its adapter")
    case, finding = vector.case, result.finding
    if finding.verdict in (Verdict.UNSUPPORTED, Verdict.SKIP):
        raise ScriptError(f"{about.name} has no answer to {case.id} that a script could show: {finding.note}")
    module = Module(about.source)
    calls = _model(case, idiom) if "{model}" in idiom.forward else _calls(case, finding, idiom, _function(about, module, case, idiom))
    statements = "\n".join([*_tensors(case, finding, idiom), *calls, *_prints(vector, finding, about, idiom)])
    setup = idiom.setup.splitlines()
    needed = _needed("\n".join([*setup, statements]), module)
    imports = [line for line in needed if line.startswith(("import ", "from "))]
    helpers = [line for line in needed if line not in imports]
    return (
        "\n".join(
            [
                *_head(finding, about, title, why),
                *idiom.first.splitlines(),
                *imports,
                *setup,
                "",
                *(f"{one}\n" for one in helpers),
                statements,
            ]
        )
        + "\n"
    )


def line(vector: Vector, result: Result, about: Description, command: str, title: str = "", why: str = "") -> str:
    """What `script` is for a library, for the program `command`: the hello and the request, piped into it.

    Raises `ScriptError` where a tensor is too large for a line.
    """
    case, finding = vector.case, result.finding
    request = Request(case.operation, result.mode, case.inputs, case.parameters, case.cotangent)
    asked = [messages.hello("", ""), {"id": 1, **messages.run(request, None, "")}]
    if any("file" in tensor for tensor in [*asked[1]["inputs"].values(), asked[1]["cotangent"] or {}]):
        raise ScriptError(f"the tensors of {case.id} are too large for a line; choose a smaller case")
    quoted = " \\\n  ".join(shlex.quote(messages.line(one).decode().rstrip()) for one in asked)
    expected = f"# expected {_expected(vector, finding, about)}  {finding.told.expected_hex}".rstrip()
    actual = f"# actual   {finding.told.actual or finding.note}  {finding.told.actual_hex}".rstrip()
    return "\n".join([*_head(finding, about, title, why), f"printf '%s\\n' {quoted} \\\n  | {command}", expected, actual]) + "\n"


def tensors_text(case: Case, direction: str) -> str:
    """The inputs of a case in one direction as a script writes them, whatever the library: the shorter, the simpler the case."""
    return " ".join(expression(array) for array in _arrays(case, direction).values())


def _function(about: Description, module: Module, case: Case, idiom: Idiom) -> Specialised:
    try:
        return module.call(case.operation, tuple(case.inputs), case.parameters, _facts(case.inputs, idiom))
    except NoSource as error:
        raise ScriptError(f"the adapter of {about.name}: {error}") from error


def _model(case: Case, idiom: Idiom) -> Iterator[str]:
    """The call of an ONNX model, which stands in the script in ONNX's own textual form."""
    from conformance.export.model import feeds, text

    fed = ", ".join(f"'{name}': {name}" for name in feeds(case.operation, case.inputs, case.parameters))
    yield idiom.forward.format(model=text(case.operation, case.inputs, case.parameters), feeds=f"{{{fed}}}")


def _facts(inputs: Arrays, idiom: Idiom) -> dict[str, object]:
    """What the inputs decide in the adapter's source."""
    facts: dict[str, object] = {}
    for name, array in inputs.items():
        whole = array.dtype.kind in "iu"
        facts |= {f"{name} is None": False, f"{name}.ndim": array.ndim, f"len({name}.shape)": array.ndim}
        facts |= {test.format(name): value for test, value in ((idiom.index, whole), (idiom.real, not whole)) if test}
        facts |= {f"{name}.dtype == {other}.dtype": array.dtype == value.dtype for other, value in inputs.items()}
    return facts


def _arrays(case: Case, direction: str) -> Arrays:
    if direction == "forward" or case.cotangent is None:
        return case.inputs
    return {**case.inputs, "cotangent": case.cotangent}


def _tensors(case: Case, finding: Finding, idiom: Idiom) -> Iterator[str]:
    for name, array in _arrays(case, finding.direction).items():
        layout = f"  # in memory: {case.layouts[name]}" if name in case.layouts else ""
        yield f"{name} = " + idiom.tensor.format(values=expression(array), dtype=array.dtype.name) + layout


def _calls(case: Case, finding: Finding, idiom: Idiom, function: Specialised) -> Iterator[str]:
    template = idiom.forward if finding.direction == "forward" else idiom.backward
    inputs = ", ".join(function.names)
    inline = function.expression if "{function}" not in template else None
    if inline is None:
        yield "\n" + function.definition(case.operation) + "\n"
    yield template.format(
        call=inline or f"{case.operation}({inputs})",
        function=case.operation,
        inputs=inputs,
        name=finding.output,
        gradient=_variable(finding),
    )


def _variable(finding: Finding) -> str:
    return "output" if finding.direction == "forward" else f"d{finding.output}"


def _prints(vector: Vector, finding: Finding, about: Description, idiom: Idiom) -> Iterator[str]:
    variable = _variable(finding)
    yield f'print("expected", "{_expected(vector, finding, about)}")'
    if finding.ratio is None:  # no number was compared: it raised, or the shape is another
        yield f'print("actual  ", {variable})'
    elif finding.worst_index is None:
        yield f'print("actual  ", {idiom.total.format(variable)})'
    else:
        place = f"[{', '.join(map(str, finding.worst_index))}]" if finding.worst_index else ""
        yield f'print("actual  ", {idiom.number.format(variable + place)})'


def _expected(vector: Vector, finding: Finding, about: Description) -> str:
    dialect = about.dialect.of(finding.operation)
    expectation = promised(vector, dialect)
    if expectation is not None and expectation.kind == "error":
        return "an exception" if dialect.get("refusal") == "error" else "an exception, or nan"
    told = finding.told
    if told.expected:
        return told.expected + (f", at most {told.allowed} away" if told.expected_hex and told.actual_hex else "")
    if expectation is None:
        return "nothing: the dialect's choices are not defined for this call"
    tensor = expectation.output if finding.direction == "forward" else expectation.gradients[finding.output]
    values, target = tensor.values, format_of(finding.dtype)
    if values.size == 0:
        return "a tensor without elements"
    places = list(islice(np.ndindex(values.shape), NAMED))
    return ", ".join(decimal_text(values[place], target) for place in places) + (", ..." if values.size > NAMED else "")


def _head(finding: Finding, about: Description, title: str, why: str) -> Iterator[str]:
    """The comment: what is wrong, with which release, what the specification says, and how it comes about."""
    releases = ", ".join(f"{package} {version}" for package, version in about.versions.items())
    known = sections()
    clauses = [f"{known[id].level} {id}: {known[id].statement}" for id in finding.clauses[:1] if id in known]
    for text in filter(None, (title or _title(finding), f"{releases}; lossref's case {finding.case}", *clauses, why or finding.note)):
        yield from textwrap.wrap(text, WIDTH, initial_indent="# ", subsequent_indent="#   ", break_on_hyphens=False)


def _title(finding: Finding) -> str:
    if finding.verdict == Verdict.PASS:
        return f"{finding.operation}: {finding.place} is right"
    if finding.told.expected:
        return f"{finding.operation}: {finding.place} is {finding.told.actual}, not {finding.told.expected}"
    return f"{finding.operation}: {finding.place} is not what it should be"


def _needed(text: str, module: Module) -> list[str]:
    """The imports, constants and helpers that the script needs: the adapter's own, and the standard names that it doesn't have."""
    lines = module.needed(text)
    used = {node.id for node in ast.walk(ast.parse("\n".join([*lines, text]))) if isinstance(node, ast.Name)}
    own = [line for name, line in STANDARD.items() if name in used and name not in module.imports]
    maths = sorted(name for name in used & {"inf", "nan"} if STANDARD[name] in own)
    own = [line for line in own if not line.startswith("from math")]
    return [*([f"from math import {', '.join(maths)}"] if maths else []), *own, *lines]
