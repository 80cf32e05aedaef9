"""Reading JSON Lines: hostile files give one clear issue each, and no good row is lost."""

import codecs
import json
import random
from pathlib import Path
from typing import Any

import pytest

from autofocus.data.rows import jsonl
from autofocus.data.rows.issues import Issue, IssueLog
from autofocus.data.rows.jsonl import JsonlFile, Schema, read_row_blocks, write_jsonl
from autofocus.data.rows.records import RECORD_TYPES, ImageRecord, MulticlassRecord
from autofocus.errors import DataError


def line(i: int, label: Any = "can") -> bytes:
    return json.dumps({"image_url": f"{i}.jpg", "label": label}).encode()


def read(
    path: Path, record_type: type[ImageRecord] = MulticlassRecord, **file: Any
) -> tuple[dict[int | None, Any], list[Issue], int]:
    """Return (line -> record, issues, rows seen)."""
    schema, log = Schema(record_type), IssueLog()
    records: dict[int | None, Any] = {}
    num_rows = 0
    for batch in read_row_blocks(JsonlFile(str(path), **file), schema, log):
        num_rows += batch.num_rows
        records.update(zip(batch.lines, map(schema.record, batch.rows), strict=True))
    assert sum(log.counts.values()) == len(log.examples())
    return records, log.examples(), num_rows


def read_bytes(tmp_path: Path, content: bytes, **file: Any) -> tuple[list[str], list[Issue]]:
    path = tmp_path / "rows.jsonl"
    path.write_bytes(content)
    records, issues, _ = read(path, **file)
    return [record.image_url for record in records.values()], issues


GOOD = [b'{"image_url": "0.jpg", "label": "can"}', b'{"image_url": "2.jpg", "label": "can"}']


@pytest.mark.parametrize(
    ("bad", "code", "hint"),
    [
        (b'{"image_url": "1.jpg", "label": "can",}', "json.invalid", "comma before a closing"),
        (b'{"image_url": "1.jpg", "label": "c', "json.truncated", "cut off"),
        (b'{"image_url": "1.jpg", "label": None}', "json.invalid", "null, true and false"),
        (b"{'image_url': '1.jpg', 'label': 'can'}", "json.invalid", "double quotes"),
        (b'[{"image_url": "1.jpg"}, ]', "json.invalid", "comma before"),
        (b'{"image_url": "1.jpg"} {"label": "can"}', "json.invalid", "several"),
        (b"{", "json.invalid", "one line of its own"),
        (b'{"image_url": "1.jpg", "label": "can\xff"}', "line.encoding", "UTF-8"),
        (b'{"image_url": "1.jpg", "x": ' + b"[" * 5000 + b"]" * 5000 + b"}", "json.invalid", ""),
        (b"[1, 2]", "row.type", ""),
        (b"\x00\x01\x02", "json.truncated", ""),
        (b'{"image_url": "1.jpg", "label": 1e999}', "label.type", ""),
        (b'{"image_url": "\\ud800.jpg", "label": "can"}', "text.invalid", ""),
    ],
)
def test_a_broken_line_is_named_and_costs_only_itself(
    tmp_path: Path, bad: bytes, code: str, hint: str
) -> None:
    urls, issues = read_bytes(tmp_path, GOOD[0] + b"\n" + bad + b"\n" + GOOD[1] + b"\n")
    assert urls == ["0.jpg", "2.jpg"]
    assert [(issue.line, issue.code, issue.severity) for issue in issues] == [(2, code, "error")]
    assert hint in issues[0].hint
    assert issues[0].text().startswith(f"{tmp_path / 'rows.jsonl'}:2: ")
    assert "\n" not in issues[0].text()


@pytest.mark.parametrize(
    "content",
    [
        b"\n".join(GOOD),
        b"\r\n".join(GOOD) + b"\r\n",
        b"\n\n  \n".join(GOOD) + b"\n\n",
        codecs.BOM_UTF8 + b"\n".join(GOOD),
        # Two files with a mark each, joined.
        codecs.BOM_UTF8 + GOOD[0] + b"\n" + codecs.BOM_UTF8 + GOOD[1],
        b'{"image_url": "0.jpg", "label": "can", "z": NaN}\n' + GOOD[1],
        GOOD[0][:-1] + b', "more": {"a": [1]}}\n' + GOOD[1],
    ],
)
def test_a_harmless_file_has_no_issues(tmp_path: Path, content: bytes) -> None:
    assert read_bytes(tmp_path, content) == (["0.jpg", "2.jpg"], [])


