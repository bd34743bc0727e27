-- Who may sign in. One row per account; a deleted account's row is gone.
--
-- Runs unchanged on SQLite and Postgres: ids are UUIDs as text (lower case, hyphenated), times are milliseconds since
-- 1970-01-01T00:00:00Z.
CREATE TABLE accounts (
    -- A version 7 UUID, the `sub` of the account's tokens. Never used again.
    id TEXT NOT NULL PRIMARY KEY,

    -- The address as its owner wrote it.
    email TEXT NOT NULL,
    -- The address in lower case: what is compared. Lower-cased by the service, since databases fold differently.
    email_key TEXT NOT NULL UNIQUE,

    -- The name as its owner wrote it, if there is one.
    username TEXT,
    -- The name in lower case: what is compared. NULL for as many accounts as like to have none.
    username_key TEXT UNIQUE,

    -- A PHC string, or a hash brought from elsewhere that waits for its first sign-in. Never a password.
    password_hash TEXT NOT NULL,

    -- Roles, sorted, separated by single spaces; empty for none.
    roles TEXT NOT NULL,

    -- Since when the account may not sign in; NULL while it may.
    disabled_at BIGINT,

    -- When it was registered, here or where it was imported from.
    created_at BIGINT NOT NULL,
    -- When anything in this row was last changed.
    updated_at BIGINT NOT NULL,
    -- When its password was last changed. A rehash of the same password doesn't count.
    password_changed_at BIGINT NOT NULL,

    -- Grows by one whenever the account's sessions are ended because of a change to it: a sign-in that was checked
    -- against an older value can't create a session any more.
    epoch BIGINT NOT NULL
);
