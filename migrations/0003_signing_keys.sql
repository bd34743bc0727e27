-- The keys that sign access tokens: those that will, the one that does, and those that are still believed.
CREATE TABLE signing_keys (
    -- The SHA-256 thumbprint of the public key (RFC 7638), the `kid` of its tokens.
    kid TEXT NOT NULL PRIMARY KEY,
    -- ES256, EdDSA, RS256 or PS256.
    algorithm TEXT NOT NULL,
    -- The private key (PKCS#8), encrypted under the service's secret. (BYTEA is Postgres' word; SQLite takes any.)
    sealed_private BYTEA NOT NULL,
    -- The public key as a JWK (RFC 7517), JSON.
    public_jwk TEXT NOT NULL,
    -- When the key was made, and published.
    created_at BIGINT NOT NULL,
    -- From when it signs. Of the keys that may sign, the one with the latest `signs_from` does.
    signs_from BIGINT NOT NULL,
    -- Until when what it signed is believed, once it was superseded or retired; NULL before.
    verifies_until BIGINT
);
