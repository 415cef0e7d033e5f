//! Takes traces as a collector does, and reads as much of them as the tests ask about: OTLP, protobuf over HTTP, by the
//! numbers of opentelemetry-proto.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Span {
    pub(crate) trace: String,
    pub(crate) id: String,
    pub(crate) parent: String,
    pub(crate) name: String,
    pub(crate) kind: u64,
    pub(crate) start: u64,
    pub(crate) end: u64,
    pub(crate) attributes: BTreeMap<String, String>,
    pub(crate) failed: bool,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Got {
    pub(crate) spans: Vec<Span>,
    pub(crate) resource: BTreeMap<String, String>,
    /// Heads of the requests, and all their bytes.
    pub(crate) heads: Vec<String>,
    pub(crate) bytes: Vec<u8>,
}

pub(crate) struct Collector {
    pub(crate) url: String,
    got: Arc<Mutex<Got>>,
}

impl Collector {
    pub(crate) async fn open() -> Collector {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let got: Arc<Mutex<Got>> = Arc::default();
        let taking = got.clone();
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                tokio::spawn(take(stream, taking.clone()));
            }
        });
        Collector { url, got }
    }

    pub(crate) fn got(&self) -> Got {
        self.got.lock().unwrap().clone()
    }
}

async fn take(mut stream: TcpStream, got: Arc<Mutex<Got>>) {
    let mut bytes = Vec::new();
    loop {
        let head_end = bytes.windows(4).position(|it| it == b"\r\n\r\n");
        let head = head_end.map(|it| String::from_utf8_lossy(&bytes[..it]).to_lowercase());
        let length = head.as_deref().and_then(|it| {
            let (_, rest) = it.split_once("content-length: ")?;
            rest.lines().next()?.trim().parse::<usize>().ok()
        });
        if let (Some(head), Some(at), Some(length)) = (head, head_end, length)
            && bytes.len() >= at + 4 + length
        {
            let body: Vec<u8> = bytes.drain(..at + 4 + length).skip(at + 4).collect();
            let mut got = got.lock().unwrap();
            got.heads.push(head);
            read_request(&body, &mut got);
            got.bytes.extend(body);
        } else {
            let mut more = vec![0; 16 << 10];
            match stream.read(&mut more).await {
                Ok(n) if n > 0 => bytes.extend(&more[..n]),
                _ => return,
            }
            continue;
        }
        let answer =
            "HTTP/1.1 200 OK\r\ncontent-type: application/x-protobuf\r\ncontent-length: 0\r\n\r\n";
        stream.write_all(answer.as_bytes()).await.ok();
    }
}

/// `ExportTraceServiceRequest`.
fn read_request(bytes: &[u8], got: &mut Got) {
    for resource_spans in all(bytes, 1) {
        for resource in all(resource_spans, 1) {
            got.resource.extend(attributes(resource, 1));
        }
        for scope_spans in all(resource_spans, 2) {
            got.spans.extend(all(scope_spans, 2).into_iter().map(read_span));
        }
    }
}

fn read_span(bytes: &[u8]) -> Span {
    let text = |n| all(bytes, n).first().map(|it| String::from_utf8_lossy(it).into_owned());
    let hex = |n| -> String {
        all(bytes, n).first().unwrap_or(&&[][..]).iter().map(|it| format!("{it:02x}")).collect()
    };
    let status = all(bytes, 15);
    Span {
        trace: hex(1),
        id: hex(2),
        parent: hex(4),
        name: text(5).unwrap_or_default(),
        kind: number(bytes, 6),
        start: number(bytes, 7),
        end: number(bytes, 8),
        attributes: attributes(bytes, 9),
        failed: status.first().is_some_and(|it| number(it, 3) == 2),
    }
}

fn attributes(bytes: &[u8], field: u64) -> BTreeMap<String, String> {
    let read = |it: &&[u8]| {
        let key = String::from_utf8_lossy(all(it, 1)[0]).into_owned();
        (key, all(it, 2).first().map(|it| value(it)).unwrap_or_default())
    };
    all(bytes, field).iter().map(read).collect()
}

/// `AnyValue`.
fn value(bytes: &[u8]) -> String {
    match fields(bytes).first() {
        Some((1, Field::Bytes(text))) => String::from_utf8_lossy(text).into_owned(),
        Some((2, Field::Number(it))) => (*it == 1).to_string(),
        Some((3, Field::Number(it))) => it.to_string(),
        Some((4, Field::Number(it))) => f64::from_bits(*it).to_string(),
        Some((5, Field::Bytes(list))) => {
            all(list, 1).into_iter().map(value).collect::<Vec<_>>().join(",")
        }
        other => format!("{:?}", other.map(|it| it.0)),
    }
}

enum Field<'a> {
    Number(u64),
    Bytes(&'a [u8]),
}

fn fields(mut bytes: &[u8]) -> Vec<(u64, Field<'_>)> {
    let mut fields = Vec::new();
    while !bytes.is_empty() {
        let tag = varint(&mut bytes);
        let field = match tag & 7 {
            0 => Field::Number(varint(&mut bytes)),
            1 => Field::Number(u64::from_le_bytes(take_n(&mut bytes, 8).try_into().unwrap())),
            2 => {
                let n = varint(&mut bytes) as usize;
                Field::Bytes(take_n(&mut bytes, n))
            }
            5 => {
                let four: [u8; 4] = take_n(&mut bytes, 4).try_into().unwrap();
                Field::Number(u64::from(u32::from_le_bytes(four)))
            }
            other => panic!("no wire type {other}"),
        };
        fields.push((tag >> 3, field));
    }
    fields
}

fn all(bytes: &[u8], field: u64) -> Vec<&[u8]> {
    let of_field = |(n, it)| match it {
        Field::Bytes(bytes) if n == field => Some(bytes),
        _ => None,
    };
    fields(bytes).into_iter().filter_map(of_field).collect()
}

fn number(bytes: &[u8], field: u64) -> u64 {
    let of_field = |(n, it)| match it {
        Field::Number(number) if n == field => Some(number),
        _ => None,
    };
    fields(bytes).into_iter().find_map(of_field).unwrap_or(0)
}

fn varint(bytes: &mut &[u8]) -> u64 {
    let mut number = 0;
    for shift in (0..64).step_by(7) {
        let byte = take_n(bytes, 1)[0];
        number |= u64::from(byte & 127) << shift;
        if byte < 128 {
            break;
        }
    }
    number
}

fn take_n<'a>(bytes: &mut &'a [u8], n: usize) -> &'a [u8] {
    let (taken, rest) = bytes.split_at(n);
    *bytes = rest;
    taken
}
