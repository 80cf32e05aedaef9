"""The transformer detectors by name: licence, repository and revision of their weights.

Imports no torch and no transformers. Parameters are counted with the 80 or 91 classes of COCO; a
test holds them against the built networks.
"""

import re
from typing import Final

from autofocus.manifest import ResizeFit
from autofocus.models.base import DETECTOR, SEGMENTER, ModelSpec
from autofocus.models.transformers.sizes import RF_DETR, RF_DETR_SEG, SIZES

FAMILY: Final = "transformers"
_APACHE: Final = "apache-2.0"

# Published compute at 640 px, in GFLOPs: YOLOv5 n.. by Azure's `model_size`, D-FINE by name.
_YOLOV5_GFLOPS: Final = {"small": 16.5, "medium": 49.0, "large": 109.1, "extra_large": 205.7}
_D_FINE_GFLOPS: Final = {
    "d_fine_n": 7.0,
    "d_fine_s": 25.0,
    "d_fine_m": 57.0,
    "d_fine_l": 91.0,
    "d_fine_x": 202.0,
}
_DEFAULT_MODEL_SIZE: Final = "medium"

_LONG_SIZES: Final = {
    "n": "nano",
    "s": "small",
    "m": "medium",
    "l": "large",
    "x": "xlarge",
    "xl": "xlarge",
    "2xl": "xxlarge",
}
_SPELLINGS: Final = {"d_fine": "dfine", "rt_detr_v2": "rtdetr_v2", "rf_detr": "rfdetr"}


def yolov5_stand_in(model_size: str | None = None) -> tuple[str, str]:
    """Return the model that stands in for `yolov5`, and the one line that says so.

    Args:
        model_size: Azure's `model_size`; None is its default, medium.
    """
    size = model_size or _DEFAULT_MODEL_SIZE
    gflops = _YOLOV5_GFLOPS[size]
    name = min(_D_FINE_GFLOPS, key=lambda name: abs(_D_FINE_GFLOPS[name] / gflops - 1))
    line = (
        f"model: yolov5 (model_size {size}, {gflops:g} GFLOPs) is AGPL-3.0 and not used;"
        f" {name} stands in for it ({_D_FINE_GFLOPS[name]:g} GFLOPs, Apache-2.0)"
    )
    return name, line


# Repository -> pinned commit; the others are read from their main branch.
_REVISIONS: Final = {
    "ustc-community/dfine-nano-coco": "066438d3d8f0da137a37b38fdf3368fd4afceced",
    "ustc-community/dfine-small-coco": "f79e65b5fbb33ceb9d3ebba042955d7410c608f8",
    "ustc-community/dfine-medium-coco": "4ab9f5e466432f4fcf9a9a023da6aa5ecc9c9829",
    "ustc-community/dfine-large-coco": "aa8f8211545e4cff5adf52ea512f9ac74a9824ec",
    "ustc-community/dfine-large-obj2coco-e25": "c89de47153e338c07cddc81fc21a776b97cbf75e",
    "PekingU/rtdetr_v2_r18vd": "5650961749fa93567c0d46fc7f43ea4f9e914107",
    "PekingU/rtdetr_v2_r34vd": "5d60d8fb5eb2a3ee5575bf200ecbce4e2cfa420c",
    "PekingU/rtdetr_v2_r50vd": "282494075698cab9faa1096ae26856890030c817",
    "Roboflow/rf-detr-nano": "9f201577d9415f0378084748d27e68586e6b3600",
    "Roboflow/rf-detr-medium": "1b5b672408f86dd38e05dd3cf3f2e0834e545a59",
    "Roboflow/rf-detr-large": "f62f7dd5252b61097cbace33886045816dadbde9",
}


def _row(name: str, num_params: int, hub_id: str) -> ModelSpec:
    architecture, _, tag = name.partition(".")
    size = SIZES[architecture]
    preprocess = ResizeFit(size.side, size.side, keep_aspect=False)
    if size.family not in {RF_DETR, RF_DETR_SEG}:  # theirs are values in [0, 1]
        preprocess = ResizeFit(
            size.side, size.side, keep_aspect=False, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0)
        )
    return ModelSpec(
        name=name,
        kind=SEGMENTER if size.family == RF_DETR_SEG else DETECTOR,
        licence=_APACHE,
        preprocess=preprocess,
        hub_id=hub_id,
        revision=_REVISIONS.get(hub_id),
        num_params=num_params,
        aliases=(hub_id, *(_spellings(architecture) if tag == "coco" else ())),
        family=FAMILY,
    )


