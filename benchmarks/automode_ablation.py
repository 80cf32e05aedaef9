"""What each part of a classifier's AutoMode is worth: the same choice without it, on unseen photos.

    scripts/bench automode_ablation scenes fridge --runs 2

For each run of a set (datasets.py) every candidate is made once, with as much time as it takes:
heads on frozen encoders, alone and side by side, on photos and mirror images; tails at three mixes
with the head's network (WiSE-FT), and two trained networks as one. They are judged out of fold on
the photos to learn from, one is chosen by the product's rule, and the photos that judge, which took
part in nothing, say what it is worth. Then the same with a part left out:

    ladder          the first encoder alone
    mirror          heads learn from photos alone
    side by side    one encoder a model
    tail            heads on frozen features alone
    WiSE            the trained weights alone, no mix
    shrinkage       the lowest out-of-fold loss wins, whatever its error
    refit           the network of the first fold is served, which four fifths taught

A change above 0 says that the part helps. Intervals are paired, 90 %, over groups of photos.
Candidates stay in `--output`, an encoder of a run a file; the same command goes on from there.
"""

import argparse
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from bootstrap import difference
from datasets import SETS, ImageSet, names_of
from frozen_peer import probabilities, targets_of
from quality import NUM_DRAWS, Comparison

from autofocus.data.images.fetch import content_hash
from autofocus.manifest import ResizeCrop
from autofocus.metrics.calibration import cross_fitted_temperature
from autofocus.models import catalog
from autofocus.models.network import Classifier
from autofocus.models.timm.classifiers import build_classifier
from autofocus.models.weights.load import load_weights
from autofocus.tasks import TASKS
from autofocus.training.activations import Activations, compute_activations
from autofocus.training.candidate import Samples
from autofocus.training.folds import Folds, make_folds
from autofocus.training.probe import HEADS, FoldedHead, fit_folded_head
from autofocus.training.selection import Scored, choose
from autofocus.training.tail import fit_all, fit_tail, mixed_tail, tail_logits, tail_recipe

# An encoder, and whose images it sees: the second sees what the third does, as in the product, so
# that they can lie side by side.
ENCODERS = {"lite0": "lite0", "lite1": "lite2", "lite2": "lite2"}
SIDE_BY_SIDE = ("lite1", "lite2")
SHARES = (0.25, 0.5, 1.0)
NUM_VIEWS, NUM_EPOCHS = 8, 8
PHOTO, MIRROR = "photo", "photo and mirror image"


@dataclass(frozen=True)
class Logits:
    """Logits of a candidate.

    Attributes:
        fold: Of the photos to learn from, in the order of the folds, out of fold, [n, k].
        refit: Of those that judge, [m, k], by the network that all of the former taught.
        single: The same by the network of the first fold.
    """

    fold: np.ndarray
    refit: np.ndarray
    single: np.ndarray


@dataclass(frozen=True)
class Candidate:
    """A model to choose.

    Attributes:
        encoders: Names of its encoders.
        kind: `head`, `tail` or `pair` of tails.
        detail: Views of a head, trained share of a tail.
        size: Number of its parameters.
        logits: What it says, not calibrated.
    """

    encoders: tuple[str, ...]
    kind: str
    detail: object
    size: float
    logits: Logits

    def __str__(self) -> str:
        alone = self.detail in (PHOTO, MIRROR, None)
        return f"{self.kind} {'+'.join(self.encoders)}" + ("" if alone else f" at {self.detail:g}")


