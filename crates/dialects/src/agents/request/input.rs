//! What a user says: messages of text and images. An image is named by an `https:` address, or stands in a `data:` URL.

use everstate_kernel::input::NewItem;
use everstate_kernel::item::{Body, Part, Role};
use everstate_kernel::json::Json;

use crate::agents::request::{only, too_many, within};
use crate::json::{list as as_list, string};
use crate::responses::request::Complaint;
use crate::responses::request::check::{
    fields, invalid, kind, list, one_of, optional_text, required, required_text, shown, wrong,
};

const MESSAGES_MAX: usize = 100;
const PARTS_MAX: usize = 250;
/// Of an image in a `data:` URL, before base 64.
const IMAGE_BYTES_MAX: usize = 20 << 20;
const URL_BYTES_MAX: usize = 8_192;
const IMAGE_KINDS: &[&str] = &["image/png", "image/jpeg", "image/webp", "image/gif"];

/// A text, or messages.
pub(super) fn read_input(param: &str, json: &Json) -> Result<Vec<NewItem>, Complaint> {
    if let Some(said) = string(json) {
        if said.is_empty() {
            return Err(invalid(param, format!("Invalid '{param}': it is empty.")));
        }
        return Ok(vec![message(vec![Part::text(said)])]);
    }
    if as_list(json).is_none() {
        return Err(wrong(param, "a string or an array", json));
    }
    read_messages(param, json)
}

pub(super) fn read_messages(param: &str, json: &Json) -> Result<Vec<NewItem>, Complaint> {
    let told = list(param, json)?;
    if told.is_empty() {
        return Err(invalid(param, format!("Invalid '{param}': there is no message.")));
    }
    if told.len() > MESSAGES_MAX {
        return Err(too_many(param, "messages", MESSAGES_MAX, told.len()));
    }
    told.iter().enumerate().map(|(i, it)| read_message(&format!("{param}[{i}]"), it)).collect()
}

fn read_message(param: &str, json: &Json) -> Result<NewItem, Complaint> {
    let told = fields(param, json)?;
    only(param, &told, &["type", "role", "content"])?;
    if let Some(kind) = optional_text(param, &told, "type")? {
        one_of(&within(param, "type"), &kind, &["message"])?;
    }
    one_of(&within(param, "role"), &required_text(param, &told, "role")?, &["user"])?;
    let content = required(param, &told, "content")?;
    let at = within(param, "content");
    match string(content) {
        Some(text) => Ok(message(vec![Part::text(text)])),
        None => Ok(message(read_parts(&at, content)?)),
    }
}

fn message(parts: Vec<Part>) -> NewItem {
    NewItem { body: Body::Message { role: Role::User, parts }, provider_id: None, extra: None }
}

pub(super) fn read_parts(param: &str, json: &Json) -> Result<Vec<Part>, Complaint> {
    let told = list(param, json)?;
    if told.is_empty() {
        return Err(invalid(param, format!("Invalid '{param}': it is empty.")));
    }
    if told.len() > PARTS_MAX {
        return Err(too_many(param, "parts", PARTS_MAX, told.len()));
    }
    told.iter().enumerate().map(|(i, it)| read_part(&format!("{param}[{i}]"), it)).collect()
}

fn read_part(param: &str, json: &Json) -> Result<Part, Complaint> {
    let part = fields(param, json)?;
    let kind = kind(param, &part)?;
    one_of(&within(param, "type"), &kind, &["input_text", "input_image"])?;
    if kind == "input_text" {
        only(param, &part, &["type", "text"])?;
        return Ok(Part::text(required_text(param, &part, "text")?));
    }
    only(param, &part, &["type", "image_url", "detail"])?;
    let url = required_text(param, &part, "image_url")?;
    check_image(&within(param, "image_url"), &url)?;
    let detail = optional_text(param, &part, "detail")?;
    if let Some(detail) = &detail {
        one_of(&within(param, "detail"), detail, &["low", "high", "auto", "original"])?;
    }
    Ok(Part::Image { url, detail })
}

fn check_image(param: &str, url: &str) -> Result<(), Complaint> {
    let no = |message: String| {
        Err(Complaint { message, param: Some(param.to_owned()), code: Some("invalid_image_url") })
    };
    if url.starts_with("https://") {
        if url.len() > URL_BYTES_MAX {
            return no(format!("Invalid '{param}': an address has at most {URL_BYTES_MAX} bytes."));
        }
        return Ok(());
    }
    let Some((kind, data)) = url.strip_prefix("data:").and_then(|it| it.split_once(";base64,"))
    else {
        return no(format!(
            "Invalid '{param}': expected an https: URL, or a data: URL of an image in base 64, but got '{}'.",
            shown(url)
        ));
    };
    if !IMAGE_KINDS.contains(&kind) {
        return no(format!(
            "Invalid '{param}': '{}' is none of {}.",
            shown(kind),
            IMAGE_KINDS.join(", ")
        ));
    }
    // Before its letters are looked at one by one.
    if data.len() / 4 * 3 > IMAGE_BYTES_MAX {
        return no(format!("Invalid '{param}': an image has at most {IMAGE_BYTES_MAX} bytes."));
    }
    let digits = data.trim_end_matches('=');
    let is_base64 = |it: u8| it.is_ascii_alphanumeric() || matches!(it, b'+' | b'/');
    let whole = data.len().is_multiple_of(4) && data.len() - digits.len() <= 2;
    if data.is_empty() || !whole || !digits.bytes().all(is_base64) {
        return no(format!("Invalid '{param}': its data is not base 64."));
    }
    Ok(())
}

#[cfg(test)]
mod tests;
