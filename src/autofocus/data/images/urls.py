"""Spellings of one `image_url`, which a map's prefix is compared with."""

import re
from urllib.parse import unquote

from autofocus.data.images.fetch import SCHEME, without_query

DRIVE = re.compile(r"[a-z]:[\\/]", re.IGNORECASE)
_WORKSPACE = re.compile(
    r"azureml://subscriptions/([^/]+)/resourcegroups/([^/]+)/"
    r"(?:providers/[^/]+/)?workspaces/([^/]+)/",
    re.IGNORECASE,
)
_DATASTORE = re.compile(r"azureml://datastores/([^/]+)(?:/paths)?(?:/(.*))?$", re.IGNORECASE)
_OLD_DATASTORE = re.compile(r"amldatastore://([^/]+)(?:/(.*))?$", re.IGNORECASE)
_PLAIN_NAME = re.compile(r"[\w.-]+$")


def url_forms(image_url: str) -> list[str]:
    """Return the spellings of one URL that a map's prefix is compared with."""
    url = image_url if SCHEME.match(image_url) else image_url.replace("\\", "/")
    if not (match := datastore(url)):
        return [_fold_drive(url)]
    name, path = match
    short = f"azureml://datastores/{name}/paths/{path}"
    return [short, f"{_workspace(url)}datastores/{name}/paths/{path}"]


def prefix_forms(prefix: str) -> list[str]:
    """Return the prefixes of a map's key; a bare name is a datastore and a relative folder."""
    if match := datastore(prefix):
        return [f"{_workspace(prefix)}datastores/{match[0]}/paths/{match[1]}".rstrip("/")]
    plain = _fold_drive(prefix.replace("\\", "/") if "\\" in prefix else prefix)
    forms = [plain.rstrip("/") or "/"]
    if _PLAIN_NAME.match(prefix):
        forms.append(f"azureml://datastores/{prefix}/paths")
    return forms


def datastore(url: str) -> tuple[str, str] | None:
    """Return the name and the path inside it if `url` points into an Azure datastore."""
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
    return path[0].lower() + path[1:] if DRIVE.match(path) else path


def rest_after(url: str, prefix: str) -> str | None:
    """Return the rest of `url` after `prefix`, or None where it does not end a path component."""
    if url == prefix:
        return ""
    edge = prefix if prefix.endswith("/") else prefix + "/"
    return url[len(edge) :].lstrip("/") if url.startswith(edge) else None


def components(path: str) -> list[str]:
    """Split a path or URL at its slashes, unquoted and without a query."""
    short = url_forms(path)[0] if datastore(path) else path
    plain = unquote(without_query(short)) if SCHEME.match(short) else short
    return re.split(r"[\\/]", plain)
