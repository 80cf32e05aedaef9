"""From a row's `image_url` to something that can be opened, and from that to bytes.

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

import http.client
import os
import re
import stat
import sys
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import BinaryIO
from urllib.parse import quote, unquote, urlsplit

from autofocus.errors import DataError, JobError

MAX_BYTES = 1 << 29
HTTP_TIMEOUT_S = 30.0

# Scheme -> the extra of this package that brings its fsspec backend; None where none is needed.
_REMOTE_SCHEMES: dict[str, str | None] = {
    "http": None,
    "https": None,
    "memory": None,
    "abfs": "azure",
    "abfss": "azure",
    "az": "azure",
    "s3": "s3",
    "s3a": "s3",
    "gs": "gcs",
    "gcs": "gcs",
}
_SCHEME = re.compile(r"([a-z][a-z0-9+.-]+)://", re.IGNORECASE)
_DRIVE = re.compile(r"[a-z]:[\\/]", re.IGNORECASE)
_WORKSPACE = re.compile(
    r"azureml://subscriptions/([^/]+)/resourcegroups/([^/]+)/"
    r"(?:providers/[^/]+/)?workspaces/([^/]+)/",
    re.IGNORECASE,
)
_DATASTORE = re.compile(r"azureml://datastores/([^/]+)(?:/paths)?(?:/(.*))?$", re.IGNORECASE)
_OLD_DATASTORE = re.compile(r"amldatastore://([^/]+)(?:/(.*))?$", re.IGNORECASE)
_PLAIN_NAME = re.compile(r"[\w.-]+$")
_URL_SAFE = "%/:=&?~#+!$,;'@()*[]|"

_NUM_SEARCHED_URLS = 200
_NUM_SEARCHED_FILES = 200_000
_SEARCH_S = 3.0


class LocateError(DataError):
    """An `image_url` leads nowhere, somewhere it may not, or to what is not a readable file.

    Args:
        code: Stable machine name, such as `url.outside_root`.
        message: Rule, value and next step, for a person.
    """

    def __init__(self, code: str, message: str) -> None:
        self.code = code
        self.message = message
        super().__init__(message)


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
            for form in _prefix_forms(prefix)
        ]
        self._real_folders: dict[str, str] = {}

    def locate(self, image_url: str) -> str:
        """Return where `image_url` is: a local absolute path (existing or not) or a remote URL.

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

    def suggest(self, missing: Sequence[str]) -> str | None:
        """Say where the first missing image was looked for and which `--map` would find it.

        Args:
            missing: The `image_url`s whose files are not there.
        """
        if not missing:
            return None
        sample = list(dict.fromkeys(missing))[:_NUM_SEARCHED_URLS]
        tried = self._tried(sample[0])
        found = self._find_by_name({_components(url)[-1] for url in sample})
        votes = Counter(_map_between(url, path) for url in sample for path in _best(url, found))
        if not votes:
            return (
                f"{tried} No file of that name lies under {self._root}. "
                "Say where the images are with --image-root DIR or --map PREFIX=DIR."
            )
        (prefix, folder), num_found = max(votes.items(), key=lambda vote: (vote[1], vote[0]))
        option = f'--map "{prefix}={folder}"' if prefix else f'--image-root "{folder}"'
        return f"{tried} Try {option}: it finds {num_found} of {len(sample)} missing files."

    def _locate_mapped(self, image_url: str) -> str | None:
        matches = [
            (rest, directory)
            for prefix, directory in self._maps
            for form in _url_forms(image_url)
            if (rest := _rest_after(form, prefix)) is not None
        ]
        if not matches:
            return None
        rest, directory = min(matches, key=lambda match: len(match[0]))
        if not _SCHEME.match(directory):
            if image_url.lower().startswith(("http://", "https://")):
                rest = rest.partition("?")[0]  # a signature is no part of a file's name
            return self._place_inside(directory, directory, rest, image_url)
        if ".." in rest.split("/"):
            raise _outside(image_url, directory, None)
        return f"{directory.rstrip('/')}/{rest}"

    def _locate_unmapped(self, image_url: str) -> str:
        if image_url.lower().startswith("file:"):
            return _file_url(image_url)
        if match := _SCHEME.match(image_url):
            return _check_remote(image_url, match[1].lower())
        if _DRIVE.match(image_url) or image_url.startswith("\\\\"):
            return _windows_path(image_url)
        if os.path.isabs(image_url):
            return os.path.abspath(_spelling(image_url, ""))
        return self._locate_relative(image_url)

    def _locate_relative(self, image_url: str) -> str:
        starts = [self._root]
        # `../images/a.jpg` beside `--image-root ..` means the folder next to the JSONL's own.
        if self._is_inside(self._real(self._base_dir), self._root):
            starts.append(self._base_dir)
        problem: LocateError | None = None
        place = ""
        for start in dict.fromkeys(starts):
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

    def _is_inside(self, real: str, root: str) -> bool:
        real_root = os.path.normcase(self._real(root)).rstrip(os.sep)
        return os.path.normcase(real + os.sep).startswith(real_root + os.sep)

    def _tried(self, image_url: str) -> str:
        try:
            return f"{_shown(image_url)!r} was looked for at {_shown(self.locate(image_url))}."
        except LocateError as error:
            return error.message

    def _find_by_name(self, names: set[str]) -> dict[str, list[str]]:
        """Return the files under the roots that have one of `names`, bounded in count and time."""
        found: dict[str, list[str]] = {}
        folders = [directory for _, directory in self._maps if not _SCHEME.match(directory)]
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


