"""Checkpoints that transformers itself saved, from a hub on this machine to our networks."""

import contextlib
import hashlib
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers.utils.logging
from safetensors.torch import save_file
from torch import Tensor

from autofocus.errors import WeightsError
from autofocus.manifest import WeightsInfo
from autofocus.models.base import LoadedWeights
from autofocus.models.transformers.build import build_transformers
from autofocus.models.transformers.deimv2 import deimv2_names
from autofocus.models.transformers.network import TransformersDetector
from autofocus.models.transformers.weights import quiet
from autofocus.models.weights.load import load_weights
from support.tiny_transformers import (
    SIDES,
    TINY,
    build_tiny,
    options_of,
    patches,
    spec_of,
    train_briefly,
)

pytestmark = pytest.mark.usefixtures("one_thread")

NUM_COCO = 80
COMMIT = "0123456789abcdef0123456789abcdef01234567"
HEADS = ("class_embed", "enc_score_head")


@contextlib.contextmanager
def hub(hub_id: str, content: bytes, requests: list[str]) -> Iterator[str]:
    """Serve one repository with one file; yield the address."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            requests.append(self.path)
            page = {"sha": COMMIT, "cardData": {"license": "apache-2.0"}}
            body = json.dumps(page).encode() if self.path.startswith("/api/") else content
            known = self.path.startswith((f"/api/models/{hub_id}", f"/{hub_id}/resolve/"))
            self.send_response(200 if known and "bin" not in self.path else 404)
            self.send_header("Content-Length", str(len(body)))
            self.send_header("ETag", f'"{hashlib.sha256(content).hexdigest()}"')
            self.send_header("X-Repo-Commit", COMMIT)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            """Keep the test's output clean."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("AUTOFOCUS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    for name in ("HF_HUB_CACHE", "HF_HUB_OFFLINE", "HF_TOKEN"):
        monkeypatch.delenv(name, raising=False)


def loaded(name: str, tensors: dict[str, Tensor]) -> LoadedWeights:
    return LoadedWeights(spec_of(name), tensors, WeightsInfo("file:x", "apache-2.0"), "")


def tiny(name: str, weights: LoadedWeights, num_classes: int, **other: Any) -> TransformersDetector:
    side = other.pop("side", SIDES[name])
    options = options_of(name, **other)
    return build_transformers(spec_of(name), num_classes, weights, (side, side), options)


def saved_by_transformers(name: str, folder: Path) -> tuple[TransformersDetector, bytes]:
    """Return a network and the file that transformers makes of it."""
    network = build_tiny(name, num_classes=NUM_COCO)
    train_briefly(network, SIDES[name], num_steps=2)
    with quiet():
        network.detector.save_pretrained(folder)  # type: ignore[operator]
    return network, (folder / "model.safetensors").read_bytes()


def assert_same(first: TransformersDetector, second: TransformersDetector, side: int) -> None:
    with torch.no_grad():
        for one, other in zip(first(patches(1, side)), second(patches(1, side)), strict=True):
            torch.testing.assert_close(one, other)


