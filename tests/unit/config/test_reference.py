"""What is written down about the configuration is what the code does."""

import json
import os
import tomllib

import jsonschema
import pytest

from backstamp.config import __main__ as command
from backstamp.config import complaints, reference
from backstamp.config.model import File

ROOT = os.path.abspath(os.path.join(os.path.dirname(__file__), "..", "..", ".."))


@pytest.mark.parametrize("name", ["docs/configuration.md", "conf/backstamp.schema.json"])
def test_it_is_current(name, tmp_path):
    os.makedirs(tmp_path / "docs")
    os.makedirs(tmp_path / "conf")
    command.main(str(tmp_path))
    with open(os.path.join(ROOT, name), encoding="utf-8") as stream:
        assert stream.read() == (tmp_path / name).read_text(encoding="utf-8"), "run: make docs"


def test_every_key_is_explained():
    written = reference.reference()
    for name, table in complaints.tables(File).items():
        for key, field in complaints.keys_of(table).items():
            assert name == "" or field.description, f"[{name}] {key}"
            assert complaints.table_of(field.annotation) or f"`{key}`" in written


@pytest.mark.parametrize("name", ["backstamp", "bulk", "compose", "dev", "docker", "smarthost"])
def test_the_schema_takes_the_shipped_files(name):
    validator = jsonschema.Draft202012Validator(reference.schema())
    validator.check_schema(reference.schema())
    with open(os.path.join(ROOT, "conf", f"{name}.toml"), "rb") as stream:
        validator.validate(tomllib.load(stream))


def test_the_schema_refuses_what_the_relay_refuses():
    validator = jsonschema.Draft202012Validator(reference.schema())
    bad = {"hostname": "a.b", "queue": {"directory": "q"}, "listen": [], "retry": {"schedule": ["5 parsecs"]}}
    assert {error.json_path for error in validator.iter_errors(bad)} == {"$.listen", "$.retry.schedule[0]"}


def test_the_defaults_of_the_schema_are_as_written():
    text = json.dumps(reference.schema())
    assert '"default": "50MB"' in text
    assert '"default": "5d"' in text
