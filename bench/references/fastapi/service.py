"""The FastAPI reference: sign-in, refresh, sign-out and introspection, written to be fast.

Keys are parsed once, and each call makes one request to Redis, where Lua scripts change sessions. Passwords are hashed
on separate threads, because argon2 releases the interpreter lock. orjson encodes JSON. Runs as `uvicorn service:app
--workers 2`.

Environment: KEY is the file of the signing key (PEM), KID its id, CLIENT the introspecting client as `id:secret`, and
DATABASE the SQLite file of the accounts.
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

signing_key = load_pem_private_key(Path(os.environ["KEY"]).read_bytes(), password=None)
public_key = signing_key.public_key()
token_headers = {"typ": "at+jwt", "kid": os.environ["KID"]}
client_id, client_secret = os.environ["CLIENT"].split(":")
client_secret_hash = hashlib.sha256(client_secret.encode()).digest()

database = sqlite3.connect(f"file:{os.environ['DATABASE']}?mode=ro", uri=True, check_same_thread=False)
# With all connections in use, a call waits up to 30 s for one.
store = redis.asyncio.Redis(
    connection_pool=redis.asyncio.BlockingConnectionPool.from_url(os.environ["REDIS_URL"], max_connections=64, timeout=30)
)
create = store.register_script((LUA_SCRIPTS / "create.lua").read_text())
rotate = store.register_script((LUA_SCRIPTS / "rotate.lua").read_text())
revoke = store.register_script((LUA_SCRIPTS / "revoke.lua").read_text())

hasher = PasswordHasher(time_cost=2, memory_cost=19456, parallelism=1)  # memory in KiB
# Verified for an unknown account, so that the answer takes as long as for a wrong password.
dummy_hash = hasher.hash("nobody's password")
hashing_threads = ThreadPoolExecutor(int(os.environ["HASHING_THREADS"]))

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


def token_response(account_id: str, session_id: str, secret: str, created_ms: int, now_ms: int) -> Response:
    issued_at = now_ms // 1000
    claims = {
        "iss": ISSUER,
        "sub": account_id,
        "aud": "latchkey",
        "client_id": "latchkey",
        "iat": issued_at,
        "exp": issued_at + ACCESS_TTL_S,
        "jti": str(uuid.uuid4()),
        "sid": session_id,
        "auth_time": created_ms // 1000,  # a session is created by its sign-in
        "acr": "aal1",
        "amr": ["pwd"],
        "scope": "account",
    }
    return json_response(
        {
            "access_token": jwt.encode(claims, signing_key, "ES256", token_headers),
            "token_type": "Bearer",
            "expires_in": ACCESS_TTL_S,
            "refresh_token": f"{session_id}.{secret}",
            "refresh_expires_in": IDLE_TIMEOUT_MS // 1000,
            "session_id": session_id,
        }
    )


def current_ms() -> int:
    return int(time.time() * 1000)


def digest(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()


def password_matches(password_hash: str, password: str) -> bool:
    try:
        return hasher.verify(password_hash, password)
    except VerifyMismatchError:
        return False


@app.post("/v1/login")
async def login(request: LoginRequest) -> Response:
    query = "SELECT id, password_hash FROM accounts WHERE email = ?"
    account = database.execute(query, (request.identifier.lower(),)).fetchone()
    account_id, password_hash = account or (None, dummy_hash)
    loop = asyncio.get_running_loop()
    is_correct = await loop.run_in_executor(hashing_threads, password_matches, password_hash, request.password)
    if account_id is None or not is_correct:
        return unauthorized("invalid_credentials")
    session_id = str(uuid.uuid4())
    secret = secrets.token_urlsafe(32)
    created_ms = current_ms()
    await create(
        [f"session:{session_id}", f"{ACCOUNT_KEY_PREFIX}{account_id}"],
        [account_id, digest(secret), created_ms, created_ms + ABSOLUTE_LIFETIME_MS, IDLE_TIMEOUT_MS, session_id],
    )
    return token_response(account_id, session_id, secret, created_ms, created_ms)


@app.post("/v1/refresh")
async def refresh(request: RefreshTokenRequest) -> Response:
    session_id, _, secret = request.refresh_token.partition(".")
    next_secret = secrets.token_urlsafe(32)
    now_ms = current_ms()
    arguments = [digest(secret), digest(next_secret), now_ms, GRACE_WINDOW_MS, IDLE_TIMEOUT_MS]
    outcome, *stored = await rotate([f"session:{session_id}"], arguments)
    if outcome == b"reused":
        return unauthorized("refresh_token_reused")
    if outcome != b"rotated":
        return unauthorized("invalid_refresh_token")
    account_id, created_ms = stored
    return token_response(account_id.decode(), session_id, next_secret, int(created_ms), now_ms)


@app.post("/v1/logout")
async def logout(request: RefreshTokenRequest) -> Response:
    session_id, _, secret = request.refresh_token.partition(".")
    await revoke([f"session:{session_id}"], [digest(secret), ACCOUNT_KEY_PREFIX, session_id])
    return Response(status_code=204)


def is_client(authorization: str | None) -> bool:
    if not authorization or not authorization.startswith("Basic "):
        return False
    credentials = b64decode(authorization.removeprefix("Basic ")).decode()
    name, _, secret = credentials.partition(":")
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
