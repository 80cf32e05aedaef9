"""Hostile model folders through the real commands: each is one line and exit status 2."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from support.commands import invoke

# Changes of a good manifest, or its bytes, and what must be said about it.
MANIFESTS: dict[str, tuple[dict[str, Any] | bytes, str]] = {
    "a file outside": ({"files": {"../../etc/passwd": "0" * 64}}, "must be a plain file name"),
    "an absolute file": ({"files": {"/etc/passwd": "0" * 64}}, "must be a plain file name"),
    "a file that is not there": ({"files": {"more.bin": "0" * 64}}, "more.bin: missing"),
    "another checksum": ({"files": {"model.onnx": "0" * 64}}, "not the file that was packaged"),
    "an unknown task": ({"task": "os.system"}, "task must be one of"),
    "no labels": ({"labels": []}, "labels"),
    "too few labels": ({"labels": ["a"]}, "4 outputs for 1 labels"),
    "a label twice": ({"labels": ["a", "a", "b", "c"]}, "'a' is there twice"),
    "labels that are text": ({"labels": "abcd"}, "labels"),
    "another input size": (
        {"preprocess": {"type": "resize_crop", "resize_size": 999, "crop_size": 999}},
        "do not fit each other",
    ),
    "an input of gigabytes": (
        {"preprocess": {"type": "resize_crop", "resize_size": 10**9, "crop_size": 10**9}},
        "resize_size",
    ),
    "division by zero": (
        {"preprocess": {"type": "resize_crop", "std": [0.0, 1.0, 1.0]}},
        "preprocess.std[0]",
    ),
    "unknown preprocessing": ({"preprocess": {"type": "exec", "code": "x"}}, "preprocess.type"),
    "settings that are lists": ({"settings": {"x": ["rm"]}}, "settings"),
    "other outputs": ({"outputs": ["../boxes"]}, "outputs must be"),
    "a version to come": ({"schema_version": 99}, "schema_version"),
    "half a file": (b'{"task": "image', "not a usable manifest"),
    "nothing": (b"", "not a usable manifest"),
    "a list": (b"[]", "not a usable manifest"),
    "100,000 brackets": (b'{"labels":' + b"[" * 100_000, "not a usable manifest"),
    "bytes": (bytes(range(256)), "not a usable manifest"),
}


# The server reads a model in a process of its own, which takes a second each.
SERVED = ("a file outside", "too few labels", "half a file")


@pytest.mark.parametrize("name", MANIFESTS)
def test_a_hostile_manifest_is_one_line(
    name: str, tiny_model: Path, photo: bytes, tmp_path: Path
) -> None:
    change, says = MANIFESTS[name]
    model = shutil.copytree(tiny_model, tmp_path / "model")
    path = model / "manifest.json"
    if isinstance(change, dict):
        change = json.dumps({**json.loads(path.read_bytes()), **change}).encode()
    path.write_bytes(change)
    (tmp_path / "a.jpg").write_bytes(photo)
    commands: list[tuple[object, ...]] = [("score", model, tmp_path / "a.jpg")]
    if name in SERVED:
        commands.append(("serve", model, "--port", "0"))
    for command in commands:
        refused = invoke(*command)
        assert refused.exit_code == 2, refused.exception
        (line,) = refused.stderr.splitlines()
        assert line.startswith("error: ")
        assert says in line
        assert len(line) < 600
        assert refused.stdout == ""
