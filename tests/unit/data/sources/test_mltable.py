from pathlib import Path
from typing import Any

import pytest
import yaml

from autofocus.data.options import ReadOptions
from autofocus.data.rows.jsonl import JsonlFile
from autofocus.data.rows.records import MulticlassRecord
from autofocus.data.sources.find import find_source
from autofocus.data.sources.mltable import read_mltable, write_mltable
from autofocus.data.sources.read import read_data
from autofocus.errors import DataError

ROW = '{"image_url": "a.jpg", "label": "can"}\n'
PUBLISHED = """\
paths:
  - file: ./train_annotations.jsonl
transformations:
  - read_json_lines:
      encoding: utf8
      invalid_lines: error
      include_path_column: false
  - convert_column_types:
      - columns: image_url
        column_type: stream_info
"""


def write(folder: Path, **document: Any) -> Path:
    document.setdefault("paths", [{"file": "./rows.jsonl"}])
    document.setdefault("transformations", [{"read_json_lines": {}}])
    folder.mkdir(exist_ok=True)
    (folder / "MLTable").write_text(yaml.safe_dump(document))
    (folder / "rows.jsonl").write_text(ROW)
    return folder


def problems(folder: Path, **maps: str) -> list[str]:
    with pytest.raises(DataError) as caught:
        read_mltable(folder, maps)
    return list(caught.value.problems)


def test_the_published_file_is_read(tmp_path: Path) -> None:
    (tmp_path / "MLTable").write_text(PUBLISHED)
    path = tmp_path / "train_annotations.jsonl"
    path.write_text(ROW)
    assert read_mltable(tmp_path, {}) == [JsonlFile(str(path), "utf-8", "error")]


def test_the_folder_and_the_file_in_it_are_the_same_source(tmp_path: Path) -> None:
    write(tmp_path)
    (tmp_path / "a.jpg").write_bytes(b"x")
    for source in (tmp_path, tmp_path / "MLTable"):
        assert find_source(source, ReadOptions()).kind == "mltable"
        data = read_data(source, MulticlassRecord)
        assert [record.image_url for record in data.records] == ["a.jpg"]
        assert data.locations == [str(tmp_path / "a.jpg")]


def test_files_folders_patterns_and_urls_are_found_once(tmp_path: Path) -> None:
    more = tmp_path / "more"
    more.mkdir()
    for name in ("b.jsonl", "c.jsonl", "readme.txt"):
        (more / name).write_text(ROW)
    write(
        tmp_path,
        paths=[
            {"file": "rows.jsonl"},
            {"folder": "./more"},
            {"pattern": "./*/*.jsonl"},
            {"file": (more / "b.jsonl").as_uri()},
            {"file": "azureml://datastores/store/paths/c.jsonl"},
        ],
    )
    files = read_mltable(tmp_path, {"store": str(more)})
    expected = [tmp_path / "rows.jsonl", more / "b.jsonl", more / "c.jsonl"]
    assert [Path(file.path) for file in files] == expected


@pytest.mark.parametrize(
    ("name", "encoding"), [("utf8", "utf-8"), ("utf16", "utf-16"), ("latin1", "iso8859-1")]
)
def test_the_encoding_reaches_the_reader(tmp_path: Path, name: str, encoding: str) -> None:
    options = {"encoding": name, "invalid_lines": "drop", "include_path_column": True}
    write(tmp_path, transformations=[{"read_json_lines": options}])
    text = '{"image_url": "a.jpg", "label": "Größe"}\n'
    (tmp_path / "rows.jsonl").write_bytes(text.encode(encoding))
    (tmp_path / "a.jpg").write_bytes(b"x")
    [file] = read_mltable(tmp_path, {})
    assert file == JsonlFile(str(tmp_path / "rows.jsonl"), encoding, "drop")
    assert read_data(tmp_path, MulticlassRecord).records[0].label == "Größe"


def test_invalid_lines_decide_on_lines_that_are_not_json(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(b"x")
    for invalid_lines in ("drop", "error"):
        options = {"invalid_lines": invalid_lines}
        write(tmp_path, transformations=[{"read_json_lines": options}])
        # A line that is JSON but no row is not its business.
        (tmp_path / "rows.jsonl").write_text(ROW + "{,}\n" + '{"image_url": "a.jpg"}\n')
        if invalid_lines == "drop":
            data = read_data(tmp_path, MulticlassRecord)
            assert len(data.records) == 1
            assert data.issues.counts == {"json.invalid": 1, "label.missing": 1}
            assert data.issues.num_errors == 1
        else:
            with pytest.raises(DataError, match=r"rows\.jsonl:2: .*") as caught:
                read_data(tmp_path, MulticlassRecord)
            assert "'drop' goes on" in caught.value.problems[-1]


@pytest.mark.parametrize(
    ("document", "expected"),
    [
        ({"paths": []}, "paths must be a list"),
        ({"paths": [{"file": "nothing.jsonl"}]}, "no JSONL file at file 'nothing.jsonl'"),
        ({"paths": [{"pattern": "*.csv"}]}, "no JSONL file at pattern '*.csv'"),
        ({"paths": [{"url": "x"}]}, "must be file, folder or pattern"),
        ({"paths": [{"file": 3}]}, "must be file, folder or pattern"),
        ({"paths": [{"file": "azureml://datastores/store/paths/a.jsonl"}]}, "--map store=DIR"),
        ({"transformations": None}, "must be a list with read_json_lines"),
        ({"transformations": []}, "must have read_json_lines"),
        ({"transformations": [{"read_delimited": {}}]}, "got 'read_delimited'"),
        ({"transformations": [{"read_json_lines": {"encodign": 1}}]}, "'encodign' is not"),
        ({"transformations": [{"read_json_lines": {"encoding": "ebcdic"}}]}, "got 'ebcdic'"),
        ({"transformations": [{"read_json_lines": {"invalid_lines": "skip"}}]}, "got 'skip'"),
        ({"transformations": [{"read_json_lines": {}}, {"take": 5}]}, "got 'take'"),
        (
            {"transformations": [{"convert_column_types": [{"columns": "a"}]}]},
            "must have columns and column_type",
        ),
        (
            {
                "transformations": [
                    {"convert_column_types": [{"columns": ["a"], "column_type": "tensor"}]}
                ]
            },
            "got 'tensor'",
        ),
        ({"query": 1}, "'query' is not understood"),
    ],
)
def test_what_is_not_understood_is_named(
    tmp_path: Path, document: dict[str, Any], expected: str
) -> None:
    found = problems(write(tmp_path, **document))
    assert any(expected in problem for problem in found)
    assert all(problem.startswith(str(tmp_path / "MLTable")) for problem in found)


def test_all_problems_are_named_at_once(tmp_path: Path) -> None:
    write(tmp_path, paths=[{"file": "x"}, {"folder": "y"}], transformations=[{"a": 1}], query=1)
    assert len(problems(tmp_path)) == 5


@pytest.mark.parametrize("text", ["[", "- a\n- b\n", "", "a: b: c", "\x00"])
def test_a_file_that_is_no_mapping_is_an_input_error(tmp_path: Path, text: str) -> None:
    (tmp_path / "MLTable").write_text(text)
    assert len(problems(tmp_path)) == 1


def test_what_is_written_is_read(tmp_path: Path) -> None:
    write_mltable(tmp_path / "folder", "train.jsonl")
    path = tmp_path / "folder" / "train.jsonl"
    path.write_text(ROW)
    assert read_mltable(tmp_path / "folder", {}) == [JsonlFile(str(path), "utf-8", "error")]
