//! All SQL of this store. The log and the registry use five shapes only: INSERT, INSERT ... ON CONFLICT, and UPDATE,
//! DELETE and SELECT by the prefix of a key; a test holds every statement here against them. A statement takes many
//! rows as one array for each column. `FOR UPDATE` is only ever of a session's row: who holds it, holds the session.
//!
//! The text of a statement never changes with its values, and none is prepared by name: between two statements the
//! connection may be another one.

// ---- the log -----------------------------------------------------------------------------

/// Lands only where the session is sealed under the same key, and where nothing was packed over it.
pub(crate) const INSERT_EVENTS: &str = "\
    INSERT INTO everstate.event \
    (bucket, session, seq, kind, version, at, prev, mac, data_key, body) \
    SELECT new.bucket, new.session, new.seq, new.kind, new.version, new.at, new.prev, new.mac, \
    new.data_key, new.body \
    FROM unnest($1::smallint[], $2::uuid[], $3::bigint[], $4::smallint[], $5::integer[], \
    $6::bigint[], $7::bytea[], $8::bytea[], $9::bigint[], $10::bytea[]) \
    AS new (bucket, session, seq, kind, version, at, prev, mac, data_key, body) \
    JOIN everstate.session AS it ON it.bucket = new.bucket AND it.session = new.session \
    WHERE it.data_key = new.data_key AND it.packed < new.seq \
    FOR UPDATE OF it \
    ON CONFLICT (bucket, session, seq) DO NOTHING RETURNING mac";
pub(crate) const INSERT_SESSIONS: &str = "\
    INSERT INTO everstate.session (bucket, session, data_key, packed, ready) \
    SELECT new.bucket, new.session, new.data_key, 0, FALSE \
    FROM unnest($1::smallint[], $2::uuid[], $3::bigint[]) AS new (bucket, session, data_key) \
    ON CONFLICT (bucket, session) DO NOTHING";
pub(crate) const INSERT_DEDUPES: &str = "\
    INSERT INTO everstate.dedupe (bucket, session, key, seq) \
    SELECT new.bucket, new.session, new.key, new.seq \
    FROM unnest($1::smallint[], $2::uuid[], $3::text[], $4::bigint[]) \
    AS new (bucket, session, key, seq) \
    ON CONFLICT (bucket, session, key) DO NOTHING RETURNING bucket, session";
pub(crate) const PROJECT: &str = "\
    UPDATE everstate.session AS it SET wake = new.wake, ready = new.ready, \
    created_at = CASE WHEN it.project IS NULL THEN new.created_at ELSE it.created_at END, \
    project = coalesce(it.project, new.project), summary = coalesce(new.summary, it.summary) \
    FROM unnest($1::smallint[], $2::uuid[], $3::bigint[], $4::boolean[], $5::text[], \
    $6::bigint[], $7::text[]) \
    AS new (bucket, session, wake, ready, project, created_at, summary) \
    WHERE it.bucket = new.bucket AND it.session = new.session \
    AND (it.wake IS DISTINCT FROM new.wake OR it.ready IS DISTINCT FROM new.ready \
    OR (new.summary IS NOT NULL AND it.summary IS DISTINCT FROM new.summary))";
pub(crate) const SETTLE_LANDED: &str = "\
    UPDATE everstate.inbox AS it SET body = NULL, landed = new.landed \
    FROM unnest($1::smallint[], $2::uuid[], $3::text[], $4::bigint[]) \
    AS new (bucket, session, key, landed) \
    WHERE it.bucket = new.bucket AND it.session = new.session AND it.key = new.key";
pub(crate) const INSERT_BLOBS: &str = "\
    INSERT INTO everstate.blob (bucket, session, name) \
    SELECT new.bucket, new.session, new.name \
    FROM unnest($1::smallint[], $2::uuid[], $3::text[]) AS new (bucket, session, name) \
    ON CONFLICT (bucket, session, name) DO NOTHING";

