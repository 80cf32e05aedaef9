import json

import pytest

from autofocus.explain.algorithms import ALGORITHMS
from autofocus.explain.parameters import MAX_STEPS, XAI_PARAMETERS
from autofocus.serve.swagger import swagger


@pytest.mark.parametrize(("version", "key"), [("2", "swagger"), ("3", "openapi")])
def test_both_versions_describe_scoring(version: str, key: str) -> None:
    document = swagger(version)
    assert document is not None
    assert document[key].startswith(version)
    post = document["paths"]["/score"]["post"]
    statuses = "200 400 401 408 413 415 429 431 500 503"
    assert set(post["responses"]) == set(statuses.split())
    text = json.dumps(post)
    assert '"input_data"' in text
    assert '"columns"' in text


def test_health_is_described_as_the_plain_text_that_it_is() -> None:
    two, three = swagger("2"), swagger("3")
    assert two is not None
    assert three is not None
    assert two["paths"]["/"]["get"]["produces"] == ["text/plain"]
    assert list(three["paths"]["/"]["get"]["responses"]["200"]["content"]) == ["text/plain"]


def test_other_versions_do_not_exist() -> None:
    assert swagger("4") is None
    assert swagger("") is None


def test_every_parameter_of_explanations_is_named_with_its_values() -> None:
    text = json.dumps(swagger("3"))
    assert not [name for name in (*XAI_PARAMETERS, *ALGORITHMS) if name not in text]
    assert f"n_steps, a whole number from 2 to {MAX_STEPS}; approximation_method, one of" in text
