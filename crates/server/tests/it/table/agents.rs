//! The doors `/v1/agents` and `/v1/vaults`.

use super::fates::Fate::{Ignored, Later, Nothing, Refused, Works};
use super::fates::{Op, Told, field};

const NONE: &[Told] = &[];
const PAGE: &[Told] = &[
    field("after", Works, "the id of a row; what comes after it in the order asked for"),
    field("limit", Works, "from 1 to 100; 20"),
    field("order", Works, "`asc` or `desc`; `desc`"),
];

const fn op(name: &'static str, about: &'static str, fields: &'static [Told]) -> Op {
    Op { name, fate: Works, about, fields }
}

const fn later(name: &'static str) -> Op {
    Op { name, fate: Later, about: "", fields: NONE }
}

pub(crate) const OPERATIONS: &[Op] = &[
    op("POST /v1/agents", "", SAVED),
    op("GET /v1/agents", "", PAGE),
    op("GET /v1/agents/{agent_id}", "", NONE),
    op("POST /v1/agents/{agent_id}", "what was before is kept as a version", SAVED),
    op("DELETE /v1/agents/{agent_id}", "sessions that run it go on", NONE),
    op("POST /v1/agents/sessions", "", CREATE),
    op(
        "GET /v1/agents/sessions",
        "",
        &[
            field("after", Works, "the id of a session"),
            field("limit", Works, "from 1 to 100; 20"),
            field("order", Works, "`asc` or `desc`; `desc`"),
            field("agent_id", Works, ""),
            field("metadata", Works, "`metadata[key]=value`; all of them have to be there"),
        ],
    ),
    op("GET /v1/agents/sessions/{session_id}", "", NONE),
    op("POST /v1/agents/sessions/{session_id}", "at any time, also while a turn runs", UPDATE),
    op(
        "DELETE /v1/agents/sessions/{session_id}",
        "erases it; a turn that runs has to be cancelled first",
        NONE,
    ),
    op(
        "POST /v1/agents/sessions/{session_id}/events",
        "the whole list, or none of it",
        &[
            field("events", Works, ""),
            field(
                "events[agent.session.input.message]",
                Works,
                "begins a turn; is heard by a running one at its next step",
            ),
            field(
                "events[agent.session.input.tool_result]",
                Works,
                "one that comes too late, or again, is taken and changes nothing",
            ),
            field(
                "events[agent.session.input.mcp_approval_request_result]",
                Works,
                "for calls of this server's own tools that a person has to see",
            ),
            field(
                "events[agent.session.input.computer_use_approval_request_result]",
                Ignored,
                "no such request is ever made, so none is known",
            ),
        ],
    ),
    op(
        "GET /v1/agents/sessions/{session_id}/events",
        "from the moment of subscription on; with `after=EVENT_ID`, which is ours, from there on",
        &[field("include_obfuscation", Works, "pads deltas, unless it is `false`")],
    ),
    op("GET /v1/agents/sessions/{session_id}/items", "", PAGE),
    op("GET /v1/agents/sessions/{session_id}/turns", "", PAGE),
    op("GET /v1/agents/sessions/{session_id}/turns/{turn_id}", "", NONE),
    op("GET /v1/agents/sessions/{session_id}/turns/{turn_id}/items", "", PAGE),
    op("GET /v1/agents/sessions/{session_id}/traces", "", PAGE),
    op("GET /v1/agents/sessions/{session_id}/subagents", "there are none: an empty list", PAGE),
    op("POST /v1/vaults", "", VAULT),
    op("GET /v1/vaults", "", VAULTS),
    op("GET /v1/vaults/{vault_id}", "", NONE),
    op("POST /v1/vaults/{vault_id}", "", VAULT),
    op("DELETE /v1/vaults/{vault_id}", "with its credentials", NONE),
    op(
        "POST /v1/vaults/{vault_id}/credentials",
        "",
        &[
            field("name", Works, "1 to 256 bytes"),
            field("metadata", Works, "at most 16 keys of 64 characters, with values of 512"),
            field("auth", Works, "secrets are sealed, and never told again"),
        ],
    ),
    op("GET /v1/vaults/{vault_id}/credentials", "", VAULTS),
    op("GET /v1/vaults/{vault_id}/credentials/{credential_id}", "", NONE),
    op(
        "POST /v1/vaults/{vault_id}/credentials/{credential_id}",
        "the secrets that are given replace the old ones",
        &[field("auth", Works, ""), field("metadata", Works, "")],
    ),
    op("DELETE /v1/vaults/{vault_id}/credentials/{credential_id}", "", NONE),
    Op {
        name: "/v1/agents/sessions/{session_id}/subagents/{subagent_id}*",
        fate: Nothing,
        about: "",
        fields: NONE,
    },
    later("/v1/agents/automations/*"),
    later("/v1/agents/environments/*"),
    later("/v1/agents/sessions/{session_id}/artifacts/*"),
];

