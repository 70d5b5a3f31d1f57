-- Every suspended state that a VM has had, with the disks that belong to it: a tenant may allow to go back to an older one.

CREATE TABLE vm_state (
    vm_id      BLOB NOT NULL REFERENCES vm (vm_id),
    generation INTEGER NOT NULL CHECK (generation >= 1),
    state_root BLOB NOT NULL CHECK (length(state_root) = 32),
    disk_root  BLOB CHECK (length(disk_root) = 32),
    marks      BLOB CHECK (length(marks) BETWEEN 40 AND 360 AND length(marks) % 40 = 0),
    PRIMARY KEY (vm_id, generation),
    UNIQUE (vm_id, state_root)
) STRICT, WITHOUT ROWID;
INSERT INTO vm_state (vm_id, generation, state_root, disk_root, marks)
SELECT vm_id, generation, state_root, disk_root, marks FROM vm WHERE state = 'suspended';
