"""`autofocus train` beside the best frozen encoder, judged by photos that neither has seen.

    scripts/bench quality fridge coco-multilabel scenes cells coco-objects --budget 3m
    scripts/bench quality scenes --budget 1m,3m,10m
    scripts/bench quality fridge --budget 3m --runs 1 -- --set training_parameters.model_name=...

Sets and who judges whom: datasets.py. Each run is the real command, with an empty cache, on the
photos that do not judge; its packaged model scores the others. The peer (frozen_peer.py) learns
from the same photos; the encoder that folds of these chose is called the peer, the others are
shown beside it. Differences are paired, with bootstrap 90 % intervals over groups of photos; a
negative difference of log loss is in favour of what stands on the right. Several budgets are
compared with each other too, on the runs that each has.

Finished runs stay in `--output` (a JSON file each) and are read when the command is given again.
Arguments after `--` go to `train`; give runs with other arguments another `--output`.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from bootstrap import difference
from datasets import GROUP_COLUMN, MULTILABEL, SETS, ImageSet, write_rows
from frozen_peer import ENCODERS, frozen_features, judge, targets_of

from autofocus import load
from autofocus.runtime import write_atomically
from autofocus.structures.predictions import ClassScores
from autofocus.tasks import TASKS

NUM_DRAWS = 2_000
SECONDS = {"s": 1, "m": 60, "h": 3600}

Document = dict[str, Any]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("sets", nargs="+", choices=SETS)
    parser.add_argument("--budget", default="3m", help="one or more: 1m,3m,10m")
    parser.add_argument("--runs", type=int, help="only the first so many of a set's runs")
    parser.add_argument("--output", "-o", type=Path, default=Path(tempfile.gettempdir(), "quality"))
    own, train_options = _divided(sys.argv[1:])
    arguments = parser.parse_args(own)
    for name in arguments.sets:
        images = SETS[name](arguments.output / "photos")
        runs = range(min(arguments.runs or len(images.judges), len(images.judges)))
        print(f"\n{name}: {len(images.rows)} photos, {len(images.labels)} classes", flush=True)
        peers = [_peers(images, run, arguments.output / name / f"peer-{run}.json") for run in runs]
        shown = Comparison(images, runs)
        ours: dict[str, np.ndarray] = {}
        for budget in arguments.budget.split(","):
            results = []
            for run in runs:
                path = arguments.output / name / f"{budget}-{run}.json"
                results.append(_once(path, partial(_train, images, run, budget, train_options)))
                _print_run(run, results[-1], budget)
            ours[budget] = shown.pooled([result["probs"] for result in results])
            _print_against_peers(shown, peers, budget, ours[budget])
            _print_use(results, budget)
        for shorter, longer in pairwise(ours):
            shown.print(f"{shorter} -> {longer}", ours[shorter], ours[longer])


def _divided(arguments: list[str]) -> tuple[list[str], list[str]]:
    if "--" not in arguments:
        return arguments, []
    place = arguments.index("--")
    return arguments[:place], arguments[place + 1 :]


def _once(path: Path, make: Callable[[], Document]) -> Document:
    """Return what the file holds; make it if it is not there."""
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, json.dumps(make()).encode())
    found: Document = json.loads(path.read_bytes())
    return found


def _peers(images: ImageSet, run: int, path: Path) -> Document:
    """Return what each frozen encoder says, by its name."""
    locations = [str(row["image_url"]) for row in images.rows]

    def make() -> Document:
        found = {}
        for encoder in ENCODERS:
            features = frozen_features(encoder, locations, path.parent / "features")
            judged = judge(images, run, features)
            found[encoder] = {"inner_loss": judged.inner_loss, "probs": judged.probs.tolist()}
        return found

    return _once(path, make)


def _train(images: ImageSet, run: int, budget: str, options: list[str]) -> Document:
    """Train and score; return probabilities and what the run says of itself."""
    rows = [images.rows[i] for i in images.learners(run)]
    with tempfile.TemporaryDirectory() as work:
        data, folder = write_rows(Path(work) / "train.jsonl", rows), Path(work) / "run"
        command = [sys.executable, "-m", "autofocus", "train", "--task", images.task]
        command += ["--data", str(data), "--image-root", "/", "--output-dir", str(folder)]
        command += ["--group-column", GROUP_COLUMN] if GROUP_COLUMN in rows[0] else []
        command += ["--budget", budget, "--json", *options]
        # Features that an earlier run left would be time that this one need not spend.
        environment = {**os.environ, "AUTOFOCUS_CACHE": str(Path(work) / "cache")}
        started_s = time.monotonic()
        done = subprocess.run(command, stdout=subprocess.PIPE, env=environment, check=False)
        seconds = time.monotonic() - started_s
        if done.returncode:
            sys.exit(f"train ended with {done.returncode}")
        result = json.loads(done.stdout)
        decisions = (folder / "decisions.jsonl").read_text().splitlines()
        return {
            "probs": _scored(images, run, folder / "best_model"),
            "seconds": seconds,
            "seconds_to_first_model": result["seconds_to_first_model"],
            "best_trial": result["best_trial"],
            "said_log_loss": result["metrics"]["log_loss"],
            "last_decision": json.loads(decisions[-1]),
            "decisions": [json.loads(line) for line in decisions],
            "trials": result["trials"],
        }


def _scored(images: ImageSet, run: int, folder: Path) -> list[list[float]]:
    model = load(folder)
    columns = [images.labels.index(name) for name in model.labels]
    judges = images.judges[run]
    probs = np.zeros((len(judges), len(images.labels)))
    replies = model.score([str(images.rows[i]["image_url"]) for i in judges])
    probs[:, columns] = [reply["probs"] for reply in replies]
    return probs.tolist()


class Comparison:
    """Losses and hits of probabilities for the photos that judge, pooled over the runs."""

    def __init__(self, images: ImageSet, runs: Sequence[int]) -> None:
        places = np.concatenate([images.judges[run] for run in runs])
        self.task, self.labels = TASKS[images.task], images.labels
        self.targets = targets_of(images)[places]
        self.groups = [images.groups[i] for i in places]
        self._losses_a_row = len(images.labels) if images.task == MULTILABEL else 1

    @staticmethod
    def pooled(probs: Sequence[list[list[float]]]) -> np.ndarray:
        return np.concatenate([np.array(part) for part in probs])

    def losses(self, probs: np.ndarray) -> np.ndarray:
        """Return each photo's log loss, as the metric has it: a mean over labels of several."""
        predictions = [ClassScores(row) for row in probs]
        return self.task.sample_losses(predictions, self.targets) / self._losses_a_row

    def hits(self, probs: np.ndarray) -> np.ndarray:
        """Return whether each photo's classes are all right."""
        if self.targets.ndim == 2:
            return ((probs >= 0.5) == (self.targets > 0)).all(axis=1)
        return probs.argmax(axis=1) == self.targets

    def print(self, title: str, before: np.ndarray, after: np.ndarray) -> None:
        for name, values_of in (("log loss", self.losses), ("accuracy", self.hits)):
            first, second = values_of(before), values_of(after)
            found = difference(
                lambda rows, values=first: float(values[rows].mean()),
                lambda rows, values=second: float(values[rows].mean()),
                len(first),
                NUM_DRAWS,
                self.groups,
            )
            print(f"  {title:24} {name}  {found}", flush=True)


