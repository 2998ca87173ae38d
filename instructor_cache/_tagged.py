"""How entries are forgotten together, in one step: by the epochs of their tags.

A tag has an epoch in each tier, random bytes under a key of its own. An entry holds the epochs
that its tags had before its call, and answers only while they are the same. To invalidate a tag is
to end its epoch: who needs it next begins another, and no old entry can ever fit that one. So an
epoch that is lost costs calls, and brings nothing back.

The farthest tier says which epochs are the present ones; nearer tiers have copies, so that a near
hit asks nobody farther.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from hashlib import blake2b
from typing import cast

from typing_extensions import Self

from ._reserved import TAG

EPOCH = 8  # bytes
LIFE = 30 * 86_400.0  # seconds that an epoch is kept at least after it was begun or renewed


class TaggedKey(str):
    """The key of a call that has tags.

    Attributes:
        tags: The keys of their epochs.
    """

    __slots__ = ("tags",)
    tags: tuple[str, ...]

    def __new__(cls, key: str, tags: tuple[str, ...]) -> Self:
        self = super().__new__(cls, key)
        self.tags = tags
        return self


def tags_of(key: str) -> tuple[str, ...]:
    """Give the keys of the epochs that an entry under *key* depends on."""
    return key.tags if isinstance(key, TaggedKey) else ()


def tag_key(tag: str) -> str:
    """Give the key of a tag's epoch; a digest, for tags may hold personal data."""
    return f"{TAG}{blake2b(tag.encode('utf-8', 'surrogatepass'), digest_size=16).hexdigest()}"


def new_epoch() -> bytes:
    """Give an epoch that never was."""
    return secrets.token_bytes(EPOCH)


def is_epoch(value: object) -> bool:
    """Whether *value* is one, and not missing or damaged."""
    is_bytes = isinstance(value, (bytes, bytearray, memoryview))
    return is_bytes and len(cast("bytes", value)) == EPOCH


def joined(epochs: Sequence[bytes | None]) -> bytes | None:
    """Give *epochs* as an entry holds them; None if one is missing or damaged."""
    return b"".join(filter(None, epochs)) if all(map(is_epoch, epochs)) else None


def parted(epochs: bytes) -> list[bytes]:
    """Give each of the epochs that an entry holds."""
    return [epochs[n : n + EPOCH] for n in range(0, len(epochs), EPOCH)]
