"""Images of 8 to 12 bits stored in 16: what training chose, the packaged model does."""

import json
import logging
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import autofocus
from support.tiny_jobs import decisions, tiny_detection_job, tiny_job


def store_deep(folder: Path, target: Path, bits: int) -> Path:
    """Write photos again as 16-bit grey, whose samples use so many bits."""
    for file in sorted(folder.rglob("*.png")):
        grey = np.asarray(Image.open(file).convert("L")).astype(np.uint16)
        place = target / file.relative_to(folder)
        place.parent.mkdir(parents=True, exist_ok=True)
        grey[0, 0] = 255
        Image.fromarray(grey << (bits - 8)).save(place)
    return target


def test_a_model_of_few_bits_serves_what_it_was_trained_on(
    photo_folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    deep, shallow = (store_deep(photo_folder, tmp_path / str(bits), bits) for bits in (12, 8))
    run = tmp_path / "run"
    with caplog.at_level(logging.WARNING):
        autofocus.train(tiny_job(deep, 1, output_dir=str(run)))
    assert [made["bits"] for made in decisions(run, "sample_bits")] == [12]
    assert sum("4,095" in line for line in caplog.messages) == 1
    checked = json.loads((run / "data_check.json").read_text())
    assert checked["training"]["counts"]["image.few_bits"] == 1
    manifest = json.loads((run / "best_model/manifest.json").read_text())
    assert manifest["preprocess"]["sample_bits"] == 12
    # The same pictures as files of 8 bits: equal to the last bit.
    model = autofocus.load(run)
    files = [file.relative_to(deep) for file in sorted(deep.rglob("*.png"))]
    for file in files:
        values = np.asarray(Image.open(shallow / file)).astype(np.uint8)
        Image.fromarray(values).save(shallow / file)
    assert model.score([deep / file for file in files]) == model.score(
        [shallow / file for file in files]
    )


def test_a_detector_of_few_bits_serves_what_it_was_trained_on(tmp_path: Path) -> None:
    (tmp_path / "rgb").mkdir()
    job = tiny_detection_job(tmp_path / "rgb", 6, 2, output_dir=str(tmp_path / "run"))
    for file in (tmp_path / "rgb").glob("*.png"):
        grey = np.asarray(Image.open(file).convert("L")).astype(np.uint16)
        Image.fromarray(grey).save(file)
    autofocus.train(job)
    manifest = json.loads((tmp_path / "run/best_model/manifest.json").read_text())
    assert manifest["preprocess"]["sample_bits"] == 8
    assert [made["bits"] for made in decisions(tmp_path / "run", "sample_bits")] == [8]
