-- The coordinator's durable state, first version.

-- The epoch of whoever opened the database last; every write transaction compares it with its own.
CREATE TABLE fence (
    id    INTEGER PRIMARY KEY CHECK (id = 1),
    epoch INTEGER NOT NULL
) STRICT;
INSERT INTO fence (id, epoch) VALUES (1, 0);

CREATE TABLE meta (
    key   TEXT PRIMARY KEY,
    value BLOB NOT NULL
) STRICT, WITHOUT ROWID;

-- A name and an endorsement key belong together for ever. Removing a node leaves its row here.
CREATE TABLE binding (
    name  TEXT PRIMARY KEY,
    ek_id BLOB NOT NULL UNIQUE CHECK (length(ek_id) = 32)
) STRICT;
CREATE TRIGGER binding_is_never_changed BEFORE UPDATE ON binding
BEGIN
    SELECT RAISE(ABORT, 'a binding is never changed');
END;
CREATE TRIGGER binding_is_never_deleted BEFORE DELETE ON binding
BEGIN
    SELECT RAISE(ABORT, 'a binding is never deleted');
END;

CREATE TABLE node (
    name          TEXT PRIMARY KEY REFERENCES binding (name),
    ek_public     BLOB,
    policy        TEXT NOT NULL,
    enrolled_ms   INTEGER NOT NULL,
    revoked_ms    INTEGER,
    revoke_reason TEXT,
    attributes    TEXT NOT NULL, -- a JSON object of strings
    CHECK ((revoked_ms IS NULL) = (revoke_reason IS NULL))
) STRICT;

CREATE TABLE policy (
    name     TEXT NOT NULL,
    version  INTEGER NOT NULL CHECK (version >= 1),
    body     BLOB NOT NULL,
    sha256   BLOB NOT NULL CHECK (length(sha256) = 32),
    added_ms INTEGER NOT NULL,
    PRIMARY KEY (name, version)
) STRICT;
CREATE TRIGGER policy_is_never_changed BEFORE UPDATE ON policy
BEGIN
    SELECT RAISE(ABORT, 'a version of a policy is never changed');
END;
CREATE TRIGGER policy_is_never_deleted BEFORE DELETE ON policy
BEGIN
    SELECT RAISE(ABORT, 'a version of a policy is never deleted');
END;

-- What a lease was given for. What a renewal moves stands in open_lease until the lease ends.
CREATE TABLE lease (
    lease_id        BLOB PRIMARY KEY CHECK (length(lease_id) = 16),
    node            TEXT NOT NULL REFERENCES binding (name),
    boot_id         BLOB NOT NULL CHECK (length(boot_id) = 16),
    ak_name         BLOB NOT NULL,
    tls_spki_sha256 BLOB NOT NULL CHECK (length(tls_spki_sha256) = 32),
    identity        BLOB NOT NULL,
    issued_ms       INTEGER NOT NULL,
    policy          TEXT,
    policy_version  INTEGER,
    renewed_ms      INTEGER,
    expires_ms      INTEGER,
    reset_count     INTEGER,
    restart_count   INTEGER,
    clock           BLOB,
    ended_ms        INTEGER,
    end_reason      TEXT,
    FOREIGN KEY (policy, policy_version) REFERENCES policy (name, version),
    CHECK ((ended_ms IS NULL) = (end_reason IS NULL)),
    CHECK ((ended_ms IS NULL) = (expires_ms IS NULL))
) STRICT;
CREATE INDEX lease_by_node ON lease (node, issued_ms);
-- The foreign key to policy needs no index of its own: no policy is ever deleted.

-- One narrow row for each open lease, so that a page holds some fifty and many renewals cost few pages.
-- The policy was compared when the row was written.
-- There is no index over expires_ms: it would double the cost of a renewal to save a scan a second.
CREATE TABLE open_lease (
    lease_id       BLOB PRIMARY KEY REFERENCES lease (lease_id),
    node           TEXT NOT NULL UNIQUE REFERENCES node (name),
    policy         TEXT NOT NULL,
    policy_version INTEGER NOT NULL,
    renewed_ms     INTEGER NOT NULL,
    expires_ms     INTEGER NOT NULL,
    reset_count    INTEGER NOT NULL,
    restart_count  INTEGER NOT NULL,
    clock          BLOB NOT NULL CHECK (length(clock) = 8) -- big-endian: 64 bits without a sign, in order
) STRICT, WITHOUT ROWID;

-- Rows are only ever appended, so SQLite's own choice of the next rowid is the sequence: dense, from 1.
CREATE TABLE event (
    seq   INTEGER PRIMARY KEY,
    at_ms INTEGER NOT NULL,
    kind  TEXT NOT NULL,
    node  TEXT,
    body  BLOB NOT NULL
) STRICT;
CREATE TRIGGER event_is_never_changed BEFORE UPDATE ON event
BEGIN
    SELECT RAISE(ABORT, 'an event is never changed');
END;
CREATE TRIGGER event_is_never_deleted BEFORE DELETE ON event
BEGIN
    SELECT RAISE(ABORT, 'an event is never deleted');
END;
