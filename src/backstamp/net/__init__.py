"""Shells that speak to other hosts: the resolver and the SMTP client."""