/// Changes nothing, and is on disk like any write: what was visible before it is so too.
pub(crate) const TOUCH_SESSION: &str =
    "UPDATE everstate.session SET packed = packed WHERE bucket = $1 AND session = $2";
pub(crate) const LOCK_SESSION: &str = "\
    SELECT data_key, packed FROM everstate.session \
    WHERE bucket = $1 AND session = $2 FOR UPDATE";
pub(crate) const SESSION: &str =
    "SELECT data_key, packed FROM everstate.session WHERE bucket = $1 AND session = $2";
pub(crate) const SET_SESSION_KEY: &str =
    "UPDATE everstate.session SET data_key = $3 WHERE bucket = $1 AND session = $2";
pub(crate) const SET_PACKED: &str =
    "UPDATE everstate.session SET packed = $3 WHERE bucket = $1 AND session = $2";

pub(crate) const SEEN: &str =
    "SELECT seq FROM everstate.dedupe WHERE bucket = $1 AND session = $2 AND key = $3";
pub(crate) const LAST_EVENT: &str = "\
    SELECT seq, kind, version, at, prev, mac FROM everstate.event \
    WHERE bucket = $1 AND session = $2 ORDER BY seq DESC LIMIT 1";
pub(crate) const EVENT_MAC: &str =
    "SELECT mac FROM everstate.event WHERE bucket = $1 AND session = $2 AND seq = $3";
pub(crate) const EVENTS: &str = "\
    SELECT seq, kind, version, at, prev, mac, data_key, body FROM everstate.event \
    WHERE bucket = $1 AND session = $2 AND seq > $3 ORDER BY seq LIMIT $4";
pub(crate) const EVENT_SEQS: &str =
    "SELECT seq FROM everstate.event WHERE bucket = $1 AND session = $2 ORDER BY seq";
pub(crate) const REWRITE_EVENTS: &str = "\
    UPDATE everstate.event AS it SET data_key = $3, body = new.body \
    FROM unnest($4::bigint[], $5::bytea[]) AS new (seq, body) \
    WHERE it.bucket = $1 AND it.session = $2 AND it.seq = new.seq";
pub(crate) const DELETE_EVENTS: &str =
    "DELETE FROM everstate.event WHERE bucket = $1 AND session = $2 AND seq <= $3";

pub(crate) const INSERT_SEGMENT: &str = "\
    INSERT INTO everstate.segment (bucket, session, from_seq, to_seq, hash, data_key, body) \
    VALUES ($1, $2, $3, $4, $5, $6, $7)";
pub(crate) const LAST_SEGMENT: &str = "\
    SELECT to_seq, hash FROM everstate.segment \
    WHERE bucket = $1 AND session = $2 ORDER BY to_seq DESC LIMIT 1";
pub(crate) const SEGMENTS: &str = "\
    SELECT from_seq, to_seq, hash, data_key, body FROM everstate.segment \
    WHERE bucket = $1 AND session = $2 AND to_seq > $3 ORDER BY to_seq LIMIT $4";
pub(crate) const SEGMENT_ENDS: &str =
    "SELECT to_seq FROM everstate.segment WHERE bucket = $1 AND session = $2 ORDER BY to_seq";
pub(crate) const DELETE_SEGMENTS: &str =
    "DELETE FROM everstate.segment WHERE bucket = $1 AND session = $2";

pub(crate) const DUE: &str = "\
    SELECT found.session, found.wake FROM unnest($1::smallint[]) AS ours (bucket) \
    CROSS JOIN LATERAL (SELECT it.session, it.wake FROM everstate.session AS it \
    WHERE it.bucket = ours.bucket AND it.wake <= $2 ORDER BY it.wake, it.session LIMIT $3) AS found \
    ORDER BY found.wake, found.session LIMIT $3";
