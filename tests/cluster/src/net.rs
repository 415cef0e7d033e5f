//! A network of our own: a bridge, and a namespace for each machine on it, joined by a pair of virtual cables. What is
//! done to it nobody else notices, and it goes with whoever made it.

use std::net::Ipv4Addr;
use std::process::{Command, Stdio};

/// A bridge of this process, with what is on it.
#[derive(Debug)]
pub(crate) struct Net {
    bridge: String,
    /// The third part of its addresses.
    part: u8,
    machines: Vec<Machine>,
}

/// A namespace on the bridge.
#[derive(Clone, Debug)]
pub(crate) struct Machine {
    /// Also the name of its end of the cable.
    name: String,
    /// The bridge's end of its cable.
    cable: String,
    pub(crate) host: Ipv4Addr,
}

impl Net {
    /// Why not, where that needs more than we may do here.
    pub(crate) fn make(machines: u8) -> Result<Net, String> {
        let pid = std::process::id();
        // Names of devices have at most 15 letters.
        let short = pid % 100_000;
        let part = u8::try_from(pid % 200).unwrap_or(0) + 20;
        let mut net = Net { bridge: format!("esb{short}"), part, machines: Vec::new() };
        let bridge = net.bridge.clone();
        run(&format!("ip link add {bridge} type bridge"))?;
        for host in [net.tools(), net.database()] {
            run(&format!("ip addr add {host}/24 dev {bridge}"))?;
        }
        run(&format!("ip link set {bridge} up"))?;
        for n in 1..=machines {
            let (name, cable) = (format!("es{n}n{short}"), format!("es{n}c{short}"));
            let host = Ipv4Addr::new(10, 213, part, n + 1);
            net.machines.push(Machine { name: name.clone(), cable: cable.clone(), host });
            for line in [
                format!("ip netns add {name}"),
                format!("ip link add {cable} type veth peer name {name}"),
                format!("ip link set {name} netns {name}"),
                format!("ip link set {cable} master {bridge}"),
                format!("ip link set {cable} up"),
                format!("ip netns exec {name} ip addr add {host}/24 dev {name}"),
                format!("ip netns exec {name} ip link set {name} up"),
                format!("ip netns exec {name} ip link set lo up"),
            ] {
                run(&line)?;
            }
        }
        Ok(net)
    }

    /// Where the bridge itself is: what the machines use, but for the database.
    pub(crate) fn tools(&self) -> Ipv4Addr {
        Ipv4Addr::new(10, 213, self.part, 1)
    }

    pub(crate) fn database(&self) -> Ipv4Addr {
        Ipv4Addr::new(10, 213, self.part, 254)
    }

    pub(crate) fn machine(&self, n: usize) -> &Machine {
        &self.machines[n]
    }
}

impl Drop for Net {
    fn drop(&mut self) {
        for it in &self.machines {
            // Its cable goes with it.
            let _ = run(&format!("ip netns del {}", it.name));
        }
        let _ = run(&format!("ip link del {}", self.bridge));
    }
}

impl Machine {
    /// A command that runs there.
    pub(crate) fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.name]).arg(program);
        command
    }

    /// Whatever it sends to an address goes to a card that nobody has: it is lost without a word.
    pub(crate) fn lose_what_goes_to(&self, to: Ipv4Addr) -> Result<(), String> {
        let (name, nobody) = (&self.name, "02:00:00:00:00:99");
        run(&format!(
            "ip netns exec {name} ip neigh replace {to} lladdr {nobody} dev {name} nud permanent"
        ))
    }

    pub(crate) fn find_again(&self, to: Ipv4Addr) -> Result<(), String> {
        let name = &self.name;
        run(&format!("ip netns exec {name} ip neigh del {to} dev {name}"))
    }

    /// Pulls the cable out, or puts it back.
    pub(crate) fn cable(&self, is_in: bool) -> Result<(), String> {
        let state = if is_in { "up" } else { "down" };
        run(&format!("ip link set {} {state}", self.cable))
    }

    /// The kernel closes its connections to a place, as if the other side had. How many it closed; an error where this
    /// kernel cannot.
    pub(crate) fn reset_connections(&self, to: Ipv4Addr, port: u16) -> Result<usize, String> {
        let name = &self.name;
        let closed = said(&format!("ip netns exec {name} ss -HKnt dst {to} dport = :{port}"))?;
        Ok(closed.lines().filter(|it| !it.trim().is_empty()).count())
    }
}

fn run(line: &str) -> Result<(), String> {
    said(line).map(drop)
}

fn said(line: &str) -> Result<String, String> {
    let mut words = line.split(' ');
    let program = words.next().unwrap_or_default();
    let output = Command::new(program).args(words).stdin(Stdio::null()).output();
    let output = output.map_err(|err| format!("`{line}`: {err}"))?;
    match output.status.success() {
        true => Ok(String::from_utf8_lossy(&output.stdout).into_owned()),
        false => Err(format!("`{line}`: {}", String::from_utf8_lossy(&output.stderr).trim())),
    }
}
