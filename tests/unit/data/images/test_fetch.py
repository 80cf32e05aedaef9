import hashlib

from autofocus.data.images.fetch import content_hash


def test_content_hash_names_content_and_nothing_else() -> None:
    assert content_hash(b"a") == hashlib.blake2b(b"a", digest_size=16).hexdigest()
    assert content_hash(b"a") != content_hash(b"b")
    assert len(content_hash(b"")) == 32
