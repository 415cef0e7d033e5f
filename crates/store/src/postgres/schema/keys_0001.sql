-- Wrapped by the master key; wraps the data keys.
CREATE TABLE everstate_keys.wrapping_key (id smallint NOT NULL, wrapped bytea NOT NULL, PRIMARY KEY (id));

CREATE TABLE everstate_keys.data_key (id bigint NOT NULL, wrapped bytea NOT NULL, PRIMARY KEY (id));
