"""Mail by HTTP: a request becomes messages, and they go through the door that SMTP's go through."""
