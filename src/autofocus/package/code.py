"""Modules that a package carries: all that its entry point imports, directly or not."""

import ast
import shutil
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

ROOT = Path(__file__).parents[1]
ENTRY = ROOT / "package" / "mlflow_entry.py"


def copy_scoring_code(folder: Path) -> None:
    """Copy every module that scoring imports into `folder/autofocus`, and nothing else."""
    target = folder / ROOT.name
    for source in sorted(scoring_modules()):
        copy = target / source.relative_to(ROOT)
        copy.parent.mkdir(parents=True, exist_ok=True)
        if source == ROOT / "__init__.py":
            # The public door leads to training, which is not carried along.
            copy.write_text(f'"""The scoring layers of autofocus."""\n\n{_version_line()}')
        else:
            shutil.copyfile(source, copy)


def scoring_modules() -> set[Path]:
    """Return the files reached from the entry point through module-level imports."""
    found: set[Path] = set()
    waiting = [ENTRY]
    while waiting:
        for path in _imported(waiting.pop()):
            if path not in found:
                found.add(path)
                waiting.append(path)
    return found


def _imported(path: Path) -> Iterator[Path]:
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            module = node.module or ""
            # `from a.b import c`: c may be a module of its own.
            names = [module, *(f"{module}.{alias.name}" for alias in node.names)]
        else:
            continue
        for name in names:
            if name.partition(".")[0] == ROOT.name:
                yield from _files(name)


def _files(name: str) -> Iterator[Path]:
    parts = name.split(".")[1:]
    for depth in range(len(parts) + 1):
        package = ROOT.joinpath(*parts[:depth])
        if (package / "__init__.py").is_file():
            yield package / "__init__.py"
    module = ROOT.joinpath(*parts).with_suffix(".py") if parts else ROOT / "__init__.py"
    if module.is_file():
        yield module


def _version_line() -> str:
    return f'__version__ = "{version("autofocus")}"\n'
