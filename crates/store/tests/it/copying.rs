//! A whole store carried to another: everything arrives, whatever interrupts it, and both sides are held against each
//! other.

use std::any::Any;
use std::path::Path;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;

use bytes::Bytes;
use everstate_kernel::ids::SessionId;
use everstate_runtime::buckets::Buckets;
use everstate_runtime::ports::{PostOutcome, Put};
use everstate_store::archive::KeptRow;
use everstate_store::copy::{CopyError, Counts, End, Outcome, copy};
use everstate_store::keys::source::KeySource;
use everstate_store::open::{OpenError, Settings, Store, open};
use everstate_test_postgres::cluster;

use crate::carrying::{first, walked};
use crate::stores::{Owner, listing, projection, show, verified};

/// Where a store is, and what has to run as long as it is used.
struct Site {
    end: End,
    _servers: Box<dyn Any>,
}

/// `None` if it is to be skipped.
type Make = fn(&Path) -> Option<Site>;

fn files(folder: &Path) -> Option<Site> {
    let url = format!("sqlite:{}", folder.join("state.db").display());
    Some(Site { end: End { url, settings: settings(folder) }, _servers: Box::new(()) })
}

fn database(folder: &Path) -> Option<Site> {
    std::fs::create_dir_all(folder).unwrap();
    let cluster = cluster()?;
    let url = cluster.fresh_database();
    Some(Site { end: End { url, settings: settings(folder) }, _servers: Box::new(cluster) })
}

/// Each with a master key of its own.
fn settings(folder: &Path) -> Settings {
    let keys = Some(KeySource::File(folder.join("master.key")));
    Settings { keys, now: Arc::new(|| 1_000), ..Settings::default() }
}

const WAYS: &[(&str, Make, Make)] = &[
    ("files to files", files, files),
    ("files to database", files, database),
    ("database to files", database, files),
];

/// Runs a check on each way.
fn on_each(check: impl AsyncFn(&End, &End)) {
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    let runtime = runtime.worker_threads(2).enable_all().build().unwrap();
    for (name, from, to) in WAYS {
        let folder = tempfile::tempdir().unwrap();
        let sides = (from(&folder.path().join("from")), to(&folder.path().join("to")));
        let (Some(from), Some(to)) = sides else { continue };
        eprintln_name(name);
        runtime.block_on(check(&from.end, &to.end));
    }
}

/// Shown only if the check fails.
#[allow(clippy::print_stderr)]
fn eprintln_name(name: &str) {
    eprintln!("way: {name}");
}

async fn at(end: &End) -> Store {
    open(&end.url, end.settings.clone()).await.unwrap()
}

async fn carry(from: &End, to: &End) -> Result<Outcome, CopyError> {
    copy(from, to, false, &mut |_: &Counts| ()).await
}

const SESSIONS: u128 = 9;

/// A store with some of everything.
async fn fill(store: &Store) {
    let log = &*store.log;
    for n in 1..=SESSIONS {
        let mut ours = Owner::new(n << 64 | n);
        for k in 0..12 {
            ours.events(log, &format!("session {n} row {k} secret")).await;
            ours.frame(log, "frame").await;
        }
        let row = ours.row(everstate_runtime::ports::RowKind::Events, &[b'x'; 100_000]);
        let row = everstate_runtime::ports::NewRow { key: Some(format!("key {n}")), ..row };
        ours.try_append(log, row).await.unwrap();
        let shown = everstate_runtime::ports::Projection {
            listing: listing("p", n as u64, "{}"),
            ..projection((n % 3 == 0).then_some(77), n % 2 == 0)
        };
        ours.project(log, shown).await;
        log.post(ours.session, "first", Bytes::from("waits")).await.unwrap();
        log.post(ours.session, "second", Bytes::from("waits too")).await.unwrap();
        log.post(ours.session, "done", Bytes::from("was said")).await.unwrap();
        log.settle(ours.session, "done", PostOutcome::Refused("no".into())).await.unwrap();
        if n % 3 == 0 {
            log.roll_up(ours.session, 15).await.unwrap();
        }
        if n % 4 == 0 {
            let redact = |_, _, body: &[u8]| {
                let text = String::from_utf8_lossy(body);
                text.contains("row 3 secret").then(|| b"gone".to_vec())
            };
            log.erase(ours.session, Box::new(redact)).await.unwrap();
        }
    }
    // One that came from elsewhere, and one that is gone.
    let kept = store.archive.rows(id(1), 0, 100).await.unwrap();
    let walk = walked(id(1), &kept);
    let kept: Vec<KeptRow> = kept.into_iter().map(|it| (id(1), it)).collect();
    let mut carried = Owner::new(500);
    store.archive.keep(carried.session, &kept).await.unwrap();
    carried.events(log, &first(SessionId(500), &walk)).await;
    let mut gone = Owner::new(600);
    gone.events(log, "gone").await;
    log.delete(gone.session).await.unwrap();
    for n in 0..40 {
        put(store, "p", &format!("d{n:02}"), "body").await;
    }
    put(store, "", "of the house", "body").await;
}

