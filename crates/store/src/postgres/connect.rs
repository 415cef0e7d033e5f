//! Reaching the server: what the URL says, TLS, one connection that is made anew when it broke, and what is heard on
//! it beside the answers.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures_util::{FutureExt, StreamExt, stream};
use rustls::ClientConfig;
use tokio::sync::Mutex;
use tokio::time::Instant;
use tokio_postgres::config::{Host, SslMode, TargetSessionAttrs};
use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{AsyncMessage, Client, Config, Row};
use tokio_postgres_rustls::MakeRustlsConnect;

use crate::postgres::tls::{self, Check};
use crate::postgres::trouble::{Kind, Trouble};
use crate::seal::random;

/// How long a server may take to answer the door.
const CONNECT: Duration = Duration::from_secs(5);
/// Nobody waits longer for a write.
const PATIENCE: Duration = Duration::from_secs(10);
/// A connection that broke is not worth a refusal, however little somebody wants to wait at the start.
const PATIENCE_MIN: Duration = Duration::from_secs(1);
/// Who reads may do something else in the meantime.
const READ_PATIENCE: Duration = Duration::from_secs(2);
/// How long what was sent may stay unacknowledged before the connection counts as lost.
const SILENCE: Duration = Duration::from_secs(10);

/// Where a database is and how it is reached.
pub(crate) struct Target {
    config: Config,
    tls: Arc<ClientConfig>,
    shown: String,
    /// How long a write is tried again before it is given up as down.
    pub(crate) patience: Duration,
}

impl Target {
    /// The error says what is wrong with the URL, without repeating it: it may hold a password.
    pub(crate) fn parse(url: &str, wait: Duration) -> Result<Target, String> {
        let (url, check) = tls::take_options(url)?;
        let wrong = |err: tokio_postgres::Error| {
            let why = std::error::Error::source(&err).map_or(err.to_string(), ToString::to_string);
            format!(
                "the URL of the database is not understood: {why}; \
                 it looks like postgres://USER:PASSWORD@HOST:PORT/DATABASE?sslmode=verify-full"
            )
        };
        let mut config: Config = url.parse().map_err(wrong)?;
        if config.get_connect_timeout().is_none() {
            config.connect_timeout(CONNECT);
        }
        if config.get_tcp_user_timeout().is_none() {
            config.tcp_user_timeout(SILENCE);
        }
        config.keepalives_idle(SILENCE).keepalives_interval(SILENCE / 4).keepalives_retries(3);
        if config.get_application_name().is_none() {
            config.application_name("everstate");
        }
        if check != Check::Nothing {
            config.ssl_mode(SslMode::Require);
        }
        // Of several servers, the one that takes writes.
        if config.get_hosts().len() > 1 {
            config.target_session_attrs(TargetSessionAttrs::ReadWrite);
        }
        let shown = shown(&config);
        Ok(Target {
            config,
            tls: tls::client(&check)?,
            shown,
            patience: wait.clamp(PATIENCE_MIN, PATIENCE),
        })
    }

    pub(crate) async fn connect(&self) -> Result<Live, Trouble> {
        let tls = MakeRustlsConnect::new(ClientConfig::clone(&self.tls));
        let connecting = self.config.connect(tls);
        let patience = self.patience.min(2 * CONNECT);
        let connected = tokio::time::timeout(patience, connecting).await;
        let late = || Trouble::new(Kind::Away, "it does not answer".to_owned());
        let (client, mut connection) = connected.map_err(|_| late())?.map_err(Trouble::of_door)?;
        let doubt = Arc::new(AtomicBool::new(false));
        let heard = Arc::clone(&doubt);
        tokio::spawn(async move {
            let mut messages = stream::poll_fn(move |cx| connection.poll_message(cx));
            while let Some(Ok(message)) = messages.next().await {
                let AsyncMessage::Notice(notice) = message else { continue };
                // Whatever it is called in the server's language, this is the place in the server it comes from.
                if notice.routine().is_some_and(|it| it.starts_with("SyncRep")) {
                    heard.store(true, Ordering::SeqCst);
                    tracing::warn!(%notice, "a commit was not confirmed by the standby");
                } else {
                    tracing::debug!(%notice, "PostgreSQL says");
                }
            }
        });
        Ok(Live { client, doubt })
    }
}

/// Without the password.
impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.shown)
    }
}

impl fmt::Debug for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Target({})", self.shown)
    }
}

fn shown(config: &Config) -> String {
    let ports = config.get_ports();
    let host = |(n, host): (usize, &Host)| {
        let port = ports.get(n).or(ports.first()).copied().unwrap_or(5432);
        match host {
            Host::Tcp(name) => format!("{name}:{port}"),
            Host::Unix(path) => format!("{}:{port}", path.display()),
        }
    };
    let hosts: Vec<String> = config.get_hosts().iter().enumerate().map(host).collect();
    let database = config.get_dbname().or(config.get_user()).unwrap_or("postgres");
    format!("PostgreSQL database `{database}` at {}", hosts.join(","))
}

// ---- a connection ------------------------------------------------------------------------

/// A connection. Statements sent at once are answered in the order they were sent.
pub(crate) struct Live {
    client: Client,
    doubt: Arc<AtomicBool>,
}

