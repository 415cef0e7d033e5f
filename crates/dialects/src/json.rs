//! JSON in and out, keeping the text of whatever is not understood: objects as ordered fields, and a writer that
//! decides the order of what it writes (a provider's prompt cache goes by bytes).

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

use everstate_kernel::json::Json;
use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};

/// Deeper nesting is refused: readers further in go by recursion.
pub(crate) const DEPTH_MAX: usize = 96;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TooDeep;

/// Takes out white space between tokens, so that the text fits into one line, and checks the depth.
pub(crate) fn tidy(text: &str) -> Result<Cow<'_, str>, TooDeep> {
    let (mut depth, mut in_string, mut escaped, mut white) = (0usize, false, false, false);
    for byte in text.bytes() {
        if in_string {
            match byte {
                _ if escaped => escaped = false,
                b'\\' => escaped = true,
                b'"' => in_string = false,
                _ => {}
            }
            continue;
        }
        match byte {
            b'"' => in_string = true,
            b'{' | b'[' => {
                depth += 1;
                if depth > DEPTH_MAX {
                    return Err(TooDeep);
                }
            }
            b'}' | b']' => depth = depth.saturating_sub(1),
            b' ' | b'\n' | b'\r' | b'\t' => white = true,
            _ => {}
        }
    }
    Ok(if white { Cow::Owned(squeeze(text)) } else { Cow::Borrowed(text) })
}

/// Can every reader take it? Most of a body is passed on as the text it is, so half of a surrogate pair, or a number
/// beyond all floats, would be noticed only where it arrives.
pub(crate) fn sound(text: &str) -> Result<(), serde_json::Error> {
    serde_json::from_str::<Sound>(text).map(drop)
}

/// Reads a value whole and keeps nothing of it.
struct Sound;

impl<'de> Deserialize<'de> for Sound {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Sound, D::Error> {
        from.deserialize_any(Sound)
    }
}

impl<'de> Visitor<'de> for Sound {
    type Value = Sound;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_bool<E>(self, _: bool) -> Result<Sound, E> {
        Ok(Sound)
    }

    fn visit_i64<E>(self, _: i64) -> Result<Sound, E> {
        Ok(Sound)
    }

