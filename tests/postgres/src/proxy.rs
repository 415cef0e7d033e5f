//! A relay in front of a server that cuts connections where a test wants it: also when a request has arrived and its
//! answer has not.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

#[derive(Debug)]
pub struct Proxy {
    port: u16,
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    to: u16,
    closed: AtomicBool,
    /// One in so many answers is dropped, and its connection cut. 0: none.
    one_in: AtomicU64,
    random: AtomicU64,
    n_cut: AtomicU64,
    open: Mutex<Vec<TcpStream>>,
}

impl Proxy {
    /// Listens on a port of loopback and relays to another one.
    pub fn to(port: u16) -> Proxy {
        let listener = TcpListener::bind("127.0.0.1:0").expect("loopback has a free port");
        let inner = Arc::new(Inner {
            to: port,
            closed: AtomicBool::new(false),
            one_in: AtomicU64::new(0),
            random: AtomicU64::new(0x2545_f491_4f6c_dd1d),
            n_cut: AtomicU64::new(0),
            open: Mutex::default(),
        });
        let port = listener.local_addr().expect("it is bound").port();
        let accepting = Arc::clone(&inner);
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                if accepting.closed.load(Ordering::SeqCst) {
                    return;
                }
                accepting.relay(stream);
            }
        });
        Proxy { port, inner }
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// From here on one in `n` answers, by chance, is not passed on: its connection is cut in its place. 0: none.
    pub fn cut_one_in(&self, n: u64) {
        self.inner.one_in.store(n, Ordering::SeqCst);
    }

    /// A URL that leads to the port behind it, leading here.
    pub fn before(&self, url: &str) -> String {
        url.replace(&format!(":{}/", self.inner.to), &format!(":{}/", self.port))
    }

    /// How many were cut so far.
    pub fn n_cut(&self) -> u64 {
        self.inner.n_cut.load(Ordering::SeqCst)
    }

    /// Cuts all that are open now.
    pub fn cut_all(&self) {
        let mut open = self.inner.open.lock().expect("nobody panics while holding it");
        for stream in open.drain(..) {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.inner.closed.store(true, Ordering::SeqCst);
        // Whoever accepts hears of it.
        let _ = TcpStream::connect(("127.0.0.1", self.port));
        self.cut_all();
    }
}

impl Inner {
    fn relay(self: &Arc<Inner>, client: TcpStream) {
        let Ok(server) = TcpStream::connect(("127.0.0.1", self.to)) else { return };
        let _ = client.set_nodelay(true).and(server.set_nodelay(true));
        let copies =
            [client.try_clone(), client.try_clone(), server.try_clone(), server.try_clone()];
        let [Ok(kept), Ok(reader), Ok(writer), Ok(kept_too)] = copies else { return };
        self.open.lock().expect("nobody panics while holding it").extend([kept, kept_too]);
        std::thread::spawn(move || pass(reader, writer, || true));
        let inner = Arc::clone(self);
        std::thread::spawn(move || pass(server, client, || inner.may_pass()));
    }

    fn may_pass(&self) -> bool {
        let one_in = self.one_in.load(Ordering::SeqCst);
        let next = |mut x: u64| {
            x ^= x << 13;
            x ^= x >> 7;
            Some(x ^ x << 17)
        };
        let drawn = self.random.fetch_update(Ordering::SeqCst, Ordering::SeqCst, next);
        let cut = one_in > 0 && drawn.is_ok_and(|it| it.is_multiple_of(one_in));
        self.n_cut.fetch_add(u64::from(cut), Ordering::SeqCst);
        !cut
    }
}

/// Until one side ends, or something may not pass; then both do.
fn pass(mut from: TcpStream, mut to: TcpStream, may_pass: impl Fn() -> bool) {
    let mut buffer = [0; 16 * 1024];
    while let Ok(n) = from.read(&mut buffer) {
        if n == 0 || !may_pass() || to.write_all(&buffer[..n]).is_err() {
            break;
        }
    }
    let _ = from.shutdown(Shutdown::Both);
    let _ = to.shutdown(Shutdown::Both);
}
