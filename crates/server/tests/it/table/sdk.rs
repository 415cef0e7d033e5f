//! What the official SDK can ask for, and requests made from it.
//!
//! `sdk-types.json` is read off the SDK's own code by `tests/sdk/sdk_types.py`, which also says how a type is written.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::random::Random;

pub(crate) struct Sdk {
    pub(crate) package: String,
    pub(crate) operations: Vec<Operation>,
    types: Map<String, Value>,
}

#[derive(Clone, Debug)]
pub(crate) struct Operation {
    /// `POST /v1/agents/{agent_id}`.
    pub(crate) name: String,
    pub(crate) method: String,
    pub(crate) path: String,
    /// What its fields are in: the body, or the query.
    pub(crate) body: Option<Value>,
    pub(crate) query: Option<Value>,
}

/// A field, wherever it is in a request.
#[derive(Clone, Debug)]
pub(crate) struct Field {
    /// `agent.tools[mcp].transport[http].server_url`: in brackets which of several kinds of object it belongs to.
    pub(crate) text: String,
    steps: Vec<Step>,
    pub(crate) kind: Value,
}

/// Into this type of object, to this field of it.
#[derive(Clone, Debug, PartialEq)]
struct Step {
    of: String,
    name: String,
}

/// Values for the fields of which not any value will do, by the field's text or by its last name.
pub(crate) type Values = BTreeMap<&'static str, Value>;

impl Sdk {
    pub(crate) fn load() -> Sdk {
        let mut json: Value = serde_json::from_str(include_str!("../sdk-types.json")).unwrap();
        let read = |it: &Value| {
            let text = |name: &str| it[name].as_str().unwrap().to_owned();
            let (method, path) = (text("method"), format!("/v1{}", text("path")));
            let part = |name: &str| it.get(name).cloned();
            let name = format!("{method} {path}");
            Operation { name, method, path, body: part("body"), query: part("query") }
        };
        let Value::Object(types) = json["types"].take() else { panic!("no types") };
        Sdk {
            package: json["package"].as_str().unwrap().to_owned(),
            operations: json["operations"].as_array().unwrap().iter().map(read).collect(),
            types,
        }
    }

    /// Every field of an operation, those of objects after what is in them.
    pub(crate) fn fields(&self, operation: &Operation) -> Vec<Field> {
        let mut found = Vec::new();
        for kind in [&operation.body, &operation.query].into_iter().flatten() {
            self.collect(kind, "", &[], &mut found);
        }
        let mut seen = std::collections::BTreeSet::new();
        found.retain(|it: &Field| seen.insert(it.text.clone()));
        found
    }

    fn collect(&self, kind: &Value, text: &str, steps: &[Step], found: &mut Vec<Field>) {
        for inner in kind["union"].as_array().into_iter().flatten() {
            self.collect(inner, text, steps, found);
        }
        if let Some(inner) = kind.get("list") {
            self.collect(inner, text, steps, found);
        }
        let Some(of) = kind["ref"].as_str() else { return };
        if steps.iter().any(|it| it.of == of) {
            return; // What can hold itself is told once.
        }
        for (name, kind, _) in self.object(of) {
            let text = match (text, self.tag(of).filter(|_| name != "type")) {
                ("", None) => name.to_owned(),
                (text, None) => format!("{text}.{name}"),
                (text, Some(tag)) => format!("{text}[{tag}].{name}"),
            };
            let step = Step { of: of.to_owned(), name: name.to_owned() };
            let steps = [steps, &[step]].concat();
            self.collect(kind, &text, &steps, found);
            found.push(Field { text, steps, kind: kind.clone() });
        }
    }

    fn object(&self, of: &str) -> impl Iterator<Item = (&str, &Value, bool)> {
        let fields = self.types[of].as_object().unwrap();
        fields.iter().map(|(name, kind)| match name.strip_suffix('?') {
            Some(name) => (name, kind, false),
            None => (name.as_str(), kind, true),
        })
    }

    /// The word by which a kind of object is told from others.
    fn tag(&self, of: &str) -> Option<&str> {
        let (_, kind, _) = self.object(of).find(|(name, ..)| *name == "type")?;
        self.word(kind)
    }

