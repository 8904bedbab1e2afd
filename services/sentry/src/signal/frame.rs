//! The signal frame: what Linux puts on the guest's stack for a handler on x86-64, and how rt_sigreturn(2) reads it back.
//!
//! From low to high addresses: return address, ucontext, siginfo, padding, the XSAVE area (64-byte aligned), the red zone.

use bulkhead_ipc::Errno;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use super::{
    actions::{ActionFlags, SignalAction},
    info::{RawInfo, SignalInfo},
    send,
    set::SignalSet,
    state::AlternateStack,
};
use crate::{abi::UserAddress, platform::Registers, task::Thread};

/// SS_ONSTACK.
const ON_STACK: i32 = 1;
/// SS_DISABLE.
const DISABLE: i32 = 2;
/// SS_AUTODISARM.
const AUTODISARM: i32 = i32::MIN;
/// MINSIGSTKSZ.
const LEAST_STACK: u64 = 2048;

/// Bytes below the stack pointer that belong to the interrupted function.
const RED_ZONE: u64 = 128;
/// UC_FP_XSTATE | UC_SIGCONTEXT_SS | UC_STRICT_RESTORE_SS.
const CONTEXT_FLAGS: u64 = 7;
/// The 64-bit user code segment.
const USER_CS: u16 = 0x33;
/// The user data segment.
const USER_SS: u16 = 0x2b;
/// Flags that a handler starts without: DF, TF, RF.
const FLAGS_CLEARED: u64 = 0x400 | 0x100 | 0x1_0000;
/// Flags that a frame may set: AC, RF, OF, DF, TF, SF, ZF, AF, PF, CF.
const FLAGS_RESTORED: u64 = 0x5_0dd5;
/// Where fpx_sw_bytes lies in the XSAVE area, and what it begins with.
const SOFTWARE_BYTES: usize = 464;
const XSTATE_MAGIC: u32 = 0x4650_5853;
/// The legacy part of the XSAVE area.
const LEGACY_STATE: usize = 512;

/// stack_t.
#[derive(Clone, Copy, PartialEq, Eq, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub(crate) struct RawStack {
    base: u64,
    flags: i32,
    pad: u32,
    size: u64,
}

/// struct sigcontext.
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
struct MachineContext {
    r8: u64,
    r9: u64,
    r10: u64,
    r11: u64,
    r12: u64,
    r13: u64,
    r14: u64,
    r15: u64,
    rdi: u64,
    rsi: u64,
    rbp: u64,
    rbx: u64,
    rdx: u64,
    rax: u64,
    rcx: u64,
    rsp: u64,
    rip: u64,
    eflags: u64,
    cs: u16,
    gs: u16,
    fs: u16,
    ss: u16,
    error: u64,
    trap: u64,
    old_mask: u64,
    cr2: u64,
    fpstate: u64,
    reserved: [u64; 8],
}

/// struct ucontext.
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
struct UserContext {
    flags: u64,
    link: u64,
    stack: RawStack,
    machine: MachineContext,
    mask: u64,
}

/// struct rt_sigframe.
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
struct Frame {
    return_address: u64,
    context: UserContext,
    info: RawInfo,
}

const _: () = assert!(size_of::<RawStack>() == 24);
const _: () = assert!(size_of::<MachineContext>() == 256);
const _: () = assert!(size_of::<UserContext>() == 304);
const _: () = assert!(size_of::<Frame>() == 440);
const _: () = assert!(std::mem::offset_of!(Frame, info) == 312);
const _: () = assert!(std::mem::offset_of!(MachineContext, fpstate) == 184);

impl AlternateStack {
    /// As sigaltstack(2) tells it, at this stack pointer.
    pub(crate) fn to_raw(self, stack_pointer: u64) -> RawStack {
        let mut flags = if self.autodisarm { AUTODISARM } else { 0 };
        if self.size == 0 {
            flags |= DISABLE;
        } else if self.in_use(stack_pointer) {
            flags |= ON_STACK;
        }
        RawStack { base: self.base, flags, pad: 0, size: self.size }
    }

    /// From the guest.
    pub(crate) fn from_raw(raw: &RawStack) -> Result<AlternateStack, Errno> {
        match raw.flags & !AUTODISARM {
            DISABLE => Ok(AlternateStack::default()),
            0 | ON_STACK if raw.size < LEAST_STACK => Err(Errno::ENOMEM),
            0 | ON_STACK => Ok(AlternateStack { base: raw.base, size: raw.size, autodisarm: raw.flags & AUTODISARM != 0 }),
            _ => Err(Errno::EINVAL),
        }
    }

