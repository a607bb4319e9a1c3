"""JSON into a struct, or everything that is wrong with it, each mistake with its path. Pure.

msgspec stops at the first mistake, which is right for a program and slow for a person. So what
it refuses is looked at once more, part by part, down to the values msgspec judges alone. Nothing
is taken here that it would not take.
"""

import types
from typing import Any, Final, TypeVar, Union, get_args, get_origin, get_type_hints

import msgspec

MISTAKES: Final = 50
"""Mistakes that are told of one request, at most."""

S = TypeVar("S", bound=msgspec.Struct)


class Mistake(msgspec.Struct, frozen=True):
    """What is wrong, and where: a path as `recipients[3].address`, empty for the whole body."""

    path: str
    problem: str


class MistakenError(ValueError):
    """A request cannot be understood; it carries all its mistakes, at most `MISTAKES` of them."""

    def __init__(self, mistakes: list[Mistake]) -> None:
        super().__init__("; ".join(f"{one.path or 'body'}: {one.problem}" for one in mistakes[:3]))
        self.mistakes = mistakes[:MISTAKES]


def decode(body: bytes, kind: type[S]) -> S:
    """Return a body as a struct.

    Raises:
        MistakenError: it is no JSON, or not of this shape.
    """
    try:
        try:
            return msgspec.json.decode(body, type=kind)
        except msgspec.ValidationError as error:
            found: list[Mistake] = []
            _look(msgspec.json.decode(body), kind, "", found)
            # The first judge has the last word: what it refuses is refused, found again or not.
            raise MistakenError(found or [_said(error, "")]) from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise MistakenError([Mistake("", f"not JSON: {error}")]) from None
    except RecursionError:
        raise MistakenError([Mistake("", "not JSON: nested too deeply")]) from None


def _look(value: Any, kind: Any, path: str, found: list[Mistake]) -> None:
    if len(found) >= MISTAKES:
        return
    if get_origin(kind) in {Union, types.UnionType}:
        kind = _meant(value, kind)
    origin = get_origin(kind)
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct) and isinstance(value, dict):
        _look_at_fields(value, kind, path, found)
    elif origin is tuple and isinstance(value, list):
        for index, one in enumerate(value):
            _look(one, get_args(kind)[0], f"{path}[{index}]", found)
    elif origin is dict and isinstance(value, dict):
        for key, one in value.items():
            _look(one, get_args(kind)[1], joined(path, key), found)
    else:
        try:
            msgspec.convert(value, kind, builtin_types=())
        except msgspec.ValidationError as error:
            found.append(_said(error, path))


def _look_at_fields(
    value: dict[str, Any], kind: type[msgspec.Struct], path: str, found: list[Mistake]
) -> None:
    hints = get_type_hints(kind, include_extras=True)
    fields = {one.encode_name: one for one in msgspec.structs.fields(kind)}
    for key, one in value.items():
        if key in fields:
            _look(one, hints[fields[key].name], joined(path, key), found)
        else:
            found.append(Mistake(joined(path, key), "is not known"))
    for name, field in fields.items():
        if field.required and name not in value:
            found.append(Mistake(joined(path, name), "is missing"))


def _meant(value: Any, kind: Any) -> Any:
    """Return the part of a union that a JSON array or object can only mean; the union for the rest."""
    for part in get_args(kind):
        origin = get_origin(part)
        if isinstance(value, list) and origin is tuple:
            return part
        if isinstance(value, dict) and isinstance(part, type) and issubclass(part, msgspec.Struct):
            return part
    return kind


def joined(path: str, key: str) -> str:
    """Return the path of a key below a path; a key that is not plain stands as it would in JSON."""
    name = key[:80]
    if not name.replace("-", "_").isidentifier():
        return f"{path}[{msgspec.json.encode(name).decode()}]"
    return f"{path}.{name}" if path else name


def _said(error: msgspec.ValidationError, path: str) -> Mistake:
    """Return msgspec's sentence, its own account of the place taken off where ours is exact."""
    text, _, place = str(error).partition(" - at `$")
    return Mistake(
        path + place.rstrip("`").removeprefix("." if not path else ""), text[:1].lower() + text[1:]
    )
