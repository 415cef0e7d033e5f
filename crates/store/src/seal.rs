//! Sealing: compressed if that helps, then encrypted and authenticated under a session's data key.
//!
//! AES-256-GCM with a random nonce in front; a data key seals far fewer than 2^32 times. What a sealed text belongs
//! to is authenticated with it, so that no row can stand in another's place.

use std::cell::RefCell;
use std::fmt;

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use aws_lc_rs::{hmac, rand};
use everstate_runtime::ports::Hash;

use crate::chain::take;
use crate::shelf::{BlobName, KeyId};

const TAG_LEN: usize = 16;
/// Shorter texts hardly shrink.
const COMPRESS_MIN: usize = 128;
/// For rows a caller waits for, and for snapshots, which are written again soon.
pub(crate) const FAST: i32 = 1;
/// For what is packed in the background and kept for long.
pub(crate) const SMALL: i32 = 6;

/// What a session's contents are sealed under. Who destroys it, destroys them.
pub(crate) struct DataKey {
    pub(crate) id: KeyId,
    secret: [u8; 32],
    cipher: LessSafeKey,
}

impl DataKey {
    pub(crate) fn new(id: KeyId, secret: [u8; 32]) -> DataKey {
        let key = UnboundKey::new(&AES_256_GCM, &secret).expect("32 bytes make an AES-256 key");
        DataKey { id, secret, cipher: LessSafeKey::new(key) }
    }

    pub(crate) fn seal(&self, belongs_to: &[u8], plain: &[u8]) -> Vec<u8> {
        let nonce: [u8; NONCE_LEN] = random();
        let mut out = Vec::with_capacity(NONCE_LEN + plain.len() + TAG_LEN);
        out.extend_from_slice(&nonce);
        out.extend_from_slice(plain);
        let nonce = Nonce::assume_unique_for_key(nonce);
        let tag = self
            .cipher
            .seal_in_place_separate_tag(nonce, Aad::from(belongs_to), &mut out[NONCE_LEN..])
            .expect("a text of this size can be sealed");
        out.extend_from_slice(tag.as_ref());
        out
    }

    /// `None` if it was sealed under another key, for another place, or was changed since.
    pub(crate) fn open(&self, belongs_to: &[u8], sealed: &[u8]) -> Option<Vec<u8>> {
        let (nonce, text) = sealed.split_first_chunk::<NONCE_LEN>()?;
        let mut text = text.to_vec();
        let nonce = Nonce::assume_unique_for_key(*nonce);
        let len = self.cipher.open_in_place(nonce, Aad::from(belongs_to), &mut text).ok()?.len();
        text.truncate(len);
        Some(text)
    }

    /// A secret that says nothing about this one, by its label.
    pub(crate) fn derive(&self, label: &str) -> [u8; 32] {
        mac(&self.secret, &[b"everstate secret 1\0", label.as_bytes()].concat())
    }

    /// A name for content that says nothing about it to those without the key, and is another each time.
    pub(crate) fn name(&self, content: &[u8]) -> Hash {
        let mut key = *b"everstate blob name 1\0..........";
        for (mixed, secret) in key.iter_mut().zip(self.secret) {
            *mixed ^= secret;
        }
        let mut hash = hmac::Context::with_key(&hmac::Key::new(hmac::HMAC_SHA256, &key));
        hash.update(&random::<32>());
        hash.update(content);
        let mut out = Hash::default();
        out.copy_from_slice(hash.sign().as_ref());
        out
    }
}

impl fmt::Debug for DataKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "DataKey({})", self.id)
    }
}

pub(crate) fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    rand::fill(&mut bytes).expect("the system gives random bytes");
    bytes
}

pub(crate) fn mac(salt: &[u8; 32], content: &[u8]) -> Hash {
    let mut out = Hash::default();
    out.copy_from_slice(hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, salt), content).as_ref());
    out
}

// ---- what is inside a sealed row ---------------------------------------------------------

const COMPRESSED: u8 = 1;
const ERASED: u8 = 2;
const IN_BLOB: u8 = 4;
const KEPT: u8 = 8;

/// The inside of a sealed row: the content or where it is, and the salt of the header's keyed hash. Once something
/// was erased the salt is gone too, so that nobody can try contents against the hash.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Content {
    pub(crate) salt: Option<[u8; 32]>,
    pub(crate) body: Vec<u8>,
    /// `body` names a blob.
    pub(crate) in_blob: bool,
    /// Blobs that belong to the row beside its body: pieces of the chains of other logs.
    pub(crate) kept: Vec<BlobName>,
}

