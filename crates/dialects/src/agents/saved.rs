//! A saved agent as the API tells it, and what is told of its versions under our own address.

use everstate_kernel::ids::Millis;
use everstate_kernel::json::Json;

use crate::agents::config::AgentConfig;
use crate::agents::object::write_config;
use crate::json::Obj;

/// When something was made and last changed.
#[derive(Clone, Copy, Debug)]
pub struct Times {
    pub created_at: Millis,
    pub updated_at: Millis,
}

pub fn agent_object(id: &str, times: Times, config: &AgentConfig) -> Json {
    begin(id, times, config).json()
}

/// The same with the number of its version: of each is told when it came to be.
pub fn agent_version_object(id: &str, times: Times, version: u64, config: &AgentConfig) -> Json {
    let mut out = begin(id, times, config);
    out.num("version", version);
    out.json()
}

fn begin(id: &str, times: Times, config: &AgentConfig) -> Obj {
    let mut out = Obj::new();
    out.str("id", id).str("object", "agent");
    out.num("created_at", times.created_at / 1000).num("updated_at", times.updated_at / 1000);
    out.raw("metadata", Json::of(&config.metadata).text());
    write_config(&mut out, config);
    out
}
