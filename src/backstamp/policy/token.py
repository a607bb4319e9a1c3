"""Who judges bearer tokens. Pure."""

import msgspec


class TokenEndpoint(msgspec.Struct, frozen=True):
    """Where to ask. `client` is empty where the endpoint wants no credentials.

    `user_key` names the member of the answer that says who it is, empty: `username`, else `sub`.
    """

    url: str
    client: str = ""
    secret: str = ""
    user_key: str = ""

    def __repr__(self) -> str:
        return f"TokenEndpoint({self.url!r}, {self.client!r}, …)"