def _spellings(architecture: str) -> tuple[str, ...]:
    """Return other ways to write an architecture: `dfine-n`, `d_fine_nano`, `rf-detr-seg-nano`."""
    stem, _, size = architecture.rpartition("_")
    stems = {stem}
    for spelling, short in _SPELLINGS.items():
        stems |= {re.sub(f"^{spelling}", short, known) for known in tuple(stems)}
    if stem == "rt_detr_v2":
        stems.add("rtdetrv2")
    sizes = {size, _LONG_SIZES.get(size, size)}
    if stem == "rt_detr_v2":
        sizes.add(f"{size}vd")
    names = {f"{known}_{size}" for known in stems for size in sizes} - {architecture}
    if architecture == yolov5_stand_in()[0]:
        names.add("yolov5")
    return tuple(
        sorted(names | {name.replace("_", "-") for name in {*names, architecture}} - {architecture})
    )


TRANSFORMERS: Final[tuple[ModelSpec, ...]] = (
    _row("d_fine_n.coco", 3_782_693, "ustc-community/dfine-nano-coco"),
    _row("d_fine_s.coco", 10_321_877, "ustc-community/dfine-small-coco"),
    _row("d_fine_m.coco", 19_590_064, "ustc-community/dfine-medium-coco"),
    _row("d_fine_l.coco", 31_289_848, "ustc-community/dfine-large-coco"),
    _row("d_fine_x.coco", 62_715_480, "ustc-community/dfine-xlarge-coco"),
    # Pretrained on Objects365 first: better starts for small data.
    _row("d_fine_s.obj2coco", 10_321_877, "ustc-community/dfine-small-obj2coco"),
    _row("d_fine_m.obj2coco", 19_590_064, "ustc-community/dfine-medium-obj2coco"),
    _row("d_fine_l.obj2coco", 31_289_848, "ustc-community/dfine-large-obj2coco-e25"),
    _row("d_fine_x.obj2coco", 62_715_480, "ustc-community/dfine-xlarge-obj2coco"),
    _row("deimv2_atto.coco", 508_985, "Intellindust/DEIMv2_HGNetv2_ATTO_COCO"),
    _row("deimv2_femto.coco", 983_945, "Intellindust/DEIMv2_HGNetv2_FEMTO_COCO"),
    _row("deimv2_pico.coco", 1_539_539, "Intellindust/DEIMv2_HGNetv2_PICO_COCO"),
    _row("deimv2_n.coco", 3_600_421, "Intellindust/DEIMv2_HGNetv2_N_COCO"),
    _row("rt_detr_v2_r18.coco", 20_184_464, "PekingU/rtdetr_v2_r18vd"),
    _row("rt_detr_v2_r34.coco", 31_441_668, "PekingU/rtdetr_v2_r34vd"),
    _row("rt_detr_v2_r50.coco", 42_944_620, "PekingU/rtdetr_v2_r50vd"),
    _row("rt_detr_v2_r101.coco", 76_661_740, "PekingU/rtdetr_v2_r101vd"),
    _row("rf_detr_n.coco", 30_467_298, "Roboflow/rf-detr-nano"),
    _row("rf_detr_s.coco", 32_111_170, "Roboflow/rf-detr-small"),
    _row("rf_detr_m.coco", 33_687_458, "Roboflow/rf-detr-medium"),
    _row("rf_detr_l.coco", 33_933_218, "Roboflow/rf-detr-large"),
    _row("rf_detr_seg_n.coco", 33_577_475, "Roboflow/rf-detr-seg-nano"),
    _row("rf_detr_seg_s.coco", 33_711_107, "Roboflow/rf-detr-seg-small"),
    _row("rf_detr_seg_m.coco", 35_694_259, "Roboflow/rf-detr-seg-medium"),
    _row("rf_detr_seg_l.coco", 36_211_971, "Roboflow/rf-detr-seg-large"),
    _row("rf_detr_seg_xl.coco", 38_113_635, "Roboflow/rf-detr-seg-xlarge"),
    _row("rf_detr_seg_2xl.coco", 38_648_163, "Roboflow/rf-detr-seg-xxlarge"),
)
