//! Reads the YAML that recorded traffic is kept in: block mappings and lists, block scalars, quoted and plain text.
//! No anchors, no flow collections but empty ones; binary values become null.

use serde_json::{Map, Value};

pub(crate) fn parse(text: &str) -> Value {
    let lines = text.split('\n').map(str::to_owned).collect();
    let mut reader = Reader { lines, at: 0 };
    reader.node(0)
}

struct Reader {
    lines: Vec<String>,
    at: usize,
}

fn indent(line: &str) -> usize {
    line.len() - line.trim_start_matches(' ').len()
}

impl Reader {
    fn skip_blank(&mut self) {
        while self.lines.get(self.at).is_some_and(|it| {
            let it = it.trim();
            it.is_empty() || it == "---"
        }) {
            self.at += 1;
        }
    }

    fn line(&self) -> Option<&str> {
        self.lines.get(self.at).map(String::as_str)
    }

    /// The node that begins at the current line, indented by `min` or more.
    fn node(&mut self, min: usize) -> Value {
        self.skip_blank();
        let Some(line) = self.line() else { return Value::Null };
        let n = indent(line);
        if n < min {
            return Value::Null;
        }
        let rest = line.trim_start().to_owned();
        if rest == "-" || rest.starts_with("- ") {
            self.list(n)
        } else if !matches!(rest.as_bytes()[0], b'|' | b'>' | b'!') && key_of(&rest).is_some() {
            self.mapping(n)
        } else {
            self.at += 1;
            self.scalar(&rest, n.saturating_sub(1))
        }
    }

    fn list(&mut self, n: usize) -> Value {
        let mut items = Vec::new();
        loop {
            self.skip_blank();
            let Some(line) = self.line() else { break };
            let rest = line.trim_start();
            if indent(line) != n || !(rest == "-" || rest.starts_with("- ")) {
                break;
            }
            if rest == "-" {
                self.at += 1;
                items.push(self.node(n + 1));
                continue;
            }
            // The item as if it stood alone on its line.
            let alone = format!("{}{}", " ".repeat(n + 2), &rest[2..]);
            let at = self.at;
            self.lines[at] = alone;
            items.push(self.node(n + 2));
        }
        Value::Array(items)
    }

    fn mapping(&mut self, n: usize) -> Value {
        let mut map = Map::new();
        loop {
            self.skip_blank();
            let Some(line) = self.line() else { break };
            if indent(line) != n {
                break;
            }
            let Some((key, rest)) = key_of(line.trim_start()) else { break };
            let rest = rest.to_owned();
            self.at += 1;
            let value = if rest.is_empty() {
                self.skip_blank();
                let next = self.line().map(|it| (indent(it), it.trim_start().starts_with("- ")));
                match next {
                    Some((m, _)) if m > n => self.node(n + 1),
                    Some((m, true)) if m == n => self.list(n),
                    _ => Value::Null,
                }
            } else {
                self.scalar(&rest, n)
            };
            map.insert(key, value);
        }
        Value::Object(map)
    }

    /// A scalar that begins with `first`; its further lines are indented deeper than `n`.
    fn scalar(&mut self, first: &str, n: usize) -> Value {
        match first.as_bytes()[0] {
            b'|' | b'>' => Value::String(self.block(first, n)),
            b'"' => Value::String(self.quoted(first, '"')),
            b'\'' => Value::String(self.quoted(first, '\'')),
            b'!' => {
                self.block("|", n);
                Value::Null
            }
            _ => {
                let mut text = first.to_owned();
                let mut blanks = 0;
                while let Some(line) = self.line() {
                    if line.trim().is_empty() {
                        blanks += 1;
                        self.at += 1;
                        continue;
                    }
                    if indent(line) <= n {
                        break;
                    }
                    text.push_str(&if blanks > 0 { "\n".repeat(blanks) } else { " ".to_owned() });
                    text.push_str(line.trim());
                    blanks = 0;
                    self.at += 1;
                }
                plain(&text)
            }
        }
    }

