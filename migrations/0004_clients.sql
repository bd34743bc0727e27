-- Other services: who may introspect, revoke, follow the revocations, and get tokens of their own.
CREATE TABLE clients (
    -- The `client_id`: 1 to 64 of ASCII letters, digits, `.`, `_` and `-`.
    id TEXT NOT NULL PRIMARY KEY,
    -- The scopes it may ask for (RFC 6749, section 3.3), separated by single spaces; empty for none.
    scopes TEXT NOT NULL,
    -- Whom its tokens are for and whose tokens it may ask about, separated by single spaces; at least one.
    audiences TEXT NOT NULL,
    -- Its public keys, a JWK Set (RFC 7517, section 5), for `private_key_jwt`; NULL for none.
    jwks TEXT,

    -- The SHA-256 of its secret, which is 256 random bits. (BYTEA is Postgres' word; SQLite takes any.)
    secret_hash BYTEA NOT NULL,
    -- The SHA-256 of the secret before, and until when that is accepted; NULL for none.
    former_secret_hash BYTEA,
    former_secret_until BIGINT,

    created_at BIGINT NOT NULL,
    -- Since when it may do nothing any more; NULL while it may.
    disabled_at BIGINT
);
