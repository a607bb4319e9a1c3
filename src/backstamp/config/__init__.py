"""TOML to the frozen records of the rooms; every error at once, with file, line and key.

`load` reads a file; `apart` has a process of its own read it, for who runs long. Neither is imported
here: reading takes pydantic, which who only names `Settings` shall not pay for.
"""

from backstamp.config.problem import ConfigurationError, Problem
from backstamp.config.settings import Settings

__all__ = ["ConfigurationError", "Problem", "Settings"]
