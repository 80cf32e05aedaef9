"""The frozen probe: exact folding, calibrated, sane at the edges."""

import time
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from autofocus.metrics.calibration import negative_log_likelihood
from autofocus.training import probe
from autofocus.training.probe import HEADS, fit_probe


def blobs(
    num_images: int, num_classes: int, seed: int = 0, width: int = 12, spread: float = 1.0
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Return features [n, 1, d] around one centre a class, and class indices."""
    rng = np.random.default_rng(seed)
    centres = np.random.default_rng(99).normal(size=(num_classes, width))
    targets = np.arange(num_images) % num_classes
    features = 5 + 3 * (centres[targets] + spread * rng.normal(size=(num_images, width)))
    return features[:, None].astype(np.float32), targets


def fit(features: NDArray[np.float32], targets: NDArray[np.int64], num_classes: int, kind: str):
    rows = targets if targets.ndim > 1 else targets[:, None] == np.arange(num_classes)
    return fit_probe(
        features,
        targets,
        kind=kind,
        num_classes=num_classes,
        labels_of=[[str(k) for k in np.flatnonzero(row)] for row in rows],
        groups=list(range(len(features))),
        seed=0,
    )


def test_softmax_probe_learns_and_beats_the_prior() -> None:
    features, targets = blobs(150, 3)
    probe = fit(features, targets, 3, "softmax")
    unseen, truth = blobs(300, 3, seed=1)
    logits = probe.head.logits(unseen[:, 0])
    assert (logits.argmax(1) == truth).mean() > 0.85
    assert negative_log_likelihood(logits, truth, "softmax") < 0.6 * np.log(3)
    assert probe.search[probe.c] == min(probe.search.values())
    assert probe.calibration.source == "out-of-fold"


def test_head_over_raw_features_equals_fit_on_scaled_ones() -> None:
    features, targets = blobs(60, 3)
    flat = features[:, 0].astype(np.float64)
    mean = flat.mean(0)
    scale = np.sqrt(((flat - mean) ** 2).sum(1).mean())
    reference = HEADS["softmax"].fit((flat - mean) / scale, targets, 3, 10.0)
    from autofocus.training.probe import fit_scaled

    head = fit_scaled(HEADS["softmax"].fit, features, targets, 3, 10.0)
    expected = reference.logits((flat - mean) / scale)
    np.testing.assert_allclose(head.logits(flat), expected, rtol=1e-9, atol=1e-9)


def test_two_classes_agree_with_scikit_learn() -> None:
    from sklearn.linear_model import LogisticRegression

    features, targets = blobs(80, 2, spread=2.0)
    flat = features[:, 0].astype(np.float64)
    head = HEADS["softmax"].fit(flat, targets, 2, 1.0)
    logits = head.logits(flat)
    probs = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    reference = LogisticRegression(C=1.0, max_iter=300).fit(flat, targets).predict_proba(flat)
    np.testing.assert_allclose(probs, reference, atol=1e-9)


def test_class_without_training_images_stays_improbable() -> None:
    features, targets = blobs(40, 2)
    head = HEADS["softmax"].fit(features[:, 0].astype(np.float64), targets, 3, 1.0)
    logits = head.logits(features[:, 0])
    probs = np.exp(logits - logits.max(1, keepdims=True))
    probs /= probs.sum(1, keepdims=True)
    assert 0 < probs[:, 2].max() < 0.2


@pytest.mark.parametrize("num_images", [1, 2, 3])
def test_a_handful_of_images_gives_a_finite_head(num_images: int) -> None:
    features, _ = blobs(num_images, 2)
    targets = np.arange(num_images) % 2
    probe = fit(features, targets, 2, "softmax")
    assert np.isfinite(probe.head.weight).all()
    assert np.isfinite(probe.head.bias).all()


def test_one_class_gives_certainty() -> None:
    features, _ = blobs(10, 1)
    probe = fit(features, np.zeros(10, np.int64), 1, "softmax")
    assert probe.head.logits(features[:, 0]).shape == (10, 1)


def test_sigmoid_probe_handles_classes_that_never_or_always_occur() -> None:
    features, single = blobs(90, 3)
    targets = np.zeros((90, 5), np.int64)
    targets[np.arange(90), single] = 1
    targets[:, 4] = 1
    probe = fit(features, targets, 5, "sigmoid")
    probs = 1 / (1 + np.exp(-probe.head.logits(features[:, 0])))
    assert (probs[:, 3] < 0.05).all()
    assert (probs[:, 4] > 0.95).all()
    assert ((probs[:, :3] > 0.5) == targets[:, :3]).mean() > 0.9


def test_same_seed_gives_the_same_bits() -> None:
    features, targets = blobs(60, 3)
    first, second = (fit(features, targets, 3, "softmax") for _ in range(2))
    assert (first.head.weight == second.head.weight).all()
    assert first.calibration == second.calibration


@pytest.mark.parametrize("kind", ["softmax", "sigmoid"])
def test_a_deadline_bounds_the_search(kind: str) -> None:
    features, single = blobs(400, 200, width=64)
    targets = single if kind == "softmax" else np.eye(200, dtype=np.int64)[single]
    started_s = time.monotonic()
    probe = fit_probe(
        features,
        targets,
        kind=kind,
        num_classes=200,
        labels_of=[[str(k)] for k in single],
        groups=list(range(400)),
        seed=0,
        deadline_s=started_s + 1.0,
    )
    assert probe.search == {}
    assert probe.calibration.temperature == 1.0
    assert np.isfinite(probe.head.weight).all()


RNG = np.random.default_rng(0)
TARGETS = np.arange(24) % 3
FEATURES = (RNG.normal(size=(24, 2, 6)) + TARGETS[:, None, None]).astype(np.float32)
GIVEN: dict[str, Any] = {
    "features": FEATURES,
    "targets": TARGETS,
    "kind": "softmax",
    "num_classes": 3,
    "labels_of": [[str(k)] for k in TARGETS],
    "groups": list(range(24)),
    "seed": 0,
}
OTHERS: dict[str, Any] = {
    "features": FEATURES + np.float32(0.25),
    "targets": (TARGETS + 1) % 3,
    "num_classes": 4,
    "labels_of": [[str(k + 1)] for k in TARGETS],
    "groups": [i // 2 for i in range(24)],
    "seed": 1,
}


def once(given: dict[str, Any]) -> Any:
    rest = {name: value for name, value in given.items() if name not in ("features", "targets")}
    return probe.fit_probe_once(given["features"], given["targets"], **rest)


@pytest.fixture
def fits(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    done: list[int] = []

    def counted(*arguments: Any, **options: Any) -> Any:
        done.append(len(arguments[0]))
        return fit_probe(*arguments, **options)

    monkeypatch.setattr(probe, "fit_probe", counted)
    monkeypatch.setattr(probe, "_known", {})
    return done


def test_the_same_images_are_fitted_once(fits: list[int]) -> None:
    first = once(GIVEN)
    again = once({**GIVEN, "features": FEATURES.copy(), "deadline_s": 1e12})
    assert again is first
    assert len(fits) == 1


@pytest.mark.parametrize("name", OTHERS)
def test_anything_else_is_fitted_again(name: str, fits: list[int]) -> None:
    first = once(GIVEN)
    other = once({**GIVEN, name: OTHERS[name]})
    assert other is not first
    assert len(fits) == 2


def test_the_oldest_is_forgotten(fits: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probe, "MAX_HEADS", 2)
    for seed in (0, 1, 2, 2, 1, 0):
        once({**GIVEN, "seed": seed})
    assert len(fits) == 4
