"""Writes docs/configuration.md and conf/backstamp.schema.json: `python -m backstamp.config [DIRECTORY]`."""

import os
import sys

from backstamp.config.reference import reference, schema_text


def main(root: str) -> None:
    """Write both files below a checkout's directory."""
    for name, text in (("docs/configuration.md", reference()), ("conf/backstamp.schema.json", schema_text())):
        with open(os.path.join(root, name), "w", encoding="utf-8") as stream:
            stream.write(text)


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else ".")
