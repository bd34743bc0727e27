-- Third-party-initiated login (OpenID Connect Core 1.0, section 4).

-- The address at which an app starts a sign-in when Latchkey's pages ask it to; NULL if it has none.
ALTER TABLE clients ADD COLUMN initiate_login_uri TEXT;
