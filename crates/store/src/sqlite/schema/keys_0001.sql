-- Wrapped by the master key; wraps the data keys.
CREATE TABLE wrapping_key (id INTEGER PRIMARY KEY, wrapped BLOB NOT NULL) STRICT;

CREATE TABLE data_key (id INTEGER PRIMARY KEY, wrapped BLOB NOT NULL) STRICT;

-- The last id given to a data key: none is used twice, also after keys were destroyed.
CREATE TABLE counter (id INTEGER PRIMARY KEY, last INTEGER NOT NULL) STRICT;
INSERT INTO counter (id, last) VALUES (1, 0);
