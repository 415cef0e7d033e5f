//! Several nodes on one PostgreSQL, each of which believes to be alone: who writes where another one has written, packed,
//! erased or deleted, does no harm, and what he is told is true.

use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use everstate_kernel::ids::SessionId;
use everstate_runtime::ports::{AppendError, NewRow, Put, Redact, RowKind};
use everstate_store::open::{Store, open};
use everstate_test_history::recorder::History;
use everstate_test_history::storm::Storm;
use everstate_test_postgres::cluster;

use crate::stores::{Owner, settings, shown, verified};

/// Runs a check with two nodes on one fresh database.
fn on_two(check: impl AsyncFn(&Store, &Store)) {
    let Some(cluster) = cluster() else { return };
    let folder = tempfile::tempdir().unwrap();
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    let runtime = runtime.worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        let url = cluster.fresh_database();
        let one = node(&url, folder.path()).await;
        let other = node(&url, folder.path()).await;
        check(&one, &other).await;
    });
}

async fn node(url: &str, folder: &Path) -> Store {
    open(url, settings(folder)).await.unwrap()
}

fn without(word: &'static str) -> Redact {
    Box::new(move |_, _, body| {
        let text = String::from_utf8_lossy(body);
        text.contains(word).then(|| text.replace(word, "___").into_bytes())
    })
}

#[test]
fn two_nodes_tell_the_story_of_one_log() {
    on_two(async |one, other| {
        for seed in 1..=3 {
            let history = History::new();
            let logs = [history.around(one.log.clone()), history.around(other.log.clone())];
            let storm = Storm { operations: 200, ..Storm::new(seed) };
            storm.rage(&logs).await;
            storm.look(&*logs[0]).await.unwrap();
            let checked = history.check().unwrap_or_else(|it| panic!("{it}"));
            assert!(checked.landed > 100 && checked.fenced > 10, "{checked:?}");
            assert_eq!(checked.unknown, 0, "{checked:?}");
        }
    });
}

#[test]
fn nodes_that_start_at_once_agree() {
    let Some(cluster) = cluster() else { return };
    let folder = tempfile::tempdir().unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        // The key is there before them, as it is for nodes on several machines.
        let url = cluster.fresh_database();
        std::fs::write(folder.path().join("master.key"), "ab".repeat(32)).unwrap();
        let private = std::os::unix::fs::PermissionsExt::from_mode(0o600);
        std::fs::set_permissions(folder.path().join("master.key"), private).unwrap();
        let starting = (0..6).map(|_| {
            let (url, settings) = (url.clone(), settings(folder.path()));
            tokio::spawn(async move { open(&url, settings).await.unwrap() })
        });
        let mut nodes: Vec<Store> = Vec::new();
        for it in starting.collect::<Vec<_>>() {
            nodes.push(it.await.unwrap());
        }
        // One writes, all read: they have the same keys.
        let mut ours = Owner::new(7);
        for node in &nodes {
            ours.events(&*node.log, "hello").await;
        }
        let first = shown(&*nodes[0].log, ours.session).await;
        for node in &nodes {
            assert_eq!(shown(&*node.log, ours.session).await, first);
            assert_eq!(node.secret("node"), nodes[0].secret("node"));
            assert_ne!(node.secret("node"), node.secret("other"));
        }
        let memory = open("memory:", settings(folder.path())).await.unwrap();
        assert_ne!(memory.secret("node"), nodes[0].secret("node"));
    });
}

