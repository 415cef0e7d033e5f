//! How our values stand in columns, and how they come back.

use std::error::Error;

use bytes::BytesMut;
use everstate_kernel::ids::{Seq, SessionId};
use everstate_runtime::ports::{Document, Down, Hash, Head};
use tokio_postgres::Row;
use tokio_postgres::types::{FromSql, IsNull, ToSql, Type, accepts, to_sql_checked};

use crate::row::{Header, kind_of};
use crate::shelf::BlobName;

/// 128 bits, as a `uuid`: it fits into every key, and is ordered by its bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Id(pub(super) u128);

impl ToSql for Id {
    fn to_sql(&self, _: &Type, out: &mut BytesMut) -> Result<IsNull, Box<dyn Error + Sync + Send>> {
        out.extend_from_slice(&self.0.to_be_bytes());
        Ok(IsNull::No)
    }

    accepts!(UUID);
    to_sql_checked!();
}

impl<'a> FromSql<'a> for Id {
    fn from_sql(_: &Type, raw: &'a [u8]) -> Result<Id, Box<dyn Error + Sync + Send>> {
        Ok(Id(u128::from_be_bytes(raw.try_into()?)))
    }

    accepts!(UUID);
}

/// The prefix of every key of the log.
pub(super) fn place(session: SessionId) -> (i16, Id) {
    (bucket_of(session), Id(session.0))
}

pub(super) fn bucket_of(session: SessionId) -> i16 {
    i16::try_from(session.bucket()).expect("there are 1,024 buckets")
}

/// Counters and times are kept as signed integers.
pub(super) fn int(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

pub(super) fn limit_of(limit: usize) -> i64 {
    i64::try_from(limit).unwrap_or(i64::MAX)
}

pub(super) fn blob_text(name: &BlobName) -> String {
    name.iter().map(|byte| format!("{byte:02x}")).collect()
}

// ---- out of rows -------------------------------------------------------------------------

pub(super) fn get<'a, T: FromSql<'a>>(row: &'a Row, idx: usize) -> Result<T, Down> {
    row.try_get(idx).map_err(|err| Down(format!("a column is not what it should be: {err}")))
}

pub(super) fn number(row: &Row, idx: usize) -> Result<u64, Down> {
    Ok(get::<i64>(row, idx)? as u64)
}

pub(super) fn session_at(row: &Row, idx: usize) -> Result<SessionId, Down> {
    Ok(SessionId(get::<Id>(row, idx)?.0))
}

pub(super) fn hash_at(row: &Row, idx: usize) -> Result<Hash, Down> {
    let bytes: &[u8] = get(row, idx)?;
    bytes.try_into().map_err(|_| Down("a hash in the database is damaged".to_owned()))
}

pub(super) fn header_at(row: &Row) -> Result<Header, Down> {
    let kind = i64::from(get::<i16>(row, 1)?);
    let unknown = || Down(format!("a row of kind {kind} is not one this release knows"));
    Ok(Header {
        seq: number(row, 0)?,
        kind: kind_of(kind).ok_or_else(unknown)?,
        version: get::<i32>(row, 2)? as u16,
        at: number(row, 3)?,
        prev: hash_at(row, 4)?,
        mac: hash_at(row, 5)?,
    })
}

/// The end of a session's log: its last row or, if that is packed, its last segment.
pub(super) fn head_of(
    session: SessionId,
    last_event: &[Row],
    last_segment: &[Row],
) -> Result<Option<Head>, Down> {
    let event = last_event.first().map(header_at).transpose()?.map(|it| it.head(session));
    let segment = |row: &Row| -> Result<Head, Down> {
        Ok(Head { seq: number(row, 0)?, hash: hash_at(row, 1)? })
    };
    let segment = last_segment.first().map(segment).transpose()?;
    let seq = |it: &Head| -> Seq { it.seq };
    Ok(event.into_iter().chain(segment).max_by_key(seq))
}

pub(super) fn document_at(row: &Row) -> Result<Document, Down> {
    Ok(Document {
        id: get(row, 0)?,
        revision: number(row, 1)?,
        created_at: number(row, 2)?,
        updated_at: number(row, 3)?,
        expires_at: get::<Option<i64>>(row, 4)?.map(|it| it as u64),
        body: get::<Vec<u8>>(row, 5)?.into(),
    })
}
