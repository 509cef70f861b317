"""An operation of an adapter as the few lines that one call of it runs: its source with every parameter of the call filled in.

The adapter's file is only parsed, never imported. What the parameters decide is decided (an `if`, a choice among a dictionary's entries,
a helper of one expression), annotations go, and of the file's imports, constants and helpers those stay that the rest needs. So a
script shows what was judged, and can't drift from it.
"""

from __future__ import annotations

import ast
import operator
import textwrap
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

Node = TypeVar("Node", bound=ast.AST)

_COMPARISONS: Mapping[type[ast.cmpop], Callable[[Any, Any], bool]] = {
    ast.Is: operator.is_,
    ast.IsNot: operator.is_not,
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
    ast.In: lambda item, among: item in among,
    ast.NotIn: lambda item, among: item not in among,
}


class NoSource(Exception):
    """The adapter's file doesn't state the operation as a function; the message says what was looked for."""


@dataclass(frozen=True)
class Specialised:
    """A function of the call's inputs `names`: its statements, of which the last returns."""

    names: tuple[str, ...]
    body: tuple[ast.stmt, ...]

    @property
    def expression(self) -> str | None:
        """The function as one expression, where it is one."""
        last = self.body[-1]
        return ast.unparse(last.value) if len(self.body) == 1 and isinstance(last, ast.Return) and last.value is not None else None

    def definition(self, name: str) -> str:
        """The function as a definition under that name."""
        body = textwrap.indent("\n".join(map(ast.unparse, map(ast.fix_missing_locations, self.body))), "    ")
        return f"def {name}({', '.join(self.names)}):\n{body}"


class Module:
    """The source of an adapter, parsed."""

    def __init__(self, source: str) -> None:
        self.functions: dict[str, ast.FunctionDef] = {}
        self.constants: dict[str, ast.Assign] = {}
        self.imports: dict[str, str] = {}  # the name that is bound -> the statement that binds it
        self.operations: dict[str, str] = {}
        for statement in ast.parse(source).body:
            self._enter(statement)

    def _enter(self, statement: ast.stmt) -> None:
        if isinstance(statement, ast.FunctionDef):
            self.functions[statement.name] = statement
        elif isinstance(statement, ast.Import | ast.ImportFrom):
            for alias in statement.names:
                bound = alias.asname or alias.name.partition(".")[0]
                one = (
                    ast.Import([alias]) if isinstance(statement, ast.Import) else ast.ImportFrom(statement.module, [alias], statement.level)
                )
                self.imports[bound] = ast.unparse(one)
        elif isinstance(statement, ast.Assign | ast.AnnAssign) and statement.value is not None:
            targets = statement.targets if isinstance(statement, ast.Assign) else [statement.target]
            for target in targets:
                if isinstance(target, ast.Name):
                    self._name(target.id, statement.value)

    def _name(self, name: str, value: ast.expr) -> None:
        self.constants[name] = ast.Assign([ast.Name(name, ast.Store())], value, lineno=0)
        if name == "OPERATIONS" and isinstance(value, ast.Dict):
            for key, function in zip(value.keys, value.values, strict=True):
                if isinstance(key, ast.Constant) and isinstance(function, ast.Name):
                    self.operations[str(key.value)] = function.id

    def call(self, operation: str, inputs: Sequence[str], parameters: Mapping[str, Any], facts: Mapping[str, Any]) -> Specialised:
        """The function of an operation for inputs of these names and values of parameters.

        `facts` maps expressions, as `ast.unparse` writes them, to what they are for these inputs ("logits.ndim": 2). Raises `NoSource`.
        """
        function = self.functions.get(self.operations.get(operation, ""))
        if function is None:
            raise NoSource(f"OPERATIONS[{operation!r}] is no function of the file; a script needs it to be one")
        arguments = function.args
        parts = [*arguments.posonlyargs, *arguments.args]
        defaults: dict[str, ast.expr | None] = dict(zip([one.arg for one in reversed(parts)], reversed(arguments.defaults), strict=False))
        defaults |= zip([one.arg for one in arguments.kwonlyargs], arguments.kw_defaults, strict=True)
        named = [one.arg for one in [*parts, *arguments.kwonlyargs]]
        given: dict[str, ast.expr] = {name: ast.Constant(value) for name, value in parameters.items()}
        known = {name: default for name, default in defaults.items() if default is not None and name not in inputs}
        known |= {name: value for name, value in given.items() if name in named}
        if arguments.kwarg is not None:
            rest = {name: value for name, value in given.items() if name not in named}
            known[arguments.kwarg.arg] = ast.Dict([ast.Constant(name) for name in rest], list(rest.values()))
        passed = "" if arguments.kwarg is None else arguments.kwarg.arg
        body = _Fold(self, known, facts, passed).block(_bare(function.body))
        return Specialised(tuple(name for name in named if name in inputs), tuple(_joined(body)))

    def needed(self, text: str) -> list[str]:
        """What a script has to begin with for `text` to run: imports, then constants and helpers, each before its first use."""
        imports: dict[str, None] = {}
        definitions: dict[str, None] = {}
        self._collect(ast.parse(text), imports, definitions, set())
        return [*sorted(imports, key=lambda line: (line.startswith("from"), line)), *definitions]

    def _collect(self, tree: ast.AST, imports: dict[str, None], definitions: dict[str, None], seen: set[str]) -> None:
        stored = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)}
        defined = {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}
        for node in ast.walk(tree):
            if not isinstance(node, ast.Name) or node.id in seen | stored | defined:
                continue
            seen.add(node.id)
            if node.id in self.imports:
                imports[self.imports[node.id]] = None
            elif node.id in self.functions:
                helper = _plain(self.functions[node.id])
                self._collect(ast.Module(helper.body, []), imports, definitions, seen | {node.id})
                definitions[ast.unparse(helper)] = None
            elif node.id in self.constants:
                self._collect(self.constants[node.id].value, imports, definitions, seen)
                definitions[ast.unparse(self.constants[node.id])] = None


