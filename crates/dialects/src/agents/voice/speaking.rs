//! What fragments have shown of an answer, and how they are told.
//!
//! An item is added before its parts, a part before its text; a part is done before the next begins. Items are done
//! only with their answer: before that nobody knows what they are to it. Calls are not told from fragments at all.

use everstate_kernel::delta::{Delta, Frame, Opening};
use everstate_kernel::ids::{AttemptId, ItemId};
use everstate_kernel::item::{Body, Item};

use crate::agents::voice::Telling;
use crate::agents::voice::event::Row;
use crate::agents::voice::tell::{Growing, Kind};

/// The attempt whose fragments are being shown.
#[derive(Clone, Debug)]
pub(super) struct Speaking {
    pub(super) attempt: AttemptId,
    first_idx: u32,
    first_place: u64,
    /// What it opened, in order.
    pub(super) opened: Vec<Opened>,
}

#[derive(Clone, Debug)]
pub(super) enum Opened {
    Growing(Growing),
    /// It has a place, and is shown there with the fact.
    Later,
    /// The API has no item for it.
    Hidden,
}

impl Opened {
    fn has_place(&self) -> bool {
        match self {
            Opened::Growing(_) | Opened::Later => true,
            Opened::Hidden => false,
        }
    }
}

/// Has the item a place in the output? Of an erased one nobody knows what it was; nearly all have.
fn has_place(item: &Item) -> bool {
    match &item.body {
        Body::Message { .. } | Body::Reasoning(_) | Body::Call { .. } | Body::Erased => true,
        Body::Result { .. } | Body::Compaction { .. } | Body::Note { .. } | Body::Opaque { .. } => {
            false
        }
    }
}

impl Telling {
    /// Where each item of an answer stands that was settled last.
    pub(super) fn places_of(&self, items: &[Item]) -> Vec<u64> {
        let n_places = items.iter().filter(|it| has_place(it)).count() as u64;
        places(self.next_place - n_places, items)
    }

    pub(super) fn listen(&mut self, frame: &Frame, row: &mut Row<'_>) {
        if self.speaking.as_ref().is_none_or(|it| it.attempt != frame.attempt) {
            self.speaking = Some(Speaking {
                attempt: frame.attempt,
                first_idx: self.next_idx,
                first_place: self.next_place,
                opened: Vec::new(),
            });
        }
        let Some(speaking) = &mut self.speaking else { return };
        for delta in &frame.deltas {
            speaking.hear(delta, row);
        }
    }

    /// An answer is settled: tells what of it was not shown yet. Its calls are told by themselves.
    pub(super) fn settle(&mut self, attempt: AttemptId, items: &[Item], row: &mut Row<'_>) {
        let shown = self.speaking.take().filter(|it| it.attempt == attempt);
        let opened = shown.map(|it| it.opened).unwrap_or_default();
        let with_calls = crate::agents::object::item::has_calls(items.iter());
        let places = places(self.next_place, items);
        for ((i, item), place) in items.iter().enumerate().zip(places) {
            let shown = match opened.get(i) {
                Some(Opened::Growing(it)) if it.is(item, place) => Some(it),
                Some(Opened::Growing(_) | Opened::Later | Opened::Hidden) | None => None,
            };
            super::tell::settled(item, place, shown, with_calls, row);
        }
        self.next_place += items.iter().filter(|it| has_place(it)).count() as u64;
        self.count(items);
    }
}

fn places(first: u64, items: &[Item]) -> Vec<u64> {
    let mut next = first;
    let mut place = |item: &Item| {
        let place = next;
        next += u64::from(has_place(item));
        place
    };
    items.iter().map(&mut place).collect()
}

impl Speaking {
    fn hear(&mut self, delta: &Delta, row: &mut Row<'_>) {
        match delta {
            Delta::Open { item, opening, .. } => {
                if *item as usize == self.opened.len() {
                    self.open(*item, opening, row);
                }
            }
            Delta::TextPart { item } => self.grow(*item, Kind::Message, |it| it.next_part("", row)),
            Delta::Text { item, text } => {
                self.grow(*item, Kind::Message, |it| it.text(text, false, row));
            }
            Delta::Refusal { item, text } => {
                self.grow(*item, Kind::Message, |it| it.text(text, true, row));
            }
            Delta::SummaryPart { item } => {
                self.grow(*item, Kind::Reasoning, |it| it.next_part("", row));
            }
            Delta::Summary { item, text } => {
                self.grow(*item, Kind::Reasoning, |it| it.text(text, false, row));
            }
            Delta::Close { item, .. } => {
                if let Some(Opened::Growing(it)) = self.opened.get_mut(*item as usize) {
                    it.close(row);
                }
            }
            // The API tells neither what stands behind a text nor what was thought beyond its summary.
            Delta::Annotation { .. }
            | Delta::Thought { .. }
            | Delta::Sealed { .. }
            | Delta::Arguments { .. }
            | Delta::Extra { .. } => {}
        }
    }

    fn open(&mut self, n: u32, opening: &Opening, row: &mut Row<'_>) {
        let n_places = self.opened.iter().filter(|it| it.has_place()).count() as u64;
        let id = ItemId { turn: self.attempt.turn, idx: self.first_idx + n };
        let place = self.first_place + n_places;
        let kind = match opening {
            Opening::Message => Some(Kind::Message),
            Opening::Reasoning => Some(Kind::Reasoning),
            Opening::Call { .. } => None,
            Opening::Opaque { .. } => return self.opened.push(Opened::Hidden),
        };
        self.opened.push(match kind {
            Some(kind) => Opened::Growing(Growing::open(id, place, kind, row)),
            None => Opened::Later,
        });
    }

    fn grow(&mut self, n: u32, kind: Kind, change: impl FnOnce(&mut Growing)) {
        if let Some(Opened::Growing(it)) = self.opened.get_mut(n as usize)
            && it.kind() == kind
        {
            change(it);
        }
    }
}
