"""A user's function as a backend of one operation.

The function takes the operation's inputs by name, as numpy arrays in the dtype under test, and its parameters as keywords, and returns
the output. One that also takes `cotangent` returns `(output, {input: gradient})`. Of the parameters it gets those that the case names.
The others have the operation's defaults: a function that has none of its own for one is given it, and one with another is refused.

What it lacks is unsupported: an input or a parameter that it doesn't take (save one that the case gives its default), and whatever it
raises `NotImplementedError` or `conformance.Unsupported` for. With `tensors` it gets the tensors of that library, which differentiates
the function itself.
"""

from __future__ import annotations

import importlib
import inspect
import sys
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from difflib import get_close_matches
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np

from conformance.adapter import COTANGENT, Adapter, Array, Arrays, Idiom, Unsupported, Unusable, installed
from conformance.bound import Promise
from conformance.promises import promise
from refimpl.operation import Operation, Real
from refimpl.operations import operation

TENSORS = ("numpy", "torch", "jax")  # the adapter's file of each but numpy has `apply`, an `Apply`

Function = Callable[..., Any]
# (function, inputs, keywords, cotangent or None) -> (output, {input: gradient}): calls a function of one library's tensors
Apply = Callable[[Function, Arrays, Mapping[str, Any], Array | None], tuple[Array, dict[str, Array]]]


@dataclass(frozen=True)
class Contract:
    """What is asked of a function: its operation, what it promises of each dtype that it takes, and whose tensors it is given."""

    operation: str
    promises: Mapping[str, Promise]
    tensors: str

    @staticmethod
    def of(
        name: str, promises: Mapping[str, Promise] = MappingProxyType({}), dtypes: Collection[str] = (), tensors: str = "numpy"
    ) -> Contract:
        """The contract for the operation of that name, in the `dtypes` (without any, all that are promised).

        Without promises it is class A, for float64 and float32 computed in them; for the other dtypes, where a name doesn't tell what is
        computed in, only if they are among `dtypes`, and then in float32. Raises `Unusable`, `PromiseError`, or `InvalidInput` for an
        unknown operation.
        """
        if tensors not in TENSORS:
            raise Unusable(f"tensors is {tensors!r}; functions get those of {', '.join(TENSORS)}")
        stated = dict(promises) or {dtype: promise(dtype) for dtype in dtypes or ("float64", "float32")}
        for dtype in dtypes:
            if dtype not in stated:
                raise Unusable(f"{dtype} is asked for and not promised; promise it too, like {dtype}=A")
        return Contract(operation(name).name, {dtype: made for dtype, made in stated.items() if dtype in (dtypes or stated)}, tensors)


@dataclass(frozen=True)
class Signature:
    """What a function takes by keyword: each name with its default (`inspect.Parameter.empty`: none), or `anything`, by `**kwargs`."""

    defaults: Mapping[str, Any]
    anything: bool

    def takes(self, name: str) -> bool:
        """Whether an argument of that name can be passed."""
        return self.anything or name in self.defaults

    def needs(self, name: str) -> bool:
        """Whether an argument of that name must be passed."""
        return self.defaults.get(name) is inspect.Parameter.empty


def load(reference: str, contract: Contract) -> Adapter:
    """The adapter of the function that `package.module:function` names, in the current folder or where modules are found.

    Raises `Unusable`, and whatever its import raises.
    """
    module, _, path = reference.partition(":")
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    try:
        found: Any = importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module}.".startswith(f"{error.name}."):
            raise
        raise Unusable(f"no module is named {error.name!r}; write package.module:function, in the folder that holds it") from error
    for name in path.split("."):
        if not hasattr(found, name):
            close = get_close_matches(name, dir(found), n=1)
            raise Unusable(f"{module} has no {path!r}" + (f"; did you mean {close[0]}?" if close else "; write package.module:function"))
        found = getattr(found, name)
    adapter, stated = adapt(found, reference, contract), operation(contract.operation)
    signature = _signature(found, reference, stated)
    return replace(adapter, idiom=_idiom(contract, signature), source=_source(reference, stated, signature))


