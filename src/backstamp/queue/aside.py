"""What cannot be read is kept: copied to `corrupt/`, under a name that tells where it stood (Q9).

A copy has its name only when it is whole and durable; one that has it is not made again.
"""

import contextlib
from collections.abc import Iterable

from backstamp.queue.files import Files
from backstamp.queue.segment import NEW_SUFFIX

CORRUPT = "corrupt"


def put_aside(files: Files, root: str, name: str, parts: Iterable[bytes]) -> None:
    """Keep octets as `corrupt/NAME`, durably. `parts` is not looked at if they are there already.

    Raises:
        OSError: they could not be written; nothing has the name.
    """
    directory = f"{root}/{CORRUPT}"
    if name in files.listing(directory):
        return
    path = f"{directory}/{name}"
    new = f"{path}{NEW_SUFFIX}"
    with contextlib.suppress(FileNotFoundError):
        files.unlink(new)
    descriptor = files.create(new)
    try:
        at = 0
        for part in parts:
            files.write(descriptor, [part], at)
            at += len(part)
        files.sync(descriptor)
    finally:
        files.close(descriptor)
    files.rename(new, path)
    files.sync_directory(directory)
