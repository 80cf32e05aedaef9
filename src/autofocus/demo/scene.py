"""One scene: things painted back to front, none hidden by more than half, then photographed.

Notation for array shapes:
    - h, w: height and width of the image, in pixels
"""

from dataclasses import dataclass, field
from operator import itemgetter

import cv2
import numpy as np
from numpy.typing import NDArray

from autofocus.demo.drawing import Plane, Rgb, Sprite, as_floats
from autofocus.demo.surroundings import paint_background, photograph
from autofocus.demo.things import DISTRACTORS, LABELS, OBJECTS, Draw
from autofocus.structures.contours import trace_rings

MAX_OBJECTS = 5
MIN_SIZE_FRAC, MAX_SIZE_FRAC = 0.05, 0.5
_SIZE_RANGE = MAX_SIZE_FRAC - MIN_SIZE_FRAC
_FRAMES = ((240, 320), (300, 400), (320, 240), (400, 300))
MAX_ROTATION_DEG = 30.0
MIN_VISIBLE_FRAC = 0.5
# Distractors may be hidden more than objects, but not wholly.
MIN_VISIBLE_DISTRACTOR_FRAC = 0.3
_ATTEMPTS = 16

# Two corners (y, x) of a part of the image, as fractions of its height and width.
Region = tuple[tuple[float, float], tuple[float, float]]
WHOLE_IMAGE: Region = ((0.0, 0.0), (1.0, 1.0))


@dataclass(frozen=True)
class Stamp:
    """Sprite at its final size and angle.

    Attributes:
        rgb: float32 [height, width, 3].
        opacity: float32 [height, width] in [0, 1].
        mask: bool [height, width]; it reaches all four sides.
    """

    rgb: Plane
    opacity: Plane
    mask: NDArray[np.bool_]


@dataclass
class Placed:
    """Stamp in the image.

    Attributes:
        label: Class; None for a distractor.
        visible: bool [h, w], the pixels that nothing hides so far.
        area: Number of pixels in the whole mask.
    """

    label: str | None
    visible: NDArray[np.bool_]
    area: int

    def survives(self, cover: NDArray[np.bool_]) -> bool:
        """Return whether enough stays visible behind `cover`, bool [h, w]."""
        least = MIN_VISIBLE_DISTRACTOR_FRAC if self.label is None else MIN_VISIBLE_FRAC
        return int(np.count_nonzero(self.visible & ~cover)) >= least * self.area


