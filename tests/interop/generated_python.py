"""Uses the client that openapi-python-client generated: register, sign in, refresh, list sessions, sign out.

The argument is JSON with the members `issuer` and `password`.
"""

import importlib
import json
import sys
from pathlib import Path

from latchkey_api import AuthenticatedClient, Client
from latchkey_api.models import LoginRequest, Problem, RefreshTokenRequest, RegisterRequest

config = json.loads(sys.argv[1])


def operation(name):
    """The function that calls an operation. It is in a module of that name, in the folder of a tag: searches the folders of all tags."""
    (path,) = (Path(__file__).parent / "latchkey_api/api").glob(f"*/{name}.py")
    return importlib.import_module(f"latchkey_api.api.{path.parent.name}.{name}").sync_detailed


def expect(status, response):
    """Asserts the status of a response, and returns its parsed body."""
    assert response.status_code == status, (response.status_code, response.content)
    return response.parsed


anonymous = Client(base_url=config["issuer"])
registration = RegisterRequest(email="grace@example.com", password=config["password"])
account = expect(201, operation("register")(client=anonymous, body=registration))
assert account.email == "grace@example.com", account
assert isinstance(expect(409, operation("register")(client=anonymous, body=registration)), Problem)

wrong = LoginRequest(identifier="grace@example.com", password="a wrong password")
assert expect(401, operation("login")(client=anonymous, body=wrong)).code == "invalid_credentials"
right = LoginRequest(identifier="grace@example.com", password=config["password"])
tokens = expect(200, operation("login")(client=anonymous, body=right))
refreshed = expect(200, operation("refresh")(client=anonymous, body=RefreshTokenRequest(tokens.refresh_token)))
assert refreshed.session_id == tokens.session_id

user = AuthenticatedClient(base_url=config["issuer"], token=refreshed.access_token)
assert expect(200, operation("me")(client=user)).id == account.id
sessions = expect(200, operation("list_sessions")(client=user)).sessions
assert [(session.id, session.current) for session in sessions] == [(tokens.session_id, True)], sessions

expect(204, operation("logout")(client=user))
ended = operation("refresh")(client=anonymous, body=RefreshTokenRequest(refreshed.refresh_token))
assert isinstance(expect(401, ended), Problem)
