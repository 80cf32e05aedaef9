"""The table of transformer detectors: names, licences, sizes and what `yolov5` means."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from autofocus.manifest import ResizeFit
from autofocus.models.base import DETECTOR, SEGMENTER, is_permissive
from autofocus.models.transformers.catalog import TRANSFORMERS, yolov5_stand_in
from autofocus.models.transformers.sizes import SIZES

SOURCES = Path(__file__).parents[4] / "src"


def test_every_size_has_weights_and_every_name_means_one_row() -> None:
    assert {spec.architecture for spec in TRANSFORMERS} == set(SIZES)
    names = [name.lower() for spec in TRANSFORMERS for name in (spec.name, *spec.aliases)]
    assert len(names) == len(set(names))
    firsts = {spec.architecture: spec for spec in reversed(TRANSFORMERS)}
    assert all(spec.name.endswith(".coco") for spec in firsts.values())


@pytest.mark.parametrize("spec", TRANSFORMERS, ids=lambda spec: spec.name)
def test_rows_are_permissive_and_pinned_to_commits_where_pinned(spec) -> None:  # type: ignore[no-untyped-def]
    assert is_permissive(spec.licence)
    assert spec.kind == (SEGMENTER if "_seg_" in spec.name else DETECTOR)
    assert spec.revision is None or re.fullmatch(r"[0-9a-f]{40}", spec.revision)
    size = SIZES[spec.architecture]
    assert isinstance(spec.preprocess, ResizeFit)
    assert spec.preprocess.size == (size.side, size.side)
    assert size.side % size.multiple == 0
    assert not spec.preprocess.keep_aspect
    assert (spec.preprocess.mean == (0.0, 0.0, 0.0)) == (not spec.name.startswith("rf_detr"))


@pytest.mark.parametrize(
    ("alias", "architecture"),
    [
        ("dfine-n", "d_fine_n"),
        ("d-fine-nano", "d_fine_n"),
        ("ustc-community/dfine-xlarge-coco", "d_fine_x"),
        ("rtdetrv2_r18", "rt_detr_v2_r18"),
        ("rtdetr_v2_r50vd", "rt_detr_v2_r50"),
        ("rf-detr-nano", "rf_detr_n"),
        ("rf-detr-seg-xxlarge", "rf_detr_seg_2xl"),
        ("deimv2-pico", "deimv2_pico"),
        ("yolov5", "d_fine_m"),
    ],
)
def test_other_spellings_mean_the_same_model(alias: str, architecture: str) -> None:
    (found,) = [spec for spec in TRANSFORMERS if alias in spec.aliases]
    assert found.architecture == architecture


@pytest.mark.parametrize(
    ("model_size", "name"),
    [
        ("small", "d_fine_s"),
        ("medium", "d_fine_m"),
        ("large", "d_fine_l"),
        ("extra_large", "d_fine_x"),
        (None, "d_fine_m"),
    ],
)
def test_yolov5_means_the_d_fine_nearest_in_compute(model_size: str | None, name: str) -> None:
    stand_in, line = yolov5_stand_in(model_size)
    assert stand_in == name
    assert "\n" not in line
    assert all(word in line for word in ("yolov5", model_size or "medium", name, "AGPL"))


def test_names_are_had_without_torch() -> None:
    code = (
        "import sys, autofocus.models.transformers.catalog;"
        "sys.exit(bool({'torch', 'transformers', 'timm'} & set(sys.modules)))"
    )
    subprocess.run([sys.executable, "-c", code], check=True, env={"PYTHONPATH": str(SOURCES)})
