import math
from pathlib import Path

import pytest

from autofocus.errors import InputError
from autofocus.runtime import num_cores
from autofocus.serve.settings import Settings, read_settings


def test_defaults() -> None:
    settings = read_settings({}, {})
    assert settings == Settings()
    assert (settings.host, settings.port, settings.workers) == ("127.0.0.1", 5001, num_cores())
    assert settings.max_body_bytes == 64 * 1024 * 1024


def test_flags_win_over_environment_and_environment_over_defaults() -> None:
    environment = {
        "AUTOFOCUS_PORT": "6000",
        "AUTOFOCUS_HOST": "0.0.0.0",
        "AUTOFOCUS_TIMEOUT_S": "2.5",
        "AUTOFOCUS_API_KEY_FILE": "keys",
        "AUTOFOCUS_EXPLAIN_WARM_UP": "False",
        "AUTOFOCUS_CACHE": "not ours",
    }
    settings = read_settings({"port": 7000, "workers": 3, "host": None}, environment)
    assert (settings.port, settings.workers, settings.host) == (7000, 3, "0.0.0.0")
    assert settings.timeout_s == 2.5
    assert settings.api_key_file == Path("keys")
    assert settings.explain_warm_up is False
    assert read_settings({"explain_warm_up": True}, environment).explain_warm_up is True


def test_flags_count_in_bigger_units_and_variables_in_bytes() -> None:
    settings = read_settings({"max_body_mb": 0.3, "max_megapixels": 2.5}, {})
    assert (settings.max_body_bytes, settings.max_pixels) == (314_572, 2_500_000)
    assert read_settings({}, {"AUTOFOCUS_MAX_BODY_BYTES": "2048"}).max_body_bytes == 2048


def test_infinity_is_no_number_of_bytes() -> None:
    with pytest.raises(InputError) as caught:
        read_settings({"max_body_mb": math.inf, "timeout_s": math.inf}, {})
    assert caught.value.problems == (
        "--max-body-mb must be a whole number, got inf.",
        "--timeout-s must be between 0.001 and 86,400, got inf.",
    )


def test_every_wrong_value_is_named_with_its_place() -> None:
    environment = {
        "AUTOFOCUS_WORKERS": "many",
        "AUTOFOCUS_TIMEOUT_S": "nan",
        "AUTOFOCUS_EXPLAIN_WARM_UP": "perhaps",
    }
    with pytest.raises(InputError) as caught:
        read_settings({"port": 70_000, "queue": -1, "max_body_mb": -5.0}, environment)
    assert set(caught.value.problems) == {
        "--port must be between 0 and 65,535, got 70000.",
        "AUTOFOCUS_WORKERS must be a whole number, got 'many'.",
        "--max-body-mb must be between 1,024 and 2,147,483,648 bytes, got -5242880.",
        "--queue must be between 0 and 100,000, got -1.",
        "AUTOFOCUS_TIMEOUT_S must be between 0.001 and 86,400, got 'nan'.",
        "AUTOFOCUS_EXPLAIN_WARM_UP must be true or false, got 'perhaps'.",
    }