@dataclass
class Composition:
    """Unfinished image.

    Attributes:
        image: float32 [h, w, 3] in [0, 255].
        placed: Stamps in it, back to front.
    """

    image: Plane
    placed: list[Placed] = field(default_factory=list)

    def place(
        self,
        rng: np.random.Generator,
        stamp: Stamp,
        label: str | None,
        within: Region = WHOLE_IMAGE,
        must: bool = False,
    ) -> bool:
        """Put a stamp in front of everything, where it hides nothing too much.

        Args:
            rng: Source of positions.
            stamp: Stamp not larger than the image.
            label: Class; None for a distractor.
            within: Region of its centre; a stamp that would stick out of the image is moved in.
            must: Whether to place it even where it hides too much.

        Returns:
            Whether it was placed.
        """
        frame = np.array(self.image.shape[:2])
        size = np.array(stamp.mask.shape)
        for attempt in range(_ATTEMPTS):
            middle = rng.uniform(*within) * frame
            top, left = np.clip(np.round(middle - size / 2), 0, frame - size).astype(np.intp)
            cover = np.zeros(self.image.shape[:2], dtype=np.bool_)
            cover[top : top + size[0], left : left + size[1]] = stamp.mask
            last = must and attempt == _ATTEMPTS - 1
            if last or all(placed.survives(cover) for placed in self.placed):
                self._paint(rng, stamp, int(top), int(left))
                for placed in self.placed:
                    placed.visible &= ~cover
                self.placed.append(Placed(label, cover, int(np.count_nonzero(cover))))
                return True
        return False

    def around(self, placed: Placed, size: tuple[int, int]) -> Region:
        """Return the region of centres where a stamp of `size` pixels likely overlaps `placed`."""
        height, width = placed.visible.shape
        rows = np.nonzero(placed.visible.any(axis=1))[0]
        columns = np.nonzero(placed.visible.any(axis=0))[0]
        middle_y, middle_x = rows.mean() / height, columns.mean() / width
        reach_y = 0.5 * (rows.size + size[0]) / height
        reach_x = 0.5 * (columns.size + size[1]) / width
        low = (middle_y - reach_y, middle_x - reach_x)
        return low, (middle_y + reach_y, middle_x + reach_x)

    def _paint(self, rng: np.random.Generator, stamp: Stamp, top: int, left: int) -> None:
        height, width = stamp.mask.shape
        self._cast_shadow(rng, stamp, top, left)
        region = self.image[top : top + height, left : left + width]
        region += stamp.opacity[..., None] * (stamp.rgb - region)

    def _cast_shadow(self, rng: np.random.Generator, stamp: Stamp, top: int, left: int) -> None:
        """Darken the surroundings of the stamp, more to one side."""
        height, width = stamp.mask.shape
        spread = max(2, round(0.06 * max(height, width)))
        shade = np.pad(stamp.mask.astype(np.float32), 3 * spread)
        shade = cv2.GaussianBlur(shade, (0, 0), spread) * np.float32(rng.uniform(0.2, 0.6))
        top += int(rng.integers(0, spread + 1)) - 3 * spread
        left += int(rng.integers(-spread, spread + 1)) - 3 * spread
        frame_height, frame_width = self.image.shape[:2]
        rows = slice(max(top, 0), min(top + shade.shape[0], frame_height))
        columns = slice(max(left, 0), min(left + shade.shape[1], frame_width))
        shade = shade[
            rows.start - top : rows.stop - top, columns.start - left : columns.stop - left
        ]
        self.image[rows, columns] *= (1 - shade)[..., None]


def stamp_sprite(
    sprite: Sprite, size_frac: float, angle_deg: float, frame: tuple[int, int]
) -> Stamp:
    """Turn a sprite and scale its box to a share of the frame.

    Args:
        sprite: Upright sprite.
        size_frac: Height of the box over the frame's, or width over width, whichever is larger.
        angle_deg: Clockwise angle, in degrees.
        frame: Height and width of the image, in pixels.
    """
    solid = (sprite.coverage > 127).astype(np.uint8)
    outlines, _ = cv2.findContours(solid, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    angle = np.deg2rad(angle_deg)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    turned = (np.concatenate(outlines)[:, 0] + 0.5) @ turn.T
    low, high = turned.min(axis=0) - 0.5, turned.max(axis=0) + 0.5
    scale = size_frac * float(np.min(np.array(frame[::-1]) / (high - low)))
    size = np.ceil((high - low) * scale).astype(np.intp) + 2

    # Coordinates of cv2 start at centres of pixels: add half a pixel before, subtract it after.
    offset = 0.5 - low * scale + scale * (turn @ np.array([0.5, 0.5]))
    matrix = np.hstack([turn * scale, offset[:, None]])
    # Linear sampling reads 2 x 2 pixels, so shrinking by more would skip some.
    softness = 0.4 / scale if scale < 0.7 else 0.0

    def warp(plane: NDArray[np.uint8], border: int) -> Plane:
        soft = cv2.GaussianBlur(plane, (0, 0), softness) if softness else plane
        warped = cv2.warpAffine(
            soft, matrix, size.tolist(), flags=cv2.INTER_LINEAR, borderMode=border
        )
        return as_floats(warped)

    mask = warp(sprite.coverage, cv2.BORDER_CONSTANT) > 127
    rows, columns = np.nonzero(mask.any(axis=1))[0], np.nonzero(mask.any(axis=0))[0]
    tight = (slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1))
    opacity = warp(sprite.opacity, cv2.BORDER_CONSTANT)[tight] / np.float32(255)
    return Stamp(warp(sprite.rgb, cv2.BORDER_REPLICATE)[tight], opacity, mask[tight])


