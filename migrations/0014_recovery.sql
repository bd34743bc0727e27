-- Recovery: distinguishes an old copy of Redis from the current one, and lets an older release use a newer schema.

-- One row: the time of the last mark. Nodes write the same mark to Redis first. If the mark in Redis is much older, Redis was
-- restored from a copy, and sessions that have ended since may be live in it.
CREATE TABLE session_mark (
    id BIGINT NOT NULL PRIMARY KEY, -- always 1
    marked_at BIGINT NOT NULL       -- milliseconds since 1970-01-01, by the clock of Redis
);

-- The newest migration that a release must know to use the schema after this one. NULL: this one.
ALTER TABLE migrations ADD COLUMN requires BIGINT;
