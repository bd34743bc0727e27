-- The life of an account: what its owner says about themselves, its further addresses, and its end.

-- When the primary address was verified; NULL while it is not, or where it is not known.
ALTER TABLE accounts ADD COLUMN email_verified_at BIGINT;

-- When the account will be deleted, if its owner asked for that; NULL otherwise. Signing in before then sets it to NULL.
ALTER TABLE accounts ADD COLUMN deletion_at BIGINT;
CREATE INDEX accounts_deletion ON accounts (deletion_at);

-- What the owner and the operators say about an account. No row: nothing.
CREATE TABLE profiles (
    account_id TEXT NOT NULL PRIMARY KEY,
    -- A name for people, such as `Ada Lovelace`; NULL for none.
    display_name TEXT,
    -- The language of mails: a BCP 47 language tag such as `pt-BR`; NULL for that of the request.
    locale TEXT,
    -- An IANA time zone such as `Europe/Berlin`; NULL for UTC.
    time_zone TEXT,
    -- A JSON object that only operators and service clients write.
    app_metadata TEXT NOT NULL,
    -- A JSON object that the owner writes.
    user_metadata TEXT NOT NULL
);

-- Addresses of an account beside the primary one, which is in `accounts`. Several accounts may have the same address here:
-- only a verified primary address belongs to an account.
CREATE TABLE addresses (
    account_id TEXT NOT NULL,
    -- The address as it was written, and its comparison key.
    email TEXT NOT NULL,
    email_key TEXT NOT NULL,
    -- `pending`: becomes the primary address once it is confirmed. `former`: was the verified primary address, and can
    -- become it again until `expires_at`.
    state TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    expires_at BIGINT NOT NULL,
    PRIMARY KEY (account_id, state, email_key)
);
