"""The source tree keeps its layers, and task names stay in the modules that own them."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

from autofocus.tasks import TASKS

SRC = Path(__file__).parents[1] / "src" / "autofocus"
OWNERS = ("tasks/", "data/rows/records.py")


def spelled_task_names(source: str, names: set[str]) -> list[int]:
    return [
        node.lineno
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Constant) and node.value in names
    ]


def test_task_names_stay_with_their_owners() -> None:
    from autofocus.data.rows.records import RECORD_TYPES

    names = {*TASKS, *RECORD_TYPES}
    offenders = [
        f"{path.relative_to(SRC)}:{line}"
        for path in sorted(SRC.rglob("*.py"))
        if not path.relative_to(SRC).as_posix().startswith(OWNERS)
        for line in spelled_task_names(path.read_text(encoding="utf-8"), names)
    ]
    assert not offenders, "move these behind a Task method:\n" + "\n".join(offenders)


def test_a_planted_task_name_is_found() -> None:
    name = next(iter(TASKS))
    assert spelled_task_names(f"x = 1\nif task == {name!r}:\n    pass\n", {name}) == [2]


@pytest.mark.parametrize(
    "module",
    [
        "autofocus",
        "autofocus.cli.__main__",
        "autofocus.settings.job",
        "autofocus.tasks",
        "autofocus.data.batches.loader",
        "autofocus.data.sources.read",
        "autofocus.scoring.scorer",
        "autofocus.scoring.evaluate",
        "autofocus.scoring.explain.boxes",
        "autofocus.scoring.explain.box_quality",
        "autofocus.scoring.explain.request",
        "autofocus.batch.run",
        "autofocus.serve.app",
        "autofocus.serve.worker",
        "autofocus.study.resolve",
    ],
)
def test_module_imports_no_torch(module: str) -> None:
    assert loaded_by(module, HEAVY) == "[]"


def test_flags_are_declared_without_what_checks_and_uses_them() -> None:
    assert loaded_by("autofocus.cli.__main__", ["pydantic", "numpy"]) == "[]"
    assert loaded_by("autofocus.scoring.scorer", ["pydantic"]) == "[]"


HEAVY = ["torch", "timm", "torchvision", "mlflow", "sklearn", "scipy", "pandas"]


def loaded_by(module: str, names: list[str]) -> str:
    """Return which of the names are loaded once a module is."""
    code = f"import sys, {module}; print([m for m in {names!r} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return done.stdout.strip()


def test_the_map_names_files_that_are_there() -> None:
    page = (SRC.parents[1] / "docs" / "design.md").read_text(encoding="utf-8")
    ways = page.partition("### Three ways")[2].partition("## ")[0]
    named = set(re.findall(r"`([a-z_]+(?:/[a-z_]+)+)`", ways))
    assert len(named) > 30
    missing = [name for name in named if not (SRC / name).with_suffix(".py").is_file()]
    assert not missing, f"docs/design.md sends readers to files that are gone: {sorted(missing)}"
