"""`data check`: counts, duplicates in little memory, and what is wrong with images."""

import io
import json
import re
import struct
from collections.abc import Iterator
from pathlib import Path
from threading import Barrier
from typing import Any

import numpy as np
import pytest
from PIL import Image

from autofocus.data.images.check import ImageCheck
from autofocus.data.options import ReadOptions
from autofocus.data.rows import duplicates
from autofocus.data.rows.issues import Issue, IssueLog
from autofocus.data.rows.records import (
    RECORD_TYPES,
    ImageRecord,
    MulticlassRecord,
    MultilabelRecord,
)
from autofocus.data.sources.check import Depth, SourceReport, check_source
from autofocus.data.sources.find import find_source

MULTICLASS = "image_classification"


def photo(seed: int = 0, image_format: str = "JPEG", orientation: int = 1) -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 255, (20, 30, 3), dtype=np.uint8)
    exif = Image.Exif()
    exif[274] = orientation
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, image_format, exif=exif)
    return file.getvalue()


def write_rows(path: Path, rows: list[Any]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def check(
    path: Path,
    record_type: type[ImageRecord] = MulticlassRecord,
    depth: Depth = "rows",
    log: IssueLog | None = None,
) -> SourceReport:
    options = ReadOptions()
    return check_source(find_source(path, options), record_type, options, depth, log)


def found(report: SourceReport, code: str) -> list[Issue]:
    return [issue for issue in report.issues.examples() if issue.code == code]


def images(tmp_path: Path, depth: Depth = "headers", **files: bytes) -> SourceReport:
    """Check one row a file; labels are the names' first letters."""
    rows = []
    for name, content in files.items():
        file = name.replace("_", ".")
        (tmp_path / file).write_bytes(content)
        rows.append({"image_url": file, "label": file[0]})
    return check(write_rows(tmp_path / "rows.jsonl", rows), depth=depth)


def test_rows_classes_and_valid_rows_are_counted(tmp_path: Path) -> None:
    labels = ["b", "a", 3, "3", None, "b", 1.5]
    path = write_rows(
        tmp_path / "rows.jsonl",
        [{"image_url": f"{i}.jpg", "label": label} for i, label in enumerate(labels)],
    )
    report = check(path)
    assert (report.num_rows, report.num_valid) == (7, 5)
    assert report.classes == {"3": 2, "a": 1, "b": 2}
    assert list(report.classes) == ["3", "a", "b"]
    assert report.issues.num_errors == 2


def test_objects_are_counted_for_detection_on_both_paths(tmp_path: Path) -> None:
    box = {"label": "can", "topX": 0.1, "topY": 0.2, "bottomX": 0.5, "bottomY": 0.6}
    bad = {**box, "topX": 7}
    rows = [
        {"image_url": "0.jpg", "label": [box, {**box, "topX": 0.2}]},
        {"image_url": "1.jpg", "label": [box, bad]},
        {"image_url": "2.jpg", "label": [bad]},
        {"image_url": "3.jpg", "label": []},
    ]
    path = write_rows(tmp_path / "rows.jsonl", rows)
    report = check(path, RECORD_TYPES["image_object_detection"])
    assert (report.num_rows, report.num_valid, report.classes) == (4, 3, {"can": 3})


BOX = {"label": "can", "topX": 0.1, "topY": 0.2, "bottomX": 0.5, "bottomY": 0.6}
RING = {"label": "can", "polygon": [[0.1, 0.1, 0.5, 0.1, 0.5, 0.5]]}


@pytest.mark.parametrize(
    ("task", "item", "other"),
    [
        ("image_object_detection", BOX, {**BOX, "topX": 0.2}),
        (
            "image_instance_segmentation",
            RING,
            {**RING, "polygon": [[0.1, 0.1, 0.5, 0.1, 0.4, 0.5]]},
        ),
    ],
)
def test_an_object_that_is_listed_again_counts_once(
    tmp_path: Path, task: str, item: dict[str, Any], other: dict[str, Any]
) -> None:
    rows = [
        {"image_url": "0.jpg", "label": [item, other, item, item]},
        {"image_url": "1.jpg", "label": [item, other, {**item, "isCrowd": 1}]},
    ]
    report = check(write_rows(tmp_path / "rows.jsonl", rows), RECORD_TYPES[task])
    assert report.classes == {"can": 5}
    assert report.issues.counts["object.repeated"] == 1
    (issue,) = [i for i in report.issues.examples() if i.code == "object.repeated"]
    assert issue.value == "2 of 4 objects again"


def test_a_set_of_crowds_teaches_nothing(tmp_path: Path) -> None:
    crowd = {**BOX, "isCrowd": 1}
    rows = [{"image_url": f"{i}.jpg", "label": [crowd] if i else []} for i in range(3)]
    detection = RECORD_TYPES["image_object_detection"]
    report = check(write_rows(tmp_path / "rows.jsonl", rows), detection)
    assert report.issues.counts["class.only_crowds"] == 1
    rows.append({"image_url": "4.jpg", "label": [crowd, BOX]})
    report = check(write_rows(tmp_path / "rows.jsonl", rows), detection)
    assert "class.only_crowds" not in report.issues.counts


@pytest.fixture(params=[0, 100_000], ids=["numpy", "set"])
def _few(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(duplicates, "_FEW", request.param)


@pytest.mark.usefixtures("_few")
def test_repeated_urls_are_counted_and_named_with_both_lines(tmp_path: Path) -> None:
    urls = ["a", "b", "a", "c", "a", "b", "d"]
    rows = [{"image_url": url, "label": "x"} for url in urls]
    report = check(write_rows(tmp_path / "rows.jsonl", rows))
    assert report.issues.counts["image_url.repeated"] == 3
    repeated = found(report, "image_url.repeated")
    assert [(issue.line, issue.value) for issue in repeated] == [(3, "a"), (5, "a"), (6, "b")]
    assert "line 1 " in repeated[1].message
    assert "line 2 " in repeated[2].message


@pytest.mark.usefixtures("_few")
def test_no_repeated_url_is_no_issue(tmp_path: Path) -> None:
    rows = [{"image_url": str(i), "label": "x"} for i in range(50)]
    report = check(write_rows(tmp_path / "rows.jsonl", rows))
    assert not found(report, "image_url.repeated")


def test_examples_are_capped_counts_are_exact_and_the_sink_gets_all(tmp_path: Path) -> None:
    rows = [{"image_url": str(i % 10), "label": "x"} for i in range(500)]
    rows += [{"image_url": f"bad{i}", "label": 1.5} for i in range(300)]
    path = write_rows(tmp_path / "rows.jsonl", rows)
    sink = io.BytesIO()
    report = check(path, log=IssueLog(sink))
    for code, num in (("image_url.repeated", 490), ("label.type", 300)):
        assert report.issues.counts[code] == num
        assert len(found(report, code)) == 100
    written = [json.loads(line) for line in sink.getvalue().splitlines()]
    assert len(written) == sum(report.issues.counts.values())
    assert len([issue for issue in written if issue["code"] == "image_url.repeated"]) == 490
    # Without a sink the counts are the same though fewer examples are looked for.
    assert check(path).issues.counts == report.issues.counts


@pytest.mark.parametrize(
    ("rows", "code", "severity"),
    [
        ([], "source.empty", "error"),
        ([{"image_url": "a"}], "source.nothing_valid", "error"),
        ([{"image_url": "a", "label": "x"}], "class.only_one", "warning"),
    ],
)
def test_what_only_shows_in_the_whole_is_said(
    tmp_path: Path, rows: list[Any], code: str, severity: str
) -> None:
    report = check(write_rows(tmp_path / "rows.jsonl", rows))
    assert [issue.severity for issue in found(report, code)] == [severity]


def test_negatives_alone_are_an_error(tmp_path: Path) -> None:
    path = write_rows(tmp_path / "rows.jsonl", [{"image_url": "a", "label": []}])
    report = check(path, MultilabelRecord)
    assert report.num_valid == 1
    assert found(report, "class.none")


def test_balance_and_names_of_classes_are_information(tmp_path: Path) -> None:
    labels = ["can"] * 100 + ["Can"] * 9
    rows = [{"image_url": str(i), "label": label} for i, label in enumerate(labels)]
    report = check(write_rows(tmp_path / "rows.jsonl", rows))
    assert found(report, "class.few_samples")[0].value == 9
    assert "100 x 'can'" in found(report, "class.imbalance")[0].message
    assert "'Can', 'can'" in found(report, "class.similar_names")[0].message
    assert report.issues.num_errors == report.issues.num_warnings == 0


def test_ten_thousand_classes_are_counted(tmp_path: Path) -> None:
    rows = [{"image_url": str(i), "label": f"class {i}"} for i in range(10_000)]
    report = check(write_rows(tmp_path / "rows.jsonl", rows))
    assert len(report.classes) == report.num_valid == 10_000
    assert report.issues.counts["class.few_samples"] == 10_000
    assert len(report.issues.examples()) == 100


def test_good_images_have_no_issue(tmp_path: Path) -> None:
    for depth in ("headers", "pixels"):
        report = images(tmp_path, depth, a_jpg=photo(0), b_png=photo(1, "PNG"))
        assert report.num_valid == 2
        assert not report.issues.num_errors + report.issues.num_warnings


@pytest.mark.parametrize("depth", ["headers", "pixels"])
def test_images_that_cannot_be_used_cost_their_rows(tmp_path: Path, depth: Depth) -> None:
    rows = [{"image_url": f"{name}.jpg", "label": "x"} for name in "abcde"]
    (tmp_path / "a.jpg").write_bytes(photo())
    (tmp_path / "b.jpg").write_bytes(b"")
    (tmp_path / "c.jpg").write_bytes(b"no image at all")
    (tmp_path / "d.jpg").mkdir()
    report = check(write_rows(tmp_path / "rows.jsonl", rows), depth=depth)
    assert (report.num_rows, report.num_valid, report.classes) == (5, 1, {"x": 1})
    lines = {issue.line: issue.code for issue in report.issues.examples() if issue.line}
    assert lines == {
        2: "image.empty",
        3: "image.unknown_format",
        4: "file.directory",
        5: "file.missing",
    }


def test_a_truncated_image_shows_when_it_is_decoded(tmp_path: Path) -> None:
    files = {"a_jpg": photo(0), "b_jpg": photo(1)[:-200]}
    assert images(tmp_path, "headers", **files).num_valid == 2
    report = images(tmp_path, "pixels", **files)
    assert report.num_valid == 1
    assert found(report, "image.truncated")[0].line == 2


def test_a_wrong_file_name_is_information(tmp_path: Path) -> None:
    report = images(tmp_path, a_jpg=photo(0, "PNG"), b_png=photo(1, "PNG"))
    assert report.num_valid == 2
    [issue] = found(report, "image.extension")
    assert (issue.line, issue.severity, issue.value) == (1, "info", "a.jpg")
    assert "PNG" in issue.message


def test_a_rotated_image_is_information_and_its_upright_size_counts(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(photo(0, orientation=6))
    details = {"width": "30px", "height": 20}
    rows = [{"image_url": "a.jpg", "label": "x", "image_details": details}]
    report = check(write_rows(tmp_path / "rows.jsonl", rows), depth="headers")
    [rotated] = found(report, "image.rotated")
    assert (rotated.severity, rotated.value) == ("info", "a.jpg")
    sizes = [(issue.path, issue.value) for issue in found(report, "image.size")]
    assert sizes == [("image_details.width", 30), ("image_details.height", 20)]
    details.update(width=20, height="30px")  # type: ignore[dict-item]
    report = check(write_rows(tmp_path / "rows.jsonl", rows), depth="headers")
    assert not found(report, "image.size")


def test_photos_of_a_folder_are_looked_at_side_by_side(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Though each of its rows is a block of its own."""
    for name in ("a/1.jpg", "b/2.jpg"):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).write_bytes(photo(int(name[2])))
    both = Barrier(2)

    def wait_for_the_other(place: str) -> bytes:
        both.wait(timeout=60)
        return Path(place).read_bytes()

    monkeypatch.setattr("autofocus.data.images.check.open_bytes", wait_for_the_other)
    assert check(tmp_path, depth="headers").num_valid == 2


def test_identical_images_with_different_labels_are_a_warning(tmp_path: Path) -> None:
    report = images(tmp_path, a_jpg=photo(0), a2_jpg=photo(0), b_jpg=photo(0), c_jpg=photo(1))
    [copy], [differs] = found(report, "image.copy"), found(report, "image.copy_differs")
    assert (copy.line, copy.severity) == (2, "info")
    assert (differs.line, differs.severity) == (3, "warning")
    assert "line 1" in differs.hint


def test_one_photo_under_all_names_is_a_warning(tmp_path: Path) -> None:
    report = images(tmp_path, a_jpg=photo(0), b_jpg=photo(0))
    assert [issue.severity for issue in found(report, "image.only_one")] == ["warning"]
    assert not found(images(tmp_path, a_jpg=photo(0), b_jpg=photo(1)), "image.only_one")


@pytest.mark.parametrize(
    ("values", "code"),
    [
        (np.full((8, 8), 7, np.uint16), "image.uniform"),
        (np.full((8, 8), 700, np.uint16), "image.uniform"),
        (np.arange(64, dtype=np.uint8).reshape(8, 8) % 16, "image.dark"),
        (np.arange(64, dtype=np.uint16).reshape(8, 8) * 1000, None),
    ],
)
def test_images_in_which_nothing_shows_are_warned_about(
    tmp_path: Path, values: np.ndarray, code: str | None
) -> None:
    Image.fromarray(values).save(tmp_path / "a.png")
    rows = [{"image_url": "a.png", "label": "x"}]
    report = check(write_rows(tmp_path / "rows.jsonl", rows), depth="pixels")
    found_codes = {"image.uniform", "image.dark"} & {*report.issues.counts}
    assert found_codes == ({code} if code else set())


@pytest.mark.parametrize(("bits", "said"), [(8, [8]), (10, [10]), (12, [12]), (16, [])])
def test_bits_that_a_set_uses_of_16_are_said_once(
    tmp_path: Path, bits: int, said: list[int]
) -> None:
    """The brightest image counts; none of them is dark or uniform once it is read so."""
    rng = np.random.default_rng(0)
    for name, most in (("a", bits), ("b", max(8, bits - 1))):
        values = rng.integers(0, 1 << most, (20, 20)).astype(np.uint16)
        values[0, 0] = (1 << most) - 1
        Image.fromarray(values).save(tmp_path / f"{name}.png")
    rows = [{"image_url": f"{name}.png", "label": name} for name in "ab"]
    report = check(write_rows(tmp_path / "rows.jsonl", rows), depth="pixels")
    assert [issue.value for issue in found(report, "image.few_bits")] == said
    assert not {"image.uniform", "image.dark"} & {*report.issues.counts}


def test_images_over_the_limits_of_decoding_show_without_decoding(tmp_path: Path) -> None:
    header = photo(image_format="BMP")[:18] + struct.pack("<ii", 1, 70_000) + bytes(60)
    report = images(tmp_path, depth="headers", a_bmp=header, b_jpg=photo())
    (issue,) = found(report, "image.too_large")
    assert "65,535" in issue.message
    assert report.num_valid == 1


@pytest.mark.parametrize("depth", ["headers", "pixels"])
def test_errors_that_wait_for_their_turn_hold_no_file(
    tmp_path: Path, depth: Depth, monkeypatch: pytest.MonkeyPatch
) -> None:
    look, kept = ImageCheck._look, []

    def spy(self: ImageCheck, place: str) -> Any:
        kept.append(look(self, place))
        return kept[-1]

    monkeypatch.setattr(ImageCheck, "_look", spy)
    images(tmp_path, depth=depth, a_jpg=photo(), b_jpg=photo()[:300], c_png=b"no picture")
    errors = [error for error in kept if isinstance(error, Exception)]
    assert len(errors) == (2 if depth == "pixels" else 1)
    assert [error.__traceback__ for error in errors] == [None] * len(errors)


def test_repeated_rows_of_one_image_are_no_copies(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(photo())
    rows = [{"image_url": "a.jpg", "label": label} for label in "xy"]
    report = check(write_rows(tmp_path / "rows.jsonl", rows), depth="headers")
    assert set(report.issues.counts) == {"image_url.repeated", "class.few_samples"}


def test_every_code_is_documented() -> None:
    root = Path(__file__).parents[4]
    sources = (root / "src" / "autofocus" / "data").rglob("*.py")
    kinds = "json|line|file|row|image|image_url|label|text|object|coordinate|box|polygon|crowd"
    pattern = re.compile(rf'"((?:{kinds}|details|csv|url|source|class)\.[a-z_]+)"')
    codes = {code for path in sources for code in pattern.findall(path.read_text("utf-8"))}
    assert len(codes) > 50
    document = (root / "docs" / "reference" / "data.md").read_text("utf-8")
    assert not {code for code in codes if f"`{code}`" not in document}


def test_progress_is_shown_over_the_blocks(tmp_path: Path) -> None:
    path = write_rows(tmp_path / "rows.jsonl", [{"image_url": "a", "label": "x"}])
    seen: list[tuple[str, int | None]] = []

    def track(items: Any, description: str, total: int | None = None) -> Iterator[Any]:
        seen.append((description, total))
        yield from items

    options = ReadOptions()
    source = find_source(path, options)
    check_source(source, MulticlassRecord, options, "rows", None, track)
    assert seen == [("reading rows.jsonl", 1)]
