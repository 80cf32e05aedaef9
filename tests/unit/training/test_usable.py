"""The first look at images: those that fail hold nothing, and bits of samples are told."""

from pathlib import Path

import numpy as np
from PIL import Image

from autofocus.data.images.decode import decode
from autofocus.data.images.near_duplicates import thumbnail
from autofocus.data.rows.records import MulticlassRecord
from autofocus.runtime import no_progress
from autofocus.training import usable
from autofocus.training.usable import bits_in_use, usable_images


def write_deep(path: Path, most: int, seed: int = 0) -> str:
    values = np.random.default_rng(seed).integers(0, most + 1, (20, 24)).astype(np.uint16)
    values[0, 0] = most
    Image.fromarray(values).save(path)
    return str(path)


def test_the_brightest_image_tells_the_bits_of_a_set(tmp_path: Path) -> None:
    photo = tmp_path / "photo.jpg"
    Image.new("RGB", (8, 8), "white").save(photo)
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"no picture")
    dim = write_deep(tmp_path / "dim.png", 200)
    assert bits_in_use([str(photo), str(broken), dim]) == 8
    bright = write_deep(tmp_path / "bright.tif", 4095)
    assert bits_in_use([str(photo), dim, bright]) == 12
    assert bits_in_use([dim, bright, write_deep(tmp_path / "full.png", 65535)]) == 16
    assert bits_in_use([str(photo)]) == 16
    assert bits_in_use([]) == 16


def test_photos_of_8_bits_are_not_fetched_for_their_bits(monkeypatch) -> None:
    fetched = []
    monkeypatch.setattr(usable, "open_bytes", lambda place: fetched.append(place) or b"")
    bits_in_use([f"https://host/{i}.JPG?sig=a.png" for i in range(100)])
    assert fetched == []
    bits_in_use([f"https://host/{i}.png" for i in range(100)])
    assert len(fetched) == len({*fetched}) == 32


def test_thumbnails_are_of_the_pixels_that_training_sees(tmp_path: Path) -> None:
    """Black ones would all be copies of each other."""
    place = write_deep(tmp_path / "a.png", 255)
    record = MulticlassRecord(image_url="a.png", label="x")
    seen = usable_images([record], [place], lambda issue: None, no_progress, 8)
    expected = thumbnail(decode(Path(place).read_bytes(), sample_bits=8))
    np.testing.assert_array_equal(seen.thumbnails[0], expected)
    assert expected.any()


def test_images_that_fail_are_reported_and_hold_no_file(tmp_path: Path, monkeypatch) -> None:
    whole = write_deep(tmp_path / "a.png", 255)
    cut = tmp_path / "cut.png"
    cut.write_bytes(Path(whole).read_bytes()[:200])
    look, kept = usable._look, []
    monkeypatch.setattr(usable, "_look", lambda *given: kept.append(look(*given)) or kept[-1])
    issues = []
    places = [whole, str(cut), str(tmp_path / "missing.png")]
    records = [MulticlassRecord(image_url=place, label="x") for place in places]
    seen = usable_images(records, places, issues.append, no_progress)
    assert seen.locations == [whole]
    assert [issue.code for issue in issues] == ["image.truncated", "image.unreadable"]
    errors = [fact for fact in kept if isinstance(fact, Exception)]
    assert [error.__traceback__ for error in errors] == [None, None]
