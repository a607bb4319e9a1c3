"""What every test may use."""

from collections.abc import Callable

import pytest
from hypothesis import HealthCheck, settings

# Timings decide no test: on a busy machine an example takes as long as it takes.
settings.register_profile("backstamp", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("backstamp")


@pytest.fixture
def say(record_property: Callable[[str, object], None]) -> Callable[[str], None]:
    """Give a test a voice: what it says stands at the end of the run, also of one that passed."""
    return lambda text: record_property("says", text)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    said = [
        f"{report.nodeid.rpartition('/')[2]}: {text}"
        for report in terminalreporter.getreports("passed")
        for name, text in report.user_properties
        if name == "says"
    ]
    if said:
        terminalreporter.section("what tests say")
        for line in said:
            terminalreporter.write_line(line)