fn id(n: u128) -> SessionId {
    SessionId(n << 64 | n)
}

async fn put(store: &Store, project: &str, id: &str, body: &str) {
    let there = store.registry.get(project, "kind", id).await.unwrap();
    let put = Put {
        project: project.to_owned(),
        kind: "kind".to_owned(),
        id: id.to_owned(),
        expect: there.map(|it| it.revision),
        body: Bytes::copy_from_slice(body.as_bytes()),
        now: 5,
        expires_at: None,
    };
    store.registry.put(put).await.unwrap();
}

/// All that can be read of a store through its doors.
async fn told(store: &Store) -> String {
    let log = &*store.log;
    let mut told = String::new();
    let mut say = |line: String| told.push_str(&(line + "\n"));
    for session in (1..=SESSIONS).map(id).chain([SessionId(500), SessionId(600)]) {
        say(format!("{session} {:?}", log.head(session).await));
        say(show(&log.read(session, 0, 10_000).await.unwrap()));
        say(verified(log, session).await);
        for posted in log.inbox(session).await.unwrap() {
            say(format!("{} {:?}", posted.key, posted.body));
        }
        say(format!("{:?}", log.outcome(session, "done").await));
        say(format!("{:?}", log.seen(session, &format!("key {}", session.0 as u64)).await));
        say(format!("{:?}", store.archive.verify(session).await));
    }
    say(format!("{:?}", log.list("p", None, 100).await));
    let all = Buckets::all();
    say(format!("{:?} {:?}", log.due(&all, 100, 100).await, log.ready(&all, None, 100).await));
    say(format!("{:?}", store.registry.documents("p", "kind", None, 100).await));
    say(format!("{:?}", store.registry.documents("", "kind", None, 100).await));
    told
}

fn done(outcome: Result<Outcome, CopyError>) -> (Counts, u64) {
    match outcome {
        Ok(Outcome::Done { counts, verified, .. }) => (counts, verified),
        other => panic!("not done: {other:?}"),
    }
}

async fn filled(from: &End) -> String {
    let store = at(from).await;
    fill(&store).await;
    let told = told(&store).await;
    store.upkeep.close().await.unwrap();
    told
}

#[test]
fn everything_arrives_and_is_used_on() {
    on_each(async |from, to| {
        let before = filled(from).await;
        let (counts, verified_rows) = done(carry(from, to).await);
        assert_eq!((counts.sessions, counts.documents), (10, 41));
        assert!(counts.blobs > 9 && counts.keys > 9 && verified_rows > 100, "{counts:?}");

        let store = at(to).await;
        assert_eq!(told(&store).await, before);
        // Its keys are its own: it goes on, erases and deletes.
        let log = &*store.log;
        let head = log.head(id(1)).await.unwrap().unwrap();
        let mut ours = Owner { session: id(1), head };
        ours.events(log, "goes on").await;
        log.erase(id(2), Box::new(|_, _, _| Some(Vec::new()))).await.unwrap();
        log.delete(id(3)).await.unwrap();
        store.upkeep.flush_erasures().await.unwrap();
        assert!(verified(log, id(1)).await.ends_with("head 27"), "{}", verified(log, id(1)).await);
        drop(store);
        // The source is as it was, and the target is nobody's copy any more.
        let again = carry(from, to).await;
        assert!(
            matches!(&again, Err(CopyError::Refused(why)) if why.contains("finished")),
            "{again:?}"
        );
        let store = at(from).await;
        assert_eq!(told(&store).await, before);
    });
}

