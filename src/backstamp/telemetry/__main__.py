"""Write docs/events.md and docs/metrics.md into the current directory (`make docs`)."""

from pathlib import Path

from backstamp.telemetry.reference import events_reference, metrics_reference

Path("docs/events.md").write_text(events_reference(), encoding="utf-8")
Path("docs/metrics.md").write_text(metrics_reference(), encoding="utf-8")
