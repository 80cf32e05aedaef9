"""From a row's `image_url` to a path or URL that can be opened.

Forms of `image_url`, and where they lead:

* `images/a.jpg`                      relative to `--image-root`, by default the JSONL's folder,
                                      which it may not leave
* `/data/a.jpg`, `file:///data/a.jpg` that file
* `azureml://…/datastores/NAME/paths/P`, `azureml://datastores/NAME/paths/P`, `AmlDatastore://NAME/P`
                                      only through `--map NAME=DIR`
* `https://`, `s3://`, `abfs://`, `gs://`  as they are; bytes leave or enter the machine only here

`--map PREFIX=DIR` redirects a datastore's name or any prefix (whole path components) of an
`image_url`, the longest match first; DIR is a folder or one of the remote URLs above.
"""

import os
import re
import sys
import time
import unicodedata
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from urllib.parse import unquote, urlsplit

from autofocus.data.images.fetch import REMOTE_SCHEMES, SCHEME, LocateError, without_query
from autofocus.data.images.urls import (
    DRIVE,
    components,
    datastore,
    prefix_forms,
    rest_after,
    url_forms,
)
from autofocus.errors import JobError

_NUM_SEARCHED_URLS = 200
_NUM_SEARCHED_FILES = 200_000
_SEARCH_S = 3.0


