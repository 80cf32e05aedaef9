"""The model manifest: description of a trained network, as one JSON file.

Training writes it, packaging copies it, the scorer reads it. It holds numbers and names only;
readers trust nothing in it (`read_manifest` checks shapes and ranges).
"""

import hashlib
from collections import Counter
from collections.abc import Collection
from pathlib import Path
from typing import Annotated, Any

import msgspec

from autofocus.errors import ModelFolderError

MANIFEST_NAME = "manifest.json"
# Counted up when an earlier version could not read what is written: 2 has `preprocess.sample_bits`.
SCHEMA_VERSION = 2

PositiveInt = Annotated[int, msgspec.Meta(ge=1, le=8192)]
# Bits that all training images together use of 16-bit samples; other images have theirs.
SampleBits = Annotated[int, msgspec.Meta(ge=8, le=16)]


class ResizeCrop(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag="resize_crop"):
    """Shorter side to `resize_size`, centre square of `crop_size`, then (x / 255 - mean) / std."""

    resize_size: PositiveInt = 256
    crop_size: PositiveInt = 224
    mean: tuple[float, float, float] = (0.485, 0.456, 0.406)
    std: tuple[
        Annotated[float, msgspec.Meta(gt=0)],
        Annotated[float, msgspec.Meta(gt=0)],
        Annotated[float, msgspec.Meta(gt=0)],
    ] = (0.229, 0.224, 0.225)

    sample_bits: SampleBits = 16

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) of the network's input, in pixels."""
        return self.crop_size, self.crop_size


class ResizeFit(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag="resize_fit"):
    """The whole image into height x width, then (x / 255 - mean) / std.

    With `keep_aspect` it is scaled by one factor and lies at the top left; the rest is the mean
    colour, zero after normalisation. Without, it is stretched.
    """

    height: PositiveInt
    width: PositiveInt
    keep_aspect: bool = True
    mean: tuple[float, float, float] = (0.485, 0.456, 0.406)
    std: tuple[
        Annotated[float, msgspec.Meta(gt=0)],
        Annotated[float, msgspec.Meta(gt=0)],
        Annotated[float, msgspec.Meta(gt=0)],
    ] = (0.229, 0.224, 0.225)

    sample_bits: SampleBits = 16

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) of the network's input, in pixels."""
        return self.height, self.width


Preprocess = ResizeCrop | ResizeFit


