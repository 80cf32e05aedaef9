"""Parameter groups, published freezing groups and schedules, against hand counts and formulas."""

import math

import pytest
import torch
from torch import nn

from autofocus.errors import JobError
from autofocus.models import catalog
from autofocus.models.network import Classifier
from autofocus.models.timm.classifiers import build_classifier
from autofocus.training.optim import (
    build_optimizer,
    freeze_layers,
    norms_to_freeze,
    rate_factor,
    set_rates,
)
from autofocus.training.recipe import Recipe, default_recipe, detector_recipe


def group_of(network: Classifier, optimizer: torch.optim.Optimizer, name: str) -> dict:
    parameter = dict(network.named_parameters())[name]
    (group,) = [g for g in optimizer.param_groups if any(p is parameter for p in g["params"])]
    return group


def test_norms_and_biases_do_not_decay(network: Classifier) -> None:
    optimizer = build_optimizer(network, Recipe(weight_decay=0.02))
    for name, parameter in network.named_parameters():
        is_free = name.endswith("bias") or ".bn" in name or "downsample.2" in name
        decay = group_of(network, optimizer, name)["weight_decay"]
        assert decay == (0.0 if parameter.ndim == 1 else 0.02)
        if is_free:
            assert decay == 0.0
    assert group_of(network, optimizer, "encoder.conv1.0.weight")["weight_decay"] == 0.02


def test_every_parameter_is_in_one_group(network: Classifier) -> None:
    optimizer = build_optimizer(network, Recipe())
    held = [id(p) for group in optimizer.param_groups for p in group["params"]]
    assert sorted(held) == sorted(id(p) for p in network.parameters())


def test_layer_decay_by_hand(network: Classifier) -> None:
    """The tiny ResNet has a stem and four stages of one block: depths 0 to 4."""
    recipe = Recipe(learning_rate=1.0, backbone_scale=0.5, layer_decay=0.8)
    optimizer = build_optimizer(network, recipe)
    by_hand = {
        "head.weight": 1.0,
        "encoder.layer4.0.conv1.weight": 0.5,
        "encoder.layer3.0.conv1.weight": 0.4,
        "encoder.layer2.0.conv1.weight": 0.32,
        "encoder.layer1.0.conv1.weight": 0.256,
        "encoder.conv1.0.weight": 0.2048,
    }
    for name, rate in by_hand.items():
        assert group_of(network, optimizer, name)["lr"] == pytest.approx(rate), name


def test_without_decay_all_layers_have_one_rate(network: Classifier) -> None:
    recipe = Recipe(learning_rate=0.3, backbone_scale=1.0, layer_decay=1.0)
    assert {group["lr"] for group in build_optimizer(network, recipe).param_groups} == {0.3}


def test_optimisers_have_the_recipes_numbers(network: Classifier) -> None:
    sgd = build_optimizer(network, Recipe(optimizer="sgd", momentum=0.8, nesterov=True))
    assert type(sgd) is torch.optim.SGD
    assert (sgd.defaults["momentum"], sgd.defaults["nesterov"]) == (0.8, True)
    # torch refuses nesterov without momentum; the published default is nesterov.
    plain = build_optimizer(network, Recipe(optimizer="sgd", momentum=0.0, nesterov=True))
    assert not plain.defaults["nesterov"]
    recipe = Recipe(optimizer="adam", beta1=0.5, beta2=0.6, ams_gradient=True)
    adam = build_optimizer(network, recipe)
    assert type(adam) is torch.optim.Adam
    assert (adam.defaults["betas"], adam.defaults["amsgrad"]) == ((0.5, 0.6), True)
    assert type(build_optimizer(network, Recipe(optimizer="adamw"))) is torch.optim.AdamW


@pytest.mark.parametrize(
    ("name", "num_groups"),
    [
        ("resnet18", 5),
        ("resnest50", 5),
        ("seresnext", 5),
        ("mobilenetv2", 19),
        ("vits16r224", 13),
    ],
)
def test_published_freezing_groups(name: str, num_groups: int) -> None:
    network = build_classifier(catalog.resolve(name), 2, None)
    assert freeze_layers(network, 0) == num_groups
    assert all(parameter.requires_grad for parameter in network.parameters())


