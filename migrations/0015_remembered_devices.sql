-- Devices that have passed a second factor and may skip it for a time (`factors.remember_device`).
CREATE TABLE remembered_devices (
    -- A version 7 UUID, by which the API names the device.
    id TEXT NOT NULL PRIMARY KEY,
    account_id TEXT NOT NULL,
    -- SHA-256 of the account and the device token, which has 256 random bits: nothing here can be presented.
    digest BYTEA NOT NULL,
    -- Digest of the account's password, factors, address and roles as they were: a device counts only while they are the same.
    binding BYTEA NOT NULL,
    -- The name that the client gave the device, and its user agent; NULL if it sent none.
    name TEXT,
    user_agent TEXT,
    created_at BIGINT NOT NULL,
    expires_at BIGINT NOT NULL,
    -- When the device last skipped the second factor; NULL before the first time.
    last_used_at BIGINT
);
CREATE UNIQUE INDEX remembered_devices_digest ON remembered_devices (account_id, digest);
