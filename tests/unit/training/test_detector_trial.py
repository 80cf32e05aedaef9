"""What a trial says before it trains, and which training images it measures."""

import pytest

from autofocus.models.detection.mask_rcnn import MaskRcnn
from autofocus.models.network import Network
from autofocus.training.candidate import Samples
from autofocus.training.detector_trial import MAX_SEEN_IMAGES, seen_samples, unheeded
from autofocus.training.recipe import Recipe


class AnySize(Network):
    takes_any_size = True


@pytest.mark.parametrize(
    ("network", "multi_scale", "said"),
    [(AnySize(), True, 0), (Network(), True, 1), (Network(), False, 0), (Network(), None, 0)],
)
def test_a_network_of_one_size_says_that_multi_scale_is_not_used(
    network: Network, multi_scale: bool | None, said: int
) -> None:
    lines = list(unheeded(network, "d_fine_n", Recipe(multi_scale=multi_scale), {}))
    assert lines == ["multi_scale is not used: d_fine_n takes one size"] * said


@pytest.mark.parametrize(("overlap", "said"), [(0.5, 0), (0.6, 0), (0.75, 1)])
def test_a_network_that_suppresses_boxes_itself_says_how_far_the_job_reaches(
    overlap: float, said: int
) -> None:
    suppressing = AnySize()
    suppressing.nms_iou = MaskRcnn.nms_iou
    settings = {"nms_iou_threshold": overlap}
    lines = list(unheeded(suppressing, "maskrcnn_resnet50_fpn", Recipe(), settings))
    assert len(lines) == said
    assert all("is 0.75, but maskrcnn_resnet50_fpn keeps no two" in line for line in lines)
    assert not list(unheeded(AnySize(), "fcos_resnet50_fpn", Recipe(), settings))


def test_the_same_training_images_are_measured_each_time() -> None:
    names = [str(i) for i in range(MAX_SEEN_IMAGES + 50)]
    many = Samples([None] * len(names), names, "photos")
    chosen = seen_samples(many, 3).locations
    assert len(set(chosen)) == MAX_SEEN_IMAGES
    assert chosen == seen_samples(many, 3).locations != seen_samples(many, 4).locations
    assert sorted(chosen, key=int) == chosen
    few = many.chosen(range(5))
    assert seen_samples(few, 3).locations == few.locations
