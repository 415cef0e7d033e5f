//! Every data key that can still be unwrapped, wherever it lies: in a row, on a free page, in a journal.
//!
//! A wrapped key is 60 bytes: nonce, the key, tag. Before it stands its length, in SQLite as the type of a column, in
//! PostgreSQL as a byte; and before that its name, which it is bound to. A key whose name was written over is opened
//! without it: only the tag, which proves that nobody changed it, is lost with the name.

use std::collections::{BTreeMap, BTreeSet};

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use aws_lc_rs::cipher::{AES_256, DecryptingKey, DecryptionContext, UnboundCipherKey};

use crate::files::{Piece, places};

pub(crate) type Secret = [u8; 32];

const WRAPPED: usize = 60;
const NONCE: usize = 12;
/// In a record of SQLite: four bytes of header, the name in its own place, a blob of 60 bytes.
const IN_SQLITE: [u8; 4] = [4, 0, 0x81, 4];
/// In PostgreSQL: 60 bytes, and the byte that says so.
const IN_POSTGRES: u8 = (61 << 1) | 1;
const WRAP: &[u8] = b"everstate key wrapping key 1";

pub(crate) struct Ring {
    /// Where each of them lies.
    places: BTreeMap<Secret, BTreeSet<String>>,
    named: BTreeMap<i64, Secret>,
}

struct Wrapped<'a> {
    place: &'a str,
    /// What it may be called.
    names: Vec<i64>,
    /// Certainly meant as a key, whatever became of its name.
    is_sure: bool,
    bytes: &'a [u8],
}

impl Ring {
    pub(crate) fn find(pieces: &[Piece], master: &Secret) -> Ring {
        let wrapped: Vec<Wrapped<'_>> = pieces.iter().flat_map(wrapped).collect();
        let opener = opener_of(master);
        let wrapping: BTreeSet<Secret> =
            wrapped.iter().filter_map(|it| unwrap(&opener, WRAP, it.bytes)).collect();
        let mut ring = Ring { places: BTreeMap::new(), named: BTreeMap::new() };
        for key in &wrapping {
            let opener = opener_of(key);
            for it in &wrapped {
                let named = it.names.iter().find_map(|name| {
                    Some((*name, unwrap(&opener, &name.to_be_bytes(), it.bytes)?))
                });
                let secret = match named {
                    Some((name, secret)) => {
                        ring.named.insert(name, secret);
                        Some(secret)
                    }
                    None if it.is_sure => secret_of(decrypt(key, it.bytes, NONCE + 32)),
                    None => None,
                };
                if let Some(secret) = secret {
                    ring.places.entry(secret).or_default().insert(it.place.to_owned());
                }
            }
        }
        ring
    }

    pub(crate) fn named(&self) -> &BTreeMap<i64, Secret> {
        &self.named
    }

    pub(crate) fn len(&self) -> usize {
        self.named.len()
    }

    /// Where any of these lies.
    pub(crate) fn places<'a>(
        &'a self,
        of: &'a BTreeSet<Secret>,
    ) -> impl Iterator<Item = &'a String> {
        of.iter().filter_map(|it| self.places.get(it)).flatten()
    }
}

fn wrapped(piece: &Piece) -> Vec<Wrapped<'_>> {
    let bytes = &piece.bytes[..];
    let mut found = Vec::new();
    for at in places(bytes, &IN_SQLITE) {
        if let Some(text) = bytes.get(at + 4..at + 4 + WRAPPED) {
            let names =
                (1..=9).filter_map(|len| sqlite_number(bytes.get(at.checked_sub(len)?..at)?));
            let (place, names) = (&piece.name[..], names.collect());
            found.push(Wrapped { place, names, is_sure: true, bytes: text });
        }
    }
    for at in places(bytes, &[IN_POSTGRES]).filter(|it| *it >= 8) {
        if let Some(text) = bytes.get(at + 1..at + 1 + WRAPPED) {
            let name = bytes[at - 8..at].try_into().expect("eight of them");
            let (place, names) = (&piece.name[..], vec![i64::from_le_bytes(name)]);
            found.push(Wrapped { place, names, is_sure: false, bytes: text });
        }
    }
    found
}

/// As SQLite writes a row's number: seven bits in each byte, in the ninth eight.
fn sqlite_number(bytes: &[u8]) -> Option<i64> {
    let (last, more) = bytes.split_last()?;
    if more.iter().any(|it| it & 0x80 == 0) || (bytes.len() < 9 && last & 0x80 != 0) {
        return None;
    }
    let high = more.iter().fold(0u64, |sum, it| sum << 7 | u64::from(it & 0x7f));
    let bits = if bytes.len() == 9 { 8 } else { 7 };
    Some((high << bits | u64::from(*last)) as i64)
}

fn opener_of(key: &Secret) -> LessSafeKey {
    LessSafeKey::new(UnboundKey::new(&AES_256_GCM, key).expect("32 bytes make an AES-256 key"))
}

fn unwrap(key: &LessSafeKey, belongs_to: &[u8], sealed: &[u8]) -> Option<Secret> {
    let (nonce, text) = sealed.split_first_chunk::<NONCE>()?;
    let mut text = text.to_vec();
    let nonce = Nonce::assume_unique_for_key(*nonce);
    let plain = key.open_in_place(nonce, Aad::from(belongs_to), &mut text).ok()?;
    (&*plain).try_into().ok()
}

fn secret_of(text: Option<Vec<u8>>) -> Option<Secret> {
    text?.try_into().ok()
}

/// What was sealed, up to `len` bytes of nonce and text, whether or not its end and what it belongs to are there. It
/// says nothing about whether this was the key.
pub(crate) fn decrypt(key: &Secret, sealed: &[u8], len: usize) -> Option<Vec<u8>> {
    let (nonce, text) = sealed.split_first_chunk::<NONCE>()?;
    let mut counter = [0; 16];
    counter[..NONCE].copy_from_slice(nonce);
    // The first block is the tag's.
    counter[15] = 2;
    let mut text = text[..text.len().min(len.saturating_sub(NONCE))].to_vec();
    let key = DecryptingKey::ctr(UnboundCipherKey::new(&AES_256, key).ok()?).ok()?;
    key.decrypt(&mut text, DecryptionContext::Iv128((&counter).into())).ok()?;
    Some(text)
}
