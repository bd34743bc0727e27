"""Verifies access tokens with Authlib's validator for RFC 9068: one token per line in, one result per line out."""

import json
import sys
import urllib.request
import warnings

from authlib.oauth2 import OAuth2Error
from authlib.oauth2.rfc9068 import JWTBearerTokenValidator

# For each token, Authlib warns that it uses its own deprecated functions.
warnings.filterwarnings("ignore", module="authlib")
config = json.loads(sys.argv[1])


def read(url):
    with urllib.request.urlopen(url) as response:
        return json.load(response)


metadata = read(f"{config['issuer']}/.well-known/oauth-authorization-server")


class Validator(JWTBearerTokenValidator):
    def get_jwks(self):
        return read(metadata["jwks_uri"])


validator = Validator(issuer=config["issuer"], resource_server=config["audience"])
for line in sys.stdin:
    try:
        claims = validator.authenticate_token(line.strip())
        validator.validate_token(claims, scopes=None, request=None)
        answer = f"valid {claims['sub']}"
    except (OAuth2Error, ValueError) as error:
        answer = f"refused {error}"
    print(answer, flush=True)
