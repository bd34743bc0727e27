-- Clients that sign users in, and what their users have allowed them.

-- `service`: introspects tokens and has tokens of its own. `web`: an app whose server keeps a secret. `public`: an app without
-- one; its secret_hash is random, so that releases before this one refuse it.
ALTER TABLE clients ADD COLUMN kind TEXT NOT NULL DEFAULT 'service';
-- The name that pages show; NULL for the `client_id`.
ALTER TABLE clients ADD COLUMN name TEXT;
-- Where authorization responses may go, and where a browser may go after sign-out: URIs separated by single spaces.
ALTER TABLE clients ADD COLUMN redirect_uris TEXT NOT NULL DEFAULT '';
ALTER TABLE clients ADD COLUMN post_logout_redirect_uris TEXT NOT NULL DEFAULT '';
-- The grants that it may exchange for tokens (RFC 6749, section 1.3), separated by single spaces.
ALTER TABLE clients ADD COLUMN grant_types TEXT NOT NULL DEFAULT 'client_credentials';
-- The only authentication method that is accepted (RFC 7591, section 2); NULL for any that it has credentials for.
ALTER TABLE clients ADD COLUMN auth_method TEXT;
-- 1 if its users consent before their first sign-in.
ALTER TABLE clients ADD COLUMN asks_consent BIGINT NOT NULL DEFAULT 0;
-- 1 if it may leave PKCE out: a web app whose program does not know it.
ALTER TABLE clients ADD COLUMN without_pkce BIGINT NOT NULL DEFAULT 0;
-- Links for the pages; NULL for none.
ALTER TABLE clients ADD COLUMN logo_uri TEXT;
ALTER TABLE clients ADD COLUMN client_uri TEXT;
ALTER TABLE clients ADD COLUMN policy_uri TEXT;
ALTER TABLE clients ADD COLUMN tos_uri TEXT;

-- What the owner of an account has allowed a client. No row: nothing yet.
CREATE TABLE consents (
    account_id TEXT NOT NULL,
    client_id TEXT NOT NULL,
    -- All scopes that were allowed, separated by single spaces.
    scope TEXT NOT NULL,
    -- When the first and the last of them were allowed.
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL,
    PRIMARY KEY (account_id, client_id)
);
