-- Whether the ticket by which a VM was started last lets its provider go back to an older state. Of what was started before
-- this was kept nobody knows: as if.

ALTER TABLE vm ADD COLUMN may_roll_back INTEGER NOT NULL DEFAULT 1 CHECK (may_roll_back IN (0, 1));
