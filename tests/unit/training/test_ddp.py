"""Two processes train as one: the same losses, the same network, one writer, one end."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

pytestmark = pytest.mark.skipif(
    not torch.distributed.is_available(), reason="this torch has no torch.distributed"
)
SCRIPT = Path(__file__).parents[2] / "support" / "ddp_run.py"


def train(num_processes: int, photos: Path, folder: Path, *arguments: str) -> list[dict[str, Any]]:
    """Run the script as that many processes; return what each of them says at its end."""
    folder.mkdir()
    launch = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={num_processes}"]
    done = subprocess.run(
        [
            sys.executable,
            *(launch if num_processes > 1 else []),
            SCRIPT,
            photos,
            folder,
            *arguments,
        ],
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    return [json.loads((folder / f"result{k}.json").read_text()) for k in range(num_processes)]


def metrics_of(folder: Path) -> list[dict[str, Any]]:
    text = (folder / "trial" / "metrics.jsonl").read_text()
    return [json.loads(line) for line in text.splitlines()]


@pytest.mark.parametrize(
    "changes",
    [{"batch_size": 5, "accumulation": 3}, pytest.param({}, marks=pytest.mark.slow)],
    ids=["pieces", "batch"],
)
def test_two_processes_have_the_loss_curve_of_one(
    photo_folder: Path, tmp_path: Path, changes: dict[str, Any]
) -> None:
    """One batch of 7 is split into 4 and 3 images, with class weights: every share counts.

    With batches of 5 one process has three pieces of 3 images a step, the other two. A layer that
    only bright images reach has a gradient on neither, one or both.
    """
    (one,) = train(1, photo_folder, tmp_path / "one", "0", json.dumps(changes))
    two = train(2, photo_folder, tmp_path / "two", "0", json.dumps(changes))
    assert [result["num_ranks"] for result in (one, *two)] == [1, 2, 2]
    rows, other_rows = metrics_of(tmp_path / "one"), metrics_of(tmp_path / "two")
    assert len(rows) == len(other_rows) == 5
    for name in ("loss", "log_loss", "score", "learning_rate"):
        curve = [row[name] for row in rows if row[name] is not None]
        other_curve = [row[name] for row in other_rows if row[name] is not None]
        assert curve == pytest.approx(other_curve, abs=1e-4), name
    assert rows[-1]["loss"] < rows[1]["loss"]
    # Both processes hold the network that was kept.
    assert np.allclose(two[0]["outputs"], two[1]["outputs"], atol=1e-6)
    assert np.allclose(one["outputs"], two[0]["outputs"], atol=1e-4)
    assert two[0]["probs"] == two[1]["probs"]
    assert np.allclose(one["probs"], two[0]["probs"], atol=1e-4)
    assert two[0]["num_writes"] == one["num_writes"]
    assert two[1]["num_writes"] == 0


def test_two_processes_end_together_when_time_is_up(photo_folder: Path, tmp_path: Path) -> None:
    """Their clocks differ; were each to decide alone, one would wait for the other for ever."""
    two = train(2, photo_folder, tmp_path / "two", "4")
    assert [result["reason"] for result in two] == ["budget", "budget"]
    assert two[0]["epochs"] == two[1]["epochs"] > 0
