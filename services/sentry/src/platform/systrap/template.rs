//! Making the template: a child of the sentry that gives up all of the sentry's memory and becomes an agent, of which every
//! stub is a clone.

use std::{
    os::fd::{AsRawFd, OwnedFd},
    time::Duration,
};

use bulkhead_ipc::Errno;
use libc::{c_long, sock_filter};

use super::{code::Code, filter, layout::*, regions::Regions};
use crate::platform::PlatformError;

/// The host's vDSO and its data in this process.
#[derive(Clone, Debug)]
pub struct HostVdso {
    /// The mappings in order, contiguous: first address and length.
    parts: Vec<(u64, u64)>,
    /// The image's place relative to the first mapping.
    pub code: std::ops::Range<u64>,
}

impl HostVdso {
    /// Address of the first mapping.
    pub fn start(&self) -> u64 {
        self.parts.first().map_or(0, |part| part.0)
    }
}

/// What of this process' address map matters.
pub struct Surroundings {
    /// The vDSO.
    pub vdso: HostVdso,
    /// A place for the region that nothing in this process overlaps: the template must map it before it unmaps the rest.
    pub base: u64,
}

/// Reads /proc/self/maps.
pub fn surroundings() -> Result<Surroundings, PlatformError> {
    let maps =
        std::fs::read_to_string("/proc/self/maps").map_err(|error| PlatformError::Host("read /proc/self/maps", error.into()))?;
    let mut parts: Vec<(u64, u64)> = Vec::new();
    let mut code = 0..0;
    let mut taken: Vec<(u64, u64)> = Vec::new();
    for line in maps.lines() {
        let Some((start, end)) = line.split_whitespace().next().and_then(|range| range.split_once('-')) else { continue };
        let (Ok(start), Ok(end)) = (u64::from_str_radix(start, 16), u64::from_str_radix(end, 16)) else { continue };
        taken.push((start, end));
        let is_code = line.ends_with("[vdso]");
        if is_code || line.contains("[vvar") {
            if is_code {
                code = start..end;
            }
            parts.push((start, end - start));
        }
    }
    let start = parts.first().map_or(0, |part| part.0);
    let contiguous = parts.windows(2).all(|pair| pair[0].0 + pair[0].1 == pair[1].0);
    let total: u64 = parts.iter().map(|part| part.1).sum();
    if code.is_empty() || !contiguous || total > VDSO_SIZE {
        return Err(PlatformError::Unsupported("vDSO as this program knows it"));
    }
    let base = (0..(ADDRESSES_END - GUEST_END) / REGION_SIZE)
        .map(|index| GUEST_END + index * REGION_SIZE)
        .find(|base| taken.iter().all(|(start, end)| *end <= *base || *start >= base + REGION_SIZE))
        .ok_or(PlatformError::Unsupported("room at the top of the address space"))?;
    Ok(Surroundings { vdso: HostVdso { parts, code: code.start - start..code.end - start }, base })
}

/// The steps that the child can fail in; its exit status is the index.
const STEPS: [&str; 9] = [
    "",
    "make the template die with the sentry",
    "take the template out of its session",
    "block the template's signals",
    "install the stub's signal handlers",
    "map the stub's region",
    "move the vDSO",
    "drop the template's privileges",
    "install the agent's filter",
];

/// Everything that the child needs, prepared so that it has nothing to allocate.
struct Plan<'a> {
    base: u64,
    handler: u64,
    entry: u64,
    mappings: [(u64, u64, i32, i32, u64); 4],
    vdso: &'a [(u64, u64)],
    filter: &'a [sock_filter],
    rseq: Option<(u64, u32)>,
}

/// Starts the template; it completes its first batch (number 0) on `done`. Returns its pid.
pub fn start(regions: &Regions, code: &Code, vdso: &HostVdso, done: &OwnedFd) -> Result<i32, PlatformError> {
    let filter = filter::agent(regions.base);
    let plan = Plan {
        base: regions.base,
        handler: regions.base + code.handler,
        entry: regions.base + code.template,
        mappings: regions.template_mappings(),
        vdso: &vdso.parts,
        filter: &filter,
        rseq: rseq_area(),
    };
    let page = regions.command(0);
    page.done.store(done.as_raw_fd() as u32, std::sync::atomic::Ordering::SeqCst);
    // SAFETY: without CLONE_VM this is a fork; the child runs only `become_template`, which makes system calls and never returns.
    let pid = unsafe {
        let pid = libc::syscall(libc::SYS_clone, (libc::CLONE_FILES | libc::SIGCHLD) as c_long, 0_u64, 0_u64, 0_u64, 0_u64);
        if pid == 0 {
            become_template(&plan);
        }
        pid
    };
    if pid < 0 {
        return Err(PlatformError::Host("start the template", Errno::last()));
    }
    await_template(pid as i32, done)?;
    Ok(pid as i32)
}

fn await_template(pid: i32, done: &OwnedFd) -> Result<(), PlatformError> {
    for _ in 0..200 {
        let mut poll = libc::pollfd { fd: done.as_raw_fd(), events: libc::POLLIN, revents: 0 };
        // SAFETY: one valid pollfd.
        if unsafe { libc::poll(&mut poll, 1, Duration::from_millis(50).as_millis() as i32) } == 1 {
            let mut value = 0_u64;
            // SAFETY: an eventfd read of 8 bytes into 8 bytes.
            unsafe { libc::read(done.as_raw_fd(), (&raw mut value).cast(), 8) };
            return Ok(());
        }
        let mut status = 0;
        // SAFETY: our own child; the status is a valid place.
        if unsafe { libc::waitpid(pid, &mut status, libc::WNOHANG) } == pid {
            let step = libc::WEXITSTATUS(status) as usize;
            let what = if libc::WIFEXITED(status) {
                STEPS.get(step).copied().unwrap_or("start the template")
            } else {
                "keep the template alive"
            };
            return Err(PlatformError::Host(what, Errno::EPERM));
        }
    }
    Err(PlatformError::Host("hear from the template", Errno::ETIMEDOUT))
}

