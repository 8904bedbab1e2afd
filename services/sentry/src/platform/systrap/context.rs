//! Guest threads.

use std::{
    sync::{
        Arc,
        atomic::Ordering::{Acquire, Relaxed, Release, SeqCst},
    },
    task::Poll,
};

use bulkhead_ipc::Errno;

use super::{
    frame::{Frame, StatePlace},
    layout::*,
    record::{Record, process_time},
    space::Space,
    stub::Shared,
    waiting::{Call, Waiting},
};
use crate::{
    executor::{current_worker, futex_wake, instant, now, turn},
    platform::{Event, Registers},
};

/// One guest thread's CPU state, on its host thread. Dropping it parks the host thread.
pub struct Context {
    space: Arc<Space>,
    slot: usize,
    /// Until the host thread has stopped for the first time there is no frame: what shall be in it is kept here.
    starting: Option<Box<Starting>>,
    /// The next event, known at resume: it was interrupted while it was stopped.
    at_once: Option<Registers>,
    /// The worker's turn in which the last event was seen.
    seen_in: u64,
    /// Where its extended state is.
    extended: Extended,
    /// The extended state is a fresh process', of which only what the CPU looks at was written.
    initial: bool,
    /// When it stopped, and how long the guest had run.
    stopped_at: u64,
    ran: u64,
    waiting: Waiting,
    /// What its control block holds: the registers with which it stopped, if it did so in a thunk.
    found: Registers,
}

/// Where the extended state of a stopped thread is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Extended {
    /// In the signal frame: it was stopped by a signal (or has not started).
    Frame,
    /// In its CPU only, and so out of reach: it stopped in a thunk.
    Cpu,
    /// In its CPU, and in the slot.
    Saved,
    /// In the slot, to be loaded.
    Set,
}

struct Starting {
    registers: Registers,
    state: Vec<u8>,
}

impl Context {
    pub(super) fn new(space: &Arc<Space>, cpu: usize) -> Result<Context, Errno> {
        let shared = &space.shared;
        let slot = space.stub.take_thread(shared)?;
        let record = shared.records.get(slot);
        record.generation.fetch_add(1, SeqCst);
        record.interrupt.store(false, SeqCst);
        record.interrupted_at.store(0, Relaxed);
        record.ran.store(0, Relaxed);
        record.seen.store(0, Relaxed);
        record.moved.store(0, Relaxed);
        record.allowed.store(u64::MAX, Relaxed);
        record.process_base.store(process_time(space.stub.pid), Relaxed);
        shared.move_home(slot, cpu.min(shared.cpus.len() - 1));
        let state = shared.form.initial();
        let starting = if record.fresh.load(Acquire) {
            Some(Box::new(Starting { registers: Registers::default(), state }))
        } else {
            let frame = Frame { regions: &shared.regions, form: &shared.form, slot };
            frame.clean();
            frame.set_extended_state(StatePlace::Frame, &state);
            None
        };
        Ok(Context {
            space: space.clone(),
            slot,
            starting,
            at_once: None,
            seen_in: 0,
            extended: Extended::Frame,
            initial: false,
            stopped_at: 0,
            ran: 0,
            waiting: Waiting::default(),
            found: Registers::default(),
        })
    }