@dataclass(frozen=True)
class Part:
    """A run of a set: who learns, who judges, and folds of the former."""

    images: ImageSet
    run: int
    folds: Folds
    targets: np.ndarray

    @property
    def learners(self) -> np.ndarray:
        return self.images.learners(self.run)

    @property
    def judges(self) -> np.ndarray:
        return self.images.judges[self.run]

    @property
    def activation(self) -> str:
        return TASKS[self.images.task].activation


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("sets", nargs="*", choices=SETS, default=["scenes", "fridge"])
    parser.add_argument("--runs", type=int, default=2, help="only the first so many of a set's")
    parser.add_argument("--output", "-o", type=Path, default=Path(tempfile.gettempdir(), "quality"))
    arguments = parser.parse_args()
    for name in arguments.sets:
        images = SETS[name](arguments.output / "photos")
        runs = range(min(arguments.runs, len(images.judges)))
        folder = arguments.output / name / "ablation"
        parts = [_part(images, run) for run in runs]
        found = [_candidates(part, folder) for part in parts]
        _print_table(name, parts, found)


def _part(images: ImageSet, run: int) -> Part:
    learners = images.learners(run)
    labels = [names_of(images.rows[i]) for i in learners]
    folds = make_folds(labels, [images.groups[i] for i in learners], seed=0)
    return Part(images, run, folds, targets_of(images))


def _candidates(part: Part, folder: Path) -> list[Candidate]:
    """Return all candidates, the first one the reference; from files as far as they are there."""
    found, features, sizes = [], {}, {}
    for name in ENCODERS:
        # Another recipe makes other candidates.
        made_with = content_hash(repr(tail_recipe(NUM_EPOCHS)).encode())[:8]
        path = folder / f"{part.run}-{name}-{made_with}.npz"
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            started_s = time.process_time()
            made = _encoder_candidates(part, name, folder)
            np.savez(path, **made)
            print(f"{path}: {time.process_time() - started_s:.0f} CPU s", flush=True)
        kept = dict(np.load(path))
        features[name], sizes[name] = kept.pop("features"), float(kept.pop("size"))
        found += [
            Candidate((name,), kind, detail, sizes[name], _unpacked(kept, kind, detail))
            for kind, detail in _kinds()
        ]
    both = np.concatenate([features[name] for name in SIDE_BY_SIDE], axis=2)
    size = sum(sizes[name] for name in SIDE_BY_SIDE)
    for views in (PHOTO, MIRROR):
        logits = _head_logits(part, _head(part, both, views), both)
        found.append(Candidate(SIDE_BY_SIDE, "head", views, size, logits))
    # The first one is what the others are compared with.
    return sorted(found, key=lambda one: (one.kind, one.detail) != ("head", MIRROR))


def _kinds() -> list[tuple[str, Any]]:
    return [("head", PHOTO), ("head", MIRROR), *(("tail", share) for share in SHARES)]


def _unpacked(kept: dict[str, np.ndarray], kind: str, detail: object) -> Logits:
    return Logits(*(kept[f"{kind} {detail} {name}"] for name in ("fold", "refit", "single")))


def _encoder_candidates(part: Part, name: str, folder: Path) -> dict[str, np.ndarray]:
    """Return logits of heads and tails of an encoder by name, its features and its size."""
    spec = catalog.resolve(f"tf_efficientnet_{name}.in1k")
    preprocess = catalog.resolve(f"tf_efficientnet_{ENCODERS[name]}.in1k").preprocess
    side, num_classes = preprocess.size[0], len(part.images.labels)
    network = build_classifier(spec, num_classes, load_weights(spec), side)
    activations = _activations(part.images, network, preprocess, folder / "activations")
    features = activations.features[:, :2]
    head = _head(part, features, MIRROR)
    made = {("head", MIRROR): _head_logits(part, head, features)}
    made["head", PHOTO] = _head_logits(part, _head(part, features, PHOTO), features)
    for share, logits in _tails(part, network, head, activations).items():
        made["tail", share] = logits
    arrays = {
        f"{kind} {detail} {field}": array
        for (kind, detail), logits in made.items()
        for field, array in vars(logits).items()
    }
    size = sum(tensor.numel() for tensor in network.parameters())
    return {**arrays, "features": features, "size": np.array(size)}


