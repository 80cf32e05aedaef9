"""The weights ladder without a network: files, packages, caches and licences."""

import hashlib
from pathlib import Path

import pytest
import safetensors.torch
import timm
import torch

from autofocus.errors import WeightsError
from autofocus.models.catalog import resolve
from autofocus.models.timm.classifiers import build_classifier
from autofocus.models.weights import embedded
from autofocus.models.weights.load import load_weights

TINY = resolve("test_resnet")


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("AUTOFOCUS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    monkeypatch.delenv("HF_HUB_CACHE", raising=False)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")


@pytest.fixture
def tiny_tensors() -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    return timm.create_model("test_resnet").state_dict()


def test_default_model_is_read_from_the_install() -> None:
    loaded = load_weights(resolve("tf_efficientnet_lite0"), user_named_model=False)
    assert loaded.info.source == "embedded"
    assert loaded.info.sha256 == embedded.EMBEDDED[loaded.spec.name].sha256
    assert "embedded" in loaded.line
    assert "apache-2.0" in loaded.line


def test_random_weights_have_no_tensors_and_need_no_licence() -> None:
    loaded = load_weights(resolve("convnextv2_atto"), "random")
    assert loaded.state_dict is None
    assert loaded.info.source == "random"
    assert "not pretrained" in loaded.line


@pytest.mark.parametrize("suffix", [".safetensors", ".pth", ".bin"])
def test_file_is_read_whole(
    suffix: str, tmp_path: Path, tiny_tensors: dict[str, torch.Tensor]
) -> None:
    path = tmp_path / f"tiny{suffix}"
    if suffix == ".safetensors":
        safetensors.torch.save_file(tiny_tensors, path)
    else:
        torch.save(tiny_tensors, path)
    loaded = load_weights(TINY, str(path))
    assert loaded.state_dict is not None
    assert loaded.state_dict.keys() == tiny_tensors.keys()
    assert all(torch.equal(loaded.state_dict[k], v) for k, v in tiny_tensors.items())
    assert loaded.info.source == f"file:{path.as_posix()}"
    assert loaded.info.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.mark.parametrize("wrapper", ["state_dict", "model", "model_ema", "state_dict_ema"])
def test_training_checkpoint_is_unwrapped(
    wrapper: str, tmp_path: Path, tiny_tensors: dict[str, torch.Tensor]
) -> None:
    path = tmp_path / "last.pth"
    torch.save({wrapper: {f"module.{k}": v for k, v in tiny_tensors.items()}, "epoch": 3}, path)
    loaded = load_weights(TINY, str(path))
    assert loaded.state_dict is not None
    assert loaded.state_dict.keys() == tiny_tensors.keys()


class Evil:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return print, ("this must never be run",)


def test_pickle_with_code_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "evil.pth"
    torch.save({"weight": Evil()}, path)
    with pytest.raises(WeightsError, match="could run code"):
        load_weights(TINY, str(path))
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("empty.pth", b""),
        ("page.safetensors", b"<html>log in first</html>"),
        ("cut.safetensors", b"\x10\x27\x00\x00\x00\x00\x00\x00{"),
        ("text.bin", b"hello hello hello hello"),
    ],
)
def test_file_that_is_no_checkpoint_is_one_error(name: str, content: bytes, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(WeightsError) as caught:
        load_weights(TINY, str(tmp_path / name))
    assert name in str(caught.value)
    assert len(caught.value.problems) == 1


def test_missing_file_names_its_path(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"gone\.safetensors: No such file"):
        load_weights(TINY, str(tmp_path / "gone.safetensors"))


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        ("resnet18", "resnet18 under timm's names."),
        (
            "fcos_resnet50_fpn",
            "fcos_resnet50_fpn under torchvision's names, or of its encoder under timm's.",
        ),
        ("d_fine_n", "d_fine_n under transformers' names or its authors'."),
    ],
)
def test_a_wrong_file_is_answered_with_the_names_that_its_family_takes(
    tmp_path: Path, name: str, wanted: str
) -> None:
    with pytest.raises(WeightsError) as caught:
        load_weights(resolve(name), str(tmp_path / "gone.safetensors"))
    assert str(caught.value).endswith(wanted)