    /// Whether the thread runs on it. A stack that disarms itself is never said to be in use.
    pub(crate) fn in_use(&self, stack_pointer: u64) -> bool {
        !self.autodisarm && self.contains(stack_pointer)
    }
}

/// Where the parts of a frame go.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Placement {
    frame: u64,
    extended_state: u64,
}

/// Finds the place for a frame; `None` when the stack has no room.
fn place(stack_pointer: u64, stack: &AlternateStack, on_alternate: bool, state_size: usize) -> Option<Placement> {
    let mut top = stack_pointer.checked_sub(RED_ZONE)?;
    let nested = stack.in_use(top);
    let entering = on_alternate && stack.size != 0 && !nested;
    if entering {
        top = stack.base.checked_add(stack.size)?;
    }
    let extended_state = top.checked_sub(state_size as u64)? & !63;
    let frame = (extended_state.checked_sub(size_of::<Frame>() as u64)? & !15).checked_sub(8)?;
    if (nested || entering) && !stack.contains(frame) {
        return None;
    }
    Some(Placement { frame, extended_state })
}

/// Makes the thread run `action`'s handler for a signal: `mask` is what the handler's return restores. An error says that the
/// frame cannot be written: the guest gets SIGSEGV instead.
pub(super) fn enter_handler(thread: &mut Thread, info: &SignalInfo, action: &SignalAction, mask: SignalSet) -> Result<(), Errno> {
    if !action.flags.contains(ActionFlags::RESTORER) {
        return Err(Errno::EFAULT);
    }
    let (stack, fault) = {
        let state = thread.signals.state.lock();
        (state.alternate_stack, state.fault)
    };
    let extended_state = thread.context.extended_state();
    let r = thread.registers;
    let at = place(r.rsp, &stack, action.flags.contains(ActionFlags::ONSTACK), extended_state.len()).ok_or(Errno::EFAULT)?;
    let frame = Frame {
        return_address: action.restorer,
        context: UserContext {
            flags: CONTEXT_FLAGS,
            link: 0,
            // Without SS_ONSTACK: rt_sigreturn sets it again from here.
            stack: stack.to_raw(0),
            machine: MachineContext {
                r8: r.r8,
                r9: r.r9,
                r10: r.r10,
                r11: r.r11,
                r12: r.r12,
                r13: r.r13,
                r14: r.r14,
                r15: r.r15,
                rdi: r.rdi,
                rsi: r.rsi,
                rbp: r.rbp,
                rbx: r.rbx,
                rdx: r.rdx,
                rax: r.rax,
                rcx: r.rcx,
                rsp: r.rsp,
                rip: r.rip,
                eflags: r.eflags,
                cs: USER_CS,
                gs: 0,
                fs: 0,
                ss: USER_SS,
                error: fault.error,
                trap: fault.trap,
                old_mask: mask.0,
                cr2: if fault.is_page_fault() { fault.address } else { 0 },
                fpstate: at.extended_state,
                reserved: [0; 8],
            },
            mask: mask.0,
        },
        info: info.to_raw(),
    };
    let mut bytes = Vec::with_capacity((at.extended_state - at.frame) as usize + extended_state.len());
    bytes.extend_from_slice(frame.as_bytes());
    bytes.resize((at.extended_state - at.frame) as usize, 0);
    bytes.extend_from_slice(&extended_state);
    thread.memory().write(UserAddress(at.frame), &bytes)?;
    if stack.autodisarm {
        thread.signals.set_alternate_stack(AlternateStack::default());
    }
    thread.context.reset_extended_state();
    let registers = &mut thread.registers;
    registers.rdi = info.signal as u64;
    registers.rsi = at.frame + std::mem::offset_of!(Frame, info) as u64;
    registers.rdx = at.frame + std::mem::offset_of!(Frame, context) as u64;
    registers.rax = 0;
    registers.rip = action.handler;
    registers.rsp = at.frame;
    registers.eflags &= !FLAGS_CLEARED;
    Ok(())
}

