//! Is a provider's address our own? A server that is its own upstream asks itself for ever.

use std::net::{IpAddr, Ipv6Addr, SocketAddr, ToSocketAddrs, UdpSocket};

use reqwest::Url;

/// Whether requests to `base_url` would come back to a server that listens at `listen`. Looks up the host's name, so
/// it may take as long as that takes: ask once, when a provider is opened.
pub fn is_ourselves(base_url: &str, listen: SocketAddr) -> bool {
    let Ok(url) = Url::parse(base_url) else { return false };
    let Some(port) = url.port_or_known_default().filter(|it| *it == listen.port()) else {
        return false;
    };
    let Some(host) = url.host_str() else { return false };
    let name = host.trim_start_matches('[').trim_end_matches(']').trim_end_matches('.');
    let is_local = name == "localhost" || name.ends_with(".localhost");
    let addresses: Vec<IpAddr> = match name.parse() {
        Ok(address) => vec![address],
        Err(_) if is_local => vec![IpAddr::from([127, 0, 0, 1]), IpAddr::from(Ipv6Addr::LOCALHOST)],
        Err(_) => (name, port)
            .to_socket_addrs()
            .map(|it| it.map(|it| it.ip()).collect())
            .unwrap_or_default(),
    };
    addresses.into_iter().any(|it| reaches(it.to_canonical(), listen.ip().to_canonical()))
}

/// Does what is sent to `address` arrive at somebody who listens at `listen`?
fn reaches(address: IpAddr, listen: IpAddr) -> bool {
    if address == listen {
        return true;
    }
    // Connecting to "any address" reaches this machine.
    let here = address.is_loopback() || address.is_unspecified();
    if listen.is_unspecified() {
        // Only an address of this machine can be bound.
        return here || UdpSocket::bind((address, 0)).is_ok();
    }
    listen.is_loopback() && here
}

#[cfg(test)]
mod tests;
