-- Tenants, the tickets that were used, and who owns each VM.

CREATE TABLE tenant (
    name     TEXT PRIMARY KEY,
    key      BLOB NOT NULL UNIQUE CHECK (length(key) = 32),
    added_ms INTEGER NOT NULL
) STRICT;

-- The last ownership of each VM. The epoch counts its releases, so that no node can run it under an older one.
CREATE TABLE vm (
    vm_id       BLOB PRIMARY KEY CHECK (length(vm_id) = 16),
    tenant_key  BLOB NOT NULL CHECK (length(tenant_key) = 32), -- the tenant's row may be gone
    state       TEXT NOT NULL CHECK (state IN ('running', 'ended', 'lost')),
    epoch       INTEGER NOT NULL CHECK (epoch >= 1),
    node        TEXT NOT NULL REFERENCES binding (name),
    boot_id     BLOB NOT NULL CHECK (length(boot_id) = 16),
    lease_id    BLOB NOT NULL REFERENCES lease (lease_id),
    ticket      BLOB NOT NULL UNIQUE CHECK (length(ticket) = 32),
    nonce       BLOB NOT NULL CHECK (length(nonce) = 32),
    images      BLOB NOT NULL,
    seq         INTEGER NOT NULL, -- of the event of its release
    released_ms INTEGER NOT NULL,
    ended_ms    INTEGER,
    end_reason  TEXT,
    free_ms     INTEGER NOT NULL, -- from when on it may be released again, unless it is running
    disk_root   BLOB CHECK (length(disk_root) = 32), -- the last that was registered
    CHECK ((state = 'running') = (ended_ms IS NULL)),
    CHECK ((ended_ms IS NULL) = (end_reason IS NULL))
) STRICT;
CREATE INDEX vm_running_by_lease ON vm (lease_id) WHERE state = 'running';
CREATE INDEX vm_running_by_node ON vm (node) WHERE state = 'running';
-- The foreign keys need no further index: no binding and no lease is ever deleted.

CREATE TABLE used_ticket (
    ticket  BLOB PRIMARY KEY CHECK (length(ticket) = 32),
    vm_id   BLOB NOT NULL REFERENCES vm (vm_id),
    used_ms INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE TRIGGER used_ticket_is_never_changed BEFORE UPDATE ON used_ticket
BEGIN
    SELECT RAISE(ABORT, 'a used ticket is never changed');
END;
CREATE TRIGGER used_ticket_is_never_deleted BEFORE DELETE ON used_ticket
BEGIN
    SELECT RAISE(ABORT, 'a used ticket is never deleted');
END;
