"""The suppression list in memory: small, and looked up at every recipient. Pure.

An entry is 22 octets: a digest of address and tenant, class, source and end. They stand in
shards by the digest's first bits, where `bytes.find` is faster than any search written here.
A million takes 30 MB, where a dict of records takes ten times that. What only people
want to see (the address, the reply) is on the disk (`suppression.database`).
"""

import struct
from collections.abc import Iterable
from hashlib import blake2b

from backstamp.policy.suppression import Entry, Match, Source, canonical

_RECORD = struct.Struct(">16sBBI")
SIZE = _RECORD.size
_DIGEST = 16
_SOURCES = tuple(Source)
_NEVER = 0
_LATEST = 2**32 - 1


def digest(address: str, tenant: str) -> bytes:
    """Return what an entry is found by. `address` is canonical."""
    return blake2b(f"{tenant}\0{address}".encode("utf-8", "surrogatepass"), digest_size=_DIGEST).digest()


class Classes:
    """Numbers of bounce classes: an octet each; from the 256th name on they are told as none."""

    def __init__(self) -> None:
        self._numbers = {"": 0}
        self._names = [""]

    def number(self, name: str) -> int:
        """Return the number of a class."""
        found = self._numbers.get(name)
        if found is None:
            if len(self._names) > 255:
                return 0
            found = self._numbers[name] = len(self._names)
            self._names.append(name)
        return found

    def name(self, number: int) -> str:
        """Return the class of a number."""
        return self._names[number]


class Suppressions:
    """The table. Used by one thread, but for `pack`, which only one other thread may call."""

    def __init__(self) -> None:
        self._shards: dict[int, bytearray] = {}
        self._classes = Classes()
        self._domains = False
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def pack(self, entry: Entry) -> bytes:
        """Return an entry as `put` takes it."""
        end = _NEVER if entry.expires is None else min(max(entry.expires, 1), _LATEST)
        # Set from the first whole domain on: until then a lookup spares itself two digests.
        self._domains = self._domains or entry.address.startswith("@")
        return _RECORD.pack(
            digest(entry.address, entry.tenant),
            self._classes.number(entry.bounce_class),
            _SOURCES.index(entry.source),
            end,
        )

    def put(self, packed: bytes) -> None:
        """Add or replace entries: those of `pack`, one behind the other."""
        for at in range(0, len(packed), SIZE):
            record = packed[at : at + SIZE]
            number = _number(record)
            shard = self._shards.get(number)
            if shard is None:
                self._shards[number] = bytearray(record)
                self._count += 1
            elif (found := _find(shard, record[:_DIGEST])) < 0:
                shard += record
                self._count += 1
            else:
                shard[found : found + SIZE] = record

    def add(self, entry: Entry) -> None:
        """Add an entry; one of the same address and tenant is replaced."""
        self.put(self.pack(entry))

    def remove(self, keys: Iterable[tuple[str, str]]) -> None:
        """Take out entries by canonical address and tenant; those that are not there are passed over."""
        for address, tenant in keys:
            key = digest(address, tenant)
            shard = self._shards.get(_number(key))
            if shard is not None and (found := _find(shard, key)) >= 0:
                del shard[found : found + SIZE]
                self._count -= 1

    def match(self, address: bytes, tenant: bytes, *, now: float, learned: bool) -> Match | None:
        """Return what keeps an address from being sent to; `learned`: entries from bounces count, too."""
        if not self._count:
            return None
        name = canonical(address)
        whose = tenant.decode("utf-8", "backslashreplace")
        names = (name, name[name.rindex("@") :]) if self._domains else (name,)
        for one in names:
            for tenants in ("", whose) if whose else ("",):
                found = self._lookup(digest(one, tenants))
                if found is None or (found.expires is not None and found.expires <= now):
                    continue
                if learned or found.source is not Source.BOUNCE:
                    return found
        return None

    def _lookup(self, key: bytes) -> Match | None:
        shard = self._shards.get(_number(key))
        if shard is None or (at := _find(shard, key)) < 0:
            return None
        _, number, source, end = _RECORD.unpack_from(shard, at)
        return Match(self._classes.name(number), _SOURCES[source], None if end == _NEVER else end)


def _number(key: bytes) -> int:
    """Return the shard of a key: its first twelve bits."""
    return key[0] << 4 | key[1] >> 4


def _find(shard: bytearray, key: bytes) -> int:
    """Return where a record begins, -1 where there is none."""
    at = shard.find(key)
    while at % SIZE and at > 0:
        at = shard.find(key, at + 1)
    return at
