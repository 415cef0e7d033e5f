-- Texts are compared by their bytes: in every place alike, and whatever the system beneath learns of languages.

-- The truth: one row for each append. Contents are sealed.
CREATE TABLE everstate.event (
    bucket   smallint NOT NULL,
    session  uuid     NOT NULL,
    seq      bigint   NOT NULL,
    kind     smallint NOT NULL,
    version  integer  NOT NULL,
    at       bigint   NOT NULL,
    prev     bytea    NOT NULL,
    mac      bytea    NOT NULL,
    data_key bigint   NOT NULL,
    body     bytea    NOT NULL,
    PRIMARY KEY (bucket, session, seq)
);

-- Closed history: up to a thousand rows in one.
CREATE TABLE everstate.segment (
    bucket   smallint NOT NULL,
    session  uuid     NOT NULL,
    from_seq bigint   NOT NULL,
    to_seq   bigint   NOT NULL,
    hash     bytea    NOT NULL,
    data_key bigint   NOT NULL,
    body     bytea    NOT NULL,
    PRIMARY KEY (bucket, session, to_seq)
);

-- Inputs that were taken.
CREATE TABLE everstate.dedupe (
    bucket  smallint NOT NULL,
    session uuid     NOT NULL,
    key     text COLLATE "C" NOT NULL,
    seq     bigint   NOT NULL,
    PRIMARY KEY (bucket, session, key)
);

-- Inputs that wait for a session's owner; without a body they are settled.
CREATE TABLE everstate.inbox (
    bucket    smallint    NOT NULL,
    session   uuid        NOT NULL,
    key       text COLLATE "C" NOT NULL,
    posted_at timestamptz NOT NULL,
    data_key  bigint      NOT NULL,
    body      bytea,
    landed    bigint,
    refused   text COLLATE "C",
    PRIMARY KEY (bucket, session, key)
);

-- What could be rebuilt from the log: timers, the ready list, listings. The key of the session, and how far its
-- history is packed. Who writes to a session holds this row of it.
CREATE TABLE everstate.session (
    bucket     smallint NOT NULL,
    session    uuid     NOT NULL,
    data_key   bigint   NOT NULL,
    packed     bigint   NOT NULL,
    wake       bigint,
    ready      boolean  NOT NULL,
    project    text COLLATE "C",
    created_at bigint,
    summary    text COLLATE "C",
    PRIMARY KEY (bucket, session)
);
CREATE INDEX session_wake ON everstate.session (bucket, wake, session) WHERE wake IS NOT NULL;
CREATE INDEX session_ready ON everstate.session (bucket, session) WHERE ready;
CREATE INDEX session_listing ON everstate.session (project, created_at, session) WHERE project IS NOT NULL;

CREATE TABLE everstate.snapshot (
    bucket   smallint NOT NULL,
    session  uuid     NOT NULL,
    seq      bigint   NOT NULL,
    hash     bytea    NOT NULL,
    data_key bigint   NOT NULL,
    body     bytea    NOT NULL,
    PRIMARY KEY (bucket, session)
);

-- Which blobs a session's rows name.
CREATE TABLE everstate.blob (
    bucket  smallint NOT NULL,
    session uuid     NOT NULL,
    name    text COLLATE "C" NOT NULL,
    PRIMARY KEY (bucket, session, name)
);

-- Big bodies, where no other place is named for them.
CREATE TABLE everstate.object (
    path   text COLLATE "C" NOT NULL,
    put_at timestamptz NOT NULL,
    body   bytea       NOT NULL,
    PRIMARY KEY (path)
);

-- Data keys that nothing is sealed under any more, and that are still to be destroyed.
CREATE TABLE everstate.doomed (data_key bigint NOT NULL, PRIMARY KEY (data_key));

CREATE TABLE everstate.document (
    project    text COLLATE "C" NOT NULL,
    kind       text COLLATE "C" NOT NULL,
    id         text COLLATE "C" NOT NULL,
    revision   bigint NOT NULL,
    created_at bigint NOT NULL,
    updated_at bigint NOT NULL,
    expires_at bigint,
    mark       uuid   NOT NULL,
    body       bytea  NOT NULL,
    PRIMARY KEY (project, kind, id)
);
CREATE INDEX document_listing ON everstate.document (project, kind, created_at, id);
CREATE INDEX document_expiry ON everstate.document (expires_at) WHERE expires_at IS NOT NULL;
