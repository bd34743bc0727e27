-- Further e-mail addresses of accounts. The primary address stays in `accounts`, so that the query of a sign-in reads one row
-- whichever address was typed.
CREATE TABLE secondary_emails (
    -- A version 7 UUID, by which the API names the address.
    id TEXT NOT NULL PRIMARY KEY,
    account_id TEXT NOT NULL,
    -- The address as it was written, and its comparison key.
    email TEXT NOT NULL,
    email_key TEXT NOT NULL,
    -- When it was verified; NULL before: it belongs to nobody then, and several accounts may have it.
    verified_at BIGINT,
    created_at BIGINT NOT NULL,
    UNIQUE (account_id, email_key)
);
-- A verified address belongs to one account. That no other account has verified it as its primary one is checked under a lock on
-- the address (`src/store/sql/secondary_emails.rs`).
CREATE UNIQUE INDEX secondary_emails_verified ON secondary_emails (email_key) WHERE verified_at IS NOT NULL;
