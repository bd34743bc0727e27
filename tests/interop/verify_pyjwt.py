"""Verifies access tokens with PyJWT and its PyJWKClient: one token per line in, one result per line out.

A result is ``valid SUBJECT`` or ``refused REASON``. The argument of the program is a JSON object: ``issuer``, ``audience``, and in
``pyjwt`` the options of PyJWKClient, if any.
"""

import json
import sys
import urllib.request

import jwt

config = json.loads(sys.argv[1])
with urllib.request.urlopen(f"{config['issuer']}/.well-known/oauth-authorization-server") as response:
    metadata = json.load(response)
keys = jwt.PyJWKClient(metadata["jwks_uri"], **config.get("pyjwt", {}))

for line in sys.stdin:
    token = line.strip()
    try:
        key = keys.get_signing_key_from_jwt(token)
        # PyJWT does not check the type, and not every JWT of the issuer is an access token.
        if jwt.get_unverified_header(token).get("typ") != "at+jwt":
            raise jwt.InvalidTokenError("not an access token")
        claims = jwt.decode(
            token,
            key,
            algorithms=["ES256", "EdDSA", "RS256", "PS256"],
            issuer=config["issuer"],
            audience=config["audience"],
            options={"require": ["iss", "sub", "aud", "exp", "iat", "jti"]},
        )
        answer = f"valid {claims['sub']}"
    except jwt.PyJWTError as error:
        answer = f"refused {error}"
    # The test waits for each answer before it sends the next token.
    print(answer, flush=True)
