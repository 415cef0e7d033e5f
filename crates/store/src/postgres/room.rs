//! A store in a database as one end of a copy.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use everstate_kernel::ids::{Seq, SessionId};
use everstate_runtime::ports::{Document, Down};
use tokio_postgres::Row;
use tokio_postgres::types::{ToSql, Type};

use crate::copy::room::{Beside, DocKey, Packed, Posted, Quiet, ReadRoom, Write, WriteRoom};
use crate::postgres::connect::{Line, Live, Params, Target, Work};
use crate::postgres::statements as sql;
use crate::postgres::trouble::Trouble;
use crate::postgres::values::{
    Id, blob_text, document_at, get, hash_at, header_at, int, limit_of, number, place, session_at,
};
use crate::row::{SealedRow, kind_code};
use crate::seal::random;
use crate::shelf::{BlobName, KeyId, SealedSegment};

/// A node that lives says so more often than this.
const BEAT_WITHIN: Duration = Duration::from_secs(12);
const PAGE: usize = 1_000;

pub(crate) struct PgRoom {
    line: Line,
    shown: String,
}

impl PgRoom {
    pub(crate) fn new(target: &Arc<Target>) -> PgRoom {
        PgRoom { line: Line::new(target), shown: target.to_string() }
    }

    async fn ask(&self, statement: &str, params: Params<'_>) -> Result<Vec<Row>, Down> {
        let asked = self
            .line
            .ask(Work::Statement, |live| async move { live.rows(statement, params).await });
        asked.await.map_err(|it| it.down(&format!("cannot read from the {}", self.shown)))
    }

    async fn of_session(&self, statement: &str, session: SessionId) -> Result<Vec<Row>, Down> {
        let (bucket, id) = place(session);
        self.ask(statement, &[(&bucket, Type::INT2), (&id, Type::UUID)]).await
    }

    async fn page(
        &self,
        statement: &str,
        session: SessionId,
        after: Seq,
        limit: usize,
    ) -> Result<Vec<Row>, Down> {
        let ((bucket, id), after, limit) = (place(session), int(after), limit_of(limit));
        let params: [(&(dyn ToSql + Sync), Type); 4] =
            [(&bucket, Type::INT2), (&id, Type::UUID), (&after, Type::INT8), (&limit, Type::INT8)];
        self.ask(statement, &params).await
    }

    /// What the nodes say of themselves.
    async fn beats(&self) -> Result<Vec<(DocKey, u64)>, Down> {
        let before = (String::new(), "cluster".to_owned(), "node/".to_owned());
        let page = self.documents(Some(&before), PAGE).await?;
        let is_node =
            |it: &DocKey| it.0.is_empty() && it.1 == "cluster" && it.2.starts_with("node/");
        Ok(page
            .into_iter()
            .filter(|it| is_node(&it.0))
            .map(|(key, it)| (key, it.revision))
            .collect())
    }
}

#[async_trait]
impl ReadRoom for PgRoom {
    /// Nothing keeps a node from being started later: that is up to who copies.
    async fn quiet(&self) -> Result<Quiet, Down> {
        let before = self.beats().await?;
        if !before.is_empty() {
            tokio::time::sleep(BEAT_WITHIN).await;
        }
        let now = self.beats().await?;
        let living = now.iter().find(|it| !before.contains(it));
        Ok(match living {
            Some(((_, _, node), _)) => {
                let name = node.trim_start_matches("node/");
                Quiet::No(format!("the {} is in use by the node `{name}`", self.shown))
            }
            None => Quiet::Yes(Box::new(())),
        })
    }

    async fn sessions(&self, bucket: u16) -> Result<Vec<SessionId>, Down> {
        let bucket = i16::try_from(bucket).unwrap_or(i16::MAX);
        let mut found: Vec<SessionId> = Vec::new();
        loop {
            let after = found.last().map_or(Id(0), |it| Id(it.0));
            let limit = limit_of(PAGE);
            let params: [(&(dyn ToSql + Sync), Type); 3] =
                [(&bucket, Type::INT2), (&after, Type::UUID), (&limit, Type::INT8)];
            let page = self.ask(sql::SESSIONS, &params).await?;
            for row in &page {
                found.push(session_at(row, 0)?);
            }
            if page.len() < PAGE {
                return Ok(found);
            }
        }
    }

