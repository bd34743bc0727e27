-- Passkeys: public key credentials of WebAuthn. No row holds a secret: the private key stays in the authenticator.
CREATE TABLE passkeys (
    -- A version 7 UUID, by which the API names the passkey.
    id TEXT NOT NULL PRIMARY KEY,
    account_id TEXT NOT NULL,
    -- The id that the authenticator gave to the credential, at most 1023 bytes. Unique over all accounts: a sign-in without a
    -- username finds the account by it.
    credential_id BYTEA NOT NULL UNIQUE,
    -- The public key: a COSE key as CBOR (RFC 9052, section 7).
    public_key BYTEA NOT NULL,
    -- The name that the owner gave to it.
    name TEXT NOT NULL,
    -- The model of the authenticator, as the authenticator claims it: a UUID, all zeros if it was not stated.
    aaguid TEXT NOT NULL,
    -- How the browser may reach the authenticator: `internal`, `hybrid`, `usb`, … separated by spaces.
    transports TEXT NOT NULL,
    -- 1: the browser says that the credential can be used without a username; 0: it cannot; NULL: not stated.
    discoverable BIGINT,
    -- 1 if the private key can be copied to a backup or another device.
    backup_eligible BIGINT NOT NULL,
    -- 1 if there was a copy at the last use.
    backed_up BIGINT NOT NULL,
    -- The highest signature counter so far; 0 if the authenticator does not count.
    counter BIGINT NOT NULL,
    created_at BIGINT NOT NULL,
    -- The time of the last sign-in; NULL before the first.
    last_used_at BIGINT
);
CREATE INDEX passkeys_account ON passkeys (account_id);
