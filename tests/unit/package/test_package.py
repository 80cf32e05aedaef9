"""The written package: complete, pickle-free, movable, verified in another process."""

import ast
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest
import torch
import yaml
from safetensors import SafetensorError
from safetensors.torch import load_file

from autofocus.errors import AutofocusError, ModelFolderError, VerificationError
from autofocus.manifest import read_manifest
from autofocus.models import catalog
from autofocus.models.network import Classifier
from autofocus.models.timm.classifiers import build_classifier
from autofocus.models.weights import save
from autofocus.package import mlflow_model, verify
from autofocus.package.mlflow_model import ROOT, scoring_modules, write_package
from autofocus.package.onnx import export_onnx
from autofocus.package.verify import verify_package
from autofocus.scoring.scorer import Scorer


def rebuilt(folder: Path) -> torch.nn.Module:
    network = build_classifier(catalog.resolve("test_resnet"), 3, None, 64)
    network.load_state_dict(load_file(folder / "model.safetensors"))
    return network.eval()


def photos(photo_folder: Path) -> list[bytes]:
    return [path.read_bytes() for path in sorted(photo_folder.rglob("*.png"))[:5]]


def test_package_has_no_pickle_and_no_absolute_path(model_folder: Path) -> None:
    files = [p for p in model_folder.rglob("*") if p.is_file()]
    assert not [p for p in files if p.suffix in {".pkl", ".pickle", ".pt", ".pth", ".bin"}]
    for path in files:
        if path.suffix in {".json", ".yaml", ".txt", ".py", ""}:
            text = path.read_text(encoding="utf-8")
            assert str(model_folder) not in text, path
            assert str(ROOT.parent) not in text, path
    assert len({path.stat().st_mode for path in files}) == 1  # the umask's, for every file
    mlmodel = yaml.safe_load((model_folder / "MLmodel").read_text())
    assert json.loads(mlmodel["signature"]["inputs"])[0]["name"] == "image"


def test_carried_code_is_torch_free_and_complete() -> None:
    names = {path.relative_to(ROOT).as_posix() for path in scoring_modules()}
    assert {
        "scoring/scorer.py",
        "scoring/request.py",
        "data/images/decode.py",
        "manifest.py",
    } <= names
    others = ("training/", "models/", "cli/", "study/")
    assert not [n for n in names if n.startswith(others)]
    # Names of algorithms, and none of them.
    explaining = {n for n in names if n.startswith("explain/")}
    assert explaining == {"explain/__init__.py", "explain/algorithms.py"}
    assert "scoring/backends/torch.py" not in names


def test_carried_code_imports_what_the_package_requires() -> None:
    statements = [node for path in scoring_modules() for node in ast.parse(path.read_text()).body]
    imported = {x.name for node in statements if isinstance(node, ast.Import) for x in node.names}
    imported |= {node.module or "" for node in statements if isinstance(node, ast.ImportFrom)}
    libraries = {name.partition(".")[0] for name in imported} - sys.stdlib_module_names
    names = {"opencv-python-headless": "cv2", "pillow": "PIL"}
    required = {names.get(name, name) for name in mlflow_model.REQUIREMENTS}
    assert libraries - {"autofocus"} <= required


