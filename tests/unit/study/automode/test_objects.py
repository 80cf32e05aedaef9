"""AutoMode of detectors: where it starts, what follows, and when it stops."""

import json
import math
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

import autofocus
from autofocus.data.batches import tiles
from autofocus.errors import WeightsError
from autofocus.runtime import no_progress
from autofocus.study import default_model
from autofocus.study.automode import objects as module
from autofocus.study.automode.objects import OptionSampler, _needed_s
from autofocus.study.automode.start import ENOUGH_EPOCHS, MIN_SIDE, StartOption
from autofocus.study.folder.run_folder import RunFolder
from autofocus.study.resolve import resolve, trial_plan
from autofocus.study.scheduler import MIN_TRIAL_S
from autofocus.study.search.samplers import Past
from autofocus.study.sources import read_sources
from autofocus.study.study import Study
from autofocus.study.trials.detectors import DetectorTrials
from autofocus.training.checkpoint import load_checkpoint
from autofocus.training.step_cost import StepCost
from support.tiny_jobs import decisions, tiny_detection_job

pytestmark = pytest.mark.usefixtures("one_thread")

OPTIONS = [
    StartOption({}, 10.0, 5.0, 40, 10),
    StartOption({"image_size": 320}, 20.0, 5.0, 40, 20),
    StartOption({"learning_rate": 0.1}, 10.0, 5.0, 40, 20),
]


def made(folder: Path, **keys: Any) -> dict[str, Any]:
    """Train a tiny detector; return the result."""
    folder.mkdir()
    return autofocus.train(
        tiny_detection_job(folder, 10, 4, **keys), output_dir=str(folder / "run")
    )


@pytest.mark.usefixtures("empty_packages")
def test_the_first_of_many_trials_is_bit_equal_to_the_default_recipe(tmp_path: Path) -> None:
    single = made(tmp_path / "one", limits={"max_trials": 1})
    several = made(tmp_path / "two", limits={"max_trials": 2})
    assert [row["id"] for row in several["trials"]] == ["0", "1"]
    assert several["trials"][0]["value"] == single["trials"][0]["value"]
    best = [
        load_checkpoint(tmp_path / name / "run" / "trials" / "0" / "best")
        for name in ("one", "two")
    ]
    assert best[0] is not None
    assert best[1] is not None
    assert best[0][0].keys() == best[1][0].keys()
    for name, tensor in best[0][0].items():
        assert tensor.equal(best[1][0][name]), name
    (start,) = decisions(tmp_path / "two" / "run", "objects_start")
    assert start["options"][0]["parameters"] == {}
    assert several["trials"][1]["parameters"] == start["options"][1]["parameters"] != {}


@pytest.fixture
def studied(tmp_path: Path) -> Iterator[Callable[..., Study]]:
    """Open studies of tiny photos with objects, looked at and split, with nothing tried."""
    with ExitStack() as stack:

        def study(**keys: Any) -> Study:
            folder = tmp_path / str(len(list(tmp_path.iterdir())))
            folder.mkdir()
            plan = resolve(tiny_detection_job(folder, 10, 4, **keys))
            sources = read_sources(plan, no_progress)
            run = stack.enter_context(RunFolder(folder / "run", {}, sources.fingerprint, False))
            made = Study(plan, sources, run, time.monotonic(), no_progress)
            DetectorTrials().begin(made, plan, "probe")
            return made

        yield study


def by_pixels(spec: Any, samples: Any, limit_s: float) -> StepCost:
    """Cost 0.1 ms a pixel, a tenth less where more is frozen."""
    pixels = spec.preprocess.height * spec.preprocess.width
    return StepCost(1e-4 * pixels * (0.9 if spec.recipe.layers_to_freeze else 1.0), 0.01, 5)


def parameters(**keys: Any) -> dict[str, Any]:
    name = "fcos_test_resnet.r160_in1k_fpn"
    return {"model_name": name, "training_batch_size": 4, "number_of_epochs": 50, **keys}


@pytest.mark.usefixtures("empty_packages")
def test_side_and_frozen_layers_give_way_to_epochs(
    studied: Callable[..., Study], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "measure_step", by_pixels)
    # 8 images of 416 x 320 px take 106 s, and packaging 400.
    study = studied(budget=1300, training_parameters=parameters())
    options = module._begin(study)
    start = options[0]
    assert start.epochs_in(module.left_to_train_s(study)) >= ENOUGH_EPOCHS
    assert MIN_SIDE <= start.parameters["image_size"] < 416
    assert study.packaging_s > 30, "what is slow here is slow to package too"
    (made,) = decisions(study.folder.path, "objects_start")
    assert made["options"][0]["parameters"] == start.parameters
    assert made["num_epochs"] >= ENOUGH_EPOCHS
    assert {} in [one.parameters for one in options[1:]], "the default comes after it"
    # A run that goes on keeps its options, and with them the trials' numbers.
    assert module._decided(made) == options


