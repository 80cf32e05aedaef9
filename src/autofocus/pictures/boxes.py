"""Pictures of predictions: objects on the image, classes of the whole image below it.

Objects have a line in their class's colour and a band with label and score; outlines are tinted.
Where a class has many objects their bands have the score alone, and bands that would hide other
objects are left out: then the classes are named below the picture, as whole-image classes are.
Beside the labelled truth, labelled objects are dashed in white, missed ones boldly and with the
word, and objects found in error are dashed in their class's colour.
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
from autofocus.pictures.text import Band, Label, Pixels, place_labels, with_caption
from autofocus.structures.boxes import box_iou
from autofocus.structures.predictions import Detections, Instances, WholeImage
from autofocus.structures.targets import BoxTarget, OutlineTarget
from autofocus.tasks.base import Settings, Task
from autofocus.tasks.objects import rounded

Ring = NDArray[np.float64]  # [p, 2], (x, y) in pixels; the last point joins the first
Prediction = WholeImage | Detections

# Lower limits, in pixels, of the longer side and of the median object: smaller pictures are
# enlarged, but not beyond _MAX_ENLARGED. No picture is larger than _MAX_SIDE.
_MIN_SIDE: Final = 512
_MIN_OBJECT: Final = 24
_MAX_ENLARGED: Final = 2048
_MAX_SIDE: Final = 4096

# Size of letters and width of lines: share of the root of the picture's area, share of the median
# object's side, and limits in pixels.
_TEXT_FRAC, _TEXT_OF_OBJECT, _MIN_TEXT, _MAX_TEXT = 0.026, 0.3, 12, 96
_LINE_FRAC, _LINE_OF_OBJECT, _MIN_LINE, _MAX_LINE = 0.004, 0.04, 1, 16

# Named classes of a whole image: at least 3, at most 8, between them all of probability ≥ 0.5.
_NUM_CLASSES, _MAX_CLASSES, _PROBABLE = 3, 8, 0.5

# Objects of a class up to which each is named.
_FEW: Final = 12

# Share of the colour in the tint of small objects, and how much less it is where an object fills
# the picture, so that other things within it keep their own colours.
_TINT, _LESS_TINT = 0.35, 0.2
# OpenCV takes points in 1/8 pixels.
_SHIFT: Final = 3

# IoU from which an object counts as found, as published.
DEFAULT_OVERLAP: Final = 0.5


@dataclass(frozen=True)
class _Object:
    """An object on the picture.

    Attributes:
        box: (left, top, right, bottom) in pixels.
        rings: Outline, or the corners of the box.
        label: Class.
        score: Score in [0, 1]; 1 for labelled objects.
        is_outlined: True if it came with an outline.
        is_crowd: True if it is neither missed when not found nor wrong when found.
    """

    box: NDArray[np.float64]
    rings: list[Ring]
    label: str
    score: float = 1.0
    is_outlined: bool = False
    is_crowd: bool = False


def draw(
    image: Pixels,
    prediction: Prediction,
    labels: Sequence[str],
    truth: BoxTarget | Sequence[str] | None = None,
    iou_threshold: float = DEFAULT_OVERLAP,
) -> Pixels:
    """Return a picture of a prediction, RGB.

    Args:
        image: RGB [h, w, 3]; not changed.
        prediction: What the whole image shows, or the objects found in it.
        labels: All classes of the model; a class's colour is that of its position.
        truth: `Task.drawn_truth`: labelled objects, or words on the whole image. None draws the
            prediction alone.
        iou_threshold: IoU of two boxes from which an object counts as found.
    """
    colours = class_colours(labels)
    if not isinstance(prediction, Detections):
        assert not isinstance(truth, BoxTarget), "whole images are compared with words"
        picture = _resized(image, np.empty(0))
        bands = _image_bands(prediction, labels, truth, colours)
        return with_caption(picture, bands, _text_size(picture, None))
    assert truth is None or isinstance(truth, BoxTarget), "objects are compared with objects"
    boxes = np.array(rounded(prediction.xyxy_frac)).reshape(-1, 4)
    picture = _resized(image, _sides(boxes, image.shape))
    found = _found_objects(prediction, labels, picture.shape)
    labelled = [] if truth is None else _labelled_objects(truth, labels, picture.shape)
    return _with_objects(picture, found, labelled, colours, iou_threshold, truth is not None)


def draw_evaluated(
    task: Task[Any, Any],
    settings: Settings,
    labels: Sequence[str],
    record: Any,
    image: Pixels,
    prediction: Prediction,
) -> Pixels:
    """Return a picture of the endpoint's reply beside the labels, RGB.

    Args:
        task: The model's task.
        settings: The model's settings, which select the objects that the endpoint reports.
        labels: All classes of the model.
        record: The image's row.
        image: The image as the model saw it, RGB [h, w, 3].
        prediction: The prediction as measured, with objects that the endpoint would not report.
    """
    truth = task.drawn_truth(record, labels)
    overlap = settings.get("validation_iou_threshold", DEFAULT_OVERLAP)
    assert not isinstance(overlap, list), "validation_iou_threshold is one number"
    return draw(image, task.reported(prediction, settings), labels, truth, float(overlap))


def _image_bands(
    prediction: WholeImage,
    labels: Sequence[str],
    truth: Sequence[str] | None,
    colours: Mapping[str, Colour],
) -> list[Band]:
    """Return the bands below a picture of a whole image: what is predicted, then the labels."""
    named = prediction.named_numbers(labels)
    num = max(_NUM_CLASSES, sum(number >= _PROBABLE for _, number in named))
    bands: list[Band] = [
        (label, f" {number:.2f}", colours[label])
        for label, number in named[: min(num, _MAX_CLASSES)]
    ]
    if truth is not None:
        bands.append((f"labelled: {', '.join(truth) or 'no class'}", "", WHITE))
    return bands


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
    is_right, is_detected = _matched(found, labelled, iou_threshold)
    is_wrong = ~is_right & is_compared
    # The most certain last, over the others.
    for item, wrong in reversed(list(zip(found, is_wrong, strict=True))):
        if item.is_outlined:
            _fill(picture, item.rings, colours[item.label])
        draw_line = _dash if wrong else _stroke
        draw_line(picture, item.rings, colours[item.label], line)
    is_missed = [
        not (detected or item.is_crowd)
        for item, detected in zip(labelled, is_detected, strict=True)
    ]
    for item, bold in zip(labelled, is_missed, strict=True):
        _dash(picture, item.rings, WHITE, 2 * line if bold else line)
    missed = list(compress(labelled, is_missed))
    nums = Counter(item.label for item in (*found, *missed))
    many = {label for label, num in nums.items() if num > _FEW}
    object_labels = _object_labels(found, is_wrong, missed, many, colours)
    num_left_out = place_labels(picture, object_labels, text, line)
    bands: list[Band] = []
    if is_compared:
        num_wrong = int(is_wrong.sum())
        counts = f"{len(found) - num_wrong} found, {len(missed)} missed, {num_wrong} wrong"
        bands = [(counts, "", WHITE), ("dashed: labelled white, wrong in colour", "", WHITE)]
    if num_left_out or many:
        num_found = Counter(item.label for item in found)
        bands += [
            (label, f" {num_found[label]}", colours[label]) for label, _ in nums.most_common()
        ]
    return with_caption(picture, bands, _text_size(picture, None))


def _object_labels(
    found: Sequence[_Object],
    is_wrong: NDArray[np.bool_],
    missed: Sequence[_Object],
    many: set[str],
    colours: Mapping[str, Colour],
) -> list[Label]:
    """Return a label for each object, the most important first.

    Args:
        found: Found objects, the highest score first.
        is_wrong: True for objects found in error, [len(found)].
        missed: Labelled objects that were not found.
        many: Classes with so many objects that their colour names them.
        colours: Colour of each class.
    """
    # Missed objects are not coloured: among several classes they are always named.
    classes = {item.label for item in (*found, *missed)}
    unnamed = many if len(classes) == 1 else set[str]()
    labels = [
        Label("missed", "" if item.label in unnamed else f" {item.label}", INK, item.box, must=True)
        for item in missed
    ]
    for item, wrong in zip(found, is_wrong, strict=True):
        is_named, score = item.label not in many, f" {item.score:.2f}"
        label, extra = item.label if is_named else "", " wrong" if wrong and is_named else ""
        labels.append(Label(label, score, colours[item.label], item.box, extra=extra))
    return labels


def _matched(
    found: Sequence[_Object], labelled: Sequence[_Object], iou_threshold: float
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Return whether each found object is labelled, and whether each labelled one is found."""
    is_right, is_detected = np.zeros(len(found), np.bool_), np.zeros(len(labelled), np.bool_)
    if not found or not labelled:
        return is_right, is_detected
    overlaps = box_iou(np.array([f.box for f in found]), np.array([t.box for t in labelled]))
    same = np.array([[f.label == t.label for t in labelled] for f in found])
    is_crowd = np.array([t.is_crowd for t in labelled])
    overlaps = np.where(same & (overlaps >= iou_threshold), overlaps, 0)
    for i, row in enumerate(overlaps):
        free = np.where(is_detected & ~is_crowd, 0, row)
        best = int(free.argmax())
        if free[best] > 0:
            is_right[i] = is_detected[best] = True
    return is_right, is_detected


