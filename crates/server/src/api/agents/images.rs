//! Images that are named by an address are passed on as they are, and fetched by nobody here. A provider may stand in
//! our own network, so an address in there is refused before it is sent to one.

use std::net::IpAddr;

use everstate_kernel::input::NewItem;
use everstate_kernel::item::{Body, Part};
use everstate_tools::address::{Reach, refusal};
use url::{Host, Url};

use crate::error::{ApiError, Result, codes};

/// Refuses what points at this machine or the networks it is in.
pub(super) fn check_items(items: &[NewItem], param: &str) -> Result<()> {
    for (i, item) in items.iter().enumerate() {
        if let Body::Message { parts, .. } = &item.body {
            check(parts, &format!("{param}[{i}].content"))?;
        }
    }
    Ok(())
}

pub(super) fn check(parts: &[Part], param: &str) -> Result<()> {
    for (i, part) in parts.iter().enumerate() {
        let Part::Image { url, .. } = part else { continue };
        let param = format!("{param}[{i}].image_url");
        if let Some(why) = inside(url) {
            let text = format!("Invalid '{param}': images from there are not shown to a model.");
            return Err(ApiError::new(&codes::INVALID_VALUE, text)
                .param(param)
                .word("invalid_image_url")
                .why(why));
        }
    }
    Ok(())
}

/// Why nobody should be sent there.
fn inside(url: &str) -> Option<String> {
    if url.starts_with("data:") {
        return None;
    }
    let Ok(url) = Url::parse(url) else { return Some("the address cannot be read".to_owned()) };
    if !url.username().is_empty() || url.password().is_some() {
        return Some("the address holds a name or a password".to_owned());
    }
    let address = match url.host() {
        None => return Some("the address has no host".to_owned()),
        Some(Host::Ipv4(it)) => IpAddr::V4(it),
        Some(Host::Ipv6(it)) => IpAddr::V6(it),
        Some(Host::Domain(name)) => {
            let name = name.trim_end_matches('.').to_ascii_lowercase();
            let local = ["localhost", "local", "internal", "localdomain", "home.arpa"];
            // A name without a dot is looked up in the network it is asked in.
            let is_local = !name.contains('.')
                || local.iter().any(|it| name == *it || name.ends_with(&format!(".{it}")));
            return is_local.then(|| format!("`{name}` is a name of a private network"));
        }
    };
    refusal(address, Reach::Outside).map(|why| format!("{address} is {why}"))
}

#[cfg(test)]
mod tests;