const VAULT: &[Told] = &[
    field("name", Works, "1 to 256 bytes"),
    field("metadata", Works, "at most 16 keys of 64 characters, with values of 512"),
];

const VAULTS: &[Told] = &[
    field("after", Works, "the id of a row"),
    field("limit", Works, "from 1 to 100; 20"),
    field("order", Works, "`asc` or `desc`; `desc`"),
    field("metadata", Works, "`metadata[key]=value`; all of them have to be there"),
    field("status", Works, "nothing is archived: `archived` alone finds nothing"),
];

const SAVED: &[Told] = &[
    field("model", Works, "a model of `GET /v1/models`, when a session begins"),
    field("name", Works, ""),
    field("instructions", Works, ""),
    field("metadata", Works, "at most 16 keys of 64 characters, with values of 512"),
    field("reasoning", Works, ""),
    field("text", Works, ""),
    field("service_tier", Works, "told to the model's provider"),
    field("compaction", Works, ""),
    field("experimental", Works, ""),
    field("multi_agent", Works, "kept; a session that would use it is refused"),
    field("tools", Works, "kept; a session is refused that would use what is refused there"),
];

const CREATE: &[Told] = &[
    field("environment", Works, "`none`"),
    field("environment[openai_hosted]", Refused, "hosted environments are not available yet"),
    field("environment[self_hosted]", Refused, "environments of your own are not available yet"),
    field("agent_id", Works, ""),
    field("agent", Works, ""),
    field("agent.multi_agent", Refused, "subagents are not available yet"),
    field("agent.tools", Works, ""),
    field("agent.tools[function].async", Refused, "every call is waited for"),
    field("agent.tools[function].defer_loading", Refused, "functions are always there"),
    field(
        "agent.tools[mcp]",
        Refused,
        "tool servers are not available yet, but this server's own tools are, under the label `everstate`",
    ),
    field(
        "agent.tools[web_search]",
        Refused,
        "not available yet; with the mode `disabled` it is taken",
    ),
    field("agent.tools[computer_use]", Refused, "not available yet"),
    field("agent.tools[programmatic_tool_calling]", Refused, "not available yet"),
    field("input", Works, ""),
    field("metadata", Works, "at most 16 keys of 64 characters, with values of 512"),
    field("prompt_cache_options", Works, "told to the model's provider"),
    field("review", Works, ""),
    field(
        "spend_control",
        Works,
        "US cents; a turn that may spend no more pauses, and goes on when the limit is raised",
    ),
    field("stream", Works, "the body ends when the session has come to rest"),
    field("stream_options", Works, ""),
    field("vault_ids", Works, ""),
];

const UPDATE: &[Told] = &[
    field("agent", Works, ""),
    field("agent.tools", Works, "from the next model call on"),
    field("agent.tools[function].async", Refused, "every call is waited for"),
    field("agent.tools[function].defer_loading", Refused, "functions are always there"),
    field("agent.tools[mcp]", Refused, "as when a session is created"),
    field("agent.tools[web_search]", Refused, "as when a session is created"),
    field("agent.tools[computer_use]", Refused, "as when a session is created"),
    field("agent.tools[programmatic_tool_calling]", Refused, "as when a session is created"),
    field("metadata", Works, "replaces what was there"),
    field("prompt_cache_options", Works, ""),
    field("review", Works, ""),
    field("spend_control", Works, ""),
];
