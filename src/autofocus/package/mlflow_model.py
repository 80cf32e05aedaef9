"""Write a trained network as an MLflow model folder without pickle.

    models/<n>/
      MLmodel  conda.yaml  python_env.yaml  requirements.txt   read by MLflow
      model.py                                                 the entry point (models from code)
      code/autofocus/…                                         the torch-free layers it needs
      manifest.json  model.onnx  model.safetensors             the network

The folder has no absolute path in it and does not need autofocus where it is loaded. It is
written from here rather than through mlflow, so that training needs no 600 MB of server;
`tests/e2e` loads it with the real one.
"""

import ast
import json
import platform
import shutil
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

import msgspec
import yaml

from autofocus.manifest import MANIFEST_NAME, Manifest, encode_manifest, file_sha256
from autofocus.models.network import Network
from autofocus.models.weights.save import save_tensors
from autofocus.package.measure import measure
from autofocus.package.onnx import export_onnx
from autofocus.runtime import naming_full_disk
from autofocus.scoring.explain.needs import WEIGHTS_NAME
from autofocus.scoring.scorer import ONNX_NAME
from autofocus.tasks import TASKS

ROOT = Path(__file__).parents[1]
ENTRY = ROOT / "package" / "mlflow_entry.py"
ENTRY_NAME = "model.py"
MLFLOW_REQUIREMENT = "mlflow>=3.10,<4"
MLFLOW_VERSION = "3.10.0"  # the format written here, not what is installed

# Imports of the packaged code.
REQUIREMENTS = (
    "msgspec",
    "numpy",
    "onnxruntime",
    "opencv-python-headless",
    "orjson",
    "pillow",
    "pybase64",
    "simplejpeg",
)


def write_package(folder: Path, network: Network, manifest: Manifest) -> Manifest:
    """Write the model folder; return the manifest with file hashes and versions filled in.

    Args:
        folder: Folder to make; must not exist.
        network: Network in eval mode, on the CPU.
        manifest: Description of the network.

    Raises:
        OSError: If the disk is full or not writable; the folder is removed.
    """
    folder.mkdir(parents=True)
    try:
        with naming_full_disk(folder):
            return _write(folder, network, manifest)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise


def _write(folder: Path, network: Network, manifest: Manifest) -> Manifest:
    export_onnx(network, folder / ONNX_NAME, manifest.preprocess.size)
    save_tensors(network.state_dict(), folder / WEIGHTS_NAME)
    complete = msgspec.structs.replace(
        manifest,
        files={name: file_sha256(folder / name) for name in (ONNX_NAME, WEIGHTS_NAME)},
        measured=measure(folder / ONNX_NAME, manifest.preprocess.size),
        versions=_versions(),
    )
    (folder / MANIFEST_NAME).write_bytes(encode_manifest(complete))
    shutil.copyfile(ENTRY, folder / ENTRY_NAME)
    copy_scoring_code(folder / "code")
    _write_mlflow_files(folder, complete)
    return complete


def _write_mlflow_files(folder: Path, manifest: Manifest) -> None:
    requirements = [MLFLOW_REQUIREMENT, *(f"{n}=={metadata.version(n)}" for n in REQUIREMENTS)]
    (folder / "requirements.txt").write_text("\n".join(requirements) + "\n")
    python = platform.python_version()
    _write_yaml(
        folder / "python_env.yaml",
        {
            "python": python,
            "build_dependencies": ["pip", "setuptools", "wheel"],
            "dependencies": ["-r requirements.txt"],
        },
    )
    _write_yaml(
        folder / "conda.yaml",
        {
            "name": "mlflow-env",
            "channels": ["conda-forge"],
            "dependencies": [f"python={python}", "pip", {"pip": requirements}],
        },
    )
    _write_yaml(folder / "MLmodel", _mlmodel(manifest, python))


def _mlmodel(manifest: Manifest, python: str) -> dict[str, Any]:
    outputs = [
        {"type": "string", "name": name, "required": required}
        for name, required in TASKS[manifest.task].response_columns.items()
    ]
    return {
        "flavors": {
            "python_function": {
                "artifacts": {"manifest": {"path": MANIFEST_NAME, "uri": MANIFEST_NAME}},
                "code": "code",
                "env": {"conda": "conda.yaml", "virtualenv": "python_env.yaml"},
                "loader_module": "mlflow.pyfunc.loaders.code_model",
                "model_code_path": ENTRY_NAME,
                "python_version": python,
                "streamable": False,
            }
        },
        "metadata": {"autofocus_version": metadata.version("autofocus"), "task": manifest.task},
        "mlflow_version": MLFLOW_VERSION,
        "model_uuid": uuid.uuid4().hex,
        "signature": {
            "inputs": json.dumps([{"type": "binary", "name": "image", "required": True}]),
            "outputs": json.dumps(outputs),
            "params": None,
        },
        "utc_time_created": datetime.now(UTC).strftime("%Y-%m-%d %H:%M:%S.%f"),
    }


def _write_yaml(path: Path, document: dict[str, Any]) -> None:
    path.write_text(yaml.safe_dump(document, sort_keys=True), encoding="utf-8")


def _versions() -> dict[str, str]:
    names = ("autofocus", "torch", "timm", "onnx", *REQUIREMENTS)
    return {"python": platform.python_version()} | {name: metadata.version(name) for name in names}


def copy_scoring_code(folder: Path) -> None:
    """Copy exactly the modules that scoring imports into `folder/autofocus`."""
    target = folder / ROOT.name
    for source in sorted(scoring_modules()):
        copy = target / source.relative_to(ROOT)
        copy.parent.mkdir(parents=True, exist_ok=True)
        if source == ROOT / "__init__.py":
            # Its public functions need training, which is not packaged.
            version = metadata.version("autofocus")
            copy.write_text(
                f'"""The scoring layers of autofocus."""\n\n__version__ = "{version}"\n'
            )
        else:
            shutil.copyfile(source, copy)


def scoring_modules() -> set[Path]:
    """Return the files reached from the entry point through module-level imports."""
    found: set[Path] = set()
    waiting = [ENTRY]
    while waiting:
        for path in _imported(waiting.pop()):
            if path not in found:
                found.add(path)
                waiting.append(path)
    return found


def _imported(path: Path) -> Iterator[Path]:
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            module = node.module or ""
            # `from a.b import c`: c may be a module of its own.
            names = [module, *(f"{module}.{alias.name}" for alias in node.names)]
        else:
            continue
        for name in names:
            if name.partition(".")[0] == ROOT.name:
                yield from _files(name)


def _files(name: str) -> Iterator[Path]:
    parts = name.split(".")[1:]
    for depth in range(len(parts) + 1):
        package = ROOT.joinpath(*parts[:depth])
        if (package / "__init__.py").is_file():
            yield package / "__init__.py"
    module = ROOT.joinpath(*parts).with_suffix(".py") if parts else ROOT / "__init__.py"
    if module.is_file():
        yield module
