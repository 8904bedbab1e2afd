//! The signal frame in a context slot: the stopped thread's registers and extended state.
//!
//! The kernel writes it, `rt_sigreturn` loads it, the sentry reads and changes it in place. Guest code can change it too (other
//! threads of its stub map the slot), so every word is read once and checked where it matters to anybody but the guest.

use std::sync::atomic::{
    AtomicU32, AtomicU64,
    Ordering::{Relaxed, SeqCst},
};

use bulkhead_ipc::Errno;

use super::{layout::*, regions::Regions};
use crate::platform::{Event, Fault, PlatformError, Registers};

/// `struct rt_sigframe`: return address, ucontext (304 bytes), siginfo (128 bytes).
const FRAME_SIZE: usize = 8 + 304 + 128;
const STACK_POINTER: usize = 24;
/// Registers in the frame's order.
const R8: usize = 48;
const SEGMENTS: usize = 192;
const ERROR: usize = 200;
const TRAP: usize = 208;
const CR2: usize = 224;
const FPSTATE: usize = 232;
const MASK: usize = 304;
const INFO_CODE: usize = 312 + 8;
const INFO_ADDRESS: usize = 312 + 16;
const INFO_ARCH: usize = 312 + 28;

/// cs = user 64-bit code, ss = user data, gs = fs = 0.
const USER_SEGMENTS: u64 = 0x002b_0000_0000_0033;
const ARCH_X86_64: u32 = 0xc000_003e;

/// Where `fpx_sw_bytes` lies in the state, and what it says.
const SOFTWARE: usize = 464;
const MAGIC1: u32 = 0x4650_5853;
const MAGIC2: u32 = 0x4650_5845;
/// MXCSR, and its mask behind it.
const MXCSR: usize = 24;
const INITIAL_MXCSR: u32 = 0x1f80;
/// The XSAVE header behind the legacy area.
const HEADER: usize = 512;

/// The form of the extended state on this host.
#[derive(Clone, Debug)]
pub struct ExtendedState {
    /// Bytes, without the second magic number.
    size: usize,
    features: u64,
    mxcsr_mask: u32,
    /// How far below the top of an alternate stack the host puts the state, and the frame.
    state_depth: usize,
    frame_depth: usize,
}

/// What the probe's handler saw: size, features, MXCSR mask, address of the state, address of the frame.
static PROBED: [AtomicU64; 5] = [const { AtomicU64::new(0) }; 5];

extern "C" fn probe(_signal: i32, _info: *mut libc::siginfo_t, context: *mut libc::c_void) {
    // SAFETY: the kernel gives a handler with SA_SIGINFO a ucontext whose fpregs points to the state in the frame.
    unsafe {
        let state = (*context.cast::<libc::ucontext_t>()).uc_mcontext.fpregs.cast::<u8>();
        if state.is_null() || state.add(SOFTWARE).cast::<u32>().read_unaligned() != MAGIC1 {
            return;
        }
        PROBED[1].store(state.add(SOFTWARE + 8).cast::<u64>().read_unaligned(), SeqCst);
        PROBED[2].store(u64::from(state.add(28).cast::<u32>().read_unaligned()), SeqCst);
        PROBED[3].store(state as u64, SeqCst);
        PROBED[4].store(context as u64 - 8, SeqCst);
        PROBED[0].store(u64::from(state.add(SOFTWARE + 16).cast::<u32>().read_unaligned()), SeqCst);
    }
}