def frozen_parts(network: Classifier, depth: int) -> set[str]:
    """Return the first `depth` parts of the names of parameters that do not learn."""
    names = [name for name, p in network.encoder.named_parameters() if not p.requires_grad]
    return {".".join(name.split(".")[:depth]) for name in names}


def test_resnet_groups_are_the_stem_and_the_stages() -> None:
    network = build_classifier(catalog.resolve("resnet18"), 2, None)
    for n, frozen in enumerate(
        [set(), {"conv1", "bn1"}, {"layer1"}, {"layer2"}, {"layer3"}, {"layer4"}]
    ):
        before = frozen_parts(network, 1)
        freeze_layers(network, n)
        assert frozen_parts(network, 1) == before | frozen
        assert network.head.weight.requires_grad
    # n freezes the first n and lets all the rest learn, whatever was before.
    freeze_layers(network, 1)
    assert frozen_parts(network, 1) == {"conv1", "bn1"}


def test_mobilenet_groups_are_its_19_features() -> None:
    """As torchvision counts them: a stem, 17 inverted residuals, the last convolution."""
    network = build_classifier(catalog.resolve("mobilenetv2"), 2, None)
    freeze_layers(network, 1)
    assert frozen_parts(network, 1) == {"conv_stem", "bn1"}
    freeze_layers(network, 3)
    assert frozen_parts(network, 3) - {"conv_stem.weight", "bn1.weight", "bn1.bias"} == {
        "blocks.0.0",
        "blocks.1.0",
    }
    freeze_layers(network, 18)
    learning = {n for n, p in network.encoder.named_parameters() if p.requires_grad}
    assert learning == {"conv_head.weight", "bn2.weight", "bn2.bias"}
    freeze_layers(network, 19)
    assert not any(p.requires_grad for p in network.encoder.parameters())
    assert network.head.weight.requires_grad


def test_vit_groups_are_the_embedding_and_12_blocks() -> None:
    network = build_classifier(catalog.resolve("vits16r224"), 2, None)
    freeze_layers(network, 3)
    assert frozen_parts(network, 1) == {"cls_token", "pos_embed", "patch_embed", "blocks"}
    assert {p for p in frozen_parts(network, 2) if "blocks" in p} == {"blocks.0", "blocks.1"}
    freeze_layers(network, 13)
    learning = {n for n, p in network.encoder.named_parameters() if p.requires_grad}
    assert learning == {"norm.weight", "norm.bias"}


def test_too_many_frozen_groups_are_one_error(network: Classifier) -> None:
    with pytest.raises(JobError, match=r"layers_to_freeze: must be at most 5 for ResNet, got 6"):
        freeze_layers(network, 6)


def test_a_family_that_timm_does_not_describe_is_grouped_by_its_names() -> None:
    """CAFormer: a stem, 18 blocks, 3 downsamplings."""
    network = build_classifier(catalog.resolve("caformer_s18"), 2, None)
    assert freeze_layers(network, 2) == 22
    assert frozen_parts(network, 1) == {"stem", "stages"}
    assert {part for part in frozen_parts(network, 4) if "stages" in part} == {"stages.0.blocks.0"}
    recipe = Recipe(learning_rate=1.0, layer_decay=0.5, backbone_scale=0.3)
    rates = sorted({group["lr"] for group in build_optimizer(network, recipe).param_groups})
    assert rates[-1] == 1.0
    assert rates[-2] == pytest.approx(0.3)


def test_frozen_parameters_are_not_in_the_optimiser(network: Classifier) -> None:
    freeze_layers(network, 5)
    optimizer = build_optimizer(network, Recipe())
    held = [p for group in optimizer.param_groups for p in group["params"]]
    assert {id(p) for p in held} == {id(network.head.weight), id(network.head.bias)}


