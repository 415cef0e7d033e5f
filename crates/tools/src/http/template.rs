//! A tool's URL with places for arguments: `https://bank.example/refunds/{order}?lang={lang}`.
//!
//! An argument fills one path segment or one query value. It can change neither where the request goes nor the shape
//! of its path.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::{Map, Value};
use url::Url;

/// Checked when it is read.
#[derive(Clone, Debug)]
pub(crate) struct Template {
    /// `https://bank.example`
    origin: String,
    path: Vec<Vec<Piece>>,
    query: Vec<(String, Vec<Piece>)>,
}

#[derive(Clone, Debug, PartialEq)]
enum Piece {
    Literal(String),
    Argument(String),
}

/// Everything that means something in a URL.
const ESCAPED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');

impl Template {
    pub(crate) fn parse(text: &str) -> Result<Template, String> {
        if text.contains(['\\', '#']) || text.chars().any(|it| it.is_control() || it == ' ') {
            return Err("it has a space, a `\\`, a `#` or a control character in it".to_owned());
        }
        let (scheme, rest) = text.split_once("://").ok_or("it needs a scheme, https or http")?;
        if !matches!(scheme, "https" | "http") {
            return Err(format!("its scheme is `{scheme}`, and only https or http will do"));
        }
        let end = rest.find(['/', '?']).unwrap_or(rest.len());
        let (authority, rest) = rest.split_at(end);
        if authority.contains(['{', '}']) {
            return Err("an argument may not be part of its host or port".to_owned());
        }
        if authority.contains('@') {
            return Err("credentials do not belong into it: use a header with `env:`".to_owned());
        }
        let origin = format!("{scheme}://{authority}");
        Url::parse(&origin).map_err(|error| format!("its host `{authority}` is wrong: {error}"))?;

        let (path, query) = rest.split_once('?').unwrap_or((rest, ""));
        let path = path.strip_prefix('/').unwrap_or(path);
        let path = path.split('/').map(pieces).collect::<Result<Vec<_>, _>>()?;
        for segment in &path {
            if let [Piece::Literal(it)] = segment.as_slice()
                && is_dots(it)
            {
                return Err(format!("its path has the segment `{it}`: write where it leads to"));
            }
        }
        let query = query
            .split('&')
            .filter(|it| !it.is_empty())
            .map(|pair| {
                let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
                if name.contains(['{', '}']) {
                    return Err("an argument may be a query's value, but not its name".to_owned());
                }
                Ok((name.to_owned(), pieces(value)?))
            })
            .collect::<Result<Vec<_>, _>>()?;
        let template = Template { origin, path, query };
        let probe = template.names().map(|it| (it.to_owned(), Value::from("x"))).collect();
        template.fill(&probe).map_err(|error| error.to_string())?;
        Ok(template)
    }

    /// The arguments it has places for.
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.in_path().chain(self.query.iter().flat_map(|(_, it)| it).filter_map(Piece::name))
    }

    /// Those without which there is no path.
    pub(crate) fn in_path(&self) -> impl Iterator<Item = &str> {
        self.path.iter().flatten().filter_map(Piece::name)
    }

    /// Is this the name of a query value that the template itself sets?
    pub(crate) fn sets(&self, name: &str) -> bool {
        self.query.iter().any(|(it, _)| decoded(it) == name)
    }

    pub(crate) fn fill(&self, arguments: &Map<String, Value>) -> Result<Url, BadArgument> {
        let mut text = self.origin.clone();
        for segment in &self.path {
            text.push('/');
            let mut filled = String::new();
            for piece in segment {
                match piece {
                    Piece::Literal(it) => filled += it,
                    Piece::Argument(name) => {
                        filled += &escaped(&path_value(name, arguments.get(name))?);
                    }
                }
            }
            // Encoded dots are dots to whoever reads the URL.
            let names = || segment.iter().filter_map(Piece::name).collect::<Vec<_>>().join("`, `");
            if segment.iter().any(|it| it.name().is_some()) && is_dots(&filled) {
                return Err(BadArgument(format!("`{}` may not be `.` or `..`", names())));
            }
            text += &filled;
        }
        let mut mark = '?';
        for (name, value) in &self.query {
            let mut filled = String::new();
            let mut missing = false;
            for piece in value {
                match piece {
                    Piece::Literal(it) => filled += it,
                    Piece::Argument(argument) => match arguments.get(argument) {
                        None | Some(Value::Null) => missing = true,
                        Some(value) => filled += &escaped(&scalar(argument, value)?),
                    },
                }
            }
            if !missing {
                text += &format!("{mark}{name}={filled}");
                mark = '&';
            }
        }
        self.same_shape(&text)
    }

    /// What was filled in cannot have changed where it goes. Looked at once more, in the URL as it will be sent.
    fn same_shape(&self, text: &str) -> Result<Url, BadArgument> {
        let wrong = || BadArgument("the arguments make no valid URL".to_owned());
        let url = Url::parse(text).map_err(|_| wrong())?;
        let origin = Url::parse(&self.origin).map_err(|_| wrong())?;
        let same = url.origin() == origin.origin()
            && url.username().is_empty()
            && url.fragment().is_none()
            && url.path_segments().is_some_and(|it| it.count() == self.path.len());
        if same { Ok(url) } else { Err(wrong()) }
    }
}

