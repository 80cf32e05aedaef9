"""The scorer: order, broken images in their place, one path for every caller."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from autofocus.data.options import ReadOptions
from autofocus.data.sources.read import read_data
from autofocus.errors import ModelFolderError, ScoringError
from autofocus.runtime import plain
from autofocus.scoring.backends.onnx import OnnxBackend
from autofocus.scoring.evaluate import evaluate_model
from autofocus.scoring.scorer import MAX_BATCH, Scorer
from autofocus.tasks.multiclass import MulticlassClassification


def test_broken_images_keep_their_place(model_folder: Path, photo_folder: Path) -> None:
    photo = next(photo_folder.rglob("*.png")).read_bytes()
    results = Scorer.load(model_folder).score([photo, b"", b"<html>", photo])
    assert [set(r) for r in results] == [
        {"probs", "labels"},
        {"error"},
        {"error"},
        {"probs", "labels"},
    ]
    assert results[1]["error"]["code"] == "image.empty"
    assert plain(results[0]) == plain(results[3])


def test_nothing_to_score_gives_nothing(model_folder: Path) -> None:
    assert Scorer.load(model_folder).score([]) == []


def test_batches_do_not_change_scores(model_folder: Path, photo_folder: Path) -> None:
    scorer = Scorer.load(model_folder)
    photos = [p.read_bytes() for p in sorted(photo_folder.rglob("*.png"))]
    assert len(photos) > MAX_BATCH
    together = scorer.score(photos)
    alone = [scorer.score([photo])[0] for photo in photos]
    for left, right in zip(together, alone, strict=True):
        np.testing.assert_allclose(left["probs"], right["probs"], atol=1e-6)
        assert abs(left["probs"].sum() - 1) < 1e-6


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_network_that_gives_no_numbers_is_refused_and_no_null_is_answered(
    model_folder: Path, photo_folder: Path, monkeypatch: pytest.MonkeyPatch, value: float
) -> None:
    photo = next(photo_folder.rglob("*.png")).read_bytes()
    scorer = Scorer.load(model_folder)
    run = OnnxBackend.run

    def broken(self: OnnxBackend, images: Any) -> dict[str, Any]:
        outputs = run(self, images)
        return {
            name: np.where(np.arange(v.shape[-1]) == 1, value, v) for name, v in outputs.items()
        }

    monkeypatch.setattr(OnnxBackend, "run", broken)
    with pytest.raises(ScoringError, match="is not a number"):
        scorer.score([photo])
    with pytest.raises(ModelFolderError, match="is not a number"):
        Scorer.load(model_folder)


def test_evaluate_counts_only_images_that_can_be_read(
    model_folder: Path, photo_folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    data = read_data(photo_folder, MulticlassClassification.record_type, ReadOptions())
    data.locations[3] = str(photo_folder / "gone.png")
    result = evaluate_model(model_folder, data)
    assert result["num_images"] == 23
    assert "gone.png: no such file. The image is left out." in caplog.text
    assert 0 <= result["metrics"]["accuracy"] <= 1
