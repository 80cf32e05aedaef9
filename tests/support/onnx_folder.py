"""Model folders of ONNX graphs that are made by hand."""

from pathlib import Path
from typing import Any


def write_onnx_folder(folder: Path, graph: Any, opset: int = 18, **fields: Any) -> Path:
    """Write a model folder; `fields` are those of its manifest that depend on the graph."""
    import onnx

    from autofocus.manifest import DataInfo, Manifest, WeightsInfo, encode_manifest, file_sha256

    folder.mkdir(parents=True)
    opsets = [onnx.helper.make_opsetid("", opset)]
    model = onnx.helper.make_model(graph, opset_imports=opsets, ir_version=9)
    onnx.save(model, folder / "model.onnx")
    manifest = Manifest(
        model_name="tiny",
        weights=WeightsInfo(source="random", licence="Apache-2.0"),
        data=DataInfo(fingerprint="0" * 64, num_training=8, num_validation=2),
        files={"model.onnx": file_sha256(folder / "model.onnx")},
        **fields,
    )
    (folder / "manifest.json").write_bytes(encode_manifest(manifest))
    return folder
