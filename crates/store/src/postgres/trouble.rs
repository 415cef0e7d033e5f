//! What can go wrong between us and the server, sorted by what there is to do about it.

use std::error::Error as _;

use everstate_runtime::ports::Down;
use tokio_postgres::Error;
use tokio_postgres::error::SqlState;

#[derive(Clone, Debug)]
pub(crate) struct Trouble {
    pub(crate) kind: Kind,
    says: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Nothing was written: two were in each other's way, and the next try may fare better.
    Again,
    /// Nothing was written, by a server that does not take writes at the moment: it starts, stops, is a standby, or
    /// has no room for one more connection.
    Away,
    /// The connection broke, or its answer is not to be trusted: what was sent may have been done.
    Lost,
    /// The table, schema or column is not there.
    Missing,
    /// Nothing was written, and trying again will not help by itself.
    Refused,
}

impl Trouble {
    pub(crate) fn new(kind: Kind, says: String) -> Trouble {
        Trouble { kind, says }
    }

    pub(crate) fn of(err: Error) -> Trouble {
        let Some(state) = err.code() else {
            // No answer of the server: the connection, or what this side made of it.
            let kind = if err.is_closed() || is_io(&err) { Kind::Lost } else { Kind::Refused };
            return Trouble::new(kind, told(&err));
        };
        let kind = match state {
            it if *it == SqlState::T_R_SERIALIZATION_FAILURE
                || *it == SqlState::T_R_DEADLOCK_DETECTED
                || *it == SqlState::LOCK_NOT_AVAILABLE
                || *it == SqlState::QUERY_CANCELED
                // Two made the same at once.
                || *it == SqlState::UNIQUE_VIOLATION
                || *it == SqlState::DUPLICATE_SCHEMA
                || *it == SqlState::DUPLICATE_TABLE =>
            {
                Kind::Again
            }
            it if *it == SqlState::READ_ONLY_SQL_TRANSACTION
                || *it == SqlState::TOO_MANY_CONNECTIONS
                || *it == SqlState::CANNOT_CONNECT_NOW =>
            {
                Kind::Away
            }
            it if *it == SqlState::ADMIN_SHUTDOWN
                || *it == SqlState::CRASH_SHUTDOWN
                || *it == SqlState::IDLE_IN_TRANSACTION_SESSION_TIMEOUT
                || it.code().starts_with("08")
                || it.code() == "57P05"
                || *it == SqlState::T_R_STATEMENT_COMPLETION_UNKNOWN =>
            {
                Kind::Lost
            }
            it if *it == SqlState::UNDEFINED_TABLE
                || *it == SqlState::UNDEFINED_COLUMN
                || *it == SqlState::INVALID_SCHEMA_NAME =>
            {
                Kind::Missing
            }
            _ => Kind::Refused,
        };
        Trouble::new(kind, told(&err))
    }

    /// At the door: whoever is not let in has written nothing.
    pub(crate) fn of_door(err: Error) -> Trouble {
        let trouble = Trouble::of(err);
        match trouble.kind {
            Kind::Lost | Kind::Again => Trouble { kind: Kind::Away, ..trouble },
            Kind::Away | Kind::Missing | Kind::Refused => trouble,
        }
    }

    pub(crate) fn down(&self, what: &str) -> Down {
        Down(format!("{what}: {}", self.says))
    }

    pub(crate) fn says(&self) -> &str {
        &self.says
    }
}

fn is_io(err: &Error) -> bool {
    let mut source = err.source();
    while let Some(it) = source {
        if it.is::<std::io::Error>() {
            return true;
        }
        source = it.source();
    }
    false
}

/// What happened and, where there is something, what to try.
fn told(err: &Error) -> String {
    let Some(db) = err.as_db_error() else {
        return match err.source() {
            Some(source) => format!("{err}: {source}"),
            None => err.to_string(),
        };
    };
    let code = db.code();
    let hint = match code {
        it if *it == SqlState::READ_ONLY_SQL_TRANSACTION => {
            "; this server is a standby or read-only: name the primary in the URL, or all with \
             target_session_attrs=read-write"
        }
        it if *it == SqlState::DISK_FULL => "; make room on the database's disk",
        it if *it == SqlState::TOO_MANY_CONNECTIONS => {
            "; raise max_connections, or put PgBouncer in front"
        }
        it if *it == SqlState::INSUFFICIENT_PRIVILEGE => {
            "; the role needs to own the schemas `everstate` and `everstate_keys`, or CREATE on the database"
        }
        _ => "",
    };
    format!("{} ({}){hint}", db.message(), code.code())
}
