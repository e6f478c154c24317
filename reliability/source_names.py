"""What names stand for in Python source: what is put into them, and the parameters and arguments of functions.

It knows trees of the ast module, and no SQL.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator

NUMBERS_ONLY = frozenset(("int", "float", "bool"))
Function = ast.FunctionDef | ast.AsyncFunctionDef
Scope = ast.Module | ast.ClassDef | Function | ast.Lambda


def assigned(scope: ast.AST, name: str) -> Iterator[ast.expr]:
    """Yield all that is put into a name within a scope, not in the scopes within it."""
    for node in _own(scope):
        match node:
            case ast.Assign():
                if any(_binds(target, name) for target in node.targets):
                    yield node.value
            case ast.AnnAssign(value=ast.expr()) | ast.AugAssign() | ast.NamedExpr():
                if _binds(node.target, name) and not _number(node):
                    yield node.value  # type: ignore[misc]
            case ast.For() | ast.AsyncFor() | ast.comprehension():
                if _binds(node.target, name):
                    yield node.iter
            case ast.withitem():
                if node.optional_vars is not None and _binds(node.optional_vars, name):
                    yield node.context_expr


def _number(node: ast.AST) -> bool:
    return isinstance(node, ast.AnnAssign) and ast.unparse(node.annotation) in NUMBERS_ONLY


def _own(scope: ast.AST) -> Iterator[ast.AST]:
    for node in ast.iter_child_nodes(scope):
        yield node
        if not isinstance(node, Scope):
            yield from _own(node)


def _binds(target: ast.AST, name: str) -> bool:
    if isinstance(target, ast.Tuple | ast.List | ast.Starred):
        return any(_binds(each, name) for each in ast.iter_child_nodes(target))
    return isinstance(target, ast.Name) and target.id == name


def class_of(tree: ast.Module, name: str) -> ast.ClassDef | None:
    """Return the class of that name in a module; None where it has none."""
    return next((each for each in tree.body if isinstance(each, ast.ClassDef) and each.name == name), None)


def parameters(function: Function) -> list[ast.arg]:
    """Return a function's parameters."""
    told = function.args
    return [*told.posonlyargs, *told.args, *told.kwonlyargs, *filter(None, (told.vararg, told.kwarg))]


def parameter(function: Function, name: str) -> ast.arg | None:
    """Return a function's parameter of that name."""
    return next((each for each in parameters(function) if each.arg == name), None)


def default(function: Function, place: ast.arg) -> Iterator[ast.expr]:
    """Yield what a parameter is where a call does not give it."""
    told = function.args
    plain = [*told.posonlyargs, *told.args]
    pairs = [*zip(reversed(plain), reversed(told.defaults), strict=False),
             *zip(told.kwonlyargs, told.kw_defaults, strict=True)]  # fmt: skip
    yield from (value for each, value in pairs if each is place and value is not None)


def argument(call: ast.Call, function: Function, name: str, method: bool) -> ast.expr | None:
    """Return what a call gives for a parameter; None where that is not to be seen. `method`: the first is itself."""
    for keyword in call.keywords:
        if keyword.arg == name:
            return keyword.value
    plain = [each.arg for each in (*function.args.posonlyargs, *function.args.args)][1 if method else 0 :]
    place = plain.index(name) if name in plain else len(call.args)
    if place < len(call.args) and not any(isinstance(each, ast.Starred) for each in call.args[: place + 1]):
        return call.args[place]
    return None
