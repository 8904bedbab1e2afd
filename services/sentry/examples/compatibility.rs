//! Prints docs/compatibility.md from the system-call table: `make docs` writes it, `make check` sees that it is fresh.
#![forbid(unsafe_code)]

use bulkhead_sentry::syscalls::table::{ROWS, Support};

fn main() {
    let count = |support| ROWS.iter().filter(|row| row.support == support).count();
    println!("# Compatibility\n");
    println!("Every system call of Linux 6.12 on x86-64 and how complete it is in Bulkhead. Generated from");
    println!("`services/sentry/src/syscalls/table.rs` by `make docs`; do not edit.\n");
    println!(
        "{} complete, {} partial, {} absent. An absent call returns the errno that Linux gives for a call it does not have",
        count(Support::Complete),
        count(Support::Partial),
        count(Support::Absent)
    );
    println!("(ENOSYS, unless the note says otherwise).\n");
    println!("| number | call | support | note |\n|---:|---|---|---|");
    for row in ROWS {
        let support = match row.support {
            Support::Complete => "complete",
            Support::Partial => "partial",
            Support::Absent => "absent",
        };
        println!("| {} | `{}` | {support} | {} |", row.number, row.name, row.note);
    }
}
