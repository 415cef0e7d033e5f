//! Time that passes only when nobody has anything to do.

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};

use async_trait::async_trait;
use everstate_kernel::ids::Millis;
use everstate_runtime::ports::Clock;

/// A day is more than any test has to wait for.
const TOO_LONG: Millis = 86_400_000;
pub(crate) const START: Millis = 1_700_000_000_000;

#[derive(Clone, Debug, Default)]
pub(crate) struct TestClock(Arc<Mutex<Inner>>);

#[derive(Debug, Default)]
struct Inner {
    passed: Millis,
    sleepers: BTreeMap<(Millis, u64), Waker>,
    n_sleeps: u64,
}

impl TestClock {
    /// Runs a test on one thread. Whenever all its tasks wait, the clock jumps to the next moment somebody waits for.
    pub(crate) fn run<T>(&self, test: impl Future<Output = T>) -> T {
        let clock = self.clone();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .on_thread_park(move || clock.jump())
            .build()
            .unwrap();
        let too_late = self.sleep(self.now() + TOO_LONG);
        runtime.block_on(async {
            tokio::select! {
                biased;
                done = test => done,
                () = too_late => panic!("the test waits for something that never comes"),
            }
        })
    }

    pub(crate) async fn pause(&self, ms: Millis) {
        self.sleep(self.now() + ms).await;
    }

    fn jump(&self) {
        let mut inner = self.0.lock().unwrap();
        let Some(((at, _), waker)) = inner.sleepers.pop_first() else { return };
        inner.passed = inner.passed.max(at - START);
        drop(inner);
        waker.wake();
    }

    fn sleep(&self, at: Millis) -> Sleep {
        let mut inner = self.0.lock().unwrap();
        inner.n_sleeps += 1;
        Sleep { clock: self.clone(), key: (at, inner.n_sleeps) }
    }
}

struct Sleep {
    clock: TestClock,
    key: (Millis, u64),
}

impl Future for Sleep {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let mut inner = self.clock.0.lock().unwrap();
        if START + inner.passed >= self.key.0 {
            return Poll::Ready(());
        }
        inner.sleepers.insert(self.key, cx.waker().clone());
        Poll::Pending
    }
}

impl Drop for Sleep {
    fn drop(&mut self) {
        self.clock.0.lock().unwrap().sleepers.remove(&self.key);
    }
}

#[async_trait]
impl Clock for TestClock {
    fn now(&self) -> Millis {
        START + self.0.lock().unwrap().passed
    }

    async fn sleep_until(&self, at: Millis) {
        self.sleep(at).await;
    }

    fn monotonic(&self) -> Millis {
        self.0.lock().unwrap().passed
    }

    async fn pause(&self, ms: Millis) {
        TestClock::pause(self, ms).await;
    }
}
