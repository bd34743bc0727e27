"""Fixtures of all tests. Async fixtures request `anyio_backend`, so that anyio's pytest plugin runs them."""

import os
from collections.abc import AsyncIterator

import httpx
import pytest
from fake_issuer import FakeIssuer, running_issuer
from service_users import Service


@pytest.fixture
def anyio_backend() -> str:
    """The event loop on which anyio runs async tests and fixtures. anyio prescribes the name."""
    return "asyncio"


@pytest.fixture
async def issuer(anyio_backend: str) -> AsyncIterator[FakeIssuer]:
    """A scriptable issuer for one test."""
    async with running_issuer() as issuer:
        yield issuer


@pytest.fixture
async def service(anyio_backend: str) -> AsyncIterator[Service]:
    """The real service that tests/it/clients started before it started pytest."""
    url = os.environ["TEST_SERVICE_ISSUER"]
    async with httpx.AsyncClient(base_url=url, timeout=60) as http:
        yield Service(url, http)
