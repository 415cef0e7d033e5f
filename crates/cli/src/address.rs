//! Addresses: `ses_4kq7/1.3` is turn 1, step 3 of the one session whose id begins so; `@` is the newest.

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Address {
    /// As it was written; the server knows which session is meant.
    pub(crate) session: String,
    /// `1` or `1.3`.
    pub(crate) step: Option<String>,
}

impl Address {
    /// `None`: it is the address of nothing.
    pub(crate) fn read(text: &str) -> Option<Address> {
        let (session, step) = match text.split_once('/') {
            Some((session, step)) => (session, Some(step)),
            None => (text, None),
        };
        let id = session.strip_prefix("ses_");
        let plain = |it: &str| it.bytes().all(|it| it.is_ascii_lowercase() || it.is_ascii_digit());
        let is_session = session == "@" || id.is_some_and(|it| !it.is_empty() && plain(it));
        let number = |it: &str| !it.is_empty() && it.bytes().all(|it| it.is_ascii_digit());
        let is_step = step.is_none_or(|it| match it.split_once('.') {
            Some((turn, step)) => number(turn) && number(step),
            None => number(it),
        });
        (is_session && is_step)
            .then(|| Address { session: session.to_owned(), step: step.map(str::to_owned) })
    }
}

/// As much of an id as tells it from its neighbours: the time in it, and two letters more.
pub(crate) fn short(id: &str) -> &str {
    id.get(..SHORT).unwrap_or(id)
}

const SHORT: usize = 16;

#[cfg(test)]
mod tests;
