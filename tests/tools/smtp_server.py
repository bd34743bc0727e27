"""An SMTP server with the faults that the tests of mail need.

    smtp_server.py PORT FOLDER [--tls CERT KEY] [--starttls CERT KEY] [--user NAME:PASSWORD]

--tls encrypts every connection from its beginning, --starttls requires STARTTLS, and --user requires authentication. The server prints
"ready" when it listens.

The server appends each accepted message to FOLDER/received.jsonl before it acknowledges the message, and each RCPT command to
FOLDER/rcpt.jsonl. While FOLDER/down exists, it closes every connection at once.

The beginning of a recipient's address selects a fault:
greylist: the server refuses the first attempt with 451.
reject: the server refuses every attempt with 550.
hang: the server does not answer the first message.
crash: the server closes the connection during the first message.
lost: the server accepts the first message, and closes the connection before it acknowledges the message.
"""

import argparse
import asyncio
import json
import ssl
from collections import Counter
from pathlib import Path

from aiosmtpd.smtp import SMTP, AuthResult


def is_encrypted(server):
    return server.transport.get_extra_info("sslcontext") is not None


class Handler:
    """Answers the commands RCPT and DATA."""

    def __init__(self, folder):
        self.folder = folder
        self.attempts = Counter()  # by recipient

    def append(self, name, value):
        with open(self.folder / name, "a", encoding="utf-8") as file:
            file.write(json.dumps(value) + "\n")

    async def handle_RCPT(self, server, session, envelope, address, options):
        self.append("rcpt.jsonl", {"to": address, "tls": is_encrypted(server), "user": bool(session.authenticated)})
        self.attempts[address] += 1
        if address.startswith("reject"):
            return "550 5.1.1 no such mailbox"
        if address.startswith("greylist") and self.attempts[address] == 1:
            return "451 4.7.1 greylisted, try again later"
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server, session, envelope):
        address = envelope.rcpt_tos[0]  # the node sends each mail to one recipient
        is_first = self.attempts[address] == 1
        if is_first and address.startswith("crash"):
            server.transport.abort()
            return "451 unreachable"  # not sent: the connection is closed
        if is_first and address.startswith("hang"):
            await asyncio.Event().wait()  # nothing sets the event
        message = {
            "from": envelope.mail_from,
            "to": address,
            "tls": is_encrypted(server),
            "user": bool(session.authenticated),
            "data": envelope.content.decode("utf-8"),
        }
        self.append("received.jsonl", message)
        if is_first and address.startswith("lost"):
            server.transport.abort()
        return "250 accepted"  # does not arrive if the connection is closed


class Server(SMTP):
    """Closes connections while the server is down, and does not announce its version."""

    def connection_made(self, transport):
        if (self.event_handler.folder / "down").exists():
            transport.abort()
            return
        super().connection_made(transport)


def tls_context(paths):
    if not paths:
        return None
    # the paths of the certificate and its key
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*paths)
    return context


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
        # `handled=False`: aiosmtpd sends the response
        return AuthResult(success=credentials == arguments.user, handled=False)

    def protocol():
        return Server(
            handler,
            hostname="mail.test",
            ident="test",
            enable_SMTPUTF8=True,
            tls_context=tls_context(arguments.starttls),
            require_starttls=bool(arguments.starttls),
            authenticator=authenticate if arguments.user else None,
            auth_required=bool(arguments.user),
            auth_require_tls=bool(arguments.starttls),
        )

    loop = asyncio.get_running_loop()
    server = await loop.create_server(protocol, "127.0.0.1", arguments.port, ssl=tls_context(arguments.tls))
    print("ready", flush=True)
    await server.serve_forever()


asyncio.run(main())