pub(crate) const READY: &str = "\
    SELECT found.session FROM unnest($1::smallint[]) AS ours (bucket) \
    CROSS JOIN LATERAL (SELECT it.session FROM everstate.session AS it \
    WHERE it.bucket = ours.bucket AND it.ready AND it.session > $2 \
    ORDER BY it.session LIMIT $3) AS found \
    ORDER BY found.session LIMIT $3";
pub(crate) const READY_FROM_FIRST: &str = "\
    SELECT found.session FROM unnest($1::smallint[]) AS ours (bucket) \
    CROSS JOIN LATERAL (SELECT it.session FROM everstate.session AS it \
    WHERE it.bucket = ours.bucket AND it.ready ORDER BY it.session LIMIT $2) AS found \
    ORDER BY found.session LIMIT $2";
pub(crate) const LIST: &str = "\
    SELECT session, created_at, summary FROM everstate.session \
    WHERE project = $1 AND (created_at, session) < ($2, $3) \
    ORDER BY created_at DESC, session DESC LIMIT $4";
pub(crate) const LIST_FROM_NEWEST: &str = "\
    SELECT session, created_at, summary FROM everstate.session \
    WHERE project = $1 ORDER BY created_at DESC, session DESC LIMIT $2";

pub(crate) const UNDER_WAY: &str = "\
    SELECT session, created_at, summary FROM everstate.session \
    WHERE project = $1 AND (created_at, session) < ($2, $3) AND under_way \
    ORDER BY created_at DESC, session DESC LIMIT $4";
pub(crate) const UNDER_WAY_FROM_NEWEST: &str = "\
    SELECT session, created_at, summary FROM everstate.session \
    WHERE project = $1 AND under_way ORDER BY created_at DESC, session DESC LIMIT $2";

pub(crate) const PUT_SNAPSHOT: &str = "\
    INSERT INTO everstate.snapshot (bucket, session, seq, hash, data_key, body) \
    SELECT it.bucket, it.session, $3, $4, it.data_key, $6 FROM everstate.session AS it \
    WHERE it.bucket = $1 AND it.session = $2 AND it.data_key = $5 \
    FOR UPDATE OF it \
    ON CONFLICT (bucket, session) DO UPDATE SET \
    seq = excluded.seq, hash = excluded.hash, data_key = excluded.data_key, body = excluded.body";
pub(crate) const SNAPSHOT: &str =
    "SELECT seq, hash, data_key, body FROM everstate.snapshot WHERE bucket = $1 AND session = $2";

/// Lands only where the session is sealed under the same key.
pub(crate) const POST: &str = "\
    INSERT INTO everstate.inbox (bucket, session, key, posted_at, data_key, body) \
    SELECT it.bucket, it.session, $3, clock_timestamp(), it.data_key, $5 FROM everstate.session AS it \
    WHERE it.bucket = $1 AND it.session = $2 AND it.data_key = $4 \
    FOR UPDATE OF it \
    ON CONFLICT (bucket, session, key) DO NOTHING RETURNING key";
pub(crate) const POSTED: &str =
    "SELECT data_key FROM everstate.inbox WHERE bucket = $1 AND session = $2 AND key = $3";
pub(crate) const INBOX: &str = "\
    SELECT key, data_key, body FROM everstate.inbox \
    WHERE bucket = $1 AND session = $2 AND body IS NOT NULL ORDER BY posted_at, key";
pub(crate) const OUTCOME: &str =
    "SELECT landed, refused FROM everstate.inbox WHERE bucket = $1 AND session = $2 AND key = $3";
pub(crate) const SETTLE: &str = "\
    UPDATE everstate.inbox SET body = NULL, landed = $4, refused = $5 \
    WHERE bucket = $1 AND session = $2 AND key = $3";
pub(crate) const REWRITE_POSTS: &str = "\
    UPDATE everstate.inbox AS it SET data_key = $3, body = new.body \
    FROM unnest($4::text[], $5::bytea[]) AS new (key, body) \
    WHERE it.bucket = $1 AND it.session = $2 AND it.key = new.key";

