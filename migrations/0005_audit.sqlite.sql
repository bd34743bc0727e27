-- The rows of `audit` stay as they are until their retention is over.
CREATE TRIGGER audit_no_update BEFORE UPDATE ON audit
BEGIN
    SELECT RAISE(ABORT, 'the audit log is append-only');
END;
CREATE TRIGGER audit_no_delete BEFORE DELETE ON audit
WHEN OLD.at >= (SELECT COALESCE(MIN(released_until), 0) FROM audit_retention)
BEGIN
    SELECT RAISE(ABORT, 'the audit log is append-only');
END;
