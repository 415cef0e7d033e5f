//! What went wrong, in four parts: what, why, try, and a word that `everstate explain` knows offline. The word says how
//! the process exits.

use everstate_server::error::ApiError;
use everstate_server::error::codes as doors;
use serde_json::{Value, json};

pub(crate) type Done = Result<(), Fault>;

#[derive(Clone, Debug)]
pub(crate) struct Fault(Box<Told>);

#[derive(Clone, Debug)]
pub(crate) struct Told {
    pub(crate) word: String,
    pub(crate) exit: u8,
    pub(crate) what: String,
    pub(crate) why: Vec<String>,
    pub(crate) attempt: Option<String>,
    pub(crate) address: Option<String>,
}

impl std::ops::Deref for Fault {
    type Target = Told;

    fn deref(&self) -> &Told {
        &self.0
    }
}

/// A word of the command line's own; those of the server are in its own table.
#[derive(Debug)]
pub(crate) struct Word {
    pub(crate) word: &'static str,
    pub(crate) exit: u8,
    pub(crate) explain: &'static str,
}

/// Never renamed, never reused.
pub(crate) mod codes {
    use super::Word;

    macro_rules! words {
        ($($name:ident: $word:literal, exit $exit:literal, $explain:literal;)*) => {
            $(pub(crate) static $name: Word = Word { word: $word, exit: $exit, explain: $explain };)*
            pub(crate) static WORDS: &[&Word] = &[$(&$name),*];
        };
    }

    words! {
        USAGE: "usage", exit 2,
            "The command line cannot be read: an unknown command or flag, or one that is missing.";
        UNREACHABLE: "unreachable", exit 8,
            "No Everstate server answers at this address. Start one with `everstate dev`, or name another with --server.";
        NO_KEY: "no_key", exit 4,
            "The server wants a key, and none was found: neither EVERSTATE_KEY nor EVERSTATE_ADMIN_KEY is set, and there is no .everstate/key here or above.";
        NONSENSE: "nonsense", exit 1,
            "What answers at this address does not speak Everstate's API.";
        NEEDS_YES: "needs_yes", exit 2,
            "This asks a person first. Without a terminal, say --yes.";
        PROOF_FAILED: "proof_failed", exit 1,
            "The demo ran, and what it is there to prove did not hold. That is a bug: please tell us, with the directory that --keep leaves.";
        DEMO_FAILED: "demo_failed", exit 1,
            "The demo could not be played to its end.";
        NOT_A_CODE: "unknown_code", exit 3,
            "No error has this word, and it is no address of a session.";
        CHAIN_BROKEN: "chain_broken", exit 1,
            "A session's log does not say what was written: a row was changed, or is missing. `audit verify` names the first one.";
        TURN_FAILED: "turn_failed", exit 1,
            "The turn ended without an answer; its last line says why.";
        WAITS_FOR_PERSON: "waits_for_person", exit 7,
            "The turn stopped at a tool call that a person has to approve.";
        UNHEALTHY: "unhealthy", exit 1,
            "`doctor` found something that does not work.";
        FILE: "file", exit 1,
            "A file could not be read or written.";
        INTERRUPTED: "interrupted", exit 130,
            "Stopped by Ctrl-C.";
        INTERNAL: "internal", exit 70,
            "Our mistake.";
    }
}

impl Fault {
    pub(crate) fn new(word: &'static Word, what: impl Into<String>) -> Fault {
        Fault(Box::new(Told {
            word: word.word.to_owned(),
            exit: word.exit,
            what: what.into(),
            why: Vec::new(),
            attempt: None,
            address: None,
        }))
    }

    pub(crate) fn why(mut self, why: impl Into<String>) -> Fault {
        self.0.why.push(why.into());
        self
    }

    pub(crate) fn attempt(mut self, attempt: impl Into<String>) -> Fault {
        self.0.attempt = Some(attempt.into());
        self
    }

    /// Reads the body of an answer that is an error. `None` if it is not in the API's shape.
    pub(crate) fn of_answer(status: u16, body: &Value) -> Option<Fault> {
        let error = body.get("error")?;
        let text = |name: &str| error.get(name).and_then(Value::as_str).map(str::to_owned);
        let word = text("code").or_else(|| text("type")).unwrap_or_else(|| "error".to_owned());
        let why = error.get("why").and_then(Value::as_array).into_iter().flatten();
        let exit = doors::find(&word).map_or_else(|| exit_of(status), |it| it.exit);
        Some(Fault(Box::new(Told {
            exit,
            word,
            what: text("message")?,
            why: why.filter_map(|it| it.as_str().map(str::to_owned)).collect(),
            attempt: text("try"),
            address: text("address"),
        })))
    }

    pub(crate) fn json(&self) -> Value {
        json!({ "error": {
            "code": self.word,
            "message": self.what,
            "why": self.why,
            "try": self.attempt,
            "address": self.address,
            "exit": self.exit,
        }})
    }

    /// In lines, as people read it.
    pub(crate) fn lines(&self) -> Vec<String> {
        let mut lines = vec![format!("error[{}]: {}", self.word, self.what)];
        let mut add = |name: &str, text: &str| {
            for (n, line) in text.lines().enumerate() {
                let name = if n == 0 { name } else { "" };
                lines.push(format!("  {name:<4} {line}"));
            }
        };
        for (n, why) in self.why.iter().enumerate() {
            add(if n == 0 { "why:" } else { "" }, why);
        }
        if let Some(attempt) = &self.attempt {
            add("try:", attempt);
        }
        lines
    }
}

impl From<ApiError> for Fault {
    fn from(error: ApiError) -> Fault {
        let mut fault = Fault::of_answer(error.status(), &error.json())
            .expect("the door's errors have the API's shape");
        fault.0.exit = error.code().exit;
        fault
    }
}

/// How to exit on a status whose word we do not know: a later server may have new ones.
fn exit_of(status: u16) -> u8 {
    match status {
        401 => 4,
        402 | 403 | 410 => 5,
        404 => 3,
        409 | 423 => 6,
        408 | 429 | 502..=504 => 8,
        400..=499 => 2,
        500 => 70,
        _ => 1,
    }
}
