"""The label map: which class has which index."""

import unicodedata
from collections.abc import Iterable, Sequence


def label_map(*names: Iterable[str]) -> list[str]:
    """Return the union of class names, sorted by code point.

    `probs`, tables, the manifest and the ONNX outputs share this order.

    Args:
        names: Class names of each data set, with repetitions.
    """
    return sorted(set().union(*names))


def similar_labels(labels: Sequence[str]) -> list[tuple[str, ...]]:
    """Return groups of class names that differ only in case, Unicode form, or spaces, `_` and `-`.

    Such names are more often typing errors than classes of their own.
    """
    groups: dict[str, list[str]] = {}
    for label in labels:
        plain = unicodedata.normalize("NFKC", label).casefold().replace("_", "").replace("-", "")
        groups.setdefault("".join(plain.split()) or label, []).append(label)
    return [tuple(group) for group in groups.values() if len(group) > 1]
