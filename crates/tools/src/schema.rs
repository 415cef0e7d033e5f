//! Checks values against a JSON Schema. References to elsewhere are refused: checking never fetches anything.

use jsonschema::Validator;
use serde_json::Value;

/// A compiled schema.
#[derive(Debug)]
pub(crate) struct Schema(Validator);

const COMPLAINTS_MAX: usize = 5;
const COMPLAINT_CHARS_MAX: usize = 200;

impl Schema {
    pub(crate) fn new(schema: &Value) -> Result<Schema, String> {
        let built = jsonschema::options().offline().build(schema);
        built.map(Schema).map_err(|error| shortened(&error.to_string()))
    }

    /// What is wrong with the value, in words that a model can act on.
    pub(crate) fn check(&self, value: &Value) -> Result<(), String> {
        let complaints: Vec<String> = self
            .0
            .iter_errors(value)
            .take(COMPLAINTS_MAX)
            .map(|error| match error.instance_path().as_str() {
                "" => shortened(&error.to_string()),
                path => format!("at {path}: {}", shortened(&error.to_string())),
            })
            .collect();
        if complaints.is_empty() { Ok(()) } else { Err(complaints.join("; ")) }
    }
}

fn shortened(text: &str) -> String {
    if text.chars().count() <= COMPLAINT_CHARS_MAX {
        return text.to_owned();
    }
    text.chars().take(COMPLAINT_CHARS_MAX - 1).chain(['…']).collect()
}
