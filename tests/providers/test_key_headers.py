"""How a provider key travels."""

import pytest

from providers.domain.types import AuthStyle


@pytest.mark.parametrize(
    ("style", "headers"),
    [
        (AuthStyle.BEARER, {"authorization": "Bearer made-up"}),
        (AuthStyle.X_API_KEY, {"x-api-key": "made-up"}),
        (AuthStyle.X_GOOG_API_KEY, {"x-goog-api-key": "made-up"}),
        (AuthStyle.API_KEY, {"api-key": "made-up"}),
    ],
)
def test_each_vendor_gets_the_key_in_its_own_header(style: AuthStyle, headers: dict[str, str]) -> None:
    assert style.headers("made-up") == headers
    assert style.headers("") == {}