def test_file_of_another_architecture_is_refused(
    tmp_path: Path, tiny_tensors: dict[str, torch.Tensor]
) -> None:
    path = tmp_path / "tiny.safetensors"
    safetensors.torch.save_file(tiny_tensors, path)
    spec = resolve("resnet18")
    with pytest.raises(WeightsError, match="not those of resnet18"):
        build_classifier(spec, 4, load_weights(spec, str(path)))


def test_file_with_its_own_number_of_classes_loads(tmp_path: Path) -> None:
    trained = timm.create_model("test_resnet", num_classes=7)
    path = tmp_path / "seven.safetensors"
    safetensors.torch.save_file(trained.state_dict(), path)
    loaded = load_weights(TINY, str(path))
    images = torch.randn(2, 3, 64, 64)
    trained.eval()
    with torch.inference_mode():
        expected = trained(images)
        assert torch.allclose(build_classifier(TINY, 7, loaded)(images), expected, atol=1e-6)
        assert build_classifier(TINY, 3, loaded)(images).shape == (2, 3)


def test_own_saved_classifier_gives_its_encoder_to_another_task(tmp_path: Path) -> None:
    first = build_classifier(TINY, 4)
    path = tmp_path / "model.safetensors"
    safetensors.torch.save_file(first.state_dict(), path)
    second = build_classifier(TINY, 9, load_weights(TINY, str(path)))
    images = torch.randn(2, 3, 64, 64)
    with torch.inference_mode():
        assert torch.equal(first.features(images), second.features(images))
        assert second(images).shape == (2, 9)


def test_named_model_without_weights_says_what_was_tried_and_the_ways_on() -> None:
    with pytest.raises(WeightsError) as caught:
        load_weights(resolve("resnet18"))
    message = str(caught.value)
    assert len(caught.value.problems) == 1
    for part in (
        "'resnet18.a1_in1k'",
        "cache: not in",
        "hub cache: not in",
        "HF_HUB_OFFLINE is set",
        "weights: random",
        "weights: <file>",
        "on_missing_weights: substitute",
    ):
        assert part in message


@pytest.mark.parametrize(
    ("user_named_model", "on_missing"), [(False, "error"), (True, "substitute")]
)
def test_embedded_model_stands_in_only_when_it_may(user_named_model: bool, on_missing: str) -> None:
    loaded = load_weights(
        resolve("resnet18"),
        on_missing=on_missing,  # type: ignore[arg-type]
        user_named_model=user_named_model,
    )
    assert loaded.spec.name == "tf_efficientnet_lite0.in1k"
    assert loaded.info.source == "embedded"
    assert "resnet18.a1_in1k cannot be had" in loaded.line
    assert "stands in" in loaded.line


@pytest.mark.parametrize(
    ("name", "licence"),
    [
        ("convnextv2_atto.fcmae_ft_in1k", "cc-by-nc-4.0"),
        ("vit_small_patch16_dinov3.lvd1689m", "dinov3-license"),
        ("fastvit_t8.apple_in1k", "fastvit-license"),
        ("mobilenetv5_300m.gemma3n", "gemma"),
        ("naflexvit_base_patch16_radio_v3.c_radio", "nvidia-open-model-license"),
        ("res2net50_14w_8s.in1k", "unknown"),
    ],
)
def test_licence_must_be_permissive_or_accepted(name: str, licence: str) -> None:
    with pytest.raises(WeightsError) as caught:
        load_weights(resolve(name))
    assert f"accept_license: {licence}" in str(caught.value)
    assert "Tried" not in str(caught.value)
    # Accepted, it goes on to the sources, which have nothing here.
    with pytest.raises(WeightsError, match="cannot be had"):
        load_weights(resolve(name), accept_licences=[licence.upper()])


def test_refused_licence_is_never_substituted() -> None:
    with pytest.raises(WeightsError, match="accept_license"):
        load_weights(resolve("convnextv2_atto"), on_missing="substitute")