    fn visit_u64<E>(self, _: u64) -> Result<Sound, E> {
        Ok(Sound)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Sound, E> {
        Ok(Sound)
    }

    fn visit_str<E>(self, _: &str) -> Result<Sound, E> {
        Ok(Sound)
    }

    fn visit_unit<E>(self) -> Result<Sound, E> {
        Ok(Sound)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Sound, A::Error> {
        while list.next_element::<Sound>()?.is_some() {}
        Ok(Sound)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Sound, A::Error> {
        while map.next_entry::<Sound, Sound>()?.is_some() {}
        Ok(Sound)
    }
}

/// White space between two tokens that would grow together (`1 2`) stays: what is not JSON must not become it.
fn squeeze(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let (mut in_string, mut escaped, mut gap) = (false, false, false);
    for letter in text.chars() {
        if in_string {
            out.push(letter);
            match letter {
                _ if escaped => escaped = false,
                '\\' => escaped = true,
                '"' => in_string = false,
                _ => {}
            }
            continue;
        }
        if matches!(letter, ' ' | '\n' | '\r' | '\t') {
            gap = true;
            continue;
        }
        let joins = |it: char| !matches!(it, '{' | '}' | '[' | ']' | ',' | ':');
        if gap && joins(letter) && out.chars().next_back().is_some_and(joins) {
            out.push(' ');
        }
        gap = false;
        in_string = letter == '"';
        out.push(letter);
    }
    out
}

/// An object's fields in their order; of doubled names the last counts.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Fields(Vec<(String, Json)>);

impl Fields {
    pub(crate) fn of(json: &Json) -> Option<Fields> {
        serde_json::from_str(json.text()).ok()
    }

    pub(crate) fn get(&self, name: &str) -> Option<&Json> {
        self.0.iter().find(|(it, _)| it == name).map(|(_, json)| json).filter(|it| !is_null(it))
    }

    /// The field as it was said, also as `null`; `None` if nothing was said of it.
    pub(crate) fn said(&self, name: &str) -> Option<&Json> {
        self.0.iter().find(|(it, _)| it == name).map(|(_, json)| json)
    }

    /// Takes a field out; `null` is as good as absent.
    pub(crate) fn take(&mut self, name: &str) -> Option<Json> {
        let place = self.0.iter().position(|(it, _)| it == name)?;
        Some(self.0.remove(place).1).filter(|it| !is_null(it))
    }

    pub(crate) fn set(&mut self, name: &str, json: Json) {
        match self.0.iter_mut().find(|(it, _)| it == name) {
            Some((_, old)) => *old = json,
            None => self.0.push((name.to_owned(), json)),
        }
    }

    pub(crate) fn text(&self, name: &str) -> Option<String> {
        self.get(name).and_then(string)
    }

    pub(crate) fn take_text(&mut self, name: &str) -> Option<String> {
        self.take(name).as_ref().and_then(string)
    }

    pub(crate) fn number(&self, name: &str) -> Option<u64> {
        self.get(name).and_then(number)
    }

    pub(crate) fn fields(&self, name: &str) -> Option<Fields> {
        self.get(name).and_then(Fields::of)
    }

    pub(crate) fn list(&self, name: &str) -> Option<Vec<Json>> {
        self.get(name).and_then(list)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&str, &Json)> {
        self.0.iter().map(|(name, json)| (name.as_str(), json))
    }

    pub(crate) fn into_iter(self) -> impl Iterator<Item = (String, Json)> {
        self.0.into_iter()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn json(&self) -> Json {
        let mut out = Obj::new();
        for (name, json) in &self.0 {
            out.raw(name, json.text());
        }
        out.json()
    }
}

impl<'de> Deserialize<'de> for Fields {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Fields, D::Error> {
        struct Reader;
        impl<'de> Visitor<'de> for Reader {
            type Value = Fields;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Fields, A::Error> {
                let mut fields = Vec::new();
                while let Some(field) = map.next_entry::<String, Json>()? {
                    fields.push(field);
                }
                Ok(Fields(without_doubles(fields)))
            }
        }
        from.deserialize_map(Reader)
    }
}

/// So many names are compared one by one; an index would cost more.
const FEW: usize = 32;

/// Of doubled names the last counts, at the place of the first. An object from outside may have a million names.
fn without_doubles(fields: Vec<(String, Json)>) -> Vec<(String, Json)> {
    let doubled = |at: usize| fields[..at].iter().any(|(name, _)| *name == fields[at].0);
    if fields.len() <= FEW && !(1..fields.len()).any(doubled) {
        return fields;
    }
    let mut places = BTreeMap::new();
    let mut out: Vec<(String, Json)> = Vec::with_capacity(fields.len());
    for (name, json) in fields {
        match places.get(&name) {
            Some(&place) => {
                let (_, old): &mut (String, Json) = &mut out[place];
                *old = json;
            }
            None => {
                places.insert(name.clone(), out.len());
                out.push((name, json));
            }
        }
    }
    out
}

pub(crate) fn is_null(json: &Json) -> bool {
    json.text() == "null"
}

/// A text. Half of a surrogate pair becomes the replacement letter: some providers cut their pieces between the halves,
/// and the rest of what they say must not be lost with it.
pub(crate) fn string(json: &Json) -> Option<String> {
    serde_json::from_str(json.text()).ok().or_else(|| {
        let Halves(mut bytes) = serde_json::from_str(json.text()).ok()?;
        let places: Vec<usize> = (2..bytes.len())
            .filter(|it| bytes[it - 2] == 0xED && bytes[it - 1] >= 0xA0)
            .map(|it| it - 2)
            .collect();
        for place in places {
            bytes[place..place + 3].copy_from_slice("\u{FFFD}".as_bytes());
        }
        String::from_utf8(bytes).ok()
    })
}

/// A text as bytes that are UTF-8 but for lone halves of surrogate pairs, which are written as letters of three bytes.
struct Halves(Vec<u8>);

impl<'de> Deserialize<'de> for Halves {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Halves, D::Error> {
        struct Bytes;

        impl Visitor<'_> for Bytes {
            type Value = Halves;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a text")
            }

            fn visit_bytes<E>(self, bytes: &[u8]) -> Result<Halves, E> {
                Ok(Halves(bytes.to_vec()))
            }
        }

        from.deserialize_bytes(Bytes)
    }
}

pub(crate) fn number(json: &Json) -> Option<u64> {
    serde_json::from_str(json.text()).ok()
}

pub(crate) fn boolean(json: &Json) -> Option<bool> {
    serde_json::from_str(json.text()).ok()
}

pub(crate) fn list(json: &Json) -> Option<Vec<Json>> {
    serde_json::from_str(json.text()).ok()
}

/// What kind of value it is, in a word for messages.
pub(crate) fn kind(json: &Json) -> &'static str {
    match json.text().as_bytes().first() {
        Some(b'{') => "an object",
        Some(b'[') => "an array",
        Some(b'"') => "a string",
        Some(b't' | b'f') => "a boolean",
        Some(b'n') => "null",
        Some(_) | None => "a number",
    }
}

pub(crate) fn quoted(text: &str) -> String {
    serde_json::to_string(text).expect("a string has a JSON form")
}

/// Writes an object field by field.
#[derive(Clone, Debug)]
pub(crate) struct Obj(String);

impl Obj {
    pub(crate) fn new() -> Obj {
        Obj("{".to_owned())
    }

