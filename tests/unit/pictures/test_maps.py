import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from autofocus.data.batches.preprocess import input_frame, resize_crop
from autofocus.explain.algorithms import ALGORITHMS, caption_of
from autofocus.explain.base import Attribution
from autofocus.explain.parameters import Parameters
from autofocus.manifest import ResizeCrop
from autofocus.pictures.maps import (
    STYLES,
    Caption,
    MappedPhoto,
    mapped_photo,
    only_top,
    overlay,
    relative,
    top_pixels,
    visualize,
)
from autofocus.pictures.palette import VIRIDIS, value_colours
from autofocus.pictures.text import draw_text, shortened

CAPTION = Caption("milk_bottle", 0.973, "XRAI, 50 steps")


def _photo(height: int, width: int) -> NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)


def _ramp(height: int, width: int) -> NDArray[np.float32]:
    return np.linspace(-1, 1, height * width, dtype=np.float32).reshape(height, width)


def _whole(photo: NDArray[np.uint8]) -> MappedPhoto:
    return mapped_photo(photo, photo)


def _decoded(png: bytes) -> NDArray[np.uint8]:
    assert png.startswith(b"\x89PNG\r\n")
    image = cv2.imdecode(np.frombuffer(png, np.uint8), cv2.IMREAD_COLOR_RGB)
    assert image is not None
    return image


def test_colours_are_viridis() -> None:
    matplotlib = pytest.importorskip("matplotlib", reason="the reference comes with saliency")
    expected = np.array(matplotlib.colormaps["viridis"].colors) * 255
    assert np.abs(VIRIDIS - expected).max() <= 2
    assert value_colours(np.array([-1.0, 0.0, 1.0, 2.0])).tolist() == [
        VIRIDIS[i].tolist() for i in (0, 0, 255, 255)
    ]


def test_lightness_rises_with_every_step() -> None:
    lightness = cv2.cvtColor(VIRIDIS[None].astype(np.float32) / 255, cv2.COLOR_RGB2LAB)[0, :, 0]
    assert (np.diff(lightness) > 0).mean() > 0.98
    assert lightness[-1] - lightness[0] > 70


