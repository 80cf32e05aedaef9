"""Fail where the source tree breaks a rule of the house (docs/design.md, Layout).

The rules work both ways: a file may neither outgrow the house nor be a crumb.

1. circle: no import circle between files. Imports inside functions count, for they run; imports
   under `if TYPE_CHECKING:` do not.
2. import by string: none, but where the line says why: `# import by string: <reason>`. No editor,
   type checker or import graph sees such an import. `importlib.util.find_spec` imports nothing.
3. class name twice: a public class name stands once in the package.
4. small file: below 60 lines and read by one file alone, it belongs into that file. Left out are
   `__init__.py`, `__main__.py`, entry points, members of a table, and files with the line
   `A file of its own: <reason>.` in their docstring. dead file: nobody imports it.
5. long file, long function, long median: upper limits; docstrings of functions are not counted.

An entry point has an `if __name__ == "__main__":` block, or its dotted name or file name stands in
the package as a string, as in `[..., "-m", "autofocus.x"]` or `folder / "entry.py"`. Calls that
import by string (rule 2) make no entry points.

A table is a dict, tuple, list or set at module level that lists objects of three or more modules of
one folder, as `TASKS` does; these modules are its members. So algorithms, losses, formats, tasks
and commands may be small without a word, whatever their folders are called.
"""

import ast
import re
import statistics
import sys
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from source_tree import Module, SourceTree

SOURCE = Path(__file__).parents[1] / "src" / "autofocus"
MAX_FILE_LINES = 600
MAX_MEDIAN_LINES = 150
MAX_FUNCTION_LINES = 80
# Below this a file with a single importer is a crumb.
MIN_FILE_LINES = 60
# Modules of one folder that a container lists before it is called a table.
MIN_TABLE_MEMBERS = 3

STRING_IMPORTERS = {"import_module", "__import__", "run_module", "resolve_name"}
REASON_TO_IMPORT = re.compile(r"# import by string: \S")
REASON_TO_BE = re.compile(r"^A file of its own: \S.*", re.MULTILINE)


@dataclass(frozen=True, order=True)
class Finding:
    """One broken rule.

    Attributes:
        path: The file.
        line: Line in it.
        rule: Name of the rule.
        value: What was found.
        advice: What to do.
    """

    path: Path
    line: int
    rule: str
    value: str
    advice: str

    def __str__(self) -> str:
        return f"{self.path}:{self.line}: {self.rule}, {self.value}, {self.advice}"


def main(root: Path = SOURCE) -> int:
    """Print what breaks a rule; return the exit status."""
    tree = SourceTree(root)
    found = sorted(findings(tree))
    for one in found:
        print(one)
    if not found:
        print(f"house fine: {len(tree.modules)} files, median {_median(tree):.0f} lines")
    return bool(found)


def findings(tree: SourceTree) -> Iterator[Finding]:
    """Yield whatever breaks a rule, in no order."""
    yield from circles(tree)
    yield from imports_by_string(tree)
    yield from class_names_twice(tree)
    yield from small_files(tree)
    yield from long_files(tree)
    yield from long_functions(tree)


def circles(tree: SourceTree) -> Iterator[Finding]:
    """Yield one finding a circle, at an import that is part of it."""
    for group in tree.circles():
        line = min(
            one.line for one in tree.imports[group[0]] if one.target in group and not one.for_types
        )
        files = " <-> ".join(_short(tree, name) for name in group)
        advice = "merge them, or move what they share below both"
        yield Finding(tree.modules[group[0]].path, line, "circle", files, advice)


def imports_by_string(tree: SourceTree) -> Iterator[Finding]:
    """Yield the uses of functions that import by a name, without a reason on their lines."""
    for module in tree.modules.values():
        lines = module.text.splitlines()
        for node, function in _string_importers(module.syntax):
            said = "\n".join(lines[node.lineno - 1 : node.end_lineno])
            if not REASON_TO_IMPORT.search(said):
                advice = "import it by a statement, or add `# import by string: <reason>`"
                yield Finding(module.path, node.lineno, "import by string", function, advice)


def class_names_twice(tree: SourceTree) -> Iterator[Finding]:
    """Yield every definition of a public class name that has another."""
    for name, places in tree.public_classes().items():
        for module, line in places if len(places) > 1 else ():
            others = ", ".join(
                f"{other.path.relative_to(tree.root)}:{at}"
                for other, at in places
                if (other, at) != (module, line)
            )
            value = f"{name} is also in {others}"
            yield Finding(module.path, line, "class name twice", value, "rename one")


