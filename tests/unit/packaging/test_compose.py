"""docker-compose.yml, validated without an engine: against the Compose schema and against our own files."""

import json
import os

import jsonschema
import yaml

from backstamp.config.load import load

ROOT = os.path.abspath(os.path.join(os.path.dirname(__file__), "..", "..", ".."))


def compose() -> dict:
    with open(os.path.join(ROOT, "docker-compose.yml"), encoding="utf-8") as stream:
        return yaml.safe_load(stream)


def test_it_keeps_the_compose_schema():
    with open(os.path.join(ROOT, "tests/support/compose-spec.json"), encoding="utf-8") as stream:
        schema = json.load(stream)
    jsonschema.Draft202012Validator.check_schema(schema)
    errors = jsonschema.Draft202012Validator(schema).iter_errors(compose())
    assert [f"{error.json_path}: {error.message}" for error in errors] == []


def test_the_schema_would_have_found_a_slip():
    with open(os.path.join(ROOT, "tests/support/compose-spec.json"), encoding="utf-8") as stream:
        validator = jsonschema.Draft202012Validator(json.load(stream))
    slip = compose()
    slip["services"]["relay"]["port"] = slip["services"]["relay"].pop("ports")
    assert not validator.is_valid(slip)


def test_relay_and_sink_speak_of_the_same_ports():
    services = compose()["services"]
    mounted = next(entry for entry in services["relay"]["volumes"] if entry.startswith("./"))
    settings = load(os.path.join(ROOT, mounted.split(":")[0]))
    assert settings.routes[0].via is not None
    (hop,) = settings.routes[0].via.hosts
    assert hop.host == "sink"
    assert services["sink"]["command"] == ["sink", "--listen", f"0.0.0.0:{hop.port}"]
    assert settings.admin is not None
    inside = {int(entry.rsplit(":", 1)[1]) for entry in services["relay"]["ports"]}
    assert inside == {settings.listeners[0].port, settings.admin.port}


def test_only_this_machine_can_reach_the_relay():
    published = [entry for service in compose()["services"].values() for entry in service.get("ports", ())]
    assert published
    assert all(entry.startswith("127.0.0.1:") for entry in published)


def test_the_queue_is_on_a_named_volume():
    document = compose()
    entries = [entry.split(":")[:2] for entry in document["services"]["relay"]["volumes"]]
    assert ["queue", "/var/lib/backstamp/queue"] in entries
    assert "queue" in document["volumes"]