pub(crate) const HAS_BLOB: &str =
    "SELECT 1 FROM everstate.blob WHERE bucket = $1 AND session = $2 AND name = $3";
pub(crate) const DELETE_BLOBS: &str =
    "DELETE FROM everstate.blob WHERE bucket = $1 AND session = $2";
pub(crate) const DELETE_SOME_BLOBS: &str =
    "DELETE FROM everstate.blob WHERE bucket = $1 AND session = $2 AND name = ANY($3)";
pub(crate) const DELETE_SNAPSHOT: &str =
    "DELETE FROM everstate.snapshot WHERE bucket = $1 AND session = $2";
pub(crate) const DELETE_INBOX: &str =
    "DELETE FROM everstate.inbox WHERE bucket = $1 AND session = $2";
pub(crate) const DELETE_DEDUPE: &str =
    "DELETE FROM everstate.dedupe WHERE bucket = $1 AND session = $2";
pub(crate) const DELETE_SESSION: &str =
    "DELETE FROM everstate.session WHERE bucket = $1 AND session = $2";

/// The keys a session's contents are sealed under.
pub(crate) const KEYS_IN_USE: [&str; 5] = [
    "SELECT data_key FROM everstate.session WHERE bucket = $1 AND session = $2",
    "SELECT DISTINCT data_key FROM everstate.event WHERE bucket = $1 AND session = $2",
    "SELECT data_key FROM everstate.segment WHERE bucket = $1 AND session = $2",
    "SELECT data_key FROM everstate.inbox WHERE bucket = $1 AND session = $2",
    "SELECT data_key FROM everstate.snapshot WHERE bucket = $1 AND session = $2",
];
pub(crate) const DOOM: &str = "\
    INSERT INTO everstate.doomed (data_key) \
    SELECT new.data_key FROM unnest($1::bigint[]) AS new (data_key) \
    ON CONFLICT (data_key) DO NOTHING";
pub(crate) const DOOMED: &str = "SELECT data_key FROM everstate.doomed ORDER BY data_key";
pub(crate) const DELETE_DOOMED: &str = "DELETE FROM everstate.doomed WHERE data_key = ANY($1)";

// ---- a store that is carried to another ----------------------------------------------------

pub(crate) const SESSIONS: &str = "\
    SELECT session FROM everstate.session \
    WHERE bucket = $1 AND session > $2 ORDER BY session LIMIT $3";
pub(crate) const WHOLE_SESSION: &str = "\
    SELECT data_key, wake, ready, project, created_at, summary FROM everstate.session \
    WHERE bucket = $1 AND session = $2";
pub(crate) const SEGMENT_HEADS: &str = "\
    SELECT from_seq, to_seq, hash, data_key FROM everstate.segment \
    WHERE bucket = $1 AND session = $2 ORDER BY to_seq";
pub(crate) const DEDUPES: &str =
    "SELECT key, seq FROM everstate.dedupe WHERE bucket = $1 AND session = $2 ORDER BY key";
pub(crate) const POSTS: &str = "\
    SELECT key, data_key, body, landed, refused FROM everstate.inbox \
    WHERE bucket = $1 AND session = $2 ORDER BY posted_at, key";
pub(crate) const BLOBS: &str =
    "SELECT name FROM everstate.blob WHERE bucket = $1 AND session = $2 ORDER BY name";
pub(crate) const ALL_DOCUMENTS: &str = "\
    SELECT id, revision, created_at, updated_at, expires_at, body, project, kind \
    FROM everstate.document \
    WHERE (project, kind, id) > ($1, $2, $3) ORDER BY project, kind, id LIMIT $4";