class Locator:
    """Turns each row's `image_url` into a local absolute path or a URL that `open_bytes` opens.

    Args:
        base_dir: Folder of the file that the rows come from.
        image_root: Folder that relative URLs start from and may not leave; `base_dir` when None.
        maps: Datastore name or URL prefix -> folder or remote URL.

    Raises:
        LocateError: If a map leads to a folder that does not exist or to an unknown scheme.
    """

    def __init__(
        self,
        base_dir: str | Path,
        image_root: str | Path | None = None,
        maps: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        self._base_dir = os.path.abspath(base_dir)
        self._root = os.path.abspath(self._base_dir if image_root is None else image_root)
        self._maps = [
            (form, _destination(prefix, directory))
            for prefix, directory in maps.items()
            for form in prefix_forms(prefix)
        ]
        self._real_folders: dict[str, str] = {}
        self._real_roots: dict[str, str] = {}
        # `../images/a.jpg` beside `--image-root ..` means the folder next to the JSONL's own.
        inner = self._base_dir != self._root and self._is_inside(self._real(self._base_dir))
        self._starts = [self._root, self._base_dir] if inner else [self._root]

    def locate(self, image_url: str) -> str:
        """Return the place of `image_url`: a local absolute path (existing or not) or a remote URL.

        Raises:
            LocateError: If it leaves the root, names a datastore without a map, or is no URL that
                can be opened here.
        """
        if not image_url.strip() or "\0" in image_url:
            raise LocateError("url.invalid", f"image_url must name a file, got {image_url!r}.")
        try:
            return self._locate_mapped(image_url) or self._locate_unmapped(image_url)
        except (ValueError, OSError) as error:  # lone surrogates, loops of links
            raise LocateError("url.invalid", f"image_url {image_url!r}: {error}.") from error

    def suggest(self, missing: Sequence[str], used: Collection[str] = ()) -> str | None:
        """Return advice on the `--map` that would find missing images.

        A file that shares nothing but its name with a URL may be another class's: it counts only
        where no other URL ends in that name, and no row's image was found in its folder.

        Args:
            missing: The `image_url`s whose files are not there.
            used: Folders in which other rows' images were found.
        """
        if not missing:
            return None
        sample = list(dict.fromkeys(missing))[:_NUM_SEARCHED_URLS]
        num_of = Counter(components(url)[-1] for url in sample)
        found = self._find_by_name({*num_of})
        votes = Counter(
            _map_between(url, path)
            for url in sample
            for path in _best(url, found)
            if _num_shared(url, path) > 1
            or (num_of[components(url)[-1]] == 1 and os.path.dirname(path) not in used)
        )
        if not votes:
            nothing = f"No file of that name lies under {self._root}."
            if not self._is_locatable(sample[0]):  # the error itself says what to do
                return nothing
            return f"{nothing} Say where the images are with --image-root DIR or --map PREFIX=DIR."
        (prefix, folder), num_found = max(votes.items(), key=lambda vote: (vote[1], vote[0]))
        option = f'--map "{prefix}={folder}"' if prefix else f'--image-root "{folder}"'
        return f"Try {option}: it finds {num_found} of {len(sample)} missing files."

    def _locate_mapped(self, image_url: str) -> str | None:
        matches = [
            (rest, directory)
            for prefix, directory in self._maps
            for form in url_forms(image_url)
            if (rest := rest_after(form, prefix)) is not None
        ]
        if not matches:
            return None
        rest, directory = min(matches, key=lambda match: len(match[0]))
        if not SCHEME.match(directory):
            if image_url.lower().startswith(("http://", "https://")):
                rest = rest.partition("?")[0]  # a signature is no part of a file's name
            return self._place_inside(directory, directory, rest, image_url)
        if ".." in rest.split("/"):
            raise _outside(image_url, directory, None)
        return f"{directory.rstrip('/')}/{rest}"

    def _locate_unmapped(self, image_url: str) -> str:
        if image_url.lower().startswith("file:"):
            return _file_url(image_url)
        if match := SCHEME.match(image_url):
            return _check_remote(image_url, match[1].lower())
        if DRIVE.match(image_url) or image_url.startswith("\\\\"):
            return _windows_path(image_url)
        if os.path.isabs(image_url):
            return os.path.abspath(_spelling(image_url, ""))
        return self._locate_relative(image_url)

    def _locate_relative(self, image_url: str) -> str:
        if len(self._starts) == 1:
            return self._place_inside(self._root, self._root, image_url, image_url)
        problem: LocateError | None = None
        place = ""
        for start in self._starts:
            try:
                inside = self._place_inside(self._root, start, image_url, image_url)
            except LocateError as error:
                problem = problem or error
                continue
            if os.path.exists(inside):
                return inside
            place = place or inside
        if place:
            return place
        assert problem is not None
        raise problem

    def _place_inside(self, root: str, start: str, rest: str, image_url: str) -> str:
        place = os.path.abspath(os.path.join(start, _spelling(rest.lstrip("/"), start)))
        real = self._real(place)
        if not self._is_inside(real, root):
            raise _outside(image_url, root, real)
        return place

    def _real(self, place: str) -> str:
        """Return `os.path.realpath(place)`, resolving each folder only once."""
        folder, name = os.path.split(place)
        if folder not in self._real_folders:
            self._real_folders[folder] = os.path.realpath(folder)
        real = os.path.join(self._real_folders[folder], name)
        return os.path.realpath(real) if os.path.islink(real) else real

    def _is_inside(self, real: str, root: str | None = None) -> bool:
        root = root or self._root
        if root not in self._real_roots:
            self._real_roots[root] = os.path.normcase(self._real(root)).rstrip(os.sep) + os.sep
        return os.path.normcase(real + os.sep).startswith(self._real_roots[root])

    def _is_locatable(self, image_url: str) -> bool:
        try:
            self.locate(image_url)
        except LocateError:
            return False
        return True

    def _find_by_name(self, names: set[str]) -> dict[str, list[str]]:
        """Return the files under the roots that have one of `names`, bounded in count and time."""
        found: dict[str, list[str]] = {}
        folders = [directory for _, directory in self._maps if not SCHEME.match(directory)]
        for path in _walk([self._root, self._base_dir, *folders]):
            name = os.path.basename(path)
            if name in names and len(found.setdefault(name, [])) < 100:
                found[name].append(path)
        return found


def parse_map(text: str) -> tuple[str, str]:
    """Split the flag value `PREFIX=DIR`.

    Both sides may hold '=' themselves (queries, `year=2020` folders): the first one followed by
    what can only be a destination (an absolute path, a URL, an existing folder) is the divider.

    Raises:
        JobError: If there is no '=' or a side is empty.
    """
    divisions = [
        (text[:at].strip(), text[at + 1 :].strip()) for at, char in enumerate(text) if char == "="
    ]
    whole = [(prefix, directory) for prefix, directory in divisions if prefix and directory]
    if not whole:
        raise JobError(
            f"--map must be PREFIX=DIR (a datastore's name or a URL prefix, then a folder or URL), "
            f"got {text!r}. Example: --map workspaceblobstore=/data/images"
        )
    return next((pair for pair in whole if _is_destination(pair[1])), whole[0])


def parse_maps(entries: Iterable[str]) -> dict[str, str]:
    """Return `--map` flags as one mapping of prefixes to destinations.

    Raises:
        JobError: Names every flag that is not PREFIX=DIR.
    """
    maps: dict[str, str] = {}
    problems: list[str] = []
    for entry in entries:
        try:
            prefix, directory = parse_map(entry)
        except JobError as error:
            problems += error.problems
        else:
            maps[prefix] = directory
    if problems:
        raise JobError(problems)
    return maps


def _destination(prefix: str, directory: str) -> str:
    if match := SCHEME.match(directory):
        return _check_remote(directory, match[1].lower())
    folder = os.path.abspath(os.path.expanduser(directory))
    if not os.path.isdir(folder):
        raise LocateError(
            "map.missing_folder", f"--map {prefix}={directory}: there is no folder {folder}."
        )
    return folder


def _is_destination(text: str) -> bool:
    return bool(
        os.path.isabs(text)
        or SCHEME.match(text)
        or DRIVE.match(text)
        or text.startswith(("~", "./", "../", ".\\", "..\\"))
        or os.path.isdir(text)
    )


def _check_remote(url: str, scheme: str) -> str:
    if scheme in REMOTE_SCHEMES:
        return url
    if match := datastore(url):
        raise LocateError(
            "url.unmapped_datastore",
            f"{url}: where the datastore {match[0]!r} lies is not known here. "
            f"Say it with --map {match[0]}=DIR (a folder or URL with the datastore's content).",
        )
    raise LocateError(
        "url.unknown_scheme",
        f"{without_query(url)}: image_url must be a path or one of file, azureml, "
        f"{', '.join(name for name in REMOTE_SCHEMES if name != 'memory')}, got {scheme!r}. "
        f"Map it to a folder with --map {scheme}://…=DIR.",
    )


def _file_url(image_url: str) -> str:
    parts = urlsplit(image_url, allow_fragments=False)
    path = unquote(parts.path + (f"?{parts.query}" if parts.query else ""))
    host = parts.netloc
    if DRIVE.match(f"{host}{path}"):  # file://C:/a.jpg, meant as file:///C:/a.jpg
        return _windows_path(f"{host}{path}")
    if DRIVE.match(path[1:]):
        return _windows_path(path[1:])
    if host and host.lower() != "localhost":
        if sys.platform == "win32":
            return os.path.abspath(f"//{host}{path}")
        raise LocateError(
            "url.invalid",
            f"{image_url}: names the machine {host!r}. A file on this one is file:///absolute/path.",
        )
    if not path.startswith("/"):
        raise LocateError("url.invalid", f"{image_url}: must be file:///absolute/path.")
    return os.path.abspath(path)


def _windows_path(path: str) -> str:
    if sys.platform == "win32":
        return os.path.abspath(path)
    folder = path.replace("/", "\\").rpartition("\\")[0]
    raise LocateError(
        "url.windows_path",
        f"{path}: is a path of a Windows machine. Say where its folder lies here with "
        f'--map "{folder}=DIR".',
    )


def _spelling(path: str, start: str) -> str:
    """Return the spelling of `path` under which there is a file: as is, '\\' as '/', unquoted."""
    if "\\" not in path and "%" not in path:
        return normal_form(path, start)
    slashed = path.replace("\\", "/")
    if os.path.lexists(os.path.join(start, path)):
        return path
    plain = normal_form(unquote(slashed), start)
    return plain if os.path.lexists(os.path.join(start, plain)) else normal_form(slashed, start)


def normal_form(path: str, start: str | Path) -> str:
    """Return `path`, or its other Unicode form where only that is in the folder `start`.

    macOS takes characters apart (e and its accent) that other systems write whole.
    """
    if path.isascii() or os.path.lexists(os.path.join(start, path)):
        return path
    forms = (unicodedata.normalize(form, path) for form in ("NFC", "NFD"))
    return next((form for form in forms if os.path.lexists(os.path.join(start, form))), path)


def _outside(image_url: str, root: str, real: str | None) -> LocateError:
    rule = f"{image_url!r} must stay inside {root}"
    if real is None:
        why = f"{rule}. Use a map whose folder holds the image."
        return LocateError("url.outside_root", why)
    if not os.path.exists(real):
        return LocateError("url.outside_missing", f"{rule}, it leads to {real}: no such file.")
    return LocateError(
        "url.outside_root", f"{rule}, it leads to {real}. {_way_out(image_url, root, real)}"
    )


def _way_out(image_url: str, root: str, real: str) -> str:
    """Return the option with which `image_url` leads to the file `real` outside of `root`."""
    folder, name = os.path.split(real)
    *above, last = components(image_url)
    if common := _common_folder(root, real):
        option = f'--image-root "{common}"'
    elif last != name:
        return "Name that file itself in the row."
    elif above:
        option = f'--map "{"/".join(above)}={folder}"'
    else:
        option = f'--image-root "{folder}"'
    return f"If that is meant, allow it with {option}."


def _common_folder(root: str, real: str) -> str | None:
    try:
        common = os.path.commonpath([os.path.realpath(root), real])
    except ValueError:  # two drives
        return None
    return None if os.path.dirname(common) == common else common


def _best(url: str, found: Mapping[str, list[str]]) -> list[str]:
    """Return the found file that shares the most trailing components with `url`, or nothing."""
    candidates = found.get(components(url)[-1], [])
    if not candidates:
        return []
    return [max(candidates, key=lambda path: (_num_shared(url, path), -len(path), path))]


def _num_shared(url: str, path: str) -> int:
    pairs = zip(reversed(components(url)), reversed(components(path)), strict=False)
    return next((i for i, (left, right) in enumerate(pairs) if left != right), 1)


def _map_between(url: str, path: str) -> tuple[str, str]:
    num_shared = _num_shared(url, path)
    prefix = "/".join(components(url)[:-num_shared])
    folder = os.sep.join(re.split(r"[\\/]", path)[:-num_shared]) or os.sep
    match = datastore(prefix)
    if match and not match[1]:
        return match[0], folder
    return ("\\".join(components(url)[:-num_shared]) if DRIVE.match(url) else prefix), folder


def _walk(roots: Sequence[str]) -> Iterator[str]:
    deadline = time.monotonic() + _SEARCH_S
    num_left = _NUM_SEARCHED_FILES
    for root in dict.fromkeys(roots):
        for folder, folders, names in os.walk(root):
            folders[:] = sorted(name for name in folders if not name.startswith("."))
            for name in names:
                yield os.path.join(folder, name)
            num_left -= len(names)
            if num_left <= 0 or time.monotonic() > deadline:
                return
