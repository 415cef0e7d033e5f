//! Where traces go: `[telemetry]`, and the variables that every OpenTelemetry program reads, which come first.
//! Nothing is sent anywhere unless an endpoint is named.

use std::collections::BTreeMap;

use everstate_runtime::secret::SecretRef;
use serde::{Deserialize, Serialize};
use serde_json::json;
use url::Url;

use super::{Origin, Pick, Set, Shown};
use crate::error::{ApiError, Result, codes};

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TelemetryConfig {
    /// Where OTLP is taken over HTTP; `/v1/traces` is added.
    pub endpoint: Option<String>,
    pub service_name: Option<String>,
    /// A name of [`SAMPLERS`].
    pub sampler: Option<String>,
    /// Of `traceidratio`: from 0 to 1.
    pub sampler_arg: Option<f64>,
    /// Sent along to the endpoint.
    pub headers: BTreeMap<String, SecretRef>,
}

/// What is known of tracing before the start.
#[derive(Clone, Debug)]
pub struct Traces {
    /// The whole URL spans are posted to.
    pub endpoint: Set<String>,
    /// `None`: it stands in OTEL_RESOURCE_ATTRIBUTES.
    pub service_name: Option<Set<String>>,
    pub sampler: Set<Sampler>,
    pub headers: BTreeMap<String, SecretRef>,
}

/// Which traces are told.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sampler {
    /// Who comes with a trace context has decided already.
    pub parent_based: bool,
    pub share: Share,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Share {
    All,
    None,
    /// From 0 to 1.
    Ratio(f64),
}

/// As OTEL_TRACES_SAMPLER knows them; the first is the default.
pub const SAMPLERS: [&str; 6] = [
    "parentbased_always_on",
    "parentbased_always_off",
    "parentbased_traceidratio",
    "always_on",
    "always_off",
    "traceidratio",
];

pub const SERVICE_NAME: &str = "everstate";
const PATH: &str = "/v1/traces";
const PROTOCOL: &str = "http/protobuf";

impl Sampler {
    fn read(name: &str, arg: Option<f64>) -> Option<Sampler> {
        let (parent_based, base) = match name.strip_prefix("parentbased_") {
            Some(base) => (true, base),
            None => (false, name),
        };
        let share = match base {
            "always_on" => Share::All,
            "always_off" => Share::None,
            "traceidratio" => Share::Ratio(arg.unwrap_or(1.0)),
            _ => return None,
        };
        Some(Sampler { parent_based, share })
    }

    pub fn name(&self) -> String {
        let base = match self.share {
            Share::All => "always_on".to_owned(),
            Share::None => "always_off".to_owned(),
            Share::Ratio(ratio) => format!("traceidratio, {ratio}"),
        };
        if self.parent_based { format!("parentbased_{base}") } else { base }
    }
}

/// `None`: nothing is traced.
pub(super) fn load(pick: &Pick<'_>, file: &TelemetryConfig) -> Result<Option<Traces>> {
    let var = |name: &str| (pick.env)(name).filter(|it| !it.trim().is_empty());
    let is_off = var("OTEL_SDK_DISABLED").is_some_and(|it| it.eq_ignore_ascii_case("true"))
        || var("OTEL_TRACES_EXPORTER").is_some_and(|it| it == "none");
    let Some(endpoint) = endpoint(pick, file)?.filter(|_| !is_off) else { return Ok(None) };
    for name in ["OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL"] {
        match var(name) {
            Some(protocol) if protocol != PROTOCOL => {
                let text = format!("{name} is `{protocol}`, and spans are sent as {PROTOCOL} only");
                return Err(invalid(text).attempt(format!(
                    "export OTEL_EXPORTER_OTLP_TRACES_PROTOCOL={PROTOCOL}, and the endpoint's port for it (usually 4318)"
                )));
            }
            Some(_) => break,
            None => {}
        }
    }
    let named_elsewhere =
        var("OTEL_RESOURCE_ATTRIBUTES").is_some_and(|it| it.contains("service.name="));
    let service_name = pick.text("", None, "OTEL_SERVICE_NAME", &file.service_name, SERVICE_NAME);
    let service_name =
        Some(service_name).filter(|it| !(named_elsewhere && it.origin == Origin::Default));
    let name = pick.text("", None, "OTEL_TRACES_SAMPLER", &file.sampler, SAMPLERS[0]);
    let arg =
        match var("OTEL_TRACES_SAMPLER_ARG") {
            Some(text) => Some(text.trim().parse::<f64>().map_err(|_| {
                invalid(format!("OTEL_TRACES_SAMPLER_ARG is `{text}`, and no number"))
            })?),
            None => file.sampler_arg,
        };
    if arg.is_some_and(|it| !(0.0..=1.0).contains(&it)) {
        return Err(invalid("the share of traces that is told is a number from 0 to 1".to_owned()));
    }
    let sampler = Sampler::read(&name.value, arg).ok_or_else(|| {
        let text = format!("there is no sampler `{}`", name.value);
        invalid(text).why(format!("known here: {}", SAMPLERS.join(", ")))
    })?;
    let sampler = Set { value: sampler, origin: name.origin };
    Ok(Some(Traces { endpoint, service_name, sampler, headers: file.headers.clone() }))
}

impl Traces {
    pub(super) fn shown(&self, file: &Origin) -> Vec<Shown> {
        let (endpoint, sampler) = (&self.endpoint, &self.sampler);
        let mut rows =
            vec![Shown::new("telemetry.endpoint", json!(endpoint.value), &endpoint.origin)];
        if let Some(name) = &self.service_name {
            rows.push(Shown::new("telemetry.service_name", json!(name.value), &name.origin));
        }
        rows.push(Shown::new("telemetry.sampler", json!(sampler.value.name()), &sampler.origin));
        for (name, secret) in &self.headers {
            let key = format!("telemetry.headers.{name}");
            rows.push(Shown::new(&key, json!(secret.to_string()), file));
        }
        rows
    }
}

fn endpoint(pick: &Pick<'_>, file: &TelemetryConfig) -> Result<Option<Set<String>>> {
    const WHOLE: &str = "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT";
    const BASE: &str = "OTEL_EXPORTER_OTLP_ENDPOINT";
    let var = |name: &str| (pick.env)(name).filter(|it| !it.trim().is_empty());
    let under = |base: &str| format!("{}{PATH}", base.trim_end_matches('/'));
    let set = match (var(WHOLE), var(BASE), &file.endpoint) {
        (Some(whole), _, _) => Set { value: whole, origin: Origin::Env(WHOLE) },
        (None, Some(base), _) => Set { value: under(&base), origin: Origin::Env(BASE) },
        (None, None, Some(base)) => Set { value: under(base), origin: pick.file() },
        (None, None, None) => return Ok(None),
    };
    // What stands before an `@` may be a password, so the text itself is not repeated.
    let url = Url::parse(&set.value).map_err(|err| {
        invalid(format!("the address for traces ({}) is no URL: {err}", set.origin))
    })?;
    if !["http", "https"].contains(&url.scheme()) || !url.has_host() {
        let text = format!("the address for traces ({}) is not one of http or https", set.origin);
        return Err(invalid(text));
    }
    if !url.username().is_empty() || url.password().is_some() {
        let text = format!("the address for traces ({}) holds a name or a password", set.origin);
        return Err(invalid(text).attempt("[telemetry.headers]\nauthorization = \"env:NAME\""));
    }
    Ok(Some(set))
}

fn invalid(text: String) -> ApiError {
    ApiError::new(&codes::CONFIG_INVALID, text)
}
