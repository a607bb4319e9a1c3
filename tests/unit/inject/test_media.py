"""Media types with their parameters."""

import pytest

from backstamp.inject import media


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("application/PDF", ("application", "pdf", {})),
        (
            "text/calendar; method=REQUEST;Charset=utf-8",
            ("text", "calendar", {"method": "REQUEST", "charset": "utf-8"}),
        ),
        ('text/plain; name="a; b"', ("text", "plain", {"name": "a; b"})),
    ],
)
def test_a_type_and_its_parameters(text: str, found: tuple[str, str, dict[str, str]]) -> None:
    assert media.parse(text) == found


@pytest.mark.parametrize(
    "text",
    [
        "",
        "pdf",
        "text/",
        "text/plain;",
        "text/plain; x",
        "text/plain; x=",
        "text/plain; x=1; X=2",
        "text/plain; x=a b",
        'text/plain; x="\r\nBcc: y"',
        'text/plain; x="a\\"',
        "text/plain\r\nX: y",
        "text/plain; x=\u00fc",
    ],
)
def test_what_is_none(text: str) -> None:
    """Security 4: nothing in it ends a line."""
    with pytest.raises(ValueError, match=r"is no media type|has a parameter"):
        media.parse(text)


def test_a_type_has_few_parameters() -> None:
    ten = "text/plain" + "".join(f"; p{number}=v" for number in range(10))
    assert len(media.parse(ten).parameters) == 10
    with pytest.raises(ValueError, match="more than 10 parameters"):
        media.parse(ten + "; p10=v")
    with pytest.raises(ValueError, match="more than 1000 characters"):
        media.parse(f'text/plain; p="{" " * 1000}"')
