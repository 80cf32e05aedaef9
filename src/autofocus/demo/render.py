"""One scene: what is in it, how large, how turned, and the photograph of it.

Notation for array shapes:
    - h, w: height and width of the image, in pixels
"""

from dataclasses import dataclass
from operator import itemgetter

import numpy as np
from numpy.typing import NDArray

from autofocus.demo.backgrounds import paint_background
from autofocus.demo.camera import photograph
from autofocus.demo.compose import (
    MAX_ROTATION_DEG,
    WHOLE_IMAGE,
    Composition,
    Region,
    Stamp,
    stamp_sprite,
)
from autofocus.demo.distractors import DISTRACTORS
from autofocus.demo.drawing import Rgb
from autofocus.demo.objects import LABELS, OBJECTS, Draw
from autofocus.structures.contours import trace_rings

MAX_OBJECTS = 5
MIN_SIZE_FRAC, MAX_SIZE_FRAC = 0.05, 0.5
_SIZE_RANGE = MAX_SIZE_FRAC - MIN_SIZE_FRAC
_FRAMES = ((240, 320), (300, 400), (320, 240), (400, 300))


@dataclass(frozen=True)
class _Manner:
    """How a scene is framed.

    Attributes:
        size_skew: Power of a uniform number; the lower, the more objects are large.
        region: Where the middles of objects lie.
        distractor_size_frac: Least and greatest size of distractors.
        max_in_front: How many distractors at most hide parts of objects.
    """

    size_skew: float
    region: Region
    distractor_size_frac: tuple[float, float]
    max_in_front: int


# A photograph of one thing has it large, near the middle, and the clutter behind.
_ALONE = _Manner(0.12, ((0.36, 0.36), (0.64, 0.64)), (0.06, 0.26), max_in_front=1)
_AMONG_OTHERS = _Manner(0.7, WHOLE_IMAGE, (0.1, 0.45), max_in_front=2)


@dataclass(frozen=True)
class SceneObject:
    """One labelled object.

    Attributes:
        label: One of `LABELS`.
        mask: bool [h, w], its visible pixels: at least half of it.
    """

    label: str
    mask: NDArray[np.bool_]

    @property
    def xyxy(self) -> tuple[int, int, int, int]:
        """Left, top, right, bottom of the visible part, in pixels; right and bottom exclusive."""
        rows = np.nonzero(self.mask.any(axis=1))[0]
        columns = np.nonzero(self.mask.any(axis=0))[0]
        return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1

    def rings(self) -> list[NDArray[np.int32]]:
        """Return the exact outline of the visible part, int32 [m, 2] each, (x, y) in pixels."""
        outlines = [self._turned_right(ring) for ring in trace_rings(self.mask, True)]
        return [ring for _, ring in sorted(outlines, key=itemgetter(0))]

    def _turned_right(self, ring: NDArray[np.float32]) -> tuple[tuple[int, int], NDArray[np.int32]]:
        """Return a ring with the object to its right, and (y, x) of its first top edge.

        The ring ends where that edge begins.
        """
        corners = ring.astype(np.int32)
        x, y = corners[0]
        if not self.mask[y, x]:
            corners = corners[::-1]  # a hole
        following = np.roll(corners, -1, axis=0)
        top = np.flatnonzero(following[:, 0] > corners[:, 0])
        first = min(top.tolist(), key=lambda i: (corners[i, 1], corners[i, 0]))
        x, y = corners[first].tolist()
        return (y, x), np.roll(corners, -first - 1, axis=0)


@dataclass(frozen=True)
class Scene:
    """A rendered image and what is in it.

    Attributes:
        image: uint8 [h, w, 3], RGB.
        objects: Labelled objects, back to front; at least one.
        num_distractors: How many unlabelled things stand around; at least two.
        jpeg_quality: What it wants to be stored with.
    """

    image: Rgb
    objects: tuple[SceneObject, ...]
    num_distractors: int
    jpeg_quality: int


def render_scene(seed: int, index: int, max_objects: int = MAX_OBJECTS) -> Scene:
    """Render scene `index` of the endless set `seed`; the same arguments give the same pixels.

    Args:
        seed: Which set.
        index: Which scene of it; any four in a row from a multiple of four have, as their
            first object, one of each label.
        max_objects: The scene has 1 to this many objects.
    """
    rng = np.random.default_rng([seed, index])
    frame = _FRAMES[rng.integers(len(_FRAMES))]
    scene = Composition(paint_background(rng, *frame))
    num_objects = int(rng.integers(1, max_objects + 1))
    manner = _ALONE if num_objects == 1 else _AMONG_OTHERS

    for _ in range(int(rng.integers(2, 4))):
        distractor = _random_distractor(rng, manner, frame)
        scene.place(rng, distractor, None, must=len(scene.placed) < 2)
    for number in range(num_objects):
        label = _first_label(seed, index) if number == 0 else LABELS[rng.integers(len(LABELS))]
        size_frac = MIN_SIZE_FRAC + _SIZE_RANGE * rng.random() ** manner.size_skew
        stamp = _random_stamp(rng, OBJECTS[label], size_frac, frame)
        scene.place(rng, stamp, label, within=manner.region, must=number == 0)
    for _ in range(int(rng.integers(0, manner.max_in_front + 1))):
        labelled = [placed for placed in scene.placed if placed.label is not None]
        target = labelled[rng.integers(len(labelled))]
        distractor = _random_distractor(rng, manner, frame)
        scene.place(rng, distractor, None, within=scene.around(target, distractor.mask.shape))

    objects = tuple(
        SceneObject(placed.label, placed.visible)
        for placed in scene.placed
        if placed.label is not None
    )
    return Scene(
        image=photograph(rng, scene.image),
        objects=objects,
        num_distractors=len(scene.placed) - len(objects),
        jpeg_quality=int(rng.integers(70, 96)),
    )


def _first_label(seed: int, index: int) -> str:
    """Return the label that keeps the classes balanced, shuffled in every four scenes."""
    block, place = divmod(index, len(LABELS))
    order = np.random.default_rng([seed, block, len(LABELS)]).permutation(len(LABELS))
    return LABELS[int(order[place])]


def _random_distractor(rng: np.random.Generator, manner: _Manner, frame: tuple[int, int]) -> Stamp:
    draw = DISTRACTORS[rng.integers(len(DISTRACTORS))]
    return _random_stamp(rng, draw, rng.uniform(*manner.distractor_size_frac), frame)


def _random_stamp(
    rng: np.random.Generator, draw: Draw, size_frac: float, frame: tuple[int, int]
) -> Stamp:
    # Half again as large as it will appear, for smooth edges.
    sprite = draw(rng, max(48, round(1.5 * size_frac * frame[0])))
    angle_deg = rng.uniform(-MAX_ROTATION_DEG, MAX_ROTATION_DEG)
    return stamp_sprite(sprite, size_frac, angle_deg, frame)
