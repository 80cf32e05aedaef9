"""Names of the files that a command writes, one after a source or a label."""

import re

# What a file system takes in one name is 255 bytes, mostly.
_MAX_BYTES = 100


class FileNames:
    """Gives names that no other file of this run got, in any case of letters."""

    def __init__(self) -> None:
        self._taken: set[str] = set()

    def give(self, wanted: str) -> str:
        """Return the name that was wanted, with a number behind it where it is taken."""
        name, number = wanted, 1
        while name.casefold() in self._taken:
            number += 1
            name = f"{wanted}-{number}"
        self._taken.add(name.casefold())
        return name


def file_name(text: str) -> str:
    """Return a text with whatever a file system may not like replaced, and not too long."""
    short = text.encode("utf-8", "replace")[:_MAX_BYTES].decode(errors="ignore")
    return re.sub(r"[^\w. -]+", "_", short) or "_"
