//! Asks the person at the terminal before something is done that cannot be undone.

use std::io::{BufRead, stdin};

use crate::desk::Desk;
use crate::fault::{Fault, codes};

/// `Ok` if it may be done. Where nobody can be asked, `--yes` has to stand on the line.
pub(crate) fn consents(desk: &Desk, yes: bool, what: &str, again: &str) -> Result<(), Fault> {
    if yes {
        return Ok(());
    }
    if !desk.out.can_ask() {
        return Err(Fault::new(
            &codes::NEEDS_YES,
            "nobody can be asked here, and nothing was done",
        )
        .why(what)
        .attempt(again));
    }
    desk.out.note(what);
    desk.out.note("go on? [y/N]");
    let mut line = String::new();
    let read = stdin().lock().read_line(&mut line).is_ok();
    if read && matches!(line.trim(), "y" | "Y" | "yes") {
        return Ok(());
    }
    Err(Fault::new(&codes::INTERRUPTED, "nothing was done"))
}