    async fn beside(&self, session: SessionId) -> Result<Option<Beside>, Down> {
        let found = self.of_session(sql::WHOLE_SESSION, session).await?;
        let Some(row) = found.first() else { return Ok(None) };
        let unsigned = |it: Option<i64>| it.map(|it| it as u64);
        let mut beside = Beside {
            data_key: get(row, 0)?,
            wake: unsigned(get(row, 1)?),
            ready: get(row, 2)?,
            project: get(row, 3)?,
            created_at: unsigned(get(row, 4)?),
            summary: get(row, 5)?,
            rows: (None, 0),
            segments: Vec::new(),
            dedupe: Vec::new(),
            inbox: Vec::new(),
            blobs: Vec::new(),
        };
        let last = self.of_session(sql::LAST_EVENT, session).await?;
        let last = last.first().map(header_at).transpose()?;
        let n_rows = self.of_session(sql::EVENT_SEQS, session).await?.len();
        beside.rows = (last.map(|it| it.head(session)), n_rows as u64);
        for row in self.of_session(sql::SEGMENT_HEADS, session).await? {
            let (from, to, hash) = (number(&row, 0)?, number(&row, 1)?, hash_at(&row, 2)?);
            beside.segments.push(Packed { from, to, hash, data_key: get(&row, 3)? });
        }
        for row in self.of_session(sql::DEDUPES, session).await? {
            beside.dedupe.push((get(&row, 0)?, number(&row, 1)?));
        }
        for row in self.of_session(sql::POSTS, session).await? {
            beside.inbox.push(Posted {
                key: get(&row, 0)?,
                data_key: get(&row, 1)?,
                body: get(&row, 2)?,
                landed: unsigned(get(&row, 3)?),
                refused: get(&row, 4)?,
            });
        }
        for row in self.of_session(sql::BLOBS, session).await? {
            beside.blobs.push(blob_of(get(&row, 0)?)?);
        }
        Ok(Some(beside))
    }

    async fn rows(
        &self,
        session: SessionId,
        after: Seq,
        limit: usize,
    ) -> Result<Vec<SealedRow>, Down> {
        let page = self.page(sql::EVENTS, session, after, limit).await?;
        let row = |row: &Row| {
            Ok(SealedRow { header: header_at(row)?, data_key: get(row, 6)?, body: get(row, 7)? })
        };
        page.iter().map(row).collect()
    }

    async fn segments(
        &self,
        session: SessionId,
        after: Seq,
        limit: usize,
    ) -> Result<Vec<SealedSegment>, Down> {
        let page = self.page(sql::SEGMENTS, session, after, limit).await?;
        page.iter().map(super::segment_at).collect()
    }

    async fn documents(
        &self,
        after: Option<&DocKey>,
        limit: usize,
    ) -> Result<Vec<(DocKey, Document)>, Down> {
        let (project, kind, id) = after.cloned().unwrap_or_default();
        let limit = limit_of(limit);
        let params: [(&(dyn ToSql + Sync), Type); 4] =
            [(&project, Type::TEXT), (&kind, Type::TEXT), (&id, Type::TEXT), (&limit, Type::INT8)];
        let page = self.ask(sql::ALL_DOCUMENTS, &params).await?;
        let document = |row: &Row| {
            let document = document_at(row)?;
            Ok(((get(row, 6)?, get(row, 7)?, document.id.clone()), document))
        };
        page.iter().map(document).collect()
    }

    async fn doomed(&self) -> Result<Vec<KeyId>, Down> {
        let rows = self.ask(sql::DOOMED, &[]).await?;
        rows.iter().map(|it| get(it, 0)).collect()
    }
}

fn blob_of(text: String) -> Result<BlobName, Down> {
    let mut name = BlobName::default();
    for (n, byte) in name.iter_mut().enumerate() {
        let digits = text.get(2 * n..2 * n + 2).and_then(|it| u8::from_str_radix(it, 16).ok());
        *byte = digits.ok_or_else(|| Down("the name of a blob is damaged".to_owned()))?;
    }
    Ok(name)
}

