//! A slow way to a server: what is sent arrives, later.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::http::Place;
use crate::processes::pause;

#[derive(Debug)]
pub(crate) struct Relay {
    pub(crate) port: u16,
    /// What each piece waits, in each direction.
    delay_ms: Arc<AtomicU64>,
}

impl Relay {
    /// Listens at a host, at a port it finds.
    pub(crate) fn start(host: Ipv4Addr, to: Place) -> Relay {
        let listener = TcpListener::bind((host, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let delay_ms: Arc<AtomicU64> = Arc::default();
        let delay = Arc::clone(&delay_ms);
        std::thread::spawn(move || {
            for client in listener.incoming().filter_map(Result::ok) {
                let Ok(server) = TcpStream::connect(to) else { continue };
                let _ = client.set_nodelay(true).and(server.set_nodelay(true));
                let (Ok(from), Ok(back)) = (client.try_clone(), server.try_clone()) else {
                    continue;
                };
                for (from, to) in [(from, server), (back, client)] {
                    let delay = Arc::clone(&delay);
                    std::thread::spawn(move || pass(from, to, &delay));
                }
            }
        });
        Relay { port, delay_ms }
    }

    pub(crate) fn slow(&self, ms: u64) {
        self.delay_ms.store(ms, Ordering::SeqCst);
    }
}

/// Until one side ends; then both do.
fn pass(mut from: TcpStream, mut to: TcpStream, delay_ms: &AtomicU64) {
    let mut buffer = [0; 64 * 1024];
    while let Ok(n) = from.read(&mut buffer) {
        pause(Duration::from_millis(delay_ms.load(Ordering::SeqCst)));
        if n == 0 || to.write_all(&buffer[..n]).is_err() {
            break;
        }
    }
    let _ = from.shutdown(Shutdown::Both);
    let _ = to.shutdown(Shutdown::Both);
}
