//! Sealed bodies, opened by every key there is: rows, snapshots, segments, inbox rows, blobs.
//!
//! Before a sealed body stands the name of its key, in SQLite and in a blob with the highest byte first, in PostgreSQL
//! with the lowest. A long value of PostgreSQL stands for itself, and every key is tried on it.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;

use crate::chunks::begins;
use crate::files::{Piece, places};
use crate::keys::{Ring, Secret, decrypt};

/// No body in a page is longer, by much.
const PAGE: usize = 16 * 1024;
const ZSTD: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];
/// What is compressed becomes no longer than this before we look at it.
const PLAIN_MAX: u64 = 64 << 20;

/// What a key opened.
pub(crate) struct Text {
    pub(crate) place: String,
    pub(crate) key: Secret,
    bytes: Vec<u8>,
}

impl Text {
    pub(crate) fn shows(&self, marker: &[u8]) -> bool {
        shows(&self.bytes, marker).is_some()
    }
}

pub(crate) fn open(pieces: &[Piece], keys: &Ring) -> Vec<Text> {
    let mut names: BTreeMap<[u8; 8], &Secret> = BTreeMap::new();
    for (name, secret) in keys.named() {
        names.insert(name.to_be_bytes(), secret);
        names.insert(name.to_le_bytes(), secret);
    }
    let begins = begins(names.keys());
    let mut seen: BTreeSet<(Secret, [u8; 12])> = BTreeSet::new();
    let mut texts = Vec::new();
    let mut take = |place: &str, key: &Secret, sealed: &[u8], len: usize| {
        let Some(nonce) = sealed.first_chunk::<12>() else { return };
        let begin = decrypt(key, sealed, 12 + 64);
        if begin.is_some_and(|it| is_ours(&it)) && seen.insert((*key, *nonce)) {
            let bytes = decrypt(key, sealed, len).unwrap_or_default();
            texts.push(Text { place: place.to_owned(), key: *key, bytes });
        }
    };
    for Piece { name, bytes, in_pages } in pieces {
        let len = if *in_pages { PAGE } else { usize::MAX };
        for (at, window) in bytes.windows(8).enumerate() {
            if !begins[usize::from(u16::from_le_bytes([window[0], window[1]]))] {
                continue;
            }
            if let Some(key) = names.get(window) {
                // Behind it the body, or its length in one or four bytes.
                for skip in [0, 1, 4] {
                    take(name, key, bytes.get(at + 8 + skip..).unwrap_or_default(), len);
                }
            }
        }
        if name.starts_with("long value") {
            keys.named().values().for_each(|key| take(name, key, bytes, len));
        }
    }
    texts
}

/// Does this look like the beginning of something that we wrote? Opened by another key it would be noise.
fn is_ours(begin: &[u8]) -> bool {
    let is_text = |from: usize| {
        let some = begin.get(from..).unwrap_or_default();
        // The shortest row of ours is hardly shorter; behind it comes its tag.
        let some = &some[..some.len().min(6)];
        some.len() == 6 && some.iter().all(|it| (b' '..=b'~').contains(it))
    };
    places(begin, &ZSTD).next().is_some()
        || [0, 1, 33].into_iter().any(is_text)
        || is_of_many(begin)
}

/// A row that keeps other blobs beside its body, or names its blob: nothing in it is text.
fn is_of_many(begin: &[u8]) -> bool {
    begin.first().is_some_and(|it| it & 0x0c != 0 && it & 0xf0 == 0)
}

/// How the marker can be read in these bytes, if it can.
pub(crate) fn shows(bytes: &[u8], marker: &[u8]) -> Option<&'static str> {
    if places(bytes, marker).next().is_some() {
        return Some("in the clear");
    }
    let packed = |at: usize| {
        let Ok(plain) = zstd::stream::read::Decoder::new(&bytes[at..]) else { return false };
        let mut text = Vec::new();
        // What is cut off shows what it has.
        let _ = plain.single_frame().take(PLAIN_MAX).read_to_end(&mut text);
        places(&text, marker).next().is_some()
    };
    places(bytes, &ZSTD).any(packed).then_some("compressed")
}