    fn shared(&self) -> &Shared {
        &self.space.shared
    }
    fn record(&self) -> &Record {
        self.shared().records.get(self.slot)
    }
    fn control(&self) -> &Control {
        self.shared().regions.control(self.slot)
    }
    fn frame(&self) -> Frame<'_> {
        Frame { regions: &self.shared().regions, form: &self.shared().form, slot: self.slot }
    }

    /// Lets the guest run with these registers, which [`Context::can_take`] must agree to. Then [`Context::poll_event`] tells when it stops.
    pub fn resume(&mut self, registers: &Registers) {
        self.resume_at(registers, instant());
    }

    /// As [`Context::resume`], by somebody who has just looked at the clock ([`instant`]).
    pub fn resume_at(&mut self, registers: &Registers, time: u64) {
        let call = Call { ran: self.ran, took: time.saturating_sub(self.stopped_at), waited: self.seen_in != turn() };
        if let Some(worker) = current_worker() {
            self.waiting.choose(&self.space.shared, self.slot, worker, &call);
        }
        let record = self.record();
        if call.waited {
            record.waits.fetch_add(1, Relaxed);
        }
        record.since.store(time, Relaxed);
        // Said first, looked second; an interrupter does it the other way round, so one of the two sees the other.
        record.running.store(true, SeqCst);
        self.shared().count_in(self.slot);
        if record.interrupt.load(SeqCst) && record.interrupt.swap(false, SeqCst) {
            self.stopped();
            self.at_once = Some(*registers);
            return;
        }
        if let Some(starting) = &mut self.starting {
            starting.registers = *registers;
            return;
        }
        if self.in_thunk() {
            debug_assert!(self.can_take(registers));
            self.frame().change_thunk_registers(&self.found, registers);
            self.control().next.store(if self.extended == Extended::Set { LOAD } else { GO_ON }, Relaxed);
        } else {
            self.frame().set_registers(registers);
        }
        self.release();
    }

    /// Whether it stopped in a thunk: a call that came without a signal.
    pub fn in_thunk(&self) -> bool {
        self.extended != Extended::Frame
    }

    /// Whether it can be resumed with these registers as it is, rather than after [`Context::complete`]: the way back from a thunk leaves gs
    /// alone, and jumps, which a jump to no address at all would spoil.
    pub fn can_take(&self, registers: &Registers) -> bool {
        !self.in_thunk() || registers.gs_base == 0 && registers.rip < GUEST_END
    }

    /// Whether the extended state is at hand; if not, [`Context::save`] fetches it. It can be set in any case.
    pub fn has_extended_state(&self) -> bool {
        self.extended != Extended::Cpu
    }

    /// Has a thread that stopped in a thunk save its extended state.
    pub async fn save(&mut self) {
        let mut tries = 0;
        while self.extended == Extended::Cpu {
            self.go_for(SAVE, &mut tries).await;
        }
    }

    /// Has a thread that stopped in a thunk raise a signal, so that it can be resumed with any registers. `registers` stay what the
    /// guest is resumed with.
    pub async fn complete(&mut self) {
        let mut tries = 0;
        while self.in_thunk() {
            self.go_for(STOP_FULLY, &mut tries).await;
        }
    }

    /// Sends a thread that stopped in a thunk on to its next stop, in the stub's code.
    async fn go_for(&mut self, next: u32, tries: &mut u32) {
        *tries += 1;
        if *tries > 3 {
            // Somebody forges the control block.
            self.space.stub.kill();
            self.extended = Extended::Frame;
            return;
        }
        // This is no short call; and its host thread's CPU is the place to go on at.
        self.waiting.ended(&self.space.shared, self.slot);
        let record = self.record();
        record.since.store(instant(), Relaxed);
        record.running.store(true, SeqCst);
        self.shared().count_in(self.slot);
        self.control().next.store(next, Relaxed);
        self.release();
        std::future::poll_fn(|cx| {
            let stopped = || self.control().state.load(SeqCst) != RUNNING || self.record().lost.load(SeqCst);
            if stopped() {
                return Poll::Ready(());
            }
            let previous = self.record().waker.lock().replace(cx.waker().clone());
            drop(previous);
            if stopped() { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
        self.stopped();
        if self.record().lost.load(SeqCst) {
            self.extended = Extended::Frame;
        } else {
            self.note_stop(self.control().kind.load(Relaxed));
        }
    }

    /// Notes where the extended state is after a stop of this kind.
    fn note_stop(&mut self, kind: u32) {
        let before = std::mem::replace(
            &mut self.extended,
            match kind {
                STOPPED_IN_THUNK => Extended::Cpu,
                STOPPED_SAVED => Extended::Saved,
                _ => Extended::Frame,
            },
        );
        if kind == STOPPED_RETURNING && before == Extended::Set {
            // The guest did not run, and what was to be loaded perhaps was not.
            let frame = self.frame();
            match self.initial {
                true => frame.reset_extended_state(StatePlace::Frame),
                false => frame.set_extended_state(StatePlace::Frame, &frame.extended_state(StatePlace::Saved)),
            }
        } else {
            self.initial = false;
        }
    }

    /// Sets the host thread free.
    fn release(&mut self) {
        let control = self.control();
        if control.state.swap(RUNNING, SeqCst) == SLEEPING {
            futex_wake(&control.state);
            self.waiting.slept(&self.space.shared, self.slot);
        }
        // Who wished to interrupt it before the swap saw a stopped thread, and left the signal to us.
        if self.record().interrupt.load(SeqCst) {
            signal(self.record());
        }
    }

    /// Notes that it does not run.
    fn stopped(&mut self) {
        let time = instant();
        let record = self.space.shared.records.get(self.slot);
        self.stopped_at = time;
        self.ran = time.saturating_sub(record.since.load(Relaxed));
        // Nobody else writes it.
        record.ran.store(record.ran.load(Relaxed) + self.ran, Release);
        record.interrupted_at.store(0, Relaxed);
        record.running.store(false, SeqCst);
        // While it is served from another CPU its own one waits for the answer with it.
        if !self.waiting.is_served(&self.space.shared, self.slot) {
            self.shared().count_out(self.slot);
        }
    }

    /// When it stopped last ([`instant`]).
    pub fn stopped_at(&self) -> u64 {
        self.stopped_at
    }

    /// `Ready` once after each `resume`, with `registers` filled in. On `Pending`, `cx`'s waker is called when it stops.
    pub fn poll_event(&mut self, cx: &mut std::task::Context<'_>, registers: &mut Registers) -> Poll<Event> {
        if let Some(kept) = self.at_once.take() {
            *registers = kept;
            return Poll::Ready(Event::Interrupted);
        }
        loop {
            if let Some(event) = self.look(registers) {
                return Poll::Ready(event);
            }
            if self.waiting.spin(&self.space.shared, self.slot) {
                continue;
            }
            let previous = self.record().waker.lock().replace(cx.waker().clone());
            drop(previous);
            // It may have stopped before the waker was there.
            if self.control().state.load(SeqCst) == RUNNING && !self.record().lost.load(SeqCst) {
                self.waiting.summon(&self.space.shared, self.slot);
                return Poll::Pending;
            }
        }
    }

    /// What happened, if it has stopped for something that its task should know.
    fn look(&mut self, registers: &mut Registers) -> Option<Event> {
        if self.record().lost.load(SeqCst) {
            self.stopped();
            return Some(Event::Lost);
        }
        if self.control().state.load(Acquire) == RUNNING {
            return None;
        }
        if self.record().fresh.load(Relaxed) {
            self.first_stop();
            return None;
        }
        let kind = self.control().kind.load(Relaxed);
        self.note_stop(kind);
        let event = match kind {
            STOPPED_IN_THUNK | STOPPED_SAVED => Event::Syscall,
            _ => self.frame().event(self.control().signal.load(Relaxed) as i32),
        };
        let found = match kind {
            STOPPED_BY_SIGNAL => self.frame().registers(),
            _ => self.frame().thunk_registers(),
        };
        if event == Event::Interrupted && !self.record().interrupt.swap(false, SeqCst) {
            // Interrupted by somebody whose wish was fulfilled already: on it goes.
            if kind == STOPPED_RETURNING {
                self.frame().set_registers(&found);
            }
            self.release();
            return None;
        }
        *registers = found;
        self.found = found;
        self.stopped();
        self.seen_in = turn();
        Some(event)
    }

    /// The host thread has reached the place in the stub's code where all begin.
    fn first_stop(&mut self) {
        let expected = self.shared().regions.slot_address(self.slot) + self.shared().form.frame_offset() as u64;
        let found = self.control().frame.load(Relaxed);
        if found != expected {
            tracing::error!(found, expected, "a signal frame is not where this program expects it");
            self.space.stub.kill();
        }
        self.record().fresh.store(false, SeqCst);
        if let Some(starting) = self.starting.take() {
            self.frame().clean();
            self.frame().set_extended_state(StatePlace::Frame, &starting.state);
            self.frame().set_registers(&starting.registers);
            self.release();
        }
    }

    /// Handle to stop it while it runs, for other tasks.
    pub fn interrupter(&self) -> Interrupter {
        Interrupter { shared: self.space.shared.clone(), slot: self.slot, generation: self.record().generation.load(SeqCst) }
    }

    /// The x87/SSE/AVX state of the stopped thread in XSAVE format, exactly as a Linux signal frame's fpstate has it (with
    /// fpx_sw_bytes filled in and FP_XSTATE_MAGIC2 behind it). It must be at hand ([`Context::has_extended_state`]).
    pub fn extended_state(&self) -> Vec<u8> {
        debug_assert!(self.has_extended_state());
        match &self.starting {
            Some(starting) => starting.state.clone(),
            None if self.initial => self.shared().form.initial(),
            None => self.frame().extended_state(self.state_place()),
        }
    }

    /// Sets it; the bytes come from the guest and are checked (EINVAL leaves the state as it was).
    pub fn set_extended_state(&mut self, mut state: Vec<u8>) -> Result<(), Errno> {
        self.shared().form.check(&mut state)?;
        self.initial = false;
        match &mut self.starting {
            Some(starting) => starting.state = state,
            None => {
                self.frame().set_extended_state(self.state_place(), &state);
                self.note_change();
            }
        }
        Ok(())
    }

    /// Back to the state of a fresh process (a signal's handler).
    pub fn reset_extended_state(&mut self) {
        if let Some(starting) = &mut self.starting {
            starting.state = self.space.shared.form.initial();
        } else {
            self.frame().reset_extended_state(self.state_place());
            self.initial = true;
            self.note_change();
        }
    }

    fn state_place(&self) -> StatePlace {
        if self.in_thunk() { StatePlace::Saved } else { StatePlace::Frame }
    }

    fn note_change(&mut self) {
        if self.in_thunk() {
            self.extended = Extended::Set;
        }
    }

    /// CPU time in nanoseconds used by this guest thread since its context was made: (user code).
    pub fn cpu_time(&self) -> u64 {
        self.record().cpu_time()
    }

    /// Host thread id, for diagnostics.
    pub fn host_tid(&self) -> i32 {
        self.record().tid.load(Relaxed)
    }
}

impl Drop for Context {
    fn drop(&mut self) {
        let record = self.record();
        record.generation.fetch_add(1, SeqCst);
        drop(record.waker.lock().take());
        let running = record.running.load(SeqCst);
        // A starting one never ran; one that runs guest code must not go on.
        if running && self.starting.is_none() {
            signal(record);
        }
        self.waiting.ended(&self.space.shared, self.slot);
        if running {
            self.stopped();
        }
        self.space.stub.park(self.shared(), self.slot);
    }
}

/// Interrupts the host thread.
fn signal(record: &Record) {
    // SAFETY: plain system call. Within the stub's process, so a forged tid reaches only its own threads.
    unsafe { libc::syscall(libc::SYS_tgkill, record.pid.load(Relaxed), record.tid.load(Relaxed), INTERRUPT) };
}

/// Stops a running guest thread.
#[derive(Clone)]
pub struct Interrupter {
    shared: Arc<Shared>,
    slot: usize,
    generation: u64,
}

impl Interrupter {
    /// Makes a running guest thread stop with [`Event::Interrupted`] soon; if it is stopped, its next `resume` comes back with
    /// `Interrupted` at once (or with another event). Cheap when it is not running guest code.
    pub fn interrupt(&self) {
        let record = self.shared.records.get(self.slot);
        if record.generation.load(SeqCst) != self.generation {
            return;
        }
        record.interrupt.store(true, SeqCst);
        // A thread that has stopped, but was not looked at yet, needs no signal: its next resume sees the wish.
        if record.running.load(SeqCst)
            && !record.fresh.load(SeqCst)
            && self.shared.regions.control(self.slot).state.load(SeqCst) == RUNNING
        {
            let _ = record.interrupted_at.compare_exchange(0, now(), Relaxed, Relaxed);
            signal(record);
        }
    }

    /// Has the thread run on these CPUs only (bit n: the CPU with index n, of which there must be one; those that have no bit are always
    /// allowed). Where it runs elsewhere it moves now.
    pub fn set_affinity(&self, cpus: u64) {
        let record = self.shared.records.get(self.slot);
        if record.generation.load(SeqCst) == self.generation {
            record.allowed.store(cpus, Relaxed);
            self.shared.keep_within(self.slot);
        }
    }

    /// As [`Context::cpu_time`], from any thread.
    pub fn cpu_time(&self) -> u64 {
        let record = self.shared.records.get(self.slot);
        if record.generation.load(SeqCst) == self.generation { record.cpu_time() } else { 0 }
    }
}