pub(crate) const CARRY_EVENTS: &str = "\
    INSERT INTO everstate.event \
    (bucket, session, seq, kind, version, at, prev, mac, data_key, body) \
    SELECT new.bucket, new.session, new.seq, new.kind, new.version, new.at, new.prev, new.mac, \
    new.data_key, new.body \
    FROM unnest($1::smallint[], $2::uuid[], $3::bigint[], $4::smallint[], $5::integer[], \
    $6::bigint[], $7::bytea[], $8::bytea[], $9::bigint[], $10::bytea[]) \
    AS new (bucket, session, seq, kind, version, at, prev, mac, data_key, body) \
    ON CONFLICT (bucket, session, seq) DO NOTHING";
pub(crate) const CARRY_SEGMENT: &str = "\
    INSERT INTO everstate.segment (bucket, session, from_seq, to_seq, hash, data_key, body) \
    VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT (bucket, session, to_seq) DO NOTHING";
pub(crate) const CARRY_SESSION: &str = "\
    INSERT INTO everstate.session \
    (bucket, session, data_key, packed, wake, ready, project, created_at, summary) \
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)";
pub(crate) const CARRY_POST: &str = "\
    INSERT INTO everstate.inbox \
    (bucket, session, key, posted_at, data_key, body, landed, refused) \
    VALUES ($1, $2, $3, clock_timestamp(), $4, $5, $6, $7)";
pub(crate) const CARRY_DOCUMENT: &str = "\
    INSERT INTO everstate.document \
    (project, kind, id, revision, created_at, updated_at, expires_at, body, mark) \
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9) \
    ON CONFLICT (project, kind, id) DO UPDATE SET revision = excluded.revision, \
    created_at = excluded.created_at, updated_at = excluded.updated_at, \
    expires_at = excluded.expires_at, body = excluded.body, mark = excluded.mark";
pub(crate) const DATA_KEYS: &str = "\
    SELECT id, wrapped FROM everstate_keys.data_key WHERE id > $1 ORDER BY id LIMIT $2";

// ---- big bodies --------------------------------------------------------------------------

pub(crate) const PUT_OBJECT: &str = "\
    INSERT INTO everstate.object (path, put_at, body) VALUES ($1, clock_timestamp(), $2) \
    ON CONFLICT (path) DO UPDATE SET put_at = excluded.put_at, body = excluded.body";
pub(crate) const OBJECT: &str = "\
    SELECT extract(epoch FROM put_at)::float8, length(body)::bigint, body FROM everstate.object \
    WHERE path = $1";
pub(crate) const OBJECTS: &str = "\
    SELECT path, extract(epoch FROM put_at)::float8, length(body)::bigint FROM everstate.object \
    WHERE path > $1 ORDER BY path LIMIT $2";
pub(crate) const DELETE_OBJECT: &str = "DELETE FROM everstate.object WHERE path = $1";

// ---- the registry ------------------------------------------------------------------------

pub(crate) const DOCUMENT: &str = "\
    SELECT id, revision, created_at, updated_at, expires_at, body, mark FROM everstate.document \
    WHERE project = $1 AND kind = $2 AND id = $3";
/// A new document, or one in the place of one that has expired: it goes on counting.
pub(crate) const CREATE_DOCUMENT: &str = "\
    INSERT INTO everstate.document AS old \
    (project, kind, id, revision, created_at, updated_at, expires_at, body, mark) \
    VALUES ($1, $2, $3, 1, $4, $4, $5, $6, $7) \
    ON CONFLICT (project, kind, id) DO UPDATE SET revision = old.revision + 1, \
    created_at = excluded.created_at, updated_at = excluded.updated_at, \
    expires_at = excluded.expires_at, body = excluded.body, mark = excluded.mark \
    WHERE old.expires_at <= excluded.updated_at RETURNING revision";
pub(crate) const CHANGE_DOCUMENT: &str = "\
    UPDATE everstate.document SET revision = revision + 1, updated_at = $4, expires_at = $5, \
    body = $6, mark = $7 \
    WHERE project = $1 AND kind = $2 AND id = $3 AND revision = $8 \
    AND (expires_at IS NULL OR expires_at > $4) RETURNING revision";
