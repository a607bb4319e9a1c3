"""Where a message comes from: what its trace line and its events say of the client. Pure."""

import msgspec

from backstamp.policy.user import User


class Origin(msgspec.Struct, frozen=True, gc=False):
    """One client, at the moment it hands in a message.

    `protocol` is the `with` of its Received line (RFC 3848, RFC 6531: SMTP, ESMTP, ESMTPSA, UTF8SMTP … or
    HTTP); `helo` the name it gave; `user` who was authenticated, empty where nobody was; `tls` the
    protocol version and cipher, as `TLSv1.3:TLS_AES_256_GCM_SHA384`, empty in clear text. `account` says in
    whose name a user may send.
    """

    peer: str
    helo: str
    protocol: str
    user: str = ""
    tls: str = ""
    account: User | None = None


class Verdict(msgspec.Struct, frozen=True, gc=False):
    """What became of a message: the reply, and the queue id (as text) where it was taken."""

    reply: bytes
    queue_id: str = ""