impl Content {
    pub(crate) fn erased(&self) -> bool {
        self.salt.is_none()
    }

    pub(crate) fn text(&self) -> Vec<u8> {
        Content::encode(self.salt.as_ref(), &self.body, self.in_blob, &self.kept)
    }

    pub(crate) fn encode(
        salt: Option<&[u8; 32]>,
        body: &[u8],
        in_blob: bool,
        kept: &[BlobName],
    ) -> Vec<u8> {
        let packed = (!in_blob).then(|| compress(body, FAST)).flatten();
        let mut flags = if salt.is_none() { ERASED } else { 0 };
        flags |= if in_blob { IN_BLOB } else { 0 };
        flags |= if packed.is_some() { COMPRESSED } else { 0 };
        flags |= if kept.is_empty() { 0 } else { KEPT };
        let text = packed.as_deref().unwrap_or(body);
        let mut out = Vec::with_capacity(37 + text.len());
        out.push(flags);
        out.extend_from_slice(salt.map_or(&[][..], |it| it));
        put_kept(&mut out, kept);
        out.extend_from_slice(text);
        out
    }

    /// Of an opened row. `None`: a form that this release does not know.
    pub(crate) fn decode(text: &[u8]) -> Option<Content> {
        let (&flags, text) = text.split_first()?;
        if flags & !(COMPRESSED | ERASED | IN_BLOB | KEPT) != 0 {
            return None;
        }
        let (salt, text) = match flags & ERASED {
            0 => text.split_first_chunk::<32>().map(|(salt, rest)| (Some(*salt), rest))?,
            _ => (None, text),
        };
        let mut text = text;
        let kept = if flags & KEPT == 0 { Vec::new() } else { take_kept(&mut text)? };
        let body = if flags & COMPRESSED == 0 { text.to_vec() } else { decompress(text)? };
        Some(Content { salt, body, in_blob: flags & IN_BLOB != 0, kept })
    }
}

/// How many, then their names. Nothing if there are none.
pub(crate) fn put_kept(out: &mut Vec<u8>, kept: &[BlobName]) {
    if !kept.is_empty() {
        out.extend_from_slice(&(kept.len() as u32).to_be_bytes());
        kept.iter().for_each(|it| out.extend_from_slice(it));
    }
}

pub(crate) fn take_kept(rest: &mut &[u8]) -> Option<Vec<BlobName>> {
    let n = u32::from_be_bytes(take(rest)?);
    // Never more than there is text for, whatever the number says.
    (0..n).map(|_| take(rest)).collect()
}

// ---- compression -------------------------------------------------------------------------

thread_local! {
    static FAST_COMPRESSOR: RefCell<Option<zstd::bulk::Compressor<'static>>> = const { RefCell::new(None) };
    static DECOMPRESSOR: RefCell<Option<zstd::bulk::Decompressor<'static>>> = const { RefCell::new(None) };
}

/// The length and the compressed text, if that is shorter.
pub(crate) fn compress(plain: &[u8], level: i32) -> Option<Vec<u8>> {
    if plain.len() < COMPRESS_MIN {
        return None;
    }
    let packed = if level == FAST {
        // Its context is bigger than a row: each thread keeps one.
        FAST_COMPRESSOR.with_borrow_mut(|slot| {
            if slot.is_none() {
                *slot = zstd::bulk::Compressor::new(FAST).ok();
            }
            slot.as_mut()?.compress(plain).ok()
        })?
    } else {
        zstd::bulk::compress(plain, level).ok()?
    };
    let len = u32::try_from(plain.len()).ok()?;
    (packed.len() + 4 < plain.len()).then(|| [&len.to_be_bytes()[..], &packed].concat())
}

pub(crate) fn decompress(text: &[u8]) -> Option<Vec<u8>> {
    let (len, packed) = text.split_first_chunk::<4>()?;
    let len = u32::from_be_bytes(*len) as usize;
    // Making its context takes longer than reading a row: each thread keeps one.
    let plain = DECOMPRESSOR.with_borrow_mut(|slot| {
        if slot.is_none() {
            *slot = zstd::bulk::Decompressor::new().ok();
        }
        slot.as_mut()?.decompress(packed, len).ok()
    })?;
    (plain.len() == len).then_some(plain)
}