impl Piece {
    fn name(&self) -> Option<&str> {
        match self {
            Piece::Literal(_) => None,
            Piece::Argument(name) => Some(name),
        }
    }
}

/// The value cannot be put into the URL; the text says so to the model.
#[derive(Debug, PartialEq)]
pub(crate) struct BadArgument(pub(crate) String);

impl std::fmt::Display for BadArgument {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

/// A value as text, as it stands in a URL before it is encoded.
pub(crate) fn scalar(name: &str, value: &Value) -> Result<String, BadArgument> {
    match value {
        Value::String(text) => Ok(text.clone()),
        Value::Number(number) => Ok(number.to_string()),
        Value::Bool(yes) => Ok(yes.to_string()),
        Value::Null | Value::Array(_) | Value::Object(_) => {
            Err(BadArgument(format!("`{name}` must be text, a number or a boolean")))
        }
    }
}

fn path_value(name: &str, value: Option<&Value>) -> Result<String, BadArgument> {
    let value = value.ok_or_else(|| BadArgument(format!("`{name}` is missing")))?;
    let text = scalar(name, value)?;
    // Many servers decode an encoded slash before they look at the path.
    if text.is_empty() || text.contains(['/', '\\']) || text.chars().any(char::is_control) {
        let what = "may not be empty, nor contain `/`, `\\` or control characters";
        return Err(BadArgument(format!("`{name}` {what}")));
    }
    Ok(text)
}

fn escaped(text: &str) -> String {
    utf8_percent_encode(text, ESCAPED).to_string()
}

fn decoded(text: &str) -> String {
    let plain = text.replace('+', " ");
    percent_encoding::percent_decode_str(&plain).decode_utf8_lossy().into_owned()
}

fn is_dots(segment: &str) -> bool {
    matches!(decoded(segment).as_str(), "." | "..")
}

fn pieces(text: &str) -> Result<Vec<Piece>, String> {
    let mut pieces = Vec::new();
    let mut rest = text;
    while let Some((literal, tail)) = rest.split_once('{') {
        let (name, tail) = tail.split_once('}').ok_or("a `{` is not closed in it")?;
        let plain = |it: char| it.is_ascii_alphanumeric() || it == '_' || it == '-';
        if name.is_empty() || !name.chars().all(plain) {
            return Err(format!("`{{{name}}}` names no argument"));
        }
        if !literal.is_empty() {
            pieces.push(Piece::Literal(literal.to_owned()));
        }
        pieces.push(Piece::Argument(name.to_owned()));
        rest = tail;
    }
    if !rest.is_empty() {
        pieces.push(Piece::Literal(rest.to_owned()));
    }
    let stray = pieces.iter().any(|it| matches!(it, Piece::Literal(it) if it.contains('}')));
    if stray { Err("a `}` has no `{` in it".to_owned()) } else { Ok(pieces) }
}

#[cfg(test)]
mod tests;
