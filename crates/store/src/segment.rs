//! Closed history packed together: many rows, one compressed and sealed text. Frames are left out.
//!
//! What can be computed is not written: a row's `prev` is the hash of the `Events` row before it.

use everstate_kernel::ids::{Seq, SessionId};
use everstate_runtime::ports::{Hash, RowKind};

use crate::chain::take;
use crate::row::Header;
use crate::seal::{Content, SMALL, compress, decompress, put_kept, take_kept};
use crate::shelf::BlobName;

// The first byte of a text says its form.
const PLAIN: u8 = 0;
const COMPRESSED: u8 = 1;
/// What follows names the blob that holds the text.
const IN_BLOB: u8 = 2;

/// At most so many rows, and about so many bytes, go into one.
const ROWS_MAX: usize = 1_000;
const BYTES_MAX: usize = 4 * 1024 * 1024;

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Packed {
    pub(crate) header: Header,
    pub(crate) content: Content,
}

/// A segment before it is sealed.
pub(crate) struct Piece {
    pub(crate) from: Seq,
    pub(crate) to: Seq,
    pub(crate) hash: Hash,
    pub(crate) text: Vec<u8>,
}

/// What its seal is bound to.
pub(crate) fn name(session: SessionId, from: Seq, to: Seq, hash: &Hash) -> Vec<u8> {
    let id = session.0.to_be_bytes();
    [b"segment", &id[..], &from.to_be_bytes(), &to.to_be_bytes(), hash].concat()
}

/// Packs the rows from `from` to `to`; `prev` is the chain's hash before them. Frames among them are left out.
pub(crate) fn pack(
    session: SessionId,
    (from, to): (Seq, Seq),
    prev: Hash,
    rows: &[Packed],
) -> Vec<Piece> {
    let mut pieces = Vec::new();
    let (mut starts, mut hash) = (from, prev);
    let (mut n_rows, mut text) = (0, prev.to_vec());
    for row in rows.iter().filter(|it| it.header.kind == RowKind::Events) {
        if n_rows == ROWS_MAX || text.len() > BYTES_MAX {
            let before = row.header.seq - 1;
            pieces.push(piece((starts, before), hash, &text));
            (starts, n_rows, text) = (row.header.seq, 0, hash.to_vec());
        }
        put_row(&mut text, row);
        hash = row.header.hash(session);
        n_rows += 1;
    }
    pieces.push(piece((starts, to), hash, &text));
    pieces
}

fn piece((from, to): (Seq, Seq), hash: Hash, plain: &[u8]) -> Piece {
    let text = match compress(plain, SMALL) {
        Some(packed) => [&[COMPRESSED][..], &packed].concat(),
        None => [&[PLAIN][..], plain].concat(),
    };
    Piece { from, to, hash, text }
}

fn put_row(text: &mut Vec<u8>, Packed { header, content }: &Packed) {
    text.extend_from_slice(&header.seq.to_be_bytes());
    text.extend_from_slice(&header.version.to_be_bytes());
    text.extend_from_slice(&header.at.to_be_bytes());
    text.extend_from_slice(&header.mac);
    let flags = u8::from(content.erased()) | u8::from(content.in_blob) << 1;
    text.push(flags | u8::from(!content.kept.is_empty()) << 2);
    text.extend_from_slice(content.salt.as_ref().map_or(&[][..], |it| it));
    put_kept(text, &content.kept);
    text.extend_from_slice(&(content.body.len() as u32).to_be_bytes());
    text.extend_from_slice(&content.body);
}

/// The text of a segment that is too big for its row.
pub(crate) fn in_blob(name: &BlobName) -> Vec<u8> {
    [&[IN_BLOB][..], name].concat()
}

/// The blob that holds the text, if it is in one.
pub(crate) fn blob_name(text: &[u8]) -> Option<BlobName> {
    match text.split_first()? {
        (&IN_BLOB, name) => name.try_into().ok(),
        _ => None,
    }
}

/// `None`: a form that this release does not know.
pub(crate) fn unpack(session: SessionId, text: &[u8]) -> Option<Vec<Packed>> {
    let (form, text) = text.split_first()?;
    let plain = match *form {
        PLAIN => text.to_vec(),
        COMPRESSED => decompress(text)?,
        _ => return None,
    };
    let mut rest = plain.as_slice();
    let mut prev: Hash = take(&mut rest)?;
    let mut rows = Vec::new();
    while !rest.is_empty() {
        let seq = u64::from_be_bytes(take(&mut rest)?);
        let version = u16::from_be_bytes(take(&mut rest)?);
        let at = u64::from_be_bytes(take(&mut rest)?);
        let mac: Hash = take(&mut rest)?;
        let [flags] = take(&mut rest)?;
        let salt = if flags & 1 == 0 { Some(take(&mut rest)?) } else { None };
        let kept = if flags & 4 == 0 { Vec::new() } else { take_kept(&mut rest)? };
        let len = u32::from_be_bytes(take(&mut rest)?) as usize;
        let (body, tail) = rest.split_at_checked(len)?;
        rest = tail;
        let header = Header { seq, kind: RowKind::Events, version, at, prev, mac };
        prev = header.hash(session);
        let content = Content { salt, body: body.to_vec(), in_blob: flags & 2 != 0, kept };
        rows.push(Packed { header, content });
    }
    Some(rows)
}

#[cfg(test)]
mod tests;
