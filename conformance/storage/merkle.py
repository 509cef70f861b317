"""The Merkle tree of RFC 6962, section 2.1: its root, and the proof that a record is in it.

A leaf is SHA-256(0x00 || record), an inner node SHA-256(0x01 || left || right); of n > 1 leaves the left subtree holds as many as
the largest power of two below n. The root of no leaves is the SHA-256 of nothing.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence


def root(records: Sequence[bytes]) -> bytes:
    """The root over records in their order."""
    return _root([_leaf(record) for record in records])


def path(records: Sequence[bytes], position: int) -> list[bytes]:
    """The audit path of a record: the roots of the subtrees beside it, from the leaf upwards."""
    return _path([_leaf(record) for record in records], position)


def climb(record: bytes, position: int, count: int, beside: Sequence[bytes]) -> bytes:
    """The root that a record and its audit path lead to; raises `ValueError` for a path of another length than the tree has."""
    if not 0 <= position < count:
        raise ValueError("the position is beyond the records")
    node, last, rest = _leaf(record), count - 1, list(beside)
    while last:
        if position % 2 or position < last:
            if not rest:
                raise ValueError("the path is too short")
            other = rest.pop(0)
            node = _node(other, node) if position % 2 else _node(node, other)
        position, last = position // 2, last // 2
    if rest:
        raise ValueError("the path is too long")
    return node


def _leaf(record: bytes) -> bytes:
    return hashlib.sha256(b"\0" + record).digest()


def _node(left: bytes, right: bytes) -> bytes:
    return hashlib.sha256(b"\1" + left + right).digest()


def _root(leaves: Sequence[bytes]) -> bytes:
    if not leaves:
        return hashlib.sha256(b"").digest()
    if len(leaves) == 1:
        return leaves[0]
    split = _split(len(leaves))
    return _node(_root(leaves[:split]), _root(leaves[split:]))


def _path(leaves: Sequence[bytes], position: int) -> list[bytes]:
    if len(leaves) == 1:
        return []
    split = _split(len(leaves))
    if position < split:
        return [*_path(leaves[:split], position), _root(leaves[split:])]
    return [*_path(leaves[split:], position - split), _root(leaves[:split])]


def _split(count: int) -> int:
    return int(2 ** ((count - 1).bit_length() - 1))