    fn block(&mut self, header: &str, n: usize) -> String {
        let folded = header.starts_with('>');
        let given = header.chars().find_map(|it| it.to_digit(10)).map(|it| n + it as usize);
        let mut lines: Vec<String> = Vec::new();
        let mut width = given;
        while let Some(line) = self.line() {
            if line.trim_matches(' ').is_empty() {
                let extra = width.and_then(|it| line.get(it..)).unwrap_or_default();
                lines.push(extra.to_owned());
                self.at += 1;
                continue;
            }
            if indent(line) <= n {
                break;
            }
            let width = *width.get_or_insert(indent(line));
            lines.push(line[width.min(indent(line))..].to_owned());
            self.at += 1;
        }
        let n_blank = lines.iter().rev().take_while(|it| it.is_empty()).count();
        let kept = lines.len() - n_blank;
        let mut text = if folded { lines[..kept].join(" ") } else { lines[..kept].join("\n") };
        if header.contains('+') {
            text.push_str(&"\n".repeat(n_blank + 1));
            // The file's last line end is no blank line of the block.
            if self.at >= self.lines.len() && n_blank > 0 {
                text.pop();
            }
        } else if !header.contains('-') {
            text.push('\n');
        }
        text
    }

    fn quoted(&mut self, first: &str, quote: char) -> String {
        let mut out = String::new();
        let mut line = first[1..].to_owned();
        loop {
            let mut chars = line.chars().peekable();
            let mut joined = false;
            // White space at a line's end is folded, unless it was escaped.
            let mut kept = out.len();
            while let Some(it) = chars.next() {
                if it == quote {
                    if quote == '\'' && chars.peek() == Some(&'\'') {
                        chars.next();
                        out.push('\'');
                    } else {
                        return out;
                    }
                } else if it == '\\' && quote == '"' {
                    match chars.next() {
                        None => joined = true,
                        Some('x') => push_hex(&mut out, &mut chars, 2),
                        Some('u') => push_hex(&mut out, &mut chars, 4),
                        Some('U') => push_hex(&mut out, &mut chars, 8),
                        Some(it) => out.push(match it {
                            'n' => '\n',
                            't' => '\t',
                            'r' => '\r',
                            '0' => '\0',
                            'e' => '\u{1b}',
                            'a' => '\u{7}',
                            'b' => '\u{8}',
                            'f' => '\u{c}',
                            'v' => '\u{b}',
                            'N' => '\u{85}',
                            '_' => '\u{a0}',
                            'L' => '\u{2028}',
                            'P' => '\u{2029}',
                            other => other,
                        }),
                    }
                    kept = out.len();
                } else {
                    out.push(it);
                    if it != ' ' {
                        kept = out.len();
                    }
                }
            }
            let mut blanks = 0;
            loop {
                let next = self.line().expect("a quoted text has its end").trim_start().to_owned();
                self.at += 1;
                if next.is_empty() {
                    blanks += 1;
                    continue;
                }
                line = next;
                break;
            }
            if !joined {
                out.truncate(kept);
                out.push_str(&if blanks > 0 { "\n".repeat(blanks) } else { " ".to_owned() });
            } else if blanks > 0 {
                out.push_str(&"\n".repeat(blanks));
            }
        }
    }
}

fn push_hex(out: &mut String, chars: &mut impl Iterator<Item = char>, n: usize) {
    let digits: String = chars.take(n).collect();
    let code = u32::from_str_radix(&digits, 16).expect("hexadecimal");
    out.push(char::from_u32(code).unwrap_or('\u{fffd}'));
}

/// The key of a mapping's line, and what follows its colon.
fn key_of(line: &str) -> Option<(String, &str)> {
    if let Some(quote @ ('"' | '\'')) = line.chars().next() {
        let end = line[1..].find(quote)? + 1;
        let rest = line[end + 1..].strip_prefix(':')?;
        return (rest.is_empty() || rest.starts_with(' '))
            .then(|| (line[1..end].to_owned(), rest.trim_start()));
    }
    if let Some(key) = line.strip_suffix(':').filter(|it| !it.contains(": ")) {
        return Some((key.to_owned(), ""));
    }
    let (key, rest) = line.split_once(": ")?;
    Some((key.to_owned(), rest.trim_start()))
}

fn plain(text: &str) -> Value {
    match text {
        "null" | "~" => Value::Null,
        "true" => Value::Bool(true),
        "false" => Value::Bool(false),
        "[]" => Value::Array(Vec::new()),
        "{}" => Value::Object(Map::new()),
        _ => {
            let numeric =
                text.starts_with(|it: char| it.is_ascii_digit() || it == '-' || it == '.');
            if numeric && let Ok(n) = text.parse::<i64>() {
                return n.into();
            }
            if numeric
                && text.contains('.')
                && let Ok(n) = text.parse::<f64>()
            {
                return n.into();
            }
            Value::String(text.to_owned())
        }
    }
}
