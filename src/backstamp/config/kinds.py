"""The kinds of values a configuration has, and what all its tables are: names for `model` and `outgoing`.

Each kind is a parser of `units` or `names` and what editors and the reference are told about it.
"""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, PlainValidator, WithJsonSchema

from backstamp.config import names, rules, units, words
from backstamp.config.address import Address
from backstamp.policy.destination import Rate as DestinationRate


def _text(parse: Any, pattern: str, *examples: str) -> Any:
    """Return what pydantic needs to know of a value that is text in the file and something else here."""
    schema = {"type": "string", "pattern": pattern, "examples": list(examples)}
    return PlainValidator(parse), WithJsonSchema(schema)


def as_written(default: Any) -> Any:
    """Return a default that stands in the reference as in a file, and is parsed like a value of the file."""
    return Field(default=default)


_UNITS = "(?=.)([0-9]+w)?([0-9]+d)?([0-9]+h)?([0-9]+m)?([0-9]+s)?([0-9]+ms)?"
Duration = Annotated[float, *_text(units.duration, f"^{_UNITS}$", "30s", "5m", "1h30m", "5d")]
Size = Annotated[int, *_text(units.size, "^[0-9]+ ?([kKMG]?B|[KMG]iB)$", "64kB", "50MB", "20MiB")]
Rate = Annotated[DestinationRate, *_text(units.rate, f"^[0-9]+/{_UNITS}$", "100/1m", "10/1s", "3600/1h")]
Domain = Annotated[str, *_text(names.domain, r"^[A-Za-z0-9.-]+$", "relay.example.org")]
Match = Annotated[
    str, *_text(names.match, r"^(\*|(\*\.)?[A-Za-z0-9.-]+)$", "example.org", "*.example.org", "*")
]
Below = Annotated[str, *_text(names.below, r"^(\*\.)?[A-Za-z0-9.-]+$", "example.org", "*.example.org")]
Sender = Annotated[
    str, *_text(names.sender, r"^(<>|[^ ]+)$", "shop.example", "*.shop.example", "a@b.example", "<>")
]
Name = Annotated[str, *_text(names.name, r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$", "bulk")]
NameOrNone = Annotated[str, *_text(names.name_or_none, r"^([A-Za-z0-9][A-Za-z0-9._-]{0,63})?$", "bulk")]
ProviderName = Annotated[
    str, *_text(names.provider_name, r"^(\*|[A-Za-z0-9][A-Za-z0-9._-]{0,63})$", "google", "*")
]
Expiry = Annotated[float | None, *_text(units.period, f"^(never|{_UNITS})$", "30d", "never")]
BounceClassName = Annotated[str, *_text(rules.bounce_class, "^[a-z-]+$", "invalid-recipient")]
Host = Annotated[str, *_text(units.host_address, "^[0-9A-Fa-f.:]+$", "192.0.2.1", "2001:db8::1")]
Socket = Annotated[Address, *_text(units.socket_address, "^.+:[0-9]+$", "127.0.0.1:2525", "[::1]:2525")]
Listen = Annotated[
    Address,
    *_text(
        units.listen_address,
        "^(unix:/.+|.+:[0-9]+)$",
        "127.0.0.1:2525",
        "[::1]:2525",
        "unix:/run/backstamp/smtp.sock",
    ),
]
Mode = Annotated[int, *_text(units.mode, "^0?[0-7]{3}$", "0660", "0666")]
Nameserver = Annotated[Address, *_text(units.nameserver, "^.+$", "127.0.0.1:53", "192.0.2.53")]
Fingerprint = Annotated[
    str, *_text(names.fingerprint, "^sha256:[0-9A-Fa-f:]+$", "sha256:" + "9f:" * 31 + "9f")
]
Network = Annotated[units.Network, *_text(units.network, "^.+$", "10.0.0.0/8", "fd00::/8")]
Pattern = Annotated[str, *_text(words.pattern, "^.+$", "too many connections")]
Secret = Annotated[str, PlainValidator(words.secret), WithJsonSchema({"type": "string", "minLength": 1})]
Semantics = Literal["at-least-once", "at-most-once"]
TlsLevel = Literal["none", "may", "encrypt", "verify"]
Mechanism = Literal["PLAIN", "LOGIN", "SCRAM-SHA-256", "OAUTHBEARER", "XOAUTH2"]
FamilyName = Literal["both", "ipv6-first", "ipv4-first", "ipv6", "ipv4"]
Count = Annotated[int, Field(ge=1)]
CountOrNone = Annotated[int, Field(ge=0)]
Recipients = Annotated[int, Field(ge=1, le=65_000)]
Port = Annotated[int, Field(ge=1, le=65_535)]
Priority = Annotated[int, Field(ge=-9, le=9)]
Via = Annotated[
    tuple[Address, ...],
    PlainValidator(rules.via),
    WithJsonSchema(
        {
            "anyOf": [
                {
                    "type": "string",
                    "pattern": "^(mx|.+:[0-9]+)$",
                    "examples": ["smtp.example.net:25", "[::1]:2526", "mx"],
                },
                {"type": "array", "items": {"type": "string", "pattern": "^.+:[0-9]+$"}, "minItems": 1},
            ]
        }
    ),
]


class Table(BaseModel):
    """What all tables have: no unknown keys, no guessing of types."""

    model_config = ConfigDict(
        extra="forbid", strict=True, frozen=True, validate_default=True, use_attribute_docstrings=True
    )
