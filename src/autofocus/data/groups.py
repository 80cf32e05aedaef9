"""Groups of images that are one piece of evidence: copies, near-duplicates, a column's value.

Images of one group share a fold and a side of every split: what was learnt from one says nothing
new about the others.
"""

from collections import Counter
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from autofocus.data.images.near_duplicates import near_duplicates

# Copies come in few. Where more images than this look alike, a tenth of all or half of a small set,
# they were taken from one place (a conveyor, a microscope): looks do not tell copies from others.
MAX_ALIKE, MAX_ALIKE_SHARE, MAX_ALIKE_OF_FEW = 8, 0.1, 0.5


@dataclass(frozen=True)
class Groups:
    """Groups of n images.

    Attributes:
        of_image: Each image's group, [n]: the position of the group's first image.
        near_duplicates: Pairs of positions that show one photo without being equal.
        num_alike: Images that look so much alike that near-duplicates among them cannot be told.
    """

    of_image: list[int]
    near_duplicates: list[tuple[int, int]]
    num_alike: int


def group_images(
    hashes: Sequence[str], thumbnails: NDArray[np.uint8], names: Sequence[str | None]
) -> Groups:
    """Put images into groups.

    Args:
        hashes: Content hash of each image, [n].
        thumbnails: `near_duplicates.thumbnail` of each image, uint8 [n, b].
        names: Group that its row names, [n]; None where it names none.
    """
    copies = _joined(len(hashes), _equal_pairs(hashes))
    firsts = np.unique(np.array(copies, np.int64))
    pairs = [(int(firsts[i]), int(firsts[j])) for i, j in near_duplicates(thumbnails[firsts])]
    alike = _joined(len(hashes), pairs)
    num_of = Counter(alike[i] for i in firsts)
    num = len(firsts)
    most = min(max(MAX_ALIKE, MAX_ALIKE_SHARE * num), max(2, MAX_ALIKE_OF_FEW * num))
    kept = [(i, j) for i, j in pairs if num_of[alike[i]] <= most]
    return Groups(
        of_image=_joined(len(hashes), [*_equal_pairs(hashes), *_equal_pairs(names), *kept]),
        near_duplicates=kept,
        num_alike=sum(num for num in num_of.values() if num > most),
    )


def _equal_pairs(keys: Sequence[Hashable | None]) -> list[tuple[int, int]]:
    """Return each position with the first one of the same key; None is no key."""
    first: dict[Hashable, int] = {}
    return [(first.setdefault(key, i), i) for i, key in enumerate(keys) if key is not None]


def _joined(num: int, pairs: Iterable[tuple[int, int]]) -> list[int]:
    """Return the smallest position that each position is joined to, over any number of pairs."""
    parent = list(range(num))

    def first(i: int) -> int:
        while parent[i] != i:
            parent[i] = i = parent[parent[i]]
        return i

    for pair in pairs:
        low, high = sorted(map(first, pair))
        parent[high] = low
    return [first(i) for i in range(num)]
