"""Seeded splits in which every class keeps its share and groups of images stay together.

Iterative stratification (Sechidis, Tsoumakas and Vlahavas, "On the Stratification of Multi-Label
Data", 2011): classes are dealt out rarest first, each image to the part that still lacks its class
the most. With one class an image it is plain stratification. What is dealt are groups (copies,
`data/groups.py`), never single images of one; images without any class are a class of their own.
"""

from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from autofocus.errors import DataError

_TRAINING, _VALIDATION = 0, 1
# How much more than its share validation may take so that no class is missing from it.
_MOST_VALIDATION = 1.25


def split_indices(
    labels: Sequence[Iterable[str]],
    groups: Sequence[Hashable],
    validation_frac: float,
    seed: int,
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Split images into training and validation.

    Every class of two groups or more is in training and, as long as validation stays within 1.25
    of its share, in validation too. Where nothing can be held out (one image, copies of one
    image, one image a class) both parts are all images: they overlap then and only then.

    Args:
        labels: Class names of each image, none or many.
        groups: Group of each image; images of one group stay together.
        validation_frac: Share of the images to hold out, in (0, 1).
        seed: The same seed gives the same split on any machine.

    Returns:
        Indices of the training and of the validation images, ascending.

    Raises:
        DataError: If there are no images.
    """
    assert 0 < validation_frac < 1
    units = _units(labels, groups)
    parts = _deal(units, [1 - validation_frac, validation_frac], seed)
    _keep_classes(units, parts, validation_frac * len(labels))
    image_parts = parts[units.of_image]
    if not (image_parts == _VALIDATION).any():
        everything = np.arange(len(labels), dtype=np.int64)
        return everything, everything
    return np.flatnonzero(image_parts == _TRAINING), np.flatnonzero(image_parts == _VALIDATION)


def kfold_indices(
    labels: Sequence[Iterable[str]], groups: Sequence[Hashable], num_folds: int, seed: int
) -> list[NDArray[np.int64]]:
    """Deal images into folds, each to be held out once.

    Args:
        labels: Class names of each image, none or many.
        groups: Group of each image; images of one group stay together.
        num_folds: 2 or more; with fewer groups than folds there are as many folds as groups.
        seed: The same seed gives the same folds on any machine.

    Returns:
        Indices of each fold's images, ascending; no fold is empty.

    Raises:
        DataError: If there are no images.
    """
    assert num_folds >= 2
    units = _units(labels, groups)
    num_folds = min(num_folds, len(units.sizes))
    parts = _deal(units, [1 / num_folds] * num_folds, seed)
    _fill_empty(parts, num_folds)
    image_parts = parts[units.of_image]
    return [np.flatnonzero(image_parts == fold) for fold in range(num_folds)]


@dataclass(frozen=True)
class _Units:
    """Groups of images to deal out.

    Attributes:
        of_image: Each image's group.
        sizes: Images of each group.
        counts: Number of images by class, for each group.
        num_classes: Number of classes, that of images without a class included.
    """

    of_image: NDArray[np.int64]
    sizes: list[int]
    counts: list[dict[int, int]]
    num_classes: int


def _units(labels: Sequence[Iterable[str]], groups: Sequence[Hashable]) -> _Units:
    if not labels:
        raise DataError("There are no images to split.")
    names = [set(image) for image in labels]
    # Class 0 is "no class"; sorted, because the order of a set of strings changes by process.
    classes = {name: i for i, name in enumerate(sorted(set().union(*names)), start=1)}
    numbers: dict[Hashable, int] = {}
    of_image = [numbers.setdefault(group, len(numbers)) for group in groups]
    sizes = [0] * len(numbers)
    counts: list[dict[int, int]] = [{} for _ in numbers]
    for unit, image in zip(of_image, names, strict=True):
        sizes[unit] += 1
        for i in sorted(classes[name] for name in image) or [0]:
            counts[unit][i] = counts[unit].get(i, 0) + 1
    return _Units(np.array(of_image, np.int64), sizes, counts, 1 + len(classes))


def _deal(units: _Units, shares: Sequence[float], seed: int) -> NDArray[np.int64]:
    """Return each group's part, 0 … len(shares) - 1."""
    # Shuffled, then the largest first: small groups even out what large ones upset.
    order = np.random.default_rng(seed).permutation(len(units.sizes))
    order = order[np.argsort(-np.array(units.sizes)[order], kind="stable")]
    members: list[list[int]] = [[] for _ in range(units.num_classes)]
    totals = np.zeros(units.num_classes, np.int64)
    for unit in order.tolist():
        for i, count in units.counts[unit].items():
            members[i].append(unit)
            totals[i] += count
    lacking = [(totals * share).tolist() for share in shares]
    lacking_images = [len(units.of_image) * share for share in shares]
    left = np.array([len(group) for group in members])
    parts = np.full(len(units.sizes), -1, np.int64)
    while left.any():
        rarest = int(np.where(left > 0, left, left.max() + 1).argmin())
        for unit in members[rarest]:
            if parts[unit] >= 0:
                continue
            part = max(
                range(len(shares)), key=lambda j: (lacking[j][rarest], lacking_images[j], -j)
            )
            parts[unit] = part
            lacking_images[part] -= units.sizes[unit]
            for i, count in units.counts[unit].items():
                lacking[part][i] -= count
                left[i] -= 1
    return parts


def _keep_classes(units: _Units, parts: NDArray[np.int64], num_wanted: float) -> None:
    """Move groups, in place, so that no class is missing where it need not be.

    Dealing may leave a class out of validation (two images, of which 0.4 belong there) or, when
    an image has several rare classes, out of training.
    """
    holders: list[list[int]] = [[] for _ in range(units.num_classes)]
    num_training = np.zeros(units.num_classes, np.int64)
    for unit, counts in enumerate(units.counts):
        num_training[list(counts)] += parts[unit] == _TRAINING
        for i in counts:
            holders[i].append(unit)
    rarest_first = np.argsort([len(group) for group in holders], kind="stable").tolist()
    for i in rarest_first:
        if len(holders[i]) >= 2 and num_training[i] == 0:
            _move(units, parts, num_training, holders[i][0], _TRAINING)
    sizes = np.array(units.sizes)
    num_validation = int(sizes[parts == _VALIDATION].sum())
    most = max(num_wanted * _MOST_VALIDATION, 1)
    for i in reversed(rarest_first):
        if len(holders[i]) < 2 or num_training[i] < len(holders[i]):
            continue
        for unit in holders[i]:
            fits = num_validation + sizes[unit] <= most or num_validation == 0
            if fits and all(num_training[j] >= 2 for j in units.counts[unit]):
                _move(units, parts, num_training, unit, _VALIDATION)
                num_validation += int(sizes[unit])
                break


def _move(
    units: _Units, parts: NDArray[np.int64], num_training: NDArray[np.int64], unit: int, part: int
) -> None:
    parts[unit] = part
    num_training[list(units.counts[unit])] += 1 if part == _TRAINING else -1


def _fill_empty(parts: NDArray[np.int64], num_folds: int) -> None:
    """Give each empty fold, in place, a group of the fold that has the most."""
    for fold in range(num_folds):
        if not (parts == fold).any():
            largest = np.bincount(parts, minlength=num_folds).argmax()
            parts[np.flatnonzero(parts == largest)[-1]] = fold
