#![allow(clippy::unwrap_used)] // In a test, whatever is not there is a failure.

use everstate_kernel::ids::{SessionId, from_base32};
use everstate_store::chain::ChainRow;

use super::Bad;
use super::case::{Found, Reader, Writer};
use super::record::{End, Name, Record, Records};
use super::seal::{Identity, Recipient};

/// Some bytes that are no pattern, and more than a chunk holds.
fn stuff(len: usize) -> Vec<u8> {
    let mut x = 7u32;
    let byte = |_| {
        x = x.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (x >> 24) as u8
    };
    (0..len).map(byte).collect()
}

fn written(stuff: &[u8], to: Option<&Recipient>) -> Vec<u8> {
    let (mut writer, mut out) = Writer::new(to).unwrap();
    for piece in stuff.chunks(300_000) {
        out.extend(writer.write(piece));
    }
    out.extend(writer.end());
    out
}

/// What is in it, read in pieces of this size.
fn read(bundle: &[u8], size: usize, identity: Option<&Identity>) -> Result<Vec<u8>, Bad> {
    let mut reader = Reader::new(identity);
    let (mut out, mut ended) = (Vec::new(), false);
    for piece in bundle.chunks(size) {
        reader.push(piece)?;
        while let Some(found) = reader.step()? {
            match found {
                Found::Head(_) => {}
                Found::Bytes(bytes) => out.extend(bytes),
                Found::End => {
                    ended = true;
                    break;
                }
            }
        }
    }
    if ended { Ok(out) } else { Err(Bad::Cut) }
}

#[test]
fn a_case_gives_back_what_was_put_in_however_it_arrives() {
    let identity = Identity::draw();
    for to in [None, Some(identity.recipient())] {
        for len in [0, 1, 1024 * 1024, 1024 * 1024 + 1, 2_500_000] {
            let stuff = stuff(len);
            let bundle = written(&stuff, to);
            for size in [4_093, 1_000_000, usize::MAX] {
                assert_eq!(read(&bundle, size, Some(&identity)).unwrap(), stuff, "{len} by {size}");
            }
        }
        let short = written(b"hello", to);
        assert_eq!(read(&short, 1, Some(&identity)).unwrap(), b"hello");
    }
}

#[test]
fn what_is_cut_or_changed_or_moved_is_found_out() {
    let identity = Identity::draw();
    for to in [None, Some(identity.recipient())] {
        let bundle = written(b"not much", to);
        for n in 0..bundle.len() {
            let mut changed = bundle.clone();
            changed[n] ^= 1;
            assert!(read(&changed, 64, Some(&identity)).is_err(), "byte {n} was changed");
            assert!(read(&bundle[..n], 64, Some(&identity)).is_err(), "cut at {n}");
        }
        assert!(read(&[&bundle[..], b"!"].concat(), 64, Some(&identity)).is_err());
    }
    // Two chunks of one bundle change places.
    let bundle = written(&stuff(3 * 1024 * 1024), Some(identity.recipient()));
    let head = 23 + u32::from_be_bytes(bundle[19..23].try_into().unwrap()) as usize;
    let chunk = 4 + 1024 * 1024 + 16;
    let (first, second) = (&bundle[head..head + chunk], &bundle[head + chunk..head + 2 * chunk]);
    let moved = [&bundle[..head], second, first, &bundle[head + 2 * chunk..]].concat();
    assert!(matches!(read(&moved, 65_536, Some(&identity)), Err(Bad::Damaged(_))));
    // The last one is left out.
    let cut = &bundle[..head + 2 * chunk];
    assert_eq!(read(cut, 65_536, Some(&identity)), Err(Bad::Cut));
}

#[test]
fn only_its_recipient_opens_it() {
    let (ours, other) = (Identity::draw(), Identity::draw());
    let bundle = written(b"hello", Some(ours.recipient()));
    let to = Bad::SealedTo(ours.recipient().to_string());
    assert_eq!(read(&bundle, 64, Some(&other)), Err(to.clone()));
    assert_eq!(read(&bundle, 64, None), Err(to));
}

#[test]
fn keys_are_read_back_and_slips_are_noticed() {
    let identity = Identity::draw();
    let text = identity.recipient().to_string();
    assert_eq!(text.parse::<Recipient>().unwrap(), *identity.recipient());
    let again: Identity = identity.reveal().parse().unwrap();
    assert_eq!(again.recipient(), identity.recipient());
    let bytes = from_base32(&identity.reveal()[4..]).unwrap();
    let derived = Identity::of_secret(bytes[..32].try_into().unwrap()).unwrap();
    assert_eq!(derived.recipient(), identity.recipient());
    assert!(!format!("{identity:?}").contains(&identity.reveal()));
    for n in 4..text.len() {
        let mut slip = text.clone().into_bytes();
        slip[n] = if slip[n] == b'0' { b'1' } else { b'0' };
        let slip = String::from_utf8(slip).unwrap();
        assert!(slip.parse::<Recipient>().is_err(), "{slip}");
    }
    for text in ["", "evr_", "evi_0", "evr_zzzz", &identity.reveal()] {
        assert!(text.parse::<Recipient>().is_err());
    }
    assert!(text.parse::<Identity>().is_err());
}

#[test]
fn records_are_found_wherever_the_bytes_are_cut() {
    let row = ChainRow {
        seq: 3,
        version: 1,
        at: 9,
        prev: [1; 32],
        mac: [2; 32],
        salt: None,
        body: b"{}".to_vec(),
    };
    let records = [
        Record::Chain(SessionId(7)),
        Record::Row(row),
        Record::Names(vec![Name { was: "resp_x".into(), turn: 1, call: None }]),
        Record::End(End { rows: 1 }),
    ];
    // One that may be left out stands among them.
    let mut bytes = vec![200, 0, 0, 0, 2, 1, 1];
    records.iter().for_each(|it| bytes.extend(it.encode()));
    for size in 1..40 {
        let (mut reader, mut found) = (Records::default(), Vec::new());
        for piece in bytes.chunks(size) {
            reader.push(piece);
            while let Some(record) = reader.step().unwrap() {
                found.push(record);
            }
        }
        assert_eq!(found, records);
        assert!(reader.is_empty());
    }
    let refused = |bytes: &[u8]| {
        let mut reader = Records::default();
        reader.push(bytes);
        reader.step().unwrap_err()
    };
    assert!(matches!(refused(&[77, 0, 0, 0, 0]), Bad::Newer(_)));
    assert!(matches!(refused(&[3, 255, 0, 0, 0]), Bad::TooLarge(_)));
    assert!(matches!(refused(&[3, 0, 0, 0, 1, 9]), Bad::Damaged(_)));
}