def open_bytes(location: str) -> bytes:
    """Read what `Locator.locate` returned.

    Raises:
        LocateError: If it is missing, a folder, not a regular file, larger than 512 MiB, not
            reachable, or needs a package that is not installed.
    """
    match = _SCHEME.match(location)
    if match is None:
        return _read_file(location)
    scheme = match[1].lower()
    if scheme in ("http", "https"):
        return _read_http(location)
    return _read_remote(location, scheme)


def _read_file(path: str) -> bytes:
    try:
        status = os.stat(path)
        if stat.S_ISDIR(status.st_mode):
            raise LocateError("file.directory", f"{path}: is a folder, not an image file.")
        if not stat.S_ISREG(status.st_mode):
            raise LocateError("file.not_regular", f"{path}: is a pipe or device, not a file.")
        if status.st_size > MAX_BYTES:
            raise _too_large(path)
        with open(path, "rb") as file:
            return _read_bounded(file, path)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise LocateError("file.missing", f"{path}: no such file.") from error
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise LocateError("file.unreadable", f"{path}: cannot be read: {reason}.") from error


def _read_http(url: str) -> bytes:
    shown = _shown(url)
    try:
        with urllib.request.urlopen(quote(url, safe=_URL_SAFE), timeout=HTTP_TIMEOUT_S) as reply:
            return _read_bounded(reply, shown)
    except urllib.error.HTTPError as error:
        error.close()
        codes = {404: "file.missing", 410: "file.missing", 401: "file.unreadable"}
        code = codes.get(error.code, "file.unreadable" if error.code == 403 else "url.unreachable")
        raise LocateError(code, f"{shown}: the server answered {error.code}.") from error
    except (OSError, ValueError, http.client.HTTPException) as error:
        reason = getattr(error, "reason", error)
        raise LocateError("url.unreachable", f"{shown}: cannot be fetched: {reason}.") from error


def _read_remote(url: str, scheme: str) -> bytes:
    # fsspec takes 50 ms to import; local data never needs it.
    import fsspec

    shown = _shown(url)
    try:
        with fsspec.open(url, "rb") as file:
            return _read_bounded(file, shown)
    except LocateError:
        raise
    except ImportError as error:
        extra = _REMOTE_SCHEMES.get(scheme)
        raise LocateError(
            "url.needs_extra", f"{shown}: {scheme}:// needs one more package: {_install(extra)}"
        ) from error
    except FileNotFoundError as error:
        raise LocateError("file.missing", f"{shown}: no such object.") from error
    except IsADirectoryError as error:
        raise LocateError("file.directory", f"{shown}: is a folder, not an image.") from error
    except Exception as error:  # every cloud backend raises types of its own
        raise LocateError(
            "url.unreachable", f"{shown}: cannot be fetched: {type(error).__name__}: {error}"
        ) from error


def _install(extra: str | None) -> str:
    return f"pip install '.[{extra}]'" if extra else "pip install fsspec"


def _read_bounded(file: BinaryIO, name: str) -> bytes:
    data = file.read(MAX_BYTES + 1)
    if len(data) > MAX_BYTES:
        raise _too_large(name)
    return data


def _too_large(name: str) -> LocateError:
    return LocateError("file.too_large", f"{name}: an image file may have at most 512 MiB.")


def _url_forms(image_url: str) -> list[str]:
    """Return the spellings of one URL that a map's prefix is compared with."""
    url = image_url if _SCHEME.match(image_url) else image_url.replace("\\", "/")
    if not (match := _datastore(url)):
        return [_fold_drive(url)]
    name, path = match
    short = f"azureml://datastores/{name}/paths/{path}"
    return [short, f"{_workspace(url)}datastores/{name}/paths/{path}"]


def _prefix_forms(prefix: str) -> list[str]:
    """Return what a map's key stands for; a bare name is a datastore and a relative folder."""
    if match := _datastore(prefix):
        return [f"{_workspace(prefix)}datastores/{match[0]}/paths/{match[1]}".rstrip("/")]
    plain = _fold_drive(prefix.replace("\\", "/") if "\\" in prefix else prefix)
    forms = [plain.rstrip("/") or "/"]
    if _PLAIN_NAME.match(prefix):
        forms.append(f"azureml://datastores/{prefix}/paths")
    return forms


