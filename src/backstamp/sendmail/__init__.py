"""The command `sendmail`: mail from programs of this machine, handed to the running relay by SMTP."""

PROGRAMS = frozenset({"sendmail", "mailq", "newaliases"})
"""Names by which the command is this one, whatever its arguments."""
