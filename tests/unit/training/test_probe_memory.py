"""A head is fitted once for the same images, and again as soon as anything differs."""

from typing import Any

import numpy as np
import pytest

from autofocus.training import probe_memory
from autofocus.training.probe import fit_probe

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
    return probe_memory.fit_probe_once(given["features"], given["targets"], **rest)


@pytest.fixture(autouse=True)
def fits(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    done: list[int] = []

    def counted(*arguments: Any, **options: Any) -> Any:
        done.append(len(arguments[0]))
        return fit_probe(*arguments, **options)

    monkeypatch.setattr(probe_memory, "fit_probe", counted)
    monkeypatch.setattr(probe_memory, "_known", {})
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
    monkeypatch.setattr(probe_memory, "MAX_HEADS", 2)
    for seed in (0, 1, 2, 2, 1, 0):
        once({**GIVEN, "seed": seed})
    assert len(fits) == 4
