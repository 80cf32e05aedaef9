"""D-RISE on every head passes one suite. A new head is one line in `HEADS` or `tiny_transformers`.

Boxes need no gradient: what holds here for the torch backend holds for any.
"""

import io

import numpy as np
import pytest
import torch
from PIL import Image

from autofocus.data.batches.tiles import WHOLE
from autofocus.data.images.decode import decode
from autofocus.explain.base import FoundBoxes
from autofocus.explain.class_measures import shuffle_weights
from autofocus.explain.measures import box_insertion_deletion, centred_gaussian
from autofocus.explain.parameters import Parameters
from autofocus.manifest import DataInfo, Manifest, ResizeFit, WeightsInfo
from autofocus.models import catalog
from autofocus.models.box_profile import TYPICAL
from autofocus.models.families import family_of
from autofocus.models.network import Network
from autofocus.scoring.backends.torch import TorchBackend
from autofocus.scoring.explain.boxes import BoxExplainer, image_part
from autofocus.scoring.scorer import Scorer
from autofocus.scoring.tiling import view_of
from autofocus.tasks import TASKS
from support.tiny_transformers import SIDES, TINY, build_tiny, train_briefly

pytestmark = pytest.mark.usefixtures("one_thread")

NUM_CLASSES = 3
HEADS = ["fcos", "retinanet", "fasterrcnn", "maskrcnn"]
# As few numbers as every head works with.
NARROW = {
    "channels": 32,
    "head_width": 32,
    "num_mask_layers": 1,
    "num_proposals": 20,
    "num_candidates": 30,
}
QUICK = Parameters("d_rise", num_masks=24, grid=4, max_boxes=3, visualizations=False)


@pytest.fixture(scope="module", params=[*HEADS, *TINY])
def model(request: pytest.FixtureRequest) -> tuple[Scorer, BoxExplainer]:
    network, side = _network(request.param)
    kind = "instance segmenter" if len(network.output_names) > 3 else "detector"
    task = next(name for name, task in TASKS.items() if task.model_kind == kind)
    manifest = Manifest(
        task=task,
        labels=["a", "b", "c"],
        model_name=request.param,
        preprocess=ResizeFit(side, side),
        weights=WeightsInfo("random", "none"),
        data=DataInfo("0" * 64, 1, 1),
        outputs=list(network.output_names),
        # Whatever a random network is least unsure of.
        settings={"box_score_threshold": 0.0, "mask_pixel_score_threshold": 0.0},
    )
    backend = TorchBackend(network, network.output_names)
    return Scorer(manifest, backend), BoxExplainer(manifest, backend)


def _network(name: str) -> tuple[Network, int]:
    if name in TINY:
        network = build_tiny(name, num_classes=NUM_CLASSES)
        # Fresh queries answer alike whatever they see.
        train_briefly(network, SIDES[name], num_steps=3)
        return network.eval(), SIDES[name]
    torch.manual_seed(0)
    spec = catalog.resolve(f"{name}_resnet18_fpn")
    options = family_of(spec).network_options(spec, TYPICAL, (64, 64))
    options |= {key: value for key, value in NARROW.items() if key in options}
    return family_of(spec).build(spec, NUM_CLASSES, None, (64, 64), options).eval(), 64


@pytest.fixture(scope="module")
def photo() -> bytes:
    pixels = np.random.default_rng(0).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).resize((128, 96), Image.Resampling.NEAREST).save(buffer, "PNG")
    return buffer.getvalue()


def test_each_box_has_a_finite_map_in_the_frame_of_the_image(
    model: tuple[Scorer, BoxExplainer], photo: bytes
) -> None:
    scorer, explainer = model
    (found,) = scorer.try_predict([photo])
    assert len(found)
    chosen = explainer.selector.select(scorer.labels, found, QUICK)
    first = explainer.explain(decode(photo), chosen, QUICK)
    side = scorer.manifest.preprocess.size[1]
    assert [e.label for e in first] == [scorer.labels[i] for i in found.classes[: len(first)]]
    for explanation in first:
        assert explanation.map.shape == (1, round(side * 0.75), side)
        assert explanation.map.dtype == np.float32
        assert np.isfinite(explanation.map).all()
        assert np.ptp(explanation.map) > 0
        # The candidate that became the box resembles it as much as anything can.
        resemblance = explanation.attribution.metadata["resemblance"]
        assert resemblance == pytest.approx(explanation.probability, rel=1e-3, abs=1e-5)
    again = explainer.explain(decode(photo), chosen, QUICK)
    assert all(np.array_equal(a.map, b.map) for a, b in zip(first, again, strict=True))


def test_what_a_map_is_worth_can_be_measured(
    model: tuple[Scorer, BoxExplainer], photo: bytes
) -> None:
    scorer, explainer = model
    (found,) = scorer.try_predict([photo])
    boxes = FoundBoxes(found.xyxy_frac[:1], found.classes[:1])
    pixels, manifest = decode(photo), scorer.manifest
    (attribution,) = explainer.attributions(pixels, boxes, QUICK)
    view = view_of(pixels, manifest.preprocess, WHOLE)
    size = image_part(view)
    detect = explainer.backend.run
    for saliency in (attribution.saliency()[: size[0], : size[1]], centred_gaussian(*size)):
        areas = box_insertion_deletion(detect, view.tensor, view.frame, boxes, saliency)
        assert all(0 < area < 1 for area in areas)
    assert isinstance(explainer.backend, TorchBackend)
    network = explainer.backend.network
    # Another network, whose map is another one, or says that nothing there resembles the box.
    before = {name: value.clone() for name, value in network.state_dict().items()}
    shuffled = shuffle_weights(network, 1)
    other = BoxExplainer(manifest, TorchBackend(shuffled, manifest.outputs))
    (shuffled_map,) = other.attributions(pixels, boxes, QUICK)
    assert np.isfinite(shuffled_map.map).all()
    assert not np.array_equal(shuffled_map.map, attribution.map)
    after = network.state_dict()
    assert all(torch.equal(value, before[name]) for name, value in after.items())
