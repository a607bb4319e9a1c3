"""The command `sendmail`: mail from programs of this machine, handed to the running relay by SMTP."""
