//! The two seccomp filters of a stub.
//!
//! The *agent filter* is installed by the template and inherited by every stub. The *strict filter* is added by every guest
//! thread before it runs anything of the guest. Both say TRAP to everything else, which is how guest calls become events; an
//! agent has all signals blocked, so for it TRAP is death. Calls of another architecture (`int 0x80`, x32 numbers) trap too.
//!
//! Why what they allow is harmless:
//! - *Agent filter*: calls come from the stub's own code only, whose one thread without the strict filter is the agent; its
//!   arguments come from the command page, which is read-only in the stub. Even so, mmap cannot put code into the region, write
//!   can only send the constants, and clone can only make what a stub consists of.
//! - *Strict filter*, each at one place in the code: FUTEX_WAIT lets the thread sleep, which it may also do by looping;
//!   FUTEX_WAKE wakes sleepers, all of which look again at what they wait for; rt_sigreturn loads registers and a mask,
//!   which can make the thread deaf to interrupts (the sentry then kills the stub) or die; rt_sigprocmask only with the
//!   set in the code page.

use libc::sock_filter;

use super::layout::*;

const ARCH_X86_64: u32 = 0xc000_003e;
const TRAP: u32 = libc::SECCOMP_RET_TRAP;
const ALLOW: u32 = libc::SECCOMP_RET_ALLOW;

