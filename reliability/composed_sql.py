"""Finds SQL that is composed from data: every text that reaches a database must be made of what the source says.

It reads source as a tree and runs none of it. A text is *fixed* where it consists of literals, of constants of modules,
and of numbers; a parameter is followed to every call of its function. What it cannot follow it reports.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from reliability.source_names import (
    NUMBERS_ONLY,
    Function,
    Scope,
    argument,
    assigned,
    class_of,
    default,
    parameter,
    parameters,
)

SINKS = frozenset("execute executemany executescript pragma".split())
TEXT_METHODS = frozenset("format join replace removesuffix removeprefix strip split items keys values get".split())
PLAIN = frozenset("str sorted tuple list set dict zip enumerate reversed frozenset map".split())
"""Calls that give back nothing but what they are given."""

NUMBERS = frozenset("int len float bool sum range".split())


@dataclass(frozen=True, slots=True)
class Finding:
    """A statement that is not fixed: where it is made, and what in it is not."""

    module: str
    line: int
    what: str

    def __str__(self) -> str:
        return f"{self.module}:{self.line}: {self.what}"


@dataclass(slots=True, eq=False)
class Module:
    """One source file: its tree, who encloses whom, and what its names are imports of."""

    name: str
    tree: ast.Module
    imports: dict[str, str] = field(default_factory=dict)
    calls: dict[str, list[ast.Call]] = field(default_factory=dict)
    """By the last word of what is called."""

    sinks: list[ast.Attribute] = field(default_factory=list)
    _parents: dict[ast.AST, ast.AST] = field(default_factory=dict)

    @classmethod
    def of(cls, name: str, source: str) -> Module:
        """Read a source."""
        module = cls(name, ast.parse(source))
        for node in ast.walk(module.tree):
            if isinstance(node, ast.ImportFrom) and node.module:
                module.imports |= {each.asname or each.name: f"{node.module}.{each.name}" for each in node.names}
            elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name | ast.Attribute):
                called = node.func.id if isinstance(node.func, ast.Name) else node.func.attr
                module.calls.setdefault(called, []).append(node)
            elif isinstance(node, ast.Attribute) and node.attr in SINKS:
                module.sinks.append(node)
        return module

    def parent(self, node: ast.AST) -> ast.AST:
        """Return what a node stands in."""
        if not self._parents:
            for each in ast.walk(self.tree):
                self._parents |= dict.fromkeys(ast.iter_child_nodes(each), each)
        return self._parents[node]

    def scopes(self, node: ast.AST) -> Iterator[Scope]:
        """Yield the functions, classes and at last the module around a node."""
        while node is not self.tree:
            node = self.parent(node)
            if isinstance(node, Scope):
                yield node


@dataclass(slots=True)
class Checker:
    """Looks through modules that may import each other; `statements` counts the calls that it has looked at."""

    modules: Mapping[str, Module]
    findings: set[Finding] = field(default_factory=set)
    statements: int = 0
    _seen: set[tuple[int, str]] = field(default_factory=set)
    _bases: dict[str, set[str]] = field(default_factory=dict)
    """Of every class, by its bare name, those of its bases."""

    def __post_init__(self) -> None:
        for module in self.modules.values():
            for kind in module.tree.body:
                if isinstance(kind, ast.ClassDef):
                    bases = {ast.unparse(base).split("[")[0].split(".")[-1] for base in kind.bases}
                    self._bases.setdefault(kind.name, set()).update(bases)

    def check(self) -> list[Finding]:
        """Return what is composed, in order of place."""
        for module in self.modules.values():
            for node in module.sinks:
                call = module.parent(node)
                if not isinstance(call, ast.Call) or call.func is not node:
                    self._tell(module, node, f"{node.attr} is handed on, and nobody sees to whom")
                elif not call.args:
                    self._tell(module, node, f"{node.attr} without a statement in its first place")
                else:
                    self.statements += 1
                    self._follow(module, call.args[0])
        return sorted(self.findings, key=lambda found: (found.module, found.line))

    def _tell(self, module: Module, node: ast.AST, what: str) -> None:
        self.findings.add(Finding(module.name, getattr(node, "lineno", 0), what))

    def _follow(self, module: Module, node: ast.expr, free: frozenset[str] = frozenset()) -> None:
        """Report what in an expression is not fixed; the names in `free` are fixed elsewhere."""
        match node:
            case ast.Constant() | ast.Compare():
                return
            case ast.Name():
                self._follow_name(module, node, free)
            case ast.Attribute():
                self._follow_attribute(module, node)
            case ast.BinOp(op=ast.Mult()):  # a text over and over: data may say how often
                self._follow(module, node.left if isinstance(node.left, ast.Constant) else node.right, free)
            case ast.Subscript():  # one of several fixed texts: data may say which
                self._follow(module, node.value, free)
            case ast.Call():
                self._follow_call(module, node, free)
            case ast.IfExp():
                self._follow(module, node.body, free)
                self._follow(module, node.orelse, free)
            case ast.ListComp() | ast.SetComp() | ast.GeneratorExp() | ast.DictComp():
                for part in (node.key, node.value) if isinstance(node, ast.DictComp) else (node.elt,):
                    self._follow(module, part, free)
            case ast.JoinedStr() | ast.FormattedValue() | ast.BinOp() | ast.BoolOp() | ast.NamedExpr():
                self._follow_parts(module, node, free)
            case ast.Tuple() | ast.List() | ast.Set() | ast.Dict() | ast.Starred():
                self._follow_parts(module, node, free)
            case _:
                self._tell(module, node, f"{ast.unparse(node)[:60]!r} is not known to be fixed")

    def _follow_parts(self, module: Module, node: ast.expr, free: frozenset[str]) -> None:
        for part in ast.iter_child_nodes(node):
            if isinstance(part, ast.expr):
                self._follow(module, part, free)

    def _follow_name(self, module: Module, node: ast.Name, free: frozenset[str]) -> None:
        """Follow a name to all that is ever put into it, in the nearest scope that has it."""
        for scope in module.scopes(node):
            if isinstance(scope, ast.ClassDef) or (id(scope), node.id) in self._seen:
                if isinstance(scope, ast.ClassDef):
                    continue
                return
            if isinstance(scope, Function) and (place := parameter(scope, node.id)) is not None:
                if node.id not in free:
                    self._seen.add((id(scope), node.id))
                    self._follow_parameter(module, scope, place)
                return
            if values := list(assigned(scope, node.id)):
                self._seen.add((id(scope), node.id))
                for value in values:
                    self._follow(module, value, free)
                return
        if node.id in module.imports:
            self._follow_import(module, node, module.imports[node.id])
        elif node.id not in PLAIN | NUMBERS:
            self._tell(module, node, f"{node.id!r} comes from nowhere that can be followed")

    def _follow_import(self, module: Module, node: ast.AST, full: str) -> None:
        home, _, name = full.rpartition(".")
        values = list(assigned(self.modules[home].tree, name)) if home in self.modules else []
        if not values:
            self._tell(module, node, f"{full} is no constant of a module here")
        for value in values:
            self._follow(self.modules[home], value)

    def _follow_attribute(self, module: Module, node: ast.Attribute) -> None:
        """Follow MODULE.NAME, and CLASS.NAME where the class has that constant."""
        if isinstance(node.value, ast.Name) and (full := module.imports.get(node.value.id)) is not None:
            home, _, name = full.rpartition(".")
            if full in self.modules:
                self._follow_import(module, node, f"{full}.{node.attr}")
                return
            if home in self.modules and (kind := class_of(self.modules[home].tree, name)) is not None:
                values = list(assigned(kind, node.attr))
                for value in values:
                    self._follow(self.modules[home], value)
                if values:
                    return
        self._tell(module, node, f"{ast.unparse(node)!r} is an attribute that may hold anything")

    def _follow_call(self, module: Module, node: ast.Call, free: frozenset[str]) -> None:
        given = [*node.args, *(keyword.value for keyword in node.keywords)]
        name = node.func.id if isinstance(node.func, ast.Name) else None
        if name in NUMBERS:
            return
        if name in PLAIN:
            parts = given
        elif isinstance(node.func, ast.Attribute) and node.func.attr in TEXT_METHODS:
            parts = [node.func.value, *given]
        elif (found := self._function(module, node.func)) is not None:
            home, function = found
            if ast.unparse(function.returns) in NUMBERS_ONLY if function.returns else False:
                return
            given_it = frozenset(each.arg for each in parameters(function))
            for each in ast.walk(function):
                if isinstance(each, ast.Return | ast.Yield) and each.value is not None:
                    self._follow(home, each.value, given_it)
            parts = given
        else:
            self._tell(module, node, f"{ast.unparse(node)[:60]!r} may give any text")
            return
        for part in parts:
            self._follow(module, part, free)

    def _function(self, module: Module, named: ast.expr) -> tuple[Module, Function] | None:
        """Return the function of a module here that a call's name stands for."""
        name = ast.unparse(named)
        here, _, last = module.imports.get(name, f"{module.name}.{name}").rpartition(".")
        if isinstance(named, ast.Attribute) and isinstance(named.value, ast.Name):
            here, last = module.imports.get(named.value.id, ""), named.attr
        home = self.modules.get(here)
        for each in home.tree.body if home is not None else ():
            if isinstance(each, Function) and each.name == last:
                return (home, each) if home is not None else None
        return None

    def _follow_parameter(self, module: Module, function: Function, place: ast.arg) -> None:
        """Follow a parameter to every call of its function, and to its default."""
        if place.annotation is not None and ast.unparse(place.annotation) in NUMBERS_ONLY:
            return
        for value in default(function, place):
            self._follow(module, value)
        within = module.parent(function)
        for caller in self.modules.values():
            for call in caller.calls.get(function.name, ()):
                if self._calls(caller, call, module, function, within):
                    told = argument(call, function, place.arg, isinstance(within, ast.ClassDef))
                    if told is not None:
                        self._follow(caller, told)
                    elif not list(default(function, place)):
                        self._tell(
                            caller, call, f"{function.name} gets its {place.arg!r} in a way that is not followed"
                        )

    def _calls(self, caller: Module, call: ast.Call, module: Module, function: Function, within: ast.AST) -> bool:
        """Whether a call may be one of this function: by its name, and of a method by the classes' kinship."""
        if isinstance(call.func, ast.Name):
            named = call.func.id == function.name
            return named and (caller is module or caller.imports.get(call.func.id) == f"{module.name}.{function.name}")
        if not isinstance(call.func, ast.Attribute) or call.func.attr != function.name:
            return False
        if not isinstance(within, ast.ClassDef):
            of = call.func.value
            return isinstance(of, ast.Name) and caller.imports.get(of.id) == module.name
        of_self = isinstance(call.func.value, ast.Name) and call.func.value.id == "self"
        own = next((scope for scope in caller.scopes(call) if isinstance(scope, ast.ClassDef)), None)
        if not of_self or own is None:
            return True
        return own.name in self._kin(within.name) or within.name in self._kin(own.name)

    def _kin(self, name: str) -> set[str]:
        """Return a class and its bases, by their bare names."""
        kin, left = set(), {name}
        while left:
            kin.add(now := left.pop())
            left |= self._bases.get(now, set()) - kin
        return kin


def read_package(folder: Path) -> Checker:
    """Return a checker of every module of a package."""
    modules = {}
    for path in sorted(folder.rglob("*.py")):
        name = ".".join(path.relative_to(folder.parent).with_suffix("").parts).removesuffix(".__init__")
        modules[name] = Module.of(name, path.read_text("utf-8"))
    return Checker(modules)
