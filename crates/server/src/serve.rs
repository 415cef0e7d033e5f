//! Listens, accepts, and closes without dropping what is under way.

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream, lookup_host};
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::app::App;
use crate::config::Settings;
use crate::error::{ApiError, Result, codes};
use crate::wiring::{self, Source, Wired};
use crate::{chores, http, meters};

/// What can be said once the first request would be answered.
#[derive(Clone, Debug)]
pub struct Ready {
    pub url: String,
    /// The admin key, if it was made just now. It is never shown again.
    pub new_key: Option<String>,
    pub sources: Vec<Source>,
    /// Without its password.
    pub store: String,
    /// This node's name, if it is one of many.
    pub node: Option<String>,
}

/// Serves until the process is told to stop (SIGTERM or Ctrl-C), then closes in good order.
pub async fn serve(settings: Settings, ready: impl FnOnce(Ready)) -> Result<()> {
    serve_until(settings, &|name| std::env::var(name).ok(), ready, told_to_stop()).await
}

/// As [`serve`], with this environment, until `stop`.
pub async fn serve_until(
    settings: Settings,
    env: wiring::Env<'_>,
    ready: impl FnOnce(Ready),
    stop: impl Future<Output = ()>,
) -> Result<()> {
    let listener = listen(&settings.listen.value).await?;
    let address = listener.local_addr().map_err(|err| {
        ApiError::new(&codes::INTERNAL, format!("the listening socket has no address: {err}"))
    })?;
    meters::handle();
    let store = settings.store_shown();
    // A database may be long in coming, and nobody has to wait for it. Files are opened at once or not at all.
    let waits = settings.is_shared();
    let mut stop = std::pin::pin!(stop);
    let wired = tokio::select! {
        wired = wiring::wire(settings, env, address) => wired?,
        () = &mut stop, if waits => return Ok(()),
    };
    let Wired { app, new_key, sources } = wired;
    let mut is_started = app.started.subscribe();
    let stop = async move {
        if !waits {
            is_started.wait_for(|it| *it).await.ok();
        }
        stop.await;
    };
    let mut accepting = std::pin::pin!(accept(listener, app.clone(), stop));
    // Other nodes ask who we are while the sessions are set going; everybody else waits.
    let started = tokio::select! {
        started = wiring::start(&app) => started.map(|()| true),
        () = &mut accepting => Ok(false),
    };
    if started? {
        let node = app.node().map(|it| it.name);
        let url = format!("http://{}", reachable(address));
        ready(Ready { url, new_key, sources, store, node });
        let chores = tokio::spawn(chores::run(app.clone()));
        accepting.await;
        chores.abort();
    }
    if let Some(telemetry) = &app.telemetry {
        telemetry.close().await;
    }
    if let Err(err) = app.upkeep.close().await {
        tracing::warn!(%err, "the store did not close in good order; nothing that was acknowledged is lost");
    }
    Ok(())
}

/// "Any address" is no place to go to.
fn reachable(address: SocketAddr) -> SocketAddr {
    let mut address = address;
    if address.ip().is_unspecified() {
        let loopback = match address {
            SocketAddr::V4(_) => "127.0.0.1",
            SocketAddr::V6(_) => "::1",
        };
        address.set_ip(loopback.parse().expect("an address"));
    }
    address
}

async fn listen(text: &str) -> Result<TcpListener> {
    let bad = |why: String| {
        ApiError::new(&codes::CONFIG_INVALID, format!("cannot listen at `{text}`: {why}"))
            .attempt("everstate serve --listen 127.0.0.1:7070")
    };
    let address = lookup_host(text)
        .await
        .map_err(|err| bad(err.to_string()))?
        .next()
        .ok_or_else(|| bad("the name has no address".to_owned()))?;
    TcpListener::bind(address).await.map_err(|err| match err.kind() {
        ErrorKind::AddrInUse => ApiError::new(&codes::PORT_IN_USE, format!("{address} is taken"))
            .why(
                holder(address.port())
                    .unwrap_or_else(|| "another process listens there".to_owned()),
            )
            .attempt(format!("use that one, or choose another: --listen {}:PORT", address.ip())),
        _ => bad(err.to_string()),
    })
}