pub(crate) const DELETE_DOCUMENT: &str =
    "DELETE FROM everstate.document WHERE project = $1 AND kind = $2 AND id = $3";
pub(crate) const TAKE_DOCUMENT: &str = "\
    DELETE FROM everstate.document WHERE project = $1 AND kind = $2 AND id = $3 RETURNING body";
pub(crate) const DELETE_EXPIRED: &str = "DELETE FROM everstate.document WHERE expires_at <= $1";
pub(crate) const NEWEST_DOCUMENTS: &str = "\
    SELECT id, revision, created_at, updated_at, expires_at, body, mark FROM everstate.document \
    WHERE project = $1 AND kind = $2 AND (created_at, id) < ($3, $4) \
    AND (expires_at IS NULL OR expires_at > $5) \
    ORDER BY created_at DESC, id DESC LIMIT $6";
pub(crate) const OLDEST_DOCUMENTS: &str = "\
    SELECT id, revision, created_at, updated_at, expires_at, body, mark FROM everstate.document \
    WHERE project = $1 AND kind = $2 AND (created_at, id) > ($3, $4) \
    AND (expires_at IS NULL OR expires_at > $5) \
    ORDER BY created_at, id LIMIT $6";

// ---- data keys, in a schema of their own, or in another database ----------------------------

pub(crate) const WRAPPING_KEY: &str =
    "SELECT wrapped FROM everstate_keys.wrapping_key WHERE id = 1";
pub(crate) const INSERT_WRAPPING_KEY: &str = "\
    INSERT INTO everstate_keys.wrapping_key (id, wrapped) VALUES (1, $1) \
    ON CONFLICT (id) DO NOTHING";
pub(crate) const INSERT_DATA_KEYS: &str = "\
    INSERT INTO everstate_keys.data_key (id, wrapped) \
    SELECT new.id, new.wrapped FROM unnest($1::bigint[], $2::bytea[]) AS new (id, wrapped) \
    ON CONFLICT (id) DO NOTHING RETURNING id";
pub(crate) const DATA_KEY: &str = "SELECT wrapped FROM everstate_keys.data_key WHERE id = $1";
pub(crate) const DELETE_DATA_KEYS: &str = "DELETE FROM everstate_keys.data_key WHERE id = ANY($1)";
pub(crate) const KEYS_SIZE: &str = "SELECT pg_total_relation_size('everstate_keys.data_key')";
/// No transaction can hold it.
pub(crate) const KEYS_ANEW: &str = "VACUUM (FULL) everstate_keys.data_key";

// ---- migrations --------------------------------------------------------------------------

pub(crate) const MIGRATIONS: &str =
    "SELECT version, checksum FROM everstate.migration ORDER BY version";
pub(crate) const INSERT_MIGRATION: &str = "\
    INSERT INTO everstate.migration (version, checksum) VALUES ($1, $2) \
    ON CONFLICT (version) DO NOTHING RETURNING version";
pub(crate) const KEYS_MIGRATIONS: &str =
    "SELECT version, checksum FROM everstate_keys.migration ORDER BY version";
pub(crate) const INSERT_KEYS_MIGRATION: &str = "\
    INSERT INTO everstate_keys.migration (version, checksum) VALUES ($1, $2) \
    ON CONFLICT (version) DO NOTHING RETURNING version";

pub(crate) const ADDITIONS: &str = "SELECT name FROM everstate.addition ORDER BY name";
pub(crate) const INSERT_ADDITION: &str = "\
    INSERT INTO everstate.addition (name) VALUES ($1) ON CONFLICT (name) DO NOTHING RETURNING name";

// ---- what the server says of itself -------------------------------------------------------

pub(crate) const SETTING: &str = "SELECT current_setting($1, TRUE)";
pub(crate) const SIZE: &str = "SELECT pg_database_size(current_database())";
pub(crate) const IS_STANDBY: &str = "SELECT pg_is_in_recovery()";

#[cfg(test)]
mod tests;
