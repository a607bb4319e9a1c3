"""pydantic's errors as sentences for people: what stands there, what it is not, what to write.

It leaves out the line numbers; `load` adds them.
"""

import difflib
import typing
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from backstamp.config.lines import Path
from backstamp.config.rules import ComplaintError
from backstamp.config.words import shown


def complaints(errors: Iterable[ErrorDetails], file: type[BaseModel]) -> Iterator[tuple[Path, str]]:
    """Yield every error as the path of its key and a sentence."""
    for error in errors:
        path: Path = tuple(error["loc"])
        cause = error.get("ctx", {}).get("error")
        if isinstance(cause, ComplaintError):
            for place, text in cause.places:
                yield (*path, *place), text
        elif cause is not None:
            yield path, str(cause)
        elif error["type"] == "extra_forbidden":
            yield path, _unknown(path, file)
        else:
            yield path, _sentence(error)


def tables(file: type[BaseModel]) -> dict[str, type[BaseModel]]:
    """Return every table of the file by its dotted name, `""` for the file itself, in order."""
    found: dict[str, type[BaseModel]] = {"": file}
    for name, field in keys_of(file).items():
        table = table_of(field.annotation)
        if table is not None:
            for below, model in tables(table).items():
                found[f"{name}.{below}" if below else name] = model
    return found


def keys_of(table: type[BaseModel]) -> dict[str, FieldInfo]:
    """Return the fields of a table by their keys in the file: some are words Python keeps for itself."""
    return {field.alias or name: field for name, field in table.model_fields.items()}


def table_of(annotation: Any) -> type[BaseModel] | None:
    """Return the table a field holds, once, in a list or perhaps; None where it holds a value."""
    for kind in (annotation, *typing.get_args(annotation)):
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            return kind
    return None


def _unknown(path: Path, file: type[BaseModel]) -> str:
    """Name the key that was probably meant: one spelled alike in the same table, or the same in another."""
    known = tables(file)
    here = ".".join(part for part in path[:-1] if isinstance(part, str))
    names = list(keys_of(known[here]))
    name = str(path[-1])
    near = difflib.get_close_matches(name, names, 1)
    if near:
        return f"unknown key; did you mean {near[0]}?"
    for table, model in known.items():
        if name in keys_of(model):
            return f"unknown key here; it belongs {f'in [{table}]' if table else 'above all tables'}"
    return f"unknown key; known are {', '.join(names)}"


def _sentence(error: ErrorDetails) -> str:
    """Return a sentence for what pydantic found; its own words where we have none."""
    value = shown(error["input"])
    bounds: Mapping[str, Any] = error.get("ctx", {})
    match error["type"]:
        case "missing":
            return "missing; it has no default"
        case "string_type":
            return f"{value} is not a string; write it in double quotes"
        case "string_too_short":
            return f"{value} is empty"
        case "bool_type":
            return f"{value} is neither true nor false"
        case "float_type":
            return f"{value} is not a number"
        case "int_type":
            return f"{value} is not a whole number"
        case "list_type":
            return f"{value} is not a list; write […], for a table [[…]]"
        case "model_type" | "model_attributes_type" | "dict_type":
            return f"{value} is not a table; write it as a table of its own, with [ ] around its name"
        case "literal_error":
            return f"{value} is not one of {bounds['expected'].replace(chr(39), '')}"
        case "greater_than_equal":
            return f"{value} is too small; write {bounds['ge']} or more"
        case "less_than_equal":
            return f"{value} is too large; write {bounds['le']} or less"
        case "greater_than":
            return f"{value} is too small; write more than {bounds['gt']}"
        case "less_than":
            return f"{value} is too large; write less than {bounds['lt']}"
        case "too_short":
            return "is empty; write at least one"
        case _:
            return error["msg"]
