"""Fine-tunes a tiny network; run by torchrun from test_ddp.py, as one process or as several.

python -m torch.distributed.run --nproc-per-node 2 ddp_run.py PHOTOS FOLDER [SECONDS] [RECIPE]

RECIPE is JSON: changes to the recipe.
"""

import json
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from autofocus.manifest import DataInfo, Manifest, ResizeCrop, WeightsInfo
from autofocus.models import catalog
from autofocus.models.base import LoadedWeights
from autofocus.models.network import Classifier
from autofocus.models.timm.classifiers import build_classifier
from autofocus.runtime import process_count, process_rank
from autofocus.tasks.multiclass import MulticlassClassification
from autofocus.training import distributed, loop, trial_loop
from autofocus.training.candidate import Candidate, Samples
from autofocus.training.classifier_trial import _rank_epochs
from autofocus.training.loop import Trained
from autofocus.training.recipe import Recipe
from autofocus.training.trial import RunContext, TrialSpec, WeightsChoice
from autofocus.training.trial_loop import running, train_share, write_result

SIDE = 32


RECIPE = Recipe(batch_size=7, label_smoothing=0.1, weighted_loss=2, early_stopping=False)


def count_writes() -> list[str]:
    """Return a list that grows with each file or folder that training writes."""
    writes: list[str] = []

    def counted(owner: Any, name: str) -> None:
        original = getattr(owner, name)

        def write(*args: Any) -> None:
            writes.append(name)
            original(*args)

        setattr(owner, name, write)

    counted(loop.checkpoint, "save_checkpoint")
    counted(loop, "write_atomically")
    counted(trial_loop, "draw_curves")
    counted(trial_loop, "write_atomically")
    return writes


def brighten(network: Classifier, given: tuple[Tensor]) -> tuple[Tensor] | None:
    """Use a layer for bright images only: batches without one give it no gradient."""
    images = given[0]
    is_bright = images.mean(dim=(1, 2, 3)) > 0.1
    if not is_bright.any():
        return None
    return (images + is_bright[:, None, None, None] * network.extra,)


def main(photos: Path, folder: Path, seconds: float | None, changes: dict[str, Any]) -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    task = MulticlassClassification()
    files = sorted(photos.rglob("*.png"))
    rows = [task.record_type(image_url=str(file), label=file.parent.name) for file in files]
    labels = sorted({file.parent.name for file in files})
    names = [str(file) for file in files]
    samples = Samples(rows, names, task.encode_targets(rows, labels), names, names, "photos")
    # 18 to learn from: with a batch of 7 the last one is left out, and ranks get 4 and 3.
    everything = np.arange(len(files))
    spec = TrialSpec(
        id="trial",
        task=task,
        labels=labels,
        model=catalog.resolve("test_resnet"),
        weights=WeightsChoice("random"),
        preprocess=ResizeCrop(36, SIDE),
        recipe=replace(RECIPE, num_epochs=4 if seconds is None else 100_000, **changes),
        train=everything[everything % 4 > 0],
        validation=everything[::4],
        primary_metric="accuracy",
        seed=7,
        device="cpu",
        data_fingerprint="0" * 64,
    )
    network = build_classifier(spec.model, len(labels), None, SIDE)
    network.extra = nn.Parameter(torch.zeros(3, 1, 1))
    network.register_forward_pre_hook(brighten)
    manifest = Manifest(
        task=task.name,
        labels=labels,
        model_name=spec.model.name,
        preprocess=spec.preprocess,
        weights=WeightsInfo("random", "none"),
        data=DataInfo("0" * 64, 18, 6),
    )
    writes = count_writes()
    distributed.connect()
    if process_rank() > 0:
        order = distributed.receive()
        assert order.run is train_share
        say(folder, train_share(*order.arguments), len(writes))
        return
    deadline_s = None if seconds is None else time.monotonic() + seconds
    context, device = RunContext(folder / "trial", deadline_s), torch.device("cpu")
    weights = LoadedWeights(spec.model, None, manifest.weights, "random")
    with running(spec, network, weights, samples, context, device, _rank_epochs) as opened:
        trained = opened.run()
    write_result(spec, Candidate(network, manifest, []), context.folder)
    say(folder, trained, len(writes))


def say(folder: Path, trained: Trained, num_writes: int) -> None:
    """Write down what this process has at its end."""
    with torch.no_grad():
        images = torch.linspace(-1, 1, 2 * 3 * SIDE * SIDE).reshape(2, 3, SIDE, SIDE)
        outputs = trained.network(images)
    document = {
        "rank": process_rank(),
        "num_ranks": process_count(),
        "epochs": trained.num_epochs,
        "reason": trained.reason,
        "num_writes": num_writes,
        "outputs": outputs.tolist(),
        "probs": [scores.probs.tolist() for scores in trained.evaluation.predictions],
    }
    (folder / f"result{process_rank()}.json").write_text(json.dumps(document))


if __name__ == "__main__":
    photos, folder, *rest = sys.argv[1:]
    seconds, changes = [*rest, *["0", "{}"][len(rest) :]]
    main(Path(photos), Path(folder), float(seconds) or None, json.loads(changes))
