//! Where blobs live, as a person says it: a folder, or a bucket that speaks S3. Credentials come from the environment
//! and are never part of what is said, so that it can be shown anywhere.
//!
//! What is done there is left to [`blobs`](super).

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use everstate_runtime::ports::Down;
use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey};
use object_store::local::LocalFileSystem;
use object_store::prefix::PrefixStore;
use object_store::{BackoffConfig, ClientOptions, ObjectStore, RetryConfig};

use crate::blobs::Blobs;
use crate::sqlite::migrate::make_folder;

/// A folder or a bucket. It says nothing secret about itself.
#[derive(Clone)]
pub struct Place {
    kind: Kind,
    shown: String,
}

#[derive(Clone)]
enum Kind {
    Folder(PathBuf),
    Bucket { builder: Box<AmazonS3Builder>, prefix: String },
}

/// What is wrong with the words for a place, and what to try.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BadPlace(pub String);

/// Of the environment, only these are looked at. The credentials are the first that are whole, in this order: a key
/// of one's own, a web identity, a container's, and without any of these, the machine's.
const VARIABLES: &[&str] = &[
    "AWS_ACCESS_KEY_ID",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
    "AWS_WEB_IDENTITY_TOKEN_FILE",
    "AWS_ROLE_ARN",
    "AWS_ROLE_SESSION_NAME",
    "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
    "AWS_CONTAINER_CREDENTIALS_FULL_URI",
    "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE",
    "AWS_METADATA_ENDPOINT",
    "AWS_DEFAULT_REGION",
    "AWS_REGION",
    "AWS_ENDPOINT_URL",
    "AWS_ENDPOINT_URL_S3",
    "AWS_ENDPOINT_URL_STS",
    "AWS_VIRTUAL_HOSTED_STYLE_REQUEST",
    "AWS_ALLOW_HTTP",
    "AWS_SERVER_SIDE_ENCRYPTION",
    "AWS_SSE_KMS_KEY_ID",
    "AWS_SSE_BUCKET_KEY_ENABLED",
    "AWS_DISABLE_BULK_DELETE",
];

const OPTIONS: &str = "endpoint, region, path_style, allow_http, timeout_s, retries_max";

const TIMEOUT_S: u64 = 30;
const RETRIES_MAX: usize = 4;
const CONNECT_S: u64 = 5;

impl Place {
    pub fn folder(path: PathBuf) -> Place {
        Place { shown: path.display().to_string(), kind: Kind::Folder(path) }
    }

    /// A folder (`PATH` or `file:PATH`, relative to `base`), or `s3://BUCKET/PREFIX`, with options after a `?`:
    /// `endpoint`, `region`, `path_style`, `allow_http`, `timeout_s` (of one request, in seconds) and `retries_max`.
    pub fn from_url(
        text: &str,
        base: &Path,
        env: &dyn Fn(&str) -> Option<String>,
    ) -> Result<Place, BadPlace> {
        let bad = |why: &str| Err(BadPlace(why.to_owned()));
        if let Some(rest) = text.strip_prefix("s3://") {
            return bucket(rest, env);
        }
        let path = text.strip_prefix("file://").or_else(|| text.strip_prefix("file:"));
        match path.unwrap_or(text) {
            "" => bad("blobs need a place; try a folder, or `s3://BUCKET/PREFIX`"),
            // It may hold a secret: not a word of it is repeated.
            it if it.contains("://") || it.starts_with("s3:") => {
                bad("blobs cannot live at such a URL; try a folder, or `s3://BUCKET/PREFIX`")
            }
            path => Ok(Place::folder(base.join(path))),
        }
    }

    /// Writes, reads and removes a little object there. The error says what is wrong and what to try.
    pub async fn probe(&self) -> Result<(), Down> {
        Blobs::open(self).map_err(Down)?.probe().await.map(drop)
    }

    pub(crate) fn is_folder(&self, path: &Path) -> bool {
        matches!(&self.kind, Kind::Folder(folder) if folder == path)
    }

    /// Several machines can reach it.
    pub(crate) fn is_shared(&self) -> bool {
        matches!(self.kind, Kind::Bucket { .. })
    }

    pub(crate) fn open(&self) -> Result<Arc<dyn ObjectStore>, String> {
        match &self.kind {
            Kind::Folder(path) => {
                let failed = |why: &dyn fmt::Display| format!("cannot use {self}: {why}");
                make_folder(path).map_err(|err| failed(&err))?;
                // Objects and the folders that lead to them are flushed before a put returns.
                let folder = LocalFileSystem::new_with_prefix(path).map_err(|err| failed(&err))?;
                Ok(Arc::new(folder.with_fsync(true)))
            }
            Kind::Bucket { builder, prefix } => {
                let bucket = builder.as_ref().clone().build();
                let bucket = bucket.map_err(|err| format!("cannot use {self}: {err}"))?;
                Ok(Arc::new(PrefixStore::new(bucket, prefix.as_str())))
            }
        }
    }
}

fn bucket(text: &str, env: &dyn Fn(&str) -> Option<String>) -> Result<Place, BadPlace> {
    let (path, options) = text.split_once('?').unwrap_or((text, ""));
    let (bucket, prefix) = path.split_once('/').unwrap_or((path, ""));
    let prefix = prefix.trim_matches('/');
    if bucket.contains(['@', ':']) {
        return Err(BadPlace(
            "the URL of a bucket holds no credentials and no port: give the credentials in \
             AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, the server in `?endpoint=URL`"
                .to_owned(),
        ));
    }
    if bucket.is_empty() {
        return Err(BadPlace("`s3://` needs a bucket: s3://BUCKET/PREFIX".to_owned()));
    }
    let mut how = How::default();
    for name in VARIABLES {
        if let Some(value) = env(name).filter(|it| !it.is_empty()) {
            how.variable(name, &value)?;
        }
    }
    for option in options.split('&').filter(|it| !it.is_empty()) {
        let (name, value) = option.split_once('=').unwrap_or((option, ""));
        how.option(name, value)?;
    }
    how.place(bucket, prefix)
}

