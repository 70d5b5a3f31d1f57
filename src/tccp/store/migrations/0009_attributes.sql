-- What was known of the node to which a VM moves when it got the keys: the receipt of its ownership says so.

ALTER TABLE vm_move ADD COLUMN attributes BLOB NOT NULL DEFAULT X'80'; -- a map of msgpack