impl ExtendedState {
    /// Asks the host by a signal to ourselves: the frame it builds for us is as those of guest threads.
    pub fn probe() -> Result<ExtendedState, PlatformError> {
        let mut room = vec![0_u8; SLOT_SIZE as usize + 4096];
        // As much and aligned as a slot's signal stack.
        let start = (room.as_mut_ptr() as u64).next_multiple_of(4096);
        let top = start + STACK_SIZE;
        // SAFETY: installs an alternate stack that lives until it is taken away again, and a handler that only reads its frame;
        // raises the signal; puts back what was.
        unsafe {
            let stack = libc::stack_t { ss_sp: start as *mut libc::c_void, ss_flags: 0, ss_size: STACK_SIZE as usize };
            let mut old_stack: libc::stack_t = std::mem::zeroed();
            let mut action: libc::sigaction = std::mem::zeroed();
            let mut old: libc::sigaction = std::mem::zeroed();
            action.sa_sigaction = probe as *const () as usize;
            action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK;
            if libc::sigaltstack(&stack, &mut old_stack) != 0
                || libc::sigaction(INTERRUPT, &action, &mut old) != 0
                || libc::raise(INTERRUPT) != 0
            {
                return Err(PlatformError::Host("probe the extended state", Errno::last()));
            }
            libc::sigaction(INTERRUPT, &old, std::ptr::null_mut());
            libc::sigaltstack(&old_stack, std::ptr::null_mut());
        }
        drop(room);
        let size = PROBED[0].load(SeqCst) as usize;
        if size < HEADER + 64 || size + 8 > SAVED_SIZE as usize {
            return Err(PlatformError::Unsupported("XSAVE state as this program knows it"));
        }
        let mask = PROBED[2].load(SeqCst) as u32;
        let depth = |address: &AtomicU64| top.saturating_sub(address.load(SeqCst)) as usize;
        let (state_depth, frame_depth) = (depth(&PROBED[3]), depth(&PROBED[4]));
        if state_depth < size + 4 || frame_depth < state_depth + FRAME_SIZE || frame_depth > STACK_SIZE as usize {
            return Err(PlatformError::Unsupported("signal frame as this program knows it"));
        }
        Ok(ExtendedState {
            size,
            features: PROBED[1].load(SeqCst),
            mxcsr_mask: if mask == 0 { 0xffbf } else { mask },
            state_depth,
            frame_depth,
        })
    }

    /// Its components, as XSAVE's mask.
    pub fn features(&self) -> u64 {
        self.features
    }

    /// Bytes of a state.
    pub fn bytes(&self) -> usize {
        self.size + 4
    }

    /// A fresh process' state.
    pub fn initial(&self) -> Vec<u8> {
        let mut state = vec![0; self.bytes()];
        state[..2].copy_from_slice(&0x37f_u16.to_ne_bytes());
        state[MXCSR..MXCSR + 4].copy_from_slice(&INITIAL_MXCSR.to_ne_bytes());
        state[HEADER..HEADER + 8].copy_from_slice(&3_u64.to_ne_bytes());
        self.stamp(&mut state);
        state
    }

    fn stamp(&self, state: &mut [u8]) {
        let size = self.size as u32;
        state[28..32].copy_from_slice(&self.mxcsr_mask.to_ne_bytes());
        state[SOFTWARE..HEADER].fill(0);
        state[SOFTWARE..][..4].copy_from_slice(&MAGIC1.to_ne_bytes());
        state[SOFTWARE + 4..][..4].copy_from_slice(&(size + 4).to_ne_bytes());
        state[SOFTWARE + 8..][..8].copy_from_slice(&self.features.to_ne_bytes());
        state[SOFTWARE + 16..][..4].copy_from_slice(&size.to_ne_bytes());
        state[self.size..].copy_from_slice(&MAGIC2.to_ne_bytes());
    }

    /// Makes a state given by the guest one in which everything is valid: XRSTOR must not fault on it. A bare FXSAVE area (512 bytes) is
    /// taken too, as the kernel does.
    pub fn check(&self, state: &mut Vec<u8>) -> Result<(), Errno> {
        if state.len() < 512 {
            return Err(Errno::EINVAL);
        }
        let word = |offset: usize| u32::from_ne_bytes([state[offset], state[offset + 1], state[offset + 2], state[offset + 3]]);
        let extended = word(SOFTWARE) == MAGIC1 && word(SOFTWARE + 16) as usize == self.size && state.len() >= self.size;
        if word(MXCSR) & !self.mxcsr_mask != 0 {
            return Err(Errno::EINVAL);
        }
        if extended {
            let mut present = [0; 8];
            present.copy_from_slice(&state[HEADER..HEADER + 8]);
            // Only what this host has; the compacted form and reserved bits are refused by XRSTOR.
            if u64::from_ne_bytes(present) & !self.features != 0 || state[HEADER + 8..HEADER + 64].iter().any(|byte| *byte != 0) {
                return Err(Errno::EINVAL);
            }
        } else {
            state.truncate(HEADER);
            state.resize(HEADER + 64, 0);
            state[HEADER..HEADER + 8].copy_from_slice(&3_u64.to_ne_bytes());
        }
        state.resize(self.bytes(), 0);
        self.stamp(state);
        Ok(())
    }