/// What is gathered from the environment and the URL; the URL comes last and wins.
#[derive(Default)]
struct How {
    builder: AmazonS3Builder,
    endpoint: Option<String>,
    region: Option<String>,
    allow_http: bool,
    timeout_s: Option<u64>,
    retries_max: Option<usize>,
}

impl How {
    fn variable(&mut self, name: &str, value: &str) -> Result<(), BadPlace> {
        match name {
            "AWS_REGION" | "AWS_DEFAULT_REGION" => self.region = Some(value.to_owned()),
            "AWS_ENDPOINT_URL" | "AWS_ENDPOINT_URL_S3" => self.endpoint = Some(value.to_owned()),
            "AWS_ALLOW_HTTP" => self.allow_http = yes(name, value)?,
            _ => {}
        }
        let key: AmazonS3ConfigKey =
            name.to_ascii_lowercase().parse().expect("the variables are known there");
        self.set(key, value);
        Ok(())
    }

    fn option(&mut self, name: &str, value: &str) -> Result<(), BadPlace> {
        let number = || {
            let number = value.parse::<u64>().ok().filter(|it| *it <= 3_600);
            number.ok_or_else(|| BadPlace(format!("`{name}` is a whole number up to 3600")))
        };
        match name {
            "endpoint" => {
                self.endpoint = Some(value.to_owned());
                self.set(AmazonS3ConfigKey::S3Endpoint, value);
            }
            "region" => {
                self.region = Some(value.to_owned());
                self.set(AmazonS3ConfigKey::Region, value);
            }
            "path_style" => {
                let hosted = !yes(name, value)?;
                self.set(AmazonS3ConfigKey::VirtualHostedStyleRequest, &hosted.to_string());
            }
            "allow_http" => self.allow_http = yes(name, value)?,
            "timeout_s" => self.timeout_s = Some(number()?.max(1)),
            "retries_max" => self.retries_max = Some(number()? as usize),
            _ if name.contains("key") || name.contains("token") || name.contains("secret") => {
                return Err(BadPlace(
                    "credentials do not belong into a URL: give them in AWS_ACCESS_KEY_ID and \
                     AWS_SECRET_ACCESS_KEY"
                        .to_owned(),
                ));
            }
            _ => {
                let why = format!("`{name}` is no option of a bucket; there are: {OPTIONS}");
                return Err(BadPlace(why));
            }
        }
        Ok(())
    }

    fn set(&mut self, key: AmazonS3ConfigKey, value: &str) {
        self.builder = std::mem::take(&mut self.builder).with_config(key, value);
    }

    fn place(self, bucket: &str, prefix: &str) -> Result<Place, BadPlace> {
        if let Some(endpoint) = &self.endpoint {
            let (scheme, rest) = endpoint.split_once("://").unwrap_or(("", ""));
            let why = match scheme {
                _ if rest.contains('@') => {
                    "the endpoint of a bucket holds no credentials: give them in AWS_ACCESS_KEY_ID \
                     and AWS_SECRET_ACCESS_KEY"
                }
                "http" if !self.allow_http => {
                    "the endpoint of the bucket speaks plain http; where nobody else can listen, \
                     allow it with `?allow_http=true` or AWS_ALLOW_HTTP=true"
                }
                "http" | "https" => "",
                _ => "the endpoint of a bucket is a URL: https://HOST or https://HOST:PORT",
            };
            if !why.is_empty() {
                return Err(BadPlace(why.to_owned()));
            }
        }
        let timeout = Duration::from_secs(self.timeout_s.unwrap_or(TIMEOUT_S));
        let client = ClientOptions::new()
            .with_allow_http(self.allow_http)
            .with_connect_timeout(timeout.min(Duration::from_secs(CONNECT_S)))
            .with_timeout(timeout);
        let retry = RetryConfig {
            backoff: BackoffConfig {
                init_backoff: Duration::from_millis(100),
                max_backoff: Duration::from_secs(3),
                base: 3.0,
            },
            max_retries: self.retries_max.unwrap_or(RETRIES_MAX),
            retry_timeout: timeout,
        };
        let builder =
            self.builder.with_bucket_name(bucket).with_client_options(client).with_retry(retry);
        let slash = if prefix.is_empty() { "" } else { "/" };
        let at = match (self.endpoint, self.region) {
            (Some(endpoint), _) => format!(" at {endpoint}"),
            (None, Some(region)) => format!(" in {region}"),
            (None, None) => String::new(),
        };
        let shown = format!("s3://{bucket}{slash}{prefix}{at}");
        let kind = Kind::Bucket { builder: Box::new(builder), prefix: prefix.to_owned() };
        Ok(Place { kind, shown })
    }
}

fn yes(name: &str, value: &str) -> Result<bool, BadPlace> {
    match value {
        "true" | "1" => Ok(true),
        "false" | "0" => Ok(false),
        _ => Err(BadPlace(format!("`{name}` is `true` or `false`"))),
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.shown)
    }
}

impl fmt::Debug for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Place({})", self.shown)
    }
}

impl fmt::Display for BadPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for BadPlace {}

#[cfg(test)]
mod tests;