const LOAD: u16 = (libc::BPF_LD | libc::BPF_W | libc::BPF_ABS) as u16;
const AND: u16 = (libc::BPF_ALU | libc::BPF_AND | libc::BPF_K) as u16;
const EQUAL: u16 = (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16;
const AT_LEAST: u16 = (libc::BPF_JMP | libc::BPF_JGE | libc::BPF_K) as u16;
const RETURN: u16 = (libc::BPF_RET | libc::BPF_K) as u16;

const NUMBER: u32 = 0;
const ARCH: u32 = 4;
const IP_LOW: u32 = 8;
const IP_HIGH: u32 = 12;

/// A condition on the call.
#[derive(Clone, Copy)]
enum Check {
    /// Comes from exactly this address.
    From(u64),
    /// The low half of an argument, masked, has this value.
    Low(u32, u32, u32),
    /// The high half of an argument has this value.
    High(u32, u32),
    /// The whole argument has this value.
    Is(u32, u64),
    /// The argument is in this range, which does not cross 4 GiB.
    Within(u32, u64, u64),
    /// The high half of an argument is less.
    HighBelow(u32, u32),
}

fn low(argument: u32) -> u32 {
    16 + 8 * argument
}

fn high(argument: u32) -> u32 {
    low(argument) + 4
}

/// Load, mask, compare; what fails jumps `to_next` instructions after the end of this check.
fn instructions(check: Check) -> Vec<(sock_filter, bool)> {
    let load = |offset| (op(LOAD, offset), false);
    let equal = |value| (op(EQUAL, value), true);
    match check {
        Check::From(address) => vec![load(IP_LOW), equal(address as u32), load(IP_HIGH), equal((address >> 32) as u32)],
        Check::Low(argument, mask, value) => vec![load(low(argument)), (op(AND, mask), false), equal(value)],
        Check::High(argument, value) => vec![load(high(argument)), equal(value)],
        Check::Is(argument, value) => {
            vec![load(low(argument)), equal(value as u32), load(high(argument)), equal((value >> 32) as u32)]
        }
        Check::Within(argument, start, end) => vec![
            load(high(argument)),
            equal((start >> 32) as u32),
            load(low(argument)),
            (op(AT_LEAST, start as u32), true),
            // Inverted: jumps on success, so compare with the end and skip.
            (op(AT_LEAST, end as u32), false),
        ],
        Check::HighBelow(argument, value) => vec![load(high(argument)), (op(AT_LEAST, value), false)],
    }
}

fn op(code: u16, k: u32) -> sock_filter {
    sock_filter { code, jt: 0, jf: 0, k }
}

/// One rule: the call with this number is allowed when every check holds; otherwise the next rule is tried.
fn rule(program: &mut Vec<sock_filter>, number: libc::c_long, checks: &[Check]) {
    let mut body = vec![(op(LOAD, NUMBER), false), (op(EQUAL, number as u32), true)];
    checks.iter().for_each(|check| body.extend(instructions(*check)));
    let length = body.len();
    for (index, (mut instruction, jump_when_false)) in body.into_iter().enumerate() {
        // Behind the body comes the `return ALLOW`, and behind that the next rule.
        let to_next = (length - index) as u8;
        if jump_when_false {
            instruction.jf = to_next;
        } else if instruction.code == AT_LEAST {
            instruction.jt = to_next;
        }
        program.push(instruction);
    }
    program.push(op(RETURN, ALLOW));
}

/// What both begin with: traps at once what does not come from the stub's code, which is nearly every call of a guest.
fn prologue(code: u64) -> Vec<sock_filter> {
    let mut program = vec![
        op(LOAD, IP_HIGH),
        op(EQUAL, (code >> 32) as u32),
        op(LOAD, IP_LOW),
        op(AND, !(CODE_SIZE as u32 - 1)),
        op(EQUAL, code as u32),
        op(LOAD, ARCH),
        op(EQUAL, ARCH_X86_64),
    ];
    let length = program.len();
    for (index, instruction) in program.iter_mut().enumerate() {
        if instruction.code == EQUAL {
            (instruction.jt, instruction.jf) = (0, (length - index - 1) as u8);
            if index + 1 == length {
                // The last one skips the trap when it holds.
                (instruction.jt, instruction.jf) = (1, 0);
            }
        }
    }
    program.push(op(RETURN, TRAP));
    program
}

/// The agent's filter, for code at `code`.
pub fn agent(region: u64) -> Vec<sock_filter> {
    let mut program = prologue(region);
    let fixed = Check::Low(3, libc::MAP_FIXED as u32, libc::MAP_FIXED as u32);
    let outside = Check::HighBelow(0, (GUEST_END >> 32) as u32);
    let no_code = Check::Low(2, libc::PROT_EXEC as u32, 0);
    rule(&mut program, libc::SYS_futex, &[Check::Low(1, !1, 0)]);
    rule(&mut program, libc::SYS_rt_sigreturn, &[]);
    rule(&mut program, libc::SYS_mmap, &[fixed, outside]);
    rule(&mut program, libc::SYS_mmap, &[fixed, no_code]);
    rule(&mut program, libc::SYS_munmap, &[]);
    rule(&mut program, libc::SYS_mprotect, &[outside]);
    rule(
        &mut program,
        libc::SYS_write,
        &[Check::Within(1, region + CONSTANTS, region + CONSTANTS + CONSTANT_COUNT * 8), Check::Is(2, 8)],
    );
    rule(&mut program, libc::SYS_clone, &[Check::Is(0, CLONE_THREAD)]);
    rule(&mut program, libc::SYS_clone, &[Check::Is(0, CLONE_STUB)]);
    rule(&mut program, libc::SYS_sigaltstack, &[]);
    rule(&mut program, libc::SYS_rt_sigprocmask, &[Check::Is(1, region + EMPTY_SET)]);
    rule(&mut program, libc::SYS_seccomp, &[Check::Is(0, 1), Check::Is(2, region + PROGRAM)]);
    rule(&mut program, libc::SYS_prctl, &[Check::Is(0, libc::PR_SET_PDEATHSIG as u64)]);
    program.push(op(RETURN, TRAP));
    program
}

/// A guest thread's filter, for code at `region`.
pub fn strict(region: u64, code: &super::code::Code) -> Vec<sock_filter> {
    let mut program = prologue(region);
    rule(&mut program, libc::SYS_futex, &[Check::From(region + code.wait), Check::Low(1, !0, libc::FUTEX_WAIT as u32)]);
    rule(&mut program, libc::SYS_rt_sigreturn, &[Check::From(region + code.sigreturn)]);
    rule(&mut program, libc::SYS_futex, &[Check::From(region + code.wake), Check::Low(1, !0, libc::FUTEX_WAKE as u32)]);
    rule(
        &mut program,
        libc::SYS_rt_sigprocmask,
        &[
            Check::From(region + code.unblock),
            Check::Is(0, libc::SIG_SETMASK as u64),
            Check::Is(1, region + EMPTY_SET),
            Check::Is(2, 0),
            Check::High(3, 0),
        ],
    );
    program.push(op(RETURN, TRAP));
    program
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A machine for the few instructions that are used here.
    fn run(program: &[sock_filter], data: &[u8; 64]) -> u32 {
        let (mut pc, mut a) = (0, 0);
        loop {
            let i = &program[pc];
            pc += 1;
            let jump = |condition: bool| usize::from(if condition { i.jt } else { i.jf });
            match i.code {
                LOAD => a = u32::from_ne_bytes(data[i.k as usize..][..4].try_into().unwrap()),
                AND => a &= i.k,
                EQUAL => pc += jump(a == i.k),
                AT_LEAST => pc += jump(a >= i.k),
                RETURN => return i.k,
                code => panic!("{code}"),
            }
        }
    }

    fn call(number: libc::c_long, ip: u64, arguments: &[u64]) -> [u8; 64] {
        let mut data = [0; 64];
        data[..4].copy_from_slice(&(number as u32).to_ne_bytes());
        data[4..8].copy_from_slice(&ARCH_X86_64.to_ne_bytes());
        data[8..16].copy_from_slice(&ip.to_ne_bytes());
        for (index, argument) in arguments.iter().enumerate() {
            data[16 + index * 8..][..8].copy_from_slice(&argument.to_ne_bytes());
        }
        data
    }

    const REGION: u64 = GUEST_END + REGION_SIZE;

    #[test]
    fn guest_code_traps_whatever_it_calls_from_wherever() {
        let code = super::super::code::code();
        let (strict, agent) = (strict(REGION, &code), agent(REGION));
        for number in 0..500 {
            for ip in [0x40_0000, REGION - 4, REGION + CODE_SIZE, REGION + 0x20] {
                assert_eq!(run(&strict, &call(number, ip, &[0; 6])), TRAP, "{number} at {ip:#x}");
            }
            assert_eq!(run(&agent, &call(number, 0x40_0000, &[0; 6])), TRAP);
        }
        let mut foreign = call(libc::SYS_rt_sigreturn, REGION + code.sigreturn, &[]);
        assert_eq!(run(&strict, &foreign), ALLOW);
        foreign[4] = 3;
        assert_eq!(run(&strict, &foreign), TRAP);
    }

    #[test]
    fn each_place_allows_its_one_call() {
        let code = super::super::code::code();
        let strict = strict(REGION, &code);
        assert_eq!(run(&strict, &call(libc::SYS_futex, REGION + code.wait, &[1, 0])), ALLOW);
        assert_eq!(run(&strict, &call(libc::SYS_futex, REGION + code.wait, &[1, 1])), TRAP);
        assert_eq!(run(&strict, &call(libc::SYS_futex, REGION + code.wake, &[1, 1])), ALLOW);
        assert_eq!(run(&strict, &call(libc::SYS_futex, REGION + code.wake, &[1, 5])), TRAP);
        assert_eq!(run(&strict, &call(libc::SYS_mmap, REGION + code.wait, &[1, 0])), TRAP);
        let unblock = [2, REGION + EMPTY_SET, 0, 8];
        assert_eq!(run(&strict, &call(libc::SYS_rt_sigprocmask, REGION + code.unblock, &unblock)), ALLOW);
        assert_eq!(run(&strict, &call(libc::SYS_rt_sigprocmask, REGION + code.unblock, &[2, 0x1000, 0, 8])), TRAP);
    }

    #[test]
    fn the_agent_writes_constants_only_and_maps_no_code_over_the_region() {
        let agent = agent(REGION);
        let at = REGION + 0x40;
        assert_eq!(run(&agent, &call(libc::SYS_write, at, &[9, REGION + CONSTANTS + 8, 8])), ALLOW);
        assert_eq!(run(&agent, &call(libc::SYS_write, at, &[9, REGION + CONSTANTS + 2048, 8])), TRAP);
        assert_eq!(run(&agent, &call(libc::SYS_write, at, &[9, REGION + CONSTANTS - 8, 8])), TRAP);
        assert_eq!(run(&agent, &call(libc::SYS_write, at, &[9, REGION + CONSTANTS, 16])), TRAP);
        assert_eq!(run(&agent, &call(libc::SYS_mmap, at, &[0x1000, 0x1000, 7, 0x11, 3, 0])), ALLOW);
        assert_eq!(run(&agent, &call(libc::SYS_mmap, at, &[0x1000, 0x1000, 7, 0x1, 3, 0])), TRAP);
        assert_eq!(run(&agent, &call(libc::SYS_mmap, at, &[REGION, 0x1000, 3, 0x11, 3, 0])), ALLOW);
        assert_eq!(run(&agent, &call(libc::SYS_mmap, at, &[REGION, 0x1000, 7, 0x11, 3, 0])), TRAP);
        assert_eq!(run(&agent, &call(libc::SYS_clone, at, &[CLONE_STUB])), ALLOW);
        assert_eq!(run(&agent, &call(libc::SYS_clone, at, &[CLONE_STUB | libc::CLONE_NEWNS as u64])), TRAP);
        assert_eq!(run(&agent, &call(libc::SYS_execve, at, &[0; 6])), TRAP);
    }
}
