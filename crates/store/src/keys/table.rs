//! The key store in PostgreSQL: a schema of its own, best in a database of its own, since a key that is deleted here
//! lives on in every backup of the database that it lies in.

use std::sync::Arc;

use async_trait::async_trait;
use everstate_runtime::ports::Down;
use tokio_postgres::types::{ToSql, Type};

use crate::keys::source::KeySource;
use crate::keys::{KeyStore, blocking, unwrap_one, wrap_all, wrap_one};
use crate::open::OpenError;
use crate::postgres::connect::{Line, Live, Target, Work};
use crate::postgres::statements as sql;
use crate::postgres::trouble::{Kind, Trouble};
use crate::seal::DataKey;
use crate::shelf::KeyId;

/// Some half a million keys, written in about a second.
const ANEW_MAX: i64 = 64 << 20;

pub(crate) struct KeyTable {
    line: Line,
    /// Wraps the data keys; itself wrapped by the master key.
    wrapping: DataKey,
    describe: String,
}

impl KeyTable {
    /// Of several nodes that open a new one at once, one makes the wrapping key for all.
    pub(crate) async fn open(
        target: &Arc<Target>,
        line: Line,
        source: &KeySource,
    ) -> Result<KeyTable, OpenError> {
        let down =
            |trouble: Trouble| OpenError::Down(trouble.down(&format!("cannot open {target}")).0);
        let mut wrapped = wrapping_key(&line).await.map_err(down)?;
        if wrapped.is_none() {
            let made = from_source(source, |source| source.make().map(|it| it.1)).await?;
            let params: [(&(dyn ToSql + Sync), Type); 1] = [(&made, Type::BYTEA)];
            let params = &params[..];
            let insert = |live: Arc<Live>| async move {
                live.run(sql::INSERT_WRAPPING_KEY, params).await?;
                live.confirmed()
            };
            line.write(Work::Statement, insert).await.map_err(down)?;
            wrapped = wrapping_key(&line).await.map_err(down)?;
        }
        let gone = || OpenError::Down(format!("the wrapping key in {target} comes and goes"));
        let wrapped = wrapped.ok_or_else(gone)?;
        let key = from_source(source, move |source| source.unwrap(&wrapped)).await?;
        let describe = format!(
            "{}; data keys in the schema everstate_keys of the {target}",
            source.describe()
        );
        Ok(KeyTable { line, wrapping: DataKey::new(0, key), describe })
    }
}

async fn wrapping_key(line: &Line) -> Result<Option<Vec<u8>>, Trouble> {
    let ask = |live: Arc<Live>| async move { live.rows(sql::WRAPPING_KEY, &[]).await };
    let rows = line.ask(Work::Statement, ask).await?;
    let damaged = |err: tokio_postgres::Error| Trouble::new(Kind::Refused, err.to_string());
    rows.first().map(|row| row.try_get(0).map_err(damaged)).transpose()
}

/// A key service may take its time.
async fn from_source<T: Send + 'static>(
    source: &KeySource,
    ask: impl FnOnce(&KeySource) -> Result<T, String> + Send + 'static,
) -> Result<T, OpenError> {
    let source = source.clone();
    let asked = blocking(move || ask(&source).map_err(Down)).await;
    asked.map_err(|down| OpenError::Key(down.0))
}

#[async_trait]
impl KeyStore for KeyTable {
    fn describe(&self) -> &str {
        &self.describe
    }

    fn wrapping(&self) -> &DataKey {
        &self.wrapping
    }

    async fn add(&self, secrets: &[[u8; 32]]) -> Result<Vec<KeyId>, Down> {
        let (ids, wrapped): (Vec<KeyId>, Vec<Vec<u8>>) =
            wrap_all(&self.wrapping, secrets).into_iter().unzip();
        let params: [(&(dyn ToSql + Sync), Type); 2] =
            [(&ids, Type::INT8_ARRAY), (&wrapped, Type::BYTEA_ARRAY)];
        let params = &params[..];
        let add = |live: Arc<Live>| async move {
            live.rows(sql::INSERT_DATA_KEYS, params).await?;
            live.confirmed()
        };
        let cannot = |it: Trouble| it.down("cannot write new data keys");
        self.line.write(Work::Statement, add).await.map_err(cannot)?;
        Ok(ids)
    }

