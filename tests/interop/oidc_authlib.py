"""Signs a user in with Authlib, as three kinds of clients. Checks PKCE, the ID token, userinfo, a refresh and the second use of a code.

tests/it/oidc/interop.rs starts this program, with the cookie of a signed-in browser in the configuration."""

import json
import os
import sys
import urllib.error
import urllib.parse
import urllib.request

# allows an issuer without TLS; Authlib reads the variable when it is imported
os.environ["AUTHLIB_INSECURE_TRANSPORT"] = "1"

from authlib.common.security import generate_token  # noqa: E402
from authlib.integrations.httpx_client import OAuth2Client, OAuthError  # noqa: E402
from joserfc import jwt  # noqa: E402
from joserfc.jwk import KeySet  # noqa: E402

config = json.loads(sys.argv[1])
with urllib.request.urlopen(f"{config['issuer']}/.well-known/openid-configuration") as response:
    server = json.load(response)
with urllib.request.urlopen(server["jwks_uri"]) as response:
    keys = KeySet.import_key_set(json.load(response))


class NoRedirect(urllib.request.HTTPRedirectHandler):
    """Does not follow redirects: urllib then raises `HTTPError`."""

    def redirect_request(self, *_):
        return None


def browse(url):
    """Opens a URL in the user's browser, which has signed in. Returns the URL of the redirect to the app."""
    opener = urllib.request.build_opener(NoRedirect)
    try:
        opener.open(urllib.request.Request(url, headers={"Cookie": config["cookie"]}))
    except urllib.error.HTTPError as redirect:
        return redirect.headers["Location"]
    raise AssertionError(f"no redirect from {url}")


for client_id, secret, auth_method in [
    ("shop", config["client_secret"], "client_secret_basic"),
    ("shop", config["client_secret"], "client_secret_post"),
    ("spa", None, "none"),
]:
    app = OAuth2Client(
        client_id,
        secret,
        token_endpoint_auth_method=auth_method,
        scope="openid profile email",
        redirect_uri=config["redirect_uri"],
        code_challenge_method="S256",
        token_endpoint=server["token_endpoint"],
    )
    # RFC 7636: a verifier has 43 to 128 characters
    verifier = generate_token(48)
    nonce = generate_token(20)
    url, state = app.create_authorization_url(server["authorization_endpoint"], code_verifier=verifier, nonce=nonce)
    callback = browse(url)
    parameters = dict(urllib.parse.parse_qsl(urllib.parse.urlsplit(callback).query))
    # RFC 9207
    assert parameters["iss"] == config["issuer"]
    token = app.fetch_token(authorization_response=callback, state=state, code_verifier=verifier)
    claims = jwt.decode(token["id_token"], keys, algorithms=server["id_token_signing_alg_values_supported"]).claims
    jwt.JWTClaimsRegistry(
        iss={"essential": True, "value": config["issuer"]},
        aud={"essential": True, "value": client_id},
        nonce={"essential": True, "value": nonce},
        sub={"essential": True, "value": config["subject"]},
        exp={"essential": True},
    ).validate(claims)
    assert app.get(server["userinfo_endpoint"]).json()["email"] == "ada@example.com"
    refreshed = app.refresh_token(server["token_endpoint"], refresh_token=token["refresh_token"])
    assert refreshed["refresh_token"] != token["refresh_token"]
    # the second use of the code is refused
    try:
        app.fetch_token(authorization_response=callback, state=state, code_verifier=verifier)
    except OAuthError as error:
        assert error.error == "invalid_grant", error
    else:
        raise AssertionError("a code was used twice")