/// rt_sigreturn(2): puts back what the frame at the stack pointer holds. An error says that it holds nonsense.
pub(crate) fn leave_handler(thread: &mut Thread) -> Result<(), Errno> {
    let memory = thread.memory();
    // The handler's `ret` has taken the return address off.
    let at = thread.registers.rsp.checked_sub(8).ok_or(Errno::EFAULT)?;
    let context_at = UserAddress(at).offset(std::mem::offset_of!(Frame, context) as u64);
    let context: UserContext = memory.read_value(context_at)?;
    let m = &context.machine;
    if m.fpstate == 0 {
        thread.context.reset_extended_state();
    } else {
        let state = read_extended_state(thread, UserAddress(m.fpstate))?;
        thread.context.set_extended_state(state)?;
    }
    let old = thread.registers;
    thread.registers = Registers {
        r15: m.r15,
        r14: m.r14,
        r13: m.r13,
        r12: m.r12,
        rbp: m.rbp,
        rbx: m.rbx,
        r11: m.r11,
        r10: m.r10,
        r9: m.r9,
        r8: m.r8,
        rax: m.rax,
        rcx: m.rcx,
        rdx: m.rdx,
        rsi: m.rsi,
        rdi: m.rdi,
        rip: m.rip,
        eflags: old.eflags & !FLAGS_RESTORED | m.eflags & FLAGS_RESTORED,
        rsp: m.rsp,
        fs_base: old.fs_base,
        gs_base: old.gs_base,
    };
    // As Linux: a stack that cannot be set is left as it is.
    if let Ok(stack) = AlternateStack::from_raw(&context.stack) {
        thread.signals.set_alternate_stack(stack);
    }
    send::set_mask(&thread.task, SignalSet(context.mask));
    Ok(())
}

fn read_extended_state(thread: &Thread, at: UserAddress) -> Result<Vec<u8>, Errno> {
    let mut state = vec![0; thread.kernel.platform.extended_state_size()];
    let there = thread.memory().read_some(at, &mut state)?;
    let word = |offset: usize| state.get(offset..offset + 4).and_then(|b| b.try_into().ok()).map_or(0, u32::from_le_bytes);
    let (magic, size) = (word(SOFTWARE_BYTES), word(SOFTWARE_BYTES + 4) as usize);
    let extended = magic == XSTATE_MAGIC && size > LEGACY_STATE && size <= state.len();
    state.truncate(if extended { size } else { LEGACY_STATE });
    if there < state.len() { Err(Errno::EFAULT) } else { Ok(state) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_is_aligned_as_at_a_function_call_and_skips_the_red_zone() {
        for stack_pointer in 0x7000_0000..0x7000_0040 {
            let at = place(stack_pointer, &AlternateStack::default(), false, 2696).unwrap();
            assert_eq!((at.frame + 8) % 16, 0);
            assert_eq!(at.extended_state % 64, 0);
            assert!(at.extended_state + 2696 + RED_ZONE <= stack_pointer);
            assert!(at.frame + size_of::<Frame>() as u64 <= at.extended_state);
        }
    }

    #[test]
    fn the_alternate_stack_is_entered_once_and_its_overflow_is_seen() {
        let stack = AlternateStack { base: 0x1000, size: 0x2000, autodisarm: false };
        let first = place(0x7000_0000, &stack, true, 600).unwrap();
        assert!(stack.contains(first.frame));
        let second = place(first.frame, &stack, true, 600).unwrap();
        assert!(second.frame < first.frame);
        assert_eq!(place(0x1400, &stack, true, 600), None);
        assert_eq!(place(0x7000_0000, &stack, true, 0x2000), None);
        // Without SA_ONSTACK the frame goes below the stack pointer.
        assert!(place(0x7000_0000, &stack, false, 600).unwrap().frame > 0x6fff_0000);
    }

    #[test]
    fn a_small_alternate_stack_is_refused() {
        let raw = |flags, size| RawStack { base: 0x1000, flags, pad: 0, size };
        assert_eq!(AlternateStack::from_raw(&raw(0, 100)), Err(Errno::ENOMEM));
        assert_eq!(AlternateStack::from_raw(&raw(8, 8192)), Err(Errno::EINVAL));
        assert_eq!(AlternateStack::from_raw(&raw(DISABLE, 0)), Ok(AlternateStack::default()));
        assert!(AlternateStack::from_raw(&raw(AUTODISARM, 8192)).unwrap().autodisarm);
    }
}
