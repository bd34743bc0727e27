"""What all tests share."""

import os
from collections.abc import AsyncIterator

import httpx
import pytest
from fake_issuer import FakeIssuer, issuing
from people import Service


@pytest.fixture
def anyio_backend() -> str:
    """The event loop of tests that are marked with anyio."""
    return "asyncio"


@pytest.fixture
async def issuer(anyio_backend: str) -> AsyncIterator[FakeIssuer]:
    """An issuer of this test's own."""
    async with issuing() as issuer:
        yield issuer


@pytest.fixture
async def service(anyio_backend: str) -> AsyncIterator[Service]:
    """The real service, one for all tests, where the driver says that it is."""
    url = os.environ["TEST_SERVICE_ISSUER"]
    async with httpx.AsyncClient(base_url=url, timeout=60) as http:
        yield Service(url, http)