def _idiom(contract: Contract, signature: Signature) -> Idiom:
    """How a call of the function is written by hand, in a script (`conformance.script`)."""
    if contract.tensors != "numpy":
        applied: Idiom = importlib.import_module(f"conformance.adapters.{contract.tensors}").APPLIED
        return applied
    plain = Idiom(
        setup="import ml_dtypes  # NumPy's bfloat16" if "bfloat16" in contract.promises else "",
        tensor="np.array({values}, dtype='{dtype}')",
        number="float({})",
        total="{}.sum(dtype=np.float64)",
        forward="output = np.asarray({call})",
    )
    if COTANGENT not in signature.defaults:
        return plain
    return replace(
        plain,
        forward=f"{COTANGENT} = None\noutput, _ = {{call}}\noutput = np.asarray(output)",
        backward="_, gradients = {call}\n{gradient} = np.asarray(gradients['{name}'])",
    )


def _source(reference: str, stated: Operation, signature: Signature) -> str:
    """The call of the function as the file of an adapter would state it."""
    module, _, path = reference.partition(":")
    optional = [name for name in stated.inputs if name not in _required(stated)]
    takes = [*_required(stated), *(f"{name}=None" for name in optional)]
    passed = [f"{name}={name}" for name in _required(stated)]
    passed += [f"**({{}} if {name} is None else {{'{name}': {name}}})" for name in optional]
    for name, parameter in stated.parameters.items():
        if signature.needs(name) or not signature.takes(name):
            takes.append(f"{name}={parameter.default!r}")
            passed += [f"{name}={name}"] if signature.takes(name) else []
    passed += ["**parameters", *([f"{COTANGENT}={COTANGENT}"] if COTANGENT in signature.defaults else [])]
    return (
        f"import jax\nimport jax.numpy as jnp\nimport numpy as np\nimport torch\nfrom {module} import {path.partition('.')[0]}\n"
        f"def _call({', '.join(takes)}, **parameters):\n    return {path}({', '.join(passed)})\n"
        f"OPERATIONS = {{{stated.name!r}: _call}}\n"
    )


def adapt(function: Function, name: str, contract: Contract) -> Adapter:
    """The adapter of a function that is called `name` in reports; raises `Unusable` for one whose signature doesn't fit."""
    stated = operation(contract.operation)
    signature = _signature(function, name, stated)
    if contract.tensors == "numpy":
        apply, versions = _with_gradients if COTANGENT in signature.defaults else _without_gradients, installed("numpy")
    else:
        library = importlib.import_module(f"conformance.adapters.{contract.tensors}")
        apply, versions = library.apply, library.ADAPTER.versions()
        if COTANGENT in signature.defaults:
            raise Unusable(f"{name} takes cotangent, and the gradients by {contract.tensors}'s tensors are its own; leave one of them out")

    def call(_: str, __: str, inputs: Arrays, parameters: Mapping[str, Any], cotangent: Array | None) -> tuple[Array, dict[str, Array]]:
        keywords = _keywords(signature, stated, inputs, parameters)
        try:
            return apply(function, inputs, keywords, cotangent)
        except NotImplementedError as error:
            raise Unsupported(str(error) or f"{name} raises NotImplementedError") from error
        except SystemExit as error:
            raise RuntimeError(f"{name} left by SystemExit({error.code!r})") from error

    own = (getattr(function, "__module__", None) or name).partition(".")[0]
    return Adapter(
        name=name,
        operations=frozenset({contract.operation}),
        promises=contract.promises,
        call=call,
        versions=lambda: installed(own) | versions,
    )