def _print_run(run: int, result: Document, budget: str) -> None:
    decision = result["last_decision"]
    print(
        f"  run {run}, {budget}: {result['best_trial']}, {result['seconds']:.0f} s, "
        f"first model after {result['seconds_to_first_model']:.1f} s; it says log loss "
        f"{result['said_log_loss']:.4f}; last decision {json.dumps(decision)}",
        flush=True,
    )


def _print_against_peers(
    shown: Comparison, peers: list[Document], budget: str, ours: np.ndarray
) -> None:
    chosen = [min(found, key=lambda encoder: found[encoder]["inner_loss"]) for found in peers]
    peer = shown.pooled(
        [found[encoder]["probs"] for found, encoder in zip(peers, chosen, strict=True)]
    )
    shown.print(f"peer -> {budget}", peer, ours)
    print(f"    peer: {dict(Counter(chosen))}")
    for encoder in ENCODERS:
        probs = shown.pooled([found[encoder]["probs"] for found in peers])
        shown.print(f"{encoder.split('.')[0][-5:]} -> {budget}", probs, ours)


def _print_use(results: list[Document], budget: str) -> None:
    shares = [result["seconds"] / (float(budget[:-1]) * SECONDS[budget[-1]]) for result in results]
    first = [result["seconds_to_first_model"] for result in results]
    ends = Counter(result["last_decision"]["decision"] for result in results)
    print(
        f"  used {np.mean(shares):.2f} of {budget} ({min(shares):.2f} to {max(shares):.2f}); first "
        f"model after {np.median(first):.0f} s ({min(first):.0f} to {max(first):.0f}); last "
        f"decisions {dict(ends)}"
    )


if __name__ == "__main__":
    main()
