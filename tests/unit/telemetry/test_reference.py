"""docs/events.md and docs/metrics.md say what the code declares."""

from pathlib import Path

from backstamp.telemetry.reference import events_reference, metrics_reference

DOCS = Path(__file__).resolve().parents[3] / "docs"


def test_the_references_are_current() -> None:
    assert (DOCS / "events.md").read_text() == events_reference(), "run make docs"
    assert (DOCS / "metrics.md").read_text() == metrics_reference(), "run make docs"
