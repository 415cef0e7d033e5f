-- The truth: one row for each append, in the order they landed. Contents are sealed.
CREATE TABLE event (
    pos      INTEGER PRIMARY KEY,
    bucket   INTEGER NOT NULL,
    session  BLOB    NOT NULL,
    seq      INTEGER NOT NULL,
    kind     INTEGER NOT NULL,
    version  INTEGER NOT NULL,
    at       INTEGER NOT NULL,
    prev     BLOB    NOT NULL,
    mac      BLOB    NOT NULL,
    data_key INTEGER NOT NULL,
    body     BLOB    NOT NULL,
    UNIQUE (bucket, session, seq)
) STRICT;

-- Closed history: up to a thousand rows in one.
CREATE TABLE segment (
    pos      INTEGER PRIMARY KEY,
    bucket   INTEGER NOT NULL,
    session  BLOB    NOT NULL,
    from_seq INTEGER NOT NULL,
    to_seq   INTEGER NOT NULL,
    hash     BLOB    NOT NULL,
    data_key INTEGER NOT NULL,
    body     BLOB    NOT NULL,
    UNIQUE (bucket, session, to_seq)
) STRICT;

-- Inputs that were taken.
CREATE TABLE dedupe (
    bucket  INTEGER NOT NULL,
    session BLOB    NOT NULL,
    key     TEXT    NOT NULL,
    seq     INTEGER NOT NULL,
    PRIMARY KEY (bucket, session, key)
) STRICT, WITHOUT ROWID;

-- Inputs that wait for a session's owner; without a body they are settled.
CREATE TABLE inbox (
    pos      INTEGER PRIMARY KEY,
    bucket   INTEGER NOT NULL,
    session  BLOB    NOT NULL,
    key      TEXT    NOT NULL,
    data_key INTEGER NOT NULL,
    body     BLOB,
    landed   INTEGER,
    refused  TEXT,
    UNIQUE (bucket, session, key)
) STRICT;

-- What could be rebuilt from the log: timers, the ready list, listings. And the key of the session.
CREATE TABLE session (
    bucket     INTEGER NOT NULL,
    session    BLOB    NOT NULL,
    data_key   INTEGER NOT NULL,
    wake       INTEGER,
    ready      INTEGER NOT NULL,
    project    TEXT,
    created_at INTEGER,
    summary    TEXT,
    PRIMARY KEY (bucket, session)
) STRICT, WITHOUT ROWID;
CREATE INDEX session_wake ON session (wake, session) WHERE wake IS NOT NULL;
CREATE INDEX session_ready ON session (session) WHERE ready = 1;
CREATE INDEX session_listing ON session (project, created_at, session) WHERE project IS NOT NULL;

CREATE TABLE snapshot (
    pos      INTEGER PRIMARY KEY,
    bucket   INTEGER NOT NULL,
    session  BLOB    NOT NULL,
    seq      INTEGER NOT NULL,
    hash     BLOB    NOT NULL,
    data_key INTEGER NOT NULL,
    body     BLOB    NOT NULL,
    UNIQUE (bucket, session)
) STRICT;

-- Which blobs a session's rows name.
CREATE TABLE blob (
    bucket  INTEGER NOT NULL,
    session BLOB    NOT NULL,
    name    BLOB    NOT NULL,
    PRIMARY KEY (bucket, session, name)
) STRICT, WITHOUT ROWID;

-- Data keys that nothing is sealed under any more, and that are still to be destroyed.
CREATE TABLE doomed (data_key INTEGER PRIMARY KEY) STRICT;

CREATE TABLE document (
    project    TEXT    NOT NULL,
    kind       TEXT    NOT NULL,
    id         TEXT    NOT NULL,
    revision   INTEGER NOT NULL,
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL,
    expires_at INTEGER,
    body       BLOB    NOT NULL,
    PRIMARY KEY (project, kind, id)
) STRICT;
CREATE INDEX document_listing ON document (project, kind, created_at, id);
CREATE INDEX document_expiry ON document (expires_at) WHERE expires_at IS NOT NULL;
