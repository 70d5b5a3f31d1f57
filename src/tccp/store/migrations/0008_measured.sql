-- How far the measurements of each node were accepted: a cache, in bytes of the coordinator's own.

CREATE TABLE measured (
    node    TEXT PRIMARY KEY REFERENCES node (name) ON DELETE CASCADE,
    content BLOB NOT NULL
) STRICT, WITHOUT ROWID;