def _signature(function: Function, name: str, stated: Operation) -> Signature:
    """What the function takes; raises `Unusable` where that isn't what the operation gives."""
    if not callable(function):
        raise Unusable(f"{name} is a {type(function).__name__}; name a function")
    try:
        found = inspect.signature(function).parameters.values()
    except (TypeError, ValueError) as error:
        raise Unusable(f"{name} doesn't say what it takes; wrap it in a def that does: {_wanted(stated)}") from error
    by_name = {one.name: one.default for one in found if one.kind in (one.POSITIONAL_OR_KEYWORD, one.KEYWORD_ONLY)}
    signature = Signature(by_name, any(one.kind == one.VAR_KEYWORD for one in found))
    missing = [one for one in _required(stated) if not signature.takes(one)]
    known = {*stated.inputs, *stated.parameters, COTANGENT}
    foreign = [
        one.name for one in found if one.default is one.empty and one.kind in _ONE and not (one.name in by_name and one.name in known)
    ]
    if missing or foreign:
        faults = [f"doesn't take {', '.join(missing)} by name"] if missing else []
        faults += [f"needs {', '.join(foreign)}"] if foreign else []
        raise Unusable(f"{name} {' and '.join(faults)}; a function for {stated.name} takes {_wanted(stated)}")
    for one, parameter in stated.parameters.items():
        own = by_name.get(one, inspect.Parameter.empty)
        if own is not inspect.Parameter.empty and parameter.default is not None and own != parameter.default:
            raise Unusable(
                f"{name} has {one}={own!r}, and {stated.name} has {one}={parameter.default!r} where a case doesn't name it; "
                f"give it that default, or none"
            )
    return signature


_ONE = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)


def _required(stated: Operation) -> list[str]:
    return [name for name, kind in stated.inputs.items() if not (isinstance(kind, Real) and kind.optional)]


def _wanted(stated: Operation) -> str:
    """The operation's names, as a function may take them."""
    required = _required(stated)
    optional = [name for name in (*stated.inputs, *stated.parameters, COTANGENT) if name not in required]
    return f"{', '.join(required)}, and what it knows of {', '.join(optional)}"


def _keywords(signature: Signature, stated: Operation, inputs: Arrays, parameters: Mapping[str, Any]) -> dict[str, Any]:
    """The keywords of a call beside its inputs; raises `Unsupported` for an input or a parameter that the function doesn't take."""
    default = {name: parameter.default for name, parameter in stated.parameters.items()} | dict.fromkeys(stated.inputs)
    lacking = [name for name in inputs if not signature.takes(name)]
    lacking += [name for name, value in parameters.items() if not signature.takes(name) and value != default[name]]
    if lacking:
        raise Unsupported(f"it takes no {' and no '.join(lacking)}")
    needed = {name: value for name, value in default.items() if name not in inputs and signature.needs(name)}
    return needed | {name: value for name, value in parameters.items() if signature.takes(name)}


def _without_gradients(function: Function, inputs: Arrays, keywords: Mapping[str, Any], _: Array | None) -> tuple[Array, dict[str, Array]]:
    return _array(function(**inputs, **keywords), "the output"), {}


def _with_gradients(
    function: Function, inputs: Arrays, keywords: Mapping[str, Any], cotangent: Array | None
) -> tuple[Array, dict[str, Array]]:
    answer = function(**inputs, **keywords, cotangent=cotangent)
    if not isinstance(answer, tuple) or len(answer) != 2 or not isinstance(answer[1], Mapping):
        raise TypeError(f"a function that takes cotangent returns (output, {{input: gradient}}); this is a {type(answer).__name__}")
    output, gradients = answer
    unknown = [name for name in gradients if name not in inputs]
    if unknown:
        raise TypeError(f"there is a gradient by {unknown[0]!r}; the inputs are {', '.join(inputs)}")
    return _array(output, "the output"), {name: _array(gradient, f"the gradient by {name}") for name, gradient in gradients.items()}


def _array(value: Any, what: str) -> Array:
    """What a function returned as an array; a number is one of shape ()."""
    array = np.asarray(value)
    if array.dtype.kind in "OSU":
        raise TypeError(f"{what} is a {type(value).__name__}; return an array of numbers")
    return array
