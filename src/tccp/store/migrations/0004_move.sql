-- VMs on their way from the node that owns them to another.

CREATE TABLE vm_move (
    vm_id   BLOB PRIMARY KEY REFERENCES vm (vm_id),
    epoch   INTEGER NOT NULL CHECK (epoch >= 1),      -- of the owner; over with that epoch
    move_id BLOB NOT NULL CHECK (length(move_id) = 32), -- the nonce with which the other node asked
    node    TEXT NOT NULL REFERENCES binding (name),  -- to which it goes
    boot_id BLOB NOT NULL CHECK (length(boot_id) = 16),
    address TEXT NOT NULL,                            -- where it waits for the source
    seq     INTEGER NOT NULL                          -- of the event by which it began
) STRICT;
