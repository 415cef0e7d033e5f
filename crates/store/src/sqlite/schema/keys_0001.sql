-- Wrapped by the master key; wraps the data keys.
CREATE TABLE wrapping_key (id INTEGER PRIMARY KEY, wrapped BLOB NOT NULL) STRICT;

CREATE TABLE data_key (id INTEGER PRIMARY KEY, wrapped BLOB NOT NULL) STRICT;