pub(crate) type Params<'a> = &'a [(&'a (dyn ToSql + Sync), Type)];

impl Live {
    pub(crate) async fn rows(
        &self,
        statement: &str,
        params: Params<'_>,
    ) -> Result<Vec<Row>, Trouble> {
        self.client.query_typed(statement, params).await.map_err(Trouble::of)
    }

    /// How many rows it touched.
    pub(crate) async fn run(&self, statement: &str, params: Params<'_>) -> Result<u64, Trouble> {
        self.client.execute_typed(statement, params).await.map_err(Trouble::of)
    }

    /// Statements without values: the frame around a transaction, schemas.
    pub(crate) async fn plain(&self, statements: &str) -> Result<(), Trouble> {
        self.client.batch_execute(statements).await.map_err(Trouble::of)
    }

    /// What was answered last is on disk here; is it also where it was promised to be?
    pub(crate) fn confirmed(&self) -> Result<(), Trouble> {
        match self.doubt.load(Ordering::SeqCst) {
            false => Ok(()),
            true => Err(Trouble::new(
                Kind::Lost,
                "the wait for the standby's confirmation was cancelled".to_owned(),
            )),
        }
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.client.is_closed()
    }
}

/// How much is asked for at once, and so how long it may take.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Work {
    Statement,
    /// A whole session, or a big body.
    Whole,
}

/// A connection that many may use at once, made when it is first wanted, and anew when it broke.
pub(crate) struct Line {
    pub(crate) target: Arc<Target>,
    slot: Mutex<Slot>,
}

#[derive(Default)]
struct Slot {
    live: Option<Arc<Live>>,
    /// When connecting last failed, and why.
    failed: Option<(Instant, Trouble)>,
}

impl Line {
    pub(crate) fn new(target: &Arc<Target>) -> Line {
        Line { target: Arc::clone(target), slot: Mutex::default() }
    }

    pub(crate) async fn get(&self) -> Result<Arc<Live>, Trouble> {
        let began = Instant::now();
        let mut slot = self.slot.lock().await;
        if let Some(live) = slot.live.as_ref().filter(|it| !it.is_closed()) {
            return Ok(Arc::clone(live));
        }
        slot.live = None;
        // Who waited while another tried in vain does not try after him: a queue of them would wait for ever.
        if let Some((_, trouble)) = slot.failed.as_ref().filter(|(at, _)| *at >= began) {
            return Err(trouble.clone());
        }
        match self.target.connect().await {
            Ok(live) => {
                let live = Arc::new(live);
                *slot = Slot { live: Some(Arc::clone(&live)), failed: None };
                Ok(live)
            }
            Err(trouble) => {
                slot.failed = Some((Instant::now(), trouble.clone()));
                Err(trouble)
            }
        }
    }

    /// Gives a connection up that misbehaved. It ends when nobody waits on it any more.
    pub(crate) async fn hang_up(&self, bad: &Arc<Live>) {
        let mut slot = self.slot.lock().await;
        if slot.live.as_ref().is_some_and(|it| Arc::ptr_eq(it, bad)) {
            slot.live = None;
        }
    }

    /// Runs something that may be run again, and does so for a while where it is worth it: if it reads, or knows what it
    /// has done before.
    pub(crate) async fn ask<T, F: Future<Output = Result<T, Trouble>>>(
        &self,
        work: Work,
        ask: impl Fn(Arc<Live>) -> F,
    ) -> Result<T, Trouble> {
        self.insist(self.limit(work), READ_PATIENCE.min(self.target.patience), ask).await
    }

    /// The same for a write: it waits for as long as a server may take to come back.
    pub(crate) async fn write<T, F: Future<Output = Result<T, Trouble>>>(
        &self,
        work: Work,
        write: impl Fn(Arc<Live>) -> F,
    ) -> Result<T, Trouble> {
        self.insist(self.limit(work), self.target.patience, write).await
    }

    fn limit(&self, work: Work) -> Duration {
        match work {
            Work::Statement => self.target.patience,
            Work::Whole => 6 * self.target.patience,
        }
    }

    async fn insist<T, F: Future<Output = Result<T, Trouble>>>(
        &self,
        each: Duration,
        all: Duration,
        work: impl Fn(Arc<Live>) -> F,
    ) -> Result<T, Trouble> {
        let until = Instant::now() + all;
        let mut n_tries = 0;
        loop {
            let trouble = match self.once(each, &work).await {
                Ok(done) => return Ok(done),
                Err(trouble) => trouble,
            };
            let worth_it = matches!(trouble.kind, Kind::Lost | Kind::Again | Kind::Away);
            if !worth_it || Instant::now() >= until {
                return Err(trouble);
            }
            n_tries += 1;
            wait_a_little(n_tries).await;
        }
    }

    async fn once<T, F: Future<Output = Result<T, Trouble>>>(
        &self,
        patience: Duration,
        work: &impl Fn(Arc<Live>) -> F,
    ) -> Result<T, Trouble> {
        let live = self.get().await?;
        let worked = tokio::time::timeout(patience, work(Arc::clone(&live))).await;
        let late = |_| Trouble::new(Kind::Lost, "it took too long to answer".to_owned());
        let worked = worked.map_err(late).flatten();
        if worked.as_ref().is_err_and(|it| it.kind != Kind::Refused && it.kind != Kind::Missing) {
            self.hang_up(&live).await;
        }
        worked
    }
}

/// A little longer each time, and never as long as somebody else who waits for the same.
pub(crate) async fn wait_a_little(n_tries: u32) {
    let longest = 500.min(5 << n_tries.min(10));
    let [byte] = random::<1>();
    let ms = longest / 2 + longest * u64::from(byte) / 512;
    tokio::time::sleep(Duration::from_millis(ms)).await;
}

impl fmt::Debug for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let open = self.slot.lock().now_or_never().is_some_and(|it| it.live.is_some());
        write!(f, "Line({}, {})", self.target, if open { "open" } else { "closed" })
    }
}
