"""Fail when a file or a function outgrows the house (docs/design.md, Layout)."""

import ast
import statistics
import sys
from pathlib import Path

SOURCE = Path(__file__).parents[1] / "src" / "autofocus"
MAX_FILE_LINES = 600
MAX_MEDIAN_LINES = 150
MAX_FUNCTION_LINES = 80


def main() -> int:
    """Print what is too long; return the exit status."""
    files = {path: path.read_text(encoding="utf-8") for path in sorted(SOURCE.rglob("*.py"))}
    lengths = {path: text.count("\n") for path, text in files.items()}
    problems = [
        f"{path}: {length} lines, at most {MAX_FILE_LINES}"
        for path, length in lengths.items()
        if length > MAX_FILE_LINES
    ]
    median = statistics.median(length for length in lengths.values() if length > 0)
    if median > MAX_MEDIAN_LINES:
        problems.append(f"median file: {median} lines, at most {MAX_MEDIAN_LINES}")
    for path, text in files.items():
        problems += _long_functions(path, ast.parse(text))
    print("\n".join(problems) or f"sizes fine: {len(files)} files, median {median:.0f} lines")
    return bool(problems)


def _long_functions(path: Path, tree: ast.Module) -> list[str]:
    problems = []
    for node in ast.walk(tree):
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        docstring = ast.get_docstring(node, clean=False)
        length = (node.end_lineno or node.lineno) - node.lineno + 1
        length -= docstring.count("\n") + 1 if docstring else 0
        if length > MAX_FUNCTION_LINES:
            problems.append(f"{path}:{node.lineno}: {node.name} has {length} lines")
    return problems


if __name__ == "__main__":
    sys.exit(main())