#[test]
fn a_copy_that_is_killed_anywhere_is_gone_on_with() {
    on_each(async |from, to| {
        let before = filled(from).await;
        let (mut polls, mut killed) = (1, 0);
        let outcome = loop {
            let ended = within(polls, carry(from, to)).await;
            match ended {
                Some(outcome) => break outcome,
                None => killed += 1,
            }
            if killed == 3 {
                let refused = open(&to.url, to.settings.clone()).await;
                let unfinished = |it: &OpenError| it.to_string().contains("not finished");
                // Its schema may not be there yet.
                assert!(refused.as_ref().err().is_none_or(unfinished), "{:?}", refused.err());
            }
            polls += polls / 2 + 3;
        };
        assert!(killed > 5, "{killed}");
        done(outcome);
        assert_eq!(told(&at(to).await).await, before);
    });
}

/// What it came to, if it came to its end within so many looks at it. Else it is dropped, as a crash would.
async fn within<T>(mut polls: u32, work: impl Future<Output = T>) -> Option<T> {
    let mut work = pin!(work);
    std::future::poll_fn(|cx| {
        if polls == 0 {
            return Poll::Ready(None);
        }
        polls -= 1;
        work.as_mut().poll(cx).map(Some)
    })
    .await
}

#[test]
fn the_source_is_used_meanwhile_and_what_changed_follows() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let (from, to) = (files(&folder.path().join("a")), files(&folder.path().join("b")));
    let (from, to) = (from.unwrap().end, to.unwrap().end);
    runtime.block_on(async {
        let store = at(&from).await;
        fill(&store).await;
        let outcome = carry(&from, &to).await.unwrap();
        let Outcome::CaughtUp { counts, busy } = outcome else { panic!("{outcome:?}") };
        assert_eq!((counts.rounds, counts.sessions, counts.changed), (1, 10, 10));
        assert!(busy.contains("in use by process"), "{busy}");
        let early = open(&to.url, to.settings.clone()).await.unwrap_err();
        assert!(early.to_string().contains("not finished"), "{early}");

        // Everything that can happen to a session happens.
        let log = &*store.log;
        let head = log.head(id(1)).await.unwrap().unwrap();
        let mut ours = Owner { session: id(1), head };
        ours.events(log, "later").await;
        log.erase(id(2), Box::new(|_, _, _| Some(b"erased".to_vec()))).await.unwrap();
        log.delete(id(3)).await.unwrap();
        log.roll_up(id(5), 10).await.unwrap();
        log.settle(id(6), "first", PostOutcome::Landed(2)).await.unwrap();
        put(&store, "p", "d05", "another").await;
        store.registry.remove("p", "kind", "d06").await.unwrap();
        store.upkeep.flush_erasures().await.unwrap();
        let before = told(&store).await;
        store.upkeep.close().await.unwrap();
        drop(store);

        let (counts, _) = done(carry(&from, &to).await);
        assert_eq!((counts.sessions, counts.documents), (9, 40));
        // Keys were counted too: one that was destroyed there is destroyed here.
        assert_eq!(told(&at(&to).await).await, before);
    });
}

#[test]
fn a_target_that_holds_anything_else_is_refused() {
    on_each(async |from, to| {
        filled(from).await;
        let store = at(to).await;
        put(&store, "p", "mine", "body").await;
        store.upkeep.close().await.unwrap();
        drop(store);
        let refused = carry(from, to).await;
        assert!(
            matches!(&refused, Err(CopyError::Refused(why)) if why.contains("not empty")),
            "{refused:?}"
        );
        let store = at(to).await;
        assert!(store.registry.get("p", "kind", "mine").await.unwrap().is_some());
    });
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let to = files(&folder.path().join("to")).unwrap().end;
    for url in ["memory:", "nonsense", "sqlite:nowhere/state.db"] {
        let from = End { url: url.to_owned(), settings: settings(folder.path()) };
        let refused = runtime.block_on(carry(&from, &to));
        assert!(matches!(refused, Err(CopyError::Open(_))), "{url}: {refused:?}");
    }
}
