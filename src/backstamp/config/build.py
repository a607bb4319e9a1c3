"""Checked tables to the records of the rooms. Pure: what can be wrong was found before.

A rule of a destination or a provider has only what is written there, so that the default
holds for the rest. A provider of the file replaces a shipped one key by key.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from msgspec.structs import replace

from backstamp.config import smarthosts
from backstamp.config.address import Address
from backstamp.config.model import (
    AuthTable,
    File,
    HttpTable,
    LimitsTable,
    ListenTable,
    RetryTable,
    SuppressionTable,
)
from backstamp.config.outgoing import (
    AdaptTable,
    DeliveryTable,
    DestinationTable,
    OwnKeys,
    PoolTable,
    ProviderTable,
    RouteTable,
)
from backstamp.config.settings import Settings
from backstamp.config.shipped import Known
from backstamp.listener.settings import (
    Auth,
    AuthSettings,
    HttpSettings,
    Limits,
    ListenerSettings,
    TlsSettings,
)
from backstamp.policy.adapt import Action, Adaptation
from backstamp.policy.destination import DestinationPolicy, Family, Provider, Rule, Timeouts, Tls
from backstamp.policy.retry import RetryPolicy
from backstamp.policy.route import Credentials, NextHop, Route, Smarthost
from backstamp.policy.source import PoolAddress, SourcePool
from backstamp.policy.suppression import At, SuppressionPolicy
from backstamp.policy.token import TokenEndpoint

_OF_THE_TABLE = {"match", "name", "mx", "enabled", "reference", "date"}
"""Keys of destinations and providers that say who they are, not what is different."""


def settings(file: File, known: Known, passwords: Mapping[int, str], token_secret: str = "") -> Settings:
    """Return the settings of a file; secrets were read from files, `passwords` by the index of the route."""
    limits = _limits(file.limits)
    default = _default(file.delivery, file.retry)
    return Settings(
        hostname=file.hostname,
        queue_directory=file.queue.directory,
        queue_reserve=file.queue.reserve,
        listeners=tuple(
            ListenerSettings(
                **_way_in(table, table.address, file.hostname, limits),
                submission=table.submission,
                auth=Auth(table.auth),
                line_endings=table.line_endings,
                future_release=table.future_release or 0.0,
                qualify=table.qualify or "",
                tls=_listener_tls(table),
                proxies=tuple(table.proxies),
                mode=table.mode,
            )
            for table in file.listen
        ),
        auth=_auth(file.auth, token_secret),
        destination=default,
        rules=tuple(_rule(table, default) for table in file.destination),
        providers=tuple(_providers(file.provider, known, default)),
        routes=tuple(
            _route(table, table.password or passwords.get(index, ""), default)
            for index, table in enumerate(file.route)
        ),
        sources=tuple(_pool(table) for table in file.source),
        adaptations=tuple(_adaptation(table) for table in (*file.adapt, *known.adapt)),
        connections=file.delivery.total_connections,
        suppression=_suppression(file.suppression),
        nameservers=tuple(file.dns.nameservers),
        admin=file.admin.address,
        http=_http(file.http, file.hostname, limits),
        log_attempts=file.log.attempts,
    )


def _listener_tls(table: ListenTable) -> TlsSettings:
    if table.tls == "none":
        return TlsSettings()
    assert table.certificate is not None
    assert table.key is not None
    more = ((one.certificate, one.key) for one in table.more_certificates)
    return TlsSettings(
        table.tls,
        ((table.certificate, table.key), *more),
        table.client_ca or "",
        frozenset(table.client_names),
        frozenset(table.client_fingerprints),
        table.tls_required,
    )


def _way_in(
    table: ListenTable | HttpTable, address: Address, hostname: str, limits: Limits
) -> dict[str, Any]:
    """Return what a listener and the door of HTTP are told alike."""
    return {
        "hostname": hostname,
        "host": address.host,
        "port": address.port,
        "allow": tuple(table.allow),
        "at_most_once": table.semantics == "at-most-once",
        "limits": limits,
        "tenant": table.tenant,
        "tenant_header": table.tenant_header,
        "priority": table.priority,
        "priority_limit": table.priority_limit,
    }


def _http(table: HttpTable, hostname: str, limits: Limits) -> HttpSettings | None:
    if table.address is None:
        return None
    listener = ListenerSettings(**_way_in(table, table.address, hostname, limits), submission=True)
    return HttpSettings(listener, table.requests, table.memory, table.auth == "required")


def _limits(table: LimitsTable) -> Limits:
    return Limits(
        message_size=table.message_size,
        recipients=table.recipients,
        connections=table.connections,
        hops=table.hops,
        idle=table.command_timeout,
        message=table.data_timeout,
        block=table.data_block_timeout,
        min_data_rate=table.min_data_rate,
        header_size=table.header_size,
        line_length=table.line_length,
        content_memory=table.content_memory,
        connections_per_client=table.connections_per_client,
        connections_per_network=table.connections_per_network,
        messages_per_connection=table.messages_per_connection,
        connection_rate=table.connection_rate,
        message_rate=table.message_rate,
        recipient_rate=table.recipient_rate,
        exempt=tuple(table.exempt),
    )


def _auth(table: AuthTable, secret: str) -> AuthSettings:
    endpoint = None
    if table.token_endpoint is not None:
        endpoint = TokenEndpoint(
            table.token_endpoint, table.token_client or "", secret, table.token_user_key or ""
        )
    return AuthSettings(
        users=table.users or "",
        endpoint=endpoint,
        failures=table.failures,
        lockout=table.lockout,
        mechanisms=tuple(table.mechanisms),
    )


def _default(table: DeliveryTable, retry: RetryTable) -> DestinationPolicy:
    return DestinationPolicy(
        retry=RetryPolicy(schedule=tuple(retry.schedule), lifetime=retry.lifetime),
        timeouts=Timeouts(**dict(table.timeouts)),
        connections=table.connections,
        initial_connections=table.initial_connections,
        messages_per_connection=table.messages_per_connection,
        recipients_per_transaction=table.recipients_per_transaction,
        connection_rate=table.connection_rate,
        message_rate=table.message_rate,
        idle=table.idle,
        tls=_level(table.tls),
        family=Family(table.family),
        source=table.source,
        port=table.port,
        private_addresses=table.private_addresses,
    )


def _rule(table: DestinationTable, default: DestinationPolicy) -> Rule:
    return Rule(table.match, _changes(_own(table), default))


def _providers(own: Sequence[ProviderTable], known: Known, default: DestinationPolicy) -> Iterator[Provider]:
    """Yield the providers in force, the file's first: of two that claim an MX name that one is meant."""
    shipped = known.by_name()
    for table in own:
        base = shipped.get(table.name)
        mx = table.mx or (base.mx if base is not None else [])
        keys = _own(table) if base is None else _merged(_own(base), _own(table))
        if table.enabled:
            yield Provider(table.name, tuple(mx), _changes(keys, default))
    replaced = {table.name for table in own}
    for base in known.provider:
        if base.name not in replaced:
            yield Provider(base.name, tuple(base.mx), _changes(_own(base), default))


