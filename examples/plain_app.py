#!/usr/bin/env python3
"""A plain app to put behind a proxy. It knows nothing of tokens and trusts the headers that the proxy sets.

    python3 examples/plain_app.py        # on 127.0.0.1:3000, which only the proxy may reach
"""

from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class App(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    # Buffers the response, so that head and body are sent in one packet.
    wbufsize = -1

    def do_GET(self) -> None:
        # Skips the body: the next request on the connection follows it.
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        account = self.headers.get("X-Auth-Subject")
        if account is None:
            # The proxy always sets this header. A request without it has bypassed the proxy.
            self.respond(403, "This app is reached through its proxy only.")
        elif self.headers.get("X-Auth-Session") is None:
            # A service client's own token has no session, and its subject is not an account.
            self.respond(403, "This app is for users.")
        else:
            # Without roles the header is absent, or empty if the proxy sets it from an empty variable.
            roles = self.headers.get("X-Auth-Roles") or "none"
            self.respond(200, f"Hello, account {account}. Your roles: {roles}.")

    do_POST = do_PUT = do_PATCH = do_DELETE = do_GET

    def respond(self, status: int, text: str) -> None:
        body = f"{text}\n".encode()
        self.send_response(status)
        self.send_header("Content-Type", "text/plain; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


if __name__ == "__main__":
    ThreadingHTTPServer(("127.0.0.1", 3000), App).serve_forever()
