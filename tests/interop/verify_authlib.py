"""Verifies access tokens with Authlib's validator for RFC 9068: one token per line in, one result per line out.

The argument is a JSON object: the `issuer`, and the `audience` of the tokens.
"""

import json
import sys
import urllib.request
import warnings

from authlib.oauth2 import OAuth2Error
from authlib.oauth2.rfc9068 import JWTBearerTokenValidator

# For each token, Authlib warns that it uses its own deprecated functions.
warnings.filterwarnings("ignore", module="authlib")
config = json.loads(sys.argv[1])


def fetch_json(url):
    with urllib.request.urlopen(url) as response:
        return json.load(response)


metadata = fetch_json(f"{config['issuer']}/.well-known/oauth-authorization-server")


class Validator(JWTBearerTokenValidator):
    def get_jwks(self):
        return fetch_json(metadata["jwks_uri"])


validator = Validator(issuer=config["issuer"], resource_server=config["audience"])
for line in sys.stdin:
    try:
        claims = validator.authenticate_token(line.strip())
        validator.validate_token(claims, scopes=None, request=None)
        result = f"valid {claims['sub']}"
    except (OAuth2Error, ValueError) as error:
        result = f"refused {error}"
    print(result, flush=True)
