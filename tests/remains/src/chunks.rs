//! Long values of PostgreSQL: they lie in pieces of 1,996 bytes, each a row with the value's number and its own.

use std::collections::{BTreeMap, BTreeSet};

use crate::files::{Piece, places};

const CHUNK: usize = 1996;
/// How the length of a whole chunk is written, itself included.
const WHOLE: [u8; 4] = (((CHUNK + 4) << 2) as u32).to_le_bytes();
/// A value of ours has no more of them.
const CHUNKS_MAX: u32 = 1 << 16;

/// Values put together, living or dead, of which at least one chunk is whole.
pub(crate) fn values(pieces: &[Piece]) -> Vec<Piece> {
    let mut chunks: BTreeMap<u32, BTreeMap<u32, Vec<u8>>> = BTreeMap::new();
    let paged = || pieces.iter().filter(|it| it.in_pages && !it.name.contains(".db"));
    for Piece { bytes, .. } in paged() {
        for at in places(bytes, &WHOLE).filter(|it| *it >= 8) {
            let (value, n) = (number(bytes, at - 8), number(bytes, at - 4));
            let chunk = bytes.get(at + 4..at + 4 + CHUNK);
            if let (Some(value), Some(n @ 0..CHUNKS_MAX), Some(chunk)) = (value, n, chunk) {
                chunks.entry(value).or_default().entry(n).or_insert_with(|| chunk.to_vec());
            }
        }
    }
    // The last chunk is shorter, and known by standing after the ones before it.
    let wanted: BTreeSet<[u8; 8]> = chunks
        .iter()
        .filter_map(|(value, them)| Some(name(*value, them.last_key_value()?.0 + 1)))
        .collect();
    let begins: Vec<bool> = begins(wanted.iter());
    for Piece { bytes, .. } in paged() {
        for (at, window) in bytes.windows(8).enumerate() {
            if !begins[usize::from(u16::from_le_bytes([window[0], window[1]]))] {
                continue;
            }
            let window: [u8; 8] = window.try_into().expect("windows of eight");
            if wanted.contains(&window)
                && let Some(rest) = short(bytes, at + 8)
                && let (Some(value), Some(n)) = (number(bytes, at), number(bytes, at + 4))
            {
                chunks.entry(value).or_default().entry(n).or_insert(rest);
            }
        }
    }
    let value = |(value, chunks): (u32, BTreeMap<u32, Vec<u8>>)| {
        let whole = (0..).map_while(|n| chunks.get(&n)).flatten().copied().collect();
        Piece { name: format!("long value {value}"), bytes: whole, in_pages: false }
    };
    chunks.into_iter().map(value).filter(|it| !it.bytes.is_empty()).collect()
}

/// Which two bytes any of them begins with: most places are left behind by one look.
pub(crate) fn begins<'a>(of: impl Iterator<Item = &'a [u8; 8]>) -> Vec<bool> {
    let mut begins = vec![false; 1 << 16];
    for it in of {
        begins[usize::from(u16::from_le_bytes([it[0], it[1]]))] = true;
    }
    begins
}

fn name(value: u32, n: u32) -> [u8; 8] {
    let mut name = [0; 8];
    name[..4].copy_from_slice(&value.to_le_bytes());
    name[4..].copy_from_slice(&n.to_le_bytes());
    name
}

fn number(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..at + 4).map(|it| u32::from_le_bytes(it.try_into().expect("four of them")))
}

/// A value with its length before it, in one byte or in four.
fn short(bytes: &[u8], at: usize) -> Option<Vec<u8>> {
    let first = *bytes.get(at)?;
    let (from, len) = match first & 1 {
        1 => (at + 1, (usize::from(first >> 1)).checked_sub(1)?),
        _ if first & 3 == 0 => (at + 4, (number(bytes, at)? >> 2).checked_sub(4)? as usize),
        _ => return None,
    };
    (len <= CHUNK).then(|| bytes.get(from..from + len).map(<[u8]>::to_vec)).flatten()
}