def _activations(
    images: ImageSet, network: Classifier, spec: ResizeCrop, folder: Path
) -> Activations:
    locations = [str(row["image_url"]) for row in images.rows]
    samples = Samples(
        records=images.rows,
        locations=locations,
        targets=targets_of(images),
        hashes=[content_hash(Path(location).read_bytes()) for location in locations],
        groups=images.groups,
        source="benchmark",
    )
    found = compute_activations(
        network,
        network.cuts[0],
        spec,
        samples,
        num_views=NUM_VIEWS,
        folder=folder,
        device=torch.device("cpu"),
        seed=0,
    )
    assert found is not None, "nothing ends it early"
    return found


def _head(part: Part, features: np.ndarray, views: str) -> FoldedHead:
    rows = features[part.learners]
    return fit_folded_head(
        rows if views == MIRROR else rows[:, :1],
        part.targets[part.learners],
        part.folds,
        kind=part.activation,
        num_classes=len(part.images.labels),
        seed=0,
    )


def _head_logits(part: Part, head: FoldedHead, features: np.ndarray) -> Logits:
    judges = features[part.judges, 0]
    return Logits(head.logits, head.heads[-1].logits(judges), head.heads[0].logits(judges))


def _tails(
    part: Part, network: Classifier, head: FoldedHead, activations: Activations
) -> dict[float, Logits]:
    """Train a tail for each fold and one for all; return their logits by trained share."""
    recipe = tail_recipe(NUM_EPOCHS)

    def fit(index: int) -> dict[float, tuple[np.ndarray, np.ndarray]]:
        tail = network.cut_at(network.cuts[0]).tail
        tail.set_head(head.heads[index].weight, head.heads[index].bias)
        train = part.learners[part.folds.fits[index]]
        state = fit_tail(
            tail, activations, part.targets, train, task=part.images.task, recipe=recipe, seed=0
        )
        assert state is not None, "nothing ends it early"
        is_last = index == len(part.folds.parts)
        fold = part.learners[part.folds.parts[index][1]] if not is_last else part.judges[:0]
        judges = part.judges if is_last or index == 0 else part.judges[:0]
        logits = {}
        for share in SHARES:
            mixed = mixed_tail(tail, state, share)
            logits[share] = tuple(tail_logits(mixed, activations, each) for each in (fold, judges))
        return logits

    fitted = fit_all([partial(fit, index) for index in range(len(part.folds.fits))])
    return {
        share: Logits(
            np.concatenate([each[share][0] for each in fitted[:-1]]),
            fitted[-1][share][1],
            fitted[0][share][1],
        )
        for share in SHARES
    }


@dataclass(frozen=True)
class Variant:
    """A way to choose.

    Attributes:
        name: What is left out.
        is_allowed: Whether a candidate may be chosen.
        is_shrunk: Whether gains are shrunk.
        is_refit: Whether the network that all photos taught is served.
    """

    name: str
    is_allowed: Callable[[Candidate], bool] = lambda one: one.detail != PHOTO
    is_shrunk: bool = True
    is_refit: bool = True


def _with_mirror(is_allowed: Callable[[Candidate], bool]) -> Callable[[Candidate], bool]:
    return lambda one: one.detail != PHOTO and is_allowed(one)


VARIANTS = (
    Variant("nothing"),
    Variant("ladder", _with_mirror(lambda one: one.encoders == ("lite0",))),
    Variant("mirror", lambda one: one.detail != MIRROR),
    Variant("side by side", _with_mirror(lambda one: len(one.encoders) == 1)),
    Variant("tail", _with_mirror(lambda one: one.kind == "head")),
    Variant("WiSE", _with_mirror(lambda one: one.kind == "head" or one.detail in (1.0, None))),
    Variant("shrinkage", is_shrunk=False),
    Variant("refit", is_refit=False),
    Variant(
        "all of it", _with_mirror(lambda one: (one.encoders, one.kind) == (("lite0",), "head"))
    ),
)


