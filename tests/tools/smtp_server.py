"""An SMTP server with the faults that the tests of mail need.

    smtp_server.py PORT FOLDER [--tls CERT KEY] [--starttls CERT KEY] [--user NAME:PASSWORD]

Each accepted message is appended to FOLDER/received.jsonl and flushed before it is acknowledged. Each delivery attempt is
appended to FOLDER/attempts.jsonl. The local part of a recipient selects a fault: `greylist…` is refused with 451 the first
time, `reject…` always with 550, `hang…` gets no answer to its first message, `crash…` loses the connection in its first
message, and `lost…` is accepted, but the first acknowledgement is lost with the connection. While FOLDER/down exists,
every connection is closed at once.
"""

import argparse
import asyncio
import json
import ssl
from collections import Counter
from pathlib import Path

from aiosmtpd.smtp import SMTP, AuthResult


def encrypted(server):
    return server.transport.get_extra_info("sslcontext") is not None


class Handler:
    def __init__(self, folder):
        self.folder = folder
        self.seen = Counter()

    def append(self, name, value):
        with open(self.folder / name, "a", encoding="utf-8") as file:
            file.write(json.dumps(value) + "\n")
            file.flush()

    async def handle_RCPT(self, server, session, envelope, address, options):
        self.append("attempts.jsonl", {"to": address, "tls": encrypted(server), "user": bool(session.authenticated)})
        self.seen[address] += 1
        if address.startswith("reject"):
            return "550 5.1.1 no such mailbox"
        if address.startswith("greylist") and self.seen[address] == 1:
            return "451 4.7.1 greylisted, try again later"
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server, session, envelope):
        address = envelope.rcpt_tos[0]
        first = self.seen[address] == 1
        if first and address.startswith("crash"):
            server.transport.abort()
            return "451 unreachable"
        if first and address.startswith("hang"):
            await asyncio.Event().wait()
        message = {
            "from": envelope.mail_from,
            "to": address,
            "tls": encrypted(server),
            "user": bool(session.authenticated),
            "data": envelope.content.decode("utf-8"),
        }
        self.append("received.jsonl", message)
        if first and address.startswith("lost"):
            server.transport.abort()
        return "250 accepted"


class Server(SMTP):
    """Closes connections while the server is down, and does not announce its version."""

    def connection_made(self, transport):
        if (self.event_handler.folder / "down").exists():
            transport.abort()
            return
        super().connection_made(transport)


def context(paths):
    if not paths:
        return None
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    made.load_cert_chain(*paths)
    return made


async def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("port", type=int)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--tls", nargs=2)
    parser.add_argument("--starttls", nargs=2)
    parser.add_argument("--user")
    arguments = parser.parse_args()
    handler = Handler(arguments.folder)

    def authenticate(server, session, envelope, mechanism, data):
        credentials = f"{data.login.decode()}:{data.password.decode()}"
        return AuthResult(success=credentials == arguments.user, handled=False)

    def protocol():
        return Server(
            handler,
            hostname="mail.test",
            ident="test",
            enable_SMTPUTF8=True,
            tls_context=context(arguments.starttls),
            require_starttls=bool(arguments.starttls),
            authenticator=authenticate if arguments.user else None,
            auth_required=bool(arguments.user),
            auth_require_tls=bool(arguments.starttls),
        )

    loop = asyncio.get_running_loop()
    server = await loop.create_server(protocol, "127.0.0.1", arguments.port, ssl=context(arguments.tls))
    print("ready", flush=True)
    await server.serve_forever()


asyncio.run(main())
