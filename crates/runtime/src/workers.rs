//! Work outside: a task each, named by its effect, ended when it is not wanted any more.

mod model;
mod tool;

use std::panic::AssertUnwindSafe;

use everstate_kernel::effect::Effect;
use everstate_kernel::input::Input;
use futures_util::FutureExt;
use tokio::sync::mpsc::UnboundedSender;
use tokio::task::AbortHandle;

use crate::table::Mail;

pub(crate) use model::ModelWork;
pub(crate) use tool::ToolWork;

/// A task under way. Dropping it ends the task.
#[derive(Debug)]
pub(crate) struct Running {
    task: AbortHandle,
    /// It goes on when it is no longer wanted: what it did outside cannot be called back, only learned.
    pub(crate) to_the_end: bool,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Starts work that ends with an input, `broken` if it panics.
pub(crate) fn start(
    effect: Effect,
    work: impl Future<Output = Input> + Send + 'static,
    broken: Input,
    to_the_end: bool,
    mail: UnboundedSender<Mail>,
) -> Running {
    let work = AssertUnwindSafe(work).catch_unwind();
    let task = tokio::spawn(async move {
        let input = Box::new(work.await.unwrap_or(broken));
        // Without a driver there is nobody to hear it; the next owner settles what became of it.
        mail.send(Mail::Done { effect, input }).ok();
    });
    Running { task: task.abort_handle(), to_the_end }
}