#[async_trait]
impl WriteRoom for PgRoom {
    async fn write(&self, write: Write) -> Result<(), Down> {
        let write = &write;
        let land = |live: Arc<Live>| async move {
            live.plain("BEGIN").await?;
            apply(&live, write).await?;
            live.plain("COMMIT").await?;
            live.confirmed()
        };
        let landed = self.line.write(Work::Whole, land).await;
        landed.map_err(|it| it.down(&format!("cannot write to the {}", self.shown)))
    }
}

async fn apply(live: &Live, write: &Write) -> Result<(), Trouble> {
    match write {
        Write::Forget(session) => {
            let (bucket, id) = place(*session);
            let all: [(&(dyn ToSql + Sync), Type); 3] =
                [(&bucket, Type::INT2), (&id, Type::UUID), (&i64::MAX, Type::INT8)];
            live.run(sql::DELETE_EVENTS, &all).await?;
            for statement in [sql::DELETE_SEGMENTS, sql::DELETE_SNAPSHOT] {
                live.run(statement, &all[..2]).await?;
            }
            forget_beside(live, *session).await
        }
        Write::Rows(session, rows) => put_rows(live, *session, rows).await,
        Write::Segments(session, segments) => {
            let (bucket, id) = place(*session);
            for it in segments {
                let (from, to, hash) = (int(it.from), int(it.to), &it.hash[..]);
                let params: [(&(dyn ToSql + Sync), Type); 7] = [
                    (&bucket, Type::INT2),
                    (&id, Type::UUID),
                    (&from, Type::INT8),
                    (&to, Type::INT8),
                    (&hash, Type::BYTEA),
                    (&it.data_key, Type::INT8),
                    (&it.body, Type::BYTEA),
                ];
                live.run(sql::CARRY_SEGMENT, &params).await?;
            }
            Ok(())
        }
        Write::Beside(session, beside) => put_beside(live, *session, beside).await,
        Write::Document((project, kind, id), it) => {
            let (revision, expires_at) = (int(it.revision), it.expires_at.map(int));
            let (created_at, updated_at) = (int(it.created_at), int(it.updated_at));
            let (body, mark) = (&it.body[..], Id(u128::from_be_bytes(random())));
            let params: [(&(dyn ToSql + Sync), Type); 9] = [
                (project, Type::TEXT),
                (kind, Type::TEXT),
                (id, Type::TEXT),
                (&revision, Type::INT8),
                (&created_at, Type::INT8),
                (&updated_at, Type::INT8),
                (&expires_at, Type::INT8),
                (&body, Type::BYTEA),
                (&mark, Type::UUID),
            ];
            live.run(sql::CARRY_DOCUMENT, &params).await.map(drop)
        }
        Write::DropDocument((project, kind, id)) => {
            let params: [(&(dyn ToSql + Sync), Type); 3] =
                [(project, Type::TEXT), (kind, Type::TEXT), (id, Type::TEXT)];
            live.run(sql::DELETE_DOCUMENT, &params).await.map(drop)
        }
        Write::Doomed(keys) => {
            let there = live.rows(sql::DOOMED, &[]).await?;
            let there: Vec<KeyId> = there.iter().filter_map(|it| it.try_get(0).ok()).collect();
            live.run(sql::DELETE_DOOMED, &[(&there, Type::INT8_ARRAY)]).await?;
            live.run(sql::DOOM, &[(keys, Type::INT8_ARRAY)]).await.map(drop)
        }
    }
}

