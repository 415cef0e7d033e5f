//! All SQL of this store. The log and the registry use five shapes only: INSERT, INSERT ... ON CONFLICT, and
//! UPDATE, DELETE and SELECT by the prefix of a key.

// ---- the log -----------------------------------------------------------------------------

pub(crate) const SEEN: &str =
    "SELECT seq FROM dedupe WHERE bucket = ?1 AND session = ?2 AND key = ?3";
pub(crate) const INSERT_DEDUPE: &str =
    "INSERT INTO dedupe (bucket, session, key, seq) VALUES (?1, ?2, ?3, ?4)";

pub(crate) const INSERT_EVENT: &str = "\
    INSERT INTO event (bucket, session, seq, kind, version, at, prev, mac, data_key, body) \
    VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)";
pub(crate) const LAST_EVENT: &str = "\
    SELECT seq, kind, version, at, prev, mac FROM event \
    WHERE bucket = ?1 AND session = ?2 ORDER BY seq DESC LIMIT 1";
pub(crate) const EVENT_MAC: &str =
    "SELECT mac FROM event WHERE bucket = ?1 AND session = ?2 AND seq = ?3";
pub(crate) const EVENTS: &str = "\
    SELECT seq, kind, version, at, prev, mac, data_key, body FROM event \
    WHERE bucket = ?1 AND session = ?2 AND seq > ?3 ORDER BY seq LIMIT ?4";
pub(crate) const REWRITE_EVENT: &str =
    "UPDATE event SET data_key = ?4, body = ?5 WHERE bucket = ?1 AND session = ?2 AND seq = ?3";
pub(crate) const DELETE_EVENTS: &str =
    "DELETE FROM event WHERE bucket = ?1 AND session = ?2 AND seq <= ?3";

pub(crate) const INSERT_SEGMENT: &str = "\
    INSERT INTO segment (bucket, session, from_seq, to_seq, hash, data_key, body) \
    VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)";
pub(crate) const LAST_SEGMENT: &str = "\
    SELECT to_seq, hash FROM segment \
    WHERE bucket = ?1 AND session = ?2 ORDER BY to_seq DESC LIMIT 1";
pub(crate) const SEGMENTS: &str = "\
    SELECT from_seq, to_seq, hash, data_key, body FROM segment \
    WHERE bucket = ?1 AND session = ?2 AND to_seq > ?3 ORDER BY to_seq LIMIT ?4";
pub(crate) const DELETE_SEGMENTS: &str = "DELETE FROM segment WHERE bucket = ?1 AND session = ?2";

pub(crate) const INSERT_SESSION: &str = "\
    INSERT INTO session (bucket, session, data_key, ready) VALUES (?1, ?2, ?3, 0) \
    ON CONFLICT (bucket, session) DO NOTHING";
pub(crate) const PROJECT: &str = "\
    INSERT INTO session (bucket, session, data_key, wake, ready, project, created_at, summary) \
    VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8) \
    ON CONFLICT (bucket, session) DO UPDATE SET wake = excluded.wake, ready = excluded.ready, \
    created_at = iif(session.project IS NULL, excluded.created_at, session.created_at), \
    project = coalesce(session.project, excluded.project), \
    summary = coalesce(excluded.summary, session.summary) \
    WHERE session.wake IS NOT excluded.wake OR session.ready IS NOT excluded.ready \
    OR (excluded.summary IS NOT NULL AND session.summary IS NOT excluded.summary)";
pub(crate) const SESSION_KEY: &str =
    "SELECT data_key FROM session WHERE bucket = ?1 AND session = ?2";
pub(crate) const SET_SESSION_KEY: &str =
    "UPDATE session SET data_key = ?3 WHERE bucket = ?1 AND session = ?2";
pub(crate) const DELETE_SESSION: &str = "DELETE FROM session WHERE bucket = ?1 AND session = ?2";
pub(crate) const DUE: &str =
    "SELECT session, wake FROM session WHERE wake <= ?1 ORDER BY wake, session";
pub(crate) const NEXT_DUE: &str =
    "SELECT session, wake FROM session WHERE wake IS NOT NULL ORDER BY wake, session";
pub(crate) const READY: &str =
    "SELECT session FROM session WHERE ready = 1 AND session > ?1 ORDER BY session";
pub(crate) const LIST: &str = "\
    SELECT session, created_at, summary FROM session \
    WHERE project = ?1 AND (created_at, session) < (?2, ?3) \
    ORDER BY created_at DESC, session DESC LIMIT ?4";

