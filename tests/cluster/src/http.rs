//! A client that waits: one question a connection, answers whole or line by line.

use std::io::{BufRead, BufReader, Error, ErrorKind, Read, Result, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::time::Duration;

/// Who asks as this may do everything.
pub(crate) const ADMIN: &str = "cluster-test-admin-key";

/// How long a server may say nothing.
const PATIENCE: Duration = Duration::from_secs(40);

/// Where somebody listens.
pub(crate) type Place = (Ipv4Addr, u16);

pub(crate) const LOOPBACK: Ipv4Addr = Ipv4Addr::LOCALHOST;

/// An answer whose body has yet to be read.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    body: BufReader<TcpStream>,
}

#[derive(Debug)]
pub(crate) struct Ask<'a> {
    pub(crate) at: Place,
    pub(crate) method: &'a str,
    pub(crate) path: &'a str,
    /// Names the request, so that it may be repeated.
    pub(crate) key: Option<&'a str>,
    pub(crate) body: &'a str,
}

impl Ask<'_> {
    pub(crate) fn send(&self) -> Result<Answer> {
        let address = SocketAddr::from(self.at);
        let mut stream = TcpStream::connect_timeout(&address, Duration::from_secs(1))?;
        stream.set_read_timeout(Some(PATIENCE))?;
        let key = self.key.map_or_else(String::new, |it| format!("Idempotency-Key: {it}\r\n"));
        // etcd takes any authorization for a token of its own, and does not know it.
        let who = match self.path.starts_with("/v3/kv/") {
            true => String::new(),
            false => format!("Authorization: Bearer {ADMIN}\r\n"),
        };
        // 1.0: the body ends with the connection, in no chunks.
        let request = format!(
            "{} {} HTTP/1.0\r\nHost: 127.0.0.1\r\n{who}{key}\
             Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{}",
            self.method,
            self.path,
            self.body.len(),
            self.body
        );
        stream.write_all(request.as_bytes())?;
        let mut body = BufReader::new(stream);
        let first = line(&mut body)?.ok_or(ErrorKind::UnexpectedEof)?;
        let status = first.split(' ').nth(1).and_then(|it| it.parse().ok());
        let status = status.ok_or_else(|| Error::other(format!("no status: {first}")))?;
        while line(&mut body)?.ok_or(ErrorKind::UnexpectedEof)?.trim() != "" {}
        Ok(Answer { status, body })
    }
}

impl Answer {
    /// `None` at its end.
    pub(crate) fn line(&mut self) -> Result<Option<String>> {
        line(&mut self.body)
    }

    pub(crate) fn text(mut self) -> Result<String> {
        let mut text = String::new();
        self.body.read_to_string(&mut text)?;
        Ok(text)
    }
}

fn line(from: &mut impl BufRead) -> Result<Option<String>> {
    let mut line = String::new();
    Ok((from.read_line(&mut line)? > 0).then_some(line))
}

/// The body of what is there; `None` if nobody answers.
pub(crate) fn get(at: Place, path: &str) -> Option<String> {
    let answer = Ask { at, method: "GET", path, key: None, body: "" }.send().ok()?;
    answer.text().ok()
}
