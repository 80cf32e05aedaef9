"""Pretrained weights, from the first source that has them.

explicit file -> local cache -> the hub library's cache -> hub -> one error that names all of these

The embedded models' own weights need none of this: they are installed. The default one stands in
for another model only when the user named none, or asked for it with
`on_missing_weights: substitute`.
"""

import os
import pickle
import tempfile
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final, Literal

import msgspec
import torch
from torch import Tensor

from autofocus.errors import WeightsError
from autofocus.manifest import WeightsInfo, file_sha256
from autofocus.models.base import BESIDE, LoadedWeights, ModelSpec, StateDict, is_permissive
from autofocus.models.catalog import DEFAULT_MODEL, default_model, resolve
from autofocus.models.families import family_of
from autofocus.models.torchvision import weights as torchvision_weights
from autofocus.models.weights import embedded, hub
from autofocus.models.weights.hub import TIMEOUTS, SourceError, Timeouts
from autofocus.runtime import Track, cache_dir, no_progress, write_atomically

RANDOM: Final = "random"
OnMissing = Literal["error", "substitute"]

# Best first: safetensors cannot run code, the other is read with `weights_only`.
_HUB_FILES = ("model.safetensors", "pytorch_model.bin")
_RECORD = "source.json"
# Keys under which training scripts put the network in their checkpoint.
_WRAPPERS = ("state_dict_ema", "model_ema", "state_dict", "model")


class _CachedFile(msgspec.Struct):
    """`source.json` beside a cached file; written last, so that it vouches for the file."""

    filename: str
    sha256: str
    hub_id: str
    revision: str | None
    licence: str | None


def load_weights(
    spec: ModelSpec,
    weights: str | None = None,
    on_missing: OnMissing = "error",
    accept_licences: Collection[str] = (),
    user_named_model: bool = True,
    timeouts: Timeouts = TIMEOUTS,
    track: Track = no_progress,
) -> LoadedWeights:
    """Return the weights of `spec` from the first source that has them.

    Args:
        spec: Result of `catalog.resolve`.
        weights: `random`, the path of a .safetensors, .pth, .pt or .bin file, or None.
        on_missing: `substitute` lets the embedded model stand in for one that cannot be had.
        accept_licences: Licences the user accepts besides Apache, MIT and BSD.
        user_named_model: False lets the embedded model stand in.
        timeouts: Timeouts of the hub.
        track: Progress display of a download.

    Raises:
        WeightsError: If no source has them, or their licence was not accepted.
    """
    if weights == RANDOM:
        info = WeightsInfo(source=RANDOM, licence="none")
        return LoadedWeights(spec, None, info, f"weights: {spec.name}, random, not pretrained")
    if weights is not None:
        return _from_file(spec, Path(weights))
    if spec.backbone is not None and spec.weights_enum is None:
        return _of_backbone(spec, on_missing, accept_licences, user_named_model, timeouts, track)
    if spec.members:
        return _of_members(spec, on_missing, accept_licences, user_named_model, timeouts, track)
    if spec.name in embedded.EMBEDDED:
        return _from_package(spec)
    _check_licence(spec, spec.licence, accept_licences)
    if spec.weights_enum is not None:
        sources = (
            lambda: _from_cache(spec, accept_licences),
            lambda: _from_torch_cache(spec),
            lambda: _from_torchvision(spec, timeouts, track),
        )
    else:
        sources = (
            lambda: _from_cache(spec, accept_licences),
            lambda: _from_hub_cache(spec, accept_licences),
            lambda: _from_hub(spec, accept_licences, timeouts, track),
        )
    tried: list[str] = []
    if loaded := _first(sources, tried):
        return loaded
    if user_named_model and on_missing == "error":
        raise WeightsError(_not_found(spec, tried))
    return _substitute(spec, tried)


def _of_backbone(
    spec: ModelSpec,
    on_missing: OnMissing,
    accept_licences: Collection[str],
    user_named_model: bool,
    timeouts: Timeouts,
    track: Track,
) -> LoadedWeights:
    """Return the encoder's weights for a detector; its heads start random."""
    assert spec.backbone is not None
    backbone = resolve(spec.backbone)
    try:
        loaded = load_weights(
            backbone, None, on_missing, accept_licences, user_named_model, timeouts, track
        )
    except WeightsError as error:
        raise WeightsError([f"{spec.name}: {problem}" for problem in error.problems]) from error
    if loaded.spec != backbone:
        spec = _stand_in(spec)
    line = loaded.line.replace("weights: ", f"weights: {spec.name}: encoder ", 1)
    return replace(loaded, spec=spec, line=line)


