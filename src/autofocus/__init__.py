"""autofocus: AutoML for images that you run yourself.

    import autofocus
    result = autofocus.train(data="annotations.jsonl", task="image_classification")
    autofocus.load(result["best_model"]).score([open("a.jpg", "rb").read()])

Names resolve on first use: importing the package imports neither torch nor OpenCV.
"""

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from autofocus.api import load, train

__all__ = ["__version__", "load", "train"]


def __getattr__(name: str) -> Any:
    if name in ("load", "train"):
        from autofocus import api

        return getattr(api, name)
    raise AttributeError(f"module 'autofocus' has no attribute {name!r}")
