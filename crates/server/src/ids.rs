//! What the names inside a session look like outside: `resp_`, `msg_`, `call_` and so on, then base 32.
//!
//! A name carries its session, turn and number, and six bytes of a keyed hash over them and the project. So it is
//! found without an index, cannot be guessed, and one of another project is recognised without a look-up.

use std::sync::Arc;

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::hmac;
use everstate_dialects::{ItemKind, Names};
use everstate_kernel::fork::Lineage;
use everstate_kernel::ids::{CallId, ItemId, Seq, SessionId, TurnNo, base32, from_base32};
use everstate_kernel::state::About;

/// The installation's naming key.
pub(crate) struct Naming {
    key: hmac::Key,
}

impl std::fmt::Debug for Naming {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Naming")
    }
}

/// What a wire name names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Response,
    /// A turn of a session of the Agents API.
    Turn,
    Item(ItemKind),
    Call,
    Approval,
}

impl Kind {
    pub(crate) const ALL: [Kind; 12] = [
        Kind::Response,
        Kind::Turn,
        Kind::Item(ItemKind::Message),
        Kind::Item(ItemKind::Reasoning),
        Kind::Item(ItemKind::FunctionCall),
        Kind::Item(ItemKind::FunctionCallOutput),
        Kind::Item(ItemKind::ServerCall),
        Kind::Item(ItemKind::ToolList),
        Kind::Item(ItemKind::Compaction),
        Kind::Item(ItemKind::Other),
        Kind::Call,
        Kind::Approval,
    ];

    fn prefix(self) -> &'static str {
        match self {
            Kind::Response => "resp_",
            Kind::Turn => "turn_",
            Kind::Item(ItemKind::Message) => "msg_",
            Kind::Item(ItemKind::Reasoning) => "rs_",
            Kind::Item(ItemKind::FunctionCall) => "fc_",
            Kind::Item(ItemKind::FunctionCallOutput) => "fco_",
            Kind::Item(ItemKind::ServerCall) => "mcp_",
            Kind::Item(ItemKind::ToolList) => "mcpl_",
            Kind::Item(ItemKind::Compaction) => "cmp_",
            Kind::Item(ItemKind::Other) => "itm_",
            Kind::Call => "call_",
            Kind::Approval => "mcpr_",
        }
    }
}

/// A wire name, read. `n` is an item's index, a call's number, or 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Name {
    pub kind: Kind,
    pub session: SessionId,
    pub turn: TurnNo,
    pub n: u32,
}

const CHECK: usize = 6;

/// Events are named by their place in their session: six bytes for the row, four for the number in it.
const EVENT: usize = 10;
const EVENT_PREFIX: &str = "evt_";

impl Naming {
    pub(crate) fn new(secret: &[u8; 32]) -> Naming {
        Naming { key: hmac::Key::new(hmac::HMAC_SHA256, secret) }
    }

    pub(crate) fn write(&self, project: &str, name: Name) -> String {
        let mut bytes = Vec::with_capacity(32);
        bytes.extend_from_slice(&name.session.0.to_be_bytes());
        put_varint(&mut bytes, name.turn);
        put_varint(&mut bytes, name.n);
        let check = self.check(project, name.kind, &bytes);
        bytes.extend_from_slice(&check);
        format!("{}{}", name.kind.prefix(), base32(&bytes))
    }

    /// `None`: it is no name of this project, whatever else it may be.
    pub(crate) fn read(&self, project: &str, text: &str) -> Option<Name> {
        let (kind, bytes) = parts(text)?;
        let (body, check) = bytes.split_at_checked(bytes.len().checked_sub(CHECK)?)?;
        verify_slices_are_equal(check, &self.check(project, kind, body)).ok()?;
        read_body(kind, body)
    }

    /// What a name of another installation names there. Nothing vouches for it.
    pub(crate) fn peek(&self, text: &str) -> Option<Name> {
        let (kind, bytes) = parts(text)?;
        read_body(kind, bytes.get(..bytes.len().checked_sub(CHECK)?)?)
    }

    /// The name of an event: of the same session, a later one has a greater name.
    fn write_event(&self, project: &str, session: SessionId, seq: Seq, n: u32) -> String {
        let mut bytes = [0; EVENT + CHECK];
        let (body, check) = bytes.split_at_mut(EVENT);
        body[..6].copy_from_slice(&seq.to_be_bytes()[2..]);
        body[6..].copy_from_slice(&n.to_be_bytes());
        check.copy_from_slice(&self.check_event(project, session, body));
        format!("{EVENT_PREFIX}{}", base32(&bytes))
    }

    /// The row that the event tells, and its number there. `None`: it is no event of this session.
    pub(crate) fn read_event(
        &self,
        project: &str,
        session: SessionId,
        text: &str,
    ) -> Option<(Seq, u32)> {
        let bytes = from_base32(text.strip_prefix(EVENT_PREFIX).filter(|it| it.len() < 64)?)?;
        let (body, check) = bytes.split_at_checked(EVENT)?;
        verify_slices_are_equal(check, &self.check_event(project, session, body)).ok()?;
        let (seq, n) = body.split_at(6);
        let number = |bytes: &[u8]| bytes.iter().fold(0u64, |sum, it| sum << 8 | u64::from(*it));
        Some((number(seq), u32::try_from(number(n)).ok()?))
    }

