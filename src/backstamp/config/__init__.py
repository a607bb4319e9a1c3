"""TOML to the frozen records of the rooms; every error at once, with file, line and key."""

from backstamp.config.load import load, parse
from backstamp.config.problem import ConfigurationError, Problem
from backstamp.config.settings import Settings

__all__ = ["ConfigurationError", "Problem", "Settings", "load", "parse"]
