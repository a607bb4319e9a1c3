"""The keeper: keys of segments that are about to go, in files of their own (Q13).

A file of keys is the salt and records like those of a segment, of the kind `K`, each the keys
of one segment. It is only ever appended to, by one durable write at a time, and goes whole
when the last key in it is over; after an hour of arrivals, a failed write or a start the next
one is begun. So nothing is ever written anew, and the files hold little more than what counts.
"""

import contextlib
from collections.abc import Callable, Sequence

from backstamp.queue import keys
from backstamp.queue import segment as segments
from backstamp.queue.files import Files
from backstamp.queue.record import SALT_SIZE, Header, Kind, checksum, encode_header, seed_of


class Keeper:
    """The writing side of one partition's files of keys. Used by one thread only."""

    def __init__(
        self, files: Files, directory: str, *, numbers: Callable[[], int], salt: Callable[[], bytes]
    ) -> None:
        self._files = files
        self._directory = directory
        self._numbers = numbers
        self._salt = salt
        self._file: _File | None = None

    def write(self, wanted: Sequence[bytes]) -> int:
        """Write rows of keys, some of each; durable on return, in the file of this number.

        Raises:
            OSError: they could not be written; what stands of them is true, and counts for nothing.
        """
        newest = max(map(keys.newest, wanted))
        if self._file is not None and newest >= self._file.began + keys.SPAN:
            self.close()
        file = self._file or _File(self._files, self._directory, self._numbers(), self._salt(), newest)
        self._file = None
        try:
            file.write(self._files, wanted, newest)
            if file.fresh:
                self._files.sync_directory(self._directory)
        except OSError:
            # Never again a write behind one that failed (Q8).
            self._files.close(file.descriptor)
            raise
        file.fresh = False
        self._file = file
        return file.number

    def remove(self, number: int) -> None:
        """Remove a file all of whose keys are over. A failure is harmless: the next start tries again."""
        if self._file is not None and self._file.number == number:
            self.close()
        with contextlib.suppress(OSError):
            self._files.unlink(segments.keys_path(self._directory, number))

    def close(self) -> None:
        """Let go of the file: the next keys go to another one."""
        file, self._file = self._file, None
        if file is not None:
            self._files.close(file.descriptor)


class _File:
    """One that may be written to. Raises OSError: it could not be made."""

    def __init__(self, files: Files, directory: str, number: int, salt: bytes, began: int) -> None:
        self.number = number
        self.salt = salt
        self.began = began
        self.descriptor = files.create(segments.keys_path(directory, number))
        self.end = 0
        self.fresh = True
        """Neither its salt nor its name is durable yet."""

    def write(self, files: Files, wanted: Sequence[bytes], newest: int) -> None:
        """Write records behind the last one, durably."""
        seed, start = seed_of(self.salt), self.end
        buffers = []
        if not start:
            buffers.append(self.salt)
            self.end = SALT_SIZE
        durable = max(start, SALT_SIZE)
        nothing = checksum(b"", seed)
        for rows in wanted:
            header = Header(
                Kind.KEYS,
                0,
                self.end,
                0,
                0,
                len(rows),
                0,
                newest * 1000,
                bytes(16),
                durable,
                0,
                nothing,
                checksum(rows, seed),
            )
            buffers += [encode_header(header, seed), rows]
            self.end = header.end
        files.write_durably(self.descriptor, buffers, start)
