"""Uses every OAuth endpoint for clients with Authlib: client credentials, refresh, introspection, revocation."""

import json
import os
import sys
import urllib.request

# allows an issuer without TLS
os.environ["AUTHLIB_INSECURE_TRANSPORT"] = "1"

from authlib.integrations.httpx_client import OAuth2Client, OAuthError  # noqa: E402
from authlib.oauth2.rfc7523 import PrivateKeyJWT  # noqa: E402
from joserfc.jwk import ECKey  # noqa: E402

# The issuer, and the credentials of a service client and of an account, from clients.rs. `app_id` is the public first-party client,
# whose refresh token is `refresh_token`.
config = json.loads(sys.argv[1])
with urllib.request.urlopen(f"{config['issuer']}/.well-known/openid-configuration") as response:
    server = json.load(response)
token_endpoint = server["token_endpoint"]


def assert_refused(code, call):
    """Asserts that the call fails with this OAuth error code."""
    try:
        call()
    except OAuthError as error:
        assert error.error == code, error
    else:
        raise AssertionError(f"not refused with {code}")


for method in ["client_secret_basic", "client_secret_post", "private_key_jwt"]:
    uses_key = method == "private_key_jwt"
    credential = ECKey.import_key(config["private_key"]) if uses_key else config["client_secret"]
    service = OAuth2Client(config["client_id"], credential, token_endpoint_auth_method=method)
    if uses_key:
        service.register_client_auth_method(PrivateKeyJWT(token_endpoint, headers={"kid": config["kid"]}, alg="ES256"))
    token = service.fetch_token(token_endpoint, grant_type="client_credentials", scope="read")
    assert token["scope"] == "read", token
    assert "refresh_token" not in token, token
    introspected = service.introspect_token(server["introspection_endpoint"], token=token["access_token"]).json()
    assert introspected["active"], introspected
    assert introspected["sub"] == config["client_id"], introspected
    # the scope of users' tokens, which the client does not have
    assert_refused("invalid_scope", lambda: service.fetch_token(token_endpoint, grant_type="client_credentials", scope="account"))

with_wrong_secret = OAuth2Client(config["client_id"], config["client_secret"][:-1])
assert_refused("invalid_client", lambda: with_wrong_secret.fetch_token(token_endpoint, grant_type="client_credentials"))

service = OAuth2Client(config["client_id"], config["client_secret"])
app = OAuth2Client(config["app_id"], token_endpoint_auth_method="none")
# twice: the answer of a refresh has a refresh token, which works as well
first = app.refresh_token(token_endpoint, refresh_token=config["refresh_token"])
second = app.refresh_token(token_endpoint, refresh_token=first["refresh_token"])


def introspect(token):
    return service.introspect_token(server["introspection_endpoint"], token=token).json()


assert introspect(second["access_token"])["sub"] == config["subject"]
# the revocation of an unknown token succeeds, too (RFC 7009, section 2.2)
for token in [second["refresh_token"], "unknown"]:
    app.revoke_token(server["revocation_endpoint"], token=token).raise_for_status()
assert introspect(second["access_token"]) == {"active": False}
assert_refused("invalid_grant", lambda: app.refresh_token(token_endpoint, refresh_token=second["refresh_token"]))
