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
from accelerate import Accelerator
from torch import Tensor, nn

from autofocus.manifest import DataInfo, Manifest, ResizeCrop, WeightsInfo
from autofocus.models import catalog
from autofocus.models.base import LoadedWeights
from autofocus.models.network import Classifier
from autofocus.models.timm.classifiers import build_classifier
from autofocus.runtime import no_progress, process_rank
from autofocus.tasks.multiclass import MulticlassClassification
from autofocus.training import distributed, finetune_trial, loop
from autofocus.training.candidate import Candidate, Samples
from autofocus.training.device import make_accelerator
from autofocus.training.finetune_trial import Finetuning, run_finetune, train_on_worker
from autofocus.training.loop import Trained
from autofocus.training.probe_trial import Probed, ProbeSetup
from autofocus.training.recipe import Recipe

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
    counted(finetune_trial, "draw_curves")
    counted(finetune_trial, "write_atomically")
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
    # 18 to learn from: with a batch of 7 the last one is left out, and ranks get 4 and 3.
    parts = [
        Samples(
            [row for i, row in enumerate(rows) if (i % 4 == 0) == held_out],
            [str(file) for i, file in enumerate(files) if (i % 4 == 0) == held_out],
            "photos",
        )
        for held_out in (False, True)
    ]
    spec = catalog.resolve("test_resnet")
    labels = sorted({file.parent.name for file in files})
    setup = ProbeSetup(
        task=task,
        weights=LoadedWeights(spec, None, WeightsInfo("random", "none"), "random"),
        preprocess=ResizeCrop(36, SIDE),
        labels=labels,
        validation_frac=0.25,
        seed=7,
        device=torch.device("cpu"),
        data_fingerprint="0" * 64,
        deadline_s=None,
    )
    network = build_classifier(spec, len(labels), None, SIDE)
    network.extra = nn.Parameter(torch.zeros(3, 1, 1))
    network.register_forward_pre_hook(brighten)
    manifest = Manifest(
        task=task.name,
        labels=labels,
        model_name=spec.name,
        preprocess=setup.preprocess,
        weights=setup.weights.info,
        data=DataInfo("0" * 64, 18, 6),
    )
    writes = count_writes()
    if process_rank() > 0:
        distributed.connect()
        order = distributed.receive()
        accelerator = make_accelerator(torch.device(order.device_type))
        assert order.run is train_on_worker
        job = order.kind(**order.fields, accelerator=accelerator)
        say(folder, accelerator, train_on_worker(job, *order.rest), len(writes))
        return
    distributed.connect()
    accelerator = make_accelerator(setup.device)
    finetuned = run_finetune(
        Finetuning(
            setup=setup,
            recipe=replace(RECIPE, num_epochs=4 if seconds is None else 100_000, **changes),
            accelerator=accelerator,
            primary_metric="accuracy",
            folder=folder / "trial",
            deadline_s=None if seconds is None else time.monotonic() + seconds,
            should_stop=lambda: False,
            on_epoch=lambda report: False,
            track=no_progress,
        ),
        Probed(Candidate(network, manifest, {}, []), network, parts[0], parts[1], [], np.zeros(0)),
    )
    say(folder, accelerator, finetuned.trained, len(writes))


def say(folder: Path, accelerator: Accelerator, trained: Trained, num_writes: int) -> None:
    """Write down what this process has at its end."""
    with torch.no_grad():
        images = torch.linspace(-1, 1, 2 * 3 * SIDE * SIDE).reshape(2, 3, SIDE, SIDE)
        outputs = trained.network(images)
    document = {
        "rank": accelerator.process_index,
        "num_ranks": accelerator.num_processes,
        "epochs": trained.num_epochs,
        "reason": trained.reason,
        "num_writes": num_writes,
        "outputs": outputs.tolist(),
        "probs": [scores.probs.tolist() for scores in trained.evaluation.predictions],
    }
    (folder / f"result{accelerator.process_index}.json").write_text(json.dumps(document))


if __name__ == "__main__":
    photos, folder, *rest = sys.argv[1:]
    seconds, changes = [*rest, *["0", "{}"][len(rest) :]]
    main(Path(photos), Path(folder), float(seconds) or None, json.loads(changes))
