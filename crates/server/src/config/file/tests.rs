//! The reference of `everstate.toml`. The page is committed, and compared here; `UPDATE_EXPECT=1 cargo nextest run -p
//! everstate-server reference` writes it anew. Each section has to name the keys that its reader knows, no more and no
//! less, and the example, which has every key, has to be one that works.

use std::collections::BTreeSet;

use everstate_providers::config::Timeouts;
use everstate_runtime::secret::{SecretMissing, SecretRef};
use everstate_tools::Toolbox;
use expect_test::expect_file;
use secrecy::SecretString;
use serde_json::Value;

use super::*;
use crate::config::nodes::{LEASE_TTL_MS, STORE_WAIT_S};
use crate::config::{BODY_MAX_BYTES, LISTEN, STORE};

struct Section {
    title: &'static str,
    about: &'static str,
    /// What stands before a key of it in a file.
    head: &'static str,
    /// Where it is in the example.
    place: &'static str,
    keys: &'static [Key],
}

/// Its name, what it means with its unit and limit, and the default where the code has no value to ask.
type Key = (&'static str, &'static str, &'static str);

const SECTIONS: &[Section] = &[
    Section {
        title: "[server]",
        about: "Where it is reached, and where state lives.",
        head: "[server]\n",
        place: "/server",
        keys: &[
            ("listen", "address and port; `--listen` and `EVERSTATE_LISTEN` come first", ""),
            (
                "store",
                "`sqlite:PATH`, `memory:`, or `postgres://...` for many nodes ([cluster.md](../cluster.md)); a path is beside this file, a password is not in it; `--store` and `EVERSTATE_STORE` come first",
                "",
            ),
            (
                "keys",
                "where the data keys are: `postgres://...`; `--keys` and `EVERSTATE_KEYS` come first",
                "with the state",
            ),
            (
                "node",
                "of many nodes: this one's name, the same after a restart; 1 to 64 of `a-z A-Z 0-9 . _ -`; `--node-name` and `EVERSTATE_NODE_NAME` come first",
                "the host's name and the port",
            ),
            (
                "advertise",
                "of many nodes: where the others reach this one, `HOST:PORT` or a URL; `--advertise` and `EVERSTATE_ADVERTISE` come first",
                "`listen`, with the host's name if that is every address",
            ),
            (
                "lease_ttl_ms",
                "of many nodes, and the same for all: milliseconds of silence, from 500 to 120,000, after which a node has lost its sessions; `EVERSTATE_LEASE_TTL_MS` comes first",
                "",
            ),
            (
                "store_wait_s",
                "seconds for which a start waits for a database that does not answer; `EVERSTATE_STORE_WAIT_S` comes first",
                "",
            ),
            (
                "blobs",
                "where bodies over 64 KiB live: a folder, which is beside this file, or `s3://BUCKET/PREFIX`, see [blobs.md](../blobs.md); `--blobs` and `EVERSTATE_BLOBS` come first",
                "a folder beside the store, or its database",
            ),
            (
                "body_max_bytes",
                "bytes of a request's body, at least 1; `EVERSTATE_BODY_MAX_BYTES` comes first",
                "",
            ),
            (
                "master_key",
                "the key that wraps all data keys: `env:NAME`, `file:PATH` or `command:COMMAND`",
                "`EVERSTATE_MASTER_KEY`, else a file beside the store that only its owner can read",
            ),
        ],
    },
    Section {
        title: "[providers.NAME]",
        about: "Who serves models. `kind` says which defaults stand below these; see [providers.md](../providers.md). The kind `rehearsal` has keys of its own.",
        head: "[providers.x]\nkind = \"openai\"\n",
        place: "/providers/gpus",
        keys: &[
            ("kind", "a word of [providers.md](../providers.md)", "required"),
            ("base_url", "up to and including the version", "the kind's"),
            ("key", "`env:NAME` or `file:PATH`", "the kind's variable"),
            ("dialect", "`responses` or `chat`", "the kind's"),
            ("organization", "sent as `OpenAI-Organization`", ""),
            ("project", "sent as `OpenAI-Project`", ""),
            ("timeouts", "the section below", ""),
            (
                "reply_max_bytes",
                "bytes of an answer, at least 1; a longer one is broken off",
                "67108864",
            ),
            (
                "quirks",
                "where the server differs from its dialect: [providers.md](../providers.md)",
                "the kind's",
            ),
        ],
    },
    Section {
        title: "[providers.NAME.timeouts]",
        about: "Milliseconds, each from 1 to 86,400,000. They begin when the request is put on its way, `idle_ms` between two signs of life.",
        head: "[providers.x]\nkind = \"openai\"\n[providers.x.timeouts]\n",
        place: "/providers/gpus/timeouts",
        keys: &[
            ("connect_ms", "until a connection stands", ""),
            ("first_token_ms", "until the first piece of the answer", ""),
            ("idle_ms", "between two pieces, later on", ""),
            ("total_ms", "until the end of the answer", ""),
        ],
    },
    Section {
        title: "[providers.NAME.quirks]",
        about: "What a server does not know, or calls by another name. Each is true or false, but the last.",
        head: "[providers.x]\nkind = \"openai\"\n[providers.x.quirks]\n",
        place: "/providers/gpus/quirks",
        keys: &[
            ("max_tokens", "chat: the output limit is called `max_tokens`", "the kind's"),
            (
                "no_developer_role",
                "there is no `developer` role: it becomes `system`",
                "the kind's",
            ),
            ("no_stream_options", "chat: `stream_options` is refused", "the kind's"),
            ("no_parallel_tool_calls", "`parallel_tool_calls` is refused", "the kind's"),
            ("no_strict", "`strict` of a function is refused", "the kind's"),
            ("no_json_schema", "answers can be held to JSON, but to no schema", "the kind's"),
            ("no_forced_tools", "`tool_choice` knows only `auto` and `none`", "the kind's"),
            ("no_reasoning_effort", "the effort of reasoning is refused", "the kind's"),
            ("no_prompt_cache_key", "`prompt_cache_key` is refused", "the kind's"),
            ("no_store", "responses: `store` and `include` are refused", "the kind's"),
            ("short_call_ids", "call ids are exactly nine letters and digits", "the kind's"),
            ("text_results", "results of tools are plain text", "the kind's"),
            (
                "reasoning_field",
                "chat: earlier reasoning is handed back in the field of this name",
                "the kind's",
            ),
        ],
    },
    Section {
        title: "[providers.NAME], kind = \"rehearsal\"",
        about: "A simulation, not a model; scripts are told in [rehearsal.md](../rehearsal.md).",
        head: "[providers.x]\nkind = \"rehearsal\"\n",
        place: "/providers/stage",
        keys: &[
            ("kind", "`rehearsal`", "required"),
            (
                "script",
                "the script as a table, or the path of a TOML file with it",
                "it repeats what it was told",
            ),
            (
                "fail",
                "when the whole provider is down, as in [rehearsal.md](../rehearsal.md)",
                "never",
            ),
            ("timeouts", "as above", ""),
        ],
    },
    Section {
        title: "[[offers]]",
        about: "Ways to buy a model. Two may not have the same provider, scope, model and tier.",
        head: "[[offers]]\nmodel = \"m\"\nprovider = \"rehearsal\"\n",
        place: "/offers/0",
        keys: &[
            ("model", "the name a request asks for", "required"),
            ("provider", "NAME of a `[providers.NAME]`, or `openai`, or `rehearsal`", "required"),
            ("upstream_model", "what the provider calls it", "`model`"),
            (
                "scope",
                "`\"global\"`, `{ geo = \"eu\" }` or `{ region = \"eu-central-1\" }`: where it is processed",
                "",
            ),
            ("tier", "a word of the provider", ""),
            ("dialect", "`responses` or `chat`", "the provider's"),
            ("price", "the section below", ""),
            ("context_tokens", "tokens of input and output together", ""),
            ("output_tokens_max", "tokens of an answer", ""),
            ("can", "a list of `tools`, `images`, `schema`, `reasoning`", "all of them"),
            ("facts", "what is known of it, each true or false, for `[policy]`", "the provider's"),
            ("crypto_domain", "who can read its sealed reasoning", "the provider's name"),
            ("cache_ttl_ms", "milliseconds for which the provider's cache stays warm", ""),
        ],
    },
    Section {
        title: "[offers.price]",
        about: "US dollars per million tokens, at most six places after the point, best in quotes.",
        head: "[[offers]]\nmodel = \"m\"\nprovider = \"rehearsal\"\n[offers.price]\n",
        place: "/offers/0/price",
        keys: &[
            ("input", "tokens sent", "0"),
            ("cached", "tokens that the provider had in its cache", "`input`"),
            ("cache_write", "tokens written to its cache", "`input`"),
            ("output", "tokens answered, reasoning too", "0"),
        ],
    },
    Section {
        title: "[[tools]]",
        about: "Tools that the server runs; see [tools.md](../tools.md).",
        head: "[[tools]]\nname = \"x\"\nmethod = \"GET\"\nurl = \"https://bank.example/\"\n",
        place: "/tools/0",
        keys: &[
            ("kind", "`http`", "`http`"),
            ("name", "1 to 64 letters, digits, `_` and `-`; unique", "required"),
            ("description", "for the model", ""),
            ("method", "`GET`, `POST`, `PUT`, `PATCH` or `DELETE`", "required"),
            (
                "url",
                "`{name}` stands for an argument in a path segment or a query value",
                "required",
            ),
            ("headers", "secrets as `env:NAME`, `file:PATH` or `Bearer env:NAME`", "none"),
            ("parameters", "JSON Schema of the arguments", "the URL's arguments, as text"),
            ("output", "JSON Schema of the answer", "any"),
            ("timeout_ms", "milliseconds for one try, 1 to 3,600,000", "30000"),
            ("safety", "`read_only`, `idempotent` or `neither`", "`neither`"),
            ("approval", "does a person have to say yes to each call?", "false"),
            ("allow_private", "may it reach this machine and private networks?", "false"),
            ("answer_max_bytes", "bytes of an answer; a longer one is an error", "1048576"),
        ],
    },
    Section {
        title: "[limits]",
        about: "Of every turn.",
        head: "[limits]\n",
        place: "/limits",
        keys: &[
            ("steps_max", "model calls", ""),
            ("attempts_max", "tries of one step", ""),
            ("restarts_max", "how often an answer that had been shown may be begun anew", ""),
            ("calls_max", "tool calls that we run; further ones are answered `denied`", ""),
            ("bytes_max", "bytes of items that a turn may bring forth", ""),
            ("tokens_max", "tokens of input and output together", ""),
            ("cost_max", "millionths of a US dollar", "no limit"),
            (
                "work_ms_max",
                "milliseconds of work; waiting for a person or a client does not count",
                "",
            ),
            ("approval_ms_max", "milliseconds for which an approval may wait", ""),
            (
                "backoff_ms",
                "milliseconds of the first pause before the same offer is tried again; it doubles",
                "",
            ),
            (
                "hedge_after_ms",
                "milliseconds of silence after which a second offer is asked too",
                "never",
            ),
        ],
    },
    Section {
        title: "[projects.NAME]",
        about: "What holds for one project; `[projects.\"*\"]` is for every project that says nothing itself.",
        head: "[projects.x]\n",
        place: "/projects/acme",
        keys: &[
            ("money", "the section below; see [limits.md](../limits.md)", "no limit"),
            ("limits", "the section below; see [limits.md](../limits.md)", "no limit"),
            ("retention", "the section below; see [retention.md](../retention.md)", "for ever"),
        ],
    },
    Section {
        title: "[projects.NAME.money]",
        about: "What its sessions may spend on models.",
        head: "[projects.x.money]\nusd = \"1\"\nper = \"day\"\n",
        place: "/projects/acme/money",
        keys: &[
            ("usd", "US dollars, at most six places after the point, in quotes", "required"),
            ("per", "`day`, `month` (both begin at midnight UTC) or `total`", "required"),
        ],
    },
    Section {
        title: "[projects.NAME.limits]",
        about: "How much each of its keys may ask for; a key may say otherwise for itself.",
        head: "[projects.x.limits]\n",
        place: "/projects/acme/limits",
        keys: &[
            ("requests_per_min", "requests a minute, at least 1", "no limit"),
            (
                "tokens_per_min",
                "input and output tokens a minute of the turns it begins, at least 1",
                "no limit",
            ),
            ("turns_max", "turns at work at the same time, at least 1", "no limit"),
        ],
    },
    Section {
        title: "[projects.NAME.retention]",
        about: "How long what it leaves is kept, in days; parts of a day are decimals. What is due is gone within ten\nminutes, or a quarter of the shortest of these times if that is less.",
        head: "[projects.x.retention]\n",
        place: "/projects/acme/retention",
        keys: &[
            (
                "sessions",
                "a session is deleted so long after the last thing that happened in it",
                "for ever",
            ),
            ("responses", "a response is deleted so long after it ended", "for ever"),
            (
                "items",
                "items are erased so long after the turn that brought them ended; `\"zero\"`: they are kept in memory only, see [retention.md](../retention.md)",
                "for ever",
            ),
            ("frames", "the stream of a turn can be read again for so long after it ended", "1"),
        ],
    },
    Section {
        title: "[policy]",
        about: "Where data may go. Everything said here has to hold.",
        head: "[policy]\n",
        place: "/policy",
        keys: &[
            ("revision", "counts the changes of this section", "0"),
            ("providers", "only these", "all"),
            ("not_providers", "none of these", "none"),
            ("within", "processed in one of these geographies or regions", "anywhere"),
            ("facts", "must be known to hold", "none"),
            ("no_facts", "must be known not to hold", "none"),
        ],
    },
    Section {
        title: "[telemetry]",
        about: "Where traces go: [telemetry.md](../telemetry.md). The variables that every OpenTelemetry program reads come first.",
        head: "[telemetry]\n",
        place: "/telemetry",
        keys: &[
            (
                "endpoint",
                "takes OTLP over HTTP; `/v1/traces` is added. `OTEL_EXPORTER_OTLP_TRACES_ENDPOINT`, which is taken whole, and `OTEL_EXPORTER_OTLP_ENDPOINT` come first",
                "nothing is traced",
            ),
            (
                "service_name",
                "what the traces call this service; `OTEL_SERVICE_NAME` comes first",
                "`everstate`",
            ),
            (
                "sampler",
                "which traces are told, in the words of `OTEL_TRACES_SAMPLER`, which comes first",
                "`parentbased_always_on`",
            ),
            (
                "sampler_arg",
                "of `traceidratio`: the share that is told, from 0 to 1; `OTEL_TRACES_SAMPLER_ARG` comes first",
                "1",
            ),
            (
                "headers",
                "sent along, each `env:NAME` or `file:PATH`; `OTEL_EXPORTER_OTLP_HEADERS` joins them",
                "none",
            ),
        ],
    },
];

const EXAMPLE: &str = r#"[server]
listen = "127.0.0.1:7070"
store = "sqlite:state.db"
blobs = "s3://our-bucket/everstate"
body_max_bytes = 67_108_864
master_key = "env:MASTER_KEY"
keys = "postgres://keys.example/everstate"
node = "node-1"
advertise = "10.0.0.7:7070"
lease_ttl_ms = 10_000
store_wait_s = 60

[providers.gpus]
kind = "compatible"
base_url = "https://gpus.example/v1"
key = "env:GPUS_KEY"
dialect = "chat"
organization = "org_1"
project = "proj_1"
timeouts = { connect_ms = 5_000, first_token_ms = 30_000, idle_ms = 30_000, total_ms = 600_000 }
reply_max_bytes = 1_048_576

[providers.gpus.quirks]
max_tokens = true
no_developer_role = true
no_stream_options = false
no_parallel_tool_calls = false
no_strict = false
no_json_schema = false
no_forced_tools = false
no_reasoning_effort = false
no_prompt_cache_key = true
no_store = false
short_call_ids = false
text_results = false
reasoning_field = "reasoning_content"

[providers.stage]
kind = "rehearsal"
script = { delay_ms = 20 }
fail = { status = 503, from = 3, times = 1 }
timeouts = { idle_ms = 1_000 }

[[offers]]
model = "llama"
provider = "gpus"
upstream_model = "llama-4-70b"
scope = { region = "eu-central-1" }
tier = "flex"
dialect = "chat"
price = { input = "0.10", cached = "0.01", cache_write = "0.125", output = "0.50" }
context_tokens = 128_000
output_tokens_max = 16_384
can = ["tools", "schema"]
facts = { training = false }
crypto_domain = "gpus"
cache_ttl_ms = 300_000

[[tools]]
kind = "http"
name = "refund"
description = "Pays a charge back"
method = "POST"
url = "https://bank.example/charges/{charge}/refund"
headers = { Authorization = "Bearer env:BANK_TOKEN" }
parameters = { type = "object", properties = { charge = { type = "string" } }, required = ["charge"] }
output = { type = "object" }
timeout_ms = 10_000
safety = "idempotent"
approval = true
allow_private = false
answer_max_bytes = 65_536

[limits]
steps_max = 64
attempts_max = 6
restarts_max = 2
calls_max = 256
bytes_max = 67_108_864
tokens_max = 20_000_000
cost_max = 500_000
work_ms_max = 3_600_000
approval_ms_max = 604_800_000
backoff_ms = 500
hedge_after_ms = 8_000

[projects.acme]
money = { usd = "50.00", per = "month" }
limits = { requests_per_min = 600, tokens_per_min = 200_000, turns_max = 20 }
retention = { sessions = 365, responses = 30, items = 90, frames = 0.5 }

[policy]
revision = 1
providers = ["gpus"]
not_providers = ["openai"]
within = ["eu-central-1"]
facts = ["zero_retention"]
no_facts = ["training"]

[telemetry]
endpoint = "http://127.0.0.1:4318"
service_name = "agents"
sampler = "parentbased_traceidratio"
sampler_arg = 0.1
headers = { x-collector-key = "env:COLLECTOR_KEY" }
"#;

fn secret(_: &SecretRef) -> std::result::Result<SecretString, SecretMissing> {
    Ok(SecretString::from("a secret"))
}

/// What the reader of a section says that it knows, when it meets a key that it does not.
fn known(head: &str) -> BTreeSet<String> {
    let text = format!("{head}no_such_key = 1\n");
    let says = match read(&text, Path::new("everstate.toml")) {
        Err(err) => err.reasons().join("\n"),
        Ok(file) => {
            let error = Toolbox::from_config(file.tools, &secret).expect_err("an unknown key");
            let (_, known) = unknown_field(&error.to_string()).expect("it names what it knows");
            format!("known here: {}", known.join(", "))
        }
    };
    let (_, known) = says.split_once("known here: ").unwrap_or_else(|| panic!("{text}: {says}"));
    known.split(", ").map(str::to_owned).collect()
}

#[test]
fn every_key_is_in_the_reference_and_in_its_example() {
    let file = read(EXAMPLE, Path::new("everstate.toml")).expect("the example is one that works");
    Toolbox::from_config(file.tools, &secret).expect("its tool too");
    let tree: Value = toml::from_str(EXAMPLE).expect("TOML");
    for section in SECTIONS {
        let mut told: BTreeSet<String> = section.keys.iter().map(|it| it.0.to_owned()).collect();
        let example = tree.pointer(section.place).and_then(Value::as_object);
        let example = example.unwrap_or_else(|| panic!("{} is not there", section.place));
        assert_eq!(told, example.keys().cloned().collect(), "{}", section.title);
        // It is read before the rest, which depends on it.
        told.remove("kind");
        assert_eq!(told, known(section.head), "{}", section.title);
    }
}

/// What the code says by itself.
fn defaults() -> Value {
    let offer = "model = \"m\"\nprovider = \"p\"\n";
    let offer: OfferConfig = toml::from_str(offer).expect("the least offer");
    serde_json::json!({
        "[server]": { "listen": LISTEN, "store": STORE, "body_max_bytes": BODY_MAX_BYTES,
            "lease_ttl_ms": LEASE_TTL_MS, "store_wait_s": STORE_WAIT_S },
        "[providers.NAME.timeouts]": Timeouts::default(),
        "[[offers]]": offer,
        "[limits]": Limits::default(),
    })
}

#[test]
fn reference_of_the_configuration() {
    let mut page = "# everstate.toml\n\n\
        <!-- Written by a test. UPDATE_EXPECT=1 cargo nextest run -p everstate-server reference -->\n\n\
        A flag beats an `EVERSTATE_...` variable, that beats the file, that beats the default. The file is the nearest\n\
        `everstate.toml`, here or above, or the one that `--config` or `EVERSTATE_CONFIG` names. A key that is not listed here is\n\
        an error, and so is a secret that is written out. `everstate config show` says every value with its origin.\n"
        .to_owned();
    let defaults = defaults();
    for Section { title, about, keys, .. } in SECTIONS {
        page.push_str(&format!(
            "\n## `{title}`\n\n{about}\n\n| key | meaning | unless said |\n| --- | --- | --- |\n"
        ));
        for (key, meaning, default) in *keys {
            let default = match &defaults[*title][*key] {
                _ if !default.is_empty() => (*default).to_owned(),
                Value::Null | Value::Object(_) => String::new(),
                Value::String(text) => format!("`{text}`"),
                value => value.to_string(),
            };
            page.push_str(&format!("| `{key}` | {meaning} | {default} |\n"));
        }
    }
    page.push_str(&format!("\n## Every key at once\n\n```toml\n{EXAMPLE}```\n"));
    expect_file!["../../../../../docs/reference/config.md"].assert_eq(&page);
}