def test_a_package_that_takes_too_long_is_not_published(
    model_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(verify, "TIMEOUT_S", 0.01)
    with pytest.raises(VerificationError, match=r"did not score 0 images within 0\.01 s"):
        verify_package(model_folder, rebuilt(model_folder), read_manifest(model_folder), [])


def test_onnx_equals_torch_in_a_clean_process(model_folder: Path, photo_folder: Path) -> None:
    manifest = read_manifest(model_folder)
    difference = verify_package(model_folder, rebuilt(model_folder), manifest, photos(photo_folder))
    assert difference < 1e-4


def test_another_network_is_not_verified(model_folder: Path, photo_folder: Path) -> None:
    network = rebuilt(model_folder)
    with torch.no_grad():
        network.head.bias += torch.tensor([1.0, 0.0, 0.0])
    with pytest.raises(VerificationError, match="differs from torch"):
        verify_package(model_folder, network, read_manifest(model_folder), photos(photo_folder))


def test_a_network_that_gives_no_numbers_is_not_verified(
    model_folder: Path, photo_folder: Path
) -> None:
    network = rebuilt(model_folder)
    with torch.no_grad():
        network.head.bias[1] = torch.nan
    with pytest.raises(VerificationError, match="is not a number"):
        verify_package(model_folder, network, read_manifest(model_folder), photos(photo_folder))


def test_package_without_a_module_is_not_verified(
    model_folder: Path, photo_folder: Path, tmp_path: Path
) -> None:
    broken = shutil.copytree(model_folder, tmp_path / "broken")
    (broken / "code" / "autofocus" / "structures" / "predictions.py").unlink()
    with pytest.raises(VerificationError, match="does not load in a clean process"):
        verify_package(
            broken, rebuilt(model_folder), read_manifest(model_folder), photos(photo_folder)
        )


def test_package_scores_after_being_moved_without_torch(
    model_folder: Path, photo_folder: Path, tmp_path: Path
) -> None:
    moved = shutil.copytree(model_folder, tmp_path / "elsewhere")
    photo = next(photo_folder.rglob("*.png"))
    code = (
        "import sys; sys.path.insert(0, sys.argv[1] + '/code')\n"
        "from pathlib import Path\n"
        "from autofocus.scoring.scorer import Scorer\n"
        "print(Scorer.load(Path(sys.argv[1])).score([Path(sys.argv[2]).read_bytes()])[0]['labels'])\n"
        "assert 'torch' not in sys.modules"
    )
    output = subprocess.run(
        [sys.executable, "-I", "-c", code, str(moved), str(photo)],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert output.strip() == "['blue', 'green', 'red']"


def test_package_says_what_explanations_need(model_folder: Path) -> None:
    code = (
        "import sys; sys.path.insert(0, sys.argv[1] + '/code')\n"
        "from pathlib import Path\n"
        "from autofocus.scoring.explain.needs import why_unavailable\n"
        "from autofocus.scoring.explain.request import explaining_selector\n"
        "from autofocus.scoring.request import RequestRow\n"
        "from autofocus.scoring.scorer import Scorer\n"
        "rows = [RequestRow(b'', explain=True)]\n"
        "assert explaining_selector(Scorer.load(Path(sys.argv[1])), rows)\n"
        "print(why_unavailable(Path(sys.argv[1])))"
    )
    output = subprocess.run(
        [sys.executable, "-I", "-c", code, str(model_folder)],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert "not part of a packaged model" in output
    assert "pip install '.[train]'" in output


@pytest.mark.parametrize("name", ["model.onnx", "model.safetensors"])
def test_damaged_files_are_noticed(model_folder: Path, tmp_path: Path, name: str) -> None:
    damaged = shutil.copytree(model_folder, tmp_path / "damaged")
    content = bytearray((damaged / name).read_bytes())
    content[len(content) // 2] ^= 0xFF
    (damaged / name).write_bytes(content)
    with pytest.raises(ModelFolderError, match=f"{name}: not the file that was packaged"):
        Scorer.load(damaged)


def test_scores_need_no_torch_weights(
    model_folder: Path, photo_folder: Path, tmp_path: Path
) -> None:
    folder = shutil.copytree(model_folder, tmp_path / "small")
    (folder / "model.safetensors").unlink()
    given = photos(photo_folder)[:1]
    (scored,), (expected,) = (Scorer.load(at).score(given) for at in (folder, model_folder))
    assert scored["probs"].tolist() == expected["probs"].tolist()
    (folder / "model.onnx").unlink()
    with pytest.raises(ModelFolderError, match=r"model\.onnx: missing"):
        Scorer.load(folder)


def test_network_that_does_not_fit_its_labels_is_refused(
    model_folder: Path, tmp_path: Path
) -> None:
    folder = shutil.copytree(model_folder, tmp_path / "other")
    manifest = msgspec.structs.replace(read_manifest(folder), labels=["a", "b"])
    (folder / "manifest.json").write_bytes(msgspec.json.encode(manifest))
    with pytest.raises(ModelFolderError, match="3 outputs for 2 labels"):
        Scorer.load(folder)


def test_weights_that_cannot_be_written_are_an_os_error(
    model_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise SafetensorError("Error while serializing: I/O error: No space left (os error 28)")

    monkeypatch.setattr(save, "save_file", full)
    with pytest.raises(OSError, match="No space left") as caught:
        write_package(tmp_path / "m", rebuilt(model_folder), read_manifest(model_folder))
    assert caught.value.filename == str(tmp_path / "m" / "model.safetensors")


def test_a_network_that_onnx_has_no_operator_for_is_named(tmp_path: Path) -> None:
    # The tracer writes no pooling to 3 of 8 places.
    encoder = torch.nn.Sequential(torch.nn.AdaptiveAvgPool2d(3), torch.nn.Flatten())
    network = Classifier(encoder, torch.nn.Linear(27, 2), 8).eval()
    network.exporter = "torchscript"
    with pytest.raises(AutofocusError, match="Classifier: the exporter 'torchscript' cannot") as it:
        export_onnx(network, tmp_path / "model.onnx", (8, 8))
    assert "adaptive_avg_pool2d" in str(it.value)
    assert len(str(it.value).splitlines()) == 1


def test_failed_write_leaves_nothing(
    model_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(mlflow_model, "save_tensors", full)
    with pytest.raises(OSError, match="No space left"):
        write_package(tmp_path / "m", rebuilt(model_folder), read_manifest(model_folder))
    assert not (tmp_path / "m").exists()


def test_ctrl_c_does_not_reach_the_process_that_checks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A terminal sends it to every process of the group."""
    monkeypatch.setattr(verify, "_CHILD", "import os; print([os.getpgrp()])")
    assert verify._score_in_child(tmp_path, [], {}) != [os.getpgrp()]
