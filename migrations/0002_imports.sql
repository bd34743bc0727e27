-- How far each unfinished `latchkey user import` has come, so that an interrupted one goes on where it was. Written in
-- the same transaction as the accounts of those lines; forgotten when the import is done.
CREATE TABLE imports (
    -- What names the file: its path and what else tells it from others.
    source TEXT NOT NULL PRIMARY KEY,
    -- The last line that was dealt with, counted from 1.
    line BIGINT NOT NULL,
    -- When that was, in milliseconds since 1970-01-01T00:00:00Z.
    updated_at BIGINT NOT NULL
);
