//! Asks a provider over HTTP: one connection pool for each configured provider.

use std::sync::OnceLock;
use std::time::Duration;

use async_trait::async_trait;
use aws_lc_rs::digest::{SHA256, digest};
use bytes::Bytes;
use everstate_dialects::DIALECTS;
use everstate_dialects::upstream::{Dialect, Encoded, Quirks};
use everstate_kernel::input::{Failure, FailureClass};
use everstate_kernel::offer::Offer;
use everstate_kernel::request::Request;
use everstate_runtime::ports::{Model, Prepared, ReplyStream};
use futures_util::StreamExt;
use reqwest::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use reqwest::{Url, redirect, retry};
use secrecy::{ExposeSecret, SecretString};
use tokio::time::{Instant, timeout_at};

use crate::compatible::Settings;
use crate::config::Timeouts;
use crate::kind::Credentials;
use crate::reply::{self, Arrived, Listening};
use crate::trouble::{failure, root, unsent};

/// How long an unused connection is kept.
const POOL_IDLE: Duration = Duration::from_secs(90);

const KEEP_ALIVE: Duration = Duration::from_secs(30);

/// One provider that is asked over HTTP.
#[derive(Debug)]
pub(crate) struct Client {
    /// Made when it is first needed: reading the machine's certificates takes its time.
    http: OnceLock<reqwest::Client>,
    name: String,
    /// Without a slash at its end.
    base_url: String,
    /// For offers that name none.
    dialect: &'static dyn Dialect,
    quirks: Quirks,
    headers: HeaderMap,
    key: Option<SecretString>,
    /// Why there is no key although there should be one.
    missing: Option<String>,
    timeouts: Timeouts,
    reply_max_bytes: u64,
}

impl Client {
    pub(crate) fn new(
        name: &str,
        dialect: &'static dyn Dialect,
        base_url: &Url,
        quirks: Quirks,
        key: Option<SecretString>,
        credentials: &Credentials,
        settings: Settings,
    ) -> Result<Client, String> {
        Ok(Client {
            http: OnceLock::new(),
            name: name.to_owned(),
            base_url: base_url.as_str().trim_end_matches('/').to_owned(),
            dialect,
            quirks,
            headers: headers(key.as_ref(), &settings)?,
            key,
            missing: match credentials {
                Credentials::Missing(why) => Some(why.clone()),
                Credentials::NotNeeded | Credentials::From(_) => None,
            },
            timeouts: settings.timeouts,
            reply_max_bytes: settings.reply_max_bytes,
        })
    }

    fn http(&self) -> Result<&reqwest::Client, Failure> {
        if let Some(http) = self.http.get() {
            return Ok(http);
        }
        let builder = match self.base_url.starts_with("https:") {
            true => reqwest::Client::builder(),
            // Certificates are not needed then, and a machine without any can still ask.
            false => reqwest::Client::builder().tls_certs_only([]),
        };
        let http = builder
            .user_agent(concat!("everstate/", env!("CARGO_PKG_VERSION")))
            // A prompt goes where the placement said, and nowhere a header or a variable points to.
            .redirect(redirect::Policy::none())
            .no_proxy()
            .retry(retry::never())
            .tcp_nodelay(true)
            // A model that thinks is silent for long: whatever lies between must not forget the connection.
            .tcp_keepalive(KEEP_ALIVE)
            .connect_timeout(Duration::from_millis(self.timeouts.connect_ms))
            .pool_idle_timeout(POOL_IDLE)
            .build()
            .map_err(|it| {
                let text = format!("{}: no HTTP client could be made: {}", self.name, root(&it));
                failure(FailureClass::NotFoundHere, text)
            })?;
        Ok(self.http.get_or_init(|| http))
    }

    fn dialect(&self, offer: &Offer) -> Result<&'static dyn Dialect, Failure> {
        match offer.dialect.as_str() {
            "" => Ok(self.dialect),
            name => dialect(name).map_err(|it| {
                failure(FailureClass::NotFoundHere, format!("offer `{}`: {it}", offer.id))
            }),
        }
    }
}

#[async_trait]
impl Model for Client {
    fn prepare(&self, offer: &Offer, request: &Request) -> Result<Prepared, Failure> {
        let encoded = self.dialect(offer)?.encode(offer, request, &self.quirks)?;
        Ok(prepared(encoded))
    }

    async fn send(&self, offer: &Offer, prepared: Prepared) -> Result<ReplyStream, Failure> {
        let dialect = self.dialect(offer)?;
        let url = format!("{}{}", self.base_url, dialect.path());
        let listening = Listening {
            place: format!("{} ({url})", self.name),
            sent: prepared.bytes.len() as u64,
            since: Instant::now(),
            timeouts: self.timeouts.clone(),
            bytes_max: self.reply_max_bytes,
            secret: self.key.clone(),
        };
        if let Some(why) = &self.missing {
            let text = format!("was not asked, its key is missing: {why}");
            return Err(listening.failure(FailureClass::Auth, &text));
        }
        let request =
            self.http()?.post(&url).headers(self.headers.clone()).body(prepared.bytes).send();
        let (deadline, silence) = listening.deadline(listening.since, false);
        let response = match timeout_at(deadline, request).await {
            Err(_) => return Err(listening.failure(FailureClass::Timeout, &silence)),
            Ok(Err(it)) => return Err(unsent(&it, &listening.place, self.timeouts.connect_ms)),
            Ok(Ok(response)) => response,
        };
        let arrived = Arrived {
            status: response.status().as_u16(),
            headers: response.headers().clone(),
            body: response.bytes_stream().map(|it| it.map_err(|cut| root(&cut))).boxed(),
        };
        reply::read(arrived, dialect, offer, listening).await
    }
}

/// The dialect of this name.
pub(crate) fn dialect(name: &str) -> Result<&'static dyn Dialect, String> {
    everstate_dialects::dialect(name).ok_or_else(|| {
        let known = DIALECTS.iter().map(|it| it.name()).collect::<Vec<_>>().join(", ");
        format!("there is no dialect `{name}`: known are {known}")
    })
}

/// Encoded bytes, and the hash of the part that a cache may hold.
pub(crate) fn prepared(encoded: Encoded) -> Prepared {
    let prefix = digest(&SHA256, &encoded.body[..encoded.prefix.min(encoded.body.len())]);
    Prepared {
        prefix: prefix.as_ref().iter().map(|it| format!("{it:02x}")).collect(),
        bytes: Bytes::from(encoded.body),
        left_behind: encoded.left_behind,
    }
}

fn headers(key: Option<&SecretString>, settings: &Settings) -> Result<HeaderMap, String> {
    let mut headers = HeaderMap::new();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(ACCEPT, HeaderValue::from_static("text/event-stream"));
    if let Some(key) = key {
        let mut value = HeaderValue::from_str(&format!("Bearer {}", key.expose_secret()))
            .map_err(|_| "the key contains characters that no HTTP header may have".to_owned())?;
        value.set_sensitive(true);
        headers.insert(AUTHORIZATION, value);
    }
    for (name, value) in
        [("openai-organization", &settings.organization), ("openai-project", &settings.project)]
    {
        if let Some(text) = value {
            let value = HeaderValue::from_str(text)
                .map_err(|_| format!("`{text}` cannot be sent as {name}: not plain text"))?;
            headers.insert(HeaderName::from_static(name), value);
        }
    }
    Ok(headers)
}
