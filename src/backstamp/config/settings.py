"""What a configuration file comes to: one frozen record, made of the rooms' own records.

The composition root hands each room its part; a room never sees the others', nor this.
Reload makes a new record; nothing is ever changed in one.
"""

import msgspec

from backstamp.config.address import Address
from backstamp.listener.settings import AuthSettings, HttpSettings, ListenerSettings
from backstamp.policy.adapt import Adaptation
from backstamp.policy.destination import DestinationPolicy, Provider, Rule
from backstamp.policy.route import Route
from backstamp.policy.source import SourcePool
from backstamp.policy.suppression import SuppressionPolicy


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """A whole configuration.

    `queue_directory` is as written (a relative one starts at the current directory),
    `queue_reserve` octets;
    `nameservers` is empty where the system's are meant; `admin` is None without an HTTP
    side, `http` without mail by HTTP; `log_attempts` says whether `attempt` events are written.
    `destination` is the default policy, `rules` and `providers` what differs from it: a `PolicyTable`
    is made of the three. `adaptations` are the file's, then the shipped ones. `connections` is the most
    at a time to all destinations together.
    """

    hostname: str
    queue_directory: str
    queue_reserve: int = 0
    listeners: tuple[ListenerSettings, ...]
    auth: AuthSettings = AuthSettings()
    destination: DestinationPolicy = DestinationPolicy()
    rules: tuple[Rule, ...] = ()
    providers: tuple[Provider, ...] = ()
    routes: tuple[Route, ...] = ()
    sources: tuple[SourcePool, ...] = ()
    adaptations: tuple[Adaptation, ...] = ()
    connections: int = 2000
    suppression: SuppressionPolicy = SuppressionPolicy()
    nameservers: tuple[Address, ...] = ()
    admin: Address | None = None
    http: HttpSettings | None = None
    log_attempts: bool = False
