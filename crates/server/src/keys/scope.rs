//! What a key may do: scopes, roles as named sets of them, and which scope each route asks for.
//!
//! A route finds its scope in one table, by the beginning of its path. One that finds none is nobody's but the admin's.

use std::fmt;

use axum::http::Method;

macro_rules! scopes {
    ($($name:ident: $word:literal, $about:literal;)*) => {
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Scope {
            $($name,)*
        }

        impl Scope {
            pub const ALL: &'static [Scope] = &[$(Scope::$name,)*];

            pub fn word(self) -> &'static str {
                match self {
                    $(Scope::$name => $word,)*
                }
            }

            pub fn about(self) -> &'static str {
                match self {
                    $(Scope::$name => $about,)*
                }
            }
        }
    };
}

scopes! {
    ModelsRead: "models:read", "models, offers and tools there are, and what error codes mean";
    ResponsesRead: "responses:read", "read responses, conversations and what they were made of";
    ResponsesWrite: "responses:write", "make, cancel and delete them: turns that cost money";
    AgentsRead: "agents:read", "read agents, and their sessions through the Agents API";
    AgentsWrite: "agents:write", "change agents, begin and steer their sessions";
    VaultsRead: "vaults:read", "read vaults and the names of their credentials; no key reads a secret";
    VaultsWrite: "vaults:write", "change vaults and credentials";
    SessionsRead: "sessions:read", "read every session of the project as it is, with all facts, approvals, effects and budgets";
    SessionsWrite: "sessions:write", "speak to them, fork, import, cancel and delete them; stop what runs";
    ApprovalsWrite: "approvals:write", "answer approvals, and settle effects that are in doubt";
    KeysRead: "keys:read", "list the project's keys";
    KeysWrite: "keys:write", "make, rotate and revoke them; a key gives no more than it has";
    Admin: "admin", "everything, in every project: projects, keys, nodes, configuration";
}

/// Which scopes a key has.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub struct Scopes(u32);

impl Scopes {
    pub fn of(list: impl IntoIterator<Item = Scope>) -> Scopes {
        Scopes(list.into_iter().fold(0, |bits, it| bits | 1 << it as u32))
    }

    pub fn all() -> Scopes {
        Scopes::of(Scope::ALL.iter().copied())
    }

    pub fn has(self, scope: Scope) -> bool {
        self.0 & (1 << Scope::Admin as u32 | 1 << scope as u32) != 0
    }

    /// The first that `self` lacks of `others`.
    pub fn lacks(self, others: Scopes) -> Option<Scope> {
        others.list().into_iter().find(|it| !self.has(*it))
    }

    pub fn list(self) -> Vec<Scope> {
        Scope::ALL.iter().copied().filter(|it| self.0 & 1 << *it as u32 != 0).collect()
    }

    pub fn words(self) -> Vec<&'static str> {
        self.list().into_iter().map(Scope::word).collect()
    }

    /// Reads `sessions:read`, or `sessions:*` for all of a kind. Scopes are only added: what is not known is `Err`.
    pub fn read<'a>(words: impl IntoIterator<Item = &'a str>) -> Result<Scopes, &'a str> {
        let mut scopes = Scopes::default();
        for word in words {
            let kind = word.strip_suffix('*').filter(|it| it.ends_with(':'));
            let fits =
                |it: &&Scope| kind.map_or(it.word() == word, |kind| it.word().starts_with(kind));
            let found = Scopes::of(Scope::ALL.iter().filter(fits).copied());
            if found == Scopes::default() {
                return Err(word);
            }
            scopes.0 |= found.0;
        }
        Ok(scopes)
    }
}

impl fmt::Debug for Scopes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.words()).finish()
    }
}

/// A name for a set of scopes. What a role means may grow with a release: a key is given its scopes when it is made.
#[derive(Debug)]
pub struct Role {
    pub name: &'static str,
    pub about: &'static str,
    pub scopes: fn() -> Scopes,
}

pub const ROLES: &[Role] = &[
    Role {
        name: "owner",
        about: "all of its project, with its keys",
        scopes: || without(|it| it == Scope::Admin),
    },
    Role {
        name: "member",
        about: "all of its project but its keys",
        scopes: || without(|it| matches!(it, Scope::Admin | Scope::KeysRead | Scope::KeysWrite)),
    },
    Role {
        name: "approver",
        about: "reads sessions and answers their approvals",
        scopes: || Scopes::of([Scope::SessionsRead, Scope::ApprovalsWrite]),
    },
    Role {
        name: "reader",
        about: "reads all of its project but its keys",
        scopes: || without(|it| !it.word().ends_with(":read") || it == Scope::KeysRead),
    },
    Role { name: "admin", about: "the whole installation", scopes: Scopes::all },
];

