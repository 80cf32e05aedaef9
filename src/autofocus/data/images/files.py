"""Files of the rows' images, and issues about those that are missing."""

import os
import stat

import msgspec

from autofocus.data.images.fetch import LocateError
from autofocus.data.images.locate import Locator
from autofocus.data.options import ReadOptions
from autofocus.data.rows.issues import Issue, IssueLog

# Missing files that are collected before one `--map` is proposed for them.
_NUM_PENDING = 100
_MAY_BE_MAPPED = (
    "file.missing",
    "url.unmapped_datastore",
    "url.windows_path",
    # Exports name where a photo lay when it was labelled; it may lie in the root by now.
    "url.outside_missing",
)
# Folders of images that are remembered, so that no advice takes them for others'.
_NUM_FOLDERS = 1000


class ImageFiles:
    """Finds the file of each row and reports those that are not there.

    Args:
        options: Image root, maps and the name of the image column.
        log: Takes the issues; those of missing files with a delay, see `flush`.

    Raises:
        LocateError: If a map leads to a folder that is not there.
    """

    def __init__(self, options: ReadOptions, log: IssueLog) -> None:
        self._options = options
        self._log = log
        # A map that leads nowhere is one error, not one a row.
        Locator(os.getcwd(), options.image_root, options.maps)
        self._locators: dict[str, Locator] = {}
        self._pending: list[tuple[Issue, str]] = []
        self._has_advised = False
        self._folders: set[str] = set()

    def find(self, base_dir: str, image_url: str, file: str, line: int | None) -> str | None:
        """Return an image's place, or None after noting why there is none.

        Local files are looked at (a missing one, a folder and an empty one are refused); remote
        ones are taken on trust until their bytes are wanted.

        Args:
            base_dir: Folder that a relative URL starts from.
            image_url: The row's image.
            file: File that the row stands in.
            line: The row's line, or None.
        """
        try:
            location = self.locate(base_dir, image_url)
            _check_local(location)
        except LocateError as error:
            self.refuse(base_dir, image_url, file, line, error)
            return None
        if len(self._folders) < _NUM_FOLDERS:
            self._folders.add(os.path.dirname(location))
        return location

    def locate(self, base_dir: str, image_url: str) -> str:
        """Return an image's place, whether or not there is a file.

        Raises:
            LocateError: If the URL leads nowhere or where it may not.
        """
        if base_dir not in self._locators:
            options = self._options
            self._locators[base_dir] = Locator(base_dir, options.image_root, options.maps)
        return self._locators[base_dir].locate(image_url)

    def refuse(
        self, base_dir: str, image_url: str, file: str, line: int | None, error: LocateError
    ) -> None:
        """Report an image whose file cannot be read."""
        issue = Issue(
            file=file,
            line=line,
            path=self._options.image_column,
            code=error.code,
            severity="error",
            value=None if image_url in error.message else image_url,
            message=f"must lead to an image file: {error.message.rstrip('.')}",
        )
        if error.code in _MAY_BE_MAPPED and not self._has_advised:
            self._pending.append((issue, image_url))
            if len(self._pending) == _NUM_PENDING:
                self._advise(base_dir)
        else:
            self._log.add(issue)

    def flush(self) -> None:
        """Write what is still held back; call it after the last row."""
        if self._pending:
            self._advise(next(iter(self._locators)))

    def _advise(self, base_dir: str) -> None:
        """Log the pending issues, the first of them with the `--map` that would help."""
        urls = [url for _, url in self._pending]
        advice = self._locators[base_dir].suggest(urls, self._folders) or ""
        for issue, _ in self._pending:
            self._log.add(msgspec.structs.replace(issue, hint=advice))
            advice = ""
        self._pending.clear()
        self._has_advised = True


def _check_local(location: str) -> None:
    if "://" in location:
        return
    try:
        status = os.stat(location)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise LocateError("file.missing", f"{location}: no such file.") from error
    except OSError as error:
        raise LocateError("file.unreadable", f"{location}: {error.strerror}.") from error
    if stat.S_ISDIR(status.st_mode):
        raise LocateError("file.directory", f"{location}: is a folder, not an image file.")
    if not status.st_size:
        raise LocateError("image.empty", f"{location}: has no bytes.")