class _Fold(ast.NodeTransformer):
    """Puts what is known in its place, and decides what that decides."""

    def __init__(self, module: Module, known: Mapping[str, ast.expr], facts: Mapping[str, Any], rest: str = "") -> None:
        self.module = module
        self.rest = rest  # the name of the parameters that the function passes on
        self.known = dict(known)
        self.facts = dict(facts)

    def block(self, statements: Sequence[ast.stmt]) -> list[ast.stmt]:
        """The statements that are left, up to the first return that is sure."""
        found: list[ast.stmt] = []
        for statement in statements:
            found += self._statement(statement)
            if found and isinstance(found[-1], ast.Return | ast.Raise):
                break
        return found

    def _statement(self, statement: ast.stmt) -> list[ast.stmt]:
        if isinstance(statement, ast.If):
            test = self._expression(statement.test)
            if isinstance(test, ast.Constant):
                return self.block(statement.body if test.value else statement.orelse)
            return [ast.If(test, self._apart(statement.body), self._apart(statement.orelse))]
        if isinstance(statement, ast.AnnAssign) and statement.value is not None:
            statement = ast.Assign([statement.target], statement.value, lineno=0)
        if isinstance(statement, ast.AugAssign) and isinstance(statement.target, ast.Name):
            before = ast.Name(statement.target.id, ast.Load())
            statement = ast.Assign([statement.target], ast.BinOp(before, statement.op, statement.value), lineno=0)
        if isinstance(statement, ast.Assign) and isinstance(statement.targets[0], ast.Name):
            return self._assign(statement.targets[0].id, self._expression(statement.value))
        if isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Call) and self._does_nothing(statement.value):
            return []
        return [self.visit(_copy(statement))]

    def _does_nothing(self, node: ast.Call) -> bool:
        """Whether a call of a helper comes to nothing with these arguments, as that of a check does."""
        function = self.module.functions.get(_called(node))
        if function is None or node.keywords or len(node.args) != len(function.args.args):
            return False
        known = {one.arg: self._expression(value) for one, value in zip(function.args.args, node.args, strict=True)}
        return not _Fold(self.module, known, {}).block(_bare(function.body))

    def _apart(self, statements: Sequence[ast.stmt]) -> list[ast.stmt]:
        """A block that may not run: what it assigns is unknown after it."""
        inner = _Fold(self.module, self.known, self.facts, self.rest)
        found = inner.block(statements)
        for node in (node for statement in statements for node in ast.walk(statement)):
            if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
                self._forget(node.id)
        return found

    def _assign(self, name: str, value: ast.expr) -> list[ast.stmt]:
        self._forget(name)
        if isinstance(value, ast.Constant) or (isinstance(value, ast.Dict) and name == self.rest):
            self.known[name] = value
            return []
        return [ast.Assign([ast.Name(name, ast.Store())], value, lineno=0)]

    def _forget(self, name: str) -> None:
        self.known.pop(name, None)
        self.facts = {text: value for text, value in self.facts.items() if name not in _names(ast.parse(text))}

    def _expression(self, node: ast.expr) -> ast.expr:
        folded: ast.expr = self.visit(_copy(node))
        return folded

    def visit(self, node: ast.AST) -> Any:
        if isinstance(node, ast.expr) and (text := ast.unparse(node)) in self.facts:
            return ast.Constant(self.facts[text])
        return super().visit(node)

    def visit_Raise(self, node: ast.Raise) -> ast.stmt:
        self.generic_visit(node)
        return _refusal(node)

    def visit_Name(self, node: ast.Name) -> ast.expr:
        return _copy(self.known[node.id]) if isinstance(node.ctx, ast.Load) and node.id in self.known else node

    def visit_Compare(self, node: ast.Compare) -> ast.expr:
        self.generic_visit(node)
        sides = [_value(side) for side in (node.left, *node.comparators)]
        if len(sides) != 2 or None in sides:
            return node
        (left,), (right,) = filter(None, sides)
        return ast.Constant(_COMPARISONS[type(node.ops[0])](left, right))

    def visit_BoolOp(self, node: ast.BoolOp) -> ast.expr:
        self.generic_visit(node)
        neutral = isinstance(node.op, ast.And)
        left = [value for value in node.values if not (isinstance(value, ast.Constant) and bool(value.value) is neutral)]
        if any(isinstance(value, ast.Constant) for value in left):
            return ast.Constant(not neutral)
        return ast.Constant(neutral) if not left else left[0] if len(left) == 1 else ast.BoolOp(node.op, left)

    def visit_UnaryOp(self, node: ast.UnaryOp) -> ast.expr:
        self.generic_visit(node)
        decided = isinstance(node.op, ast.Not) and isinstance(node.operand, ast.Constant)
        return ast.Constant(not node.operand.value) if decided and isinstance(node.operand, ast.Constant) else node

    def visit_BinOp(self, node: ast.BinOp) -> ast.expr:
        self.generic_visit(node)
        if isinstance(node.op, ast.BitOr) and isinstance(node.left, ast.Dict) and isinstance(node.right, ast.Dict):
            return ast.Dict([*node.left.keys, *node.right.keys], [*node.left.values, *node.right.values])
        return node

    def visit_IfExp(self, node: ast.IfExp) -> ast.expr:
        test = self._expression(node.test)
        if isinstance(test, ast.Constant):
            return self._expression(node.body if test.value else node.orelse)
        return ast.IfExp(test, self._expression(node.body), self._expression(node.orelse))

    def visit_Subscript(self, node: ast.Subscript) -> ast.expr:
        index = self._expression(node.slice)
        if isinstance(node.value, ast.Dict) and isinstance(index, ast.Constant):
            for key, value in zip(node.value.keys, node.value.values, strict=True):
                if isinstance(key, ast.Constant) and key.value == index.value:
                    return self._expression(value)
        return ast.Subscript(self._expression(node.value), index, node.ctx)

    def visit_Call(self, node: ast.Call) -> ast.expr:
        self.generic_visit(node)
        keywords: list[ast.keyword] = []
        for keyword in node.keywords:
            spread = keyword.arg is None and isinstance(keyword.value, ast.Dict)
            keywords += _spread(keyword.value) if spread and isinstance(keyword.value, ast.Dict) else [keyword]
        node = ast.Call(node.func, node.args, keywords)
        if isinstance(node.func, ast.Lambda) and not node.args and not keywords:
            return node.func.body
        inlined = self._inlined(node)
        return node if inlined is None else inlined

    def _inlined(self, node: ast.Call) -> ast.expr | None:
        """A call of a helper of one expression, by that expression; None where an argument would be computed twice, or not at all."""
        function = self.module.functions.get(_called(node))
        if function is None or len(body := _bare(function.body)) != 1:
            return None
        (statement,), arguments = body, function.args
        names = [one.arg for one in arguments.args]
        simple = all(isinstance(value, ast.Constant | ast.Name) for value in [*node.args, *(keyword.value for keyword in node.keywords)])
        if not simple or arguments.defaults or arguments.kwonlyargs or len(node.args) + len(node.keywords) != len(names):
            return None
        if not isinstance(statement, ast.Return) or statement.value is None:
            return None
        bound = dict(zip(names, node.args, strict=False)) | {keyword.arg: keyword.value for keyword in node.keywords if keyword.arg}
        return _Fold(self.module, bound, {})._expression(statement.value)


