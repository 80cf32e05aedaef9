"""Pictures of what a model says of an image, from the pixels and the published wire object.

Objects have a line in their class's colour and a band with label and score; outlines are tinted.
Of many of a class the bands have the score alone, and where they would hide other objects they are
left out: then the classes are named below the picture, as whole-image classes are. Beside the
labelled truth, what is labelled is dashed in white, what was missed boldly and with the word, and
what was found in error is dashed in its class's colour.
"""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import compress
from typing import Any, Final

import cv2
import numpy as np
from numpy.typing import NDArray

from autofocus.pictures.palette import INK, WHITE, Colour, class_colours
from autofocus.pictures.text import Label, Pixels, Said, put_signs, with_caption
from autofocus.structures.boxes import box_iou
from autofocus.structures.polygons import from_wire
from autofocus.structures.targets import BoxTarget, OutlineTarget

Ring = NDArray[np.float64]  # [p, 2], (x, y) in pixels, closed by itself

# Small pictures are enlarged until the longer side, and the median object, have so many pixels,
# but not beyond _MAX_ENLARGED. No picture is larger than _MAX_SIDE.
_MIN_SIDE: Final = 512
_MIN_OBJECT: Final = 24
_MAX_ENLARGED: Final = 2048
_MAX_SIDE: Final = 4096

# Letters and lines, in parts of the root of the picture's area, of a median object's side, and in
# pixels.
_TEXT_FRAC, _TEXT_OF_OBJECT, _MIN_TEXT, _MAX_TEXT = 0.026, 0.3, 12, 96
_LINE_FRAC, _LINE_OF_OBJECT, _MIN_LINE, _MAX_LINE = 0.004, 0.04, 1, 16

# A whole image's classes that are named: at least so many, and those at least so probable.
_NUM_CLASSES, _MAX_CLASSES, _PROBABLE = 3, 8, 0.5

# Up to so many objects of a class are each named.
_FEW: Final = 12

_CORNERS: Final = ("topX", "topY", "bottomX", "bottomY")


@dataclass(frozen=True)
class _Object:
    """An object on the picture.

    Attributes:
        box: (left, top, right, bottom) in pixels.
        rings: Its outline, or the corners of its box.
        label: Its class.
        score: In [0, 1]; of what is labelled, 1.
        is_outlined: It came with an outline.
        is_crowd: It is neither to be found nor wrong to find.
    """

    box: NDArray[np.float64]
    rings: list[Ring]
    label: str
    score: float = 1.0
    is_outlined: bool = False
    is_crowd: bool = False


def draw(
    image: Pixels,
    response: Mapping[str, Any],
    labels: Sequence[str],
    truth: BoxTarget | Sequence[str] | None = None,
    iou_threshold: float = 0.5,
) -> Pixels:
    """Return a picture of a response, RGB.

    Args:
        image: RGB [h, w, 3]; not changed.
        response: The wire object for it, of any task; not an error.
        labels: All classes of the model: colours go by their positions.
        truth: What is labelled: objects, or the names of the image's classes. None draws the
            response alone.
        iou_threshold: Overlap of boxes from which an object counts as found.
    """
    colours = class_colours(labels)
    if "boxes" not in response:
        assert not isinstance(truth, BoxTarget), "classes are compared with classes"
        picture = _sized(image, np.empty(0))
        return with_caption(picture, _classes(response, truth, colours), _text_size(picture, None))
    assert truth is None or isinstance(truth, BoxTarget), "objects are compared with objects"
    corners = np.array([[item["box"][c] for c in _CORNERS] for item in response["boxes"]])
    picture = _sized(image, _sides(corners.reshape(-1, 4), image.shape))
    found = [_found(item, picture.shape) for item in response["boxes"]]
    labelled = [] if truth is None else _labelled(truth, labels, picture.shape)
    return _with_objects(picture, found, labelled, colours, iou_threshold, truth is not None)


def _classes(
    response: Mapping[str, Any], truth: Sequence[str] | None, colours: Mapping[str, Colour]
) -> list[Said]:
    """Return what is said of a whole image."""
    ranked = sorted(zip(response["probs"], response["labels"], strict=True), reverse=True)
    num = max(_NUM_CLASSES, sum(prob >= _PROBABLE for prob, _ in ranked))
    said: list[Said] = [
        (label, f" {prob:.2f}", colours[label]) for prob, label in ranked[: min(num, _MAX_CLASSES)]
    ]
    if truth is not None:
        said.append((f"labelled: {', '.join(truth) or 'no class'}", "", WHITE))
    return said


