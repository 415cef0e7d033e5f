use everstate_kernel::ids::SessionId;
use everstate_runtime::ports::{Head, RowKind};

use super::*;
use crate::open::Flush;
use crate::row::{Header, SealedRow};
use crate::shelf::Append;
use crate::sqlite::{connect, migrate};

const OURS: SessionId = SessionId(7);

fn append(session: SessionId, head: Head, mac: u8) -> Change {
    let header = Header {
        seq: head.seq + 1,
        kind: RowKind::Events,
        version: 1,
        at: 1,
        prev: head.hash,
        mac: [mac; 32],
    };
    let row = SealedRow { header, data_key: 1, body: vec![7; 10_000] };
    let (key, consumed, projection, blobs) = (None, Vec::new(), None, Vec::new());
    Change::Append(Box::new(Append { session, row, key, consumed, projection, blobs }))
}

/// A file that may not grow beyond so many pages.
fn database(folder: &std::path::Path, pages: u32) -> Connection {
    let path = folder.join("state.db");
    let mut db = connect(&path, Flush::Always).expect("ours");
    migrate::migrate(&mut db, &path, &migrate::STATE).expect("it is new");
    db.pragma_update_and_check(None, "max_page_count", pages, |_| Ok(())).expect("known");
    db
}

#[tokio::test]
async fn a_full_disk_takes_nothing_and_is_survived() {
    let folder = tempfile::tempdir().expect("a folder");
    let db = database(folder.path(), 60);
    let (checkpoint, _thread) =
        Checkpoint::start(connect(&folder.path().join("state.db"), Flush::Always).expect("ours"));
    let writer = Writer::start(db, checkpoint);
    let mut head = Head::default();
    let full = loop {
        match writer.write(append(OURS, head, 1), None).await {
            Ok(Wrote::Landed(next)) => head = next,
            other => break other,
        }
    };
    let why = full.expect_err("the file may not grow").0;
    assert!(why.contains("full") && head.seq > 3, "{why} at {head:?}");
    // What is there stays there, and room that is made is used.
    let fenced = writer.write(append(OURS, Head::default(), 1), None).await;
    assert_eq!(fenced, Ok(Wrote::Fenced));
    assert_eq!(writer.write(Change::Delete { session: OURS }, None).await, Ok(Wrote::Done));
    let landed = writer.write(append(SessionId(8), Head::default(), 1), None).await;
    assert!(matches!(landed, Ok(Wrote::Landed(_))), "{landed:?}");
}

#[test]
fn an_append_of_unknown_outcome_knows_its_own_row() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut db = database(folder.path(), 1_000);
    let ours = append(OURS, Head::default(), 1);
    let mark = Mark::of(&ours).expect("an append has one");
    assert_eq!(mark.read_back(&db), None);
    let wrote = write(&mut db, &mut Apply::default(), vec![ours], &mut Pace::default());
    let (wrote, _) = wrote.unwrap_or_else(|it| panic!("{}", it.err));
    assert_eq!(mark.read_back(&db).as_ref(), wrote.first());
    let theirs = Mark::of(&append(OURS, Head::default(), 2)).expect("an append has one");
    assert_eq!(theirs.read_back(&db), None);
}
