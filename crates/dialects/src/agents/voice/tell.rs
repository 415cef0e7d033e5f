//! How a message or a thought is told: as its fragments come, and what is left of it when its answer is settled.
//!
//! Both are lists of texts, with words of their own for the same things.

use everstate_kernel::ids::ItemId;
use everstate_kernel::item::{Body, Item, Role};

use crate::agents::object::item::{self, Stage, text_part};
use crate::agents::voice::event::Row;
use crate::{ItemKind, Names};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Message,
    Reasoning,
}

/// What the API calls the parts of an item, and what happens to them.
struct Words {
    index: &'static str,
    part: &'static str,
    part_added: &'static str,
    part_done: &'static str,
    delta: &'static str,
    text_done: &'static str,
}

impl Kind {
    fn words(self) -> &'static Words {
        match self {
            Kind::Message => &Words {
                index: "content_index",
                part: "output_text",
                part_added: "agent.session.turn.content_part.added",
                part_done: "agent.session.turn.content_part.done",
                delta: "agent.session.turn.output_text.delta",
                text_done: "agent.session.turn.output_text.done",
            },
            Kind::Reasoning => &Words {
                index: "summary_index",
                part: "summary_text",
                part_added: "agent.session.turn.reasoning_summary_part.added",
                part_done: "agent.session.turn.reasoning_summary_part.done",
                delta: "agent.session.turn.reasoning_summary_text.delta",
                text_done: "agent.session.turn.reasoning_summary_text.done",
            },
        }
    }
}

/// An item in the output, and where its parts are told.
#[derive(Clone, Debug)]
struct Place {
    item: ItemId,
    place: u64,
    kind: Kind,
    /// Its name, once it is needed.
    name: String,
}

impl Place {
    fn new(item: ItemId, place: u64, kind: Kind, names: &dyn Names) -> Place {
        let name = match kind {
            Kind::Message => names.item(item, ItemKind::Message),
            Kind::Reasoning => names.item(item, ItemKind::Reasoning),
        };
        Place { item, place, kind, name }
    }

    fn say_item(&self, event: &'static str, row: &mut Row<'_>, json: impl FnOnce() -> String) {
        row.say_in(self.item.turn, event, |data| {
            data.num("output_index", self.place).raw("item", &json());
        });
    }

    fn added(&self, row: &mut Row<'_>) {
        let (names, id, none) = (row.names(), self.item, std::iter::empty());
        self.say_item("agent.session.turn.item.added", row, || match self.kind {
            Kind::Message => item::assistant_message(names, id, Stage::InProgress, None, none),
            Kind::Reasoning => item::reasoning(names, id, Stage::InProgress, none),
        });
    }

    fn say_part(
        &self,
        event: &'static str,
        index: usize,
        row: &mut Row<'_>,
        fill: impl FnOnce(&mut crate::json::Obj),
    ) {
        row.say_in(self.item.turn, event, |data| {
            data.str("item_id", &self.name).num("output_index", self.place);
            data.num(self.kind.words().index, index as u64);
            fill(data);
        });
    }

    fn part_added(&self, index: usize, row: &mut Row<'_>) {
        let words = self.kind.words();
        self.say_part(words.part_added, index, row, |data| {
            data.raw("part", &text_part(words.part, ""));
        });
    }

    fn delta(&self, index: usize, text: &str, row: &mut Row<'_>) {
        self.say_part(self.kind.words().delta, index, row, |data| _ = data.str("delta", text));
    }

    fn text_done(&self, index: usize, text: &str, row: &mut Row<'_>) {
        self.say_part(self.kind.words().text_done, index, row, |data| _ = data.str("text", text));
    }

    fn part_done(&self, index: usize, text: &str, stage: Stage, row: &mut Row<'_>) {
        let words = self.kind.words();
        self.say_part(words.part_done, index, row, |data| {
            data.raw("part", &text_part(words.part, text));
            if self.kind == Kind::Reasoning && stage == Stage::Incomplete {
                data.str("status", stage.word());
            }
        });
    }
}

/// An item as far as its fragments have shown it.
#[derive(Clone, Debug)]
pub(super) struct Growing {
    place: Place,
    parts: Vec<Text>,
    /// The last part may still grow.
    open: bool,
}

#[derive(Clone, Debug, Default)]
struct Text {
    text: String,
    is_refusal: bool,
}

impl Growing {
    pub(super) fn open(item: ItemId, place: u64, kind: Kind, row: &mut Row<'_>) -> Growing {
        let place = Place::new(item, place, kind, row.names());
        place.added(row);
        Growing { place, parts: Vec::new(), open: false }
    }

