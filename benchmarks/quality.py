"""Out-of-fold quality of `autofocus train` on real photos, through the whole product.

    python benchmarks/quality.py fridge
    python benchmarks/quality.py coco-multilabel -- --budget 3m

Each of 5 outer folds (seed 0) is one run of the real command on the other four, given to it as
plain training data (it holds out its own validation share); the packaged model then scores the
fold's photos. Nothing of a fold is seen before that. Arguments after `--` go to `train`. Prints
one table and one JSON line; probabilities are kept with -o for comparisons.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from datasets import coco_multilabel_rows, fridge_rows, stratified_folds, write_rows

from autofocus import load
from autofocus.tasks import TASKS

SETS = {
    "fridge": (fridge_rows, "image_classification"),
    "coco-multilabel": (coco_multilabel_rows, "image_classification_multilabel"),
}


def main() -> None:
    arguments, train_options = _arguments()
    read, task_name = SETS[arguments.data]
    rows = read()
    task = TASKS[task_name]
    labels = sorted({n for row in rows for n in _names(row["label"])})
    probs = np.zeros((len(rows), len(labels)), np.float32)
    with tempfile.TemporaryDirectory() as work:
        for k, fold in enumerate(stratified_folds(rows)):
            result = _train(Path(work) / str(k), rows, fold, task_name, train_options)
            model = load(result["best_model"])
            columns = [labels.index(name) for name in model.labels]
            for i in fold:
                (reply,) = model.score([str(rows[i]["image_url"])])
                probs[i, columns] = reply["probs"]
            print(
                f"fold {k}: first verified model after {result['seconds_to_first_model']:.1f} s, "
                f"whole command {result['command_seconds']:.1f} s, "
                f"best {[t['id'] for t in result['trials'] if t['status'] == 'completed']}",
                flush=True,
            )
    records = [task.record_type(image_url=str(r["image_url"]), label=r["label"]) for r in rows]
    targets = task.encode_targets(records, labels)
    from autofocus.structures.predictions import ClassScores

    metrics = task.evaluate([ClassScores(p) for p in probs], targets, labels, {})
    _report(arguments, rows, labels, metrics)
    if arguments.output:
        np.savez(arguments.output, probs=probs, targets=targets, labels=np.array(labels))


def _arguments() -> tuple[argparse.Namespace, list[str]]:
    own, _, rest = " ".join(sys.argv[1:]).partition(" -- ")
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", choices=SETS)
    parser.add_argument("-o", "--output", help="keep probabilities and targets (.npz)")
    return parser.parse_args(own.split()), rest.split()


def _train(work: Path, rows, fold: list[int], task: str, options: list[str]) -> dict:
    held_out = set(fold)
    data = write_rows(work / "train.jsonl", [r for i, r in enumerate(rows) if i not in held_out])
    command = [sys.executable, "-m", "autofocus", "train", "--task", task, "--data", str(data)]
    command += ["--image-root", "/", "--output-dir", str(work / "run"), "--json", *options]
    started_s = time.monotonic()
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(done.stderr)
    return {**json.loads(done.stdout), "command_seconds": time.monotonic() - started_s}


def _names(label) -> list[str]:
    return [label] if isinstance(label, str) else label


def _report(arguments, rows, labels, metrics) -> None:
    names = ("accuracy", "log_loss", "iou", "average_precision_score_macro", "AUC_macro")
    names += ("expected_calibration_error",)
    shown = {name: metrics[name] for name in names if metrics.get(name) is not None}
    print(f"{arguments.data}: {len(rows)} photos, {len(labels)} classes, out of fold")
    for name, value in shown.items():
        print(f"  {name:32} {value:.4f}")
    print(json.dumps({"data": arguments.data, **shown}))


if __name__ == "__main__":
    main()
