"""What all tests share."""

from collections.abc import AsyncIterator

import pytest
from fake_issuer import FakeIssuer, issuing


@pytest.fixture
def anyio_backend() -> str:
    """The event loop of tests that are marked with anyio."""
    return "asyncio"


@pytest.fixture
async def issuer(anyio_backend: str) -> AsyncIterator[FakeIssuer]:
    """An issuer of this test's own."""
    async with issuing() as issuer:
        yield issuer