#[test]
fn who_slept_while_history_was_packed_is_fenced() {
    on_two(async |one, other| {
        let mut ours = Owner::new(7);
        for n in 0..3 {
            ours.events(&*one.log, &format!("event {n}")).await;
        }
        // It falls asleep here, and knows the end of the log.
        let mut asleep = ours.clone();
        ours.head = other.log.head(ours.session).await.unwrap().unwrap();
        for n in 3..6 {
            ours.events(&*other.log, &format!("event {n}")).await;
        }
        other.log.roll_up(ours.session, 6).await.unwrap();
        // The position is free, and it is not the end.
        let row = asleep.row(RowKind::Events, b"theirs");
        assert_eq!(asleep.try_append(&*one.log, row).await, Err(AppendError::Fenced));
        ours.events(&*other.log, "on").await;
        assert_eq!(verified(&*one.log, ours.session).await, "rows 7, erased 0, head 7");
    });
}

#[test]
fn who_slept_while_the_session_was_deleted_brings_nothing_back() {
    on_two(async |one, other| {
        let mut ours = Owner::new(7);
        ours.events(&*one.log, "created").await;
        other.log.delete(ours.session).await.unwrap();
        let row = ours.row(RowKind::Events, b"theirs");
        assert_eq!(ours.try_append(&*one.log, row).await, Err(AppendError::Fenced));
        assert_eq!(one.log.head(ours.session).await, Ok(None));
        // What is posted there now begins anew, under a key that lives.
        one.log.post(ours.session, "p", Bytes::from("hello")).await.unwrap();
        other.upkeep.run().await.unwrap();
        one.upkeep.run().await.unwrap();
        assert_eq!(one.log.inbox(ours.session).await.unwrap()[0].body, "hello");
    });
}

#[test]
fn who_slept_while_it_was_erased_seals_under_the_new_key() {
    on_two(async |one, other| {
        let mut ours = Owner::new(7);
        ours.events(&*one.log, "Ada was here").await;
        // Both have the key at hand.
        other.log.post(ours.session, "early", Bytes::from("posted")).await.unwrap();
        one.log.erase(ours.session, without("Ada")).await.unwrap();
        one.upkeep.flush_erasures().await.unwrap();
        ours.events(&*other.log, "and somebody else").await;
        other.log.post(ours.session, "late", Bytes::from("posted too")).await.unwrap();
        other.log.put_snapshot(ours.session, ours.head, Bytes::from("all")).await.unwrap();
        // Nothing is left in memory either, and all can be read.
        for node in [one, other] {
            node.upkeep.run().await.unwrap();
            assert_eq!(
                shown(&*node.log, ours.session).await,
                "1! ___ was here\n2 and somebody else\n"
            );
            let posted = node.log.inbox(ours.session).await.unwrap();
            let posted: Vec<&[u8]> = posted.iter().map(|it| &it.body[..]).collect();
            assert_eq!(posted, [b"posted" as &[u8], b"posted too"]);
        }
    });
}

#[test]
fn posts_and_appends_of_others_beside_erasures_are_kept() {
    on_two(async |one, other| {
        let mut ours = Owner::new(7);
        ours.events(&*one.log, "Ada 0").await;
        let session = ours.session;
        let (appending, posting) = (other.log.clone(), other.log.clone());
        let appends = tokio::spawn(async move {
            for n in 1..60 {
                ours.events(&*appending, &format!("Ada {n}")).await;
            }
        });
        let posts = tokio::spawn(async move {
            for n in 0..60 {
                let body = Bytes::from(format!("post {n}"));
                posting.post(session, &format!("{n:02}"), body).await.unwrap();
            }
        });
        let mut n_erased = 0;
        while !appends.is_finished() || !posts.is_finished() {
            // It may give up when others write all the time; what it must not do is lose what they wrote.
            n_erased += usize::from(one.log.erase(session, without("Ada")).await.is_ok());
            one.upkeep.flush_erasures().await.unwrap();
        }
        appends.await.unwrap();
        posts.await.unwrap();
        assert!(n_erased > 0, "no erasure got through");
        one.log.erase(session, without("Ada")).await.unwrap();
        for node in [one, other] {
            node.upkeep.run().await.unwrap();
            let inbox = node.log.inbox(session).await.unwrap();
            assert_eq!(inbox.len(), 60);
            assert_eq!(verified(&*node.log, session).await, "rows 60, erased 60, head 60");
            assert!(!shown(&*node.log, session).await.contains("Ada"));
        }
    });
}

