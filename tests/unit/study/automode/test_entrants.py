"""Who takes part in AutoMode: never a model that cannot be had, or that the job rules out."""

import math
from dataclasses import replace
from typing import Any

import pytest

from autofocus.errors import WeightsError
from autofocus.models.base import CLASSIFIER, DETECTOR
from autofocus.runtime import no_progress
from autofocus.study.automode import entrants as module
from autofocus.study.automode.entrants import Entrant, ResourceBudget, find_entrants
from autofocus.study.automode.priors import PriorModel, Priors, priors_of
from autofocus.study.resolve import Plan, resolve

LITE0 = "tf_efficientnet_lite0.in1k"
BUDGET = ResourceBudget(
    num_images=100,
    image_s=0.01,
    is_cpu=True,
    needed_s=lambda entrant: 100 * entrant.image_s,
    left_s=100.0,
    num_groups=18,
)


def plan(task: str = "image_classification", **keys: Any) -> Plan:
    return resolve({"task": task, "training_data": "photos", **keys})


@pytest.fixture(autouse=True)
def hub(monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """The names whose weights can be had besides the embedded ones; asked for names in order."""
    there: set[str] = set()

    def load(spec: Any, **options: Any) -> None:
        if spec.name not in there and LITE0.partition(".")[0] not in spec.name:
            raise WeightsError(f"no weights for {spec.name}")

    monkeypatch.setattr(module, "load_weights", load)
    return there


def found(
    plan: Plan, priors: Priors, budget: ResourceBudget = BUDGET
) -> list[tuple[str, dict[str, Any]]]:
    found = find_entrants(plan, priors, budget, no_progress)
    return [(one.plan.model.name, one.parameters) for one in found]


def test_without_a_hub_it_is_the_embedded_encoder_at_two_sizes() -> None:
    assert found(plan(), priors_of(CLASSIFIER)) == [
        (LITE0, {}),
        (LITE0, {"validation_crop_size": 288}),
    ]


def test_the_best_expected_that_can_be_had_come_next(hub: set[str]) -> None:
    hub |= {"convnext_tiny.in12k_ft_in1k", "tiny_vit_5m_224.dist_in22k_ft_in1k"}
    names = [name for name, _ in found(plan(), priors_of(CLASSIFIER))]
    assert names == [LITE0, "convnext_tiny.in12k_ft_in1k", "tiny_vit_5m_224.dist_in22k_ft_in1k"]


def test_what_takes_too_long_does_not_take_part(hub: set[str]) -> None:
    hub |= {"convnext_tiny.in12k_ft_in1k", "tiny_vit_5m_224.dist_in22k_ft_in1k"}
    # 1.3 and 4.5 billion multiply-adds against 0.4: 3.25 and 11.25 times the second.
    short = replace(BUDGET, left_s=4.0)
    names = [name for name, _ in found(plan(), priors_of(CLASSIFIER), short)]
    assert "tiny_vit_5m_224.dist_in22k_ft_in1k" in names
    assert "convnext_tiny.in12k_ft_in1k" not in names


def test_a_cpu_without_a_budget_is_not_asked_for_a_lot(hub: set[str]) -> None:
    hub |= {"rf_detr_s.coco", "d_fine_n.coco"}
    detection = plan("image_object_detection")
    endless = replace(BUDGET, left_s=math.inf)
    assert [name for name, _ in found(detection, priors_of(DETECTOR), endless)] == [
        "fcos_tf_efficientnet_lite0_fpn",
        "d_fine_n.coco",
    ]
    on_gpu = replace(endless, is_cpu=False)
    assert found(detection, priors_of(DETECTOR), on_gpu)[1][0] == "rf_detr_s.coco"


def test_a_job_that_names_its_model_keeps_it(hub: set[str]) -> None:
    hub |= {"convnext_tiny.in12k_ft_in1k"}
    model = {"model_name": "tf_efficientnet_lite0"}
    named = plan(training_parameters=model, limits={"max_trials": 5})
    assert {name for name, _ in found(named, priors_of(CLASSIFIER))} == {LITE0}


def test_a_job_that_sets_the_size_keeps_it() -> None:
    sized = plan(training_parameters={"validation_crop_size": 160})
    assert found(sized, priors_of(CLASSIFIER)) == [(LITE0, {})]


def test_a_job_with_weights_of_its_own_keeps_them(hub: set[str]) -> None:
    hub |= {"convnext_tiny.in12k_ft_in1k"}
    assert found(plan(weights="random"), priors_of(CLASSIFIER)) == [(LITE0, {})]


def test_a_model_that_the_table_does_not_know_is_alone() -> None:
    named = plan(training_parameters={"model_name": "test_resnet"}, limits={"max_trials": 5})
    assert len(found(named, priors_of(CLASSIFIER))) == 1


def test_ranks_are_those_of_the_table() -> None:
    row = PriorModel("tf_efficientnet_lite0.in1k", 0.4, (2, 2, 2))
    other = PriorModel("tf_efficientnet_lite0.in1k", 0.9, (1, 1, 1), side=320)
    priors = replace(priors_of(CLASSIFIER), models=(row, other))
    found: list[Entrant] = find_entrants(plan(), priors, BUDGET, no_progress)
    assert [one.rank for one in found] == [1, 0]
    assert found[1].image_s == pytest.approx(0.01 * 0.9 / 0.4)