/// The condition is that of the index, word by word.
pub(crate) const UNDER_WAY: &str = "\
    SELECT session, created_at, summary FROM session \
    WHERE project = ?1 AND (created_at, session) < (?2, ?3) \
    AND project IS NOT NULL AND substr(summary, 1, 15) <> '{\"state\":\"idle\"' \
    AND substr(summary, 1, 15) <> '{\"state\":\"parke' \
    ORDER BY created_at DESC, session DESC LIMIT ?4";

pub(crate) const PUT_SNAPSHOT: &str = "\
    INSERT INTO snapshot (bucket, session, seq, hash, data_key, body) VALUES (?1, ?2, ?3, ?4, ?5, ?6) \
    ON CONFLICT (bucket, session) DO UPDATE SET \
    seq = excluded.seq, hash = excluded.hash, data_key = excluded.data_key, body = excluded.body";
pub(crate) const SNAPSHOT: &str =
    "SELECT seq, hash, data_key, body FROM snapshot WHERE bucket = ?1 AND session = ?2";
pub(crate) const DELETE_SNAPSHOT: &str = "DELETE FROM snapshot WHERE bucket = ?1 AND session = ?2";

pub(crate) const POST: &str = "\
    INSERT INTO inbox (bucket, session, key, data_key, body) VALUES (?1, ?2, ?3, ?4, ?5) \
    ON CONFLICT (bucket, session, key) DO NOTHING";
pub(crate) const INBOX: &str = "\
    SELECT key, data_key, body FROM inbox \
    WHERE bucket = ?1 AND session = ?2 AND body IS NOT NULL ORDER BY pos";
pub(crate) const OUTCOME: &str = "\
    SELECT landed, refused FROM inbox WHERE bucket = ?1 AND session = ?2 AND key = ?3";
pub(crate) const SETTLE: &str = "\
    UPDATE inbox SET body = NULL, landed = ?4, refused = ?5 \
    WHERE bucket = ?1 AND session = ?2 AND key = ?3";
pub(crate) const REWRITE_POST: &str = "\
    UPDATE inbox SET data_key = ?4, body = ?5 WHERE bucket = ?1 AND session = ?2 AND key = ?3";
pub(crate) const DELETE_INBOX: &str = "DELETE FROM inbox WHERE bucket = ?1 AND session = ?2";
pub(crate) const DELETE_DEDUPE: &str = "DELETE FROM dedupe WHERE bucket = ?1 AND session = ?2";

pub(crate) const INSERT_BLOB: &str = "\
    INSERT INTO blob (bucket, session, name) VALUES (?1, ?2, ?3) \
    ON CONFLICT (bucket, session, name) DO NOTHING";
pub(crate) const HAS_BLOB: &str =
    "SELECT 1 FROM blob WHERE bucket = ?1 AND session = ?2 AND name = ?3";
pub(crate) const DELETE_BLOB: &str =
    "DELETE FROM blob WHERE bucket = ?1 AND session = ?2 AND name = ?3";
pub(crate) const DELETE_BLOBS: &str = "DELETE FROM blob WHERE bucket = ?1 AND session = ?2";

/// The keys a session's contents are sealed under.
pub(crate) const KEYS_IN_USE: [&str; 5] = [
    SESSION_KEY,
    "SELECT DISTINCT data_key FROM event WHERE bucket = ?1 AND session = ?2",
    "SELECT data_key FROM segment WHERE bucket = ?1 AND session = ?2",
    "SELECT data_key FROM inbox WHERE bucket = ?1 AND session = ?2",
    "SELECT data_key FROM snapshot WHERE bucket = ?1 AND session = ?2",
];
pub(crate) const DOOM: &str =
    "INSERT INTO doomed (data_key) VALUES (?1) ON CONFLICT (data_key) DO NOTHING";
pub(crate) const DOOMED: &str = "SELECT data_key FROM doomed ORDER BY data_key";
pub(crate) const DELETE_DOOMED: &str = "DELETE FROM doomed WHERE data_key = ?1";

// ---- a store that is carried to another ----------------------------------------------------

pub(crate) const SESSIONS: &str = "SELECT session FROM session WHERE bucket = ?1 ORDER BY session";
pub(crate) const SESSION: &str = "\
    SELECT data_key, wake, ready, project, created_at, summary FROM session \
    WHERE bucket = ?1 AND session = ?2";
pub(crate) const EVENT_COUNT: &str =
    "SELECT count(*) FROM event WHERE bucket = ?1 AND session = ?2";
pub(crate) const SEGMENT_HEADS: &str = "\
    SELECT from_seq, to_seq, hash, data_key FROM segment \
    WHERE bucket = ?1 AND session = ?2 ORDER BY to_seq";
pub(crate) const DEDUPES: &str =
    "SELECT key, seq FROM dedupe WHERE bucket = ?1 AND session = ?2 ORDER BY key";