class Tiling(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Grid of overlapping tiles, which the network sees besides the whole image, for small objects.

    Attributes:
        cols: Tiles side by side.
        rows: Tiles one below the other.
        overlap_frac: Overlap of neighbours, in fractions of a tile's side.
    """

    cols: Annotated[int, msgspec.Meta(ge=1, le=16)]
    rows: Annotated[int, msgspec.Meta(ge=1, le=16)]
    overlap_frac: Annotated[float, msgspec.Meta(ge=0, lt=1)] = 0.25


class WeightsInfo(msgspec.Struct, frozen=True):
    """Source of the pretrained weights."""

    source: str  # "embedded", "hub:timm/…@revision", "cache:…", "file:/…", "random"
    licence: str
    sha256: str | None = None


class Calibration(msgspec.Struct, frozen=True):
    """Temperature, already folded into the network's head, and its source."""

    temperature: Annotated[float, msgspec.Meta(gt=0)] = 1.0
    source: str = "none"
    num_images: int = 0


class Measured(msgspec.Struct, frozen=True):
    """What one image costs in `model.onnx`, one thread, and the file's size; as it was packaged."""

    latency_ms: Annotated[float, msgspec.Meta(gt=0)]
    size_bytes: Annotated[int, msgspec.Meta(gt=0)]


class DataInfo(msgspec.Struct, frozen=True):
    """Data that the model was trained on."""

    fingerprint: str
    num_training: int
    num_validation: int


class Manifest(msgspec.Struct, frozen=True):
    """Everything needed to score with a network besides its weights.

    Attributes:
        labels: Class names in the order of the network's outputs.
        settings: Values that may be edited before serving, such as score thresholds.
        thresholds: What the fitted score thresholds among the settings reached, where some were
            asked for.
        network: Builder arguments besides the model's name and the number of labels.
        measured: What the network takes where it was packaged; None in older packages.
        tiling: Grid of tiles seen besides the whole image; None where there is none.
        outputs: Names of the network's outputs, in order.
        metrics: Every metric of the task.
        metrics_of: Images that they were measured on: `validation` or `cross-validation`.
        intervals: (low, high) of the 90 % interval of metrics, by their names.
        files: Name -> sha256 of the files beside the manifest.
    """

    task: str
    labels: Annotated[list[str], msgspec.Meta(min_length=1)]
    model_name: str
    preprocess: Preprocess
    weights: WeightsInfo
    data: DataInfo
    calibration: Calibration = Calibration()
    tiling: Tiling | None = None
    outputs: list[str] = msgspec.field(default_factory=lambda: ["logits"])
    settings: dict[str, int | float | str | list[float]] = {}
    thresholds: list[dict[str, Any]] = []
    network: dict[str, Any] = {}
    metrics: dict[str, Any] = {}
    metrics_of: str = "validation"
    intervals: dict[str, list[float]] = {}
    test_metrics: dict[str, Any] | None = None
    measured: Measured | None = None
    versions: dict[str, str] = {}
    files: dict[str, str] = {}
    schema_version: Annotated[int, msgspec.Meta(ge=1, le=SCHEMA_VERSION)] = SCHEMA_VERSION


def read_manifest(folder: Path) -> Manifest:
    """Read and check `folder/manifest.json`.

    Raises:
        ModelFolderError: If it is missing, not JSON, or not a manifest of a known format.
    """
    path = folder / MANIFEST_NAME
    try:
        text = path.read_bytes()
    except OSError as error:
        reason = error.strerror or str(error)
        raise ModelFolderError(
            f"{path}: {reason}. A model folder has a {MANIFEST_NAME}; "
            "'autofocus train' prints the folder it wrote."
        ) from error
    try:
        manifest = msgspec.json.decode(text, type=Manifest)
    except (msgspec.DecodeError, RecursionError) as error:
        _refuse_newer(path, text)
        raise ModelFolderError(
            f"{path}: not a usable manifest: {error}. Copy the model folder again."
        ) from error
    repeated = [label for label, num in Counter(manifest.labels).items() if num > 1]
    if repeated:
        raise ModelFolderError(f"{path}: labels must differ, {repeated[0]!r} is there twice.")
    num_labels = len(manifest.labels)
    for name, value in manifest.settings.items():
        if isinstance(value, list) and len(value) != num_labels:
            raise ModelFolderError(
                f"{path}: settings.{name}: must have a number for each of {num_labels} labels, "
                f"got {len(value)}."
            )
    return manifest


class _Numbered(msgspec.Struct):
    schema_version: int = SCHEMA_VERSION


def _refuse_newer(path: Path, text: bytes) -> None:
    """Raise an error that says so if an unreadable manifest is of a newer format."""
    try:
        number = msgspec.json.decode(text, type=_Numbered).schema_version
    except (msgspec.DecodeError, RecursionError):
        return
    if number > SCHEMA_VERSION:
        raise ModelFolderError(
            f"{path}: schema_version {number} is newer than this version of autofocus reads "
            f"(<= {SCHEMA_VERSION}). Use the version that packaged it, or a newer one."
        )


def check_files(folder: Path, manifest: Manifest, optional: Collection[str] = ()) -> None:
    """Check that the files that the manifest lists are there and unchanged.

    Args:
        folder: The model folder.
        manifest: The expected content.
        optional: Names of files that may be missing, or closed to this user.

    Raises:
        ModelFolderError: Names every file that is missing, closed, changed or outside the folder.
    """
    problems = []
    for name, expected in manifest.files.items():
        # A name is a plain file name: a manifest must not make us read elsewhere.
        if Path(name).name != name or "\\" in name:
            problems.append(f"{folder / MANIFEST_NAME}: files: {name!r} must be a plain file name.")
        elif problem := _problem_of(folder / name, expected, is_optional=name in optional):
            problems.append(problem)
    if problems:
        raise ModelFolderError(problems)


def _problem_of(path: Path, expected: str, *, is_optional: bool) -> str | None:
    if not path.is_file():
        return None if is_optional else f"{path}: missing. Copy the whole model folder."
    try:
        found = file_sha256(path)
    except OSError as error:
        reason = error.strerror or str(error)
        return None if is_optional else f"{path}: {reason}. Let this user read the model folder."
    if found == expected:
        return None
    return f"{path}: not the file that was packaged (sha256 differs). Copy the model folder again."


def file_sha256(path: Path) -> str:
    """Return the hex sha256 of a file's content."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def encode_manifest(manifest: Manifest) -> bytes:
    """Return the manifest as indented UTF-8 JSON."""
    return msgspec.json.format(msgspec.json.encode(manifest), indent=2) + b"\n"