def _found_objects(
    prediction: Detections, labels: Sequence[str], shape: tuple[int, ...]
) -> list[_Object]:
    """Return the objects of a prediction, numbers rounded as the reply has them."""
    scale = np.array([shape[1], shape[0]])
    boxes, scores = rounded(prediction.xyxy_frac), rounded(prediction.scores)
    outlines = prediction.polygons if isinstance(prediction, Instances) else [()] * len(boxes)
    objects = []
    for box, score, index, outline in zip(boxes, scores, prediction.classes, outlines, strict=True):
        corners = np.array(box) * np.tile(scale, 2)
        rings = [np.array(rounded(ring), np.float32) * scale for ring in outline]
        objects.append(
            _Object(corners, rings or [_box_ring(corners)], labels[index], score, bool(rings))
        )
    return objects


def _labelled_objects(
    truth: BoxTarget, labels: Sequence[str], shape: tuple[int, ...]
) -> list[_Object]:
    scale = np.array([shape[1], shape[0]], np.float64)
    objects = []
    for i, box in enumerate(truth.xyxy_frac * np.tile(scale, 2)):
        rings = list(truth.polygons[i]) if isinstance(truth, OutlineTarget) else []
        objects.append(
            _Object(
                box,
                [ring * scale for ring in rings] or [_box_ring(box)],
                labels[truth.classes[i]],
                is_outlined=bool(rings),
                is_crowd=bool(truth.is_crowd[i]),
            )
        )
    return objects


