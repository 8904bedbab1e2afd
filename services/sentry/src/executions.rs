//! Programs that `exec` runs in the container, by the supervisor's numbers for them.

use std::{collections::BTreeMap, os::fd::OwnedFd, sync::Arc};

use bulkhead_ipc::{
    service::Control,
    setup::{Execution, ExecutionNews, Report},
};
use parking_lot::Mutex;

use crate::{
    executor::Executor,
    kernel::Kernel,
    server::tell,
    signal::{self, SignalInfo},
    task::{self, Process},
    tty::{console, job},
};

/// Those that were ordered and have not ended. Clones are the same table.
#[derive(Clone, Default)]
pub(crate) struct Executions {
    running: Arc<Mutex<BTreeMap<u32, State>>>,
}

enum State {
    /// Its program is being loaded.
    Loading,
    /// So it is, and it was to be killed meanwhile.
    Unwanted,
    Running(Arc<Process>),
}

impl Executions {
    /// Runs a program; what becomes of it is reported.
    pub fn execute(&self, kernel: &Arc<Kernel>, control: &Control, number: u32, execution: Execution, fds: Vec<OwnedFd>) {
        if self.running.lock().insert(number, State::Loading).is_some() {
            tracing::warn!(number, "the supervisor gives two executions one number");
        }
        let (own, kernel, control) = (self.clone(), kernel.clone(), control.clone());
        Executor::spawn(Executor::choose_home(), async move {
            let news = |news| tell(&control, &Report::Execution { number, news });
            let (files, terminal) = match console::standard_files(&kernel, &execution.program, fds) {
                Ok(files) => files,
                Err(errno) => {
                    own.running.lock().remove(&number);
                    return news(ExecutionNews::Failed(format!("cannot use an inherited file: {errno}")));
                }
            };
            let (ender, end_control) = (own.clone(), control.clone());
            let on_end = Box::new(move |status| {
                ender.running.lock().remove(&number);
                tell(&end_control, &Report::Execution { number, news: ExecutionNews::Ended(status) });
            });
            match task::enter(&kernel, &execution.program, files, on_end) {
                Ok(thread) => {
                    if let Some(terminal) = terminal {
                        job::give(&thread.process, &terminal, thread.process.pid, thread.process.pid);
                    }
                    news(ExecutionNews::Started(thread.process.pid));
                    own.run(number, &thread.process);
                    thread.run().await;
                }
                Err(error) => {
                    if let Some(terminal) = terminal {
                        terminal.release_console();
                    }
                    own.running.lock().remove(&number);
                    news(ExecutionNews::Failed(error.to_string()));
                }
            }
        });
    }

    /// It is loaded and about to run.
    fn run(&self, number: u32, process: &Arc<Process>) {
        let before = self.running.lock().insert(number, State::Running(process.clone()));
        if matches!(before, Some(State::Unwanted)) {
            signal::send_from_outside(process, SignalInfo::user(libc::SIGKILL, 0, 0));
        }
    }

    /// Sends a signal to one; while it is being loaded, only SIGKILL has an effect.
    pub fn signal(&self, number: u32, signal: i32) {
        let process = match self.running.lock().get_mut(&number) {
            Some(State::Running(process)) => process.clone(),
            Some(state) if signal == libc::SIGKILL => {
                *state = State::Unwanted;
                return;
            }
            _ => return,
        };
        signal::send_from_outside(&process, SignalInfo::user(signal, 0, 0));
    }
}
