"""The FastAPI reference: sign-in, refresh, sign-out and introspection, written to be fast.

Keys are parsed once, and each call makes one request to Redis, where Lua scripts change sessions. Passwords are hashed
on separate threads, because argon2 releases the interpreter lock. orjson encodes JSON. Runs as `uvicorn service:app
--workers 2`.
"""

import asyncio
import hashlib
import hmac
import os
import secrets
import sqlite3
import time
import uuid
from base64 import b64decode
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import jwt
import orjson
import redis.asyncio
from argon2 import PasswordHasher
from argon2.exceptions import VerifyMismatchError
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from fastapi import FastAPI, Form, Header, Response
from pydantic import BaseModel, Field

ISSUER = "https://auth.example.com"
ACCESS_TTL_S = 3600
IDLE_TIMEOUT_MS = 7 * 24 * 3600 * 1000
ABSOLUTE_LIFETIME_MS = 30 * 24 * 3600 * 1000
GRACE_WINDOW_MS = 10_000
LUA_SCRIPTS = Path(__file__).parent.parent / "lua"
# revoke.lua appends the account's id to this prefix: it is the key of the set of the account's sessions.
ACCOUNT_KEY_PREFIX = "user:"

key = load_pem_private_key(Path(os.environ["KEY"]).read_bytes(), None)
public_key = key.public_key()
token_headers = {"typ": "at+jwt", "kid": os.environ["KID"]}
client_id, client_secret = os.environ["CLIENT"].split(":")
client_secret_hash = hashlib.sha256(client_secret.encode()).digest()

accounts = sqlite3.connect(f"file:{os.environ['DATABASE']}?mode=ro", uri=True, check_same_thread=False)
store = redis.asyncio.Redis(
    connection_pool=redis.asyncio.BlockingConnectionPool.from_url(os.environ["REDIS_URL"], max_connections=64, timeout=30)
)
create = store.register_script((LUA_SCRIPTS / "create.lua").read_text())
rotate = store.register_script((LUA_SCRIPTS / "rotate.lua").read_text())
revoke = store.register_script((LUA_SCRIPTS / "revoke.lua").read_text())

hasher = PasswordHasher(time_cost=2, memory_cost=19456, parallelism=1)
dummy_hash = hasher.hash("nobody's password")
hashing = ThreadPoolExecutor(int(os.environ["HASHING_THREADS"]))

app = FastAPI(openapi_url=None)


class LoginRequest(BaseModel):
    identifier: str = Field(min_length=1, max_length=320)
    password: str = Field(max_length=1024)


class RefreshTokenRequest(BaseModel):
    refresh_token: str = Field(max_length=256)


def json_response(body: dict, status: int = 200, headers: dict | None = None) -> Response:
    headers = {"cache-control": "no-store", **(headers or {})}
    return Response(orjson.dumps(body), status, headers, "application/json")


def unauthorized(code: str) -> Response:
    return json_response({"title": "Unauthorized", "status": 401, "code": code}, 401, {"www-authenticate": "Bearer"})


def token_response(user: str, session: str, secret: str, created_ms: int, now: float) -> Response:
    issued_at = int(now)
    claims = {
        "iss": ISSUER,
        "sub": user,
        "aud": "latchkey",
        "client_id": "latchkey",
        "iat": issued_at,
        "exp": issued_at + ACCESS_TTL_S,
        "jti": str(uuid.uuid4()),
        "sid": session,
        "auth_time": created_ms // 1000,
        "acr": "aal1",
        "amr": ["pwd"],
        "scope": "account",
    }
    return json_response(
        {
            "access_token": jwt.encode(claims, key, "ES256", token_headers),
            "token_type": "Bearer",
            "expires_in": ACCESS_TTL_S,
            "refresh_token": f"{session}.{secret}",
            "refresh_expires_in": IDLE_TIMEOUT_MS // 1000,
            "session_id": session,
        }
    )


def digest(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()


def matches(password_hash: str, password: str) -> bool:
    try:
        return hasher.verify(password_hash, password)
    except VerifyMismatchError:
        return False


@app.post("/v1/login")
async def login(request: LoginRequest) -> Response:
    query = "SELECT id, password_hash FROM accounts WHERE email = ?"
    account = accounts.execute(query, (request.identifier.lower(),)).fetchone()
    password_hash = account[1] if account else dummy_hash
    is_correct = await asyncio.get_running_loop().run_in_executor(hashing, matches, password_hash, request.password)
    if not is_correct or not account:
        return unauthorized("invalid_credentials")
    session, secret, now = str(uuid.uuid4()), secrets.token_urlsafe(32), time.time()
    now_ms = int(now * 1000)
    await create(
        [f"session:{session}", f"{ACCOUNT_KEY_PREFIX}{account[0]}"],
        [account[0], digest(secret), now_ms, now_ms + ABSOLUTE_LIFETIME_MS, IDLE_TIMEOUT_MS, session],
    )
    return token_response(account[0], session, secret, now_ms, now)


@app.post("/v1/refresh")
async def refresh(request: RefreshTokenRequest) -> Response:
    session, _, secret = request.refresh_token.partition(".")
    next_secret, now = secrets.token_urlsafe(32), time.time()
    arguments = [digest(secret), digest(next_secret), int(now * 1000), GRACE_WINDOW_MS, IDLE_TIMEOUT_MS]
    outcome, *stored = await rotate([f"session:{session}"], arguments)
    if outcome != b"rotated":
        return unauthorized("refresh_token_reused" if outcome == b"reused" else "invalid_refresh_token")
    user, created_ms = stored
    return token_response(user.decode(), session, next_secret, int(created_ms), now)


@app.post("/v1/logout")
async def logout(request: RefreshTokenRequest) -> Response:
    session, _, secret = request.refresh_token.partition(".")
    await revoke([f"session:{session}"], [digest(secret), ACCOUNT_KEY_PREFIX, session])
    return Response(status_code=204)


def is_client(authorization: str | None) -> bool:
    if not authorization or not authorization.startswith("Basic "):
        return False
    name, _, secret = b64decode(authorization[6:]).decode().partition(":")
    return name == client_id and hmac.compare_digest(hashlib.sha256(secret.encode()).digest(), client_secret_hash)


@app.post("/oauth2/introspect")
async def introspect(token: str = Form(), authorization: str | None = Header(None)) -> Response:
    if not is_client(authorization):
        return json_response({"error": "invalid_client"}, 401, {"www-authenticate": "Basic"})
    try:
        claims = jwt.decode(token, public_key, ["ES256"], audience="latchkey", issuer=ISSUER)
    except jwt.InvalidTokenError:
        return json_response({"active": False})
    if not await store.exists(f"session:{claims['sid']}"):
        return json_response({"active": False})
    return json_response({"active": True, "token_type": "Bearer", **claims})


@app.get("/livez")
async def livez() -> Response:
    return json_response({"status": "ok"})
