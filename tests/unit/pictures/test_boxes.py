"""Pictures of predictions: everything on the picture, readable, the same colours everywhere."""

import itertools

import numpy as np
import pytest

from autofocus.pictures.boxes import draw
from autofocus.pictures.palette import INK, WHITE, class_colours, ink_on
from autofocus.pictures.text import Label, band, place_labels
from autofocus.structures.predictions import ClassScores, Detections, Instances, Polygon
from autofocus.structures.targets import BoxTarget, OutlineTarget

LABELS = ["can", "carton", "milk_bottle"]
GREY = 128


def photo(height: int = 600, width: int = 800) -> np.ndarray:
    return np.full((height, width, 3), GREY, np.uint8)


def boxes(
    *objects: tuple[list[float], str, float], outlines: tuple[Polygon, ...] = ()
) -> Detections:
    found = (
        np.array([box for box, _, _ in objects], np.float32).reshape(-1, 4),
        np.array([score for _, _, score in objects], np.float32),
        np.array([LABELS.index(label) for _, label, _ in objects], np.int64),
        (600, 800),
    )
    return Instances(*found, outlines) if outlines else Detections(*found)


def truth(*objects: tuple[list[float], int], crowds: int = 0) -> BoxTarget:
    num = len(objects)
    return BoxTarget(
        np.array([box for box, _ in objects], np.float32).reshape(-1, 4),
        np.array([label for _, label in objects], np.int64),
        np.arange(num) >= num - crowds,
        (600, 800),
    )


def has(picture: np.ndarray, colour: tuple[int, int, int]) -> bool:
    return bool((picture == colour).all(axis=2).any())


def changed(picture: np.ndarray) -> np.ndarray:
    return (picture[:600] != GREY).any(axis=2)


def test_box_is_drawn_where_it_is_in_its_colour() -> None:
    picture = draw(photo(), boxes(([0.25, 0.5, 0.5, 0.75], "carton", 0.9)), LABELS)
    assert picture.shape == (600, 800, 3)
    colour = class_colours(LABELS)["carton"]
    for y, x in ((300, 300), (450, 300), (400, 200), (400, 400)):
        assert tuple(picture[y, x]) == colour
    assert (picture[310:440, 210:390] == GREY).all()
    # The band stands above the box: its colour, and letters on it.
    assert has(picture[275:297, 200:300], colour)
    assert has(picture[275:297, 200:300], ink_on(colour))


def test_image_given_is_not_changed() -> None:
    image = photo()
    draw(image, boxes(([0.1, 0.1, 0.5, 0.5], "can", 0.9)), LABELS)
    assert (image == GREY).all()


def test_colours_are_a_class_s_own_whatever_else_is_found() -> None:
    alone = draw(photo(), boxes(([0.2, 0.2, 0.5, 0.5], "milk_bottle", 0.9)), LABELS)
    among = draw(
        photo(),
        boxes(([0.6, 0.2, 0.9, 0.5], "can", 0.9), ([0.2, 0.2, 0.5, 0.5], "milk_bottle", 0.8)),
        LABELS,
    )
    assert tuple(alone[300, 250]) == tuple(among[300, 250]) == class_colours(LABELS)["milk_bottle"]


@pytest.mark.parametrize("size", [(1, 1), (12, 16), (90, 2000), (1500, 40), (3000, 4000)])
def test_any_size_of_image_is_readable(size: tuple[int, int]) -> None:
    found = boxes(([0.0, 0.0, 1.0, 1.0], "carton", 0.9), ([0.9, 0.9, 1.0, 1.0], "can", 0.8))
    labels = ["can", "a name that is longer than most pictures are wide"]
    picture = draw(photo(*size), found, labels, truth(([0.0, 0.0, 0.5, 0.5], 0)))
    assert picture.dtype == np.uint8
    assert 512 <= max(picture.shape[:2]) <= 4300
    assert has(picture, class_colours(labels)["can"])


def test_enormous_image_is_made_smaller() -> None:
    assert draw(photo(100, 6000), boxes(), LABELS).shape == (68, 4096, 3)


def test_small_objects_enlarge_the_picture() -> None:
    tiny = [([x / 100, 0.5, x / 100 + 0.01, 0.51], "can", 0.9) for x in range(0, 100, 5)]
    assert max(draw(photo(), boxes(*tiny), LABELS).shape) == 2048