    fn word<'a>(&self, kind: &'a Value) -> Option<&'a str> {
        let words = kind["enum"].as_array().or_else(|| {
            kind["union"].as_array()?.iter().find_map(|it| it.get("enum"))?.as_array()
        })?;
        words.first()?.as_str()
    }

    /// The smallest request that has this field.
    pub(crate) fn request(&self, operation: &Operation, field: &Field, values: &Values) -> Value {
        let kind = operation.body.as_ref().or(operation.query.as_ref()).unwrap();
        self.build(kind, &field.steps, "", values)
            .unwrap_or_else(|| panic!("{} is not in its own operation", field.text))
    }

    /// Another value in the place of this field.
    pub(crate) fn with(&self, request: &mut Value, field: &Field, value: Value) {
        let mut at = request;
        for step in &field.steps {
            if let Some(list) = at.as_array() {
                // What was put beside the field's own object need not have the field.
                let place = list.iter().rposition(|it| it.get(&step.name).is_some()).unwrap();
                at = &mut at[place];
            }
            at = &mut at[step.name.as_str()];
        }
        *at = value;
    }

    /// Anything that looks like a request, and often like a wrong one.
    pub(crate) fn random(&self, operation: &Operation, random: &mut Random) -> Value {
        let kind = operation.body.as_ref().or(operation.query.as_ref()).unwrap();
        self.any(kind, 0, random)
    }

    fn any(&self, kind: &Value, depth: usize, random: &mut Random) -> Value {
        if depth > 12 || random.below(12) == 0 {
            return random.junk();
        }
        if let Some(kinds) = kind["union"].as_array() {
            return self.any(&kinds[random.below(kinds.len())], depth, random);
        }
        if let Some(inner) = kind.get("list") {
            return (0..random.below(4)).map(|_| self.any(inner, depth + 1, random)).collect();
        }
        if let Some(words) = kind["enum"].as_array() {
            return words[random.below(words.len())].clone();
        }
        if let Some(inner) = kind.get("map") {
            return json!({ "key": self.any(inner, depth + 1, random) });
        }
        let Some(of) = kind["ref"].as_str() else { return random.of_kind(kind) };
        let mut object = Map::new();
        for (name, kind, is_required) in self.object(of) {
            let is_in = match is_required || name == "type" {
                true => random.below(15) > 0,
                false => random.below(4) == 0,
            };
            if is_in {
                object.insert(name.to_owned(), self.any(kind, depth + 1, random));
            }
        }
        if random.below(20) == 0 {
            object.insert("unheard_of".to_owned(), random.junk());
        }
        Value::Object(object)
    }

    fn build(&self, kind: &Value, to: &[Step], text: &str, values: &Values) -> Option<Value> {
        if to.is_empty() {
            let last = text.rsplit('.').next().unwrap_or(text);
            if let Some(value) = values.get(text).or_else(|| values.get(last)) {
                return Some(value.clone());
            }
        }
        if let Some(inner) = kind.get("list") {
            // Of words, all.
            return match inner.get("enum") {
                Some(words) if to.is_empty() => Some(words.clone()),
                _ => Some(json!([self.build(inner, to, text, values)?])),
            };
        }
        if let Some(kinds) = kind["union"].as_array() {
            let mut kinds = kinds.iter().filter(|it| *it != "null");
            return kinds.find_map(|it| self.build(it, to, text, values));
        }
        if let Some(of) = kind["ref"].as_str() {
            let next = to.first();
            if next.is_some_and(|it| it.of != of) {
                return None;
            }
            let mut object = Map::new();
            for (name, kind, is_required) in self.object(of) {
                let is_next = next.is_some_and(|it| it.name == name);
                if is_next || is_required || name == "type" {
                    let tag = self.tag(of).filter(|_| name != "type");
                    let text = match (text, tag) {
                        ("", None) => name.to_owned(),
                        (text, None) => format!("{text}.{name}"),
                        (text, Some(tag)) => format!("{text}[{tag}].{name}"),
                    };
                    let to = if is_next { &to[1..] } else { &[] };
                    object.insert(name.to_owned(), self.build(kind, to, &text, values)?);
                }
            }
            return Some(Value::Object(object));
        }
        if !to.is_empty() {
            return None;
        }
        if let Some(words) = kind["enum"].as_array() {
            return words.first().cloned();
        }
        if kind.get("map").is_some() {
            return Some(json!({ "key": "value" }));
        }
        Some(match kind.as_str().unwrap() {
            "string" => json!("a text"),
            "integer" => json!(1),
            "number" => json!(0.5),
            "boolean" => json!(true),
            "null" => Value::Null,
            _ => json!({ "any": 1 }),
        })
    }
}
