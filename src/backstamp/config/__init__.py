"""TOML to the frozen records of the rooms; every error at once, with file, line and key."""
