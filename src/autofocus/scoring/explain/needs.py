"""Requirements of explanations beyond scoring.

A file of its own: a server's parent process, which imports nothing heavy, asks it first.
"""

from importlib.util import find_spec
from pathlib import Path
from typing import Final

from autofocus.manifest import Manifest, read_manifest

WEIGHTS_NAME: Final = "model.safetensors"

# Outputs from which boxes are explained, whatever runs the network.
_BOX_OUTPUTS: Final = frozenset({"boxes", "scores", "classes"})

# Heads of the dependency tree; the other packages come with them.
_MODULES: Final = ("torch", "timm", "safetensors", "numba", "scipy")
# A package carries the names of the algorithms, and none of them.
_ON_DISK: Final = Path(__file__).parents[2] / "explain" / "base.py"

NOT_PACKAGED: Final = (
    "Explanations are not part of a packaged model. Install autofocus with pip install '.[train]'"
    " from its checkout and give this model's folder to 'autofocus serve' or 'autofocus explain',"
    " or ask for scores alone with model_explainability false."
)


def needs_torch(manifest: Manifest) -> bool:
    """Return whether a model's explanations need gradients."""
    return not set(manifest.outputs) >= _BOX_OUTPUTS


def why_unavailable(folder: Path) -> str | None:
    """Return the reason why a model folder cannot be explained here and what to install, or None.

    Raises:
        ModelFolderError: If its manifest cannot be read.
    """
    if not _ON_DISK.is_file():
        return NOT_PACKAGED
    if not needs_torch(read_manifest(folder)):
        return None
    missing = [name for name in _MODULES if find_spec(name) is None]
    if missing:
        return (
            f"Explanations need {', '.join(missing)}, not installed here. Run"
            " pip install '.[train]' in the autofocus checkout, or ask for scores alone with"
            " model_explainability false."
        )
    if not (folder / WEIGHTS_NAME).is_file():
        return (
            f"Explanations need the network's weights, and this model folder has no {WEIGHTS_NAME}."
            " Copy the whole folder that 'autofocus train' wrote, or ask for scores alone with"
            " model_explainability false."
        )
    return None
