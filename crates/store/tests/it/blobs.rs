//! Big bodies in a bucket: the same promises as in a folder, and what becomes of them when the bucket cannot be
//! reached.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use everstate_runtime::ports::{AppendError, RowKind};
use everstate_store::blobs::place::Place;
use everstate_store::keys::source::KeySource;
use everstate_store::open::{OpenError, Settings, Store, open};

use crate::bucket::{Bucket, Traffic};
use crate::rewriting::{big_segments, long_history, packed_and_blobs};
use crate::stores::{Owner, Place as Opened, shown, verified};

async fn try_open(folder: &Path, place: Place) -> Result<Store, OpenError> {
    let settings = Settings { blobs: Some(place), ..Settings::default() };
    open(&format!("sqlite:{}", folder.join("state.db").display()), settings).await
}

async fn opened(folder: &Path, place: Place) -> Store {
    try_open(folder, place).await.unwrap()
}

fn big(n: usize) -> Vec<u8> {
    // Text that hardly shrinks.
    let mut state = n as u64 + 1;
    let next = move || {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        b'0' + (state >> 58) as u8
    };
    std::iter::repeat_with(next).take(100_000).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bucket_keeps_what_a_folder_keeps() {
    let Some(bucket) = Bucket::start() else { return };
    for n in 0..3 {
        let folder = tempfile::tempdir().unwrap();
        let store = opened(folder.path(), bucket.place(&format!("it/{n}"))).await;
        let place = Opened { store, clock: Arc::default() };
        match n {
            0 => packed_and_blobs(&place).await,
            1 => long_history(&place).await,
            _ => big_segments(&place).await,
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_nothing_names_is_collected_after_the_grace() {
    let Some(bucket) = Bucket::start() else { return };
    let folder = tempfile::tempdir().unwrap();
    let store = opened(folder.path(), bucket.place("")).await;
    // More than the server lists at once.
    for n in 0..25 {
        let row = Owner::new(n).row(RowKind::Events, &big(n as usize));
        store.log.append(row).await.unwrap();
    }
    // A stale owner's blob is written, and its append is not.
    let stale = Owner::new(3).row(RowKind::Events, &big(99));
    assert_eq!(store.log.append(stale).await, Err(AppendError::Fenced));
    for n in 0..12 {
        store.log.delete(Owner::new(n).session).await.unwrap();
    }
    assert_eq!(store.upkeep.collect_blobs(Duration::from_secs(3600)).await, Ok(0));
    assert_eq!(store.upkeep.collect_blobs(Duration::ZERO).await, Ok(13));
    assert_eq!(store.upkeep.collect_blobs(Duration::ZERO).await, Ok(0));
    for n in 12..25 {
        let rows = store.log.read(Owner::new(n).session, 0, 9).await.unwrap();
        assert!(rows[0].body == big(n as usize));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_nodes_share_a_bucket() {
    let Some(bucket) = Bucket::start() else { return };
    let Some(cluster) = everstate_test_postgres::cluster() else { return };
    let (url, folder) = (cluster.fresh_database(), tempfile::tempdir().unwrap());
    let node = async || {
        let keys = Some(KeySource::File(folder.path().join("master.key")));
        let blobs = Some(bucket.place("nodes"));
        open(&url, Settings { keys, blobs, ..Settings::default() }).await.unwrap()
    };
    let (one, other) = (node().await, node().await);
    let mut ours = Owner::new(7);
    for n in 0..3 {
        let row = ours.row(RowKind::Events, &big(n));
        ours.try_append(&*one.log, row).await.unwrap();
    }
    let rows = other.log.read(ours.session, 0, 9).await.unwrap();
    assert!((0..3).all(|n| rows[n].body == big(n)));
    // Whoever collects knows what the other names.
    assert_eq!(other.upkeep.collect_blobs(Duration::ZERO).await, Ok(0));
    other.log.delete(ours.session).await.unwrap();
    assert_eq!(one.upkeep.collect_blobs(Duration::ZERO).await, Ok(3));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_very_big_body_goes_in_parts() {
    let Some(bucket) = Bucket::start() else { return };
    let folder = tempfile::tempdir().unwrap();
    let store = opened(folder.path(), bucket.place("deep/er")).await;
    let body: Vec<u8> = (0..200).flat_map(big).collect();
    let row = Owner::new(7).row(RowKind::Events, &body);
    store.log.append(row).await.unwrap();
    drop(store);
    let store = opened(folder.path(), bucket.place("deep/er")).await;
    let rows = store.log.read(Owner::new(7).session, 0, 9).await.unwrap();
    assert!(rows[0].body == body);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_the_bucket_cannot_be_reached_nothing_is_lost() {
    let Some(bucket) = Bucket::start() else { return };
    let road = bucket.road().await;
    let folder = tempfile::tempdir().unwrap();
    let options = "&timeout_s=1&retries_max=2";
    let store = opened(folder.path(), bucket.by(&road, "a", options)).await;
    let log = &*store.log;
    let mut ours = Owner::new(7);
    let row = ours.row(RowKind::Events, &big(1));
    ours.try_append(log, row).await.unwrap();
    for (traffic, why) in [
        (Traffic::Cut, ""),
        (Traffic::Stalls, "timed out"),
        (Traffic::Busy, "SlowDown: Please reduce your request rate."),
    ] {
        road.traffic.send_replace(traffic);
        let row = ours.row(RowKind::Events, &big(2));
        let Err(AppendError::Down(down)) = log.append(row).await else { panic!("{traffic:?}") };
        assert!(down.0.starts_with("cannot keep a blob of ses_"), "{traffic:?}: {down}");
        assert!(down.0.contains(" in s3://ours/a at http://127.0.0.1:"), "{traffic:?}: {down}");
        assert!(down.0.contains(why), "{traffic:?}: {down}");
        let read = log.read(ours.session, 0, 9).await.unwrap_err();
        assert!(read.0.contains(why), "{traffic:?}: {read}");
        assert!(store.upkeep.collect_blobs(Duration::ZERO).await.is_err(), "{traffic:?}");
        let facts = store.upkeep.facts().await.unwrap();
        assert!(facts.blobs_down.is_some_and(|it| it.contains(why)), "{traffic:?}");
        // What is small does not need the bucket.
        ours.events(log, &format!("meanwhile {traffic:?}")).await;
    }
    road.traffic.send_replace(Traffic::Flows);
    let row = ours.row(RowKind::Events, &big(2));
    ours.try_append(log, row).await.unwrap();
    let expected =
        "1 100000 bytes\n2 meanwhile Cut\n3 meanwhile Stalls\n4 meanwhile Busy\n5 100000 bytes\n";
    assert_eq!(shown(log, ours.session).await, expected);
    assert_eq!(verified(log, ours.session).await, "rows 5, erased 0, head 5");
    assert_eq!(store.upkeep.facts().await.unwrap().blobs_down, None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_short_trouble_is_not_even_seen() {
    let Some(bucket) = Bucket::start() else { return };
    let road = bucket.road().await;
    let folder = tempfile::tempdir().unwrap();
    let store = opened(folder.path(), bucket.by(&road, "a", "&timeout_s=20")).await;
    let mut ours = Owner::new(7);
    for traffic in [Traffic::Cut, Traffic::Busy] {
        road.traffic.send_replace(traffic);
        let row = ours.row(RowKind::Events, &big(1));
        let appended = ours.try_append(&*store.log, row);
        let clears = async {
            // Once somebody was turned away.
            road.turned_away().await;
            road.traffic.send_replace(Traffic::Flows);
        };
        let (appended, ()) = tokio::join!(appended, clears);
        appended.unwrap();
    }
    assert_eq!(verified(&*store.log, ours.session).await, "rows 2, erased 0, head 2");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_place_that_does_not_work_is_named_at_the_start() {
    let Some(bucket) = Bucket::start() else { return };
    let refused = async |place: Place, why: &str| {
        let folder = tempfile::tempdir().unwrap();
        let Err(OpenError::Blobs(told)) = try_open(folder.path(), place).await else {
            panic!("opened: {why}")
        };
        assert!(told.contains(why), "{told}");
        assert!(!told.contains("hush"), "{told}");
    };
    refused(
        bucket.missing(),
        "NoSuchBucket: The specified bucket does not exist; make the bucket first",
    )
    .await;
    refused(bucket.with_secret("hush"), "look at AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY")
        .await;
    let road = bucket.road().await;
    road.traffic.send_replace(Traffic::Cut);
    let place = bucket.by(&road, "a", "&retries_max=0");
    refused(place, "cannot use s3://ours/a at http://127.0.0.1:").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_installations_do_not_share_a_place() {
    let folder = tempfile::tempdir().unwrap();
    let bucket = Bucket::start();
    let mut places = vec![Place::folder(folder.path().join("blobs"))];
    places.extend(bucket.iter().map(|it| it.place("shared")));
    for place in places {
        let (ours, theirs) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        drop(opened(ours.path(), place.clone()).await);
        let err = try_open(theirs.path(), place.clone()).await.unwrap_err();
        assert!(err.to_string().contains("are another installation's"), "{err}");
        drop(opened(ours.path(), place).await);
    }
}

#[tokio::test]
async fn the_folder_beside_a_state_is_its_own() {
    let folder = tempfile::tempdir().unwrap();
    let blobs = || Place::folder(folder.path().join("state.blobs"));
    drop(opened(folder.path(), blobs()).await);
    // Somebody begins anew, and leaves the folder where it is.
    for name in ["state.db", "keys.db"] {
        std::fs::remove_file(folder.path().join(name)).unwrap();
    }
    drop(opened(folder.path(), blobs()).await);
}

#[tokio::test]
async fn memory_wants_no_place_for_blobs() {
    let settings = Settings { blobs: Some(Place::folder("blobs".into())), ..Settings::default() };
    let err = open("memory:", settings).await.unwrap_err();
    assert!(matches!(err, OpenError::BadUrl(_)), "{err}");
}