def _refusal(node: ast.Raise) -> ast.Raise:
    """An exception of ours as Python's own."""
    if isinstance(node.exc, ast.Call) and _called(node.exc) == "Unsupported":
        return ast.Raise(ast.Call(ast.Name("NotImplementedError", ast.Load()), node.exc.args, []))
    return node


def _spread(mapping: ast.Dict) -> list[ast.keyword]:
    """`**{"a": 1}` as `a=1`."""
    pairs = zip(mapping.keys, mapping.values, strict=True)
    return [ast.keyword(str(key.value), value) for key, value in pairs if isinstance(key, ast.Constant)]


def _value(node: ast.expr) -> tuple[Any] | None:
    """What a constant, or a tuple of constants, is; None where it isn't known."""
    try:
        return (ast.literal_eval(node),)
    except ValueError:
        return None


def _called(node: ast.Call) -> str:
    return node.func.id if isinstance(node.func, ast.Name) else ""


def _names(tree: ast.AST) -> set[str]:
    return {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}


def _copy(node: Node) -> Node:
    """The node without its places in the file, which would come to stand for others."""
    fields = {name: _copied(value) for name, value in ast.iter_fields(node)}
    return type(node)(**fields)


def _copied(value: Any) -> Any:
    if isinstance(value, list):
        return [_copied(one) for one in value]
    return _copy(value) if isinstance(value, ast.AST) else value


