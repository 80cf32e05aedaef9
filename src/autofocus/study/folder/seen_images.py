"""The images that a run has seen: one that was replaced under its name is other data.

What rows say is known before the first image is read, what images show only as they are decoded.
Then each is written down, with its hash and with a tag that tells later whether it must be read to
know if it is the same: none is read for this alone, but those whose tags changed.
"""

from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import orjson

from autofocus.data.images.fetch import (
    LocateError,
    content_hash,
    open_bytes,
    tag_of,
    without_query,
)
from autofocus.errors import RunFolderError
from autofocus.runtime import write_atomically

WAY_ON = "Give another --output-dir, or --overwrite to start anew."
# Images in a store, evenly spread, that are asked for their tags: each is a request.
_MOST_ASKED = 1000
_NUM_AT_ONCE = 16


class SeenImages:
    """Tags and hashes of images by their place, in one file.

    Args:
        path: The file; there is none before the first images.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def note(self, locations: Sequence[str], tags: Sequence[str], hashes: Sequence[str]) -> None:
        """Add images that were read.

        Args:
            locations: Paths or URLs of n images.
            tags: Their tags, as they were read.
            hashes: Their content hashes.

        Raises:
            RunFolderError: If the run has seen others under these names.
        """
        known = self._read()
        new = dict(zip(locations, zip(tags, hashes, strict=True), strict=True))
        both = new.keys() & known.keys()
        self._refuse([place for place in both if new[place][1] != known[place][1]])
        write_atomically(self._path, orjson.dumps({**known, **new}))

    def refuse_changed(self, locations: Iterable[str]) -> None:
        """Check that images are those that the run has seen.

        Those that it has not seen, or that cannot be read now, change nothing. Of very many in a
        store some are looked at.

        Args:
            locations: Paths or URLs of images.

        Raises:
            RunFolderError: If some are others now.
        """
        known = self._read()
        seen = [place for place in dict.fromkeys(locations) if place in known]
        local = [place for place in seen if "://" not in place and _may_differ(place, known)]
        remote = [place for place in seen if "://" in place]
        num_asked = min(len(remote), _MOST_ASKED)
        places = [*local, *(remote[i * len(remote) // num_asked] for i in range(num_asked))]
        with ThreadPoolExecutor(_NUM_AT_ONCE) as pool:
            others = pool.map(lambda place: _is_another(place, known), places)
            self._refuse([place for place, is_new in zip(places, others, strict=True) if is_new])

    def forget(self) -> None:
        """Begin anew: what a run saw that left nothing does not matter."""
        self._path.unlink(missing_ok=True)

    def _read(self) -> dict[str, tuple[str, str]]:
        try:
            known: dict[str, tuple[str, str]] = orjson.loads(self._path.read_bytes())
        except FileNotFoundError:
            return {}
        return known

    def _refuse(self, changed: Sequence[str]) -> None:
        if changed:
            num_changed = len(changed)
            what = "1 image is another" if num_changed == 1 else f"{num_changed} images are others"
            raise RunFolderError(
                f"{self._path.parent}: holds a run of other data (the data changed: {what} "
                f"than before, such as {without_query(min(changed))}). {WAY_ON}"
            )


def _may_differ(place: str, known: Mapping[str, tuple[str, str]]) -> bool:
    """Return whether an image's tag has changed."""
    tag, now = known[place][0], tag_of(place)
    return "" not in (tag, now) and tag != now


def _is_another(place: str, known: Mapping[str, tuple[str, str]]) -> bool:
    """Return whether an image is another than the one that is known."""
    try:
        return _may_differ(place, known) and content_hash(open_bytes(place)) != known[place][1]
    except LocateError:  # its row is lost, which the run says
        return False
