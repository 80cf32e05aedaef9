import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Sequence

import numpy as np
import pytest
from numpy.typing import NDArray

from autofocus.data.splits import kfold_indices, split_indices
from autofocus.errors import DataError

Labels = list[list[str]]


def multiclass(num_images: int, num_classes: int, seed: int = 0) -> Labels:
    rng = np.random.default_rng(seed)
    shares = rng.dirichlet(np.ones(num_classes) * 2)
    return [[f"c{i}"] for i in rng.choice(num_classes, num_images, p=shares)]


def multilabel(num_images: int, num_classes: int, seed: int = 0) -> Labels:
    rng = np.random.default_rng(seed)
    odds = rng.uniform(0.01, 0.3, num_classes)
    has = rng.random((num_images, num_classes)) < odds
    return [[f"c{i}" for i in np.flatnonzero(row)] for row in has]


def worst_share_error(labels: Labels, held_out: NDArray[np.int64], share: float) -> float:
    total = Counter(name for image in labels for name in image)
    part = Counter(name for i in held_out for name in labels[i])
    return max(abs(part[name] / total[name] - share) for name in total)


def check_partition(num_images: int, *parts: NDArray[np.int64]) -> None:
    np.testing.assert_array_equal(np.sort(np.concatenate(parts)), np.arange(num_images))
    for part in parts:
        assert (np.diff(part) > 0).all()


@pytest.mark.parametrize("make", [multiclass, multilabel])
def test_classes_keep_their_share_far_better_than_at_random(make: object) -> None:
    labels: Labels = make(3000, 20)  # type: ignore[operator]
    training, validation = split_indices(labels, range(3000), 0.2, seed=1)
    check_partition(3000, training, validation)
    assert len(validation) == pytest.approx(600, abs=30)
    random = np.random.default_rng(1).permutation(3000)[:600]
    error = worst_share_error(labels, validation, 0.2)
    assert error < 0.025
    assert error < worst_share_error(labels, random, 0.2) / 2


@pytest.mark.parametrize("make", [multiclass, multilabel])
def test_folds_keep_the_shares_of_classes(make: object) -> None:
    labels: Labels = make(2000, 10)  # type: ignore[operator]
    folds = kfold_indices(labels, range(2000), 5, seed=0)
    check_partition(2000, *folds)
    for fold in folds:
        assert len(fold) == pytest.approx(400, abs=25)
        assert worst_share_error(labels, fold, 0.2) < 0.03


def test_groups_are_never_split() -> None:
    rng = np.random.default_rng(0)
    labels = multilabel(1000, 8)
    groups = [f"hash{i}" for i in rng.integers(0, 400, 1000)]
    training, validation = split_indices(labels, groups, 0.2, seed=0)
    check_partition(1000, training, validation)
    assert not {groups[i] for i in training} & {groups[i] for i in validation}
    assert len(validation) == pytest.approx(200, abs=20)
    folds = kfold_indices(labels, groups, 4, seed=0)
    check_partition(1000, *folds)
    owners = [{groups[i] for i in fold} for fold in folds]
    assert sum(map(len, owners)) == len(set(groups))


def test_the_seed_decides_and_nothing_else() -> None:
    labels = multilabel(200, 6)
    first = split_indices(labels, range(200), 0.2, seed=3)
    again = split_indices(labels, range(200), 0.2, seed=3)
    other = split_indices(labels, range(200), 0.2, seed=4)
    np.testing.assert_array_equal(first[1], again[1])
    assert not np.array_equal(first[1], other[1])
    renamed = split_indices(labels, [f"group {i}" for i in range(200)], 0.2, seed=3)
    np.testing.assert_array_equal(first[1], renamed[1])


def test_another_process_with_other_string_hashes_splits_the_same() -> None:
    code = """
from autofocus.data.splits import split_indices
labels = [[f"c{i % 7}", f"d{i % 5}", f"e{i % 3}"] for i in range(100)]
print(split_indices(labels, [str(i // 2) for i in range(100)], 0.2, seed=0)[1].tolist())
"""
    outputs = {
        subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    }
    assert len(outputs) == 1


