//! The items of `input`: what is said, history, results of calls, answers to approval requests.

use std::collections::{BTreeMap, BTreeSet};

use everstate_kernel::ids::CallId;
use everstate_kernel::input::NewItem;
use everstate_kernel::item::{Body, Outcome, Part, Reasoning, Role};
use everstate_kernel::json::Json;

use crate::json::{Fields, Obj, tagged};
use crate::responses::request::check::{
    boolean, fields, invalid, kind, list, one_of, optional_text, required, required_text, shown,
    text, wrong,
};
use crate::responses::request::{Complaint, InputItem};
use crate::responses::{NAME, wire};

pub(crate) fn read_input(json: &Json) -> Result<Vec<InputItem>, Complaint> {
    if let Some(said) = crate::json::string(json) {
        let body = Body::Message { role: Role::User, parts: vec![Part::text(said)] };
        return Ok(vec![new(body, None, None)]);
    }
    let Some(items) = crate::json::list(json) else {
        return Err(wrong("input", "a string or an array", json));
    };
    let mut reader = Reader::default();
    for (i, item) in items.iter().enumerate() {
        reader.item(&format!("input[{i}]"), item)?;
    }
    reader.finish()
}

/// The result of a call as it stands on the wire: a text, or content parts.
pub(crate) fn read_output(param: &str, json: &Json) -> Result<Vec<Part>, Complaint> {
    match crate::json::string(json) {
        Some(text) => Ok(vec![Part::text(text)]),
        None if json.text().starts_with('[') => read_parts(param, json, Role::User),
        None => Err(wrong(param, "a string or an array", json)),
    }
}

fn new(body: Body, provider_id: Option<String>, extra: Option<Json>) -> InputItem {
    InputItem::New(NewItem { body, provider_id, extra })
}

#[derive(Default)]
struct Reader {
    items: Vec<InputItem>,
    /// Calls that this request tells as history: by the client's name, with where they stand and whether they have
    /// their result.
    calls: BTreeMap<String, Told>,
    n_calls: u32,
    /// Calls that are not in this request, and have their result here.
    answered: BTreeSet<String>,
}

struct Told {
    call: CallId,
    param: String,
    answered: bool,
}

impl Reader {
    fn finish(self) -> Result<Vec<InputItem>, Complaint> {
        match self.calls.iter().find(|(_, told)| !told.answered) {
            Some((call_id, told)) => Err(invalid(
                &told.param,
                format!(
                    "No tool output found for function call '{}': send its function_call_output too.",
                    shown(call_id)
                ),
            )),
            None => Ok(self.items),
        }
    }

    fn item(&mut self, param: &str, json: &Json) -> Result<(), Complaint> {
        let item = fields(param, json)?;
        let kind = match item.get("type") {
            Some(json) => text(&format!("{param}.type"), json)?,
            None if item.get("role").is_some() => "message".to_owned(),
            None if item.get("id").is_some() => "item_reference".to_owned(),
            None => {
                return Err(required(param, &item, "type").err().unwrap_or_else(|| unknown(param)));
            }
        };
        match kind.as_str() {
            "message" => self.message(param, &item),
            "function_call" => self.call(param, &item),
            "function_call_output" => self.output(param, &item),
            "reasoning" => self.reasoning(param, &item),
            "mcp_call" => self.server_call(param, &item),
            "mcp_approval_response" => {
                self.items.push(InputItem::Approval {
                    request_id: required_text(param, &item, "approval_request_id")?,
                    approve: boolean(
                        &format!("{param}.approve"),
                        required(param, &item, "approve")?,
                    )?,
                    reason: optional_text(param, &item, "reason")?,
                });
                Ok(())
            }
            "item_reference" => {
                self.items.push(InputItem::Reference(required_text(param, &item, "id")?));
                Ok(())
            }
            // Items of tools that only their own dialect understands, requests for approval and lists of tools among
            // them: history that is kept as it is.
            _ => {
                let id = optional_text(param, &item, "id")?;
                let body = Body::Opaque { dialect: NAME.to_owned(), json: json.clone() };
                self.items.push(new(body, id, None));
                Ok(())
            }
        }
    }

    fn message(&mut self, param: &str, item: &Fields) -> Result<(), Complaint> {
        let role = required_text(param, item, "role")?;
        one_of(&format!("{param}.role"), &role, &["user", "assistant", "system", "developer"])?;
        let role = match role.as_str() {
            "assistant" => Role::Assistant,
            "system" => Role::System,
            "developer" => Role::Developer,
            _ => Role::User,
        };
        let param_content = format!("{param}.content");
        let content = required(param, item, "content")?;
        let parts = match crate::json::string(content) {
            Some(text) => vec![Part::text(text)],
            None if content.text().starts_with('[') => read_parts(&param_content, content, role)?,
            None => return Err(wrong(&param_content, "a string or an array", content)),
        };
        let id = optional_text(param, item, "id")?;
        self.items.push(new(Body::Message { role, parts }, id, wire::item_extra(item)));
        Ok(())
    }

    fn tell(&mut self, param: &str, call_id: &str) -> Result<CallId, Complaint> {
        self.n_calls += 1;
        let call = CallId { turn: 0, n: self.n_calls };
        let told = Told { call, param: param.to_owned(), answered: false };
        match self.calls.insert(call_id.to_owned(), told) {
            None => Ok(call),
            Some(_) => Err(invalid(
                &format!("{param}.call_id"),
                format!("Duplicate call_id '{}': each call has one of its own.", shown(call_id)),
            )),
        }
    }

