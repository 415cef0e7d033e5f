//! What is left of an installation on disk, and what whoever holds its master key can read of it: for tests that prove
//! that something is gone.
//!
//! It knows the forms in which things are written, and none of the code that writes them. It does not ask the store
//! what is there: it takes every byte of every file, and looks in it for keys that can still be unwrapped, for bodies
//! that one of them opens, and for what stands in the clear. What the file system itself keeps of files that were
//! removed or cut is out of its reach.

mod files;
mod rows;
mod chunks;
mod keys;
mod bodies;

use std::collections::BTreeSet;
use std::path::Path;

use crate::bodies::Text;
use crate::files::Piece;
use crate::keys::Secret;

/// All that can be read at one moment.
pub struct Remains {
    pieces: Vec<Piece>,
    keys: keys::Ring,
    texts: Vec<Text>,
}

impl Remains {
    /// Takes all files below these folders: the state, the key store, blobs, journals, write-ahead logs, whatever lies
    /// there. `master` unwraps the key that wraps the data keys.
    pub fn below(folders: &[&Path], master: &[u8; 32]) -> Remains {
        let mut pieces: Vec<Piece> = folders.iter().flat_map(|it| files::read(it)).collect();
        let keys = keys::Ring::find(&pieces, master);
        // Whole rows come first: of what is found twice, the longer piece is kept.
        let mut whole = chunks::values(&pieces);
        whole.extend(folders.iter().flat_map(|it| rows::read(it)));
        whole.append(&mut pieces);
        let texts = bodies::open(&whole, &keys);
        Remains { pieces: whole, keys, texts }
    }

    /// Where `marker` can be read, and how.
    pub fn find(&self, marker: &str) -> Vec<String> {
        let mut found: BTreeSet<String> = BTreeSet::new();
        for piece in &self.pieces {
            if let Some(how) = bodies::shows(&piece.bytes, marker.as_bytes()) {
                found.insert(format!("{}: {how}", piece.name));
            }
        }
        for text in self.texts.iter().filter(|it| it.shows(marker.as_bytes())) {
            found.insert(format!("{}: sealed under a key that is there", text.place));
        }
        found.into_iter().collect()
    }

    /// Where `marker` can be read, and whether any key that opened it `before` can still be had: then a copy of the
    /// sealed text, in whichever backup, could be read too.
    pub fn traces(&self, marker: &str, before: &Remains) -> Vec<String> {
        let mut found = self.find(marker);
        let opened: BTreeSet<Secret> =
            before.texts.iter().filter(|it| it.shows(marker.as_bytes())).map(|it| it.key).collect();
        found.extend(self.keys.places(&opened).map(|it| format!("{it}: a key that opened it")));
        found
    }

    /// How many data keys can be unwrapped.
    pub fn n_keys(&self) -> usize {
        self.keys.len()
    }

    /// How many sealed texts can be read.
    pub fn n_texts(&self) -> usize {
        self.texts.len()
    }
}

impl std::fmt::Debug for Remains {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let bytes: usize = self.pieces.iter().map(|it| it.bytes.len()).sum();
        write!(f, "Remains({bytes} bytes, {} keys, {} texts)", self.n_keys(), self.n_texts())
    }
}
