-- What happened that concerns security: one row per event, or per group of refusals that were alike. Rows are only ever
-- added, and taken away when they are older than `audit.retention`; triggers refuse all else (0005_audit.sqlite.sql,
-- 0005_audit.postgres.sql). Holds no secrets, and nothing that was typed into a sign-in.
CREATE TABLE audit (
    -- A random UUID, so that a batch which may have been written can be written again.
    id TEXT NOT NULL PRIMARY KEY,
    -- When it happened, in milliseconds since 1970-01-01T00:00:00Z.
    at BIGINT NOT NULL,
    -- What happened: `sign_in`, `session_ended`, `account_disabled`, …
    event TEXT NOT NULL,
    -- `success` or `refused`.
    outcome TEXT NOT NULL,
    -- Why: a word of a fixed set, or NULL.
    reason TEXT,
    -- Whose account, session or service client it concerns; NULL for none, or where it isn't known.
    account_id TEXT,
    session_id TEXT,
    client_id TEXT,
    -- The id of a key, the name of a limit; NULL for none.
    detail TEXT,
    -- Who did it: `anyone`, `account`, `admin:ID`, `client:ID`, `operator:NAME`, `service`.
    actor TEXT NOT NULL,
    -- The client's address as `audit.addresses` wants it; NULL for none.
    address TEXT,
    -- How many events this stands for.
    count BIGINT NOT NULL
);
CREATE INDEX audit_at ON audit (at, id);
CREATE INDEX audit_account ON audit (account_id, at);

-- Rows of before this time may be deleted: their retention is over. One row.
CREATE TABLE audit_retention (
    released_until BIGINT NOT NULL
);
INSERT INTO audit_retention (released_until) VALUES (0);