def test_file_in_the_hub_librarys_cache_is_used(
    tmp_path: Path, tiny_tensors: dict[str, torch.Tensor]
) -> None:
    commit = "a" * 40
    repository = tmp_path / "hf" / "hub" / "models--timm--test_resnet.r160_in1k"
    snapshot = repository / "snapshots" / commit
    snapshot.mkdir(parents=True)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(commit)
    safetensors.torch.save_file(tiny_tensors, snapshot / "model.safetensors")
    loaded = load_weights(TINY)
    assert loaded.info.source == f"cache:timm/test_resnet.r160_in1k@{commit}"
    assert "apache-2.0" in loaded.line


def test_no_second_copy_of_the_tensors_is_kept() -> None:
    network = build_classifier(
        resolve("tf_efficientnet_lite0"), 4, load_weights(resolve("tf_efficientnet_lite0"))
    )
    assert "state_dict" not in network.encoder.pretrained_cfg


def test_transformers_weights_fit_another_input_size(tmp_path: Path) -> None:
    spec = resolve("test_vit")
    pretrained = timm.create_model("test_vit")
    path = tmp_path / "vit.safetensors"
    safetensors.torch.save_file(pretrained.state_dict(), path)
    network = build_classifier(spec, 4, load_weights(spec, str(path)), input_size=96)
    reference = timm.create_model("test_vit", img_size=96, num_classes=0)
    resampled = reference.state_dict()
    resampled.update({k: v for k, v in pretrained.state_dict().items() if k in resampled})
    resampled["pos_embed"] = timm.layers.resample_abs_pos_embed(
        pretrained.pos_embed.detach(), [6, 6], num_prefix_tokens=pretrained.num_prefix_tokens
    )
    reference.load_state_dict(resampled)
    images = torch.randn(2, 3, 96, 96)
    with torch.inference_mode():
        assert torch.allclose(network.features(images), reference.eval()(images), atol=1e-5)


@pytest.mark.parametrize("backbone", embedded.EMBEDDED)
def test_detector_starts_from_the_weights_of_its_backbone(backbone: str) -> None:
    name = f"fcos_{backbone.partition('.')[0]}_fpn"
    spec = resolve(name)
    loaded = load_weights(spec)
    assert loaded.spec == spec
    assert (spec.name, spec.backbone) == (name, backbone)
    assert loaded.info.source == "embedded"
    assert loaded.line.startswith(f"weights: {name}: encoder {backbone}")
    assert "licence apache-2.0" in loaded.line


def test_detector_whose_backbone_cannot_be_had_is_an_error_that_names_both() -> None:
    with pytest.raises(WeightsError) as caught:
        load_weights(resolve("retinanet_resnet18_fpn"))
    message = str(caught.value)
    assert message.startswith("retinanet_resnet18_fpn: model 'resnet18.a1_in1k'")
    assert "weights: random" in message


def test_detector_whose_backbone_is_not_permissive_is_refused() -> None:
    with pytest.raises(WeightsError, match=r"accept_license: cc-by-nc-4\.0"):
        load_weights(resolve("fcos_convnextv2_atto_fpn"))


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("retinanet_resnet18_fpn", "retinanet_tf_efficientnet_lite0_fpn"),
        ("maskrcnn_resnet152_fpn", "maskrcnn_tf_efficientnet_lite0_fpn"),
        ("fasterrcnn_resnet50_fpn", "fasterrcnn_tf_efficientnet_lite0_fpn"),
        ("d_fine_n", "fcos_tf_efficientnet_lite0_fpn"),
        ("rf_detr_seg_n", "maskrcnn_tf_efficientnet_lite0_fpn"),
    ],
)
def test_what_stands_in_for_a_detector_is_of_its_kind(
    name: str, expected: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    loaded = load_weights(resolve(name), on_missing="substitute")
    assert loaded.spec.name == expected
    assert loaded.spec.kind == resolve(name).kind
    assert loaded.info.source == "embedded"
    assert "stands in" in loaded.line
