"""Model packages of earlier versions, as `tests/packages/build.py` built them, still answer."""

import json
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import autofocus
from autofocus.errors import ModelFolderError

PACKAGES = Path(__file__).parents[1] / "packages"
VERSIONS = sorted(path.name for path in PACKAGES.iterdir() if path.is_dir())
KNOWN = {
    (version, task): replies
    for version in VERSIONS
    for task, replies in json.loads((PACKAGES / version / "replies.json").read_bytes()).items()
}
TOLERANCE = 1e-5


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("packages")
    for version in VERSIONS:
        with tarfile.open(PACKAGES / version / "packages.tar.xz") as archive:
            archive.extractall(root / version, filter="data")
    return root


def photos(version: str) -> list[Path]:
    return sorted((PACKAGES / version).glob("photo-*.png"))


def test_there_is_one_of_each_published_task() -> None:
    from autofocus.tasks import TASKS

    # Whichever were added since, the four of the published contract come first.
    assert {(VERSIONS[0], task) for task in list(TASKS)[:4]} <= set(KNOWN)


@pytest.mark.parametrize(("version", "task"), KNOWN)
def test_it_scores_as_it_did(unpacked: Path, version: str, task: str) -> None:
    replies = autofocus.load(unpacked / version / task).score(photos(version))
    assert_same(replies, KNOWN[version, task]["score"])


@pytest.mark.parametrize(
    ("version", "task", "number"),
    [(*key, number) for key, known in KNOWN.items() for number in range(len(known["explain"]))],
)
def test_it_explains_as_it_did(unpacked: Path, version: str, task: str, number: int) -> None:
    known = KNOWN[version, task]["explain"][number]
    model = autofocus.load(unpacked / version / task)
    (found,) = model.explain(photos(version)[:1], **known["parameters"])
    replies = [
        {"label": each.label, "probability": each.probability, "map": coarse(each.map)}
        for each in found
    ]
    # Rounding, which is another on another processor, lets single rectifiers pass or not. A map is
    # at most 1; that of another algorithm or class is further away.
    assert_same(replies, known["explanations"], tolerance=5e-3)


def test_one_of_a_format_to_come_is_refused_in_one_line(unpacked: Path, tmp_path: Path) -> None:
    manifest = json.loads(
        (unpacked / VERSIONS[0] / "image_classification/manifest.json").read_bytes()
    )
    changed = manifest | {"schema_version": 99, "preprocess": {"type": "of the future"}}
    (tmp_path / "manifest.json").write_text(json.dumps(changed))
    with pytest.raises(ModelFolderError, match=r"schema_version 99 is newer") as refused:
        autofocus.load(tmp_path)
    assert len(str(refused.value).splitlines()) == 1


def coarse(values: np.ndarray) -> list[list[float]]:
    """As `tests/packages/build.py` has it."""
    flat = np.asarray(values, np.float64).mean(axis=0)
    flat /= np.abs(flat).max() or 1
    rows = [np.array_split(band, 4, axis=1) for band in np.array_split(flat, 4, axis=0)]
    return [[float(cell.mean()) for cell in row] for row in rows]


def assert_same(found: Any, known: Any, tolerance: float = TOLERANCE) -> None:
    """Compare documents: the same shape and texts, numbers nearly the same."""
    if isinstance(known, dict):
        assert list(found) == list(known)
        found, known = list(found.values()), list(known.values())
    if isinstance(known, list):
        assert len(found) == len(known)
        for ours, theirs in zip(found, known, strict=True):
            assert_same(ours, theirs, tolerance)
    elif isinstance(known, float):
        assert found == pytest.approx(known, abs=tolerance)
    else:
        assert found == known
