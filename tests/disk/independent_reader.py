"""A reader of live disks written from docs/DISK_FORMAT.md alone, with libsodium's functions by way of PyNaCl.

It keeps to the rule of crashes, but takes the last record as it is; for whole disks that nobody tampers with.
"""

import hashlib
import struct
from typing import NamedTuple

import nacl.bindings as sodium

BLOCK = 4096
LOG_AT = 65536
FANOUT = 64
STATE_ZERO, STATE_DATA = 1, 2


class Entry(NamedTuple):
    tag: bytes
    place: int
    counter: int
    salt: bytes

    @property
    def state(self) -> int:
        return self.place >> 56

    @property
    def slot(self) -> int:
        return self.place & ((1 << 56) - 1)


class IndependentReader:
    """The contents, marks and root of the disk in *content*; it has no base image."""

    def __init__(self, content: bytes, key: bytes) -> None:
        self.content = content
        self.key = key
        superblocks = [content[at : at + BLOCK] for at in (0, BLOCK) if content[at : at + 5] == b"TCDSK"]
        self.superblock = max(superblocks, key=lambda bytes_: self._number(bytes_, 48))
        self.disk_id = self.superblock[32:48]
        body, mac = self.superblock[:-32], self.superblock[-32:]
        assert self.superblock[176:208] == self._key("commitment")
        assert mac == hashlib.blake2b(body, digest_size=32, key=self._key("header")).digest()
        self.root = hashlib.blake2b(body, digest_size=32).digest()
        self.suite = struct.unpack_from("<I", self.superblock, 12)[0]
        self.blocks = self._number(self.superblock, 24) // BLOCK
        self.log_bytes = self._number(self.superblock, 56)
        self.entries: dict[int, Entry] = {}
        self._load_tree()
        self.sequence, self.chain = self._number(self.superblock, 72), self.superblock[80:112]
        self.passed = {struct.pack("<Q", self.sequence) + self.chain}
        count = self._number(self.superblock, 248)
        self.passed |= {self.superblock[256 + 40 * i : 296 + 40 * i] for i in range(count)}
        self._replay()

    def read(self) -> bytes:
        """The whole disk."""
        return b"".join(self._block(number) for number in range(self.blocks))

    @staticmethod
    def _number(content: bytes, at: int) -> int:
        return int(struct.unpack_from("<Q", content, at)[0])

    def _key(self, purpose: str) -> bytes:
        return hashlib.blake2b(
            purpose.encode(), digest_size=32, key=self.key, salt=self.disk_id, person=b"tccp-live-disk1\0"
        ).digest()

    def _open(self, purpose: str, nonce: tuple[int, int, bytes], sealed: bytes, tag: bytes) -> bytes:
        counter, number, salt = nonce
        key, ordinal, place = self._key(purpose), struct.pack("<Q", counter), struct.pack("<Q", number)
        if self.suite == 1:
            return sodium.crypto_aead_aegis256_decrypt(sealed + tag, None, ordinal + place + salt, key)
        assert tag[16:] == bytes(16)
        return sodium.crypto_aead_xchacha20poly1305_ietf_decrypt(sealed + tag[:16], place, ordinal + salt, key)

    def _slot(self, slot: int) -> bytes:
        at = LOG_AT + self.log_bytes + slot * BLOCK
        return self.content[at : at + BLOCK]

    def _page(self, entry: Entry, level: int, page: int) -> list[Entry]:
        assert entry.state == STATE_DATA
        content = self._open("tree", (entry.counter, level << 56 | page, entry.salt), self._slot(entry.slot), entry.tag)
        return [Entry(*struct.unpack_from("<32sQQ16s", content, at)) for at in range(0, BLOCK, 64)]

    def _load_tree(self) -> None:
        levels, count = 0, self.blocks
        while levels == 0 or count > 1:
            count, levels = -(-count // FANOUT), levels + 1
        above = {0: Entry(*struct.unpack_from("<32sQQ16s", self.superblock, 112))}
        for level in reversed(range(levels)):
            below = {}
            for page, entry in above.items():
                if entry.place:
                    below.update({page * FANOUT + i: one for i, one in enumerate(self._page(entry, level, page))})
            above = below
        self.entries = {number: entry for number, entry in above.items() if entry.place}

    def _replay(self) -> None:
        at = self._number(self.superblock, 64)
        while True:
            found = self._record(at)
            if found is None and at != 0:
                at, found = 0, self._record(0)
            if found is None:
                return
            at += found

    def _record(self, at: int) -> int | None:
        """Apply the next record if it is the one at *at*; its length."""
        start = LOG_AT + at
        if at + BLOCK > self.log_bytes:
            return None
        magic, count, sequence, salt, tag = struct.unpack_from("<4sIQ16s32s", self.content, start)
        number, count = count, count & 0x7FFFFFFF
        if magic != b"TCWL" or sequence != self.sequence + 1:
            return None
        body = self.content[start + 64 : start + 64 + 32 + 56 * count]
        opened = self._open("log", (sequence, number, salt), body, tag)
        assert opened[:32] == self.chain
        for i in range(count):
            block, block_tag, place, counter = struct.unpack_from("<Q32sQQ", opened, 32 + 56 * i)
            self.entries[block] = Entry(block_tag, place, counter, salt)
        self.sequence, self.chain = sequence, tag
        self.passed.add(struct.pack("<Q", sequence) + tag)
        return -(-(96 + 56 * count) // BLOCK) * BLOCK

    def _block(self, number: int) -> bytes:
        entry = self.entries.get(number)
        if entry is None or entry.state == STATE_ZERO:
            return bytes(BLOCK)
        return self._open("data", (entry.counter, number, entry.salt), self._slot(entry.slot), entry.tag)
