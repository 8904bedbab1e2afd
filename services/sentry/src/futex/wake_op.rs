//! FUTEX_WAKE_OP's packed operation.

use bulkhead_ipc::Errno;

/// What is done to the second word, and what its old value is compared with.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct WakeOp {
    operation: u32,
    operand: u32,
    comparison: u32,
    comparand: i32,
}

/// A 12-bit field, sign-extended.
fn field(bits: u32) -> i32 {
    (bits << 20) as i32 >> 20
}

impl WakeOp {
    /// From the call's last argument; ENOSYS when it is none.
    pub fn decode(packed: u32) -> Result<WakeOp, Errno> {
        let operation = packed >> 28 & 7;
        let comparison = packed >> 24 & 15;
        let raw = field(packed >> 12 & 0xfff);
        // FUTEX_OP_OPARG_SHIFT: the operand is a bit's number, of which Linux takes the lower five bits.
        let operand = if packed >> 31 != 0 { 1 << (raw & 31) } else { raw as u32 };
        if operation > 4 || comparison > 5 {
            return Err(Errno::ENOSYS);
        }
        Ok(WakeOp { operation, operand, comparison, comparand: field(packed & 0xfff) })
    }

    /// The word's new value.
    pub fn apply(&self, old: u32) -> u32 {
        match self.operation {
            0 => self.operand,
            1 => old.wrapping_add(self.operand),
            2 => old | self.operand,
            3 => old & !self.operand,
            _ => old ^ self.operand,
        }
    }

    /// Whether the second word's waiters are woken too.
    pub fn compares(&self, old: u32) -> bool {
        let old = old as i32;
        match self.comparison {
            0 => old == self.comparand,
            1 => old != self.comparand,
            2 => old < self.comparand,
            3 => old <= self.comparand,
            4 => old > self.comparand,
            _ => old >= self.comparand,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_packed_operation_is_taken_apart_as_futex_2_says() {
        // FUTEX_OP(FUTEX_OP_ADD, -1, FUTEX_OP_CMP_GT, 1)
        let op = WakeOp::decode(1 << 28 | 4 << 24 | 0xfff << 12 | 1).unwrap();
        assert_eq!(op.apply(5), 4);
        assert!(op.compares(2) && !op.compares(1));
        // FUTEX_OP_OR with a shifted operand, FUTEX_OP_CMP_EQ 0
        let op = WakeOp::decode((2 | 8) << 28 | 4 << 12).unwrap();
        assert_eq!(op.apply(1), 17);
        assert!(op.compares(0));
        assert_eq!(WakeOp::decode(5 << 28), Err(Errno::ENOSYS));
        assert_eq!(WakeOp::decode(6 << 24), Err(Errno::ENOSYS));
    }
}
