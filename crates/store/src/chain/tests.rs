use everstate_kernel::ids::SessionId;
use proptest::prelude::*;

use super::{ChainRow, Walk};
use crate::seal::mac;

fn row(n: u64, prev: [u8; 32], erased: bool) -> ChainRow {
    let salt = [n as u8; 32];
    let body = format!("row {n}").into_bytes();
    let mac = mac(&salt, &body);
    ChainRow { seq: 2 * n, version: 1, at: n, prev, mac, salt: (!erased).then_some(salt), body }
}

fn chain(session: SessionId) -> Vec<ChainRow> {
    let mut rows = Vec::new();
    let mut prev = [0; 32];
    for n in 1..6 {
        let row = row(n, prev, n == 3);
        prev = row.hash(session);
        rows.push(row);
    }
    rows
}

fn walk(session: SessionId, rows: &[ChainRow]) -> Result<Walk, String> {
    let mut walk = Walk::new(session);
    rows.iter().try_for_each(|it| walk.step(it))?;
    Ok(walk)
}

#[test]
fn a_chain_is_followed_to_its_end_and_no_other_is() {
    let ours = SessionId(7);
    let rows = chain(ours);
    let whole = walk(ours, &rows).expect("it is whole");
    assert_eq!((whole.rows, whole.erased, whole.head.seq), (5, 1, 10));
    assert_eq!(whole.head.hash, rows[4].hash(ours));

    assert!(walk(SessionId(8), &rows).is_err(), "the session is part of every hash");
    assert!(walk(ours, &rows[1..]).is_err());
    let gap: Vec<ChainRow> = [&rows[..2], &rows[3..]].concat();
    assert!(walk(ours, &gap).is_err());
    let mut swapped = rows.clone();
    swapped.swap(3, 4);
    assert!(walk(ours, &swapped).is_err());
    let mut other = rows.clone();
    other[4].body.push(b'!');
    assert!(walk(ours, &other).expect_err("it was changed").contains("says something else"));
    let twice: Vec<ChainRow> = [&rows[..], &rows[4..]].concat();
    assert!(walk(ours, &twice).is_err());
}

proptest! {
    #[test]
    fn any_row_is_read_back_and_any_text_is_read_or_refused(
        seq: u64, version: u16, at: u64, prev: [u8; 32], mac: [u8; 32],
        salt: Option<[u8; 32]>, body: Vec<u8>, text: Vec<u8>,
    ) {
        let row = ChainRow { seq, version, at, prev, mac, salt, body };
        prop_assert_eq!(ChainRow::decode(&row.encode()), Some(row));
        if let Some(row) = ChainRow::decode(&text) {
            prop_assert_eq!(row.encode(), text);
        }
    }
}