    fn check_event(&self, project: &str, session: SessionId, body: &[u8]) -> [u8; CHECK] {
        self.check_of(project, EVENT_PREFIX, &[&session.0.to_be_bytes(), body])
    }

    fn check(&self, project: &str, kind: Kind, body: &[u8]) -> [u8; CHECK] {
        self.check_of(project, kind.prefix(), &[body])
    }

    fn check_of(&self, project: &str, prefix: &str, body: &[&[u8]]) -> [u8; CHECK] {
        let mut mac = hmac::Context::with_key(&self.key);
        mac.update(project.as_bytes());
        mac.update(&[0]);
        mac.update(prefix.as_bytes());
        body.iter().for_each(|it| mac.update(it));
        let tag = mac.sign();
        tag.as_ref()[..CHECK].try_into().expect("a hash is longer than its check")
    }
}

fn parts(text: &str) -> Option<(Kind, Vec<u8>)> {
    let (kind, digits) =
        Kind::ALL.iter().find_map(|it| Some((*it, text.strip_prefix(it.prefix())?)))?;
    (digits.len() <= 64).then_some((kind, from_base32(digits)?))
}

fn read_body(kind: Kind, body: &[u8]) -> Option<Name> {
    let (session, mut rest) = body.split_at_checked(16)?;
    let session = SessionId(u128::from_be_bytes(session.try_into().ok()?));
    let turn = take_varint(&mut rest)?;
    let n = take_varint(&mut rest)?;
    rest.is_empty().then_some(Name { kind, session, turn, n })
}

/// Writes the names of one session.
#[derive(Clone, Debug)]
pub(crate) struct SessionNames {
    naming: Arc<Naming>,
    project: String,
    session: SessionId,
    lineage: Vec<Lineage>,
}

impl SessionNames {
    pub(crate) fn of(naming: &Arc<Naming>, about: &About) -> SessionNames {
        SessionNames::new(naming, &about.project, about.id, about.lineage.clone())
    }

    /// Of a session that is about to be made.
    pub(crate) fn new(
        naming: &Arc<Naming>,
        project: &str,
        session: SessionId,
        lineage: Vec<Lineage>,
    ) -> SessionNames {
        SessionNames { naming: naming.clone(), project: project.to_owned(), session, lineage }
    }

    /// Who minted the names of this turn: an ancestor, for what a fork inherited.
    fn minter(&self, turn: TurnNo) -> SessionId {
        self.lineage.iter().find(|it| it.through >= turn).map_or(self.session, |it| it.session)
    }

    /// What this names in the session; `None` if it was not given out for it.
    pub(crate) fn read(&self, text: &str, kind: Kind) -> Option<Name> {
        let name = self.naming.read(&self.project, text)?;
        (name.kind == kind && name.session == self.minter(name.turn)).then_some(name)
    }

    /// The row that an event of the session tells, and the event's number there.
    pub(crate) fn read_event(&self, text: &str) -> Option<(Seq, u32)> {
        self.naming.read_event(&self.project, self.session, text)
    }

    /// A name of any kind.
    pub(crate) fn of_kind(&self, kind: Kind, turn: TurnNo, n: u32) -> String {
        self.write(kind, turn, n)
    }

    fn write(&self, kind: Kind, turn: TurnNo, n: u32) -> String {
        let name = Name { kind, session: self.minter(turn), turn, n };
        self.naming.write(&self.project, name)
    }
}

impl Names for SessionNames {
    fn item(&self, item: ItemId, kind: ItemKind) -> String {
        self.write(Kind::Item(kind), item.turn, item.idx)
    }

    fn call(&self, call: CallId) -> String {
        self.write(Kind::Call, call.turn, call.n)
    }

    fn approval(&self, call: CallId) -> String {
        self.write(Kind::Approval, call.turn, call.n)
    }

    fn turn(&self, turn: TurnNo) -> String {
        self.write(Kind::Response, turn, 0)
    }

    fn session(&self) -> String {
        self.session.to_string()
    }

    fn session_turn(&self, turn: TurnNo) -> String {
        self.write(Kind::Turn, turn, 0)
    }

    fn event(&self, seq: Seq, n: u32) -> String {
        self.naming.write_event(&self.project, self.session, seq, n)
    }
}

/// Seven bits a byte, the lowest first; the shortest form only, so that a number has one name.
fn put_varint(out: &mut Vec<u8>, mut n: u32) {
    while n >= 0x80 {
        out.push(n as u8 | 0x80);
        n >>= 7;
    }
    out.push(n as u8);
}

fn take_varint(bytes: &mut &[u8]) -> Option<u32> {
    let mut n = 0u64;
    for place in 0..5 {
        let (&byte, rest) = bytes.split_first()?;
        *bytes = rest;
        n |= u64::from(byte & 0x7f) << (7 * place);
        if byte & 0x80 == 0 {
            let shortest = place == 0 || byte != 0;
            return if shortest { u32::try_from(n).ok() } else { None };
        }
    }
    None
}

#[cfg(test)]
mod tests;
