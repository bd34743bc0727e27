"""A chat client for the command line: `python chat.py HOST:PORT ACCESS_TOKEN MESSAGE`.

Sends MESSAGE and prints all messages of the chat until the server closes the connection, for example after a sign-out.
"""

import asyncio
import sys

from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed


async def main(address: str, token: str, message: str) -> None:
    authorization = {"Authorization": f"Bearer {token}"}
    # The app runs on this machine: no proxy from the environment.
    async with connect(f"ws://{address}/chat", additional_headers=authorization, proxy=None) as chat:
        try:
            await chat.send(message)
            while True:
                print(await chat.recv(), flush=True)
        except ConnectionClosed:
            print(f"closed: {chat.close_code} {chat.close_reason}")


_program, address, token, message = sys.argv
asyncio.run(main(address, token, message))
