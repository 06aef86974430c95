"""Where keys and peers are: XOR of SHA-256, computed apart from every implementation."""

import hashlib

ALPHABET = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"


def from_base58(text):
    number = 0
    for c in text:
        number = number * 58 + ALPHABET.index(c)
    zeros = len(text) - len(text.lstrip("1"))
    return b"\0" * zeros + number.to_bytes((number.bit_length() + 7) // 8, "big")


def place(data):
    return int.from_bytes(hashlib.sha256(data).digest(), "big")


def nearest(key, ids):
    """Sorts the ids of peers by their distance from a key."""
    target = place(key)
    return sorted(ids, key=lambda id: target ^ place(from_base58(id)))


def multihash(data):
    """The sha2-256 multihash of some content."""
    return (b"\x12\x20" + hashlib.sha256(data).digest()).hex()


def bare(address):
    """An address without the id of the peer."""
    return address.split("/p2p/")[0]