def _of_members(
    spec: ModelSpec,
    on_missing: OnMissing,
    accept_licences: Collection[str],
    user_named_model: bool,
    timeouts: Timeouts,
    track: Track,
) -> LoadedWeights:
    """Return the weights of encoders side by side, or of what stands in for one of them."""
    options = (on_missing, accept_licences, user_named_model, timeouts, track)
    state_dict: StateDict = {}
    infos: list[WeightsInfo] = []
    lines: list[str] = []
    for index, name in enumerate(spec.members):
        loaded = load_weights(resolve(name), None, *options)
        if loaded.spec.name != name:
            return loaded
        assert loaded.state_dict is not None, "weights that were not asked to be random"
        state_dict |= {f"members.{index}.{key}": t for key, t in loaded.state_dict.items()}
        infos.append(loaded.info)
        lines.append(loaded.line.removeprefix("weights: "))
    info = WeightsInfo(
        BESIDE.join(one.source for one in infos),
        BESIDE.join(sorted({one.licence for one in infos})),
        BESIDE.join(str(one.sha256) for one in infos),
    )
    return LoadedWeights(spec, state_dict, info, f"weights: {'; '.join(lines)}")


def _first(
    sources: Sequence[Callable[[], LoadedWeights]], tried: list[str]
) -> LoadedWeights | None:
    """Return the weights of the first source that has them; add the others' reasons to `tried`."""
    for source in sources:
        try:
            return source()
        except SourceError as error:
            tried.append(str(error))
    return None