    /// Offset of the state in a slot: where the host puts it on the alternate stack.
    fn offset(&self) -> usize {
        CONTROL as usize - self.state_depth
    }

    /// Offset of the frame in a slot.
    pub fn frame_offset(&self) -> usize {
        CONTROL as usize - self.frame_depth
    }
}

/// Where in a slot an extended state is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum StatePlace {
    /// In the signal frame: the host loads it.
    Frame,
    /// At the slot's start: the stub's code saves and loads it.
    Saved,
}

/// The frame of one slot.
pub struct Frame<'a> {
    pub regions: &'a Regions,
    pub form: &'a ExtendedState,
    pub slot: usize,
}

impl Frame<'_> {
    fn word(&self, offset: usize) -> &AtomicU64 {
        self.regions.slot_word(self.slot, self.form.frame_offset() + offset)
    }
    fn half(&self, offset: usize) -> u32 {
        self.regions.slot_word::<AtomicU32>(self.slot, self.form.frame_offset() + offset).load(Relaxed)
    }

    /// What a new user of a stopped thread must not inherit from the last one.
    pub fn clean(&self) {
        self.word(SEGMENTS).store(USER_SEGMENTS, Relaxed);
        self.word(FPSTATE).store(self.regions.slot_address(self.slot) + self.form.offset() as u64, Relaxed);
        let stack = [self.regions.slot_address(self.slot) + SAVED_SIZE, 0, STACK_SIZE];
        for (index, value) in stack.into_iter().enumerate() {
            self.word(STACK_POINTER + index * 8).store(value, Relaxed);
        }
    }

    pub fn registers(&self) -> Registers {
        let gs_base = match self.regions.control(self.slot).gs_base.load(Relaxed) {
            ours if ours == self.control_address() => 0,
            theirs => theirs,
        };
        self.gathered(|index| self.word(R8 + index * 8).load(Relaxed), gs_base)
    }

    /// The registers of a thread that stopped in a thunk, or on the way back from there.
    pub fn thunk_registers(&self) -> Registers {
        let control = self.regions.control(self.slot);
        self.gathered(|index| control.general[index].load(Relaxed), 0)
    }

    /// Where gs points in the stub while the guest leaves it alone (for the guest it is 0 then).
    fn control_address(&self) -> u64 {
        self.regions.slot_address(self.slot) + CONTROL
    }

    fn gathered(&self, word: impl Fn(usize) -> u64, gs_base: u64) -> Registers {
        let control = self.regions.control(self.slot);
        Registers {
            r8: word(0),
            r9: word(1),
            r10: word(2),
            r11: word(3),
            r12: word(4),
            r13: word(5),
            r14: word(6),
            r15: word(7),
            rdi: word(8),
            rsi: word(9),
            rbp: word(10),
            rbx: word(11),
            rdx: word(12),
            rax: word(13),
            rcx: word(14),
            rsp: word(15),
            rip: word(16),
            eflags: word(17),
            fs_base: control.fs_base.load(Relaxed),
            gs_base,
        }
    }

    pub fn set_registers(&self, r: &Registers) {
        for (index, value) in general(r).into_iter().enumerate() {
            self.word(R8 + index * 8).store(value, Relaxed);
        }
        self.word(MASK).store(0, Relaxed);
        let control = self.regions.control(self.slot);
        control.fs_base.store(canonical(r.fs_base), Relaxed);
        let gs_base = match canonical(r.gs_base) {
            0 => self.control_address(),
            theirs => theirs,
        };
        control.gs_base.store(gs_base, Relaxed);
    }

    /// Sets what a thread that stopped in a thunk goes back with; gs stays as it is. `from` is what is there: only what differs is
    /// written, because every line of the control block that is written may have to travel to another CPU and back.
    pub fn change_thunk_registers(&self, from: &Registers, to: &Registers) {
        let control = self.regions.control(self.slot);
        for ((word, old), new) in control.general.iter().zip(general(from)).zip(general(to)) {
            if old != new {
                word.store(new, Relaxed);
            }
        }
        if from.fs_base != to.fs_base {
            control.fs_base.store(canonical(to.fs_base), Relaxed);
        }
    }

    /// Why the thread stopped, by its signal.
    pub fn event(&self, signal: i32) -> Event {
        if signal == INTERRUPT {
            return Event::Interrupted;
        }
        if signal == libc::SIGSYS {
            return match self.half(INFO_ARCH) {
                ARCH_X86_64 => Event::Syscall,
                // int 0x80: this kernel has no 32-bit calls, so the gate does not exist.
                _ => Event::Fault(Fault { signal: libc::SIGSEGV, code: 0x80, address: 0, trap: 13, error: 0x402 }),
            };
        }
        Event::Fault(Fault {
            signal,
            code: self.half(INFO_CODE) as i32,
            address: match self.word(TRAP).load(Relaxed) {
                14 => self.word(CR2).load(Relaxed),
                _ => self.word(INFO_ADDRESS).load(Relaxed),
            },
            trap: self.word(TRAP).load(Relaxed),
            error: self.word(ERROR).load(Relaxed),
        })
    }

    /// The extended state at a place in the slot.
    pub fn extended_state(&self, place: StatePlace) -> Vec<u8> {
        let words = self.state_words(place);
        let mut state = vec![0; words.len() * 8];
        for (bytes, word) in state.chunks_exact_mut(8).zip(words) {
            bytes.copy_from_slice(&word.load(Relaxed).to_ne_bytes());
        }
        state.truncate(self.form.bytes());
        // What the guest scribbled into the parts that are ours does not leave the slot.
        self.form.stamp(&mut state);
        state[HEADER + 8..HEADER + 64].fill(0);
        state
    }

    /// `state` comes from [`ExtendedState::check`], [`ExtendedState::initial`] or [`Frame::extended_state`].
    pub fn set_extended_state(&self, place: StatePlace, state: &[u8]) {
        let words = self.state_words(place);
        let whole = state.chunks_exact(8);
        // Behind the state are padding and the frame's software, or nothing.
        if let (Some(word), [a, b, c, d]) = (words.get(whole.len()), whole.remainder()) {
            word.store(u64::from(u32::from_ne_bytes([*a, *b, *c, *d])), Relaxed);
        }
        for (word, bytes) in words.iter().zip(whole) {
            if let Ok(bytes) = bytes.try_into() {
                word.store(u64::from_ne_bytes(bytes), Relaxed);
            }
        }
    }

    /// As setting a fresh process' state, of which few bytes need to be there: the rest is not looked at. It cannot be read back.
    pub fn reset_extended_state(&self, place: StatePlace) {
        let words = self.state_words(place);
        words[MXCSR / 8].store(u64::from(self.form.mxcsr_mask) << 32 | u64::from(INITIAL_MXCSR), Relaxed);
        words[HEADER / 8..HEADER / 8 + 8].iter().for_each(|word| word.store(0, Relaxed));
    }

    fn state_words(&self, place: StatePlace) -> &[AtomicU64] {
        let offset = match place {
            StatePlace::Frame => self.form.offset(),
            StatePlace::Saved => 0,
        };
        self.regions.slot_words(self.slot, offset, self.form.bytes().div_ceil(8))
    }
}