@pytest.mark.parametrize("name", sorted(TINY))
def test_checkpoint_of_transformers_comes_from_the_hub(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    saved, content = saved_by_transformers(name, tmp_path / "saved")
    requests: list[str] = []
    spec = spec_of(name)
    assert spec.hub_id is not None
    with hub(spec.hub_id, content, requests) as url:
        monkeypatch.setenv("HF_ENDPOINT", url)
        weights = load_weights(spec)
    asked = f"/api/models/{spec.hub_id}" + (f"/revision/{spec.revision}" if spec.revision else "")
    assert requests == [asked, f"/{spec.hub_id}/resolve/{COMMIT}/model.safetensors"]
    assert weights.info.source == f"hub:{spec.hub_id}@{COMMIT}"
    assert "licence apache-2.0" in weights.line
    network = tiny(name, weights, NUM_COCO)
    assert network.freezes_norms
    assert_same(network, saved, SIDES[name])


@pytest.mark.parametrize("name", sorted(TINY))
def test_heads_for_other_classes_start_anew_and_all_else_is_kept(name: str, tmp_path: Path) -> None:
    saved, _ = saved_by_transformers(name, tmp_path / "saved")
    path = tmp_path / "own.safetensors"
    save_file(saved.state_dict(), path)
    own = load_weights(spec_of(name), str(path))
    network = tiny(name, own, 2)
    before, after = saved.state_dict(), network.state_dict()
    assert set(before) == set(after)
    for key, tensor in after.items():
        is_head = any(head in key for head in HEADS)
        assert is_head or torch.equal(tensor, before[key]), key
        assert not is_head or tensor.shape[0] in {2, 3}, key  # 3: denoising counts a padding class
        assert torch.isfinite(tensor).all()


def test_tensors_of_another_model_are_refused_by_name() -> None:
    tensors = build_tiny("d_fine_n").state_dict()
    with pytest.raises(WeightsError, match=r"not those of rt_detr_v2_r18 \(missing .* more\)"):
        tiny("rt_detr_v2_r18", loaded("rt_detr_v2_r18", tensors), 3)


def test_a_tensor_of_another_shape_is_refused_with_both_shapes() -> None:
    tensors = build_tiny("d_fine_n").state_dict()
    key = next(key for key in tensors if key.endswith("enc_output.0.weight"))
    tensors[key] = torch.zeros(7, 7)
    with pytest.raises(WeightsError, match=r"enc_output.0.weight is \[7, 7\], not \[32, 32\]"):
        tiny("d_fine_n", loaded("d_fine_n", tensors), 3)


@pytest.mark.parametrize("name", ["rf_detr_n", "rf_detr_seg_n"])
def test_a_hub_file_fits_other_queries_groups_and_input(name: str, tmp_path: Path) -> None:
    trained = build_tiny(name, num_queries=20, group_detr=3)
    with quiet():
        trained.detector.save_pretrained(tmp_path)  # type: ignore[operator]
    weights = load_weights(spec_of(name), str(tmp_path / "model.safetensors"))
    side = 2 * SIDES[name]
    network = tiny(name, weights, 3, num_queries=30, group_detr=2, side=side)
    before, after = trained.state_dict(), network.state_dict()
    for key in ("reference_point_embed.weight", "query_feat.weight"):
        (full,) = (name for name in after if name.endswith(key))
        old, new = before[full].reshape(3, 20, -1), after[full].reshape(2, 30, -1)
        assert torch.equal(new[:, :20], old[:2])
        assert torch.equal(new[:, 20:], old[:2, :10])
    # As the model would interpolate them for such an image.
    grid = side // (16 if name == "rf_detr_n" else 12)
    positions = trained.encoder.embeddings.interpolate_pos_encoding(
        torch.zeros(1, 1 + grid**2, 32), side, side
    )
    torch.testing.assert_close(network.encoder.embeddings.position_embeddings, positions)
    resized = ("reference_point_embed.weight", "query_feat.weight", "position_embeddings")
    for key, tensor in after.items():
        assert key.endswith(resized) or torch.equal(tensor, before[key]), key


# As the authors' `model.safetensors` has them, DEIMv2-N's first and Pico's last.
@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        (
            "backbone.stem.stem2a.conv.weight",
            "conv_encoder.model.embedder.stem2a.convolution.weight",
        ),
        (
            "backbone.stages.2.blocks.1.layers.0.conv1.bn.bias",
            "conv_encoder.model.encoder.stages.2.blocks.1.layers.0.conv1.normalization.bias",
        ),
        (
            "backbone.stages.1.downsample.lab.scale",
            "conv_encoder.model.encoder.stages.1.downsample.lab.scale",
        ),
        ("encoder.input_proj.1.norm.weight", "conv_encoder.encoder_input_proj.1.norm.weight"),
        ("encoder.encoder.0.layers.0.linear2.bias", "encoder.aifi.0.layers.0.mlp.layers.1.bias"),
        (
            "encoder.encoder.0.layers.0.norm1.bias",
            "encoder.aifi.0.layers.0.self_attn_layer_norm.bias",
        ),
        (
            "encoder.fpn_blocks.0.cv2.0.bottlenecks.1.conv2.conv.weight",
            "encoder.fpn_blocks.0.csp_rep1.bottlenecks.1.conv2.conv.weight",
        ),
        (
            "encoder.pan_blocks.0.cv3.1.norm.weight",
            "encoder.pan_blocks.0.csp_rep2.conv2.norm.weight",
        ),
        ("encoder.pan_blocks.0.cv4.norm.bias", "encoder.pan_blocks.0.conv2.norm.bias"),
        (
            "encoder.downsample_convs.0.0.cv2.conv.weight",
            "encoder.downsample_convs.0.conv2.conv.weight",
        ),
        ("decoder.decoder.layers.1.norm3.scale", "decoder.layers.1.final_layer_norm.weight"),
        ("decoder.decoder.layers.1.gateway.norm.scale", "decoder.layers.1.gateway.norm.weight"),
        (
            "decoder.decoder.layers.0.cross_attn.sampling_offsets.bias",
            "decoder.layers.0.encoder_attn.sampling_offsets.bias",
        ),
        ("decoder.decoder.layers.0.swish_ffn.w3.bias", "decoder.layers.0.mlp.down_proj.bias"),
        (
            "decoder.decoder.layers.0.self_attn.out_proj.bias",
            "decoder.layers.0.self_attn.o_proj.bias",
        ),
        ("decoder.decoder.up", "decoder.up"),
        ("decoder.dec_bbox_head.0.layers.2.bias", "decoder.bbox_embed.0.layers.2.bias"),
        ("decoder.enc_score_head.bias", "enc_score_head.bias"),
        ("decoder.denoising_class_embed.weight", "denoising_class_embed.weight"),
    ],
)
def test_deimv2s_authors_names_are_translated(theirs: str, ours: str) -> None:
    assert list(deimv2_names({theirs: torch.zeros(1)})) == [f"model.{ours}"]


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        ("encoder.input_proj.0.conv.weight", "encoder.input_proj.0.conv.weight"),
        ("encoder.bi_fusion.cv.norm.bias", "encoder.bi_fusion_conv.norm.bias"),
        ("encoder.down_sample2.1.weight", "encoder.down_conv2.conv.weight"),
        ("encoder.down_sample1.2.running_mean", "encoder.down_conv1.norm.running_mean"),
        ("encoder.fpn_block.cv1.conv.weight", "encoder.fpn_block.conv1.conv.weight"),
        ("decoder.decoder.layers.2.norm2.scale", "decoder.layers.2.encoder_attn_layer_norm.weight"),
    ],
)
def test_names_of_deimv2s_small_sizes_are_translated(theirs: str, ours: str) -> None:
    lite = {"encoder.bi_fusion.cv.conv.weight": torch.zeros(1), theirs: torch.zeros(1)}
    assert f"model.{ours}" in deimv2_names(lite)


