"""What a listener's keys must keep between them: TLS, its certificates, whom they let in. Pure.

Takes the parsed TOML as `between` does. A certificate nobody would see, and a client's that would
change nothing, are mistakes: who wrote them believes something else.
"""

from collections.abc import Mapping
from typing import Any

from backstamp.config.between import Mistakes, rows

_TRUST = ("client_names", "client_fingerprints")
_OF_TLS = ("certificate", "key", "tls_required", "more_certificates", "client_ca", *_TRUST)


def mistakes(document: Mapping[str, Any]) -> Mistakes:
    """Return everything that is wrong between the keys of listeners."""
    found: Mistakes = []
    for index, table in rows(document, "listen"):
        found += [(("listen", index, key), text) for key, text in _tls(table)]
    return found


def _tls(table: Mapping[str, Any]) -> list[tuple[str, str]]:
    mode = table.get("tls", "none")
    if mode == "none":
        text = "means something only with tls = starttls or implicit"
        return [(key, text) for key in _OF_TLS if key in table]
    if mode not in ("starttls", "implicit"):  # whatever it is, a list too
        return []
    found = [
        ("tls", f"{mode} needs a {key}; write {key} = a file in PEM")
        for key in ("certificate", "key")
        if key not in table
    ]
    trust = [key for key in _TRUST if table.get(key)]
    if "client_ca" not in table:
        text = "needs client_ca, which verifies clients' certificates"
        found += [(key, text) for key in trust]
    elif not trust:
        text = "lets nobody in by itself; write client_names or client_fingerprints"
        found.append(("client_ca", text))
    return found
