"""What every worker process is told."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from autofocus.scoring.request import ImageScorer
from autofocus.serve.explainer import Address, LoadExplainer
from autofocus.serve.settings import Settings


@dataclass(frozen=True)
class ServerPlan:
    """A server to be: model, limits, keys. Travels to new processes.

    Attributes:
        folder: The model folder.
        keys: Digests of the allowed keys; none serves everybody.
        load: Loads the model from `folder` with a limit of pixels; a function of a module, so
            that it travels.
        load_explainer: The same for explanations; None serves none.
        explainer: Where the explaining process listens; None where there is none. Filled in by
            `run.serve`.
        no_explanations: Why there is none.
    """

    folder: Path
    settings: Settings
    keys: list[bytes]
    load: Callable[[Path, int | None], ImageScorer]
    load_explainer: LoadExplainer | None = None
    explainer: Address | None = None
    no_explanations: str = "This server gives no explanations."