/// The restartable-sequence area that glibc registered for this thread: the host writes to it at every preemption, so it must be
/// unregistered before it is unmapped.
fn rseq_area() -> Option<(u64, u32)> {
    // SAFETY: dlsym with literal names; the symbols, where they exist, are glibc's `ptrdiff_t` and `unsigned int`; fs:0 holds
    // the thread pointer in every x86-64 C library.
    unsafe {
        let offset = libc::dlsym(libc::RTLD_DEFAULT, c"__rseq_offset".as_ptr()).cast::<isize>();
        let size = libc::dlsym(libc::RTLD_DEFAULT, c"__rseq_size".as_ptr()).cast::<u32>();
        if offset.is_null() || size.is_null() || *size == 0 {
            return None;
        }
        let thread: u64;
        std::arch::asm!("mov {}, fs:0", out(reg) thread, options(nostack, preserves_flags, readonly));
        Some((thread.wrapping_add_signed(*offset as i64), *size))
    }
}

/// # Safety
/// Only in a freshly forked child.
unsafe fn become_template(plan: &Plan<'_>) -> ! {
    let fail = |step: i32| -> ! {
        // SAFETY: ends this process.
        unsafe {
            libc::syscall(libc::SYS_exit_group, step);
            std::process::abort()
        }
    };
    // SAFETY: raw system calls on this process, which is alone with its copy of the sentry's memory; what is mapped goes to
    // a place that was free in the sentry; the last jump goes to code that needs nothing of what it unmaps.
    unsafe {
        if libc::syscall(libc::SYS_prctl, libc::PR_SET_PDEATHSIG, libc::SIGKILL, 0, 0, 0) != 0 {
            fail(1);
        }
        // A terminal's signals are for the sandbox, not for its stubs.
        if libc::syscall(libc::SYS_setsid) < 0 {
            fail(2);
        }
        if let Some((address, size)) = plan.rseq {
            // glibc registers at least 32 bytes whatever the features' size.
            for length in [size.max(32), size, 32] {
                if libc::syscall(libc::SYS_rseq, address, length, 1, 0x5305_3053_u32) == 0 {
                    break;
                }
            }
        }
        let all = !0_u64;
        if libc::syscall(libc::SYS_rt_sigprocmask, libc::SIG_SETMASK, &raw const all, 0, 8) != 0 {
            fail(3);
        }
        for signal in 1..=64 {
            let handled = [libc::SIGSYS, libc::SIGSEGV, libc::SIGBUS, libc::SIGFPE, libc::SIGILL, libc::SIGTRAP, INTERRUPT];
            // struct kernel_sigaction: handler, flags, restorer, mask.
            let flags = (libc::SA_SIGINFO | libc::SA_ONSTACK | 0x0400_0000) as u64;
            let action =
                if handled.contains(&signal) { [plan.handler, flags, plan.handler, !0] } else { [libc::SIG_DFL as u64, 0, 0, 0] };
            let result = libc::syscall(libc::SYS_rt_sigaction, signal, action.as_ptr(), 0, 8);
            if result != 0 && handled.contains(&signal) {
                fail(4);
            }
        }
        for (offset, length, protection, fd, file_offset) in plan.mappings {
            let address = plan.base + offset;
            let flags = libc::MAP_SHARED | libc::MAP_FIXED_NOREPLACE;
            if libc::syscall(libc::SYS_mmap, address, length, protection, flags, fd, file_offset) != address as c_long {
                fail(5);
            }
        }
        let mut to = plan.base + VDSO;
        for (start, length) in plan.vdso {
            let flags = libc::MREMAP_MAYMOVE | libc::MREMAP_FIXED;
            if libc::syscall(libc::SYS_mremap, *start, *length, *length, flags, to) != to as c_long {
                fail(6);
            }
            to += length;
        }
        // No capabilities, no new privileges, no core files with guest memory in them.
        let header = [0x2008_0522_u32, 0];
        let none = [0_u32; 6];
        let limit = [0_u64; 2];
        if libc::syscall(libc::SYS_capset, header.as_ptr(), none.as_ptr()) != 0
            || libc::syscall(libc::SYS_prctl, libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0
            || libc::syscall(libc::SYS_prctl, libc::PR_SET_DUMPABLE, 0, 0, 0, 0) != 0
            || libc::syscall(libc::SYS_setrlimit, libc::RLIMIT_CORE, limit.as_ptr()) != 0
        {
            fail(7);
        }
        // Setting credentials may clear the parent-death signal.
        libc::syscall(libc::SYS_prctl, libc::PR_SET_PDEATHSIG, libc::SIGKILL, 0, 0, 0);
        let program = libc::sock_fprog { len: plan.filter.len() as u16, filter: plan.filter.as_ptr().cast_mut() };
        if libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, 0, &raw const program) != 0 {
            fail(8);
        }
        std::arch::asm!(
            "jmp rax",
            in("rax") plan.entry,
            in("r13") plan.base,
            in("r15") plan.base + REGION_SIZE,
            options(noreturn)
        )
    }
}
