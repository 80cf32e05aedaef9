import logging
import os
from pathlib import Path

import pytest

from autofocus.errors import InputError
from autofocus.serve.keys import KeyFile, is_allowed, read_keys


@pytest.fixture
def key_file(tmp_path: Path) -> Path:
    path = tmp_path / "keys"
    path.write_bytes(b"  first-key \r\n\nsecond-key")
    path.chmod(0o600)
    return path


def test_each_line_is_a_key_stripped(key_file: Path, caplog: pytest.LogCaptureFixture) -> None:
    keys = read_keys(key_file)
    assert len(keys) == 2
    assert is_allowed(b"Bearer first-key", keys)
    assert is_allowed(b"bearer  second-key ", keys)
    assert not caplog.records


def test_byte_order_mark_is_no_part_of_the_first_key(key_file: Path) -> None:
    key_file.write_bytes(b"\xef\xbb\xbffirst-key\r\n")
    assert is_allowed(b"Bearer first-key", read_keys(key_file))


def test_keys_are_kept_as_digests_only(key_file: Path) -> None:
    assert b"first-key" not in b"".join(read_keys(key_file))


@pytest.mark.parametrize(
    "header",
    [
        None,
        b"",
        b"Bearer",
        b"Bearer ",
        b"Bearer first",
        b"Bearer first-key second-key",
        b"Basic first-key",
        b"first-key",
        b"Bearer \xff\xfe",
    ],
)
def test_anything_else_is_refused(key_file: Path, header: bytes | None) -> None:
    assert not is_allowed(header, read_keys(key_file))


def test_without_keys_everybody_may() -> None:
    assert is_allowed(None, [])


@pytest.mark.parametrize("content", [b"", b"\n  \r\n"])
def test_empty_key_file_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "keys").write_bytes(content)
    with pytest.raises(InputError, match="key file is empty"):
        read_keys(tmp_path / "keys")


def test_missing_key_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot read the key file: No such file"):
        read_keys(tmp_path / "keys")


@pytest.mark.skipif(os.name != "posix", reason="permissions are elsewhere on Windows")
def test_key_file_that_others_can_read_is_warned_about(
    key_file: Path, caplog: pytest.LogCaptureFixture
) -> None:
    key_file.chmod(0o644)
    with caplog.at_level(logging.WARNING):
        assert len(read_keys(key_file)) == 2
    assert "chmod 600" in caplog.text
    assert "first-key" not in caplog.text


def test_comments_are_no_keys_and_utf_16_is_read(key_file: Path) -> None:
    key_file.write_bytes("# of the phone app\nfirst-key\n".encode("utf-16"))
    keys = read_keys(key_file)
    assert is_allowed(b"Bearer first-key", keys)
    assert not is_allowed(b"Bearer # of the phone app", keys)
    key_file.write_bytes(b"f\0i\0r\0s\0t\0")
    with pytest.raises(InputError, match="save it as such"):
        read_keys(key_file)


def test_a_changed_file_is_read_again_and_an_unreadable_one_keeps_its_keys(
    key_file: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = KeyFile(key_file, read_keys(key_file))
    key_file.write_bytes(b"rotated")
    assert is_allowed(b"Bearer rotated", file.keys())
    assert not is_allowed(b"Bearer first-key", file.keys())
    key_file.write_bytes(b"")
    assert is_allowed(b"Bearer rotated", file.keys())
    key_file.unlink()
    assert is_allowed(b"Bearer rotated", file.keys())
    assert caplog.text.count("The keys read before go on") == 2
    assert "rotated" not in caplog.text