def _print_table(name: str, parts: Sequence[Part], found: Sequence[list[Candidate]]) -> None:
    shown = Comparison(parts[0].images, [part.run for part in parts])
    probs, names = {}, {}
    for variant in VARIANTS:
        served = [_serve(part, each, variant) for part, each in zip(parts, found, strict=True)]
        probs[variant.name] = np.concatenate([each for _, each in served])
        names[variant.name] = Counter(str(chosen) for chosen, _ in served)
    everything = shown.losses(probs["nothing"])
    print(f"\n{name}, {len(everything)} photos judge")
    print("| left out | log loss | change | accuracy | chosen |\n|---|---|---|---|---|")
    for variant in VARIANTS:
        losses, hits = shown.losses(probs[variant.name]), shown.hits(probs[variant.name])
        change = difference(
            lambda rows: float(everything[rows].mean()),
            lambda rows, values=losses: float(values[rows].mean()),
            len(losses),
            NUM_DRAWS,
            shown.groups,
        )
        assert change is not None, "a loss is defined everywhere"
        text = f"{change.after - change.before:+.4f} [{change.low:+.4f}, {change.high:+.4f}]"
        chosen = ", ".join(f"{each} ({count})" for each, count in names[variant.name].items())
        print(
            f"| {variant.name} | {change.after:.4f} | {text} | {hits.mean():.3f} | {chosen} |",
            flush=True,
        )


def _serve(
    part: Part, candidates: Sequence[Candidate], variant: Variant
) -> tuple[Candidate, np.ndarray]:
    """Choose by out-of-fold losses; return the choice and its probabilities of the judges."""
    allowed = [one for one in candidates if variant.is_allowed(one)]
    allowed += filter(variant.is_allowed, _pairs(part, allowed))
    calibrated = [_calibrated(part, one) for one in allowed]
    if variant.is_shrunk:
        groups = [part.images.groups[i] for i in part.learners[part.folds.judged]]
        scored = [
            Scored(losses, one.size) for one, (_, losses) in zip(allowed, calibrated, strict=True)
        ]
        index, _ = choose(scored, groups)
    else:
        index = int(np.argmin([losses.mean() for _, losses in calibrated]))
    logits = allowed[index].logits
    raw = logits.refit if variant.is_refit else logits.single
    return allowed[index], probabilities(part.activation, raw / calibrated[index][0])


def _pairs(part: Part, candidates: Sequence[Candidate]) -> list[Candidate]:
    """Return the best tails of both encoders that can lie side by side, as one network."""
    both = []
    for name in SIDE_BY_SIDE:
        tails = [one for one in candidates if one.kind == "tail" and one.encoders == (name,)]
        if not tails:
            return []
        both.append(min(tails, key=lambda one: _calibrated(part, one)[1].mean()))
    scales = [_calibrated(part, one)[0] for one in both]
    mean = {
        field: np.mean(
            [getattr(one.logits, field) / t for one, t in zip(both, scales, strict=True)], axis=0
        )
        for field in ("fold", "refit", "single")
    }
    return [Candidate(SIDE_BY_SIDE, "pair", None, sum(one.size for one in both), Logits(**mean))]


def _calibrated(part: Part, one: Candidate) -> tuple[float, np.ndarray]:
    """Return the temperature to serve with, and the out-of-fold losses by those of other folds."""
    targets = part.targets[part.learners[part.folds.judged]]
    part_of = part.folds.part_of
    folds = [np.flatnonzero(part_of == index) for index in range(len(part.folds.parts))]
    fit = HEADS[part.activation].temperature
    temperature, logits = cross_fitted_temperature(one.logits.fold, targets, folds, fit)
    return temperature, _losses(part.activation, logits, targets)


def _losses(activation: str, logits: np.ndarray, targets: np.ndarray) -> np.ndarray:
    if activation == "sigmoid":
        return (np.logaddexp(0.0, logits) - targets * logits).sum(axis=1)
    return np.logaddexp.reduce(logits, axis=1) - logits[np.arange(len(logits)), targets]


if __name__ == "__main__":
    main()