def _with_objects(
    picture: Pixels,
    found: Sequence[_Object],
    labelled: Sequence[_Object],
    colours: Mapping[str, Colour],
    iou_threshold: float,
    is_compared: bool,
) -> Pixels:
    sides = _sides(np.array([item.box for item in (*found, *labelled)]).reshape(-1, 4))
    text, line = _text_size(picture, sides), _line_width(picture, sides)
    is_right, is_met = _matched(found, labelled, iou_threshold)
    is_wrong = ~is_right & is_compared
    # The most certain last, over the others.
    for item, wrong in reversed(list(zip(found, is_wrong, strict=True))):
        if item.is_outlined:
            fill(picture, item.rings, colours[item.label])
        draw_line = dashed if wrong else stroke
        draw_line(picture, item.rings, colours[item.label], line)
    is_missed = [not (met or t.is_crowd) for t, met in zip(labelled, is_met, strict=True)]
    for item, bold in zip(labelled, is_missed, strict=True):
        dashed(picture, item.rings, WHITE, 2 * line if bold else line)
    missed = list(compress(labelled, is_missed))
    nums = Counter(item.label for item in (*found, *missed))
    many = {label for label, num in nums.items() if num > _FEW}
    num_left_out = put_signs(picture, _signs(found, is_wrong, missed, many, colours), text, line)
    said: list[Said] = []
    if is_compared:
        num_wrong = int(is_wrong.sum())
        counts = f"{len(found) - num_wrong} found, {len(missed)} missed, {num_wrong} wrong"
        said = [(counts, "", WHITE), ("dashed: labelled white, wrong in colour", "", WHITE)]
    if num_left_out or many:
        num_found = Counter(item.label for item in found)
        said += [(label, f" {num_found[label]}", colours[label]) for label, _ in nums.most_common()]
    return with_caption(picture, said, _text_size(picture, None))


def _signs(
    found: Sequence[_Object],
    is_wrong: NDArray[np.bool_],
    missed: Sequence[_Object],
    many: set[str],
    colours: Mapping[str, Colour],
) -> list[Label]:
    """Return what is said of each object, the most important first.

    Args:
        found: The most certain first.
        is_wrong: Which of them, [len(found)].
        missed: What is labelled and was not found.
        many: Classes of so many objects that their colour is enough.
        colours: Of all classes.
    """
    # A missed object has no colour: among several classes it is always named.
    labels = {item.label for item in (*found, *missed)}
    unnamed = many if len(labels) == 1 else set[str]()
    signs = [
        Label("missed", "" if item.label in unnamed else f" {item.label}", INK, item.box, must=True)
        for item in missed
    ]
    for item, wrong in zip(found, is_wrong, strict=True):
        is_named, score = item.label not in many, f" {item.score:.2f}"
        label, extra = item.label if is_named else "", " wrong" if wrong and is_named else ""
        signs.append(Label(label, score, colours[item.label], item.box, extra=extra))
    return signs


