//! Socket addresses in guest memory (struct sockaddr).

use bulkhead_ipc::Errno;

use crate::{abi::UserAddress, memory::AddressSpace};

/// sizeof(struct sockaddr_storage): no address is longer.
pub const LONGEST: usize = 128;

/// A socket address as the guest gave it, or is to get it: the family, and what it makes of the rest. May be empty (none).
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Address(pub Vec<u8>);

impl Address {
    /// Of a family and the bytes behind it.
    pub fn new(family: i32, rest: &[u8]) -> Address {
        let mut bytes = Vec::with_capacity(2 + rest.len());
        bytes.extend_from_slice(&(family as u16).to_ne_bytes());
        bytes.extend_from_slice(rest);
        Address(bytes)
    }

    /// The family; `None` of one that is too short to have any.
    pub fn family(&self) -> Option<i32> {
        let [low, high, ..] = self.0[..] else { return None };
        Some(u16::from_ne_bytes([low, high]).into())
    }

    /// What is behind the family.
    pub fn rest(&self) -> &[u8] {
        self.0.get(2..).unwrap_or_default()
    }

    /// An argument of a call. EINVAL for an impossible length.
    pub fn read(memory: &AddressSpace, address: UserAddress, length: i32) -> Result<Address, Errno> {
        let length = usize::try_from(length).ok().filter(|&length| length <= LONGEST).ok_or(Errno::EINVAL)?;
        let mut bytes = vec![0; length];
        memory.read(address, &mut bytes)?;
        Ok(Address(bytes))
    }

    /// Gives it to the guest, as much as there is room for as `length` points to, and says there how long it is.
    pub fn write(&self, memory: &AddressSpace, address: UserAddress, length: UserAddress) -> Result<(), Errno> {
        let room: i32 = memory.read_value(length)?;
        let room = usize::try_from(room).map_err(|_| Errno::EINVAL)?;
        memory.write(address, &self.0[..self.0.len().min(room)])?;
        memory.write_value(length, &(self.0.len() as i32))
    }
}
