"""The Latchkey service that tests/it/clients/service.rs has started for these tests, and its users."""

from __future__ import annotations

import os
import subprocess
import uuid
from dataclasses import dataclass
from typing import Any

import httpx
from latchkey import InvalidToken, Latchkey

PASSWORD = "tidal engine verse marmalade"  # noqa: S105 - a test password


@dataclass
class User:
    """A registered user."""

    service: Service
    username: str

    async def sign_in(self, password: str = PASSWORD) -> dict[str, Any]:
        """Signs in; returns the tokens of a new session."""
        response = await self.service.http.post("/v1/login", json={"identifier": self.username, "password": password})
        tokens: dict[str, Any] = self.service.ok(response)
        return tokens

    async def sign_out(self, tokens: dict[str, Any]) -> None:
        """Ends the session that the tokens belong to."""
        self.service.ok(await self.service.http.post("/v1/logout", json={"refresh_token": tokens["refresh_token"]}))

    async def change_password(self, tokens: dict[str, Any], new_password: str) -> dict[str, Any]:
        """Changes the password from PASSWORD, which ends all sessions; returns the tokens of the new session."""
        headers = {"Authorization": f"Bearer {tokens['access_token']}"}
        body = {"current_password": PASSWORD, "new_password": new_password}
        response = await self.service.http.post("/v1/me/password", json=body, headers=headers)
        new_tokens: dict[str, Any] = self.service.ok(response)
        return new_tokens


@dataclass
class Service:
    """A running Latchkey."""

    issuer: str
    http: httpx.AsyncClient

    def ok(self, response: httpx.Response) -> Any:
        """Asserts that the response is successful; returns its body, or None if it is empty."""
        assert response.is_success, response.text
        return response.json() if response.content else None

    async def register(self) -> User:
        """Registers a user with a random username and PASSWORD."""
        username = f"u{uuid.uuid4().hex[:12]}"
        body = {"email": f"{username}@example.com", "username": username, "password": PASSWORD}
        self.ok(await self.http.post("/v1/users", json=body))
        return User(self, username)

    def command(self, *arguments: str) -> str:
        """Runs a command of the `latchkey` binary in the service's working directory; returns its output."""
        done = subprocess.run(  # noqa: S603, ASYNC221
            [os.environ["TEST_SERVICE_BINARY"], *arguments],
            cwd=os.environ["TEST_SERVICE_FOLDER"],
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def latchkey(self, **settings: Any) -> Latchkey:
        """Returns a verifier of this service's tokens, not yet started. `settings` replace or extend the defaults."""
        arguments = {
            "audience": "latchkey",
            "client_id": os.environ["TEST_SERVICE_CLIENT_ID"],
            "client_secret": os.environ["TEST_SERVICE_CLIENT_SECRET"],
            **settings,
        }
        return Latchkey(self.issuer, **arguments)


async def is_refused(latchkey: Latchkey, token: str) -> bool:
    """Whether the token is refused as invalid."""
    try:
        await latchkey.verify(token)
    except InvalidToken:
        return True
    return False