def test_blank_lines_keep_the_line_numbers(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_bytes(b"\n\r\n" + line(0) + b"\n\n" + line(1) + b"\n{\n" + line(2))
    records, issues, num_rows = read(path)
    assert [(number, record.image_url) for number, record in records.items()] == [
        (3, "0.jpg"),
        (5, "1.jpg"),
        (7, "2.jpg"),
    ]
    assert [issue.line for issue in issues] == [6]
    assert num_rows == 4


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32"])
def test_other_unicode_encodings_are_read_and_said(tmp_path: Path, encoding: str) -> None:
    text = '{"image_url": "0.jpg", "label": "Größe"}\n{"image_url": "1.jpg", "label": "缶"}\n'
    path = tmp_path / "rows.jsonl"
    path.write_bytes(text.encode(encoding))
    records, issues, _ = read(path)
    assert [record.label for record in records.values()] == ["Größe", "缶"]
    assert [(issue.code, issue.severity) for issue in issues] == [("file.encoding", "info")]


def test_a_named_encoding_is_used_without_a_word(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_bytes('{"image_url": "0.jpg", "label": "Größe"}'.encode("iso8859-1"))
    records, issues, _ = read(path, encoding="iso8859-1")
    assert records[1].label == "Größe"
    assert not issues


def test_a_byte_that_is_no_character_costs_its_line_only(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_bytes(line(0) + b'\n{"image_url": "\xe9.jpg", "label": "can"}\n' + line(2))
    records, issues, _ = read(path, encoding="ascii")
    assert list(records) == [1, 3]
    assert [(issue.line, issue.code) for issue in issues] == [(2, "json.invalid")]


def test_old_line_ends_are_explained(tmp_path: Path) -> None:
    urls, issues = read_bytes(tmp_path, b"\r".join(GOOD))
    assert urls == []
    assert "several" in issues[0].hint or "carriage" in issues[0].hint


def test_an_empty_file_has_no_rows(tmp_path: Path) -> None:
    assert read_bytes(tmp_path, b"") == ([], [])
    assert read_bytes(tmp_path, b"\n \n") == ([], [])
    assert read_bytes(tmp_path, codecs.BOM_UTF8) == ([], [])


@pytest.mark.parametrize(
    ("head", "what"), [(b"\xff\xd8\xff\xe0", "JPEG"), (b"PK\x03\x04", "zip"), (b"\x1f\x8b", "gzip")]
)
def test_a_file_that_is_no_text_is_named(tmp_path: Path, head: bytes, what: str) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_bytes(head + bytes(100))
    with pytest.raises(DataError, match=what):
        read(path)


def test_a_missing_file_is_an_input_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"nothing\.jsonl: cannot be read: No such file"):
        read(tmp_path / "nothing.jsonl")


def test_a_line_longer_than_a_block_is_read(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    long = json.dumps({"image_url": "1.jpg", "label": "can", "z": "x" * 500_000}).encode()
    path.write_bytes(b"\n".join([line(0), long, line(2)]))
    records, issues, _ = read(path)
    assert list(records) == [1, 2, 3]
    assert not issues


def test_a_line_that_is_too_long_costs_only_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jsonl, "MAX_LINE_BYTES", 100_000)
    path = tmp_path / "rows.jsonl"
    long = json.dumps({"image_url": "1.jpg", "label": "can", "z": "x" * 500_000}).encode()
    path.write_bytes(b"\n".join([line(0), long, line(2)]))
    records, issues, _ = read(path)
    assert list(records) == [1, 3]
    assert [(issue.line, issue.code) for issue in issues] == [(2, "line.too_long")]
    path.write_bytes(b"\n".join([line(0), long]))
    records, issues, _ = read(path)
    assert list(records) == [1]
    assert [(issue.line, issue.code) for issue in issues] == [(2, "line.too_long")]


def test_lines_are_numbered_over_many_blocks(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    num_lines = 5 * jsonl.BLOCK_BYTES // len(line(0))
    lines = [line(i) for i in range(num_lines)]
    lines[num_lines // 2] = b"{"
    path.write_bytes(b"\n".join(lines))
    records, issues, num_rows = read(path)
    assert num_rows == num_lines
    assert all(record.image_url == f"{number - 1}.jpg" for number, record in records.items())  # type: ignore[operator]
    assert [issue.line for issue in issues] == [num_lines // 2 + 1]


def test_nan_costs_its_object_and_not_the_line(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    box = '{"label": "can", "topX": %s, "topY": 0.1, "bottomX": 0.5, "bottomY": 0.5}'
    objects = ", ".join(box % text for text in ("0.1", "NaN", "-Infinity", "0.2"))
    path.write_text(f'{{"image_url": "0.jpg", "label": [{objects}]}}')
    records, issues, _ = read(path, RECORD_TYPES["image_object_detection"])
    assert [item.top_x for item in records[1].label] == [0.1, 0.2]
    assert [(issue.line, issue.path, issue.code, issue.value) for issue in issues] == [
        (1, "label[1].topX", "coordinate.not_finite", "NaN"),
        (1, "label[2].topX", "coordinate.not_finite", "-Infinity"),
    ]


def test_columns_may_have_other_names(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text('{"file": "0.jpg", "class": "can", "label": 7.5}\n')
    schema, log = Schema(MulticlassRecord, "file", "class"), IssueLog()
    [batch] = read_row_blocks(JsonlFile(str(path)), schema, log)
    assert schema.record(batch.rows[0]) == MulticlassRecord(image_url="0.jpg", label="can")
    assert not log.counts
    with pytest.raises(DataError, match="two names"):
        Schema(MulticlassRecord, "label", "label")


def test_invalid_lines_drop_makes_them_warnings(tmp_path: Path) -> None:
    urls, issues = read_bytes(tmp_path, GOOD[0] + b"\n{\n", invalid_lines="drop")
    assert urls == ["0.jpg"]
    assert [issue.severity for issue in issues] == ["warning"]


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    records = [MulticlassRecord(image_url=f"{i}.jpg", label="缶") for i in range(3)]
    path = tmp_path / "new" / "rows.jsonl"
    assert write_jsonl(path, records) == 3
    assert list(read(path)[0].values()) == records
    assert [file.name for file in path.parent.iterdir()] == ["rows.jsonl"]


def test_a_writer_that_fails_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    write_jsonl(path, [MulticlassRecord(image_url="0.jpg", label="can")])
    before = path.read_bytes()

    def failing() -> Any:
        yield MulticlassRecord(image_url="1.jpg", label="can")
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        write_jsonl(path, failing())
    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == ["rows.jsonl"]


SQUARE = [0.1, 0.1, 0.5, 0.1, 0.5, 0.5]
LABELS: dict[str, Any] = {
    "image_classification": "can",
    "image_classification_multilabel": ["can", "carton"],
    "image_object_detection": [
        {"label": "can", "topX": 0.1, "topY": 0.2, "bottomX": 0.5, "bottomY": 0.6, "isCrowd": 0}
    ],
    "image_instance_segmentation": [{"label": "can", "polygon": [SQUARE], "isCrowd": 1}],
}
PIECES = (b"NaN", b"null", b'"', b"{", b"}", b"[", b"]", b",", b"-", b"1e999", b"\xff", b"\\ud800")


def corrupt(row: bytes, rng: random.Random) -> bytes:
    """Change one line at random; it stays one line."""
    at, to = sorted((rng.randrange(len(row)), rng.randrange(len(row))))
    kind = rng.randrange(5)
    if kind == 0:
        row = row[:at]
    elif kind == 1:
        row = row[:at] + rng.choice(PIECES) + row[at:]
    elif kind == 2:
        row = row[:at] + row[to:]
    elif kind == 3:
        row = row[:at] + rng.randbytes(rng.randrange(1, 8)) + row[at + 1 :]
    else:
        parts = row.split(b":")
        place = rng.randrange(1, len(parts))
        parts[place] = rng.choice((b"12", b'"x"', b"true", b"[[]]", b"{}")) + parts[place][-12:]
        row = b":".join(parts)
    return row.replace(b"\n", b" ")


@pytest.mark.parametrize("task", RECORD_TYPES)
def test_a_corrupt_line_never_costs_another(tmp_path: Path, task: str) -> None:
    rng = random.Random(0)
    details = {"format": "jpg", "width": "400px", "height": 258}
    path = tmp_path / "rows.jsonl"
    for _ in range(400):
        rows = [
            json.dumps({"image_url": f"{i}.jpg", "image_details": details, "label": LABELS[task]})
            for i in range(5)
        ]
        lines = [row.encode() for row in rows]
        place = rng.randrange(5)
        lines[place] = corrupt(lines[place], rng)
        path.write_bytes(b"\n".join(lines) + b"\n")
        records, issues, _ = read(path, RECORD_TYPES[task])
        good = {number for number in range(1, 6) if number != place + 1}
        assert good <= set(records)
        assert all(records[number].image_url == f"{number - 1}.jpg" for number in good)
        assert all(issue.line in (place + 1, None) for issue in issues)
        # A line is either used, blank, or explained.
        assert place + 1 in records or issues or not lines[place].strip()
