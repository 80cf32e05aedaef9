"""Folds: who judges whom."""

from typing import Any

import numpy as np
import pytest

from autofocus.training import folds
from autofocus.training.folds import make_folds
from autofocus.training.probe import fit_folded_head

LABELS = [("cat",), ("dog",)] * 10


def test_every_image_judges_once_and_is_no_teacher_of_its_judge() -> None:
    found = make_folds(LABELS, range(20), seed=0)
    assert sorted(found.judged.tolist()) == list(range(20))
    for train, judged in found.parts:
        assert not set(train) & set(judged)
        assert len(train) + len(judged) == 20
    assert [len(fit) for fit in found.fits] == [16] * 5 + [20]
    assert found.part_of.tolist() == [part for part in range(5) for _ in range(4)]


def test_of_many_images_three_parts_judge() -> None:
    labels = [("cat",), ("dog",)] * (folds.MANY_IMAGES // 2)
    found = make_folds(labels, range(len(labels)), seed=0)
    assert len(found.parts) == 3
    assert sorted(found.judged.tolist()) == list(range(len(labels)))
    assert len(make_folds(labels[1:], range(len(labels) - 1), seed=0).parts) == 5


def test_images_of_a_group_share_a_fold() -> None:
    groups = [i // 4 for i in range(20)]
    found = make_folds(LABELS, groups, seed=0)
    for _, judged in found.parts:
        assert len({groups[i] for i in judged}) * 4 == len(judged)


def test_given_images_judge_and_teach_nothing() -> None:
    found = make_folds(LABELS, range(20), seed=0, num_given=6)
    ((train, judged),) = found.parts
    assert (train.tolist(), judged.tolist()) == (list(range(14)), list(range(14, 20)))
    assert found.everything is None
    assert [fit.tolist() for fit in found.fits] == [list(range(14))]


def test_of_very_many_images_one_part_judges(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(folds, "MAX_FOLDED_IMAGES", 10)
    monkeypatch.setattr(folds, "MAX_JUDGED_IMAGES", 4)
    ((train, judged),) = make_folds(LABELS, range(20), seed=0).parts
    assert (len(train), len(judged)) == (16, 4)


def test_copies_of_one_image_judge_themselves() -> None:
    found = make_folds([("cat",)] * 3, [0] * 3, seed=0)
    assert [part.tolist() for pair in found.parts for part in pair] == [[0, 1, 2]] * 2


def test_an_images_own_label_has_no_part_in_the_head_that_judges_it() -> None:
    rng = np.random.default_rng(0)
    targets = np.array([0, 1] * 10)
    features = rng.normal(size=(20, 2, 8)).astype(np.float32) + targets[:, None, None]
    found = make_folds(LABELS, range(20), seed=0)
    how: Any = {"kind": "softmax", "num_classes": 2, "seed": 0}
    before = fit_folded_head(features, targets, found, **how)
    _, judged = found.parts[2]
    changed = targets.copy()
    changed[judged] = 1 - changed[judged]
    after = fit_folded_head(features, changed, found, **how)
    own = np.flatnonzero(found.part_of == 2)
    assert np.array_equal(before.logits[own], after.logits[own])
    others = np.flatnonzero(found.part_of != 2)
    assert not np.array_equal(before.logits[others], after.logits[others])
    assert len(before.heads) == 6
    assert before.c in before.search
