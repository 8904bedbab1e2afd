//! netdevice(7): what ioctl(2) on a socket tells of interfaces.

use std::net::IpAddr;

use bulkhead_ipc::{
    Errno,
    net::{Interface, Reply, Request},
};

use super::client::{NetClient, unexpected};
use crate::{abi::UserAddress, task::Thread};

/// sizeof(struct ifreq), IFNAMSIZ.
const REQUEST: usize = 40;
const NAME: usize = 16;

/// ioctl(2). EINVAL for what is no request of these, ENODEV, EADDRNOTAVAIL; changes are EPERM.
pub(super) fn ioctl(client: &NetClient, thread: &Thread, command: u32, argument: UserAddress) -> Result<u64, Errno> {
    let memory = thread.memory();
    let interfaces = || match client.call(&Request::Interfaces)? {
        Reply::Interfaces(list) => Ok(list),
        other => Err(unexpected(&other)),
    };
    match u64::from(command) {
        libc::SIOCGIFCONF => {
            let all = interfaces()?;
            let room: i32 = memory.read_value(argument)?;
            let to: u64 = memory.read_value(argument.offset(8))?;
            let mut entries = Vec::new();
            for interface in &all {
                for (address, _) in interface.addresses.iter().filter(|(address, _)| address.is_ipv4()) {
                    let mut entry = [0; REQUEST];
                    name_into(&mut entry, interface);
                    inet_into(&mut entry, *address);
                    entries.extend_from_slice(&entry);
                }
            }
            if to != 0 {
                // Whole entries only.
                let whole = (room.max(0) as usize / REQUEST * REQUEST).min(entries.len());
                entries.truncate(whole);
                memory.write(UserAddress(to), &entries)?;
            }
            memory.write_value(argument, &(entries.len() as i32))?;
            Ok(0)
        }
        libc::SIOCGIFFLAGS
        | libc::SIOCGIFADDR
        | libc::SIOCGIFNETMASK
        | libc::SIOCGIFBRDADDR
        | libc::SIOCGIFMTU
        | libc::SIOCGIFHWADDR
        | libc::SIOCGIFINDEX
        | libc::SIOCGIFNAME
        | libc::SIOCGIFMETRIC
        | libc::SIOCGIFTXQLEN => {
            let mut entry = [0; REQUEST];
            memory.read(argument, &mut entry)?;
            let all = interfaces()?;
            let number = i32::from_ne_bytes([entry[NAME], entry[NAME + 1], entry[NAME + 2], entry[NAME + 3]]);
            let named = entry[..NAME].split(|byte| *byte == 0).next().unwrap_or_default();
            let asks_by_number = u64::from(command) == libc::SIOCGIFNAME;
            let found = all.iter().find(|interface| match asks_by_number {
                true => i64::from(interface.index) == i64::from(number),
                false => interface.name.as_bytes() == named,
            });
            answer(u64::from(command), found.ok_or(Errno::ENODEV)?, &mut entry)?;
            memory.write(argument, &entry)?;
            Ok(0)
        }
        libc::SIOCSIFFLAGS
        | libc::SIOCSIFADDR
        | libc::SIOCSIFNETMASK
        | libc::SIOCSIFBRDADDR
        | libc::SIOCSIFMTU
        | libc::SIOCSIFHWADDR => Err(Errno::EPERM),
        _ => Err(Errno::ENOTTY),
    }
}

fn answer(command: u64, interface: &Interface, entry: &mut [u8; REQUEST]) -> Result<(), Errno> {
    /// txqueuelen of an Ethernet interface.
    const QUEUE: i32 = 1000;
    let first = interface.addresses.iter().find(|(address, _)| address.is_ipv4()).copied();
    let mut put = |bytes: &[u8]| entry[NAME..NAME + bytes.len()].copy_from_slice(bytes);
    match command {
        libc::SIOCGIFFLAGS => put(&(flags(interface) as u16).to_ne_bytes()),
        libc::SIOCGIFMTU => put(&interface.mtu.to_ne_bytes()),
        libc::SIOCGIFINDEX => put(&interface.index.to_ne_bytes()),
        libc::SIOCGIFMETRIC => put(&0_i32.to_ne_bytes()),
        libc::SIOCGIFTXQLEN => put(&QUEUE.to_ne_bytes()),
        libc::SIOCGIFHWADDR => {
            let kind = if interface.hardware_address.is_some() { libc::ARPHRD_ETHER } else { libc::ARPHRD_LOOPBACK };
            put(&kind.to_ne_bytes());
            let address = interface.hardware_address.unwrap_or_default();
            entry[NAME + 2..NAME + 8].copy_from_slice(&address);
        }
        libc::SIOCGIFNAME => name_into(entry, interface),
        _ => {
            let (address, prefix) = first.ok_or(Errno::EADDRNOTAVAIL)?;
            let IpAddr::V4(own) = address else { return Err(Errno::EADDRNOTAVAIL) };
            let mask = u32::MAX.checked_shl(32 - u32::from(prefix)).unwrap_or(0);
            let told = match command {
                libc::SIOCGIFNETMASK => mask,
                libc::SIOCGIFBRDADDR => own.to_bits() | !mask,
                _ => own.to_bits(),
            };
            inet_into(entry, IpAddr::V4(told.into()));
        }
    }
    Ok(())
}

/// IFF_*.
fn flags(interface: &Interface) -> i32 {
    let kind = if interface.hardware_address.is_some() { libc::IFF_BROADCAST | libc::IFF_MULTICAST } else { libc::IFF_LOOPBACK };
    let state = if interface.up { libc::IFF_UP | libc::IFF_RUNNING } else { 0 };
    kind | state
}

fn name_into(entry: &mut [u8; REQUEST], interface: &Interface) {
    let name = interface.name.as_bytes();
    let length = name.len().min(NAME - 1);
    entry[..NAME].fill(0);
    entry[..length].copy_from_slice(&name[..length]);
}

fn inet_into(entry: &mut [u8; REQUEST], address: IpAddr) {
    if let IpAddr::V4(address) = address {
        entry[NAME..].fill(0);
        entry[NAME..NAME + 2].copy_from_slice(&(libc::AF_INET as u16).to_ne_bytes());
        entry[NAME + 4..NAME + 8].copy_from_slice(&address.octets());
    }
}
