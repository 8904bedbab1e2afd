//! Options of tmpfs (tmpfs(5)).

use bulkhead_ipc::Errno;

/// What a tmpfs is made with.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TmpfsOptions {
    /// Bytes.
    pub size: u64,
    /// Inodes.
    pub inodes: u64,
    /// Permissions of its root.
    pub mode: u32,
    /// Owner of its root.
    pub uid: u32,
    /// Group of its root.
    pub gid: u32,
}

impl TmpfsOptions {
    /// Reads a comma-separated list on a machine with so much memory; options that mean nothing to tmpfs here are passed over,
    /// as they are for the file systems that have them.
    pub fn parse(options: &str, memory: u64) -> Result<TmpfsOptions, Errno> {
        let mut parsed = TmpfsOptions { size: memory / 2, inodes: memory / 2 / 4096, mode: 0o1777, uid: 0, gid: 0 };
        for option in options.split(',') {
            let Some((name, value)) = option.split_once('=') else { continue };
            match name {
                "size" => parsed.size = unlimited(size(value, memory)?),
                "nr_inodes" => parsed.inodes = unlimited(size(value, memory)?),
                "nr_blocks" => parsed.size = unlimited(size(value, memory)?.saturating_mul(4096)),
                "mode" => parsed.mode = u32::from_str_radix(value, 8).map_err(|_| Errno::EINVAL)? & 0o7777,
                "uid" => parsed.uid = value.parse().map_err(|_| Errno::EINVAL)?,
                "gid" => parsed.gid = value.parse().map_err(|_| Errno::EINVAL)?,
                _ => {}
            }
        }
        Ok(parsed)
    }
}

fn unlimited(number: u64) -> u64 {
    if number == 0 { u64::MAX } else { number }
}

fn size(value: &str, memory: u64) -> Result<u64, Errno> {
    let (digits, unit) = match value.find(|c: char| !c.is_ascii_digit()) {
        Some(end) => value.split_at(end),
        None => (value, ""),
    };
    let number: u64 = digits.parse().map_err(|_| Errno::EINVAL)?;
    let scale = match unit {
        "" => 1,
        "k" | "K" => 1 << 10,
        "m" | "M" => 1 << 20,
        "g" | "G" => 1 << 30,
        "t" | "T" => 1 << 40,
        "%" => return Ok((u128::from(memory) * u128::from(number) / 100).min(u128::from(u64::MAX)) as u64),
        _ => return Err(Errno::EINVAL),
    };
    number.checked_mul(scale).ok_or(Errno::EINVAL)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_units() {
        let parsed = TmpfsOptions::parse("nosuid,size=65536k,mode=755,nr_inodes=0", 1 << 30).unwrap();
        assert_eq!((parsed.size, parsed.mode, parsed.inodes), (64 << 20, 0o755, u64::MAX));
        assert_eq!(TmpfsOptions::parse("size=50%", 1 << 30).unwrap().size, 1 << 29);
        assert_eq!(TmpfsOptions::parse("size=1x", 1 << 30), Err(Errno::EINVAL));
        assert_eq!(TmpfsOptions::parse("size=99999999999t", 1 << 30), Err(Errno::EINVAL));
    }
}