async fn put_rows(live: &Live, session: SessionId, rows: &[SealedRow]) -> Result<(), Trouble> {
    let (bucket, id) = place(session);
    let n = rows.len();
    let headers = || rows.iter().map(|it| &it.header);
    let seqs: Vec<i64> = headers().map(|it| int(it.seq)).collect();
    let kinds: Vec<i16> = headers().map(|it| i16::from(kind_code(it.kind))).collect();
    let versions: Vec<i32> = headers().map(|it| i32::from(it.version)).collect();
    let ats: Vec<i64> = headers().map(|it| int(it.at)).collect();
    let prevs: Vec<&[u8]> = headers().map(|it| &it.prev[..]).collect();
    let macs: Vec<&[u8]> = headers().map(|it| &it.mac[..]).collect();
    let keys: Vec<KeyId> = rows.iter().map(|it| it.data_key).collect();
    let bodies: Vec<&[u8]> = rows.iter().map(|it| &it.body[..]).collect();
    let (buckets, ids) = (vec![bucket; n], vec![id; n]);
    let params: [(&(dyn ToSql + Sync), Type); 10] = [
        (&buckets, Type::INT2_ARRAY),
        (&ids, Type::UUID_ARRAY),
        (&seqs, Type::INT8_ARRAY),
        (&kinds, Type::INT2_ARRAY),
        (&versions, Type::INT4_ARRAY),
        (&ats, Type::INT8_ARRAY),
        (&prevs, Type::BYTEA_ARRAY),
        (&macs, Type::BYTEA_ARRAY),
        (&keys, Type::INT8_ARRAY),
        (&bodies, Type::BYTEA_ARRAY),
    ];
    live.run(sql::CARRY_EVENTS, &params).await.map(drop)
}

async fn forget_beside(live: &Live, session: SessionId) -> Result<(), Trouble> {
    let (bucket, id) = place(session);
    let params: [(&(dyn ToSql + Sync), Type); 2] = [(&bucket, Type::INT2), (&id, Type::UUID)];
    for statement in [sql::DELETE_INBOX, sql::DELETE_DEDUPE, sql::DELETE_BLOBS, sql::DELETE_SESSION]
    {
        live.run(statement, &params).await?;
    }
    Ok(())
}

async fn put_beside(live: &Live, session: SessionId, it: &Beside) -> Result<(), Trouble> {
    forget_beside(live, session).await?;
    let (bucket, id) = place(session);
    let packed = it.segments.last().map_or(0, |it| int(it.to));
    let (wake, created_at) = (it.wake.map(int), it.created_at.map(int));
    let params: [(&(dyn ToSql + Sync), Type); 9] = [
        (&bucket, Type::INT2),
        (&id, Type::UUID),
        (&it.data_key, Type::INT8),
        (&packed, Type::INT8),
        (&wake, Type::INT8),
        (&it.ready, Type::BOOL),
        (&it.project, Type::TEXT),
        (&created_at, Type::INT8),
        (&it.summary, Type::TEXT),
    ];
    live.run(sql::CARRY_SESSION, &params).await?;
    let keys: Vec<&str> = it.dedupe.iter().map(|it| it.0.as_str()).collect();
    let seqs: Vec<i64> = it.dedupe.iter().map(|it| int(it.1)).collect();
    let (buckets, ids) = (vec![bucket; keys.len()], vec![id; keys.len()]);
    let params: [(&(dyn ToSql + Sync), Type); 4] = [
        (&buckets, Type::INT2_ARRAY),
        (&ids, Type::UUID_ARRAY),
        (&keys, Type::TEXT_ARRAY),
        (&seqs, Type::INT8_ARRAY),
    ];
    live.rows(sql::INSERT_DEDUPES, &params).await?;
    // One after the other: their order is that of their times.
    for Posted { key, data_key, body, landed, refused } in &it.inbox {
        let landed = landed.map(int);
        let params: [(&(dyn ToSql + Sync), Type); 7] = [
            (&bucket, Type::INT2),
            (&id, Type::UUID),
            (key, Type::TEXT),
            (data_key, Type::INT8),
            (body, Type::BYTEA),
            (&landed, Type::INT8),
            (refused, Type::TEXT),
        ];
        live.run(sql::CARRY_POST, &params).await?;
    }
    let names: Vec<String> = it.blobs.iter().map(blob_text).collect();
    let (buckets, ids) = (vec![bucket; names.len()], vec![id; names.len()]);
    let params: [(&(dyn ToSql + Sync), Type); 3] =
        [(&buckets, Type::INT2_ARRAY), (&ids, Type::UUID_ARRAY), (&names, Type::TEXT_ARRAY)];
    live.run(sql::INSERT_BLOBS, &params).await.map(drop)
}

impl fmt::Debug for PgRoom {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PgRoom({})", self.shown)
    }
}