/// In the order of a frame, and of the control block.
fn general(r: &Registers) -> [u64; GENERAL] {
    [
        r.r8, r.r9, r.r10, r.r11, r.r12, r.r13, r.r14, r.r15, r.rdi, r.rsi, r.rbp, r.rbx, r.rdx, r.rax, r.rcx, r.rsp, r.rip,
        r.eflags,
    ]
}

/// `wrfsbase` of a non-canonical address would kill the stub.
fn canonical(address: u64) -> u64 {
    if address == (((address << 16) as i64) >> 16) as u64 { address } else { 0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_state_that_xrstor_would_refuse_is_refused_here() -> Result<(), PlatformError> {
        let form = ExtendedState::probe()?;
        let good = form.initial();
        let checked = |state: &[u8]| {
            let mut state = state.to_vec();
            form.check(&mut state).map(|()| state)
        };
        assert_eq!(checked(&good), Ok(good.clone()));
        for (offset, value) in [(27, 0xff), (HEADER + 7, 0x80), (HEADER + 8, 1), (HEADER + 20, 1)] {
            let mut bad = good.clone();
            bad[offset] = value;
            assert_eq!(checked(&bad), Err(Errno::EINVAL), "byte {offset}");
        }
        assert_eq!(checked(&good[..100]), Err(Errno::EINVAL));
        // As FXSAVE leaves it.
        assert_eq!(checked(&good[..512]), Ok(good));
        Ok(())
    }
}
