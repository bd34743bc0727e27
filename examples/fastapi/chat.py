"""A chat client for the command line: `python chat.py HOST:PORT ACCESS_TOKEN MESSAGE`. Prints all messages until the chat closes."""

import asyncio
import sys

from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed


async def main(address: str, token: str, message: str) -> None:
    """Sends the message and prints all messages."""
    async with connect(f"ws://{address}/chat", additional_headers={"Authorization": f"Bearer {token}"}, proxy=None) as chat:
        try:
            await chat.send(message)
            while True:
                print(await chat.recv(), flush=True)
        except ConnectionClosed:
            print(f"closed: {chat.close_code} {chat.close_reason}")


asyncio.run(main(*sys.argv[1:]))
