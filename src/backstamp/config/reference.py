"""The configuration reference and the editors' JSON Schema, made from the model.

`make docs` writes both; a test checks that what is written is current. A sentence about a
key is changed in `model`, never in the files.
"""

import json
import typing
from typing import Any

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from backstamp.config.complaints import keys_of, table_of, tables
from backstamp.config.model import File

_OPENING = """\
# Configuration

Made from `src/backstamp/config/model.py` and `outgoing.py` by `make docs`; change it there.

One TOML file. `backstamp check --config FILE` reads it and prints every mistake with file, line and key.
Unknown keys are mistakes. Editors complete and check with `conf/backstamp.schema.json`
(`#:schema backstamp.schema.json` in the first line).

Durations are whole numbers with a unit, larger units first: `500ms`, `30s`, `5m`, `1h30m`, `5d`, `1w`.
Sizes are `512B`, `64kB`, `50MB`, `1GB` (powers of 1000) or `64KiB`, `50MiB`, `1GiB` (powers of 1024).
Rates are `100/1m`, `10/1s`, `3600/1h`: a number in a time of up to a day.
Relative paths start at the current directory.
"""
_KINDS = {"string": "string", "boolean": "true or false", "integer": "number", "number": "number"}


def schema() -> dict[str, Any]:
    """Return the JSON Schema (2020-12) of a configuration file."""
    made = File.model_json_schema()
    made["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    made["title"] = "Backstamp configuration"
    return made


def schema_text() -> str:
    """Return the schema as it stands in conf/backstamp.schema.json."""
    return json.dumps(schema(), indent=2, ensure_ascii=False) + "\n"


def reference() -> str:
    """Return the reference as it stands in docs/configuration.md."""
    parts = [_OPENING]
    names: dict[type[BaseModel], list[str]] = {}
    for name, table in tables(File).items():
        names.setdefault(table, []).append(name)
    for table, (name, *others) in names.items():
        made = table.model_json_schema()["properties"]
        fields = keys_of(table)
        # A table's own keys, then those it has in common with others.
        rows = [
            _row(key, fields[key], made[key])
            for key in sorted(fields, key=lambda key: not _is_own(table, fields[key]))
            if name or table_of(fields[key].annotation) is None
        ]
        lines = [f"\n## {', '.join(_heading(one) for one in (name, *others))}\n"]
        if name:
            lines.append(f"{_sentence(table.__doc__)}\n")
        lines += ["| key | type | default | meaning |", "| --- | --- | --- | --- |", *rows]
        parts.append("\n".join(lines) + "\n")
    return "".join(parts)


def _heading(name: str) -> str:
    if not name:
        return "Above all tables"
    table: type[BaseModel] = File
    repeated = False
    for part in name.split("."):
        annotation = keys_of(table)[part].annotation
        repeated = typing.get_origin(annotation) is list
        table = table_of(annotation) or table
    return f"`[[{name}]]`" if repeated else f"`[{name}]`"


def _is_own(table: type[BaseModel], field: FieldInfo) -> bool:
    return any(table.model_fields.get(name) is field for name in table.__annotations__)


def _row(key: str, field: FieldInfo, made: dict[str, Any]) -> str:
    return f"| `{key}` | {_kind(made, field)} | {_default(field)} | {_sentence(field.description)} |"


def _kind(made: dict[str, Any], field: FieldInfo) -> str:
    """Say what may be written: the kind, an example, the bounds."""
    if table_of(field.annotation) is not None:
        return "list of tables" if typing.get_origin(field.annotation) is list else "table"
    choices = [choice for choice in made.get("anyOf", [made]) if choice.get("type") != "null"]
    return " or ".join(_plain(choice) for choice in choices)


def _plain(made: dict[str, Any]) -> str:
    if "enum" in made:
        return " or ".join(f"`{choice}`" for choice in made["enum"])
    if made["type"] == "array":
        return f"list of {_plain(made['items'])}"
    kind = _KINDS[made["type"]]
    if "examples" in made:
        kind += ", as " + ", ".join(f"`{example}`" for example in made["examples"])
    low, high = made.get("minimum"), made.get("maximum")
    if low is not None:
        kind += f", {low} to {high}" if high is not None else f", {low} or more"
    if "exclusiveMinimum" in made:
        kind += f", more than {made['exclusiveMinimum']:g} and less than {made['exclusiveMaximum']:g}"
    return kind


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "needed"
    if field.default is None:
        return "none"
    if isinstance(field.default, BaseModel):
        return "as below"
    return f"`{json.dumps(field.default)}`"


def _sentence(text: str | None) -> str:
    return " ".join((text or "").split())