    async fn find(&self, id: KeyId) -> Result<Option<[u8; 32]>, Down> {
        let find =
            |live: Arc<Live>| async move { live.rows(sql::DATA_KEY, &[(&id, Type::INT8)]).await };
        let cannot = |it: Trouble| it.down(&format!("cannot read data key {id}"));
        let found = self.line.ask(Work::Statement, find).await.map_err(cannot)?;
        let Some(row) = found.first() else { return Ok(None) };
        let damaged = |_| Down(format!("data key {id} is damaged"));
        let wrapped: Vec<u8> = row.try_get(0).map_err(damaged)?;
        unwrap_one(&self.wrapping, id, &wrapped).map(Some)
    }

    async fn remove(&self, ids: &[KeyId]) -> Result<(), Down> {
        let params: [(&(dyn ToSql + Sync), Type); 1] = [(&ids, Type::INT8_ARRAY)];
        let params = &params[..];
        let remove = |live: Arc<Live>| async move {
            live.run(sql::DELETE_DATA_KEYS, params).await?;
            live.confirmed()
        };
        let cannot = |it: Trouble| it.down("cannot destroy data keys");
        self.line.write(Work::Statement, remove).await.map_err(cannot)
    }

    /// A row that is deleted stays on its page, also after a vacuum, until another is written over it: only writing the
    /// table anew leaves nothing. While that is done keys are waited for, so a big table is left to its owner.
    async fn tidy(&self) -> Result<(), Down> {
        let cannot = |it: Trouble| it.down("cannot write the table of data keys anew");
        let size = |live: Arc<Live>| async move { live.rows(sql::KEYS_SIZE, &[]).await };
        let rows = self.line.ask(Work::Statement, size).await.map_err(cannot)?;
        let bytes: i64 = rows.first().and_then(|it| it.try_get(0).ok()).unwrap_or(i64::MAX);
        if bytes > ANEW_MAX {
            tracing::warn!(
                bytes,
                "destroyed keys stay on their pages until others are written over them: \
                 run `{}` when it is quiet",
                sql::KEYS_ANEW
            );
            return Ok(());
        }
        let anew = |live: Arc<Live>| async move { live.plain(sql::KEYS_ANEW).await };
        match self.line.write(Work::Statement, anew).await {
            // Not every system on this wire knows the word, and none needs it to be right.
            Err(trouble) if matches!(trouble.kind, Kind::Refused | Kind::Missing) => {
                tracing::warn!(
                    why = trouble.says(),
                    "destroyed keys stay on their pages for a while"
                );
                Ok(())
            }
            done => done.map_err(cannot),
        }
    }

    async fn list(
        &self,
        after: Option<KeyId>,
        limit: usize,
    ) -> Result<Vec<(KeyId, [u8; 32])>, Down> {
        let (after, limit) = (after.unwrap_or(KeyId::MIN), limit as i64);
        let params: [(&(dyn ToSql + Sync), Type); 2] = [(&after, Type::INT8), (&limit, Type::INT8)];
        let params = &params[..];
        let list = |live: Arc<Live>| async move { live.rows(sql::DATA_KEYS, params).await };
        let cannot = |it: Trouble| it.down("cannot read data keys");
        let found = self.line.ask(Work::Statement, list).await.map_err(cannot)?;
        let key = |row: &tokio_postgres::Row| {
            let damaged = |_| Down("a data key is damaged".to_owned());
            let id: KeyId = row.try_get(0).map_err(damaged)?;
            let wrapped: Vec<u8> = row.try_get(1).map_err(damaged)?;
            Ok((id, unwrap_one(&self.wrapping, id, &wrapped)?))
        };
        found.iter().map(key).collect()
    }

    async fn put(&self, keys: &[(KeyId, [u8; 32])]) -> Result<(), Down> {
        let (ids, wrapped): (Vec<KeyId>, Vec<Vec<u8>>) =
            keys.iter().map(|(id, it)| wrap_one(&self.wrapping, *id, it)).unzip();
        let params: [(&(dyn ToSql + Sync), Type); 2] =
            [(&ids, Type::INT8_ARRAY), (&wrapped, Type::BYTEA_ARRAY)];
        let params = &params[..];
        let put = |live: Arc<Live>| async move {
            live.rows(sql::INSERT_DATA_KEYS, params).await?;
            live.confirmed()
        };
        let cannot = |it: Trouble| it.down("cannot write data keys");
        self.line.write(Work::Statement, put).await.map_err(cannot)
    }
}