def test_objects_beyond_the_edge_are_no_error() -> None:
    outline = np.array([[2, 2], [3, 2], [3, 3]], np.float32)
    found = boxes(
        ([-0.5, -0.5, 1.5, 1.5], "can", 0.9),
        ([2.0, 2.0, 3.0, 3.0], "can", 0.8),
        outlines=((), (outline,)),
    )
    assert draw(photo(), found, LABELS).shape[1] == 800


def test_outline_is_tinted_and_its_hole_is_not() -> None:
    ring = np.array([[0.2, 0.2], [0.8, 0.2], [0.8, 0.8], [0.2, 0.8]], np.float32)
    hole = np.array([[0.4, 0.4], [0.6, 0.4], [0.6, 0.6], [0.4, 0.6]], np.float32)
    found = boxes(([0.2, 0.2, 0.8, 0.8], "can", 0.9), outlines=((ring, hole),))
    picture = draw(photo(), found, LABELS)
    tinted, hole = picture[180, 400].astype(int), picture[300, 400]
    assert (hole == GREY).all()
    colour = np.array(class_colours(LABELS)["can"])
    share = (tinted - GREY) / (colour - GREY)
    assert share == pytest.approx(share[0], abs=0.02)
    assert 0.1 < share[0] < 0.4


def test_many_objects_leave_the_picture_to_be_seen() -> None:
    rng = np.random.default_rng(0)
    corners = rng.uniform(0, 0.95, (400, 2))
    found = boxes(
        *((([*c, *(c + 0.05)]), LABELS[i % 3], 1 - i / 400) for i, c in enumerate(corners))
    )
    picture = draw(photo(), found, LABELS)
    band_colours = [class_colours(LABELS)[label] for label in LABELS]
    filled = sum((picture[:600] == colour).all(axis=2).mean() for colour in band_colours)
    assert filled < 0.4  # bands and lines
    # What is not named beside it is counted below.
    assert picture.shape[0] > 600
    assert all(has(picture[600:], colour) for colour in band_colours)


def test_labels_never_overlap_nor_leave_the_picture() -> None:
    rng = np.random.default_rng(1)
    picture = photo()
    corners = rng.uniform(0, 700, (60, 2))
    object_labels = [
        Label("label", f" {i}", (i, 255 - i, 7), np.array([*c, *(c + 60)]))
        for i, c in enumerate(corners)
    ]
    num_left_out = place_labels(picture, object_labels, 14, 2)
    whole = 0
    for label in object_labels:
        ys, xs = np.nonzero((picture == label.paper).all(axis=2))
        if len(ys):
            height, width = band(label.label, label.rest, label.paper, 14, 800).shape[:2]
            whole += (np.ptp(ys) + 1, np.ptp(xs) + 1) == (height, width)
    assert whole == len(object_labels) - num_left_out
    assert 10 < whole < 60


def test_beside_the_truth_misses_and_errors_are_named() -> None:
    found = boxes(
        ([0.1, 0.2, 0.3, 0.5], "can", 0.9),  # right
        ([0.4, 0.2, 0.6, 0.5], "can", 0.8),  # nothing is there
    )
    labelled = truth(([0.1, 0.2, 0.3, 0.5], 0), ([0.7, 0.2, 0.9, 0.5], 1))
    picture = draw(photo(), found, LABELS, labelled)
    alone = draw(photo(), found, LABELS)
    assert picture.shape[0] > alone.shape[0]
    # A black band beside what nobody found, and dashes around it.
    assert has(picture[85:118, 555:700], INK)
    assert has(picture[118:122, 555:720], WHITE)
    # The band of the wrong one says so, and is longer for it; the right one's is as ever.
    colour = class_colours(LABELS)["can"]
    for left, is_longer in ((75, False), (315, True)):
        above = np.s_[100:116, left : left + 160]
        wide, narrow = ((p[above] == colour).all(axis=2).sum() for p in (picture, alone))
        assert (wide > 1.2 * narrow) == is_longer


def rows_of(num: int, label: str) -> list[tuple[list[float], str, float]]:
    """Return boxes of 64 x 84 pixels, side by side, 8 in a row, with room above each."""
    return [
        ([x / 8 + 0.02, y / 4 + 0.08, x / 8 + 0.1, y / 4 + 0.22], label, 0.9)
        for y, x in (divmod(i, 8) for i in range(num))
    ]


