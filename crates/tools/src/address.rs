//! Which addresses a tool may be sent to. Pure: who looks them up, and connects to no other, is `fetch`.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// How far a tool may reach.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// Only the public internet.
    Outside,
    /// Also this machine and the private networks it is in.
    Inside,
}

/// Why this address is not to be connected to.
pub fn refusal(address: IpAddr, reach: Reach) -> Option<&'static str> {
    let class = match address {
        IpAddr::V4(it) => v4(it),
        IpAddr::V6(it) => v6(it),
    };
    match (class, reach) {
        (Class::Public, _) | (Class::Inside(_), Reach::Inside) => None,
        (Class::Inside(why), Reach::Outside) | (Class::Never(why), _) => Some(why),
    }
}

enum Class {
    Public,
    /// Fine for a tool that is allowed inside.
    Inside(&'static str),
    /// Nothing there is a service for a tool, and some of it hands out a machine's credentials.
    Never(&'static str),
}

fn v4(address: Ipv4Addr) -> Class {
    match address.octets() {
        // Not in a reserved range, but every machine of one cloud has its host there.
        [168, 63, 129, 16] | [100, 100, 100, 200] => Class::Never("a cloud's metadata service"),
        [169, 254, ..] => Class::Never("link-local, where clouds keep their metadata service"),
        [0, ..] => Class::Never("unspecified"),
        [224..=239, ..] => Class::Never("multicast"),
        [240..=255, ..] => Class::Never("reserved"),
        [192, 0, 0 | 2, _] | [192, 88, 99, _] | [198, 51, 100, _] | [203, 0, 113, _] => {
            Class::Never("reserved")
        }
        [127, ..] => Class::Inside("loopback"),
        [10, ..] | [172, 16..=31, ..] | [192, 168, ..] => Class::Inside("private"),
        [100, 64..=127, ..] => Class::Inside("a carrier's private network"),
        [198, 18..=19, ..] => Class::Inside("a test network"),
        _ => Class::Public,
    }
}

fn v6(address: Ipv6Addr) -> Class {
    if address == Ipv6Addr::LOCALHOST {
        return Class::Inside("loopback");
    }
    let [a, b, c, d, e, f, g, h] = address.segments();
    let tail = |high: u16, low: u16| v4(Ipv4Addr::from(u32::from(high) << 16 | u32::from(low)));
    match (a, b) {
        // The system connects to the IPv4 address inside.
        (0, 0) if (c, d, e, f) == (0, 0, 0, 0xffff) => tail(g, h),
        // Translated: a gateway connects to the IPv4 address inside.
        (0x64, 0xff9b) if (c, d, e, f) == (0, 0, 0, 0) => tail(g, h),
        (0x2002, high) => tail(high, c),
        (0x64, 0xff9b) => Class::Never("a local translation to IPv4"),
        // Also the outdated way to hold an IPv4 address.
        (0, 0) => Class::Never("unspecified"),
        (0xfd00, 0x0ec2) | (0xfd20, 0x00ce) => Class::Never("a cloud's metadata service"),
        (0xfc00..=0xfdff, _) => Class::Inside("unique-local"),
        (0xfe80..=0xfebf, _) => Class::Never("link-local"),
        (0xff00..=0xffff, _) => Class::Never("multicast"),
        // Tunnels and assignments of protocols; examples in documents.
        (0x2001, 0..=0x01ff | 0x0db8) | (0x3fff, 0..=0x0fff) => Class::Never("reserved"),
        (0x2000..=0x3fff, _) => Class::Public,
        _ => Class::Never("reserved"),
    }
}

#[cfg(test)]
mod tests;