def _datastore(url: str) -> tuple[str, str] | None:
    short = _WORKSPACE.sub("azureml://", url, count=1)
    match = _DATASTORE.match(short) or _OLD_DATASTORE.match(short)
    return (match[1], match[2] or "") if match else None


def _workspace(url: str) -> str:
    match = _WORKSPACE.match(url)
    if not match:
        return "azureml://"
    return (
        f"azureml://subscriptions/{match[1].lower()}/resourcegroups/{match[2].lower()}"
        f"/workspaces/{match[3].lower()}/"
    )


def _fold_drive(path: str) -> str:
    # The same drive is written both ways, whatever machine reads the path now.
    return path[0].lower() + path[1:] if _DRIVE.match(path) else path


def _rest_after(url: str, prefix: str) -> str | None:
    if url == prefix:
        return ""
    edge = prefix if prefix.endswith("/") else prefix + "/"
    return url[len(edge) :].lstrip("/") if url.startswith(edge) else None


def _destination(prefix: str, directory: str) -> str:
    if match := _SCHEME.match(directory):
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
        or _SCHEME.match(text)
        or _DRIVE.match(text)
        or text.startswith(("~", "./", "../", ".\\", "..\\"))
        or os.path.isdir(text)
    )


def _check_remote(url: str, scheme: str) -> str:
    if scheme in _REMOTE_SCHEMES:
        return url
    if match := _datastore(url):
        raise LocateError(
            "url.unmapped_datastore",
            f"{url}: where the datastore {match[0]!r} lies is not known here. "
            f"Say it with --map {match[0]}=DIR (a folder or URL with the datastore's content).",
        )
    raise LocateError(
        "url.unknown_scheme",
        f"{_shown(url)}: image_url must be a path or one of file, azureml, "
        f"{', '.join(name for name in _REMOTE_SCHEMES if name != 'memory')}, got {scheme!r}. "
        f"Map it to a folder with --map {scheme}://…=DIR.",
    )


def _file_url(image_url: str) -> str:
    parts = urlsplit(image_url, allow_fragments=False)
    path = unquote(parts.path + (f"?{parts.query}" if parts.query else ""))
    host = parts.netloc
    if _DRIVE.match(f"{host}{path}"):  # file://C:/a.jpg, meant as file:///C:/a.jpg
        return _windows_path(f"{host}{path}")
    if _DRIVE.match(path[1:]):
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
        return path
    slashed = path.replace("\\", "/")
    if os.path.lexists(os.path.join(start, path)):
        return path
    plain = unquote(slashed)
    return plain if os.path.lexists(os.path.join(start, plain)) else slashed


def _outside(image_url: str, root: str, real: str | None) -> LocateError:
    place, allow = "", "Use a map whose folder holds the image."
    if real is not None:
        folder = _common_folder(root, real) or os.path.dirname(real)
        place = f", it leads to {real}"
        allow = f'If that is meant, allow it with --image-root "{folder}".'
    return LocateError("url.outside_root", f"{image_url!r} must stay inside {root}{place}. {allow}")


def _common_folder(root: str, real: str) -> str | None:
    try:
        common = os.path.commonpath([os.path.realpath(root), real])
    except ValueError:  # two drives
        return None
    return None if os.path.dirname(common) == common else common


def _shown(url: str) -> str:
    """Return `url` without its query, which often holds a signature that opens the store."""
    return url.partition("?")[0] if _SCHEME.match(url) else url


def _components(path: str) -> list[str]:
    short = _url_forms(path)[0] if _datastore(path) else path
    plain = unquote(_shown(short)) if _SCHEME.match(short) else short
    return re.split(r"[\\/]", plain)


def _best(url: str, found: Mapping[str, list[str]]) -> list[str]:
    """Return the found file that shares the most trailing components with `url`, or nothing."""
    candidates = found.get(_components(url)[-1], [])
    if not candidates:
        return []
    return [max(candidates, key=lambda path: (_num_shared(url, path), -len(path), path))]


def _num_shared(url: str, path: str) -> int:
    pairs = zip(reversed(_components(url)), reversed(_components(path)), strict=False)
    return next((i for i, (left, right) in enumerate(pairs) if left != right), 1)


def _map_between(url: str, path: str) -> tuple[str, str]:
    num_shared = _num_shared(url, path)
    prefix = "/".join(_components(url)[:-num_shared])
    folder = os.sep.join(re.split(r"[\\/]", path)[:-num_shared]) or os.sep
    match = _datastore(prefix)
    if match and not match[1]:
        return match[0], folder
    return ("\\".join(_components(url)[:-num_shared]) if _DRIVE.match(url) else prefix), folder


def _walk(roots: Sequence[str]) -> Iterator[str]:
    deadline = time.monotonic() + _SEARCH_S
    num_left = _NUM_SEARCHED_FILES
    for root in dict.fromkeys(roots):
        for folder, folders, names in os.walk(root):
            folders.sort()
            for name in names:
                yield os.path.join(folder, name)
            num_left -= len(names)
            if num_left <= 0 or time.monotonic() > deadline:
                return
