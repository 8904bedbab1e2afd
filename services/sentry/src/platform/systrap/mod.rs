//! systrap: guest code runs in *stubs*, tiny host processes, one for each guest address space, under seccomp filters that turn
//! every system call into a signal. It needs no privilege and no virtualisation.
//!
//! - [`template`] makes the first stub, of which all others are clones; [`code`] is what runs in them, [`filter`] what it may do.
//! - [`layout`] and [`regions`] are the memory that stubs and the sentry share.
//! - [`stub`] is a stub seen from here: its agent (which changes its address space on command), its threads, its death.
//! - [`space`] and [`context`] are the platform's face; [`frame`] is a stopped thread's state; [`posts`] is how the workers hear
//!   that threads stopped, [`waiting`] who waits where for that.
//!
//! Architecture invariants: guest code makes no host call but the four that the strict filter's comment argues for; nothing that
//! a stub can write is believed; a stub that misbehaves harms or kills only itself. A stub that ran guest code is never
//! given to another guest process: its threads may not be where they say they are.

mod code;
mod context;
mod filter;
mod frame;
mod intervals;
mod layout;
#[cfg(test)]
mod model;
mod posts;
mod record;
mod regions;
mod space;
mod stub;
mod template;
mod waiting;

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering::Relaxed},
};

use bulkhead_ipc::Errno;

pub use context::{Context, Interrupter};
pub use space::Space;

use super::{PlatformError, Vdso, rewrite::Thunks};
use crate::executor;

/// The platform (systrap for now). One in a process, because the executor's workers are its.
pub struct Platform {
    shared: Arc<stub::Shared>,
    vdso: Vdso,
    image: Vec<u8>,
    thunks: Thunks,
    rewriting: AtomicBool,
}

impl Platform {
    /// Starts the platform: makes the template stub. Must be called while the process has one thread, by a thread that lives as
    /// long as the process (stubs die with it), before /proc is out of reach. All children of the process from then on are the platform's.
    /// `cpus` are host CPU numbers, one worker each.
    pub fn start(cpus: &[u32]) -> Result<Arc<Platform>, PlatformError> {
        // SAFETY: reads the auxiliary vector.
        if unsafe { libc::getauxval(libc::AT_HWCAP2) } & 2 == 0 {
            return Err(PlatformError::Unsupported("FSGSBASE instructions in user mode"));
        }
        if cpus.is_empty() || cpus.len() as u64 > layout::MAX_WORKERS {
            return Err(PlatformError::Unsupported("number of CPUs that this program can use"));
        }
        let form = frame::ExtendedState::probe()?;
        let surroundings = template::surroundings()?;
        let code = code::code();
        let regions = regions::Regions::new(surroundings.base, &code, form.features(), cpus.len())?;
        let start = surroundings.vdso.start();
        let range = surroundings.vdso.code.clone();
        // SAFETY: the image is mapped readable for the life of the process, and nobody writes it.
        let image = unsafe {
            std::slice::from_raw_parts((start + range.start) as *const u8, (range.end - range.start) as usize).to_vec()
        };
        let data_start = regions.base + layout::VDSO;
        let vdso = Vdso { data_start, code_start: data_start + range.start, code_end: data_start + range.end };
        let thunks = Thunks { entry: regions.base + code.thunk, negated: layout::control::NEGATED as u32 };
        let shared = stub::Shared::start(regions, form, &code, &surroundings.vdso, cpus)?;
        if !executor::configure(cpus, shared.clone()) {
            return Err(PlatformError::Unsupported("second platform in one process"));
        }
        Ok(Arc::new(Platform { shared, vdso, image, thunks, rewriting: AtomicBool::new(true) }))
    }

    /// A fresh, empty address space (from the pool of waiting stubs where there is one).
    pub fn new_space(self: &Arc<Self>) -> Result<Arc<Space>, Errno> {
        Space::new(&self.shared)
    }
    /// Guest addresses end here (exclusive).
    pub fn guest_end(&self) -> u64 {
        layout::GUEST_END
    }
    /// The vDSO.
    pub fn vdso(&self) -> Vdso {
        self.vdso
    }
    /// How call sites are rewritten so that they stop without a signal; `None` when that is not wanted.
    pub fn thunks(&self) -> Option<Thunks> {
        self.rewriting.load(Relaxed).then_some(self.thunks)
    }
    /// Turns the rewriting of call sites in new address spaces on (as it is at first) or off.
    pub fn set_rewriting(&self, on: bool) {
        self.rewriting.store(on, Relaxed);
    }
    /// A copy of the vDSO image's bytes.
    pub fn vdso_image(&self) -> &[u8] {
        &self.image
    }
    /// Bytes of a context's extended state ([`Context::extended_state`]).
    pub fn extended_state_size(&self) -> usize {
        self.shared.form.bytes()
    }
}