#[test]
fn of_two_first_keys_one_is_used() {
    on_two(async |one, other| {
        for id in 1..=40 {
            let session = SessionId(id);
            let row = Owner::new(id).row(RowKind::Events, b"first");
            let key = Some("k".to_owned());
            let (appending, posting) = (one.log.clone(), other.log.clone());
            let append = tokio::spawn(async move { appending.append(NewRow { key, ..row }).await });
            let post = tokio::spawn(async move {
                posting.post(session, "p", Bytes::from("posted")).await.unwrap();
            });
            append.await.unwrap().unwrap();
            post.await.unwrap();
            for node in [one, other] {
                assert_eq!(shown(&*node.log, session).await, "1 first\n");
                assert_eq!(node.log.inbox(session).await.unwrap()[0].body, "posted");
                assert_eq!(node.log.seen(session, "k").await, Ok(Some(1)));
            }
        }
        // They all have one key each: a deletion takes that of no other with it.
        for id in 1..=20 {
            one.log.delete(SessionId(id)).await.unwrap();
        }
        other.upkeep.run().await.unwrap();
        one.upkeep.run().await.unwrap();
        for id in 21..=40 {
            assert_eq!(shown(&*one.log, SessionId(id)).await, "1 first\n");
        }
    });
}

#[test]
fn an_input_is_taken_once_by_all_of_them() {
    on_two(async |one, other| {
        for id in 1..=20 {
            let appends = [&one.log, &other.log].map(|log| {
                let log = Arc::clone(log);
                let row = Owner::new(id).row(RowKind::Events, b"input");
                tokio::spawn(async move {
                    log.append(NewRow { key: Some("k".to_owned()), ..row }).await
                })
            });
            let mut n_landed = 0;
            for it in appends {
                match it.await.unwrap() {
                    Ok(_) => n_landed += 1,
                    Err(err) => assert_eq!(err, AppendError::Seen(1)),
                }
            }
            assert_eq!(n_landed, 1);
            // Also when it comes again at the end, to the other one.
            let mut late = Owner::new(id);
            late.head = other.log.head(late.session).await.unwrap().unwrap();
            let row = late.row(RowKind::Events, b"input");
            let again = other.log.append(NewRow { key: Some("k".to_owned()), ..row }).await;
            assert_eq!(again, Err(AppendError::Seen(1)));
        }
    });
}

#[test]
fn two_nodes_share_sealed_documents() {
    on_two(async |one, other| {
        let put = |expect, body: &'static str| Put {
            project: "p".to_owned(),
            kind: "credential".to_owned(),
            id: "a".to_owned(),
            expect,
            body: Bytes::from_static(body.as_bytes()),
            now: 10,
            expires_at: None,
        };
        let read = async |node: &Store| {
            let found = node.sealed.get("p", "credential", "a").await.unwrap();
            found.map(|it| String::from_utf8(it.body.to_vec()).unwrap())
        };
        one.sealed.put(put(None, "first")).await.unwrap();
        assert_eq!(read(other).await.as_deref(), Some("first"));
        other.sealed.put(put(Some(1), "second")).await.unwrap();
        assert_eq!(read(one).await.as_deref(), Some("second"));
        // Whoever reads while others write sees one content or another, and never none.
        let writing = async {
            for n in 2..20 {
                let node = if n % 2 == 0 { one } else { other };
                node.sealed.put(put(Some(n), "again")).await.unwrap();
            }
        };
        let reading = async {
            for _ in 0..60 {
                assert!(read(other).await.is_some());
            }
        };
        tokio::join!(writing, reading);
        one.sealed.remove("p", "credential", "a").await.unwrap();
        assert_eq!(read(other).await, None);
    });
}
