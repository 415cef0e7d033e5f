//! An entry of a response's output as it grows, and its wire form.

use everstate_kernel::ids::ItemId;
use everstate_kernel::item::{Part, Sealed, Status};
use everstate_kernel::json::Json;

use crate::json::{Fields, Obj, array, extra_of};
use crate::responses::{NAME, wire};

#[derive(Clone, Debug)]
pub(crate) struct Slot {
    pub(crate) id: String,
    pub(crate) item: Option<ItemId>,
    pub(crate) body: Shown,
    pub(crate) progress: Progress,
    extra: Fields,
    /// Its content was deleted.
    pub(crate) erased: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Progress {
    Open,
    Closed(Status),
    /// A call that we ran, and that failed.
    Failed,
}

#[derive(Clone, Debug)]
pub(crate) enum Shown {
    Message {
        parts: Vec<Part>,
    },
    Reasoning {
        summary: Vec<String>,
        content: Vec<String>,
        sealed: Option<Sealed>,
        open: Option<OpenPart>,
    },
    Call {
        call_id: String,
        name: String,
        arguments: String,
    },
    Result {
        call_id: String,
        output: String,
    },
    ServerCall {
        label: String,
        name: String,
        arguments: String,
        output: Option<String>,
        error: Option<String>,
        approval: Option<String>,
    },
    Approval {
        label: String,
        name: String,
        arguments: String,
    },
    List {
        label: String,
        /// A JSON array; empty until the item is closed.
        tools: String,
    },
    Opaque(Fields),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum OpenPart {
    Summary,
    Content,
}

impl Slot {
    pub(crate) fn new(id: String, item: Option<ItemId>, body: Shown) -> Slot {
        Slot { id, item, body, progress: Progress::Open, extra: Fields::default(), erased: false }
    }

    pub(crate) fn approval(
        id: String,
        item: ItemId,
        label: String,
        name: &str,
        arguments: &str,
    ) -> Slot {
        let (name, arguments) = (name.to_owned(), arguments.to_owned());
        Slot::new(id, Some(item), Shown::Approval { label, name, arguments })
    }

    pub(crate) fn is_open(&self) -> bool {
        self.progress == Progress::Open
    }

    /// An item that was shown whole, before the answer it belongs to was lost, is incomplete with it.
    pub(crate) fn settle(&mut self, status: Status) {
        self.progress = Progress::Closed(status);
    }

    pub(crate) fn seal(&mut self, new: &Sealed) {
        if let Shown::Reasoning { sealed, .. } = &mut self.body {
            *sealed = Some(new.clone());
        }
    }

    pub(crate) fn add_extra(&mut self, extra: &Json) {
        for (name, json) in extra_of(NAME, Some(extra)).unwrap_or_default().into_iter() {
            self.extra.set(&name, json);
        }
    }

    /// The item's wire object.
    pub(crate) fn json(&self) -> String {
        let mut out = Obj::new();
        out.str("id", &self.id);
        let status = match self.progress {
            Progress::Open => "in_progress",
            Progress::Closed(Status::Completed) => "completed",
            Progress::Closed(Status::Incomplete) => "incomplete",
            Progress::Failed => "failed",
        };
        match &self.body {
            Shown::Message { parts } => {
                out.str("type", "message").str("status", status).str("role", "assistant");
                out.raw("content", &array(parts.iter().map(part)));
            }
            Shown::Reasoning { summary, content, sealed, .. } => {
                out.str("type", "reasoning").str("status", status);
                out.raw("summary", &array(summary.iter().map(|it| summary_part(it))));
                // Absent, not null or empty: strict clients refuse those.
                if !content.is_empty() {
                    out.raw("content", &array(content.iter().map(|it| thought_part(it))));
                }
                if let Some(sealed) = sealed {
                    out.str("encrypted_content", &wire::seal(sealed));
                }
            }
            Shown::Call { call_id, name, arguments } => {
                out.str("type", "function_call").str("status", status);
                out.str("arguments", arguments).str("call_id", call_id).str("name", name);
            }
            Shown::Result { call_id, output } => {
                out.str("type", "function_call_output").str("status", status);
                out.str("call_id", call_id).str("output", output);
            }
            Shown::ServerCall { label, name, arguments, output, error, approval } => {
                out.str("type", "mcp_call").str("status", status);
                out.str_or_null("approval_request_id", approval.as_deref());
                out.str("arguments", arguments);
                match error {
                    Some(text) => out.raw("error", &tool_error(text)),
                    None => out.null("error"),
                };
                out.str("name", name);
                out.str_or_null("output", output.as_deref());
                out.str("server_label", label);
            }
            Shown::Approval { label, name, arguments } => {
                out.str("type", "mcp_approval_request");
                out.str("arguments", arguments).str("name", name).str("server_label", label);
            }
            Shown::List { label, tools } => {
                out.str("type", "mcp_list_tools").str("server_label", label);
                out.raw("tools", if self.is_open() { "[]" } else { tools });
            }
            Shown::Opaque(fields) => {
                for (name, json) in fields.iter().filter(|(name, _)| *name != "id") {
                    out.raw(name, json.text());
                }
            }
        }
        for (name, json) in self.extra.iter() {
            out.raw(name, json.text());
        }
        out.text()
    }
}

/// A content part of a message.
pub(crate) fn part(part: &Part) -> String {
    match part {
        Part::Text { text, annotations } => {
            let mut out = Obj::of_kind("output_text");
            out.raw("annotations", &array(annotations.iter().map(Json::text)));
            out.raw("logprobs", "[]");
            out.str("text", text);
            out.text()
        }
        Part::Refusal { text } => {
            let mut out = Obj::of_kind("refusal");
            out.str("refusal", text);
            out.text()
        }
        // No model of this dialect says such a part; it is never put into a slot.
        Part::Image { .. } | Part::Opaque { .. } => "null".to_owned(),
    }
}

pub(crate) fn summary_part(text: &str) -> String {
    let mut out = Obj::of_kind("summary_text");
    out.str("text", text);
    out.text()
}

pub(crate) fn thought_part(text: &str) -> String {
    let mut out = Obj::of_kind("reasoning_text");
    out.str("text", text);
    out.text()
}

fn tool_error(text: &str) -> String {
    let mut content = Obj::of_kind("text");
    content.str("text", text);
    let mut out = Obj::of_kind("mcp_tool_execution_error");
    out.raw("content", &array([content.text()]));
    out.text()
}
