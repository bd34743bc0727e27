-- The second factors of accounts.

-- Grows by one with each change of the account's factors. Challenges of sign-ins and remembered devices are bound to it.
ALTER TABLE accounts ADD COLUMN factors_version BIGINT NOT NULL DEFAULT 0;

-- The kinds of factors that the account has, as bits (`FactorKind`), so that a sign-in needs no further query.
ALTER TABLE accounts ADD COLUMN factors BIGINT NOT NULL DEFAULT 0;

-- When a sign-in first found that the account must have a second factor (`factors.required`) and has none; NULL otherwise. The
-- grace period counts from here.
ALTER TABLE accounts ADD COLUMN factor_required_at BIGINT;

-- Authenticator apps (RFC 6238).
CREATE TABLE totp_factors (
    -- A version 7 UUID.
    id TEXT NOT NULL PRIMARY KEY,
    account_id TEXT NOT NULL,
    -- The name that the owner gave it.
    label TEXT NOT NULL,
    -- The shared secret, encrypted under the service's secret; bound to the account and the id.
    sealed BYTEA NOT NULL,
    created_at BIGINT NOT NULL,
    -- When a first code showed that the owner has the secret; NULL before: the factor counts for nothing then.
    confirmed_at BIGINT,
    -- The time step of the last code that was accepted: no code of it or of an earlier one is accepted again.
    last_step BIGINT NOT NULL,
    last_used_at BIGINT
);
CREATE INDEX totp_factors_account ON totp_factors (account_id);

-- The key of an account's recovery codes. It is random and not derived from the service's secret, so that the codes outlive a
-- rotation of the secret.
CREATE TABLE recovery_keys (
    account_id TEXT NOT NULL PRIMARY KEY,
    -- The key, encrypted under the service's secret; bound to the account.
    sealed BYTEA NOT NULL,
    created_at BIGINT NOT NULL
);

-- The recovery codes that were not used yet. A code that was used is deleted.
CREATE TABLE recovery_codes (
    account_id TEXT NOT NULL,
    -- HMAC-SHA-256 of the code under the account's key, in hexadecimal.
    digest TEXT NOT NULL,
    PRIMARY KEY (account_id, digest)
);