def band_width(picture: np.ndarray, box: list[float], colour: tuple[int, int, int]) -> int:
    """Return how far the band above a box reaches; lines of other boxes are not in its rows."""
    left, top = round(box[0] * 800) - 4, round(box[1] * 600)
    return int(np.flatnonzero((picture[top - 12, left:] == colour).all(axis=1)).max()) + 1


def test_many_of_a_class_show_their_score_and_the_few_beside_them_their_name() -> None:
    cans, carton = rows_of(20, "can"), rows_of(32, "carton")[31]
    colours = class_colours(LABELS)
    picture = draw(photo(), boxes(*cans, carton), LABELS)
    few = draw(photo(), boxes(cans[19], carton), LABELS)
    assert band_width(picture, cans[19][0], colours["can"]) < 60
    assert band_width(few, cans[19][0], colours["can"]) > 60
    assert band_width(picture, carton[0], colours["carton"]) > 80
    # No band was left out; below the picture are the names, of which the many lack theirs.
    assert all(has(picture[600:], colours[label]) for label in ("can", "carton"))
    assert few.shape[0] == 600


def test_what_was_missed_among_many_is_named_and_a_class_without_finds_counted() -> None:
    cans = rows_of(20, "can")
    labelled = [(box, 0) for box, _, _ in cans]
    alone = draw(photo(), boxes(), LABELS, truth(*labelled))
    beside = draw(photo(), boxes(), LABELS, truth(*labelled, (rows_of(32, "")[31][0], 1)))
    box = cans[19][0]
    assert band_width(alone, box, INK) + 20 < band_width(beside, box, INK)
    assert has(alone[600:], class_colours(LABELS)["can"])


def test_band_is_above_else_within_the_top_left_corner_else_elsewhere() -> None:
    colour = (250, 1, 2)
    height, width = band("a", " 0.90", colour, 14, 800).shape[:2]
    cases = (
        # Above; at the picture's top within; of what is too small to be written on, below.
        ([100, 100, 300, 300], (99, 99 - height)),
        ([100, 5, 300, 205], (99, 4)),
        ([100, 0, 300, 200], (99, 0)),
        ([100, 5, 120, 25], (99, 26)),
    )
    for box, (left, top) in cases:
        picture = photo()
        assert (
            place_labels(picture, [Label("a", " 0.90", colour, np.array(box, float))], 14, 2) == 0
        )
        ys, xs = np.nonzero((picture == colour).all(axis=2))
        assert (xs.min(), ys.min(), np.ptp(xs) + 1, np.ptp(ys) + 1) == (left, top, width, height)


def test_band_goes_within_its_object_before_it_goes_to_its_other_corners() -> None:
    # Above the left corner of the second stands the first's: beneath it, not to the right.
    first, second = (250, 1, 2), (1, 250, 2)
    picture = photo()
    object_labels = [
        Label("a", " 0.90", first, np.array([90.0, 98, 290, 298])),
        Label("a", " 0.80", second, np.array([100.0, 100, 300, 300])),
    ]
    assert place_labels(picture, object_labels, 14, 2) == 0
    ys, xs = np.nonzero((picture == second).all(axis=2))
    assert (xs.min(), ys.min()) == (99, 99)


def test_extra_word_is_left_out_where_there_is_no_room_for_it() -> None:
    colour, box = (250, 1, 2), np.array([300.0, 300, 330, 330])
    around = [
        Label("", " 0.50", INK, np.array([x, y, x + 8, y + 8], float))
        for x, y in itertools.product((262, 360), (282, 310, 338))
    ]
    for others, expected in (([], " 0.90 wrong"), (around, " 0.90")):
        picture = photo()
        place_labels(picture, [Label("", " 0.90", colour, box, extra=" wrong"), *others], 14, 2)
        xs = np.nonzero((picture == colour).all(axis=2))[1]
        assert np.ptp(xs) + 1 == band("", expected, colour, 14, 800).shape[1]


def test_wrong_box_has_gaps_in_its_colour_and_a_right_one_has_none() -> None:
    found = boxes(([0.1, 0.2, 0.4, 0.7], "can", 0.9), ([0.6, 0.2, 0.9, 0.7], "can", 0.8))
    colour = class_colours(LABELS)["can"]
    labelled = truth(([0.12, 0.2, 0.4, 0.7], 0))
    picture = draw(photo(), found, LABELS, labelled)
    right, wrong = ((picture[130:410, x] == colour).all(axis=1).mean() for x in (80, 480))
    assert right == 1
    assert 0.3 < wrong < 0.7
    alone = draw(photo(), found, LABELS)
    assert (alone[130:410, 480] == colour).all()