@pytest.mark.parametrize(
    ("height", "width"), [(224, 224), (224, 112), (100, 224), (224, 1), (1, 224)]
)
def test_panel_holds_four_pictures_of_true_aspect(height: int, width: int) -> None:
    black = np.zeros((height, width, 3), np.uint8)
    panel = _decoded(visualize(_whole(black), _ramp(height, width), CAPTION))
    assert panel.shape[0] <= 1400
    assert panel.shape[1] <= 1200
    # The photo is the black rectangle in the upper left picture.
    rows, columns = np.nonzero((panel[92:, : panel.shape[1] // 2] == 0).all(axis=-1))
    first_rows = rows[rows < (panel.shape[0] - 92) // 2]
    shown_height = first_rows.max() - first_rows.min() + 1
    shown_width = columns.max() - columns.min() + 1
    assert max(shown_height, shown_width) == 560
    expected = 560 / max(height, width) * np.array([height, width])
    assert np.abs(np.array([shown_height, shown_width]) - expected).max() <= 1


def test_panel_says_class_and_probability() -> None:
    saliency = _ramp(64, 64)
    panels = [
        _decoded(visualize(_whole(_photo(64, 64)), saliency, caption))
        for caption in (CAPTION, Caption("can", 0.973, CAPTION.method))
    ]
    differs = (panels[0] != panels[1]).any(axis=-1)
    assert differs[:56].any()
    assert not differs[56:].any()


@pytest.mark.parametrize("style", ["overlay", "heatmap"])
def test_other_styles_have_one_pixel_a_network_pixel(style: str) -> None:
    photo, saliency = _photo(50, 70), _ramp(50, 70)
    image = _decoded(visualize(_whole(photo), saliency, CAPTION, style))
    assert image.shape == (50, 70, 3)
    values = relative(saliency)
    expected = overlay(photo, values) if style == "overlay" else value_colours(values)
    np.testing.assert_array_equal(image, expected)


@pytest.mark.parametrize("style", STYLES)
def test_a_box_is_drawn_white_within_black_in_every_style(style: str) -> None:
    photo, ramp = np.full((40, 60, 3), 128, np.uint8), _ramp(40, 60)
    boxed = Caption("can", 0.9, "D-RISE", (0.5, 0.25, 1.0, 0.75))
    plain = _decoded(visualize(_whole(photo), ramp, Caption("can", 0.9, "D-RISE"), style)).astype(
        int
    )
    drawn = _decoded(visualize(_whole(photo), ramp, boxed, style)).astype(int)
    assert plain.shape == drawn.shape
    changed = np.abs(drawn - plain).max(axis=2) > 0
    if style == "panel":
        # In each of the four pictures, and nowhere else.
        num_parts = cv2.connectedComponents(changed.astype(np.uint8))[0] - 1
        assert num_parts == 4
        return
    assert (drawn[10, 30:60] == 255).all()
    assert (drawn[12:28, 30] == 255).all()
    rows, columns = np.nonzero(changed)
    # OpenCV's black line is three or five pixels wide.
    assert rows.min() in (8, 9)
    assert columns.min() in (28, 29)
    assert rows.max() in (30, 31)
    assert not changed[13:27, 33:57].any()


def test_styles_are_those_that_a_request_may_name() -> None:
    from autofocus.explain.parameters import VISUALIZATION_STYLES

    assert tuple(STYLES) == VISUALIZATION_STYLES


def test_heat_map_goes_from_the_lowest_to_the_highest_value() -> None:
    image = value_colours(relative(_ramp(20, 20)))
    np.testing.assert_array_equal(image[0, 0], VIRIDIS[0])
    np.testing.assert_array_equal(image[-1, -1], VIRIDIS[255])


def test_a_single_outlier_does_not_take_all_colours() -> None:
    saliency = _ramp(100, 100)
    saliency[3, 3] = 1e6
    assert relative(saliency)[50:].mean() > 0.7


def test_a_map_with_few_values_keeps_them() -> None:
    saliency = np.zeros((100, 100), np.float32)
    saliency[3, 3] = 5
    scaled = relative(saliency)
    assert scaled[3, 3] == 1
    assert scaled.sum() == 1


@pytest.mark.parametrize("value", [0.0, -3.0, 7.0])
def test_a_constant_map_is_drawn_without_highs(value: float) -> None:
    saliency = np.full((32, 32), value, np.float32)
    assert not relative(saliency).any()
    assert not top_pixels(saliency).any()
    assert _decoded(visualize(_whole(_photo(32, 32)), saliency, CAPTION)).size


def test_top_pixels_are_three_tenths() -> None:
    saliency = np.random.default_rng(1).permutation(10_000).reshape(100, 100).astype(np.float32)
    chosen = top_pixels(saliency)
    assert chosen.sum() == pytest.approx(3000, abs=1)
    assert saliency[chosen].min() > saliency[~chosen].max()


def test_top_pixels_keep_a_region_together_and_leave_the_lowest_out() -> None:
    saliency = np.zeros((10, 10), np.float32)
    saliency[:5] = 1
    assert top_pixels(saliency).sum() == 50
    saliency[:] = 0
    saliency[0, :4] = 1
    assert top_pixels(saliency).sum() == 4


def test_top_pixels_are_shown_as_they_are_and_others_faded() -> None:
    photo, saliency = _photo(30, 30), _ramp(30, 30)
    chosen = top_pixels(saliency)
    shown = only_top(photo, chosen)
    np.testing.assert_array_equal(shown[chosen], photo[chosen])
    faded = shown[~chosen].astype(int)
    assert (faded[:, 2] - faded[:, 0] > 30).all()
    assert faded.min() > 60
    assert faded.max() < 170


def _cells(panel: NDArray[np.uint8], height: int, width: int) -> list[NDArray[np.uint8]]:
    """Return the four pictures of a panel by their size."""
    lefts = [panel.shape[1] * (1 + 2 * i) // 4 + 6 * (1 - 2 * i) - width // 2 for i in (0, 1)]
    tops = [92, 92 + height + 34]
    return [panel[top : top + height, left : left + width] for top in tops for left in lefts]


@pytest.mark.parametrize("size", [(280, 560), (560, 280)])
def test_the_panel_shows_the_photo_in_its_own_pixels_and_where_the_network_looked(
    size: tuple[int, int],
) -> None:
    spec = ResizeCrop(72, 64)
    photo = _photo(*size)
    seen, frame = resize_crop(photo, spec), input_frame(spec, size)
    panel = _decoded(visualize(mapped_photo(photo, seen, frame.region), _ramp(64, 64), CAPTION))
    left, top, right, bottom = (
        round(edge * side) for edge, side in zip(frame.region, (size[1], size[0]) * 2, strict=True)
    )
    within = np.s_[top:bottom, left:right]
    cells = _cells(panel, *size)
    # Noise of single pixels: nothing that went through 64 × 64 pixels still has it.
    np.testing.assert_array_equal(cells[0][within], photo[within])
    outside = np.ones(size, np.bool_)
    outside[within] = False
    assert outside.mean() > 0.4
    for cell in cells:
        np.testing.assert_array_equal(cell[outside], cells[0][outside])
        assert (np.ptp(cell[outside], axis=-1) == 0).all()
        assert cell[outside].min() >= 190
    heat = cells[1][within]
    assert np.abs(heat[0, 0].astype(int) - VIRIDIS[0]).max() < 12
    assert np.abs(heat[-1, -1].astype(int) - VIRIDIS[255]).max() < 12
    is_top = (cells[3] == photo).all(axis=-1)[within]
    assert is_top.mean() == pytest.approx(0.3, abs=0.02)
    assert is_top[-10:].all()


def test_a_large_photo_is_made_smaller_once() -> None:
    photo = _photo(1200, 900)
    drawn = mapped_photo(photo, photo[:64, :48])
    assert drawn.photo.shape == (560, 420, 3)
    assert drawn.region == (0, 0, 1, 1)


def test_a_long_label_is_cut_so_that_the_probability_stays() -> None:
    cut = shortened("water_bottle_" * 20, ", 97.3 %", 32, 600)
    assert cut.endswith("…")
    assert 20 < len(cut) < 60
    assert shortened("can", ", 97.3 %", 32, 600) == "can"


@pytest.mark.parametrize(
    "text", ["can", "우유병", "牛乳", "Flasche ß", "זכוכית", "\U0001f95b", "a\nb\0"]
)
def test_every_script_leaves_ink_within_the_canvas(text: str) -> None:
    blank = np.full((60, 400, 3), 255, np.uint8)
    written = draw_text(blank, text, (10, 10), 24, (0, 0, 0))
    assert written.shape == blank.shape
    assert (written != blank).any()
    assert (blank == 255).all()


def test_what_no_font_can_draw_is_escaped_and_not_boxes() -> None:
    blank = np.full((60, 600, 3), 255, np.uint8)
    undrawable = "\U0001f95b\U00012000"
    escaped = undrawable.encode("ascii", "backslashreplace").decode()
    np.testing.assert_array_equal(
        draw_text(blank, undrawable, (10, 10), 24, (0, 0, 0)),
        draw_text(blank, escaped, (10, 10), 24, (0, 0, 0)),
    )


@pytest.mark.parametrize(
    ("algorithm", "metadata", "text"),
    [
        ("xrai", {"fast": True}, "XRAI, fast, 50 steps"),
        (
            "xrai",
            {"fast": False, "constant_image": True},
            "XRAI, full, 50 steps, nothing in this image speaks for the class",
        ),
        (
            "integrated_gradients",
            {"value": 4.0, "baseline_value": 1.0, "completeness_error": -0.5},
            "Integrated gradients, 50 steps, explains 2.50 of 3.00",
        ),
        (
            "guided_backprop",
            {"guided": {}, "guided_extension": {"GELU": 2}},
            "Guided backprop, rule extended to GELU",
        ),
        (
            "guided_gradcam",
            {"guided": {"ReLU": 2}, "guided_extension": {}, "positive_evidence": False},
            "Guided Grad-CAM, nothing in this image speaks for the class",
        ),
        (
            "d_rise",
            {"num_masks": 500, "half_agreement": 0.784},
            "D-RISE, 500 masks, halves agree 0.78",
        ),
        (
            "d_rise",
            {"num_masks": 2, "half_agreement": None},
            "D-RISE, 2 masks, no mask changes anything",
        ),
    ],
)
def test_caption_says_what_a_reader_must_know(
    algorithm: str, metadata: dict[str, object], text: str
) -> None:
    empty = np.zeros((3, 4, 4), np.float32)
    attribution = Attribution(empty, algorithm, 0, "logit", "size", metadata)
    assert caption_of(attribution, Parameters()) == text


def test_every_algorithm_has_a_text() -> None:
    empty = np.zeros((3, 4, 4), np.float32)
    algorithms = list(ALGORITHMS)
    texts = {
        caption_of(Attribution(empty, a, 0, "logit", "size"), Parameters()) for a in algorithms
    }
    assert len(texts) == len(algorithms)
