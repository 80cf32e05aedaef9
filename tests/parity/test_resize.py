"""Close to the antialiased bilinear resize and centre crop that pretrained weights saw.

Distances are in levels of 0 to 255, averaged over pixels. Two references:

* Pillow's resize of exactly the square that we look at: what the resampling itself differs by.
* torchvision's Resize + CenterCrop: its rounding of the resized size and of the crop moves the
  image by up to half a pixel, and ours by up to half another, which alone costs several levels
  on textured photos. Moving torchvision's own output by one pixel costs more than that.
"""

from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from autofocus.data.batches.preprocess import preprocess, resize_crop, resize_fit
from autofocus.data.images.decode import decode
from autofocus.manifest import ResizeCrop, ResizeFit

SHARED = Path(__file__).parents[2] / "../shared/data"
SPEC = ResizeCrop(resize_size=256, crop_size=224)


def synthetic(height: int, width: int) -> NDArray[np.uint8]:
    """Return a smooth scene with a few hard edges."""
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 256, (12, 16, 3), dtype=np.uint8)
    image = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)
    cv2.circle(image, (width // 2, height // 2), min(height, width) // 4, (255, 20, 20), -1)
    return np.asarray(image, np.uint8)


def photos() -> list[NDArray[np.uint8]]:
    paths = sorted((SHARED / "coco128").rglob("*.jpg"))[:10]
    paths += sorted((SHARED / "fridge-multiclass").rglob("*.jpg"))[:10]
    if not paths:
        pytest.skip(f"no photos in {SHARED}")
    return [decode(path.read_bytes()) for path in paths]


def with_pillow(image: NDArray[np.uint8], spec: ResizeCrop) -> NDArray[np.uint8]:
    """Resize the centred square, in the whole pixels that we round it to."""
    height, width, _ = image.shape
    side = round(min(height, width) * spec.crop_size / spec.resize_size)
    side -= side % (1 << max(0, (side // spec.crop_size).bit_length() - 1))
    top, left = (height - side) // 2, (width - side) // 2
    square = Image.fromarray(image[top : top + side, left : left + side])
    size = (spec.crop_size, spec.crop_size)
    return np.asarray(square.resize(size, Image.Resampling.BILINEAR))


def distance(left: NDArray[np.uint8], right: NDArray[np.uint8]) -> float:
    return float(np.abs(left.astype(float) - right).mean())


@pytest.mark.parametrize(
    "size", [(480, 640), (374, 282), (256, 256), (1080, 1920), (3000, 4000), (100, 160), (60, 50)]
)
def test_synthetic_scenes_follow_pillow(size: tuple[int, int]) -> None:
    image = synthetic(*size)
    assert distance(resize_crop(image, SPEC), with_pillow(image, SPEC)) < 0.5


def test_real_photos_follow_pillow() -> None:
    distances = [distance(resize_crop(photo, SPEC), with_pillow(photo, SPEC)) for photo in photos()]
    assert np.mean(distances) < 1.5
    assert max(distances) < 5


@pytest.mark.parametrize("side", [640, 416, 320])
def test_whole_photos_follow_pillow(side: int) -> None:
    spec = ResizeFit(height=side, width=side)
    distances = []
    for photo in photos():
        found = resize_fit(photo, spec)
        size = (found.shape[1], found.shape[0])
        expected = Image.fromarray(photo).resize(size, Image.Resampling.BILINEAR)
        distances.append(distance(found, np.asarray(expected)))
    assert np.mean(distances) < 3
    assert max(distances) < 9


@pytest.mark.parametrize("size", [(480, 640), (374, 282), (1080, 1920), (3000, 4000), (60, 50)])
def test_whole_synthetic_scenes_follow_pillow(size: tuple[int, int]) -> None:
    image = synthetic(*size)
    found = resize_fit(image, ResizeFit(height=320, width=416))
    shape = (found.shape[1], found.shape[0])
    expected = Image.fromarray(image).resize(shape, Image.Resampling.BILINEAR)
    assert distance(found, np.asarray(expected)) < 0.5


def test_real_photos_follow_torchvision_to_less_than_a_pixel() -> None:
    transforms = pytest.importorskip("torchvision.transforms.v2")
    torch = pytest.importorskip("torch")
    reference = transforms.Compose(
        [
            transforms.Resize(256, antialias=True),
            transforms.CenterCrop(224),
            transforms.ToDtype(torch.float32, scale=True),
            transforms.Normalize(SPEC.mean, SPEC.std),
        ]
    )
    ours, moved = [], []
    for photo in photos():
        expected = reference(torch.from_numpy(photo).permute(2, 0, 1)).numpy()
        ours.append(np.abs(preprocess(photo, SPEC) - expected).mean())
        moved.append(np.abs(expected[:, 1:, 1:] - expected[:, :-1, :-1]).mean())
    assert np.mean(ours) < 0.15
    assert np.mean(ours) < 0.7 * np.mean(moved)
