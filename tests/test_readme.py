"""The README's code blocks run, with less time, and print what it says, numbers aside."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```(\w+)\n(.*?)```", TEXT, re.DOTALL)


def masked(output: str) -> list[str]:
    """Numbers vary with machine, version and time, and with them which class is the likeliest.

    So does what limited a run, and what more photos would give.
    """
    lines = [re.sub(r"\d[\d.]*", "#", line).rstrip() for line in output.splitlines()]
    names = "(can|carton|milk_bottle|water_bottle)"
    lines = [re.sub(rf"\b{names} #|'{names}'", "class #", line) for line in lines]
    return [line for line in lines if line and not line.startswith(("limit ", "photos "))]


def hurried(block: str) -> str:
    """Return the block with a budget that is enough for a first training."""
    return re.sub(r"(budget[ =]\"?)\d+s", r"\g<1>20s", block)


def environment() -> dict[str, str]:
    return {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("readme")


def test_every_block_is_of_a_kind_that_is_run_here() -> None:
    assert {kind for kind, _ in BLOCKS} == {"sh", "console", "python"}


def test_scripts_exist_and_can_be_run() -> None:
    for kind, block in BLOCKS:
        if kind == "sh":
            for line in block.splitlines():
                assert os.access(ROOT / shlex.split(line)[0], os.X_OK), line


def test_sessions_print_what_they_say(folder: Path) -> None:
    for kind, block in BLOCKS:
        if kind != "console":
            continue
        for step in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
            command, _, expected = step.partition("\n")
            done = subprocess.run(
                hurried(command),
                shell=True,
                cwd=folder,
                env=environment(),
                capture_output=True,
                text=True,
                check=False,
            )
            assert done.returncode == 0, done.stderr
            assert masked(done.stdout) == masked(expected), command


def test_python_block_runs(folder: Path) -> None:
    (block,) = [block for kind, block in BLOCKS if kind == "python"]
    if not (folder / "photos").exists():
        render = ["autofocus", "demo", "--render", "photos", "-n", "40"]
        subprocess.run(render, cwd=folder, env=environment(), check=True, capture_output=True)
    done = subprocess.run(
        [sys.executable, "-c", hurried(block)],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "['can', 'carton', 'milk_bottle', 'water_bottle']" in done.stdout


def test_links_lead_somewhere() -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", TEXT):
        assert (ROOT / target).exists(), target
