"""The MCP SDK of PyPI signs in to an MCP server with the SDK's OAuth client. The program prints `open URL` for the user's browser, and reads
the URL to which the browser returns. Then it calls a tool twice: with the first token, and with a refreshed one."""

import asyncio
import json
import sys
from urllib.parse import parse_qs, urlsplit

import httpx2
from mcp import ClientSession
from mcp.client.auth import OAuthClientProvider
from mcp.client.streamable_http import streamable_http_client
from mcp.shared.auth import AuthorizationCodeResult, OAuthClientMetadata

config = json.loads(sys.argv[1])


class Storage:
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
    line = await asyncio.to_thread(sys.stdin.readline)
    query = {name: values[0] for name, values in parse_qs(urlsplit(line.strip()).query).items()}
    return AuthorizationCodeResult(code=query["code"], state=query["state"], iss=query["iss"])


async def whoami(session):
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
            async with ClientSession(*streams[:2]) as session:
                await session.initialize()
                first = await whoami(session)
                before = storage.tokens.refresh_token
                # The provider refreshes a token that it considers expired.
                provider.context.token_expiry_time = 1
                second = await whoami(session)
                assert storage.tokens.refresh_token != before, "the tokens were not refreshed"
    done = {"first": first, "second": second, "client_id": storage.client.client_id}
    print(f"done {json.dumps(done)}", flush=True)


asyncio.run(main())
