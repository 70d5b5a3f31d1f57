-- How far the disks of a VM have come, as its owner registers it now and then: demanded when it did not end in good order.

ALTER TABLE vm ADD COLUMN marks BLOB CHECK (length(marks) BETWEEN 40 AND 360 AND length(marks) % 40 = 0);
-- The epoch in which they were registered; 0 without any.
ALTER TABLE vm ADD COLUMN marks_epoch INTEGER NOT NULL DEFAULT 0 CHECK (marks_epoch BETWEEN 0 AND epoch);
-- Those of the disks at the destination of a move; NULL until it has said that all of it is there.
ALTER TABLE vm_move ADD COLUMN marks BLOB CHECK (length(marks) <= 360 AND length(marks) % 40 = 0);