    pub(crate) fn of_kind(kind: &str) -> Obj {
        let mut out = Obj::new();
        out.str("type", kind);
        out
    }

    /// `json` must be JSON.
    pub(crate) fn raw(&mut self, name: &str, json: &str) -> &mut Obj {
        if self.0.len() > 1 {
            self.0.push(',');
        }
        self.0.push_str(&quoted(name));
        self.0.push(':');
        self.0.push_str(json);
        self
    }

    pub(crate) fn str(&mut self, name: &str, text: &str) -> &mut Obj {
        self.raw(name, &quoted(text))
    }

    pub(crate) fn num(&mut self, name: &str, n: u64) -> &mut Obj {
        self.raw(name, &n.to_string())
    }

    pub(crate) fn bool(&mut self, name: &str, yes: bool) -> &mut Obj {
        self.raw(name, if yes { "true" } else { "false" })
    }

    pub(crate) fn null(&mut self, name: &str) -> &mut Obj {
        self.raw(name, "null")
    }

    pub(crate) fn json_or_null(&mut self, name: &str, json: Option<&Json>) -> &mut Obj {
        self.raw(name, json.map_or("null", Json::text))
    }

    pub(crate) fn str_or_null(&mut self, name: &str, text: Option<&str>) -> &mut Obj {
        self.raw(name, &text.map_or_else(|| "null".to_owned(), quoted))
    }

    /// The object so far, still open: what follows is appended to it.
    pub(crate) fn open(self) -> String {
        self.0
    }

    pub(crate) fn text(&self) -> String {
        format!("{}}}", self.0)
    }

    pub(crate) fn json(&self) -> Json {
        Json::parse(self.text()).expect("written from JSON")
    }
}

pub(crate) fn array<T: AsRef<str>>(items: impl IntoIterator<Item = T>) -> String {
    let mut out = "[".to_owned();
    for item in items {
        if out.len() > 1 {
            out.push(',');
        }
        out.push_str(item.as_ref());
    }
    out.push(']');
    out
}

/// Fields that only one dialect understands, under its name.
pub(crate) fn tagged(dialect: &str, extra: &Json) -> Json {
    let mut out = Obj::new();
    out.raw(dialect, extra.text());
    out.json()
}

/// What a dialect kept as [`tagged`], if it was this one.
pub(crate) fn extra_of(dialect: &str, extra: Option<&Json>) -> Option<Fields> {
    Fields::of(extra?)?.fields(dialect)
}