def small_files(tree: SourceTree) -> Iterator[Finding]:
    """Yield dead files, and small ones that belong into their only importer."""
    entries = _entry_points(tree)
    members = _table_members(tree)
    for name, module in tree.modules.items():
        if module.path.name in ("__init__.py", "__main__.py") or name in entries:
            continue
        importers = tree.importers[name]
        if not importers:
            value = "no file imports it"
            yield Finding(module.path, 1, "dead file", value, "remove it, or import it")
        elif len(importers) == 1 and module.num_lines < MIN_FILE_LINES:
            (user,) = importers
            if name in members.get(user, ()) or REASON_TO_BE.search(module.docstring):
                continue
            value = f"{module.num_lines} lines, read by {_short(tree, user)} alone"
            advice = "move it there, or add `A file of its own: <reason>.` to its docstring"
            yield Finding(module.path, 1, "small file", value, advice)


def long_files(tree: SourceTree) -> Iterator[Finding]:
    """Yield files above the limit, and the median where that is."""
    for module in tree.modules.values():
        if module.num_lines > MAX_FILE_LINES:
            value = f"{module.num_lines} lines"
            yield Finding(module.path, 1, "long file", value, f"at most {MAX_FILE_LINES}: split it")
    median = _median(tree)
    if median > MAX_MEDIAN_LINES:
        advice = f"at most {MAX_MEDIAN_LINES}: split the longest"
        yield Finding(tree.root, 0, "long median", f"{median:.0f} lines a file", advice)


def long_functions(tree: SourceTree) -> Iterator[Finding]:
    """Yield functions above the limit."""
    for module in tree.modules.values():
        for node in ast.walk(module.syntax):
            if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                continue
            docstring = ast.get_docstring(node, clean=False)
            length = (node.end_lineno or node.lineno) - node.lineno + 1
            length -= docstring.count("\n") + 1 if docstring else 0
            if length > MAX_FUNCTION_LINES:
                value = f"{node.name} has {length} lines"
                advice = f"at most {MAX_FUNCTION_LINES}: split it"
                yield Finding(module.path, node.lineno, "long function", value, advice)


def _median(tree: SourceTree) -> float:
    lengths = [module.num_lines for module in tree.modules.values() if module.num_lines > 0]
    return statistics.median(lengths) if lengths else 0


def _short(tree: SourceTree, name: str) -> str:
    return tree.modules[name].path.relative_to(tree.root).as_posix()


def _string_importers(syntax: ast.Module) -> Iterator[tuple[ast.expr, str]]:
    """Yield every mention of a function that imports by a name, calls or not."""
    names = STRING_IMPORTERS | {
        alias.asname
        for node in ast.walk(syntax)
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
        if alias.asname and alias.name in STRING_IMPORTERS
    }
    for node in ast.walk(syntax):
        if isinstance(node, ast.Name) and node.id in names:
            yield node, node.id
        elif isinstance(node, ast.Attribute) and node.attr in STRING_IMPORTERS:
            yield node, node.attr


def _entry_points(tree: SourceTree) -> set[str]:
    """Return the modules that are run or copied rather than imported."""
    strings: set[str] = set()
    for module in tree.modules.values():
        strings |= _strings(module)
    return {
        name
        for name, module in tree.modules.items()
        if _is_run(module) or name in strings or module.path.name in strings
    }


def _is_run(module: Module) -> bool:
    return any(
        isinstance(node, ast.If) and ast.unparse(node.test) == "__name__ == '__main__'"
        for node in module.syntax.body
    )


def _strings(module: Module) -> set[str]:
    """Return the strings of a module, without those that it imports by."""
    imported = {
        argument
        for node in ast.walk(module.syntax)
        if isinstance(node, ast.Call)
        and getattr(node.func, "id", getattr(node.func, "attr", None)) in STRING_IMPORTERS
        for argument in node.args
    }
    return {
        node.value
        for node in ast.walk(module.syntax)
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and node not in imported
    }


def _table_members(tree: SourceTree) -> dict[str, set[str]]:
    """Return the modules that each module lists in a table."""
    return {name: _listed(tree, module) for name, module in tree.modules.items()}


def _listed(tree: SourceTree, module: Module) -> set[str]:
    origins = {one.local_name: one.target for one in tree.imports[module.name]}
    members: set[str] = set()
    for container in _containers(module.syntax):
        folders: dict[str, set[str]] = defaultdict(set)
        for node in ast.walk(container):
            if isinstance(node, ast.Name) and node.id in origins:
                target = origins[node.id]
                folders[target.rpartition(".")[0]].add(target)
        for targets in folders.values():
            if len(targets) >= MIN_TABLE_MEMBERS:
                members |= targets
    return members


def _containers(node: ast.AST) -> Iterator[ast.expr]:
    """Yield the dicts, tuples, lists and sets outside functions, classes and type arguments."""
    for child in ast.iter_child_nodes(node):
        if isinstance(
            child,
            ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef | ast.Lambda | ast.Subscript,
        ):
            continue
        if isinstance(child, ast.Dict | ast.Tuple | ast.List | ast.Set):
            yield child
        else:
            yield from _containers(child)


if __name__ == "__main__":
    sys.exit(main(*map(Path, sys.argv[1:2])))
