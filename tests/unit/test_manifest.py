"""Manifests from strangers: refused clearly, never trusted."""

import errno
import json
from pathlib import Path
from typing import Any

import msgspec
import pytest

import autofocus.manifest
from autofocus.errors import ModelFolderError
from autofocus.manifest import (
    DataInfo,
    Manifest,
    ResizeCrop,
    WeightsInfo,
    check_files,
    encode_manifest,
    read_manifest,
)

GOOD = Manifest(
    task="image_classification",
    labels=["a", "b"],
    model_name="m",
    preprocess=ResizeCrop(),
    weights=WeightsInfo("random", "none"),
    data=DataInfo("0", 1, 1),
)


def test_round_trip(tmp_path: Path) -> None:
    (tmp_path / "manifest.json").write_bytes(encode_manifest(GOOD))
    assert read_manifest(tmp_path) == GOOD


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"labels": []}, "length >= 1"),
        ({"labels": "ab"}, "array"),
        ({"preprocess": {"type": "resize_crop", "crop_size": 10**9}}, "8192"),
        ({"preprocess": {"type": "resize_crop", "crop_size": -1}}, ">= 1"),
        ({"preprocess": {"type": "resize_crop", "std": [0.0, 1.0, 1.0]}}, "> 0"),
        ({"preprocess": {"type": "exec", "code": "x"}}, "exec"),
        ({"calibration": {"temperature": 0}}, "> 0"),
        ({"task": None}, "str"),
    ],
)
def test_impossible_values_are_refused(tmp_path: Path, change: dict[str, Any], reason: str) -> None:
    document = {**json.loads(encode_manifest(GOOD)), **change}
    (tmp_path / "manifest.json").write_text(json.dumps(document))
    with pytest.raises(ModelFolderError, match=r"manifest\.json: not a usable manifest") as caught:
        read_manifest(tmp_path)
    assert reason in str(caught.value)


@pytest.mark.parametrize("text", ["", "{", "[]", "[" * 100_000, '{"task": NaN}'])
def test_what_is_not_a_manifest_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "manifest.json").write_text(text)
    with pytest.raises(ModelFolderError, match="not a usable manifest"):
        read_manifest(tmp_path)


def test_missing_manifest_says_what_a_model_folder_is(tmp_path: Path) -> None:
    with pytest.raises(ModelFolderError, match=r"A model folder has a manifest\.json"):
        read_manifest(tmp_path)


def test_files_may_not_reach_outside(tmp_path: Path) -> None:
    manifest = Manifest(
        **{f: getattr(GOOD, f) for f in ("task", "labels", "model_name", "preprocess")},
        weights=GOOD.weights,
        data=GOOD.data,
        files={"../../etc/passwd": "0", "/etc/passwd": "0", "a\\b": "0", "gone.onnx": "0"},
    )
    with pytest.raises(ModelFolderError) as caught:
        check_files(tmp_path, manifest)
    assert sum("must be a plain file name" in p for p in caught.value.problems) == 3
    assert sum("missing" in p for p in caught.value.problems) == 1


def test_a_closed_file_is_named_unless_scoring_can_do_without(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: Path) -> str:
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    monkeypatch.setattr(autofocus.manifest, "file_sha256", refuse)
    (tmp_path / "model.safetensors").write_bytes(b"1")
    manifest = msgspec.structs.replace(GOOD, files={"model.safetensors": "0"})
    check_files(tmp_path, manifest, optional=["model.safetensors"])
    with pytest.raises(ModelFolderError, match=r"safetensors: Permission denied\. Let this user"):
        check_files(tmp_path, manifest)


def test_a_format_to_come_is_refused_by_its_number(tmp_path: Path) -> None:
    changed = json.loads(encode_manifest(GOOD)) | {"schema_version": 99, "task": {"new": "shape"}}
    (tmp_path / "manifest.json").write_text(json.dumps(changed))
    with pytest.raises(ModelFolderError, match=r"schema_version 99 is newer .*\(<= 2\)"):
        read_manifest(tmp_path)
