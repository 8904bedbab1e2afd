//! What a program finds on its stack: argc, argv, envp, the auxiliary vector, and what they point to.

use bulkhead_ipc::Errno;

use super::{
    image::{Image, Places},
    random,
};
use crate::{
    abi::{PAGE_SIZE, UserAddress},
    memory::{AddressSpace, AreaFlags, Limits, MapRequest, Placement, Source},
    platform::Protection,
    task::Credentials,
};

/// Room below what lies on the stack at first (as Linux' setup_arg_pages).
const ROOM: u64 = 128 << 10;
/// Most auxiliary entries, for sizing.
const AUXILIARY: u64 = 32;
/// The stack pointer is moved by less than this.
const POINTER_RANDOM: u64 = 8192;
const PLATFORM: &[u8] = b"x86_64\0";
/// USER_HZ.
const CLOCK_TICKS: u64 = 100;

const AT_MINSIGSTKSZ: u64 = 51;

/// The strings.
pub struct Strings<'a> {
    /// AT_EXECFN.
    pub path: &'a [u8],
    /// argv.
    pub arguments: &'a [Vec<u8>],
    /// envp.
    pub environment: &'a [Vec<u8>],
}

impl Strings<'_> {
    /// Bytes of strings, NULs included.
    fn size(&self) -> u64 {
        let strings = self.arguments.iter().chain(self.environment);
        strings.map(|string| string.len() as u64 + 1).sum::<u64>() + self.path.len() as u64 + 1
    }

    /// Bytes of pointers and numbers, and for aligning them.
    fn table_size(&self) -> u64 {
        (self.arguments.len() + self.environment.len() + 3) as u64 * 8 + AUXILIARY * 16
    }
}

/// Who the program will be.
pub struct Identity {
    credentials: Credentials,
    secure: bool,
}

impl Identity {
    /// After the set-id bits have taken effect.
    pub fn after(credentials: &Credentials, set_uid: Option<u32>, set_gid: Option<u32>) -> Identity {
        let (credentials, secure) = credentials.after_exec(set_uid, set_gid);
        Identity { credentials, secure }
    }
}

/// Maps a stack that is large enough for what will lie on it.
pub fn map(memory: &AddressSpace, strings: &Strings<'_>, top: u64, executable: bool, limits: &Limits) -> Result<(), Errno> {
    let size = strings.size() + strings.table_size() + POINTER_RANDOM + PAGE_SIZE + ROOM;
    let length = size.next_multiple_of(PAGE_SIZE);
    let mut protection = Protection::READ | Protection::WRITE;
    protection.set(Protection::EXECUTE, executable);
    let request = MapRequest {
        placement: Placement::Fixed(top.checked_sub(length).ok_or(Errno::ENOMEM)?),
        length,
        protection,
        flags: AreaFlags::GROWS_DOWN | AreaFlags::STACK,
        source: Source::Anonymous,
        populate: false,
    };
    memory.map(&request, limits).map(|_| ())
}

/// Writes everything, notes where in the layout, and returns the stack pointer.
pub fn fill(
    memory: &AddressSpace,
    strings: &Strings<'_>,
    places: &Places,
    image: &Image,
    identity: &Identity,
    vdso: u64,
) -> Result<u64, Errno> {
    // Strings: arguments, environment, path, and a word of zeros at the very top.
    let first = places.stack_top - 8 - strings.size();
    let mut text = Vec::with_capacity(strings.size() as usize);
    let mut place = |list: &[Vec<u8>]| -> Vec<u64> {
        list.iter()
            .map(|string| {
                let address = first + text.len() as u64;
                text.extend_from_slice(string);
                text.push(0);
                address
            })
            .collect()
    };
    let arguments = place(strings.arguments);
    let environment = place(strings.environment);
    let arguments_end = environment.first().copied().unwrap_or(first + text.len() as u64);
    let path = first + text.len() as u64;
    text.extend_from_slice(strings.path);
    text.push(0);
    memory.write(UserAddress(first), &text)?;

    let mut at = first;
    if places.randomise {
        at -= random::below(POINTER_RANDOM);
    }
    at = (at & !15) - 16;
    let platform = at;
    memory.write(UserAddress(platform), PLATFORM)?;
    at -= 16;
    let mut seed = [0; 16];
    random::fill(&mut seed);
    memory.write(UserAddress(at), &seed)?;

    let auxiliary = auxiliary(image, identity, vdso, at, platform, path);
    let words = 1 + arguments.len() + 1 + environment.len() + 1 + auxiliary.len() * 2;
    let pointer = (at - words as u64 * 8) & !15;
    let mut table: Vec<u64> = Vec::with_capacity(words);
    table.push(arguments.len() as u64);
    table.extend(&arguments);
    table.push(0);
    table.extend(&environment);
    table.push(0);
    table.extend(auxiliary.iter().flat_map(|(key, value)| [*key, *value]));
    let bytes: Vec<u8> = table.iter().flat_map(|word| word.to_le_bytes()).collect();
    memory.write(UserAddress(pointer), &bytes)?;

    let mut layout = image.layout.clone();
    layout.stack_start = pointer;
    layout.arguments = (first, arguments_end);
    layout.environment = (arguments_end, path);
    layout.auxiliary = auxiliary;
    memory.set_layout(layout);
    Ok(pointer)
}

fn auxiliary(image: &Image, identity: &Identity, vdso: u64, seed: u64, platform: u64, path: u64) -> Vec<(u64, u64)> {
    let who = &identity.credentials;
    // SAFETY: getauxval only reads this process's own vector.
    let host = |key: u64| unsafe { libc::getauxval(key) };
    let mut entries = vec![
        (libc::AT_SYSINFO_EHDR, vdso),
        // Not from the host's vector: the C library overwrites what it read there.
        (libc::AT_HWCAP, u64::from(std::arch::x86_64::__cpuid(1).edx)),
        (libc::AT_PAGESZ, PAGE_SIZE),
        (libc::AT_CLKTCK, CLOCK_TICKS),
        (libc::AT_PHDR, image.headers_address),
        (libc::AT_PHENT, 56),
        (libc::AT_PHNUM, image.headers_count),
        (libc::AT_BASE, image.linker_base),
        (libc::AT_FLAGS, 0),
        (libc::AT_ENTRY, image.program_entry),
        (libc::AT_UID, u64::from(who.uid)),
        (libc::AT_EUID, u64::from(who.euid)),
        (libc::AT_GID, u64::from(who.gid)),
        (libc::AT_EGID, u64::from(who.egid)),
        (libc::AT_SECURE, u64::from(identity.secure)),
        (libc::AT_RANDOM, seed),
        (libc::AT_HWCAP2, host(libc::AT_HWCAP2)),
        (libc::AT_EXECFN, path),
        (libc::AT_PLATFORM, platform),
    ];
    match host(AT_MINSIGSTKSZ) {
        0 => {}
        size => entries.insert(1, (AT_MINSIGSTKSZ, size)),
    }
    // No rseq entries: the C library then leaves restartable sequences alone.
    entries.push((libc::AT_NULL, 0));
    entries
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_has_room_for_all_auxiliary_entries() {
        let image = Image {
            entry: 0,
            program_entry: 0,
            headers_address: 0,
            headers_count: 0,
            linker_base: 0,
            layout: Default::default(),
        };
        let identity = Identity { credentials: Credentials::default(), secure: false };
        let entries = auxiliary(&image, &identity, 0, 0, 0, 0);
        assert!(entries.len() as u64 <= AUXILIARY);
        assert_eq!(entries.last(), Some(&(libc::AT_NULL, 0)));
    }
}