fn without(leave_out: fn(Scope) -> bool) -> Scopes {
    Scopes::of(Scope::ALL.iter().copied().filter(|it| !leave_out(*it)))
}

pub fn role(name: &str) -> Option<&'static Role> {
    ROLES.iter().find(|it| it.name == name)
}

// ---- routes ------------------------------------------------------------------------------

/// What a route asks of who comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asks {
    /// Nothing: probes.
    Nothing,
    /// The seal of another node; no key opens it.
    Seal,
    /// A key with this scope.
    Scope(Scope),
}

/// By the beginning of a path; the longest that fits counts. What reads, and what changes.
const TABLE: &[(&str, Asks, Asks)] = &[
    ("/livez", Asks::Nothing, Asks::Nothing),
    ("/readyz", Asks::Nothing, Asks::Nothing),
    ("/metrics", Asks::Nothing, Asks::Nothing),
    ("/internal/v1", Asks::Seal, Asks::Seal),
    // What is not served yet is asked for like what is nearest to it.
    ("/v1", Asks::Scope(Scope::ResponsesRead), Asks::Scope(Scope::ResponsesWrite)),
    ("/v1/models", Asks::Scope(Scope::ModelsRead), Asks::Scope(Scope::ModelsRead)),
    ("/v1/agents", Asks::Scope(Scope::AgentsRead), Asks::Scope(Scope::AgentsWrite)),
    ("/v1/vaults", Asks::Scope(Scope::VaultsRead), Asks::Scope(Scope::VaultsWrite)),
    ("/everstate/v1", Asks::Scope(Scope::Admin), Asks::Scope(Scope::Admin)),
    ("/everstate/v1/agents", Asks::Scope(Scope::AgentsRead), Asks::Scope(Scope::AgentsWrite)),
    ("/everstate/v1/vaults", Asks::Scope(Scope::VaultsRead), Asks::Scope(Scope::VaultsWrite)),
    ("/everstate/v1/sessions", Asks::Scope(Scope::SessionsRead), Asks::Scope(Scope::SessionsWrite)),
    ("/everstate/v1/stop", Asks::Scope(Scope::SessionsRead), Asks::Scope(Scope::SessionsWrite)),
    ("/everstate/v1/start", Asks::Scope(Scope::SessionsRead), Asks::Scope(Scope::SessionsWrite)),
    ("/everstate/v1/recipient", Asks::Scope(Scope::SessionsRead), Asks::Scope(Scope::SessionsRead)),
    ("/everstate/v1/retention", Asks::Scope(Scope::SessionsRead), Asks::Scope(Scope::SessionsRead)),
    (
        "/everstate/v1/approvals",
        Asks::Scope(Scope::SessionsRead),
        Asks::Scope(Scope::ApprovalsWrite),
    ),
    ("/everstate/v1/effects", Asks::Scope(Scope::SessionsRead), Asks::Scope(Scope::ApprovalsWrite)),
    ("/everstate/v1/budgets", Asks::Scope(Scope::SessionsRead), Asks::Scope(Scope::SessionsRead)),
    ("/everstate/v1/retention", Asks::Scope(Scope::SessionsRead), Asks::Scope(Scope::Admin)),
    ("/everstate/v1/offers", Asks::Scope(Scope::ModelsRead), Asks::Scope(Scope::ModelsRead)),
    ("/everstate/v1/tools", Asks::Scope(Scope::ModelsRead), Asks::Scope(Scope::ModelsRead)),
    ("/everstate/v1/codes", Asks::Scope(Scope::ModelsRead), Asks::Scope(Scope::ModelsRead)),
    ("/everstate/v1/keys", Asks::Scope(Scope::KeysRead), Asks::Scope(Scope::KeysWrite)),
];

/// What this route asks for; `None` if nobody said.
pub fn asks(method: &Method, route: &str) -> Option<Asks> {
    let below = |start: &str| {
        route.strip_prefix(start).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    };
    let rows = TABLE.iter().filter(|(start, ..)| below(start));
    let (_, reads, changes) = rows.max_by_key(|(start, ..)| start.len())?;
    Some(if method.is_safe() { *reads } else { *changes })
}
