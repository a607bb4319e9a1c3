"""The front door: our aiosmtpd session, who may relay, the server."""
