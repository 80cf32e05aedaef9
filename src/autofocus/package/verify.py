"""Check of a written package before it is published: a clean process scores images with it.

The child runs with the package's own `code/` first on its path, so that a package that lacks a
module fails here and not at its first request.
"""

import base64
import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch import nn

from autofocus.errors import ScoringError, VerificationError
from autofocus.manifest import Manifest
from autofocus.scoring.backends.torch import TorchBackend
from autofocus.scoring.scorer import Scorer
from autofocus.tasks import TASKS
from autofocus.tasks.base import Settings

TIMEOUT_S = 120

_CHILD = """
import base64, json, sys
sys.path.insert(0, sys.argv[1])
from pathlib import Path
import autofocus
from autofocus.runtime import plain
from autofocus.scoring.scorer import Scorer
assert Path(autofocus.__file__).is_relative_to(Path(sys.argv[1])), autofocus.__file__
scorer = Scorer.load(Path(sys.argv[2]))
given = json.load(sys.stdin)
images = [base64.b64decode(text) for text in given["images"]]
print(json.dumps(plain(scorer.score(images, given["settings"]))))
assert "torch" not in sys.modules
"""


def verify_package(
    folder: Path, network: nn.Module, manifest: Manifest, images: Sequence[bytes]
) -> float:
    """Score `images` with the package in a clean process and with the network in this one.

    Args:
        folder: The written package.
        network: The packaged network, in eval mode, on the CPU.
        manifest: Description of the network.
        images: Real images that decode.

    Returns:
        Largest difference of a score.

    Raises:
        VerificationError: If the package does not load or differs by more than the tolerance.
    """
    task = TASKS[manifest.task]
    settings = task.comparison_settings(manifest.settings)
    try:
        expected = Scorer(manifest, TorchBackend(network, manifest.outputs)).score(images, settings)
    except ScoringError as error:
        raise VerificationError(f"{folder}: {error} The package was not published.") from error
    scored = _score_in_child(folder, images, settings)
    difference = max(map(task.wire_difference, expected, scored), default=0.0)
    if not difference < task.wire_tolerance:
        raise VerificationError(
            f"{folder}: the ONNX network differs from torch by {difference:.2g} in score, "
            f"at most {task.wire_tolerance} is allowed. The package was not published."
        )
    return difference


def _score_in_child(
    folder: Path, images: Sequence[bytes], settings: Settings
) -> list[dict[str, Any]]:
    # -I: neither the user's environment variables nor the current folder reach the child.
    encoded = [base64.b64encode(image).decode() for image in images]
    given = {"images": encoded, "settings": dict(settings)}
    code, root = (folder / "code").resolve(), folder.resolve()
    try:
        child = subprocess.run(
            [sys.executable, "-I", "-c", _CHILD, str(code), str(root)],
            input=json.dumps(given),
            capture_output=True,
            text=True,
            timeout=TIMEOUT_S,
            check=False,
            # Ctrl-C is for the parent, which finishes publishing.
            start_new_session=True,
        )
    except subprocess.TimeoutExpired as error:
        raise VerificationError(
            f"{folder}: the package did not score {len(images)} images within {TIMEOUT_S} s in a "
            "process of its own. It was not published. Give the machine less to do beside it, or "
            "choose a smaller model or input."
        ) from error
    if child.returncode != 0:
        reason = child.stderr.strip().splitlines()[-1:] or ["no message"]
        raise VerificationError(
            f"{folder}: the package does not load in a clean process: {reason[0]}"
        )
    scored: list[dict[str, Any]] = json.loads(child.stdout)
    return scored
