import os
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote

import fsspec
import pytest

from autofocus.data.images import fetch, locate
from autofocus.data.images.fetch import LocateError, open_bytes
from autofocus.data.images.locate import Locator, parse_map, parse_maps
from autofocus.errors import JobError

LONG = "azureml://subscriptions/S1/resourceGroups/rg/workspaces/ws/datastores/ds/paths"
posix = pytest.mark.skipif(sys.platform == "win32", reason="paths of the other kind of machine")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "set"
    for name in ("images/a.jpg", "images/sub dir/b c.jpg", "images/50%.jpg", "all/can/1.jpg"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(name.encode())
    (tmp_path / "outside.jpg").write_bytes(b"outside")
    return folder


def fails(locator: Locator, image_url: str) -> LocateError:
    with pytest.raises(LocateError) as caught:
        locator.locate(image_url)
    return caught.value


@pytest.mark.parametrize(
    ("image_url", "name"),
    [
        ("images/a.jpg", "images/a.jpg"),
        ("./images/../images/a.jpg", "images/a.jpg"),
        ("images/sub dir/b c.jpg", "images/sub dir/b c.jpg"),
        ("images/sub%20dir/b%20c.jpg", "images/sub dir/b c.jpg"),
        ("images/50%.jpg", "images/50%.jpg"),
        ("images\\a.jpg", "images/a.jpg"),
        ("images\\sub%20dir\\b c.jpg", "images/sub dir/b c.jpg"),
        ("images/not there.jpg", "images/not there.jpg"),
        ("not\\there.jpg", "not/there.jpg"),
    ],
)
def test_relative_urls_start_at_the_base_dir(root: Path, image_url: str, name: str) -> None:
    assert Locator(root).locate(image_url) == str(root / name)


@posix
def test_a_backslash_in_a_real_file_name_is_kept(root: Path) -> None:
    (root / "x\\y.jpg").write_bytes(b"z")
    assert Locator(root).locate("x\\y.jpg") == str(root / "x\\y.jpg")


def test_image_root_replaces_the_base_dir(root: Path, tmp_path: Path) -> None:
    locator = Locator(tmp_path, image_root=root / "images")
    assert locator.locate("a.jpg") == str(root / "images" / "a.jpg")


@pytest.mark.parametrize(
    "image_url", ["../outside.jpg", "images/../../outside.jpg", "%2e%2e/x.jpg"]
)
def test_a_relative_url_may_not_leave_the_root(root: Path, image_url: str) -> None:
    (root.parent / "x.jpg").write_bytes(b"x")
    error = fails(Locator(root), image_url)
    assert error.code == "url.outside_root"
    assert f'--image-root "{root.parent}"' in error.message


def test_outside_of_the_root_the_way_out_is_tried(root: Path, tmp_path: Path) -> None:
    error = fails(Locator(root), "../../nowhere/a.jpg")
    assert error.code == "url.outside_missing"
    assert "--" not in error.message


@posix
def test_the_way_to_a_linked_folder_works(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "far/can").mkdir(parents=True)
    (tmp_path / "far/can/1.jpg").write_bytes(b"x")
    (tmp_path / "data/cans").symlink_to(tmp_path / "far/can")
    # As if the two were on different disks.
    monkeypatch.setattr(locate, "_common_folder", lambda *_: None)
    error = fails(Locator(tmp_path / "data"), "cans/1.jpg")
    option = error.message.split('--map "')[1].split('"')[0]
    located = Locator(tmp_path / "data", maps=dict([parse_map(option)])).locate("cans/1.jpg")
    assert open_bytes(located) == b"x"


def test_the_proposed_image_root_works(root: Path) -> None:
    locator = Locator(root, image_root=root.parent)
    assert locator.locate("../outside.jpg") == str(root.parent / "outside.jpg")
    assert locator.locate("images/a.jpg") == str(root / "images" / "a.jpg")


@posix
def test_a_link_may_not_leave_the_root(root: Path) -> None:
    (root / "link.jpg").symlink_to(root.parent / "outside.jpg")
    (root / "folder").symlink_to(root.parent)
    (root / "inner.jpg").symlink_to(root / "images" / "a.jpg")
    locator = Locator(root)
    assert fails(locator, "link.jpg").code == "url.outside_root"
    assert fails(locator, "folder/outside.jpg").code == "url.outside_root"
    assert locator.locate("inner.jpg") == str(root / "inner.jpg")
    assert Locator(root, image_root=root.parent).locate("link.jpg") == str(root / "link.jpg")


@posix
def test_a_root_that_is_itself_a_link_holds_its_images(root: Path, tmp_path: Path) -> None:
    (tmp_path / "alias").symlink_to(root)
    assert Locator(tmp_path / "alias").locate("images/a.jpg").endswith("alias/images/a.jpg")


@posix
@pytest.mark.parametrize(
    ("image_url", "location"),
    [
        ("/data/a.jpg", "/data/a.jpg"),
        ("file:///data/a%20b.jpg", "/data/a b.jpg"),
        ("FILE:///data/a.jpg", "/data/a.jpg"),
        ("file://localhost/data/a.jpg", "/data/a.jpg"),
        ("file:/data/a#1.jpg", "/data/a#1.jpg"),
    ],
)
def test_absolute_paths_and_file_urls(root: Path, image_url: str, location: str) -> None:
    assert Locator(root).locate(image_url) == location


@posix
@pytest.mark.parametrize(
    "image_url",
    ["C:\\data\\a.jpg", "c:/data/a.jpg", "file:///C:/data/a.jpg", "file://C:/data/a.jpg"],
)
def test_windows_paths_elsewhere_need_a_map(root: Path, image_url: str) -> None:
    error = fails(Locator(root), image_url)
    assert error.code == "url.windows_path"
    assert ':\\data=DIR"' in error.message


@posix
@pytest.mark.parametrize("prefix", ["C:\\data", "c:/data/", "C:/data"])
def test_windows_paths_can_be_mapped(root: Path, prefix: str) -> None:
    locator = Locator(root, maps={prefix: str(root)})
    assert locator.locate("C:\\data\\images\\a.jpg") == str(root / "images" / "a.jpg")


@posix
def test_file_urls_that_name_another_machine_or_no_absolute_path(root: Path) -> None:
    assert fails(Locator(root), "file://images/a.jpg").code == "url.invalid"
    assert fails(Locator(root), "file:images/a.jpg").code == "url.invalid"


@pytest.mark.parametrize(
    "image_url",
    [
        f"{LONG}/images/a.jpg",
        f"{LONG.replace('resourceGroups', 'resourcegroups')}/images/a.jpg",
        f"{LONG.replace('resourceGroups', 'RESOURCEGROUPS')}/images/a.jpg",
        "azureml://datastores/ds/paths/images/a.jpg",
        "AmlDatastore://ds/images/a.jpg",
        "amldatastore://ds/images/a.jpg",
    ],
)
def test_datastores_of_every_spelling_are_mapped_by_name(root: Path, image_url: str) -> None:
    assert Locator(root, maps={"ds": str(root)}).locate(image_url) == str(root / "images/a.jpg")
    error = fails(Locator(root, maps={"other": str(root)}), image_url)
    assert error.code == "url.unmapped_datastore"
    assert "--map ds=DIR" in error.message


def test_the_longest_prefix_wins(root: Path) -> None:
    maps = {
        "ds": "s3://whole",
        "azureml://datastores/ds/paths/images": "s3://images",
        f"{LONG}/images/sub": str(root / "images" / "sub dir"),
        "https://host": "s3://host",
        "https://host/a/b": "s3://b",
    }
    for order in (maps, dict(reversed(maps.items()))):
        locate = Locator(root, maps=order).locate
        assert locate("azureml://datastores/ds/paths/x.jpg") == "s3://whole/x.jpg"
        assert locate("AmlDatastore://ds/images/x.jpg") == "s3://images/x.jpg"
        assert locate("AmlDatastore://ds/imagesx/x.jpg") == "s3://whole/imagesx/x.jpg"
        assert locate(f"{LONG}/images/sub/b%20c.jpg") == str(root / "images/sub dir/b c.jpg")
        assert locate("https://host/a/b/x.jpg") == "s3://b/x.jpg"
        assert locate("https://host/a/bb/x.jpg") == "s3://host/a/bb/x.jpg"
        assert locate("https://hostile/x.jpg") == "https://hostile/x.jpg"


def test_two_workspaces_may_have_datastores_of_one_name(root: Path) -> None:
    other = LONG.replace("/ws/", "/ws2/")
    locate = Locator(root, maps={LONG: "s3://one", other: "s3://two"}).locate
    assert locate(f"{LONG}/x.jpg") == "s3://one/x.jpg"
    assert locate(f"{other}/x.jpg") == "s3://two/x.jpg"


def test_a_map_redirects_relative_and_absolute_paths(root: Path) -> None:
    maps = {"old": str(root / "images"), "/mnt/batch": str(root), "../up": str(root / "all")}
    locate = Locator(root, maps=maps).locate
    assert locate("old/a.jpg") == str(root / "images/a.jpg")
    assert locate("/mnt/batch/images/a.jpg") == str(root / "images/a.jpg")
    assert locate("..\\up\\can\\1.jpg") == str(root / "all/can/1.jpg")


def test_a_mapped_url_may_not_leave_its_folder(root: Path) -> None:
    locator = Locator(root, maps={"ds": str(root / "images"), "https://host": "s3://bucket/in"})
    assert fails(locator, "AmlDatastore://ds/../../outside.jpg").code == "url.outside_root"
    assert fails(locator, "AmlDatastore://ds/%2e%2e/all/can/1.jpg").code == "url.outside_root"
    assert fails(locator, "https://host/../other.jpg").code == "url.outside_root"


def test_a_signature_is_no_part_of_a_mapped_file_name(root: Path) -> None:
    locator = Locator(root, maps={"https://acc.blob/c": str(root)})
    assert locator.locate("https://acc.blob/c/images/a.jpg?sv=1&sig=x") == str(
        root / "images/a.jpg"
    )


@pytest.mark.parametrize(
    "image_url",
    ["https://h/a.jpg?sig=1", "http://h/a.jpg", "s3://b/k.jpg", "gs://b/k", "abfs://c@acc/k"],
)
def test_remote_urls_stay_as_they_are(root: Path, image_url: str) -> None:
    assert Locator(root).locate(image_url) == image_url


@pytest.mark.parametrize(
    ("image_url", "code"),
    [
        ("", "url.invalid"),
        ("  ", "url.invalid"),
        ("a\0b.jpg", "url.invalid"),
        ("ftp://host/a.jpg", "url.unknown_scheme"),
        ("azureml://registries/r/models/m", "url.unknown_scheme"),
    ],
)
def test_what_cannot_be_an_image_url(root: Path, image_url: str, code: str) -> None:
    assert fails(Locator(root), image_url).code == code


def test_a_map_must_lead_somewhere(root: Path) -> None:
    with pytest.raises(LocateError, match="there is no folder") as caught:
        Locator(root, maps={"ds": str(root / "nowhere")})
    assert caught.value.code == "map.missing_folder"
    with pytest.raises(LocateError, match="ftp"):
        Locator(root, maps={"ds": "ftp://host"})


def test_suggest_proposes_the_map_that_finds_most(root: Path) -> None:
    missing = [
        f"{LONG}/fridge/all/can/1.jpg",
        f"{LONG}/fridge/images/a.jpg",
        f"{LONG}/fridge/images/sub%20dir/b%20c.jpg",
        f"{LONG}/gone.jpg",
    ]
    text = Locator(root).suggest(missing)
    assert text is not None
    assert f'--map "azureml://datastores/ds/paths/fridge={root}"' in text
    assert "3 of 4" in text


def test_suggest_shows_a_map_that_works(root: Path) -> None:
    text = Locator(root).suggest(["img/a.jpg"])
    assert text is not None
    option = text.split('--map "')[1].split('"')[0]
    located = Locator(root, maps=dict([parse_map(option)])).locate("img/a.jpg")
    assert open_bytes(located) == b"images/a.jpg"


@pytest.mark.parametrize(
    ("image_url", "expected"),
    [
        ("azureml://datastores/ds/paths/images/a.jpg", '--map "ds={root}"'),
        ("a.jpg", '--image-root "{root}/images"'),
        ("D:\\photos\\images\\a.jpg", '--map "D:\\photos={root}"'),
        ("https://h/c/images/a.jpg?sig=SECRET", '--map "https://h/c={root}"'),
        ("nowhere.jpg", "--image-root DIR or --map PREFIX=DIR"),
    ],
)
@posix
def test_suggest_for_each_kind_of_url(root: Path, image_url: str, expected: str) -> None:
    text = Locator(root).suggest([image_url])
    assert text is not None
    assert expected.format(root=root) in text
    assert "SECRET" not in text


def test_suggest_takes_no_other_classs_photos(tmp_path: Path) -> None:
    for name in ("1.jpg", "2.jpg"):
        (tmp_path / "can").mkdir(exist_ok=True)
        (tmp_path / "can" / name).write_bytes(b"x")
    locator = Locator(tmp_path)
    both = ["x/can/1.jpg", "x/carton/1.jpg"]
    assert f'"x={tmp_path}": it finds 1 of 2' in (locator.suggest(both) or "")
    for missing, used in ((["carton/1.jpg", "cup/1.jpg"], []), (["carton/1.jpg"], ["can"])):
        text = locator.suggest(missing, [str(tmp_path / folder) for folder in used])
        assert text is not None
        assert text.startswith("No file of that name")


def test_suggest_does_not_repeat_what_the_error_says(root: Path) -> None:
    url = "azureml://datastores/ds/paths/images/gone.jpg"
    with pytest.raises(LocateError, match=r"Say it with --map ds=DIR"):
        Locator(root).locate(url)
    assert Locator(root).suggest([url]) == f"No file of that name lies under {root}."


def test_all_maps_that_are_none_are_named() -> None:
    assert parse_maps(["ds=/a", "https://h/c=/b"]) == {"ds": "/a", "https://h/c": "/b"}
    with pytest.raises(JobError) as caught:
        parse_maps(["ds=/a", "x", "=y"])
    assert len(caught.value.problems) == 2


def test_suggest_has_nothing_to_say_when_nothing_is_missing(root: Path) -> None:
    assert Locator(root).suggest([]) is None


@pytest.mark.parametrize(
    ("text", "pair"),
    [
        ("ds=images", ("ds", "images")),
        ("ds=/data/year=2020", ("ds", "/data/year=2020")),
        ("C:\\data=/mnt/x", ("C:\\data", "/mnt/x")),
        ("C:\\data=D:\\images", ("C:\\data", "D:\\images")),
        ("https://h/x?a=b=/data", ("https://h/x?a=b", "/data")),
        ("https://h/x=s3://b/k=1", ("https://h/x", "s3://b/k=1")),
        (" ds = ~/images ", ("ds", "~/images")),
    ],
)
def test_parse_map(text: str, pair: tuple[str, str]) -> None:
    assert parse_map(text) == pair


@pytest.mark.parametrize("text", ["ds", "=x", "ds=", "", "="])
def test_parse_map_refuses_half_a_map(text: str) -> None:
    with pytest.raises(JobError, match="PREFIX=DIR"):
        parse_map(text)


def read_fails(location: str) -> LocateError:
    with pytest.raises(LocateError) as caught:
        open_bytes(location)
    return caught.value


def test_open_bytes_of_local_files(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert open_bytes(str(root / "images" / "a.jpg")) == b"images/a.jpg"
    assert read_fails(str(root / "images")).code == "file.directory"
    assert read_fails(str(root / "none.jpg")).code == "file.missing"
    assert read_fails(str(root / "images" / "a.jpg" / "b.jpg")).code == "file.missing"
    assert read_fails(str(root / ("x" * 5000))).code == "file.unreadable"
    monkeypatch.setattr(fetch, "MAX_BYTES", 5)
    assert read_fails(str(root / "images" / "a.jpg")).code == "file.too_large"


@posix
def test_open_bytes_does_not_hang_on_pipes_or_devices(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.jpg")
    assert read_fails(str(tmp_path / "pipe.jpg")).code == "file.not_regular"
    assert read_fails("/dev/zero").code == "file.not_regular"


def test_open_bytes_through_fsspec() -> None:
    with fsspec.open("memory://bucket/a b.jpg", "wb") as file:
        file.write(b"remote")
    assert open_bytes("memory://bucket/a b.jpg") == b"remote"
    assert read_fails("memory://bucket/none.jpg").code == "file.missing"


def test_a_missing_backend_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "s3fs", None)
    error = read_fails("s3://bucket/a.jpg")
    assert error.code == "url.needs_extra"
    assert "pip install '.[s3]'" in error.message


class _Images(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        path = unquote(self.path)
        status = {"/gone.jpg": 404, "/secret.jpg": 403, "/broken.jpg": 500}.get(
            path.partition("?")[0], 200
        )
        self.send_response(status)
        body = path.encode()
        self.send_header("Content-Length", str(len(body) + (10 if path == "/cut.jpg" else 0)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with ThreadingHTTPServer(("127.0.0.1", 0), _Images) as httpd:
        thread = threading.Thread(target=httpd.serve_forever, args=(0.01,))
        thread.start()
        yield f"http://127.0.0.1:{httpd.server_port}"
        httpd.shutdown()
        thread.join()


def test_open_bytes_over_http(server: str) -> None:
    assert open_bytes(f"{server}/a b.jpg?x=1") == b"/a b.jpg?x=1"
    assert open_bytes(f"{server}/a%20b.jpg") == b"/a b.jpg"


@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("gone.jpg", "file.missing"),
        ("secret.jpg", "file.unreadable"),
        ("broken.jpg", "url.unreachable"),
        ("cut.jpg", "url.unreachable"),
    ],
)
def test_http_failures_hide_signatures(server: str, name: str, code: str) -> None:
    query = "" if name == "cut.jpg" else "?sig=SECRET"
    error = read_fails(f"{server}/{name}{query}")
    assert error.code == code
    assert "SECRET" not in error.message


def test_an_unreachable_host_is_one_clear_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    error = read_fails("http://127.0.0.1:9/a.jpg")
    assert error.code == "url.unreachable"
    assert "http://127.0.0.1:9/a.jpg" in error.message
