"""`backstamp` without a single sync: what a test must notice that says it cuts the power."""

from backstamp.cli import main
from backstamp.queue.files import DiskFiles


def unsynced(*_: object) -> None:
    """Say that it is durable."""


if __name__ == "__main__":
    DiskFiles.sync = unsynced  # type: ignore[method-assign]
    DiskFiles.sync_directory = unsynced  # type: ignore[method-assign]
    DiskFiles.write_durably = DiskFiles.write  # type: ignore[method-assign]
    main()
