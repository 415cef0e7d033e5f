//! Big bodies in the database itself, where no other place is named for them: a table behind the interface of an
//! object store. It knows what the store asks of one, and no more.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use async_trait::async_trait;
use bytes::Bytes;
use everstate_runtime::ports::Down;
use futures_util::stream::{self, BoxStream, StreamExt};
use object_store::path::Path;
use object_store::{
    Attributes, CopyOptions, Error, GetOptions, GetResult, GetResultPayload, ListResult,
    MultipartUpload, ObjectMeta, ObjectStore, PutMultipartOptions, PutOptions, PutPayload,
    PutResult, Result,
};
use tokio_postgres::Row;
use tokio_postgres::types::Type;

use crate::postgres::connect::{Line, Live, Target, Work};
use crate::postgres::statements as sql;
use crate::postgres::trouble::Trouble;
use crate::postgres::values::get;

/// So many are listed at once.
const PAGE: i64 = 1_000;

#[derive(Debug)]
pub(crate) struct PgObjects {
    line: Arc<Line>,
    shown: String,
}

impl PgObjects {
    pub(crate) fn new(target: &Arc<Target>) -> PgObjects {
        PgObjects { line: Arc::new(Line::new(target)), shown: target.to_string() }
    }
}

impl fmt::Display for PgObjects {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.shown)
    }
}

fn failed(trouble: Trouble) -> Error {
    Error::Generic { store: "PostgreSQL", source: Box::new(trouble.down("the table of blobs")) }
}

fn damaged(down: Down) -> Error {
    Error::Generic { store: "PostgreSQL", source: Box::new(down) }
}

fn not_here() -> Error {
    Error::NotImplemented { operation: "this".to_owned(), implementer: "PgObjects".to_owned() }
}

/// Of a row that says, from `at` on: when it was put (in seconds), and how long it is.
fn meta(location: Path, row: &Row, at: usize) -> Result<ObjectMeta> {
    let seconds: f64 = get(row, at).map_err(damaged)?;
    let size: i64 = get(row, at + 1).map_err(damaged)?;
    let put_at = UNIX_EPOCH + Duration::from_secs_f64(seconds.max(0.0));
    let (e_tag, version) = (None, None);
    Ok(ObjectMeta { location, last_modified: put_at.into(), size: size as u64, e_tag, version })
}

async fn page(line: Arc<Line>, after: String) -> Result<Vec<Row>> {
    let params: [(&(dyn tokio_postgres::types::ToSql + Sync), Type); 2] =
        [(&after, Type::TEXT), (&PAGE, Type::INT8)];
    let params = &params[..];
    line.ask(Work::Whole, |live| async move { live.rows(sql::OBJECTS, params).await })
        .await
        .map_err(failed)
}

#[async_trait]
impl ObjectStore for PgObjects {
    async fn put_opts(&self, at: &Path, body: PutPayload, _: PutOptions) -> Result<PutResult> {
        let (path, body) = (at.as_ref(), Bytes::from(body));
        let body = &body[..];
        let put = |live: Arc<Live>| async move {
            live.run(sql::PUT_OBJECT, &[(&path, Type::TEXT), (&body, Type::BYTEA)]).await?;
            live.confirmed()
        };
        self.line.write(Work::Whole, put).await.map_err(failed)?;
        Ok(PutResult { e_tag: None, version: None, extensions: Default::default() })
    }

    async fn put_multipart_opts(
        &self,
        _: &Path,
        _: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        Err(not_here())
    }

    async fn get_opts(&self, at: &Path, _: GetOptions) -> Result<GetResult> {
        let path = at.as_ref();
        let get_it =
            |live: Arc<Live>| async move { live.rows(sql::OBJECT, &[(&path, Type::TEXT)]).await };
        let found = self.line.ask(Work::Whole, get_it).await.map_err(failed)?;
        let Some(row) = found.first() else {
            let source = Box::new(Down("it is not there".to_owned()));
            return Err(Error::NotFound { path: path.to_owned(), source });
        };
        let meta = meta(at.clone(), row, 0)?;
        let body: Vec<u8> = get(row, 2).map_err(damaged)?;
        let range = 0..meta.size;
        let payload = stream::once(async move { Ok(Bytes::from(body)) }).boxed();
        let payload = GetResultPayload::Stream(payload);
        let (attributes, extensions) = (Attributes::new(), Default::default());
        Ok(GetResult { payload, meta, range, attributes, extensions })
    }

    fn delete_stream(
        &self,
        paths: BoxStream<'static, Result<Path>>,
    ) -> BoxStream<'static, Result<Path>> {
        let line = Arc::clone(&self.line);
        let delete = move |path: Result<Path>| {
            let line = Arc::clone(&line);
            async move {
                let path = path?;
                let text = path.as_ref();
                let delete = |live: Arc<Live>| async move {
                    live.run(sql::DELETE_OBJECT, &[(&text, Type::TEXT)]).await
                };
                line.write(Work::Whole, delete).await.map_err(failed)?;
                Ok(path)
            }
        };
        paths.then(delete).boxed()
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        let prefix = prefix.map(ToString::to_string).unwrap_or_default();
        let line = Arc::clone(&self.line);
        let pages = stream::try_unfold(Some(prefix.clone()), move |after| {
            let line = Arc::clone(&line);
            async move {
                let Some(after) = after else { return Ok(None) };
                let rows = page(line, after).await?;
                let mut found = Vec::with_capacity(rows.len());
                for row in &rows {
                    let path: String = get(row, 0).map_err(damaged)?;
                    found.push(meta(Path::from(path), row, 1)?);
                }
                let last = found.last().map(|it| it.location.to_string());
                let next = last.filter(|_| found.len() as i64 == PAGE);
                Ok(Some((stream::iter(found.into_iter().map(Ok)), next)))
            }
        });
        let below = move |it: &Result<ObjectMeta>| {
            let is_below = it.as_ref().map_or(true, |it| it.location.as_ref().starts_with(&prefix));
            std::future::ready(is_below)
        };
        let all = pages.flat_map(|page: Result<_>| match page {
            Ok(page) => page.boxed(),
            Err(err) => stream::once(async move { Err(err) }).boxed(),
        });
        all.take_while(below).boxed()
    }

    async fn list_with_delimiter(&self, _: Option<&Path>) -> Result<ListResult> {
        Err(not_here())
    }

    async fn copy_opts(&self, _: &Path, _: &Path, _: CopyOptions) -> Result<()> {
        Err(not_here())
    }
}
