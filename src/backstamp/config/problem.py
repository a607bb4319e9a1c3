"""A mistake in a configuration file, as one line an editor can jump to."""

import msgspec


class Problem(msgspec.Struct, frozen=True):
    """One mistake. `line` counts from 1 and is 0 where there is none; `key` is empty for the whole file."""

    file: str
    line: int
    key: str
    message: str

    def __str__(self) -> str:
        where = f"{self.file}:{self.line}" if self.line else self.file
        return ": ".join(part for part in (where, self.key, self.message) if part)


class ConfigurationError(Exception):
    """A file that cannot be used; `problems` are all its mistakes, in the order of the file."""

    def __init__(self, problems: tuple[Problem, ...]) -> None:
        super().__init__("\n".join(str(problem) for problem in problems))
        self.problems = problems
