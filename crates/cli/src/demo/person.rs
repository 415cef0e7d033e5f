//! The person: asked once, with one key.

use std::io::{BufRead, Read, Write, stderr, stdin};
use std::process::{Command, Stdio};

use tokio::sync::oneshot;

/// Asks on the terminal and reads a line.
pub(crate) fn agrees(question: &str) -> bool {
    let mut err = stderr();
    err.write_all(question.as_bytes()).and_then(|()| err.flush()).ok();
    let mut line = String::new();
    stdin().lock().read_line(&mut line).ok();
    matches!(line.trim(), "y" | "Y" | "yes")
}

/// Tells when `a` is pressed. While it lives the terminal gives single keys, where `stty` can make it so; otherwise
/// `a` and Enter do it.
#[derive(Debug)]
pub(crate) struct Key {
    pressed: oneshot::Receiver<()>,
    before: Option<String>,
}

impl Key {
    pub(crate) fn wait() -> Key {
        let before = stty(&["-g"]).filter(|_| stty(&["-icanon", "-echo", "min", "1"]).is_some());
        let (press, pressed) = oneshot::channel();
        // It may wait for ever: the process does not wait for it.
        std::thread::spawn(move || {
            for byte in stdin().lock().bytes().map_while(Result::ok) {
                if matches!(byte, b'a' | b'A') {
                    press.send(()).ok();
                    return;
                }
            }
        });
        Key { pressed, before }
    }

    pub(crate) async fn pressed(&mut self) {
        if (&mut self.pressed).await.is_err() {
            // The input has ended, and nobody will press anything.
            std::future::pending::<()>().await;
        }
    }
}

impl Drop for Key {
    fn drop(&mut self) {
        if let Some(before) = &self.before {
            stty(&[before.trim()]);
        }
    }
}

fn stty(words: &[&str]) -> Option<String> {
    let out = Command::new("stty").args(words).stdin(Stdio::inherit()).output().ok()?;
    out.status.success().then(|| String::from_utf8_lossy(&out.stdout).into_owned())
}
