-- Versions of policies that judge beside the one in force, without consequence.

CREATE TABLE shadow_policy (
    name     TEXT PRIMARY KEY,
    version  INTEGER NOT NULL CHECK (version >= 1),
    body     BLOB NOT NULL,
    sha256   BLOB NOT NULL CHECK (length(sha256) = 32),
    added_ms INTEGER NOT NULL
) STRICT;
