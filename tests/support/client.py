"""Sending mail to a relay under test."""

import asyncio
import smtplib
from collections.abc import Sequence

TEXT = b"Subject: test\r\n\r\nHello\r\n"


async def send(
    address: tuple[str, int],
    recipients: Sequence[str],
    *,
    sender: str = "sender@origin.test",
    content: bytes = TEXT,
    options: Sequence[str] = (),
    rcpt_options: Sequence[str] = (),
) -> None:
    """Send one message with Python's smtplib; every recipient must be taken.

    `options` are MAIL's parameters, `rcpt_options` those of every RCPT.
    """

    def run() -> None:
        with smtplib.SMTP(*address, timeout=20) as client:
            client.ehlo("client.test")
            refused = client.sendmail(
                sender, list(recipients), content, mail_options=list(options), rcpt_options=list(rcpt_options)
            )
            assert not refused

    await asyncio.to_thread(run)