def _bare(body: Sequence[ast.stmt]) -> list[ast.stmt]:
    """The statements without a docstring."""
    first = body[0]
    documented = isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant) and isinstance(first.value.value, str)
    return list(body[1:] if documented else body)


def _joined(body: Sequence[ast.stmt]) -> list[ast.stmt]:
    """The statements, a last assignment that is returned at once as the return of its value."""
    if len(body) < 2 or not isinstance(last := body[-1], ast.Return) or not isinstance(before := body[-2], ast.Assign):
        return list(body)
    at_once = last.value is not None and ast.unparse(last.value) == ast.unparse(before.targets[0])
    return [*body[:-2], ast.Return(before.value)] if at_once else list(body)


def _plain(function: ast.FunctionDef) -> ast.FunctionDef:
    """A helper without annotations and docstring."""
    made = _copy(function)
    made.body = [
        ast.Assign([one.target], one.value, lineno=0) if isinstance(one, ast.AnnAssign) and one.value is not None else one
        for one in made.body
    ]
    for node in ast.walk(made):
        if isinstance(node, ast.arg):
            node.annotation = None
    made.returns, made.body = None, _bare(made.body)
    for node in ast.walk(made):
        if isinstance(node, ast.Raise):
            node.exc = _refusal(node).exc
    return ast.fix_missing_locations(made)