@dataclass(frozen=True)
class _Framing:
    """Sizes and positions of things in a scene.

    Attributes:
        size_skew: Power of a uniform number; the lower, the more objects are large.
        region: Region of the centres of objects.
        distractor_size_frac: Least and greatest size of distractors.
        max_in_front: Most distractors that hide parts of objects.
    """

    size_skew: float
    region: Region
    distractor_size_frac: tuple[float, float]
    max_in_front: int


# In a photograph of one thing it is large and central, with the clutter behind.
_ALONE = _Framing(0.12, ((0.36, 0.36), (0.64, 0.64)), (0.06, 0.26), max_in_front=1)
_AMONG_OTHERS = _Framing(0.7, WHOLE_IMAGE, (0.1, 0.45), max_in_front=2)


@dataclass(frozen=True)
class SceneObject:
    """Labelled object.

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
    """Rendered image and its objects.

    Attributes:
        image: uint8 [h, w, 3], RGB.
        objects: Labelled objects, back to front; at least one.
        num_distractors: Number of unlabelled things; at least two.
        jpeg_quality: JPEG quality to store the image with.
    """

    image: Rgb
    objects: tuple[SceneObject, ...]
    num_distractors: int
    jpeg_quality: int


def render_scene(seed: int, index: int, max_objects: int = MAX_OBJECTS) -> Scene:
    """Render scene `index` of the endless set `seed`; the same arguments give the same pixels.

    Args:
        seed: Seed of the set.
        index: Scene number; the first objects of four scenes in a row, from a multiple of four,
            have one of each label.
        max_objects: Most objects; the least is 1.
    """
    rng = np.random.default_rng([seed, index])
    frame = _FRAMES[rng.integers(len(_FRAMES))]
    scene = Composition(paint_background(rng, *frame))
    num_objects = int(rng.integers(1, max_objects + 1))
    framing = _ALONE if num_objects == 1 else _AMONG_OTHERS

    for _ in range(int(rng.integers(2, 4))):
        distractor = _random_distractor(rng, framing, frame)
        scene.place(rng, distractor, None, must=len(scene.placed) < 2)
    for number in range(num_objects):
        label = _first_label(seed, index) if number == 0 else LABELS[rng.integers(len(LABELS))]
        size_frac = MIN_SIZE_FRAC + _SIZE_RANGE * rng.random() ** framing.size_skew
        stamp = _random_stamp(rng, OBJECTS[label], size_frac, frame)
        scene.place(rng, stamp, label, within=framing.region, must=number == 0)
    for _ in range(int(rng.integers(0, framing.max_in_front + 1))):
        labelled = [placed for placed in scene.placed if placed.label is not None]
        target = labelled[rng.integers(len(labelled))]
        distractor = _random_distractor(rng, framing, frame)
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
    """Return the label of the first object: balanced classes, shuffled in every four scenes."""
    block, position = divmod(index, len(LABELS))
    order = np.random.default_rng([seed, block, len(LABELS)]).permutation(len(LABELS))
    return LABELS[int(order[position])]


def _random_distractor(
    rng: np.random.Generator, framing: _Framing, frame: tuple[int, int]
) -> Stamp:
    draw = DISTRACTORS[rng.integers(len(DISTRACTORS))]
    return _random_stamp(rng, draw, rng.uniform(*framing.distractor_size_frac), frame)


def _random_stamp(
    rng: np.random.Generator, draw: Draw, size_frac: float, frame: tuple[int, int]
) -> Stamp:
    # Drawn at 1.5 times its final size, for smooth edges.
    sprite = draw(rng, max(48, round(1.5 * size_frac * frame[0])))
    angle_deg = rng.uniform(-MAX_ROTATION_DEG, MAX_ROTATION_DEG)
    return stamp_sprite(sprite, size_frac, angle_deg, frame)