def _from_file(spec: ModelSpec, path: Path) -> LoadedWeights:
    """Read the file that the user named; its licence is the user's to know."""
    try:
        state_dict = _read_checkpoint(path)
        digest = file_sha256(path)
    except (SourceError, OSError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise WeightsError(
            f"weights: {path}: {reason}. Give a .safetensors file, or a .pth, .pt or .bin file"
            f" that holds only tensors, with weights of {spec.architecture} under"
            f" {family_of(spec).weight_names}."
        ) from error
    source = f"file:{path.resolve().as_posix()}"
    info = WeightsInfo(source, "not stated (your file)", digest)
    return LoadedWeights(spec, state_dict, info, f"weights: {spec.name} from {path}")


def _from_package(spec: ModelSpec) -> LoadedWeights:
    digest = embedded.EMBEDDED[spec.name].sha256
    info = WeightsInfo("embedded", embedded.EMBEDDED_LICENCE, digest)
    line = f"weights: {spec.name}, embedded in the install, licence {info.licence}"
    return LoadedWeights(spec, embedded.load_embedded(spec.name), info, line)


def _from_cache(spec: ModelSpec, accept_licences: Collection[str]) -> LoadedWeights:
    """Read weights that an earlier `_from_hub` kept."""
    folder = _cache_folder(spec)
    try:
        record = msgspec.json.decode((folder / _RECORD).read_bytes(), type=_CachedFile)
        path = folder / Path(record.filename).name
        digest = file_sha256(path)
    except FileNotFoundError as error:
        raise SourceError(f"cache: not in {folder}") from error
    except (OSError, msgspec.DecodeError) as error:
        raise SourceError(f"cache: {folder} cannot be read ({error})") from error
    if digest != record.sha256:
        raise SourceError(f"cache: {path} is damaged (its sha256 is not the recorded one)")
    licence = record.licence or spec.licence
    _check_licence(spec, licence, accept_licences)
    source = f"cache:{record.hub_id}@{record.revision or 'main'}"
    line = f"weights: {spec.name} from the cache ({folder}), licence {licence}"
    return LoadedWeights(spec, _read_checkpoint(path), WeightsInfo(source, licence, digest), line)


def _from_hub_cache(spec: ModelSpec, accept_licences: Collection[str]) -> LoadedWeights:
    """Read weights that timm, transformers or the hub's own command line downloaded earlier."""
    from huggingface_hub import constants, try_to_load_from_cache

    # The library reads these once, at its import; a caller may have set them since.
    home = os.environ.get("HF_HOME")
    root = Path(
        os.environ.get("HF_HUB_CACHE")
        or (Path(home).expanduser() / "hub" if home else constants.HF_HUB_CACHE)
    )
    if spec.hub_id is None:
        raise SourceError("hub cache: no repository is known of its weights")
    for filename in _HUB_FILES:
        found = try_to_load_from_cache(
            spec.hub_id, filename, cache_dir=root, revision=spec.revision
        )
        if isinstance(found, str):
            break
    else:
        raise SourceError(f"hub cache: not in {root}")
    _check_licence(spec, spec.licence, accept_licences)
    path = Path(found)
    # The hub library links snapshots/<commit>/<file>.
    source = f"cache:{spec.hub_id}@{path.parent.name}"
    line = f"weights: {spec.name} from the hub's cache ({path}), licence {spec.licence}"
    try:
        info = WeightsInfo(source, spec.licence, file_sha256(path))
    except OSError as error:
        raise SourceError(f"hub cache: {path} cannot be read ({error.strerror})") from error
    return LoadedWeights(spec, _read_checkpoint(path), info, line)


def _from_hub(
    spec: ModelSpec, accept_licences: Collection[str], timeouts: Timeouts, track: Track
) -> LoadedWeights:
    """Download, check, and keep for next time."""
    if spec.hub_id is None:
        raise SourceError("hub: no repository is known of its weights")
    card = hub.read_card(spec.hub_id, spec.revision, timeouts)
    licence = card.licence or spec.licence
    _check_licence(spec, licence, accept_licences)
    folder = _cache_folder(spec)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder, prefix=".partial-") as partial:
            got = hub.download(
                spec.hub_id, spec.revision, _HUB_FILES, card, Path(partial), timeouts, track
            )
            # A page that says 200 and is no checkpoint must not enter the cache.
            state_dict = _read_checkpoint(got.path)
            os.replace(got.path, folder / got.filename)
        record = _CachedFile(got.filename, got.sha256, spec.hub_id, got.commit, licence)
        write_atomically(folder / _RECORD, msgspec.json.encode(record))
    except OSError as error:
        raise SourceError(f"hub: cannot write to {folder} ({error.strerror or error})") from error
    source = f"hub:{spec.hub_id}@{got.commit or spec.revision or 'main'}"
    line = (
        f"weights: {spec.name} from {source}, {got.num_bytes / 1e6:.1f} MB, licence {licence};"
        f" kept in {folder}"
    )
    return LoadedWeights(spec, state_dict, WeightsInfo(source, licence, got.sha256), line)


def _from_torch_cache(spec: ModelSpec) -> LoadedWeights:
    """Read weights that torchvision downloaded earlier."""
    assert spec.weights_enum is not None
    path = torchvision_weights.torch_cache_file(spec.weights_enum)
    try:
        info = WeightsInfo(f"cache:{spec.weights_enum}", spec.licence, file_sha256(path))
    except OSError as error:
        raise SourceError(f"torch's cache: {path} cannot be read ({error.strerror})") from error
    line = f"weights: {spec.name} from torch's cache ({path}), licence {spec.licence}"
    return LoadedWeights(spec, _read_checkpoint(path), info, line)


def _from_torchvision(spec: ModelSpec, timeouts: Timeouts, track: Track) -> LoadedWeights:
    """Download torchvision's own weights, and keep them for next time."""
    assert spec.weights_enum is not None
    folder = _cache_folder(spec)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder, prefix=".partial-") as partial:
            got = torchvision_weights.download_coco_weights(
                spec.weights_enum, Path(partial), timeouts, track
            )
            state_dict = _read_checkpoint(got.path)
            os.replace(got.path, folder / got.filename)
        record = _CachedFile(got.filename, got.sha256, spec.weights_enum, None, spec.licence)
        write_atomically(folder / _RECORD, msgspec.json.encode(record))
    except OSError as error:
        raise SourceError(f"cannot write to {folder} ({error.strerror or error})") from error
    source = f"torchvision:{spec.weights_enum}"
    line = (
        f"weights: {spec.name} from {source}, {got.num_bytes / 1e6:.1f} MB, licence"
        f" {spec.licence}; kept in {folder}"
    )
    return LoadedWeights(spec, state_dict, WeightsInfo(source, spec.licence, got.sha256), line)


