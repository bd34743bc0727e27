-- Mails that wait to be sent, and for `mail.retention` those that were. A mail is inserted in the transaction of the change
-- that it reports, so that neither happens without the other. Workers on every node claim rows.
CREATE TABLE mail_outbox (
    -- A version 7 UUID; also the left side of the Message-ID, so that a repeated delivery can be recognised.
    id TEXT NOT NULL PRIMARY KEY,
    -- The template: `password_reset`, `new_device`, …
    template TEXT NOT NULL,
    -- The account that the mail is about; NULL for none.
    account_id TEXT,
    -- The address that the mail goes to.
    recipient TEXT NOT NULL,
    -- The language, as a two-letter code (ISO 639-1).
    locale TEXT NOT NULL,
    -- The data of the mail with its links and codes, encrypted under the service's secret. NULL once the mail was sent or
    -- has expired.
    sealed BYTEA,
    -- `waiting`, `sent`, or `failed`: rejected or expired.
    state TEXT NOT NULL,
    -- How often a worker has claimed the mail.
    attempts BIGINT NOT NULL,
    -- While waiting: the earliest time of the next attempt. While a worker has the mail: the end of its lease.
    due_at BIGINT NOT NULL,
    -- The worker that has the mail, a random UUID; NULL for none.
    lease TEXT,
    -- Why the last attempt failed; NULL for none.
    error TEXT,
    created_at BIGINT NOT NULL,
    -- When the mail is given up: its link or code has expired, or `mail.give_up_after` has passed.
    expires_at BIGINT NOT NULL,
    -- When the mail was sent or given up; NULL while it waits.
    done_at BIGINT
);
CREATE INDEX mail_outbox_due ON mail_outbox (due_at) WHERE state = 'waiting';
CREATE INDEX mail_outbox_done ON mail_outbox (done_at) WHERE state <> 'waiting';