def test_deimv2s_stacked_tensors_are_taken_apart_in_order() -> None:
    layer, rows = "decoder.decoder.layers.0", torch.arange(6.0)
    got = deimv2_names(
        {f"{layer}.self_attn.in_proj_weight": rows, f"{layer}.swish_ffn.w12.bias": rows}
    )
    prefix = "model.decoder.layers.0"
    expected = {
        f"{prefix}.self_attn.q_proj.weight": [0, 1],
        f"{prefix}.self_attn.k_proj.weight": [2, 3],
        f"{prefix}.self_attn.v_proj.weight": [4, 5],
        f"{prefix}.mlp.gate_proj.bias": [0, 1, 2],
        f"{prefix}.mlp.up_proj.bias": [3, 4, 5],
    }
    assert {key: value.tolist() for key, value in got.items()} == expected


def test_deimv2_embeds_the_first_boxes_for_all_layers() -> None:
    network = build_tiny("deimv2_n")
    decoder = network.detector.model.decoder
    seen: list[Tensor] = []
    for layer in decoder.layers:
        layer.register_forward_pre_hook(
            lambda _, __, kwargs: seen.append(kwargs["position_embeddings"]), with_kwargs=True
        )
    with torch.no_grad():
        network(patches(1, SIDES["deimv2_n"]))
        decoder.query_pos_head.layers[-1].bias += 1
        network(patches(1, SIDES["deimv2_n"]))
    first, second, third, fourth = seen
    assert torch.equal(first, second)
    assert torch.equal(third, fourth)
    torch.testing.assert_close(third, first + 1)


def test_transformers_log_is_as_it_was_afterwards() -> None:
    log: Any = transformers.utils.logging
    level = log.get_verbosity()
    with quiet():
        assert log.get_verbosity() == log.ERROR
    assert log.get_verbosity() == level
    assert log.is_progress_bar_enabled()
