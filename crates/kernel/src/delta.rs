//! Streaming: what a model says, piece by piece. The whole answer is the fold of its pieces, so that what was
//! streamed and what is kept can never differ.

use serde::{Deserialize, Serialize};

use crate::ids::AttemptId;
use crate::item::{Output, OutputBody, Part, Reasoning, Sealed, Status};
use crate::json::Json;
use crate::money::Usage;

/// A fragment of an answer. `item` counts the items of this answer from 0, in the order they were opened.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Delta {
    /// Opens the next item.
    Open {
        item: u32,
        opening: Opening,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        provider_id: Option<String>,
    },
    /// Opens a further text part of a message; the first opens by itself.
    TextPart {
        item: u32,
    },
    Text {
        item: u32,
        text: String,
    },
    /// Belongs to the last text part.
    Annotation {
        item: u32,
        annotation: Json,
    },
    Refusal {
        item: u32,
        text: String,
    },
    /// Opens a further summary part of a reasoning item; the first opens by itself.
    SummaryPart {
        item: u32,
    },
    Summary {
        item: u32,
        text: String,
    },
    /// The reasoning itself, where the provider tells it.
    Thought {
        item: u32,
        text: String,
    },
    /// Arrives whole.
    Sealed {
        item: u32,
        sealed: Sealed,
    },
    /// A piece of a call's arguments.
    Arguments {
        item: u32,
        text: String,
    },
    /// Fields of the wire item that we do not understand: a JSON object.
    Extra {
        item: u32,
        extra: Json,
    },
    /// Nothing follows for this item.
    Close {
        item: u32,
        #[serde(default, skip_serializing_if = "crate::item::is_default")]
        status: Status,
    },
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Opening {
    Message,
    Reasoning,
    Call { name: String },
    Opaque { dialect: String, json: Json },
}

/// A piece of an answer as it arrives. The last one is `End`; an answer that stops without it is broken.
#[derive(Clone, Debug, PartialEq)]
pub enum Piece {
    Delta(Delta),
    End(ReplyEnd),
}

/// How an answer ended, as its provider said it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ReplyEnd {
    pub finish: Finish,
    pub usage: Usage,
    /// The service tier that really served it, where told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tier: Option<String>,
    /// The provider's own name of the answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub provider_id: Option<String>,
    /// The exact model that answered, where told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Finish {
    /// It said what it had to say, or asked for tools.
    Stop,
    /// The output limit cut it short.
    Length,
    /// A content filter cut it short.
    Filter,
}

/// Shown fragments of a resumable turn, kept for replay. A frame takes a place in the session's sequence,
/// is never decided from, and `apply` does not see it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Frame {
    pub attempt: AttemptId,
    pub deltas: Vec<Delta>,
}

/// Folds deltas into the items they are fragments of.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Fold {
    items: Vec<(Output, bool)>,
}

impl Fold {
    /// A delta for an item that was never opened, or of the wrong kind, changes nothing.
    pub fn push(&mut self, delta: &Delta) {
        match delta {
            Delta::Open { item, opening, provider_id } => {
                if *item as usize == self.items.len() {
                    self.items.push((opened(opening, provider_id), false));
                }
            }
            Delta::TextPart { item } => self.message(*item, |parts| parts.push(Part::text(""))),
            Delta::Text { item, text } => self.message(*item, |parts| match parts.last_mut() {
                Some(Part::Text { text: so_far, .. }) => so_far.push_str(text),
                Some(Part::Refusal { .. } | Part::Image { .. } | Part::Opaque { .. }) | None => {
                    parts.push(Part::text(text));
                }
            }),
            Delta::Annotation { item, annotation } => self.message(*item, |parts| {
                if let Some(Part::Text { annotations, .. }) = parts.last_mut() {
                    annotations.push(annotation.clone());
                }
            }),
            Delta::Refusal { item, text } => self.message(*item, |parts| match parts.last_mut() {
                Some(Part::Refusal { text: so_far }) => so_far.push_str(text),
                Some(Part::Text { .. } | Part::Image { .. } | Part::Opaque { .. }) | None => {
                    parts.push(Part::Refusal { text: text.clone() });
                }
            }),
            Delta::SummaryPart { item } => {
                self.reasoning(*item, |it| it.summary.push(String::new()))
            }
            Delta::Summary { item, text } => {
                self.reasoning(*item, |it| push_last(&mut it.summary, text))
            }
            Delta::Thought { item, text } => {
                self.reasoning(*item, |it| push_last(&mut it.content, text))
            }
            Delta::Sealed { item, sealed } => {
                self.reasoning(*item, |it| it.sealed = Some(sealed.clone()))
            }
            Delta::Arguments { item, text } => {
                if let Some((Output { body: OutputBody::Call { arguments, .. }, .. }, _)) =
                    self.items.get_mut(*item as usize)
                {
                    arguments.push_str(text);
                }
            }
            Delta::Extra { item, extra } => {
                if let Some((it, _)) = self.items.get_mut(*item as usize) {
                    it.extra = Some(extra.clone());
                }
            }
            Delta::Close { item, status } => {
                if let Some((it, closed)) = self.items.get_mut(*item as usize) {
                    it.status = *status;
                    *closed = true;
                }
            }
        }
    }

    pub fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// The items of an answer that came to its end.
    pub fn finish(self) -> Vec<Output> {
        self.items.into_iter().map(|(it, _)| it).collect()
    }

    /// The items of an answer that was lost on the way: what was not closed is incomplete.
    pub fn cut(self) -> Vec<Output> {
        let seal = |(mut it, closed): (Output, bool)| {
            if !closed {
                it.status = Status::Incomplete;
            }
            it
        };
        self.items.into_iter().map(seal).collect()
    }

    fn message(&mut self, item: u32, change: impl FnOnce(&mut Vec<Part>)) {
        if let Some((Output { body: OutputBody::Message { parts }, .. }, _)) =
            self.items.get_mut(item as usize)
        {
            change(parts);
        }
    }

    fn reasoning(&mut self, item: u32, change: impl FnOnce(&mut Reasoning)) {
        if let Some((Output { body: OutputBody::Reasoning(it), .. }, _)) =
            self.items.get_mut(item as usize)
        {
            change(it);
        }
    }
}

fn opened(opening: &Opening, provider_id: &Option<String>) -> Output {
    let body = match opening {
        Opening::Message => OutputBody::Message { parts: Vec::new() },
        Opening::Reasoning => OutputBody::Reasoning(Reasoning::default()),
        Opening::Call { name } => OutputBody::Call { name: name.clone(), arguments: String::new() },
        Opening::Opaque { dialect, json } => {
            OutputBody::Opaque { dialect: dialect.clone(), json: json.clone() }
        }
    };
    Output { body, status: Status::Completed, provider_id: provider_id.clone(), extra: None }
}

fn push_last(parts: &mut Vec<String>, text: &str) {
    match parts.last_mut() {
        Some(last) => last.push_str(text),
        None => parts.push(text.to_owned()),
    }
}
