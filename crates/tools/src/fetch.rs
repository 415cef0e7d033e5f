//! The one way out: every outside URL a tool names is fetched here.
//!
//! It connects only to addresses it has checked, follows redirects by hand and checks each, carries no credentials
//! over a redirect, uses no proxy from the environment, and is bounded in size and time. It never tries again: whether
//! that is safe is for the tool to know, so a failure says whether the request may have arrived.

use std::error::Error;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use reqwest::header::{self, HeaderMap, HeaderValue};
use reqwest::{Client, Method, Response, StatusCode};
use url::{Host, Url};

use crate::address::{self, Reach};

pub const REDIRECTS_MAX: usize = 5;
pub const ANSWER_BYTES_MAX: usize = 1 << 20;
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// What to ask for.
#[derive(Debug)]
pub struct Request {
    pub method: Method,
    pub url: Url,
    pub headers: HeaderMap,
    /// Sent with the first request only, never over a redirect.
    pub credentials: HeaderMap,
    pub body: Option<Bytes>,
    pub answer_bytes_max: usize,
    /// From looking up the name to the last byte, redirects included.
    pub timeout: Duration,
}

/// A complete answer, whatever its status.
#[derive(Debug)]
pub struct Reply {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Bytes,
}

/// No complete answer.
#[derive(Debug)]
pub struct Lost {
    pub why: Why,
    /// The request, or one before it that was redirected, may have reached somebody.
    pub may_have_arrived: bool,
    /// If the answer had begun.
    pub status: Option<StatusCode>,
    pub text: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// We may not go there.
    Refused,
    Unreachable,
    TimedOut,
    Broken,
    TooLarge,
    TooManyRedirects,
}

impl fmt::Display for Lost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl Error for Lost {}

/// Fetches within its reach.
#[derive(Clone, Debug)]
pub struct Fetch {
    client: Client,
    reach: Reach,
}

impl Fetch {
    pub fn new(reach: Reach) -> Result<Fetch, CannotFetch> {
        let client = Client::builder()
            .dns_resolver(Guard(reach))
            .redirect(reqwest::redirect::Policy::none())
            .retry(reqwest::retry::never())
            .referer(false)
            .no_proxy()
            // A kept connection may be closed just as a request goes out, and nobody could say whether it arrived.
            .pool_max_idle_per_host(0)
            .connect_timeout(CONNECT_TIMEOUT)
            .user_agent(concat!("everstate/", env!("CARGO_PKG_VERSION")))
            .build()
            .map_err(|error| CannotFetch(chain(&error)))?;
        Ok(Fetch { client, reach })
    }

    pub async fn fetch(&self, request: Request) -> Result<Reply, Lost> {
        let timeout = request.timeout;
        tokio::time::timeout(timeout, self.follow(request)).await.unwrap_or_else(|_| {
            let text = format!("no complete answer within {} ms", timeout.as_millis());
            Err(Lost { why: Why::TimedOut, may_have_arrived: true, status: None, text })
        })
    }

    async fn follow(&self, mut request: Request) -> Result<Reply, Lost> {
        // Repeating anything else at another place could do it twice.
        let may_follow = request.method == Method::GET;
        let mut n_redirects = 0;
        loop {
            let asked_before = n_redirects > 0;
            self.check(&request.url).map_err(|text| Lost {
                why: Why::Refused,
                may_have_arrived: asked_before,
                status: None,
                text,
            })?;
            let response = self.send(&request).await.map_err(|mut lost| {
                lost.may_have_arrived |= asked_before;
                lost
            })?;
            let location = response.headers().get(header::LOCATION);
            let next = location.filter(|_| may_follow && is_redirect(response.status()));
            let Some(next) = next else {
                return read(response, request.answer_bytes_max).await;
            };
            n_redirects += 1;
            request.url = redirected(&request.url, next, n_redirects, response.status())?;
            request.credentials.clear();
        }
    }

    /// What can be told from the URL alone. Names are checked when they are looked up.
    fn check(&self, url: &Url) -> Result<(), String> {
        let place = url.host_str().unwrap_or("nowhere");
        if !matches!(url.scheme(), "http" | "https") {
            return Err(format!("`{}:` is no scheme for a tool, use https or http", url.scheme()));
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(format!("the URL of `{place}` carries credentials: use a header"));
        }
        match url.host() {
            Some(Host::Ipv4(it)) => self.check_address(place, it.into()),
            Some(Host::Ipv6(it)) => self.check_address(place, it.into()),
            Some(Host::Domain(_)) => Ok(()),
            None => Err("the URL has no host".to_owned()),
        }
    }

