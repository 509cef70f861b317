"""The reference's directives: `public` documents the public names of a package, `operations` each operation with its functions.

A field that a dataclass makes anew for each object has the default `...`.
"""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Iterable
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective
from sphinx.util.typing import ExtensionMetadata

from refimpl.operations import operations

KINDS = ("function", "class", "exception")  # in the order in which they are shown


def setup(app: Sphinx) -> ExtensionMetadata:
    """Add the directives."""
    app.add_directive("public", Public)
    app.add_directive("operations", Operations)
    app.connect("autodoc-process-signature", _readable)
    return {"parallel_read_safe": True}


class Public(SphinxDirective):
    """`.. public:: package`: what its `__all__` names, but for the operations."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        """The entries."""
        package = importlib.import_module(self.arguments[0])
        names = [name for name in package.__all__ if name.removesuffix("_vjp") not in operations()]
        found = sorted((getattr(package, name) for name in names), key=lambda one: (KINDS.index(_kind(one)), _place(one)))
        return self.parse_text_to_nodes("\n".join(_entry(package.__name__, one.__name__, _kind(one)) for one in found))


class Operations(SphinxDirective):
    """`.. operations::`: a section for each operation, with the docstring that defines it and the functions that compute it."""

    def run(self) -> list[nodes.Node]:
        """The sections."""
        return self.parse_text_to_nodes("\n".join(_sections()), allow_section_headings=True)


def _sections() -> Iterable[str]:
    for name in operations():
        yield f"{name}\n{'-' * len(name)}\n\nIts chapter of the specification: :doc:`/spec/{name}`.\n"
        yield f".. automodule:: refimpl.operations.{name}\n    :no-index:\n"
        yield from (_entry("refimpl", public, "function") for public in (name, f"{name}_vjp"))


def _kind(of: object) -> str:
    if inspect.isfunction(of):
        return "function"
    return "exception" if isinstance(of, type) and issubclass(of, BaseException) else "class"


def _place(of: Any) -> tuple[str, int]:
    """Where in the source it stands, so that what speaks of the one above it comes below that."""
    return of.__module__, inspect.getsourcelines(of)[1]


def _readable(app: Sphinx, what: str, name: str, of: Any, options: Any, signature: str | None, returned: str | None) -> Any:
    return signature and signature.replace("<factory>", "..."), returned


def _entry(package: str, name: str, kind: str) -> str:
    return f".. auto{kind}:: {package}.{name}\n" + ("    :members:\n" if kind == "class" else "")