@pytest.mark.usefixtures("empty_packages")
def test_with_time_the_default_design_is_the_start(
    studied: Callable[..., Study], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "measure_step", by_pixels)
    study = studied(budget=20_000, training_parameters=parameters())
    assert module._begin(study)[0].parameters == {}


@pytest.mark.parametrize(("budget", "name"), [(1_000_000, "lite2"), (2_500, None)])
def test_a_larger_encoder_is_the_start_where_half_its_recipe_fits(
    studied: Callable[..., Study],
    monkeypatch: pytest.MonkeyPatch,
    budget: int,
    name: str | None,
) -> None:
    def load(spec: Any, **options: Any) -> None:
        if "_lite" not in spec.name:
            raise WeightsError(f"no weights for {spec.name}")

    asked: list[str] = []

    def measured(spec: Any, *given: Any) -> StepCost:
        asked.append(spec.model.name)
        return by_pixels(spec, *given)

    monkeypatch.setattr(default_model, "load_weights", load)
    monkeypatch.setattr(module, "measure_step", measured)
    study = studied(budget=budget, weights=None, training_parameters={"number_of_epochs": 50})
    first, *others = [one.parameters for one in module._begin(study)]
    lite = "fcos_tf_efficientnet_{}_fpn".format
    assert first == ({} if name is None else {"model_name": lite(name)})
    assert asked == [lite("lite0")] + ([] if name is None else [lite(name)]), "each for itself"
    if name is not None:
        assert others[:2] == [{"model_name": lite("lite1")}, {}]


@pytest.mark.usefixtures("empty_packages")
def test_what_the_job_sets_stays(
    studied: Callable[..., Study], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "measure_step", by_pixels)
    given = {"image_size": 320, "layers_to_freeze": 1, "learning_rate": 0.01}
    study = studied(budget=100, training_parameters=parameters(**given))
    assert [one.parameters for one in module._begin(study)] == [{}, {"augmentations": "light"}]


@pytest.mark.usefixtures("empty_packages")
def test_tiles_that_the_data_asked_for_give_way_too(
    studied: Callable[..., Study], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "measure_step", by_pixels)
    monkeypatch.setattr(tiles, "MIN_OBJECT_FRAC", 0.6)
    study = studied(budget=1300, training_parameters=parameters(tile_grid_size="auto"))
    start = module._begin(study)[0]
    assert start.parameters["tile_grid_size"] == "none"
    found = trial_plan(study.plan, start.parameters)
    assert "tile_grid_size" not in found.parameters


def test_a_trial_number_has_the_next_option_that_nobody_had() -> None:
    sampler = OptionSampler(OPTIONS, 0)
    assert sampler.ask(0) == {}
    past = [Past(0, {}, 0.5), Past(1, {"learning_rate": 0.1}, None)]
    assert sampler.ask(2, past) == {"image_size": 320}
    assert sampler.num_trials == 3


def test_another_trial_needs_what_it_takes_on_this_machine_today() -> None:
    assert _needed_s(OPTIONS, {}) == -math.inf, "any model is better than none"
    failed = {"parameters": {}, "epochs": 0, "seconds": 3.0, "status": "failed", "value": None}
    assert _needed_s(OPTIONS, {0: failed}) == -math.inf
    as_expected = failed | {"status": "completed", "value": 0.5, "epochs": 40}
    as_expected["seconds"] = OPTIONS[0].seconds(40)
    assert _needed_s(OPTIONS, {0: as_expected}) == pytest.approx(OPTIONS[1].seconds(20))
    slow = as_expected | {"seconds": 2 * OPTIONS[0].seconds(40)}
    assert _needed_s(OPTIONS, {0: slow}) == pytest.approx(2 * OPTIONS[1].seconds(20))
    resumed = failed | {"status": "running", "parameters": {"image_size": 320}}
    assert _needed_s(OPTIONS, {0: slow, 1: resumed}) == MIN_TRIAL_S
    rest = slow | {"parameters": {"image_size": 320}}, slow | {"parameters": {"learning_rate": 0.1}}
    assert _needed_s(OPTIONS, {0: slow, 1: rest[0], 2: rest[1]}) == math.inf


@pytest.mark.usefixtures("empty_packages")
def test_the_last_choice_of_a_budget_says_what_was_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # An epoch of a day, whatever the first one took: none of the others can be begun.
    monkeypatch.setattr(module, "_slowness", lambda *_: 1.0)
    monkeypatch.setattr(module, "measure_step", lambda *_: StepCost(1e4, 0.01, 5))
    result = made(tmp_path / "one", budget=200, limits={"max_trials": 5})
    assert [row["id"] for row in result["trials"]] == ["0"]
    lines = (tmp_path / "one" / "run" / "decisions.jsonl").read_text().splitlines()
    last = json.loads(lines[-1])
    assert last["decision"] == "nothing_left"
    assert last["cheapest"].startswith("fcos_test_resnet.r160_in1k_fpn learning_rate 0.00")
    assert last["cost_s"] > 0
    assert last["seconds_left"] >= 0
    assert (last["expected_gain"], last["num_untried"]) == (module.EXPECTED_GAIN, 4)
