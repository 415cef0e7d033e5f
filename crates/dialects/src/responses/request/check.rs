//! Values of the type that is wanted, or a complaint that names the field.

use everstate_kernel::json::Json;

use crate::json::{self, Fields};
use crate::responses::request::Complaint;

pub(crate) fn wrong(param: &str, wanted: &str, got: &Json) -> Complaint {
    Complaint {
        message: format!(
            "Invalid type for '{param}': expected {wanted}, but got {} instead.",
            json::kind(got)
        ),
        param: Some(param.to_owned()),
        code: Some("invalid_type"),
    }
}

pub(crate) fn invalid(param: &str, message: String) -> Complaint {
    Complaint { message, param: Some(param.to_owned()), code: Some("invalid_value") }
}

pub(crate) fn text(param: &str, value: &Json) -> Result<String, Complaint> {
    json::string(value).ok_or_else(|| wrong(param, "a string", value))
}

pub(crate) fn boolean(param: &str, value: &Json) -> Result<bool, Complaint> {
    json::boolean(value).ok_or_else(|| wrong(param, "a boolean", value))
}

pub(crate) fn fields(param: &str, value: &Json) -> Result<Fields, Complaint> {
    Fields::of(value).ok_or_else(|| wrong(param, "an object", value))
}

pub(crate) fn list(param: &str, value: &Json) -> Result<Vec<Json>, Complaint> {
    json::list(value).ok_or_else(|| wrong(param, "an array", value))
}

pub(crate) fn integer(param: &str, value: &Json, min: u64) -> Result<u64, Complaint> {
    let number = match serde_json::from_str::<f64>(value.text()) {
        Ok(number) => number,
        Err(_) => return Err(wrong(param, "an integer", value)),
    };
    match json::number(value) {
        Some(n) if n >= min => Ok(n),
        None if number.fract() != 0.0 => Err(wrong(param, "an integer", value)),
        None if number > 0.0 => {
            let bound = format!("<= {}", u64::MAX);
            Err(beyond(param, value, "integer above maximum", "integer_above_max_value", &bound))
        }
        Some(_) | None => {
            let bound = format!(">= {min}");
            Err(beyond(param, value, "integer below minimum", "integer_below_min_value", &bound))
        }
    }
}

pub(crate) fn number_between(
    param: &str,
    value: &Json,
    min: f64,
    max: f64,
) -> Result<(), Complaint> {
    let Ok(number) = serde_json::from_str::<f64>(value.text()) else {
        return Err(wrong(param, "a number", value));
    };
    let (word, code, bound) = if number < min {
        ("decimal below minimum", "decimal_below_min_value", format!(">= {min}"))
    } else if number > max {
        ("decimal above maximum", "decimal_above_max_value", format!("<= {max}"))
    } else {
        return Ok(());
    };
    Err(beyond(param, value, word, code, &bound))
}

fn beyond(param: &str, value: &Json, word: &str, code: &'static str, bound: &str) -> Complaint {
    Complaint {
        message: format!(
            "Invalid '{param}': {word} value. Expected a value {bound}, but got {} instead.",
            shown(value.text())
        ),
        param: Some(param.to_owned()),
        code: Some(code),
    }
}

pub(crate) fn one_of(param: &str, value: &str, words: &[&str]) -> Result<(), Complaint> {
    if words.contains(&value) {
        return Ok(());
    }
    let words: Vec<String> = words.iter().map(|it| format!("'{it}'")).collect();
    Err(invalid(
        param,
        format!("Invalid value: '{}'. Supported values are: {}.", shown(value), words.join(", ")),
    ))
}

pub(crate) fn required<'a>(
    param: &str,
    fields: &'a Fields,
    name: &str,
) -> Result<&'a Json, Complaint> {
    fields.get(name).ok_or_else(|| Complaint {
        message: format!("Missing required parameter: '{param}.{name}'."),
        param: Some(format!("{param}.{name}")),
        code: Some("missing_required_parameter"),
    })
}

pub(crate) fn required_text(param: &str, fields: &Fields, name: &str) -> Result<String, Complaint> {
    text(&format!("{param}.{name}"), required(param, fields, name)?)
}

pub(crate) fn optional_text(
    param: &str,
    fields: &Fields,
    name: &str,
) -> Result<Option<String>, Complaint> {
    fields.get(name).map(|it| text(&format!("{param}.{name}"), it)).transpose()
}

pub(crate) fn kind(param: &str, fields: &Fields) -> Result<String, Complaint> {
    required_text(param, fields, "type")
}

/// A client's own text in a message: short.
pub(crate) fn shown(text: &str) -> String {
    match text.char_indices().nth(60) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}
