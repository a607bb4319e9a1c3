"""`backstamp route`: which way mail for an address would go now. Nobody is connected to."""

from __future__ import annotations

from typing import Annotated

import typer

from backstamp.cli.ask import AsJson, Config, ask, fail
from backstamp.cli.explain import print_answer

Address = Annotated[str, typer.Argument(metavar="ADDRESS")]
Sender = Annotated[
    str | None,
    typer.Option("--from", metavar="SENDER", help="For mail from this sender; <> is the null one."),
]


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(route)


def route(address: Address, config: Config = None, sender: Sender = None, json: AsJson = False) -> None:
    """Say which way mail for an address would go: route or MX, addresses, TLS, policy, limits."""
    from urllib.parse import urlencode

    from backstamp.listener import admission
    from backstamp.mail.address import AddressError, parse_written

    for written in (address, *([] if sender in (None, "", "<>") else [sender])):
        try:
            parse_written(written)
        except AddressError as error:
            fail(f"{written}: {error}")
    # No mail for it gets in, whatever way there would be.
    if (refusal := admission.recipient(address.strip().encode(), allowed=True)) is not None:
        fail(f"{address}: {refusal}")
    asked = {"address": address} | ({} if sender is None else {"from": sender})
    answer = ask(config, f"/api/v1/route?{urlencode(asked)}")
    if answer is None:
        fail("the running relay knows no dry run: it is of an earlier version")
    print_answer(answer, json=json)
