//! The page docs/reference/api.md.

use std::fmt::Write;

use super::fates::{Fate, Op};
use super::sdk::Sdk;
use super::{DOORS, own, responses};

const HEAD: &str = "\
# Every operation and every field

<!-- Written by a test. UPDATE_EXPECT=1 cargo nextest run -p everstate-server reference -->

What the official clients can ask for, and what becomes of it. The test that writes this page takes the operations and fields
from the types of PACKAGE, sends each of them to a server, and fails if something else becomes of it than is told here, or
if something is not told at all.

| word | meaning |
| --- | --- |
| works | we act on it, and check it |
| accepted, without effect | taken and not acted on, for the reason given |
| passed on | kept, repeated where the API repeats it, and given to a provider that speaks this API; where a step goes to one that does not, `everstate explain` says that it was left behind |
| passed on, or refused | as before, if an offer of the model has such a provider; else refused |
| refused | the whole request is refused with the code `unsupported`, and `param` names the field, so that nothing is silently left out ([errors.md](errors.md)) |
| there are none | status 404, code `not_found` |
| not available yet | status 501, code `not_available_yet`; the official clients do not repeat it |
| not known here | status 404, code `unknown_url` |

A field that is not listed is told with the one that it is in. In brackets stands which of several kinds of object is meant:
`tools[mcp].server_url` is `server_url` of a tool with `\"type\": \"mcp\"`.
";

const OURS: &str = "\n## Ours\n\nThe command line uses nothing else.\n\n| operation | what it is for |\n| --- | --- |\n";

pub(super) fn page() -> String {
    let sdk = Sdk::load();
    let mut page = HEAD.replace("PACKAGE", &format!("`{}`", sdk.package));
    for (door, operations) in DOORS {
        write!(page, "\n## {door}\n").unwrap();
        for op in *operations {
            operation(&mut page, op);
        }
    }
    page.push_str(OURS);
    for (name, about) in own::OPERATIONS {
        writeln!(page, "| `{name}` | {about} |").unwrap();
    }
    page.push_str(
        "\n## What else the clients know\n\n| addresses | what becomes of it |\n| --- | --- |\n",
    );
    for op in responses::ELSEWHERE {
        let name = op.name.trim_end_matches("/*");
        let n = sdk.operations.iter().filter(|it| op.covers(&it.name)).count();
        writeln!(page, "| `{name}` and below ({n} operations) | {} |", op.fate.words()).unwrap();
    }
    page
}

fn operation(page: &mut String, op: &Op) {
    let about = if op.about.is_empty() { String::new() } else { format!(": {}", op.about) };
    write!(page, "\n### `{}`\n\n{}{about}\n", op.name, capital(op.fate)).unwrap();
    if !op.fields.is_empty() {
        page.push_str("\n| field | what becomes of it | |\n| --- | --- | --- |\n");
        for field in op.fields {
            let words = field.fate.words();
            writeln!(page, "| `{}` | {words} | {} |", field.name, field.about).unwrap();
        }
    }
}

fn capital(fate: Fate) -> String {
    let words = fate.words();
    format!("{}{}", words[..1].to_uppercase(), &words[1..])
}