def _own(table: OwnKeys) -> dict[str, Any]:
    """Return what is written in a table, the tables in it too."""
    return {
        key: value for key, value in table.model_dump(exclude_unset=True).items() if key not in _OF_THE_TABLE
    }


def _merged(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for key, value in over.items():
        inner = merged.get(key)
        merged[key] = _merged(inner, value) if isinstance(inner, dict) and isinstance(value, dict) else value
    return merged


def _changes(keys: Mapping[str, Any], default: DestinationPolicy) -> dict[str, Any]:
    """Return keys as fields of `DestinationPolicy`; a part of a record is filled up from the default's."""
    changes = dict(keys)
    if "tls" in keys:
        changes["tls"] = _level(keys["tls"])
    if "family" in keys:
        changes["family"] = Family(keys["family"])
    if "timeouts" in keys:
        changes["timeouts"] = replace(default.timeouts, **keys["timeouts"])
    if "retry" in keys:
        retry = dict(keys["retry"])
        if "schedule" in retry:
            retry["schedule"] = tuple(retry["schedule"])
        changes["retry"] = replace(default.retry, **retry)
    return changes


def _route(table: RouteTable, password: str, default: DestinationPolicy) -> Route:
    via = None
    tls = None if table.tls is None else _level(table.tls)
    if table.via:
        credentials = None
        if table.username is not None:
            credentials = Credentials(table.username, password, table.auth or "")
        hosts = tuple(NextHop(one.host, one.port) for one in table.via)
        via = Smarthost(hosts, table.implicit_tls, credentials)
        secret = credentials is not None and not smarthosts.on_this_machine(table.via)
        if tls is None and (table.implicit_tls or secret):
            tls = max(Tls.ENCRYPT, default.tls)
    return Route(
        table.match,
        via,
        sender=table.sender or "",
        at_most_once=table.semantics == "at-most-once",
        tls=tls,
        source=table.source,
        priority=table.priority,
    )


def _pool(table: PoolTable) -> SourcePool:
    addresses = tuple(PoolAddress(one.address, one.helo or "", one.weight) for one in table.addresses)
    return SourcePool(table.name, addresses, tuple(table.senders))


def _adaptation(table: AdaptTable) -> Adaptation:
    return Adaptation(table.provider, table.pattern, Action(table.action), table.seconds, table.factor)


def _suppression(table: SuppressionTable) -> SuppressionPolicy:
    return SuppressionPolicy(
        enabled=table.enabled,
        classes=frozenset(table.classes),
        after=table.after,
        within=table.within,
        expiry=table.expiry,
        at=At(table.at),
    )


def _level(name: str) -> Tls:
    return Tls[name.upper()]
