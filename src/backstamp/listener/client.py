"""The client of a session, as far as it is known: where it is, what it proved, what it calls itself. Pure."""

import re
from ipaddress import ip_address
from typing import Final

from backstamp.listener import admission
from backstamp.listener.authentication import Authentication
from backstamp.listener.origin import Origin
from backstamp.listener.settings import Auth, ListenerSettings
from backstamp.policy.user import User
from backstamp.text import printable

_NO_TENANT: Final = re.compile(r"[^A-Za-z0-9._-]")


def names_tenant(settings: ListenerSettings, user: User | None) -> bool:
    """Tell whether a message may name its tenant itself: not where the operator has named the user's."""
    return settings.tenant_header and not (user is not None and user.tenant)


def tenant_of(user: User) -> str:
    """Return whose mail a user's is: the tenant it has, else its name, as far as that can be one."""
    return user.tenant or _NO_TENANT.sub("_", user.name)[:64]


class Client:
    """What is known of one client."""

    def __init__(
        self,
        settings: ListenerSettings,
        peer: str,
        authentication: Authentication | None = None,
        *,
        proxied_tls: bool = False,
    ) -> None:
        self._settings = settings
        self._proxied_tls = proxied_tls
        """A proxy in front says that it came there by TLS."""
        self._listed = admission.may_relay(peer, settings.allow)
        self.peer = peer
        self.tls = ""
        """Protocol version and cipher, empty in clear text."""
        self.certified = False
        """It showed a certificate of those that may relay."""
        self.authentication = authentication
        """Its part of AUTH, None where there is none."""
        self.helo = ""
        self.extended = False
        """It said EHLO."""

    @property
    def user(self) -> User | None:
        """Who was authenticated."""
        return None if self.authentication is None else self.authentication.user

    @property
    def offered_auth(self) -> bool:
        """Whether AUTH is offered: over TLS, or where nobody can listen in (RFC 4954 §4)."""
        if self.authentication is None or self._settings.auth is Auth.OFF:
            return False
        settings = self._settings
        if self.private or settings.tls.required:
            return self.private
        # Behind a proxy the listener may be on this machine, and the client is not.
        return settings.local or (
            ip_address(settings.host).is_loopback and bool(self.peer) and ip_address(self.peer).is_loopback
        )

    @property
    def private(self) -> bool:
        """Whether nobody on its way reads what it says."""
        return bool(self.tls) or self._proxied_tls

    @property
    def allowed(self) -> bool:
        """Whether it may relay."""
        return self._listed or self.certified or self.user is not None

    @property
    def tenant(self) -> str:
        """Whose mail it hands in: the user's, else the listener's; empty: the sender's domain tells."""
        user = self.user
        return self._settings.tenant if user is None else tenant_of(user)

    def origin(self, *, utf8: bool) -> Origin:
        """Return what a trace says of it (RFC 3848, RFC 6531 §4.3)."""
        user = self.user
        protocol = "UTF8SMTP" if utf8 else "ESMTP" if self.extended else "SMTP"
        if self.extended and (self.tls or user is not None):
            protocol += ("S" if self.tls else "") + ("A" if user is not None else "")
        name = printable(user.name) if user is not None else ""
        return Origin(self.peer, self.helo, protocol, name, self.tls, user)

    def forget(self) -> None:
        """Know nothing of what it said, as before its first command (RFC 3207 §4.2)."""
        self.helo = ""
        self.extended = False
