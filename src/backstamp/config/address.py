"""Where something listens or is spoken to. Apart from `units`, which only who reads a file loads. Pure."""

from typing import NamedTuple


class Address(NamedTuple):
    """A host (an IP address or a domain name in lower case) and a port; a path and 0: a socket file."""

    host: str
    port: int

    def __str__(self) -> str:
        if self.host.startswith("/"):
            return f"unix:{self.host}"
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"
