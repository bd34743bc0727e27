"""Signs in to an MCP server with the OAuth client of PyPI's MCP SDK. tests/it/oidc/mcp.rs starts this program and plays the user's browser.

The program prints `open URL`, and reads the URL to which the browser returns. Then it calls a tool twice: with the first token, and with a
refreshed one. At the end it prints `done` with the answers."""

import asyncio
import json
import sys
from urllib.parse import parse_qsl, urlsplit

import httpx2
from mcp import ClientSession
from mcp.client.auth import OAuthClientProvider
from mcp.client.streamable_http import streamable_http_client
from mcp.shared.auth import AuthorizationCodeResult, OAuthClientMetadata

# The test's argument: server, redirect_uri, auth_method, and client_metadata_url unless the client registers itself.
config = json.loads(sys.argv[1])


class Storage:
    """Keeps the tokens and the registered client in memory, for the SDK."""

    tokens = None
    client = None

    async def get_tokens(self):
        return self.tokens

    async def set_tokens(self, tokens):
        self.tokens = tokens

    async def get_client_info(self):
        return self.client

    async def set_client_info(self, client):
        self.client = client


async def open_browser(url):
    print(f"open {url}", flush=True)


async def read_callback():
    callback_url = await asyncio.to_thread(sys.stdin.readline)
    query = dict(parse_qsl(urlsplit(callback_url.strip()).query))
    return AuthorizationCodeResult(code=query["code"], state=query["state"], iss=query["iss"])


async def whoami(session):
    """Calls the server's tool, which returns the account and the client of the token."""
    answer = await session.call_tool("whoami", {})
    return json.loads(answer.content[0].text)


async def main():
    storage = Storage()
    provider = OAuthClientProvider(
        server_url=config["server"],
        client_metadata=OAuthClientMetadata(
            client_name="MCP SDK of PyPI",
            redirect_uris=[config["redirect_uri"]],
            grant_types=["authorization_code", "refresh_token"],
            response_types=["code"],
            token_endpoint_auth_method=config["auth_method"],
        ),
        storage=storage,
        redirect_handler=open_browser,
        callback_handler=read_callback,
        client_metadata_url=config.get("client_metadata_url"),
    )
    async with httpx2.AsyncClient(auth=provider) as client:
        async with streamable_http_client(config["server"], http_client=client) as streams:
            # Some releases of the SDK return a third value.
            read_stream, write_stream = streams[:2]
            async with ClientSession(read_stream, write_stream) as session:
                await session.initialize()
                first = await whoami(session)
                first_refresh_token = storage.tokens.refresh_token
                # 1970: the provider considers the token expired, and refreshes it
                provider.context.token_expiry_time = 1
                second = await whoami(session)
                assert storage.tokens.refresh_token != first_refresh_token, "the tokens were not refreshed"
    answers = {"first": first, "second": second, "client_id": storage.client.client_id}
    print(f"done {json.dumps(answers)}", flush=True)


asyncio.run(main())
