//! Whoever changes the log behind our back is found out.

use everstate_store::open::{Settings, Store, open};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use rusqlite::Connection;
use rusqlite::types::Value;

use crate::stores::{Owner, verified};

/// What somebody with the file, but without the keys, may do.
#[derive(Clone, Debug)]
enum Tamper {
    /// Flips a bit of a column of a row.
    Flip {
        row: usize,
        column: usize,
        bit: usize,
    },
    Remove {
        row: usize,
    },
    /// Puts a column of one row into another and the other way round.
    Swap {
        a: usize,
        b: usize,
        column: usize,
    },
}

const COLUMNS: [&str; 8] = ["kind", "version", "at", "prev", "mac", "data_key", "body", "seq"];
const ROWS: usize = 9;

fn tampers() -> impl Strategy<Value = Tamper> {
    let (row, column) = (0..ROWS, 0..COLUMNS.len());
    prop_oneof![
        (row.clone(), column.clone(), any::<usize>()).prop_map(|(row, column, bit)| Tamper::Flip {
            row,
            column,
            bit
        }),
        // What is cut off at the end is known to whoever kept the head.
        (0..ROWS - 1).prop_map(|row| Tamper::Remove { row }),
        (row.clone(), row, column).prop_map(|(a, b, column)| Tamper::Swap { a, b, column }),
    ]
}

#[test]
fn every_change_to_a_row_is_noticed() {
    let folder = tempfile::tempdir().unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let mut ours = Owner::new(7);
    let store: Store = runtime.block_on(async {
        let url = format!("sqlite:{}", folder.path().join("state.db").display());
        let store = open(&url, Settings::default()).await.unwrap();
        for n in 0..ROWS {
            match n % 3 {
                1 => ours.frame(&*store.log, &format!("frame {n}")).await,
                _ => ours.events(&*store.log, &format!("event {n}: {}", "x".repeat(200))).await,
            };
        }
        // One row says that something in it was erased.
        let erase = |_, seq, _: &[u8]| (seq == 3).then(|| b"erased".to_vec());
        store.log.erase(ours.session, Box::new(erase)).await.unwrap();
        store
    });
    let whole = "rows 9, erased 1, head 9";
    let db = Connection::open(folder.path().join("state.db")).unwrap();
    let config = Config { cases: 200, failure_persistence: None, ..Config::default() };
    let tried = TestRunner::new(config).run(&tampers(), |tamper| {
        let before = table(&db);
        let changed = apply(&db, &tamper);
        let said = runtime.block_on(verified(&*store.log, ours.session));
        assert!(put_back(&db, &before));
        prop_assert_eq!(said.starts_with("broken"), changed, "{:?}: {}", tamper, said);
        if !changed {
            prop_assert_eq!(said, whole);
        }
        Ok(())
    });
    tried.unwrap();
    assert_eq!(runtime.block_on(verified(&*store.log, ours.session)), whole);
}

#[test]
fn every_change_to_packed_history_is_noticed() {
    let folder = tempfile::tempdir().unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let url = format!("sqlite:{}", folder.path().join("state.db").display());
        let store = open(&url, Settings::default()).await.unwrap();
        let log = &*store.log;
        let mut ours = Owner::new(7);
        for through in [3, 6] {
            for n in 0..3 {
                ours.events(log, &format!("event {n}")).await;
            }
            log.roll_up(ours.session, through).await.unwrap();
        }
        ours.events(log, "the last").await;
        assert_eq!(verified(log, ours.session).await, "rows 7, erased 0, head 7");
        let db = Connection::open(folder.path().join("state.db")).unwrap();
        for (undo, tamper) in [
            ("UPDATE segment SET from_seq = from_seq - 1 WHERE from_seq = 2", "UPDATE segment SET from_seq = 2 WHERE from_seq = 1"),
            ("UPDATE segment SET to_seq = 3 WHERE from_seq = 1", "UPDATE segment SET to_seq = 2 WHERE from_seq = 1"),
            ("UPDATE segment SET session = (SELECT session FROM event)", "UPDATE segment SET session = x'00' WHERE from_seq = 1"),
            ("UPDATE segment SET session = (SELECT session FROM event)", "UPDATE segment SET session = x'00' WHERE from_seq = 4"),
            ("UPDATE segment SET hash = unhex(substr(hex(hash), 3) || substr(hex(hash), 1, 2))", "UPDATE segment SET hash = unhex(substr(hex(hash), 63) || substr(hex(hash), 1, 62))"),
            ("UPDATE segment SET body = unhex(substr(hex(body), 3) || substr(hex(body), 1, 2))", "UPDATE segment SET body = unhex(substr(hex(body), -2) || substr(hex(body), 1, length(hex(body)) - 2))"),
        ] {
            db.execute_batch(tamper).unwrap();
            let said = verified(log, ours.session).await;
            assert!(said.starts_with("broken"), "{tamper}: {said}");
            db.execute_batch(undo).unwrap();
            assert_eq!(verified(log, ours.session).await, "rows 7, erased 0, head 7", "{undo}");
        }
    });
}

fn table(db: &Connection) -> Vec<Vec<Value>> {
    let sql = format!("SELECT pos, {} FROM event ORDER BY pos", COLUMNS.join(", "));
    let mut rows = db.prepare(&sql).unwrap();
    let row = |row: &rusqlite::Row<'_>| (0..=COLUMNS.len()).map(|n| row.get(n)).collect();
    rows.query_map([], row).unwrap().map(Result::unwrap).collect()
}

/// `false`, and all as it was, if the table does not take them.
fn put_back(db: &Connection, rows: &[Vec<Value>]) -> bool {
    let tx = db.unchecked_transaction().unwrap();
    let (bucket, session) = place();
    tx.execute("DELETE FROM event", []).unwrap();
    let sql = format!(
        "INSERT INTO event (pos, {}, bucket, session) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)",
        COLUMNS.join(", ")
    );
    for row in rows {
        let place = [Value::Integer(bucket), Value::Blob(session.clone())];
        let values = rusqlite::params_from_iter(row.iter().cloned().chain(place));
        if tx.execute(&sql, values).is_err() {
            return false;
        }
    }
    tx.commit().unwrap();
    true
}

fn place() -> (i64, Vec<u8>) {
    let session = Owner::new(7).session;
    (i64::from(session.bucket()), session.0.to_be_bytes().to_vec())
}

/// Has anything changed by it?
fn apply(db: &Connection, tamper: &Tamper) -> bool {
    let before = table(db);
    let mut rows = before.clone();
    match *tamper {
        Tamper::Flip { row, column, bit } => flip(&mut rows[row][column + 1], bit),
        Tamper::Remove { row } => drop(rows.remove(row)),
        Tamper::Swap { a, b, column } => {
            let (one, other) = (rows[a][column + 1].clone(), rows[b][column + 1].clone());
            (rows[a][column + 1], rows[b][column + 1]) = (other, one);
        }
    }
    put_back(db, &rows) && rows != before
}

fn flip(value: &mut Value, bit: usize) {
    match value {
        // Only bits that a position or a time has: its sign would take it out of every query.
        Value::Integer(it) => *it ^= 1 << (bit % 40),
        Value::Blob(it) => {
            let at = bit % (it.len() * 8);
            it[at / 8] ^= 1 << (at % 8);
        }
        other => panic!("{other:?}"),
    }
}