    fn call(&mut self, param: &str, item: &Fields) -> Result<(), Complaint> {
        let call_id = required_text(param, item, "call_id")?;
        let name = required_text(param, item, "name")?;
        let arguments = required_text(param, item, "arguments")?;
        let call = self.tell(param, &call_id)?;
        let body = Body::Call { call, name, arguments };
        self.items.push(new(body, Some(call_id), wire::item_extra(item)));
        Ok(())
    }

    fn output(&mut self, param: &str, item: &Fields) -> Result<(), Complaint> {
        let call_id = required_text(param, item, "call_id")?;
        let output = read_output(&format!("{param}.output"), required(param, item, "output")?)?;
        let Some(told) = self.calls.get_mut(&call_id) else {
            if !self.answered.insert(call_id.clone()) {
                return Err(twice(param, &call_id));
            }
            self.items.push(InputItem::Answer { call_id, output });
            return Ok(());
        };
        if std::mem::replace(&mut told.answered, true) {
            return Err(twice(param, &call_id));
        }
        let body = Body::Result { call: told.call, outcome: Outcome::Ok, output };
        let id = optional_text(param, item, "id")?;
        self.items.push(new(body, id, wire::item_extra(item)));
        Ok(())
    }

    fn reasoning(&mut self, param: &str, item: &Fields) -> Result<(), Complaint> {
        let texts = |name: &str| -> Result<Vec<String>, Complaint> {
            let Some(json) = item.get(name) else { return Ok(Vec::new()) };
            let param = format!("{param}.{name}");
            let read = |(i, part): (usize, &Json)| {
                let param = format!("{param}[{i}]");
                required_text(&param, &fields(&param, part)?, "text")
            };
            list(&param, json)?.iter().enumerate().map(read).collect()
        };
        let reasoning = Reasoning {
            summary: texts("summary")?,
            content: texts("content")?,
            sealed: optional_text(param, item, "encrypted_content")?.map(|it| wire::unseal(&it)),
        };
        let id = optional_text(param, item, "id")?;
        self.items.push(new(Body::Reasoning(reasoning), id, wire::item_extra(item)));
        Ok(())
    }

    /// A call that a tool server ran: one item on the wire, a call and its result here.
    fn server_call(&mut self, param: &str, item: &Fields) -> Result<(), Complaint> {
        let id = optional_text(param, item, "id")?.unwrap_or_else(|| param.to_owned());
        let name = required_text(param, item, "name")?;
        let arguments = required_text(param, item, "arguments")?;
        let output = optional_text(param, item, "output")?;
        let (outcome, said) = match (item.get("error"), output) {
            (None, Some(output)) => (Outcome::Ok, output),
            (None, None) => (Outcome::Cancelled, String::new()),
            (Some(error), output) => {
                let message = Fields::of(error).and_then(|it| it.text("message"));
                let error = crate::json::string(error).or(message);
                (Outcome::Failed, error.or(output).unwrap_or_default())
            }
        };
        let call = self.tell(param, &id)?;
        if let Some(told) = self.calls.get_mut(&id) {
            told.answered = true;
        }
        let mut extra = Obj::new();
        extra.json_or_null("server_label", item.get("server_label"));
        let extra = Some(tagged(NAME, &extra.json()));
        self.items.push(new(Body::Call { call, name, arguments }, Some(id.clone()), extra));
        let output = if said.is_empty() { Vec::new() } else { vec![Part::text(said)] };
        self.items.push(new(Body::Result { call, outcome, output }, Some(id), None));
        Ok(())
    }
}

fn twice(param: &str, call_id: &str) -> Complaint {
    invalid(
        &format!("{param}.call_id"),
        format!("Duplicate tool output for call '{}': a call is answered once.", shown(call_id)),
    )
}

fn unknown(param: &str) -> Complaint {
    invalid(param, format!("Invalid '{param}': it is no item."))
}

fn read_parts(param: &str, json: &Json, role: Role) -> Result<Vec<Part>, Complaint> {
    let read = |(i, part): (usize, &Json)| read_part(&format!("{param}[{i}]"), part, role);
    list(param, json)?.iter().enumerate().map(read).collect()
}

const PARTS: &[&str] =
    &["input_text", "input_image", "input_file", "input_audio", "output_text", "refusal"];

fn read_part(param: &str, json: &Json, role: Role) -> Result<Part, Complaint> {
    let part = fields(param, json)?;
    let kind = kind(param, &part)?;
    let opaque = || Part::Opaque { dialect: NAME.to_owned(), json: json.clone() };
    one_of(&format!("{param}.type"), &kind, PARTS)?;
    match kind.as_str() {
        "input_text" | "output_text" => {
            let annotations = match part.get("annotations") {
                Some(json) if role == Role::Assistant => {
                    list(&format!("{param}.annotations"), json)?
                }
                Some(_) | None => Vec::new(),
            };
            Ok(Part::Text { text: required_text(param, &part, "text")?, annotations })
        }
        "refusal" => Ok(Part::Refusal { text: required_text(param, &part, "refusal")? }),
        "input_image" => {
            let Some(url) = optional_text(param, &part, "image_url")? else {
                // A file of the provider's.
                required_text(param, &part, "file_id")?;
                return Ok(opaque());
            };
            if !["https://", "http://", "data:image/"].iter().any(|it| url.starts_with(it)) {
                return Err(Complaint {
                    message: format!(
                        "Invalid '{param}.image_url': expected an https: URL or a data: URL of an image, but got '{}'.",
                        shown(&url)
                    ),
                    param: Some(format!("{param}.image_url")),
                    code: Some("invalid_image_url"),
                });
            }
            Ok(Part::Image { url, detail: optional_text(param, &part, "detail")? })
        }
        _ => Ok(opaque()),
    }
}