def _substitute(spec: ModelSpec, tried: list[str]) -> LoadedWeights:
    """Return the embedded model's weights in place of `spec`'s, and say so."""
    try:
        stand_in = replace(
            _from_package(resolve(DEFAULT_MODEL)),
            spec=_stand_in(spec),
        )
    except SourceError as error:
        raise WeightsError(_not_found(spec, [*tried, str(error)])) from error
    line = (
        f"weights: {spec.name} cannot be had ({'; '.join(tried)}); {stand_in.spec.name}, embedded"
        f" in the install, stands in for it, licence {stand_in.info.licence}"
    )
    return LoadedWeights(stand_in.spec, stand_in.state_dict, stand_in.info, line)


def _stand_in(spec: ModelSpec) -> ModelSpec:
    return resolve(family_of(spec).stand_in(spec) or default_model(spec.kind))


def _not_found(spec: ModelSpec, tried: list[str]) -> str:
    ways = ""
    if spec.weights_enum is not None and spec.backbone is not None:
        tagged = spec.name.replace(spec.backbone.partition(".")[0], spec.backbone)
        ways = f" '{tagged}' takes its backbone's weights."
    return (
        f"model '{spec.name}': its pretrained weights cannot be had. Tried: {'; '.join(tried)}."
        " Ways on (keys of the job, or --set KEY=VALUE): 'weights: <file>' reads a .safetensors or"
        " .pth file, 'weights: random' starts without pretraining, 'on_missing_weights: substitute'"
        f" takes the embedded {DEFAULT_MODEL.partition('.')[0]} instead.{ways}"
    )


def _check_licence(spec: ModelSpec, licence: str, accept_licences: Collection[str]) -> None:
    """Refuse weights that are not Apache, MIT or BSD and were not accepted.

    Raises:
        WeightsError: If `licence` is neither permissive nor accepted.
    """
    accepted = {name.lower() for name in accept_licences}
    if is_permissive(licence) or licence.lower() in accepted:
        return
    raise WeightsError(
        f"model '{spec.name}': its weights must be Apache, MIT or BSD licensed, or accepted by you;"
        f" their licence is '{licence}'. If you may use them, set 'accept_license: {licence}'"
        f" in the job, or --accept-license {licence}."
        " Models that need none of this: docs/reference/models.md."
    )


def _read_checkpoint(path: Path) -> StateDict:
    """Return the tensors of a checkpoint file, unwrapped.

    Raises:
        SourceError: If it is not a checkpoint of tensors.
        OSError: If it cannot be read.
    """
    with path.open("rb") as file:
        head = file.read(9)
    try:
        if path.suffix == ".safetensors" or head[8:9] == b"{":
            from safetensors.torch import load_file

            tensors: Any = load_file(path)
        else:
            tensors = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise SourceError(
            f"{path.name} is not a checkpoint, or holds more than tensors and could run code"
        ) from error
    except OSError:
        raise
    except Exception as error:  # torch and safetensors raise what they like
        detail = (str(error).splitlines() or [type(error).__name__])[0]
        raise SourceError(f"{path.name} is not a checkpoint ({detail})") from error
    return _unwrap(tensors, path)


def _unwrap(tensors: Any, path: Path) -> StateDict:
    """Take the network out of a training script's checkpoint."""
    for wrapper in _WRAPPERS:
        if isinstance(tensors, Mapping) and isinstance(tensors.get(wrapper), Mapping):
            tensors = tensors[wrapper]
            break
    state_dict = {
        str(key).removeprefix("module."): value
        for key, value in (tensors.items() if isinstance(tensors, Mapping) else ())
        if isinstance(value, Tensor)
    }
    if not state_dict:
        raise SourceError(f"{path.name} holds no tensors")
    return state_dict


def _cache_folder(spec: ModelSpec) -> Path:
    """Return the folder of one repository's weights."""
    name = (spec.hub_id or spec.name).replace("/", "--")
    return cache_dir() / "weights" / (f"{name}@{spec.revision}" if spec.revision else name)