/// Who listens on this port, where the system tells.
fn holder(port: u16) -> Option<String> {
    let inode = ["/proc/net/tcp", "/proc/net/tcp6"].iter().find_map(|path| {
        let table = std::fs::read_to_string(path).ok()?;
        table.lines().skip(1).find_map(|line| {
            let fields: Vec<&str> = line.split_whitespace().collect();
            let (_, hex) = fields.get(1)?.rsplit_once(':')?;
            let listens = *fields.get(3)? == "0A" && u16::from_str_radix(hex, 16) == Ok(port);
            listens.then(|| format!("socket:[{}]", fields[9]))
        })
    })?;
    let processes = std::fs::read_dir("/proc").ok()?;
    processes.flatten().find_map(|process| {
        let pid: u32 = process.file_name().to_str()?.parse().ok()?;
        let files = std::fs::read_dir(process.path().join("fd")).ok()?;
        let holds = files
            .flatten()
            .any(|it| std::fs::read_link(it.path()).is_ok_and(|to| to.to_string_lossy() == inode));
        let name = std::fs::read_to_string(process.path().join("comm")).unwrap_or_default();
        holds.then(|| format!("process {pid} ({}) listens there", name.trim()))
    })
}

const HEADERS_MAX: Duration = Duration::from_secs(30);
/// How long connections may take to send what is left, when all work is done.
const LAST_WORDS: Duration = Duration::from_secs(2);

async fn accept(listener: TcpListener, app: Arc<App>, stop: impl Future<Output = ()>) {
    let service = TowerToHyperService::new(http::router(app.clone()));
    let (close, closing) = watch::channel(false);
    let mut connections = JoinSet::new();
    // While this one closes it still answers: other nodes, and those who come for what is there.
    let draining = app.clone();
    let mut over = std::pin::pin!(async move {
        stop.await;
        draining.closing.store(true, Ordering::Relaxed);
        tracing::info!("closing: waiting for what is under way");
        tokio::join!(draining.durable.host.drain(), draining.memory.host.drain());
    });
    loop {
        let accepted = tokio::select! {
            () = &mut over => break,
            accepted = listener.accept() => accepted,
        };
        while connections.try_join_next().is_some() {}
        match accepted {
            Ok((stream, _)) => {
                connections.spawn(connection(stream, service.clone(), closing.clone()));
            }
            // Out of file handles and the like: it passes, and accepting at once again would spin.
            Err(err) => {
                tracing::warn!(%err, "cannot accept a connection");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
    drop(listener);
    close.send_replace(true);
    let all = async { while connections.join_next().await.is_some() {} };
    if tokio::time::timeout(LAST_WORDS, all).await.is_err() {
        tracing::info!("some connections were cut");
    }
}

type Service = TowerToHyperService<axum::Router>;

async fn connection(stream: TcpStream, service: Service, mut closing: watch::Receiver<bool>) {
    // Small events must not wait for more.
    stream.set_nodelay(true).ok();
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(HEADERS_MAX);
    builder
        .http2()
        .timer(TokioTimer::new())
        .keep_alive_interval(Duration::from_secs(30))
        .keep_alive_timeout(Duration::from_secs(20));
    let serving = builder.serve_connection(TokioIo::new(stream), service);
    let mut serving = std::pin::pin!(serving);
    let ended = tokio::select! {
        ended = serving.as_mut() => ended,
        () = async { closing.wait_for(|it| *it).await.map(drop).unwrap_or_default() } => {
            serving.as_mut().graceful_shutdown();
            serving.await
        }
    };
    if let Err(err) = ended {
        tracing::debug!(%err, "a connection ended badly");
    }
}

async fn told_to_stop() {
    let interrupt = tokio::signal::ctrl_c();
    let Ok(mut terminate) =
        tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())
    else {
        interrupt.await.ok();
        return;
    };
    tokio::select! {
        _ = interrupt => {}
        _ = terminate.recv() => {}
    }
}
