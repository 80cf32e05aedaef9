"""Kinds of values: by themselves, in a pydantic model, and in its JSON schema."""

import re
from typing import Annotated, Any

import pytest
from pydantic import BaseModel, ValidationError

from autofocus.settings.fields import (
    LATENCY,
    SIZE,
    Duration,
    Flag,
    Kind,
    Number,
    OneOf,
    Quantity,
    Text,
)


class Lens(BaseModel):
    aperture: Annotated[float, Number(0, above=True)] = 2.8
    blades: Annotated[int | None, Number(5, 11, whole=True)] = None
    mount: Annotated[str | None, OneOf(("bayonet", "screw"), may_be_unset=True)] = None


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        (Number(2, 1000, whole=True, strict=True), 50),
        (Number(0, 1, strict=True), 1),
        (Number(0, 1, strict=True), 0.5),
        (Flag(strict=True), False),
        (OneOf(("panel", "overlay"), strict=True), "overlay"),
        (Text(), "any"),
    ],
)
def test_strict_values_stay_as_they_are(kind: Kind, value: object) -> None:
    parsed = kind.parse(value)
    assert parsed == value
    assert type(parsed) is type(value)


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        (Number(2, 1000, whole=True, strict=True), 50.0),
        (Number(2, 1000, whole=True, strict=True), "50"),
        (Number(2, 1000, whole=True, strict=True), True),
        (Number(0, 1, strict=True), "0.5"),
        (Number(0, 1, strict=True), float("nan")),
        (Number(0, 1, strict=True), 10**400),
        (Number(0, 1), 10**400),
        (Flag(strict=True), "true"),
        (Flag(strict=True), 1),
        (OneOf(("panel", "overlay"), strict=True), "Panel"),
        (OneOf(("panel", "overlay"), strict=True), ["panel"]),
        (Duration(), "5x"),
        (Duration(), True),
        (Duration(), -1),
        (LATENCY, 15),
        (LATENCY, "15"),
        (LATENCY, "0ms"),
        (LATENCY, "1h"),
        (SIZE, "20"),
        (SIZE, "-20MB"),
    ],
)
def test_a_refusal_says_what_is_allowed(kind: Kind, value: object) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(kind.allowed)}$"):
        kind.parse(value)


@pytest.mark.parametrize("kind", [Flag(strict=True), OneOf(("panel",), strict=True)])
def test_a_strict_kind_never_writes_out_a_value(kind: Kind) -> None:
    class Long:
        def __str__(self) -> str:
            raise AssertionError

    with pytest.raises(ValueError, match=f"^{re.escape(kind.allowed)}$"):
        kind.parse(Long())


@pytest.mark.parametrize(
    ("text", "seconds"), [("90", 90.0), ("90s", 90.0), ("5m", 300.0), ("1.5h", 5400.0), (7, 7.0)]
)
def test_durations(text: object, seconds: float) -> None:
    assert Duration().parse(text) == seconds


def test_a_model_reads_its_fields_by_their_kinds() -> None:
    lens = Lens.model_validate({"aperture": "4", "blades": "7.0", "mount": "Screw"})
    assert lens == Lens(aperture=4.0, blades=7, mount="screw")
    assert Lens.model_validate({"mount": "not_set"}).mount is None
    with pytest.raises(ValidationError) as caught:
        Lens.model_validate({"aperture": 0, "blades": 4})
    messages = {error["loc"]: error["msg"] for error in caught.value.errors()}
    assert messages == {
        ("aperture",): "Value error, must be a number > 0",
        ("blades",): "Value error, must be a whole number in [5, 11]",
    }


def test_a_model_says_its_fields_in_its_schema() -> None:
    fields: dict[str, Any] = Lens.model_json_schema()["properties"]
    assert {"type": "number", "exclusiveMinimum": 0, "default": 2.8}.items() <= fields[
        "aperture"
    ].items()
    assert (fields["blades"]["minimum"], fields["blades"]["maximum"]) == (5, 11)
    assert fields["mount"]["enum"] == ["bayonet", "screw", "none", "not_set"]


@pytest.mark.parametrize(
    ("kind", "written", "kept", "amount"),
    [
        (LATENCY, "15ms", "15ms", 0.015),
        (LATENCY, " 0.2 S ", "0.2s", 0.2),
        (SIZE, "20mb", "20MB", 20e6),
        (SIZE, "8 MiB", "8MiB", 8 * 2**20),
    ],
)
def test_a_quantity_keeps_its_unit(kind: Quantity, written: str, kept: str, amount: float) -> None:
    assert kind.parse(written) == kept
    assert kind.parse(kept) == kept, "a job is read back"
    assert kind.amount(kept) == pytest.approx(amount)
    assert re.fullmatch(kind.schema()["pattern"], kept)