def test_norms_to_freeze(network: Classifier) -> None:
    norms = [m for m in network.modules() if isinstance(m, nn.BatchNorm2d)]
    assert norms_to_freeze(network, Recipe(freeze_norm_stats=True)) == norms
    assert norms_to_freeze(network, Recipe(freeze_norm_stats=False)) == []
    freeze_layers(network, 1)
    frozen = norms_to_freeze(network, Recipe(freeze_norm_stats=False))
    stem = [
        m for n, m in network.named_modules() if isinstance(m, nn.BatchNorm2d) and "layer" not in n
    ]
    assert frozen == stem


def reference_cosine(step: float, num_warmup: float, num_steps: float, num_cycles: float) -> float:
    """As in transformers' get_cosine_schedule_with_warmup."""
    if step < num_warmup:
        return step / max(1, num_warmup)
    progress = (step - num_warmup) / max(1, num_steps - num_warmup)
    return max(0.0, 0.5 * (1.0 + math.cos(math.pi * num_cycles * 2.0 * progress)))


@pytest.mark.parametrize("cycles", [0.45, 0.5, 1.0])
@pytest.mark.parametrize(("num_epochs", "steps_an_epoch"), [(15, 7), (30, 6), (100, 1)])
def test_warmup_cosine_is_the_published_one(
    cycles: float, num_epochs: int, steps_an_epoch: int
) -> None:
    """Its first step has rate 0 and teaches nothing: ours begins with its second."""
    recipe = Recipe(warmup_epochs=2.0, cosine_cycles=cycles)
    num_steps, warmup = num_epochs * steps_an_epoch, 2 * steps_an_epoch
    for step in range(num_steps):
        ours = rate_factor(recipe, step, num_steps, steps_an_epoch)
        theirs = reference_cosine(step + 1, warmup + 1, num_steps + 1, cycles)
        assert ours == pytest.approx(theirs, abs=1e-12)
        assert ours > 0 or step > warmup


def test_warmup_takes_at_most_a_fifth_of_a_run_that_a_budget_cut() -> None:
    recipe = Recipe(warmup_epochs=2.0)
    factors = [rate_factor(recipe, step, 20, steps_an_epoch=10) for step in range(20)]
    assert factors.index(max(factors)) == 4
    assert max(factors) == 1.0
    assert factors[-1] < 0.02


@pytest.mark.parametrize("num_epochs", [1, 2, 3, 15])
def test_the_published_warmup_is_not_cut(num_epochs: int) -> None:
    """Two epochs of warm-up, also in a run of one: its rate never comes to the top."""
    recipe = default_recipe("resnet50", 100, {"*": 0.01})
    num_steps, warmup = 10 * num_epochs, 20
    for step in range(num_steps):
        ours = rate_factor(recipe, step, num_steps, 10)
        theirs = reference_cosine(step + 1, warmup + 1, num_steps + 1, 0.45)
        assert ours == pytest.approx(theirs, abs=1e-12)
    assert detector_recipe({"batch_size": 8}, 100, is_azure=True).max_warmup_frac is None
    assert detector_recipe({"batch_size": 8}, 100, is_azure=False).max_warmup_frac == 0.2


def test_step_schedule() -> None:
    recipe = Recipe(schedule="step", step_gamma=0.5, step_size=5)
    by_epoch = [rate_factor(recipe, epoch * 3, 45, 3) for epoch in range(15)]
    assert by_epoch == [1.0] * 5 + [0.5] * 5 + [0.25] * 5
    assert rate_factor(recipe, 14, 45, 3) == 1.0


def test_flat_schedule() -> None:
    recipe = Recipe(schedule="flat")
    assert {rate_factor(recipe, step, 10, 2) for step in range(10)} == {1.0}


def test_set_rates(network: Classifier) -> None:
    optimizer = build_optimizer(network, Recipe())
    base = [group["lr"] for group in optimizer.param_groups]
    set_rates(optimizer, base, 0.5)
    set_rates(optimizer, base, 0.25)
    assert [group["lr"] for group in optimizer.param_groups] == [rate * 0.25 for rate in base]
