-- Each statement of a node that nothing is left of a VM, and its event: a later boot may have to say it once more.

CREATE TABLE vm_destruction (
    statement BLOB PRIMARY KEY CHECK (length(statement) = 32), -- its SHA-256
    vm_id     BLOB NOT NULL REFERENCES vm (vm_id),
    seq       INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