    fn check_address(&self, place: &str, address: IpAddr) -> Result<(), String> {
        address::refusal(address, self.reach)
            .map_or(Ok(()), |why| Err(Forbidden::new(place, address, why).to_string()))
    }

    async fn send(&self, request: &Request) -> Result<Response, Lost> {
        let mut builder = self
            .client
            .request(request.method.clone(), request.url.clone())
            .headers(request.headers.clone())
            .headers(request.credentials.clone())
            // Nothing is decompressed, so that a small answer cannot become a large one.
            .header(header::ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        if let Some(body) = &request.body {
            builder = builder.body(body.clone());
        }
        builder.send().await.map_err(|error| lost(&error.without_url()))
    }
}

fn is_redirect(status: StatusCode) -> bool {
    matches!(status.as_u16(), 301 | 302 | 303 | 307 | 308)
}

fn redirected(
    from: &Url,
    location: &HeaderValue,
    n_redirects: usize,
    status: StatusCode,
) -> Result<Url, Lost> {
    let lost = |why, text: String| Lost { why, may_have_arrived: true, status: Some(status), text };
    if n_redirects > REDIRECTS_MAX {
        let text = format!("redirected more than {REDIRECTS_MAX} times");
        return Err(lost(Why::TooManyRedirects, text));
    }
    let to = location.to_str().ok().and_then(|it| from.join(it).ok());
    let to = to.ok_or_else(|| lost(Why::Broken, "redirected to no valid URL".to_owned()))?;
    if from.scheme() == "https" && to.scheme() != "https" {
        return Err(lost(Why::Refused, "redirected from https to an open connection".to_owned()));
    }
    Ok(to)
}

async fn read(mut response: Response, bytes_max: usize) -> Result<Reply, Lost> {
    let status = response.status();
    let headers = std::mem::take(response.headers_mut());
    let too_large = || Lost {
        why: Why::TooLarge,
        may_have_arrived: true,
        status: Some(status),
        text: format!("the answer is larger than {bytes_max} bytes"),
    };
    if response.content_length().is_some_and(|it| it > bytes_max as u64) {
        return Err(too_large());
    }
    let mut body = BytesMut::new();
    loop {
        let chunk = response.chunk().await.map_err(|error| Lost {
            why: Why::Broken,
            may_have_arrived: true,
            status: Some(status),
            text: format!("the answer broke off: {}", chain(&error.without_url())),
        })?;
        let Some(chunk) = chunk else { break };
        if body.len() + chunk.len() > bytes_max {
            return Err(too_large());
        }
        body.extend_from_slice(&chunk);
    }
    Ok(Reply { status, headers, body: body.freeze() })
}

fn lost(error: &reqwest::Error) -> Lost {
    let mut source = error.source();
    while let Some(it) = source {
        if let Some(forbidden) = it.downcast_ref::<Forbidden>() {
            return Lost {
                why: Why::Refused,
                may_have_arrived: false,
                status: None,
                text: forbidden.to_string(),
            };
        }
        source = it.source();
    }
    let unreachable = error.is_connect() || error.is_builder();
    Lost {
        why: if unreachable { Why::Unreachable } else { Why::Broken },
        may_have_arrived: !unreachable,
        status: None,
        text: chain(error),
    }
}

/// Looks names up, and gives an address to the connector only if all of the name's are allowed.
struct Guard(Reach);

impl Resolve for Guard {
    fn resolve(&self, name: Name) -> Resolving {
        let reach = self.0;
        Box::pin(async move {
            let name = name.as_str();
            let found: Vec<SocketAddr> = tokio::net::lookup_host((name, 0)).await?.collect();
            for it in &found {
                if let Some(why) = address::refusal(it.ip(), reach) {
                    return Err(Forbidden::new(name, it.ip(), why).into());
                }
            }
            Ok(Box::new(found.into_iter()) as Addrs)
        })
    }
}

#[derive(Debug)]
struct Forbidden(String);

impl Forbidden {
    fn new(place: &str, address: IpAddr, why: &str) -> Forbidden {
        let at = if place.trim_matches(['[', ']']) == address.to_string() {
            String::new()
        } else {
            format!(" is at {address}, which")
        };
        Forbidden(format!("`{place}`{at} is not to be reached from here: {why}"))
    }
}

impl fmt::Display for Forbidden {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Error for Forbidden {}

/// No connection can be made at all here: usually the machine's root certificates are missing. Opaque.
#[derive(Debug)]
pub struct CannotFetch(String);

impl fmt::Display for CannotFetch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cannot prepare connections to tools: {}", self.0)
    }
}

impl Error for CannotFetch {}

fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(it) = source {
        text = format!("{text}: {it}");
        source = it.source();
    }
    text
}