def seen(labels: Labels, part: NDArray[np.int64]) -> set[str]:
    return {name for i in part for name in labels[i]}


def test_classes_of_two_images_are_in_both_parts_when_there_is_room() -> None:
    labels = [["many"]] * 90 + [["two"]] * 2 + [["three"]] * 3 + [["one"]]
    training, validation = split_indices(labels, range(96), 0.2, seed=0)
    check_partition(96, training, validation)
    assert seen(labels, training) == {"many", "two", "three", "one"}
    assert seen(labels, validation) == {"many", "two", "three"}


def test_many_tiny_classes_do_not_blow_validation_up() -> None:
    labels = [[f"c{i // 2}"] for i in range(200)]
    training, validation = split_indices(labels, range(200), 0.2, seed=0)
    assert seen(labels, training) == {f"c{i}" for i in range(100)}
    assert 40 <= len(validation) <= 50


@pytest.mark.parametrize("seed", range(5))
def test_images_of_several_rare_classes_leave_none_out_of_training(seed: int) -> None:
    rng = np.random.default_rng(seed)
    labels = [
        [f"c{i}" for i in rng.choice(30, rng.integers(0, 6), replace=False)] for _ in range(60)
    ]
    counts = Counter(name for image in labels for name in image)
    training, validation = split_indices(labels, range(60), 0.3, seed=seed)
    check_partition(60, training, validation)
    assert {name for name, count in counts.items() if count >= 2} <= seen(labels, training)


def test_images_without_a_class_are_a_class_of_their_own() -> None:
    labels: Labels = [["a"]] * 50 + [[]] * 50
    for _ in range(2):
        _, validation = split_indices(labels, range(100), 0.2, seed=0)
        assert (validation < 50).sum() == 10
        assert (validation >= 50).sum() == 10
    for fold in kfold_indices(labels, range(100), 5, seed=0):
        assert (fold < 50).sum() == 10


@pytest.mark.parametrize(
    ("labels", "groups"),
    [
        ([["a"]], ["x"]),
        ([["a"], ["a"], ["a"]], ["x", "x", "x"]),
        ([["a"], ["b"]], ["x", "y"]),
    ],
    ids=["one image", "copies of one image", "one image a class"],
)
def test_what_cannot_be_split_is_used_for_both(labels: Labels, groups: Sequence[str]) -> None:
    training, validation = split_indices(labels, groups, 0.2, seed=0)
    np.testing.assert_array_equal(training, np.arange(len(labels)))
    np.testing.assert_array_equal(validation, training)


def test_two_images_of_one_class_give_one_to_each_part() -> None:
    training, validation = split_indices([["a"], ["a"]], [0, 1], 0.2, seed=0)
    check_partition(2, training, validation)
    assert len(training) == len(validation) == 1


def test_a_class_with_one_image_is_trained_on() -> None:
    labels = [["a"]] * 20 + [["rare"]]
    for seed in range(10):
        training, _ = split_indices(labels, range(21), 0.2, seed=seed)
        assert 20 in training


def test_fewer_groups_than_folds_give_fewer_folds() -> None:
    folds = kfold_indices([["a"]] * 4, ["x", "x", "y", "z"], 5, seed=0)
    assert len(folds) == 3
    check_partition(4, *folds)


def test_no_fold_is_empty_however_uneven_the_groups() -> None:
    groups = ["big"] * 100 + ["w", "x", "y", "z"]
    folds = kfold_indices([["a"]] * 104, groups, 5, seed=0)
    assert sorted(map(len, folds)) == [1, 1, 1, 1, 100]


def test_nothing_to_split_is_an_error() -> None:
    with pytest.raises(DataError, match="no images"):
        split_indices([], [], 0.2, seed=0)
    with pytest.raises(DataError, match="no images"):
        kfold_indices([], [], 5, seed=0)


def test_100_000_images_of_1000_classes_take_seconds() -> None:
    labels = [[f"c{i % 1000}"] for i in range(100_000)]
    start = time.process_time()
    training, validation = split_indices(labels, range(100_000), 0.2, seed=0)
    assert time.process_time() - start < 10
    check_partition(100_000, training, validation)
    assert worst_share_error(labels, validation, 0.2) < 0.011
