"""The modules of a package as `scripts/house` and `scripts/check_house.py` read them.

What counts as an import: statements at module level and inside functions. Imports for type checkers
only (`if TYPE_CHECKING:`) make a file a reader of another, but no circle: nothing is executed.
`from a.b import c` imports the module `a.b.c` where there is one, else `a.b`. That Python also
executes `a/__init__.py` on the way is not counted.
"""

import ast
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path


@dataclass(frozen=True)
class Import:
    """One module that another one imports.

    Attributes:
        target: Dotted name of the imported module.
        local_name: Name that stands for it, or for an object of it, in the importing module.
        line: Line of the statement.
        for_types: Whether type checkers alone execute it.
    """

    target: str
    local_name: str
    line: int
    for_types: bool


@dataclass(frozen=True)
class Module:
    """One file of the package.

    Attributes:
        name: Dotted name; a folder's `__init__.py` has the folder's.
        path: The file.
        text: Its text.
        syntax: Its syntax tree.
    """

    name: str
    path: Path
    text: str
    syntax: ast.Module

    @property
    def num_lines(self) -> int:
        """Return the number of lines, blank ones included."""
        return self.text.count("\n")

    @property
    def docstring(self) -> str:
        """Return the module's docstring, empty where there is none."""
        return ast.get_docstring(self.syntax) or ""


class SourceTree:
    """All modules of one package.

    Args:
        root: Folder of the package, such as `src/autofocus`.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.modules = {module.name: module for module in _read(root)}

    @cached_property
    def imports(self) -> dict[str, list[Import]]:
        """Imports of modules of this package, by the importing module's name."""
        return {name: list(self._imports(module)) for name, module in self.modules.items()}

    @cached_property
    def importers(self) -> dict[str, set[str]]:
        """Names of the modules that import each module, types included."""
        found: dict[str, set[str]] = {name: set() for name in self.modules}
        for name, imports in self.imports.items():
            for one in imports:
                if one.target != name:
                    found[one.target].add(name)
        return found

    def circles(self) -> list[list[str]]:
        """Return the groups of modules that reach each other by executed imports, sorted."""
        edges = {
            name: {one.target for one in imports if not one.for_types and one.target != name}
            for name, imports in self.imports.items()
        }
        reached = {name: _reachable(name, edges) for name in edges}
        groups = {
            tuple(sorted(other for other in reached[name] if name in reached[other]))
            for name in edges
            if name in reached[name]
        }
        return [list(group) for group in sorted(groups)]

    def public_classes(self) -> dict[str, list[tuple[Module, int]]]:
        """Return where each public class name is defined at module level: module and line."""
        found: dict[str, list[tuple[Module, int]]] = defaultdict(list)
        for module in self.modules.values():
            for node in module.syntax.body:
                if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                    found[node.name].append((module, node.lineno))
        return dict(sorted(found.items()))

    def _imports(self, module: Module) -> Iterator[Import]:
        for node, for_types in _import_statements(module.syntax, for_types=False):
            for target, local_name in _targets(node, module):
                known = self._known(target)
                if known is not None:
                    yield Import(known, local_name, node.lineno, for_types)

    def _known(self, name: str) -> str | None:
        """Return the module that a dotted name is of, None for other packages' modules."""
        while name and name not in self.modules:
            name = name.rpartition(".")[0]
        return name or None


def _read(root: Path) -> Iterator[Module]:
    for path in sorted(root.rglob("*.py")):
        parts = [root.name, *path.relative_to(root).with_suffix("").parts]
        if parts[-1] == "__init__":
            parts.pop()
        text = path.read_text(encoding="utf-8")
        yield Module(".".join(parts), path, text, ast.parse(text))


def _import_statements(
    node: ast.AST, for_types: bool
) -> Iterator[tuple[ast.Import | ast.ImportFrom, bool]]:
    """Yield the imports below a node, each with whether type checkers alone execute it."""
    if isinstance(node, ast.Import | ast.ImportFrom):
        yield node, for_types
    elif isinstance(node, ast.If) and _asks_for_types(node.test):
        for only in node.body:
            yield from _import_statements(only, for_types=True)
        for other in node.orelse:
            yield from _import_statements(other, for_types)
    elif not isinstance(node, ast.expr):  # Expressions hold no statements.
        for child in ast.iter_child_nodes(node):
            yield from _import_statements(child, for_types)


def _asks_for_types(test: ast.expr) -> bool:
    return "TYPE_CHECKING" in (getattr(test, "id", None), getattr(test, "attr", None))


def _targets(node: ast.Import | ast.ImportFrom, module: Module) -> Iterator[tuple[str, str]]:
    """Yield the dotted name and the local name of whatever a statement imports."""
    if isinstance(node, ast.Import):
        for alias in node.names:
            yield alias.name, alias.asname or alias.name.partition(".")[0]
        return
    origin = node.module or ""
    if node.level:
        up = node.level - (module.path.name == "__init__.py")
        parts = module.name.split(".")
        origin = ".".join([*parts[: len(parts) - up], *filter(None, [node.module])])
    for alias in node.names:
        yield f"{origin}.{alias.name}", alias.asname or alias.name


def _reachable(start: str, edges: dict[str, set[str]]) -> set[str]:
    found: set[str] = set()
    waiting = [start]
    while waiting:
        new = edges[waiting.pop()] - found
        found |= new
        waiting += new
    return found