    pub(super) fn kind(&self) -> Kind {
        self.place.kind
    }

    /// Was this item shown, and there?
    pub(super) fn is(&self, item: &Item, place: u64) -> bool {
        self.place.item == item.id && self.place.place == place
    }

    pub(super) fn next_part(&mut self, text: &str, row: &mut Row<'_>) {
        self.close(row);
        self.parts.push(Text::default());
        self.open = true;
        self.place.part_added(self.parts.len() - 1, row);
        self.add(text, row);
    }

    pub(super) fn text(&mut self, text: &str, is_refusal: bool, row: &mut Row<'_>) {
        let goes_on = self.parts.last().is_some_and(|it| it.is_refusal == is_refusal);
        match goes_on {
            true => self.add(text, row),
            false => {
                self.next_part(text, row);
                if let Some(last) = self.parts.last_mut() {
                    last.is_refusal = is_refusal;
                }
            }
        }
    }

    fn add(&mut self, text: &str, row: &mut Row<'_>) {
        let index = self.parts.len();
        if let Some(last) = self.parts.last_mut().filter(|_| self.open && !text.is_empty()) {
            last.text.push_str(text);
            self.place.delta(index - 1, text, row);
        }
    }

    /// The last part does not grow any more.
    pub(super) fn close(&mut self, row: &mut Row<'_>) {
        if std::mem::take(&mut self.open)
            && let Some(last) = self.parts.last()
        {
            let index = self.parts.len() - 1;
            self.place.text_done(index, &last.text, row);
            self.place.part_done(index, &last.text, Stage::Completed, row);
        }
    }
}

/// Tells what of a settled item was not `shown`. Every event that could be told has its number.
pub(super) fn settled(
    item: &Item,
    place: u64,
    shown: Option<&Growing>,
    with_calls: bool,
    row: &mut Row<'_>,
) {
    match &item.body {
        Body::Message { role: Role::Assistant, parts } => {
            let texts: Vec<&str> = item::texts(parts).collect();
            settle(item, place, Kind::Message, &texts, shown, row, |names, stage| {
                let phase = item::phase(item, with_calls);
                item::assistant_message(names, item.id, stage, phase, item::texts(parts))
            });
        }
        Body::Reasoning(it) => {
            let texts: Vec<&str> = it.summary.iter().map(String::as_str).collect();
            settle(item, place, Kind::Reasoning, &texts, shown, row, |names, stage| {
                item::reasoning(names, item.id, stage, it.summary.iter().map(String::as_str))
            });
        }
        // No model says the others; calls are told by themselves.
        Body::Message { .. }
        | Body::Call { .. }
        | Body::Result { .. }
        | Body::Compaction { .. }
        | Body::Note { .. }
        | Body::Opaque { .. }
        | Body::Erased => {}
    }
}

fn settle(
    item: &Item,
    place: u64,
    kind: Kind,
    texts: &[&str],
    shown: Option<&Growing>,
    row: &mut Row<'_>,
    done: impl FnOnce(&dyn Names, Stage) -> String,
) {
    let fresh;
    let at = match shown {
        Some(it) => &it.place,
        None => {
            fresh = Place::new(item.id, place, kind, row.names());
            &fresh
        }
    };
    let stage = Stage::from(item.status);
    tell(shown.is_none(), row, |row| at.added(row));
    for (i, text) in texts.iter().enumerate() {
        let part = shown.and_then(|it| it.parts.get(i));
        let is_done = shown.is_some_and(|it| i + 1 < it.parts.len() || part.is_some() && !it.open);
        tell(part.is_none(), row, |row| at.part_added(i, row));
        // The whole and the rest are different events: what was told under a name is never told otherwise.
        tell(part.is_none() && !text.is_empty(), row, |row| at.delta(i, text, row));
        let rest = part.and_then(|it| text.strip_prefix(it.text.as_str()));
        let rest = rest.filter(|it| !is_done && !it.is_empty());
        tell(rest.is_some(), row, |row| at.delta(i, rest.unwrap_or_default(), row));
        tell(!is_done, row, |row| at.text_done(i, text, row));
        tell(!is_done, row, |row| at.part_done(i, text, stage, row));
    }
    let names = row.names();
    at.say_item("agent.session.turn.item.done", row, || done(names, stage));
}

/// Says one event, or leaves its number out.
fn tell(wanted: bool, row: &mut Row<'_>, say: impl FnOnce(&mut Row<'_>)) {
    if wanted { say(row) } else { row.skip() }
}