def _matched(
    found: Sequence[_Object], labelled: Sequence[_Object], iou_threshold: float
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Return which found objects are labelled, and which labelled ones are found."""
    is_right, is_met = np.zeros(len(found), np.bool_), np.zeros(len(labelled), np.bool_)
    if not found or not labelled:
        return is_right, is_met
    overlaps = box_iou(np.array([f.box for f in found]), np.array([t.box for t in labelled]))
    same = np.array([[f.label == t.label for t in labelled] for f in found])
    is_crowd = np.array([t.is_crowd for t in labelled])
    overlaps = np.where(same & (overlaps >= iou_threshold), overlaps, 0)
    for i, row in enumerate(overlaps):
        free = np.where(is_met & ~is_crowd, 0, row)
        best = int(free.argmax())
        if free[best] > 0:
            is_right[i] = is_met[best] = True
    return is_right, is_met


def _found(item: Mapping[str, Any], shape: tuple[int, ...]) -> _Object:
    height, width = shape[:2]
    box = np.array([item["box"][c] for c in _CORNERS]) * ([width, height] * 2)
    rings = [ring * np.array([width, height]) for ring in from_wire(item.get("polygon", ()))]
    return _Object(box, rings or [box_ring(box)], item["label"], item["score"], bool(rings))


def _labelled(truth: BoxTarget, labels: Sequence[str], shape: tuple[int, ...]) -> list[_Object]:
    scale = np.array([shape[1], shape[0]], np.float64)
    objects = []
    for i, box in enumerate(truth.xyxy_frac * np.tile(scale, 2)):
        rings = list(truth.polygons[i]) if isinstance(truth, OutlineTarget) else []
        objects.append(
            _Object(
                box,
                [ring * scale for ring in rings] or [box_ring(box)],
                labels[truth.classes[i]],
                is_outlined=bool(rings),
                is_crowd=bool(truth.is_crowd[i]),
            )
        )
    return objects


def _sized(image: Pixels, sides: NDArray[np.float64]) -> Pixels:
    """Return a copy in the size it is drawn on.

    Args:
        image: RGB [h, w, 3].
        sides: Of the objects on it, in pixels.
    """
    height, width = image.shape[:2]
    wanted = _MIN_SIDE / max(height, width)
    if len(sides):
        wanted = max(wanted, _MIN_OBJECT / max(1.0, float(np.median(sides))))
    enlarged = max(1.0, min(wanted, _MAX_ENLARGED / max(height, width)))
    scale = min(enlarged, _MAX_SIDE / max(height, width))
    if scale == 1:
        return image.copy()
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    way = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
    return np.asarray(cv2.resize(image, size, interpolation=way), np.uint8)


def _sides(xyxy: NDArray[np.float64], shape: tuple[int, ...] = (1, 1)) -> NDArray[np.float64]:
    """Return the roots of the areas of boxes in pixels, or in fractions of an image."""
    height, width = shape[:2]
    areas = (xyxy[:, 2] - xyxy[:, 0]) * (xyxy[:, 3] - xyxy[:, 1]) * (height * width)
    return np.asarray(np.sqrt(areas.clip(0)))


def _text_size(picture: Pixels, sides: NDArray[np.float64] | None) -> int:
    wanted = _TEXT_FRAC * _root_area(picture)
    if sides is not None and len(sides):
        wanted = min(wanted, _TEXT_OF_OBJECT * float(np.median(sides)))
    return round(min(max(wanted, _MIN_TEXT), _MAX_TEXT))


def _line_width(picture: Pixels, sides: NDArray[np.float64]) -> int:
    wanted = _LINE_FRAC * _root_area(picture)
    if len(sides):
        wanted = min(wanted, _LINE_OF_OBJECT * float(np.median(sides)))
    return round(min(max(wanted, _MIN_LINE), _MAX_LINE))


def _root_area(picture: Pixels) -> float:
    return math.sqrt(picture.shape[0] * picture.shape[1])


# How much of the colour is mixed in: of small objects, and less by so much of what fills the
# picture, so that what lies within it keeps its own colours.
_TINT, _LESS_TINT = 0.35, 0.2
# OpenCV takes points in 1/8 pixels.
_SHIFT: Final = 3


def fill(picture: Pixels, rings: Sequence[Ring], colour: Colour) -> None:
    """Tint what rings enclose, exclusive or where they overlap."""
    low = np.floor(np.concatenate(list(rings)).min(axis=0)).astype(int).clip(0)
    high = np.ceil(np.concatenate(list(rings)).max(axis=0)).astype(int) + 1
    part = picture[low[1] : high[1], low[0] : high[0]]
    if part.size == 0:
        return
    inside = np.zeros(part.shape[:2], np.uint8)
    cv2.fillPoly(inside, [_fixed(ring - low) for ring in rings], (1,), shift=_SHIFT)
    covered_frac = np.count_nonzero(inside) / (picture.shape[0] * picture.shape[1])
    tint = _TINT - _LESS_TINT * covered_frac**0.5
    tinted = part * (1 - tint) + np.array(colour) * tint
    part[:] = np.where(inside[:, :, None] > 0, tinted.round().astype(np.uint8), part)


def stroke(picture: Pixels, rings: Sequence[Ring], colour: Colour, line: int) -> None:
    """Draw closed lines of a colour with a dark rim."""
    _lines(picture, [_fixed(ring) for ring in rings], colour, line, is_closed=True)


def dashed(picture: Pixels, rings: Sequence[Ring], colour: Colour, line: int) -> None:
    """Draw closed lines of dashes of a colour with a dark rim."""
    dashes = [dash for ring in rings for dash in _dashes(ring, 3.0 * (line + _rim(line)))]
    _lines(picture, [_fixed(dash) for dash in dashes], colour, line, is_closed=False)


def box_ring(box: NDArray[np.float64]) -> Ring:
    """Return the corners of a box."""
    left, top, right, bottom = box
    return np.array([[left, top], [right, top], [right, bottom], [left, bottom]])


def _dashes(ring: Ring, length: float) -> list[Ring]:
    """Return every other piece of a closed line, each about `length` long."""
    closed = np.concatenate([ring, ring[:1]])
    steps = np.linalg.norm(np.diff(closed, axis=0), axis=1)
    at = np.concatenate([[0.0], np.cumsum(steps)])
    # Even, and at least two dashes: the last gap meets the first dash.
    num_pieces = 2 * max(2, round(at[-1] / length / 2))
    ends = np.linspace(0, at[-1], num_pieces + 1)
    dashes = []
    for start, end in zip(ends[:-1:2], ends[1::2], strict=True):
        places = np.concatenate([[start], at[(at > start) & (at < end)], [end]])
        points = [np.interp(places, at, closed[:, axis]) for axis in (0, 1)]
        dashes.append(np.stack(points, axis=1))
    return dashes


def _lines(
    picture: Pixels, points: list[NDArray[np.int32]], colour: Colour, line: int, *, is_closed: bool
) -> None:
    for shade, width in ((INK, line + _rim(line)), (colour, line)):
        cv2.polylines(picture, points, is_closed, shade, width, cv2.LINE_AA, _SHIFT)


def _rim(line: int) -> int:
    return max(2, 2 * (line // 4))


def _fixed(points: NDArray[np.float64]) -> NDArray[np.int32]:
    return np.round(points * (1 << _SHIFT)).astype(np.int32)