def _resized(image: Pixels, sides: NDArray[np.float64]) -> Pixels:
    """Return a copy enlarged or reduced for drawing.

    Args:
        image: RGB [h, w, 3].
        sides: Sides of the objects on it, in pixels.
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
    interpolation = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
    return np.asarray(cv2.resize(image, size, interpolation=interpolation), np.uint8)


def _sides(xyxy: NDArray[np.float64], shape: tuple[int, ...] = (1, 1)) -> NDArray[np.float64]:
    """Return the roots of the areas of boxes, in pixels or in fractions of an image of a shape."""
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


def _fill(picture: Pixels, rings: Sequence[Ring], colour: Colour) -> None:
    """Tint the inside of rings; where two overlap is outside, as in a hole."""
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


def _stroke(picture: Pixels, rings: Sequence[Ring], colour: Colour, line: int) -> None:
    """Draw closed lines of a colour with a dark rim."""
    _lines(picture, [_fixed(ring) for ring in rings], colour, line, is_closed=True)


def _dash(picture: Pixels, rings: Sequence[Ring], colour: Colour, line: int) -> None:
    """Draw dashed closed lines of a colour with a dark rim."""
    dashes = [dash for ring in rings for dash in _dashes(ring, 3.0 * (line + _rim(line)))]
    _lines(picture, [_fixed(dash) for dash in dashes], colour, line, is_closed=False)


def _box_ring(box: NDArray[np.float64]) -> Ring:
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
        stops = np.concatenate([[start], at[(at > start) & (at < end)], [end]])
        points = [np.interp(stops, at, closed[:, axis]) for axis in (0, 1)]
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
