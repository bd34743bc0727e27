-- Whether the account's e-mail address is verified: 1 or 0. An import sets it from the other system's data.
ALTER TABLE accounts ADD COLUMN email_verified BIGINT NOT NULL DEFAULT 0;

-- From this migration on, `email_key` and `username_key` are lower case and in Unicode Normalization Form C. The service
-- recomputes the existing keys after this file, since databases can't. An account whose new key another account has
-- keeps its old key.
--
-- From this migration on, `password_hash` may be empty: the account has no password.
