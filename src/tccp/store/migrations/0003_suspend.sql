-- VMs that are suspended or destroyed. The table is made anew, for SQLite changes no CHECK.

CREATE TABLE vm_0003 (
    vm_id       BLOB PRIMARY KEY CHECK (length(vm_id) = 16),
    tenant_key  BLOB NOT NULL CHECK (length(tenant_key) = 32), -- the tenant's row may be gone
    state       TEXT NOT NULL CHECK (state IN ('running', 'suspended', 'ended', 'lost', 'destroyed')),
    epoch       INTEGER NOT NULL CHECK (epoch >= 1),
    node        TEXT NOT NULL REFERENCES binding (name),
    boot_id     BLOB NOT NULL CHECK (length(boot_id) = 16),
    lease_id    BLOB NOT NULL REFERENCES lease (lease_id),
    ticket      BLOB NOT NULL UNIQUE CHECK (length(ticket) = 32),
    nonce       BLOB NOT NULL CHECK (length(nonce) = 32),
    images      BLOB NOT NULL,
    seq         INTEGER NOT NULL, -- of the event by which its node owns it
    released_ms INTEGER NOT NULL,
    ended_ms    INTEGER,
    end_reason  TEXT,
    free_ms     INTEGER NOT NULL, -- from when on it may be released again, unless it is running
    disk_root   BLOB CHECK (length(disk_root) = 32), -- the last that was registered
    generation  INTEGER NOT NULL DEFAULT 0 CHECK (generation BETWEEN 0 AND epoch), -- epoch of its last suspended state
    state_root  BLOB CHECK (length(state_root) = 32), -- of that state
    destroy_seq INTEGER, -- of the event of its end for ever
    CHECK ((state = 'running') = (ended_ms IS NULL)),
    CHECK ((ended_ms IS NULL) = (end_reason IS NULL)),
    CHECK ((generation = 0) = (state_root IS NULL)),
    CHECK (state <> 'suspended' OR generation > 0),
    CHECK ((state = 'destroyed') = (destroy_seq IS NOT NULL))
) STRICT;
INSERT INTO vm_0003 (vm_id, tenant_key, state, epoch, node, boot_id, lease_id, ticket, nonce, images, seq, released_ms,
    ended_ms, end_reason, free_ms, disk_root)
SELECT vm_id, tenant_key, state, epoch, node, boot_id, lease_id, ticket, nonce, images, seq, released_ms,
    ended_ms, end_reason, free_ms, disk_root FROM vm;
DROP TABLE vm;
ALTER TABLE vm_0003 RENAME TO vm;
CREATE INDEX vm_running_by_lease ON vm (lease_id) WHERE state = 'running';
CREATE INDEX vm_running_by_node ON vm (node) WHERE state = 'running';
CREATE TRIGGER destroyed_vm_stays_destroyed BEFORE UPDATE ON vm WHEN OLD.state = 'destroyed'
BEGIN
    SELECT RAISE(ABORT, 'a destroyed VM stays destroyed');
END;
