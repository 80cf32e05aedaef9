"""Print how large and how entangled the source of a tree is. Reported, not gated.

The first table reads the files (`source_tree.py` says what counts as an import). The second trains
a tiny classifier and looks at the stack at five points (`trace_run.py` says where they are):

frames    Calls of functions of ours that are not over: how deep a reader has to descend.
files     Distinct files of ours that these frames are in.
classes   Distinct classes of ours whose instances are `self`, an argument or a local in them.

`way` is the way of a row from the command to the optimizer: the files and classes of the points
record, batch and step together. All functions called by then would be too wide (the start of the
program is among them); the stacks are what a reader has to hold in mind who follows one row.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from source_tree import SourceTree

ROOT = Path(__file__).resolve().parents[1]
SMALL_FILE_LINES = 60
POINTS = ("record", "batch", "step", "onnx", "publish")
POINTS_OF_A_ROW = ("record", "batch", "step")


def main() -> None:
    """Measure the working tree, or a commit, and print it."""
    parser = argparse.ArgumentParser(prog="scripts/house", description=__doc__.partition("\n")[0])
    parser.add_argument("commit", nargs="?", help="default: the working tree")
    parser.add_argument("--static", action="store_true", help="only read the files, train nothing")
    parser.add_argument("--json", action="store_true", help="one JSON document, with all names")
    asked = parser.parse_args()
    with checked_out(asked.commit) as root:
        package = root / "src" / "autofocus"
        measured = {"tree": asked.commit or "working tree", "source": read_source(package)}
        if not asked.static:
            measured["run"] = trace_run(package)
    print(json.dumps(measured, indent=2) if asked.json else "\n".join(as_text(measured)))


@contextmanager
def checked_out(commit: str | None) -> Iterator[Path]:
    """Yield the folder of a tree: a temporary git worktree where a commit is named."""
    if commit is None:
        yield ROOT
        return
    git = ("git", "-C", str(ROOT), "worktree")
    with tempfile.TemporaryDirectory() as folder:
        # Resolved, for frames name their files by the real path.
        tree = Path(folder).resolve() / "tree"
        subprocess.run([*git, "add", "--quiet", "--detach", str(tree), commit], check=True)
        try:
            yield tree
        finally:
            subprocess.run([*git, "remove", "--force", str(tree)], check=True)


def read_source(package: Path) -> dict[str, Any]:
    """Return the figures of the files."""
    tree = SourceTree(package)
    lengths = [module.num_lines for module in tree.modules.values() if module.num_lines]
    return {
        "modules": len(lengths),
        "lines": sum(lengths),
        "small_files": sum(length < SMALL_FILE_LINES for length in lengths),
        "single_importer": sum(len(importers) == 1 for importers in tree.importers.values()),
        "circles": [[_short(tree, name) for name in group] for group in tree.circles()],
        "class_names_twice": {
            name: [f"{module.path.relative_to(package)}:{line}" for module, line in places]
            for name, places in tree.public_classes().items()
            if len(places) > 1
        },
    }


def trace_run(package: Path) -> dict[str, Any]:
    """Train a tiny classifier with the code of a tree; return what was on the stacks.

    Raises:
        SystemExit: If the training failed.
    """
    with tempfile.TemporaryDirectory() as folder:
        result = Path(folder) / "trace.json"
        script = str(Path(__file__).with_name("trace_run.py"))
        done = subprocess.run(
            [sys.executable, script, str(package), str(result)],
            env={**os.environ, "PYTHONPATH": str(package.parent), "OMP_NUM_THREADS": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        trace = json.loads(result.read_text(encoding="utf-8")) if result.is_file() else None
    if trace is None or trace["status"] != 0:
        sys.exit(f"the traced training failed:\n{done.stdout}")
    points = trace["points"]
    reached = [points[name] for name in POINTS_OF_A_ROW if name in points]
    way = {
        what: sorted({name for point in reached for name in point[what]})
        for what in ("files", "classes")
    }
    return {**{name: points.get(name) for name in POINTS}, "way": way}


def as_text(measured: dict[str, Any]) -> Iterator[str]:
    """Yield the lines of the tables."""
    source = measured["source"]
    rows = [
        ("non-empty modules", source["modules"]),
        ("lines", source["lines"]),
        (f"files under {SMALL_FILE_LINES} lines", source["small_files"]),
        ("files with exactly one importer", source["single_importer"]),
        ("import circles between files", len(source["circles"])),
        ("public class names that stand twice", len(source["class_names_twice"])),
    ]
    yield f"{'source':36}{measured['tree']:>14}"
    yield from (f"{what:36}{number:14,}" for what, number in rows)
    if "run" in measured:
        yield from ("", *_run_table(measured["run"]))
    if source["circles"]:
        yield from ("", "circles", *(f"  {' <-> '.join(group)}" for group in source["circles"]))
    if source["class_names_twice"]:
        yield from ("", "public class names that stand twice")
        for name, places in source["class_names_twice"].items():
            yield f"  {name:14}{', '.join(places)}"


def _run_table(run: dict[str, Any]) -> Iterator[str]:
    yield f"{'on the stack':26}{'frames':>8}{'files':>8}{'classes':>8}"
    for name, where in (
        ("record", "a record is made"),
        ("batch", "a batch is made"),
        ("step", "optimizer.step"),
        ("onnx", "export of ONNX"),
        ("publish", "publish"),
    ):
        point = run[name]
        if point is None:
            yield f"{where:26}  not reached"
        else:
            yield _run_row(where, str(point["frames"]), point)
    yield _run_row("way of a row to the step", "", run["way"])


def _run_row(where: str, frames: str, point: dict[str, Any]) -> str:
    return f"{where:26}{frames:>8}{len(point['files']):8}{len(point['classes']):8}"


def _short(tree: SourceTree, name: str) -> str:
    return tree.modules[name].path.relative_to(tree.root).as_posix()


if __name__ == "__main__":
    main()
