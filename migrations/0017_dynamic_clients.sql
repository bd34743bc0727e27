-- Clients that no operator has registered, and that the owner of an account has allowed to sign them in.
CREATE TABLE dynamic_clients (
    -- `url.` for a metadata document or `dcr.` for a registration, and a digest of client_id. Sessions, consents and the audit log hold it.
    id TEXT NOT NULL PRIMARY KEY,
    -- The `client_id` that the client sends: the URL of its metadata document, or what this service issued to it.
    client_id TEXT NOT NULL,
    -- Its metadata as JSON, for lists and for when the document can't be fetched.
    metadata TEXT NOT NULL,
    -- When the metadata were fetched.
    fetched_at BIGINT NOT NULL,
    created_at BIGINT NOT NULL,
    -- When an account last allowed it. A row that no account has allowed any more is deleted a day later.
    allowed_at BIGINT NOT NULL,
    -- When an operator disabled it; NULL while it is enabled. A disabled one is kept.
    disabled_at BIGINT
);

CREATE INDEX consents_by_client ON consents (client_id);
