-- The resources of consents.

-- The resources (RFC 8707) that the client's tokens may be for, separated by single spaces. A consent of an earlier release has none.
ALTER TABLE consents ADD COLUMN resources TEXT NOT NULL DEFAULT '';
