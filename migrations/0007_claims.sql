-- The version of the account's claims: grows by one whenever a claim of its access tokens changes, such as its roles. Access
-- tokens name the version that they were issued with, and older ones are refused.
ALTER TABLE accounts ADD COLUMN claims_version BIGINT NOT NULL DEFAULT 0;