def test_what_is_labelled_and_found_has_a_dark_rim() -> None:
    found = boxes(([0.1, 0.2, 0.4, 0.7], "can", 0.9))
    picture = draw(photo() // 128 * 255, found, LABELS, truth(([0.15, 0.2, 0.4, 0.7], 0)))
    dark = (picture[150:400, 116:125].max(axis=2) < 100).any(axis=1)
    assert 0.3 < dark.mean() < 0.8


def test_dashes_are_white_and_leave_gaps() -> None:
    labelled = truth(([0.2, 0.2, 0.8, 0.8], 0))
    picture = draw(photo(), boxes(), LABELS, labelled)
    edge = (picture[120, 170:630] == WHITE).all(axis=1)
    assert 0.3 < edge.mean() < 0.7
    assert np.count_nonzero(np.diff(edge.astype(int))) > 10


def test_crowds_are_neither_missed_nor_make_finds_wrong() -> None:
    found = boxes(([0.1, 0.2, 0.3, 0.5], "can", 0.9), ([0.11, 0.2, 0.3, 0.5], "can", 0.8))
    crowd = truth(([0.1, 0.2, 0.3, 0.5], 0), crowds=1)
    with_crowd = draw(photo(), found, LABELS, crowd)
    one = draw(photo(), found, LABELS, truth(([0.1, 0.2, 0.3, 0.5], 0)))
    assert with_crowd.shape == one.shape
    assert (with_crowd[600:] != one[600:]).any()  # 2 found, not 1 found and 1 wrong
    unseen = draw(photo(), boxes(), LABELS, truth(([0.5, 0.5, 0.9, 0.9], 0), crowds=1))
    assert not has(unseen[270:299, 395:600], INK)
    missed = draw(photo(), boxes(), LABELS, truth(([0.5, 0.5, 0.9, 0.9], 0)))
    thin, bold = ((p[295:306, 405:700] == WHITE).all(axis=2).sum() for p in (unseen, missed))
    assert bold > 1.5 * thin


def test_labelled_outlines_are_dashed_along_the_outline() -> None:
    triangle = np.float32([[0.5, 0.1], [0.9, 0.9], [0.1, 0.9]])
    labelled = OutlineTarget(
        np.float32([[0.1, 0.1, 0.9, 0.9]]),
        np.array([0]),
        np.array([False]),
        (600, 800),
        ((triangle,),),
    )
    picture = draw(photo(), boxes(), LABELS, labelled)
    assert has(picture[535:545, 80:720], WHITE)
    assert not changed(picture)[100:400, 85:100].any()  # the box's left edge


def test_classes_of_a_whole_image_stand_below_it() -> None:
    scores = ClassScores(np.array([0.05, 0.9, 0.05], np.float32))
    picture = draw(photo(), scores, LABELS)
    assert (picture[:600] == GREY).all()
    assert has(picture[600:], class_colours(LABELS)["carton"])
    compared = draw(photo(), scores, LABELS, ["can"])
    assert has(compared[600:], WHITE)
    assert not has(picture[600:], WHITE)


def test_first_colours_differ_and_text_on_them_can_be_read() -> None:
    colours = list(class_colours([f"c{i}" for i in range(21)]).values())
    assert len(set(colours)) == 21
    for colour in colours:
        light, dark = sorted((_luminance(colour), _luminance(ink_on(colour))), reverse=True)
        assert (light + 0.05) / (dark + 0.05) >= 4.5


def _luminance(colour: tuple[int, int, int]) -> float:
    channels = np.array(colour) / 255
    linear = np.where(channels <= 0.03928, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)
    return float(linear @ [0.2126, 0.7152, 0.0722])


@pytest.mark.parametrize("name", ["사과", "", "a\nb", "x" * 500, "<b>&amp;</b>"])
def test_any_name_can_be_written(name: str) -> None:
    drawn = band(name, " 0.90", (86, 180, 233), 14, 200)
    assert drawn.shape[1] <= 200
    assert has(drawn, INK)
