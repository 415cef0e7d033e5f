//! What a rehearsal does when its script says nothing: it repeats what it was told, and calls the tools it is told to
//! call. Every sentence says that it is a simulation.

use serde_json::Value;

use crate::rehearsal::scene::Scene;
use crate::rehearsal::script::{Arguments, Call, Rule};

const LABEL: &str = "rehearsal (a simulation, not a model):";
/// Longer words are repeated only up to here.
const CHARS_MAX: usize = 500;

pub(crate) fn rule(scene: &Scene) -> Rule {
    if !scene.results.is_empty() {
        let told =
            scene.results.iter().map(|it| format!("{} answered {}", it.name, short(&it.output)));
        return says(format!("{LABEL} {}", told.collect::<Vec<_>>().join("; ")));
    }
    let asked: Vec<Call> = scene.user.lines().filter_map(call).collect();
    if let Some(stranger) = asked.iter().find(|it| !scene.tools.contains(&it.name)) {
        let known = if scene.tools.is_empty() { "none".to_owned() } else { scene.tools.join(", ") };
        return says(format!("{LABEL} there is no tool {}; offered to me: {known}", stranger.name));
    }
    if asked.is_empty() {
        return says(format!("{LABEL} you said: {}", short(&scene.user)));
    }
    Rule { calls: asked, verbatim: true, ..Rule::default() }
}

fn says(text: String) -> Rule {
    // Braces in other people's words are not for filling in.
    Rule { text: Some(text), verbatim: true, ..Rule::default() }
}

/// A line that says `call NAME {"a": 1}`; without arguments, an empty object.
fn call(line: &str) -> Option<Call> {
    let (name, arguments) =
        match line.trim().strip_prefix("call ")?.trim().split_once(char::is_whitespace) {
            Some((name, arguments)) => (name, arguments.trim()),
            None => (line.trim().strip_prefix("call ")?.trim(), "{}"),
        };
    let is_object = matches!(serde_json::from_str(arguments), Ok(Value::Object(_)));
    is_object
        .then(|| Call { name: name.to_owned(), arguments: Arguments::Raw(arguments.to_owned()) })
}

fn short(text: &str) -> String {
    match text.char_indices().nth(CHARS_MAX) {
        Some((end, _)) => format!("{} ...", &text[..end]),
        None => text.to_owned(),
    }
}
