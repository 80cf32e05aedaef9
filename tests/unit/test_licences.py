"""No AGPL, GPL or non-commercial distribution may enter the environment."""

import importlib.metadata
import re
from collections.abc import Iterable
from email.message import Message

import pytest

# Known by name: their metadata may say anything, or nothing.
REFUSED = {
    "ultralytics": "AGPL-3.0",
    "albumentationsx": "AGPL-3.0",
    "lightly-train": "AGPL-3.0",
    "fastdup": "CC-BY-NC-ND",
    "yolov5": "AGPL-3.0",
    "super-gradients": "weights for non-commercial use",
}

# Name pattern -> why its metadata looks worse than it is.
ALLOWED = {
    r"nvidia-.*": "CUDA run-time wheels that torch pulls on Linux: proprietary, free to"
    " redistribute and use commercially; not ours to ship",
    r"cuda-.*": "the same, under NVIDIA's newer names",
}

FORBIDDEN = re.compile(
    r"AGPL|Affero"
    r"|(?<![AL])GPL"
    r"|GNU General Public"
    r"|non-?commercial|\bBY-NC\b|academic use|research (use|purposes) only|evaluation only"
    r"|proprietary",
    re.IGNORECASE,
)


def licence_statements(metadata: Message) -> list[list[str]]:
    """Return what a distribution says of its licence, each with the choices it leaves."""
    if expression := metadata.get("License-Expression"):
        # The SPDX expression replaces all older fields.
        return [[expression]]
    classifiers = [
        classifier
        for classifier in metadata.get_all("Classifier") or ()
        if classifier.startswith("License ::") and classifier != "License :: OSI Approved"
    ]
    # A whole licence text in this field quotes other licences: its title is the statement.
    title = "\n".join((metadata.get("License") or "").strip().splitlines()[:2])
    # Several classifiers are several licences to choose from.
    return [choices for choices in (classifiers, [title]) if any(choices)]


def is_forbidden(statement: str) -> bool:
    """Return whether one statement leaves no permissive choice."""
    # "MIT OR GPL-2.0" lets us choose; "Apache-2.0 AND GPL-3.0" does not.
    choices = re.split(r"\bOR\b", statement.replace("(", " ").replace(")", " "))
    return all(_is_forbidden_term(choice) for choice in choices)


def _is_forbidden_term(term: str) -> bool:
    # GPL with the GCC or Autoconf exception puts no condition on what links to it.
    without_exceptions = re.sub(r"(?i)GPL-[\d.]+(-or-later|-only|\+)? WITH [\w.-]+", "", term)
    return FORBIDDEN.search(without_exceptions) is not None


def forbidden_distributions(metadatas: Iterable[Message]) -> dict[str, str]:
    """Return name -> what is wrong with its licence."""
    found = {}
    for metadata in metadatas:
        name = re.sub(r"[-_.]+", "-", metadata["Name"]).lower()
        if name in REFUSED:
            found[name] = REFUSED[name]
            continue
        if any(re.fullmatch(pattern, name) for pattern in ALLOWED):
            continue
        for choices in licence_statements(metadata):
            if all(is_forbidden(choice) for choice in choices):
                found[name] = choices[0]
    return found


def test_environment_holds_no_forbidden_licence() -> None:
    metadatas = [d.metadata for d in importlib.metadata.distributions()]
    assert len(metadatas) > 5
    assert forbidden_distributions(metadatas) == {}


def fake(name: str, **fields: str | list[str]) -> Message:
    metadata = Message()
    metadata["Name"] = name
    for key, values in fields.items():
        for value in [values] if isinstance(values, str) else values:
            metadata[key.replace("_", "-")] = value
    return metadata


@pytest.mark.parametrize(
    "metadata",
    [
        fake("Ultralytics"),
        fake("AlbumentationsX", License="MIT"),
        fake("lightly_train"),
        fake("fastdup", License_Expression="Apache-2.0"),
        fake("a", License_Expression="AGPL-3.0-or-later"),
        fake("b", License_Expression="Apache-2.0 AND GPL-3.0-only"),
        fake("c", License_Expression="CC-BY-NC-4.0"),
        fake("d", License="GPLv3"),
        fake("e", License="GNU Affero General Public License v3"),
        fake("f", License="GNU General Public License"),
        fake("g", License="Free for non-commercial use"),
        fake("h", License="Proprietary"),
        fake("i", Classifier="License :: OSI Approved :: GNU General Public License v3 (GPLv3)"),
        fake("j", Classifier="License :: OSI Approved :: GNU Affero General Public License v3"),
        fake("k", Classifier="License :: Free for non-commercial use"),
        fake("l", Classifier="License :: Other/Proprietary License"),
        fake("o", Classifier=["License :: OSI Approved", "License :: OSI Approved :: GPLv3"]),
        fake("p", License="GPL", Classifier="License :: OSI Approved :: MIT License"),
        fake("m", License_Expression="LGPL-3.0-only AND GPL-3.0-only"),
        fake("n", License_Expression="GPL-2.0-only OR AGPL-3.0-only"),
    ],
    ids=lambda metadata: metadata["Name"],
)
def test_forbidden_licence_is_found(metadata: Message) -> None:
    assert len(forbidden_distributions([fake("numpy", License="BSD"), metadata])) == 1


@pytest.mark.parametrize(
    "metadata",
    [
        fake("a"),
        fake("b", License_Expression="Apache-2.0"),
        fake("c", License_Expression="MIT OR GPL-2.0-or-later"),
        fake("d", License="LGPLv3"),
        fake("e", Classifier="License :: OSI Approved :: GNU Lesser General Public License v3"),
        fake("f", Classifier="License :: OSI Approved :: BSD License"),
        fake(
            "g",
            Classifier=[
                "License :: OSI Approved :: MIT License",
                "License :: OSI Approved :: GNU General Public License v2 (GPLv2)",
            ],
        ),
        fake("h", License="BSD 3-Clause\n\nlong text\nthat names the GPL for its compatibility"),
        fake("i", License_Expression="BSD-3-Clause AND GPL-3.0-or-later WITH GCC-exception-3.1"),
        fake("nvidia-cublas-cu12", License="NVIDIA Proprietary Software"),
        fake("nvidia_nccl_cu13", Classifier="License :: Other/Proprietary License"),
    ],
    ids=lambda metadata: metadata["Name"],
)
def test_permissive_licence_passes(metadata: Message) -> None:
    assert forbidden_distributions([metadata]) == {}