pub(crate) const POSTS: &str = "\
    SELECT key, data_key, body, landed, refused FROM inbox \
    WHERE bucket = ?1 AND session = ?2 ORDER BY pos";
pub(crate) const BLOBS: &str =
    "SELECT name FROM blob WHERE bucket = ?1 AND session = ?2 ORDER BY name";
pub(crate) const ALL_DOCUMENTS: &str = "\
    SELECT id, revision, created_at, updated_at, expires_at, body, project, kind FROM document \
    WHERE (project, kind, id) > (?1, ?2, ?3) ORDER BY project, kind, id LIMIT ?4";
pub(crate) const CARRY_EVENT: &str = "\
    INSERT INTO event (bucket, session, seq, kind, version, at, prev, mac, data_key, body) \
    VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10) \
    ON CONFLICT (bucket, session, seq) DO NOTHING";
pub(crate) const CARRY_SEGMENT: &str = "\
    INSERT INTO segment (bucket, session, from_seq, to_seq, hash, data_key, body) \
    VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7) ON CONFLICT (bucket, session, to_seq) DO NOTHING";
pub(crate) const CARRY_SESSION: &str = "\
    INSERT INTO session (bucket, session, data_key, wake, ready, project, created_at, summary) \
    VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)";
pub(crate) const CARRY_POST: &str = "\
    INSERT INTO inbox (bucket, session, key, data_key, body, landed, refused) \
    VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)";
pub(crate) const DATA_KEYS: &str =
    "SELECT id, wrapped FROM data_key WHERE id > ?1 ORDER BY id LIMIT ?2";
pub(crate) const PUT_DATA_KEY: &str =
    "INSERT INTO data_key (id, wrapped) VALUES (?1, ?2) ON CONFLICT (id) DO NOTHING";

// ---- the registry ------------------------------------------------------------------------

pub(crate) const DOCUMENT: &str = "\
    SELECT id, revision, created_at, updated_at, expires_at, body FROM document \
    WHERE project = ?1 AND kind = ?2 AND id = ?3";
pub(crate) const PUT_DOCUMENT: &str = "\
    INSERT INTO document \
    (project, kind, id, revision, created_at, updated_at, expires_at, body) \
    VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8) \
    ON CONFLICT (project, kind, id) DO UPDATE SET revision = excluded.revision, \
    created_at = excluded.created_at, updated_at = excluded.updated_at, \
    expires_at = excluded.expires_at, body = excluded.body";
pub(crate) const DELETE_DOCUMENT: &str =
    "DELETE FROM document WHERE project = ?1 AND kind = ?2 AND id = ?3";
pub(crate) const DELETE_EXPIRED: &str = "DELETE FROM document WHERE expires_at <= ?1";
pub(crate) const NEWEST_DOCUMENTS: &str = "\
    SELECT id, revision, created_at, updated_at, expires_at, body FROM document \
    WHERE project = ?1 AND kind = ?2 AND (created_at, id) < (?3, ?4) \
    AND (expires_at IS NULL OR expires_at > ?5) \
    ORDER BY created_at DESC, id DESC LIMIT ?6";
pub(crate) const OLDEST_DOCUMENTS: &str = "\
    SELECT id, revision, created_at, updated_at, expires_at, body FROM document \
    WHERE project = ?1 AND kind = ?2 AND (created_at, id) > (?3, ?4) \
    AND (expires_at IS NULL OR expires_at > ?5) \
    ORDER BY created_at, id LIMIT ?6";

// ---- data keys, in a file of their own ---------------------------------------------------

pub(crate) const WRAPPING_KEY: &str = "SELECT wrapped FROM wrapping_key WHERE id = 1";
pub(crate) const INSERT_WRAPPING_KEY: &str =
    "INSERT INTO wrapping_key (id, wrapped) VALUES (1, ?1)";
pub(crate) const INSERT_DATA_KEY: &str = "INSERT INTO data_key (id, wrapped) VALUES (?1, ?2)";
pub(crate) const DATA_KEY: &str = "SELECT wrapped FROM data_key WHERE id = ?1";
pub(crate) const DELETE_DATA_KEY: &str = "DELETE FROM data_key WHERE id = ?1";

// ---- migrations --------------------------------------------------------------------------

pub(crate) const CREATE_MIGRATION: &str = "\
    CREATE TABLE IF NOT EXISTS migration \
    (version INTEGER PRIMARY KEY, checksum BLOB NOT NULL) STRICT";
pub(crate) const MIGRATIONS: &str = "SELECT version, checksum FROM migration ORDER BY version";
pub(crate) const INSERT_MIGRATION: &str =
    "INSERT INTO migration (version, checksum) VALUES (?1, ?2)";
