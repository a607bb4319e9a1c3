"""What is known of providers from the start: `providers.toml`, data that lies beside this module.

It is checked by the same tables as a configuration file; each provider also says where its
numbers are from, and of when; so does each rule. `conf/providers.toml` is a link to it, for people.
"""

import datetime
import tomllib
from collections.abc import Mapping
from functools import cache
from importlib import resources
from typing import Annotated, Any

from pydantic import Field

from backstamp.config.kinds import Below, Table
from backstamp.config.outgoing import AdaptTable, ProviderTable


class KnownProvider(ProviderTable):
    """A provider that is shipped."""

    mx: Annotated[list[Below], Field(min_length=1)]
    reference: Annotated[str, Field(min_length=1)]
    """Address of the provider's page, or `common practice`: what senders do who do not get into trouble."""
    date: datetime.date
    """When the entry was written."""


class KnownAdaptation(AdaptTable):
    """A rule for the pace that is shipped."""

    reference: Annotated[str, Field(min_length=1)]
    date: datetime.date


class Known(Table):
    """The file."""

    provider: list[KnownProvider]
    adapt: list[KnownAdaptation]

    def by_name(self) -> Mapping[str, KnownProvider]:
        """Return the providers by name."""
        return {one.name: one for one in self.provider}


@cache
def known() -> Known:
    """Return what is shipped; read once, it does not change while the relay runs.

    Raises:
        pydantic.ValidationError: the file was damaged (a test keeps it sound).
    """
    text = resources.files("backstamp.config").joinpath("providers.toml").read_text(encoding="utf-8")
    document: dict[str, Any] = tomllib.loads(text)
    return Known.model_validate(document)
