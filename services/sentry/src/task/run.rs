//! The main loop of a guest thread, as one future.

use std::future::poll_fn;

use super::{RunState, Thread};
use crate::{
    abi::Arguments,
    executor::{self, Executor},
    platform::{Event, Fault},
    signal::{self, Disposition},
    syscalls::{filter, table},
};

/// Runs a guest thread until it ends, and ends it.
pub(crate) async fn run(mut thread: Thread) {
    // When the last call ended, unless something else was done since.
    let mut time = None;
    loop {
        match signal::deliver(&mut thread).await {
            Disposition::Resume => {}
            Disposition::Stop => {
                thread.cpu.set_state(RunState::Stopped);
                signal::stopped(&mut thread).await;
                thread.cpu.set_state(RunState::Running);
                time = None;
                continue;
            }
            Disposition::Exit(_) | Disposition::ExitThread => break,
        }
        if !thread.signals.enter_guest() {
            continue;
        }
        let event = guest(&mut thread, time.take()).await;
        thread.signals.leave_guest();
        thread.call = None;
        match outside_thunks(&mut thread, event) {
            Event::Syscall => time = Some(system_call(&mut thread).await),
            Event::Fault(fault) => take_fault(&mut thread, &fault),
            Event::Interrupted => {}
            Event::Lost => {
                tracing::warn!(
                    pid = thread.process.pid,
                    tid = thread.tid(),
                    "the host process of a guest process died; the guest process is killed"
                );
                thread.process.begin_exit(libc::SIGKILL);
                break;
            }
        }
    }
    if thread.kernel.tracer.is_on() {
        let status = (thread.process.thread_count() == 1).then(|| super::exit::status(&thread));
        thread.kernel.tracer.ended(&thread, status);
    }
    super::exit::exit(thread).await;
}

/// Starts a new thread on the worker where it is to live. (Not an `async fn`: a future that contained its own kind would not
/// be known to be `Send`.)
pub(super) fn spawn(thread: Thread, home: usize) {
    Executor::spawn(home, run(thread));
}

/// What happened, in terms of the guest's own code; has call sites that trap often rewritten.
fn outside_thunks(thread: &mut Thread, event: Event) -> Event {
    if thread.context.in_thunk() {
        if event == Event::Syscall {
            thread.task.memory.read().count_call(thread.registers.rip);
        }
        return event;
    }
    let memory = thread.memory();
    match event {
        Event::Syscall => {
            let user = thread.credentials().euid;
            memory.count_trap(&mut thread.registers, user);
            event
        }
        Event::Interrupted | Event::Fault(_) => memory.leave_thunk(event, &mut thread.registers),
        Event::Lost => event,
    }
}

/// Calls whose handlers need the extended state.
fn needs_extended_state(number: u64) -> bool {
    matches!(number as i64, libc::SYS_clone | libc::SYS_clone3 | libc::SYS_fork | libc::SYS_vfork)
}

/// RFLAGS.TF.
const SINGLE_STEP: u64 = 0x100;

/// Lets the guest run until it stops. `time` is when the clock was looked at, if that was just now.
async fn guest(thread: &mut Thread, mut time: Option<u64>) -> Event {
    if !thread.context.can_take(&thread.registers) {
        thread.context.complete().await;
        time = None;
    }
    let Thread { context, registers, .. } = thread;
    context.resume_at(registers, time.unwrap_or_else(executor::instant));
    poll_fn(|cx| context.poll_event(cx, registers)).await
}

/// One system call. The result goes to rax; codes that say how to restart are left there for the delivery of signals. Returns when
/// it ended.
async fn system_call(thread: &mut Thread) -> u64 {
    let registers = &thread.registers;
    let number = registers.rax;
    let arguments = Arguments([registers.rdi, registers.rsi, registers.rdx, registers.r10, registers.r8, registers.r9]);
    thread.call = Some(number);
    let mut start = thread.context.stopped_at();
    if needs_extended_state(number) && !thread.context.has_extended_state() {
        thread.context.save().await;
        start = executor::instant();
    }
    let task = thread.task.clone();
    let tracer = &task.kernel.tracer;
    let traced = if tracer.is_on() { tracer.begin(thread, number, &arguments) } else { None };
    let (result, end) = match filter::refused(thread, number, &arguments) {
        Some(result) => (result, executor::instant()),
        None => task.metered(start, number, table::dispatch(thread, number, arguments)).await,
    };
    if let Some(traced) = traced {
        tracer.returned(thread, *traced, result, start, end);
    }
    thread.registers.rax = match result {
        Ok(value) => value,
        Err(errno) => {
            tracing::trace!(tid = task.tid(), number, ?arguments, %errno, "system call failed");
            errno.to_return()
        }
    };
    if number == libc::SYS_rt_sigreturn as u64 && thread.registers.eflags & SINGLE_STEP != 0 {
        // One instruction of the guest's is to run before the trap, and none of the stub's.
        thread.context.complete().await;
    }
    end
}

/// A CPU exception: the address space resolves it, or it becomes a signal.
fn take_fault(thread: &mut Thread, fault: &Fault) {
    let (signal, code) = if fault.is_page_fault() {
        match thread.memory().handle_fault(fault, thread.registers.rsp) {
            Ok(()) => return,
            Err(signal) => signal,
        }
    } else {
        (fault.signal, fault.code)
    };
    signal::raise_fault(thread, fault, signal, code);
}
