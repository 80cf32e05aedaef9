"""What `scripts/house` reports, on a package small enough to count by hand."""

import json
import os
import subprocess
import sys
from pathlib import Path

SCRIPTS = Path(__file__).parents[3] / "scripts"

MAIN = """
from p.study import run
run()
"""
STUDY = """
import contextlib, os, sys, tempfile
import torch
from p.rows import Batch, Loader, read

class Study:
    def fit(self):
        weight = torch.nn.Parameter(torch.zeros(1))
        optimizer = torch.optim.SGD([weight])
        optimizer.step()  # Of something else: there is no batch yet.
        for batch in Loader().batches():
            self.step(optimizer, batch)

    def step(self, optimizer, batch):
        optimizer.step()

def run():
    records = read()
    study = Study()
    study.fit()
    with contextlib.suppress(Exception):
        torch.onnx.export(None, ())
    with tempfile.TemporaryDirectory() as folder:
        os.mkdir(f"{folder}/1")
        os.symlink("1", f"{folder}/new")
        os.replace(f"{folder}/new", f"{folder}/best_model")
"""
ROWS = """
class RowRecord: ...

class Batch:
    images = None

class Loader:
    def batches(self):
        yield Batch()
        yield Batch()

def read():
    return [RowRecord()]
"""


def test_the_points_of_a_run_are_found(tmp_path: Path) -> None:
    package, result = tmp_path / "p", tmp_path / "trace.json"
    package.mkdir()
    for name, text in {"__init__": "", "__main__": MAIN, "study": STUDY, "rows": ROWS}.items():
        (package / f"{name}.py").write_text(text)
    subprocess.run(
        [sys.executable, SCRIPTS / "trace_run.py", package, result],
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        check=True,
    )
    found = json.loads(result.read_text())
    assert found["status"] == 0
    points = found["points"]
    # `__main__` and `run` are on every stack.
    assert {name: point["frames"] for name, point in points.items()} == {
        "record": 3,
        "batch": 4,
        "step": 4,
        "onnx": 2,
        "publish": 2,
    }
    assert points["record"]["files"] == ["__main__.py", "rows.py", "study.py"]
    assert points["batch"]["classes"] == ["rows.Loader", "study.Study"]
    assert points["step"]["classes"] == ["rows.Batch", "study.Study"]


def test_the_figures_of_the_source_are_read() -> None:
    command = [sys.executable, SCRIPTS / "house.py", "--static", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    found = json.loads(done.stdout)
    files = [path.read_text() for path in (SCRIPTS.parent / "src").rglob("*.py")]
    assert found["tree"] == "working tree"
    assert found["source"]["lines"] == sum(text.count("\n") for text in files)
    assert found["source"]["modules"] == sum(bool(text) for text in files)
    assert "run" not in found
