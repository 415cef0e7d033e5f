//! How long it takes until everything goes on after the only node was killed with many turns in flight.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use everstate_kernel::ids::SessionId;
use everstate_kernel::input::Input;
use everstate_runtime::host::Host;
use futures_util::{StreamExt, stream};

use crate::figures::{count, ms, table};
use crate::http::ToolServer;
use crate::process::{self, Server};
use crate::world::{self, Hands, Runner, Says, text};
use crate::{Around, steps};

pub(crate) fn run(around: &Around) -> String {
    let n: u64 = if around.quick { 100 } else { 10_000 };
    let folder = around.folder.join("state");
    std::fs::create_dir_all(&folder).unwrap();
    let path = folder.to_str().unwrap().to_owned();
    let words = n.to_string();
    let (child, _) = process::until_it_speaks(&mut process::errand("in-flight", &[&path, &words]));
    process::kill(child);
    let copy = around.folder.join("copy");
    copy_all(&folder, &copy);

    let told = process::output(&mut process::errand("recover", &[&path, &words]));
    let told: Vec<Duration> =
        told.split_whitespace().map(|it| Duration::from_micros(it.parse().unwrap())).collect();
    let [opened, owned, started, done] = told[..] else { panic!("four times") };
    let mut rows: Vec<Vec<String>> = [
        ("the store is open", opened),
        ("all are owned (`Owned` is on disk), their effects started or queued", owned),
        ("every effect has reached the model or the tool", started),
        ("every turn has come to its end", done),
    ]
    .into_iter()
    .map(|(what, when)| vec![what.to_owned(), ms(when)])
    .collect();
    if let Some(everstate) = &around.everstate {
        let (ready, called) = crate::runtime().block_on(serve(everstate, &copy, n / 2));
        rows.push(vec![
            "`everstate serve`, from its start: ready, all are owned".to_owned(),
            ms(ready),
        ]);
        rows.push(vec![
            "`everstate serve`: every tool was called again over HTTP".to_owned(),
            ms(called),
        ]);
    }
    format!(
        "{} turns in flight when the process is killed with `kill -9`: half of them in the middle of a model's answer of \
         which a word was shown, half in the middle of a tool. At most 64 requests to one offer are begun at the same \
         time, the others queue. The model and the tool answer at once.\n\n{}\n",
        count(n as f64),
        table(&["since the store was opened", "ms"], &rows)
    )
}

fn copy_all(from: &Path, to: &PathBuf) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap().map(Result::unwrap) {
        let target = to.join(entry.file_name());
        match entry.file_type().unwrap().is_dir() {
            true => copy_all(&entry.path(), &target),
            false => drop(std::fs::copy(entry.path(), target).unwrap()),
        }
    }
}

async fn serve(everstate: &Path, folder: &Path, n_tools: u64) -> (Duration, Duration) {
    let tools = ToolServer::start(100).await;
    let began = Instant::now();
    let config = steps::config(tools.port);
    let (everstate, folder) = (everstate.to_owned(), folder.to_owned());
    let server = tokio::task::spawn_blocking(move || Server::start(&everstate, &folder, &config));
    while (tools.turns() as u64) < n_tools {
        assert!(began.elapsed() < Duration::from_secs(120), "only {} were called", tools.turns());
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let called = began.elapsed();
    (server.await.unwrap().ready_after, called)
}

/// Even ones are asking a model, odd ones run a tool.
fn is_asking(n: u64) -> bool {
    n.is_multiple_of(2)
}

/// `in-flight FOLDER SESSIONS`: begins that many turns, says so, and waits to be killed.
pub(crate) fn in_flight(arguments: &[String]) {
    let [folder, n] = arguments else { panic!("in-flight FOLDER SESSIONS") };
    let n: u64 = n.parse().unwrap();
    crate::runtime().block_on(async {
        let store = world::store(Path::new(folder)).await;
        let hands = Arc::new(Hands { hang: true, ..Hands::default() });
        let models = [("slow", Says::Stops), ("quick", Says::Call)];
        let host = world::host(&store, &models, hands.clone()).await;
        let one = |at: u64| {
            let host = &host;
            async move {
                let id = world::session(at);
                let model = if is_asking(at) { "slow" } else { "quick" };
                let begin = world::begin(model, text(at, 200), Runner::Server, true);
                world::feed(host, id, vec![world::create(id), Input::Begin(begin)]).await;
            }
        };
        stream::iter(0..n).for_each_concurrent(64, one).await;
        for at in 0..n {
            let id = world::session(at);
            while is_asking(at) && !has_shown(&store, id).await {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        }
        while hands.runs.load(Ordering::Relaxed) < n / 2 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        println!("in flight");
        std::future::pending::<()>().await;
    });
}

/// The first append, and a frame.
async fn has_shown(store: &everstate_store::open::Store, id: SessionId) -> bool {
    store.log.head(id).await.unwrap().is_some_and(|it| it.seq >= 2)
}

/// `recover FOLDER SESSIONS`: prints, in microseconds since it began to open the store, when the store was open, all
/// were owned, all their effects had been started, and all turns had ended.
pub(crate) fn recover(arguments: &[String]) {
    let [folder, n] = arguments else { panic!("recover FOLDER SESSIONS") };
    let n: u64 = n.parse().unwrap();
    crate::runtime().block_on(async {
        let began = Instant::now();
        let store = world::store(Path::new(folder)).await;
        let opened = began.elapsed();
        let (asked, hands) = (Arc::new(AtomicU64::new(0)), Arc::new(Hands::default()));
        let models =
            [("slow", Says::Told(Arc::clone(&asked))), ("quick", Says::Told(Arc::default()))];
        let host = world::unstarted(&store, &models, hands.clone());
        let starting = {
            let host = Arc::clone(&host);
            tokio::spawn(async move {
                host.start().await.unwrap();
                Instant::now()
            })
        };
        let all_started = || {
            asked.load(Ordering::Relaxed) >= n / 2 && hands.runs.load(Ordering::Relaxed) >= n / 2
        };
        while !all_started() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        let started = began.elapsed();
        let owned = starting.await.unwrap() - began;
        world::quiet(&host).await;
        let done = began.elapsed();
        for at in 0..n {
            assert!(has_ended(&host, world::session(at)).await, "session {at} goes on");
        }
        let micros = [opened, owned, started, done].map(|it| it.as_micros().to_string());
        println!("{}", micros.join(" "));
    });
}

async fn has_ended(host: &Host, id: SessionId) -> bool {
    host.look(id).await.unwrap().live.turn.is_none()
}
