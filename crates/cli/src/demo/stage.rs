//! What the demo plays with: the configuration of its server, and the script of its simulated model.

use std::net::SocketAddr;
use std::path::Path;

use crate::fault::{Fault, codes};

/// What the person asks for.
pub(crate) const TASK: &str = "Order 1182 was charged twice. Put it right.";
pub(crate) const INSTRUCTIONS: &str = "You are a refund agent. First list the charges of the order. If a charge \
     was made twice, refund the second one, once, with its id and amount. Then say in one sentence what you did.";
pub(crate) const TOOLS: [&str; 2] = ["list_charges", "refund"];

/// Who plays the model.
#[derive(Clone, Debug)]
pub(crate) enum Cast {
    /// A simulation behind two made-up clouds; `slow` times slower than it could be.
    Rehearsal { slow: u64 },
    /// A real one, found in the environment.
    Live { model: String, limit_micros: u64 },
}

impl Cast {
    pub(crate) fn model(&self) -> &str {
        match self {
            Cast::Rehearsal { .. } => "rehearsal",
            Cast::Live { model, .. } => model,
        }
    }

    pub(crate) fn is_live(&self) -> bool {
        matches!(self, Cast::Live { .. })
    }
}

pub(crate) fn write(dir: &Path, cast: &Cast, bank: SocketAddr) -> Result<(), Fault> {
    let put = |name: &str, text: String| {
        let path = dir.join(name);
        std::fs::write(&path, text).map_err(|err| {
            Fault::new(&codes::FILE, format!("cannot write {}: {err}", path.display()))
        })
    };
    match cast {
        Cast::Rehearsal { slow } => {
            put("everstate.toml", format!("{CLOUDS}{}", tools(bank)))?;
            put("agent.toml", script(*slow))
        }
        Cast::Live { model, limit_micros } => {
            put("everstate.toml", format!("{}{}", live(model, *limit_micros), tools(bank)))
        }
    }
}

/// Two clouds, four ways to buy, of which the policy allows two.
const CLOUDS: &str = r#"# Written by `everstate demo`. The model is a rehearsal: a simulation that answers from agent.toml.
[limits]
cost_max = 500_000              # 50 US cents, in millionths of a dollar
backoff_ms = 200

[policy]
within = ["eu"]

[providers.cloud-a]
kind = "rehearsal"
script = "agent.toml"

[providers.cloud-b]
kind = "rehearsal"
script = "agent.toml"

[[offers]]
model = "rehearsal"
provider = "cloud-a"
scope = { geo = "eu" }
price = { input = "2.50", cached = "0.25", output = "10.00" }
cache_ttl_ms = 300_000

[[offers]]
model = "rehearsal"
provider = "cloud-b"
scope = { geo = "eu" }
price = { input = "2.75", cached = "0.28", output = "11.00" }
cache_ttl_ms = 300_000

[[offers]]
model = "rehearsal"
provider = "cloud-a"
scope = { geo = "us" }
price = { input = "2.00", cached = "0.20", output = "8.00" }
cache_ttl_ms = 300_000

[[offers]]
model = "rehearsal"
provider = "cloud-b"
scope = "global"
price = { input = "2.25", cached = "0.23", output = "9.00" }
cache_ttl_ms = 300_000
"#;

/// The price is higher than that of any small model, so that the limit holds for whichever is asked for.
fn live(model: &str, limit_micros: u64) -> String {
    format!(
        r#"# Written by `everstate demo --live`.
[limits]
cost_max = {limit_micros}
steps_max = 8

# The provider `openai` is the one that OPENAI_API_KEY, and OPENAI_BASE_URL if it is set, make usable.
[[offers]]
model = "{model}"
provider = "openai"
price = {{ input = "2.50", cached = "2.50", output = "15.00" }}
output_tokens_max = 1_000
"#
    )
}

fn tools(bank: SocketAddr) -> String {
    format!(
        r#"
[[tools]]
name = "list_charges"
description = "The charges of an order"
method = "GET"
url = "http://{bank}/orders/{{order}}/charges"
safety = "read_only"
allow_private = true
parameters = {{ type = "object", properties = {{ order = {{ type = "string" }} }}, required = ["order"] }}

[[tools]]
name = "refund"
description = "Pays a charge back. Needs a person's approval."
method = "POST"
url = "http://{bank}/refunds"
safety = "idempotent"
approval = true
allow_private = true
timeout_ms = 25_000
parameters = {{ type = "object", properties = {{ charge = {{ type = "string" }}, amount = {{ type = "string" }} }}, required = ["charge", "amount"] }}
"#
    )
}

/// Turn 1 ends where a person has to say yes; in turn 2 the first cloud is down.
fn script(slow: u64) -> String {
    format!(
        r#"strict = true

[[rules]]
when = {{ provider = "cloud-a", turn = 2 }}
error = {{ status = 503, message = "out of capacity (a simulated outage)" }}
first_delay_ms = {think}

[[rules]]
when = {{ turn = 1, step = 1 }}
calls = [{{ name = "list_charges", arguments = {{ order = "1182" }} }}]
usage = {{ input = 3104, output = 118 }}
first_delay_ms = {think}

[[rules]]
when = {{ turn = 1, step = 2 }}
calls = [{{ name = "refund", arguments = {{ charge = "ch_2", amount = "49.00 EUR" }} }}]
usage = {{ input = 3402, cached = 3072, output = 96 }}
first_delay_ms = {think}

[[rules]]
when = {{ turn = 2 }}
text = "I refunded 49.00 EUR (re_77): ch_2 was charged within a second of ch_1."
usage = {{ input = 3610, output = 141 }}
first_delay_ms = {think}
delay_ms = {piece}
"#,
        think = 80 * slow,
        piece = 6 * slow,
    )
}
