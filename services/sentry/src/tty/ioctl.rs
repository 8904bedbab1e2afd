//! ioctl_tty(2) on both ends.
//!
//! What changes a terminal from the background is held up as a write is (SIGTTOU). Settings and window are the pair's: asked of
//! the master they are the slave's.

use std::sync::{Arc, atomic::Ordering};

use bulkhead_ipc::Errno;

use super::{
    discipline::{Discipline, Effects, Output},
    file::{Master, Slave, slave_location},
    job,
    pty::Pty,
    termios::{Control, RawTermios, RawTermios2, Termios, WindowSize},
};
use crate::{
    abi::UserAddress,
    fs::OpenFile,
    syscalls::fd::install,
    task::{Thread, capability},
};

const TCGETS2: u32 = 0x802c_542a;
const TCSETS2: u32 = 0x402c_542b;
const TCSETSW2: u32 = 0x402c_542c;
const TCSETSF2: u32 = 0x402c_542d;
const TIOCSTI: u32 = 0x5412;
const TIOCGDEV: u32 = 0x8004_5432;
const TIOCSIG: u32 = 0x4004_5436;
const TIOCGPKT: u32 = 0x8004_5438;
const TIOCGPTLCK: u32 = 0x8004_5439;
const TIOCGEXCL: u32 = 0x8004_5440;
const TIOCGPTPEER: u32 = 0x5441;
const TIOCGPTN: u32 = 0x8004_5430;
const TIOCSPTLCK: u32 = 0x4004_5431;
const TCSBRKP: u32 = 0x5425;
const TIOCVHANGUP: u32 = 0x5437;

/// What is asked of a slave.
pub(super) fn slave(slave: &Slave, thread: &Thread, file: &OpenFile, command: u32, argument: UserAddress) -> Result<u64, Errno> {
    if slave.is_dead() {
        return Err(if command == libc::TIOCSPGRP as u32 { Errno::ENOTTY } else { Errno::EIO });
    }
    let pty = slave.pty();
    match command as libc::c_ulong {
        libc::TIOCGPGRP | libc::TIOCGSID if !job::controls(pty, &thread.process) => Err(Errno::ENOTTY),
        libc::TIOCINQ => {
            let count = pty.look(|state| state.discipline.count());
            answer(thread, argument, &(count as i32))
        }
        libc::TIOCSCTTY => job::acquire(thread, pty, file.readable(), argument.0 == 1).map(|()| 0),
        libc::TIOCNOTTY => job::give_up(thread, pty).map(|()| 0),
        _ => either(pty, thread, command, argument, true),
    }
}

/// What is asked of a master.
pub(super) fn master(
    master: &Master,
    thread: &Thread,
    file: &OpenFile,
    command: u32,
    argument: UserAddress,
) -> Result<u64, Errno> {
    let pty = master.pty();
    let number = |address| thread.memory().read_value::<i32>(address);
    match command {
        TIOCGPTN => answer(thread, argument, &pty.number),
        TIOCSPTLCK => {
            pty.lock(number(argument)? != 0);
            Ok(0)
        }
        TIOCGPTLCK => answer(thread, argument, &i32::from(pty.is_locked())),
        TIOCGPKT => answer(thread, argument, &i32::from(pty.packets())),
        TIOCSIG => {
            let signal = argument.0 as i32;
            if ![libc::SIGINT, libc::SIGQUIT, libc::SIGTSTP].contains(&signal) {
                return Err(Errno::EINVAL);
            }
            job::signal_foreground(&thread.kernel, pty.foreground(), signal);
            Ok(0)
        }
        TIOCGPTPEER => open_peer(pty, thread, file, argument.0 as u32),
        _ => match command as libc::c_ulong {
            libc::TIOCPKT => {
                pty.set_packets(number(argument)? != 0);
                Ok(0)
            }
            libc::TIOCINQ => {
                let count = pty.look(|state| state.output.len());
                answer(thread, argument, &(count as i32))
            }
            libc::TIOCSCTTY => Err(Errno::EPERM),
            libc::TIOCNOTTY => Err(Errno::ENOTTY),
            _ => either(pty, thread, command, argument, false),
        },
    }
}

/// TIOCGPTPEER: the slave, without a path.
fn open_peer(pty: &Arc<Pty>, thread: &Thread, file: &OpenFile, flags: u32) -> Result<u64, Errno> {
    let slave = Slave::open(thread, pty, flags, None)?;
    let location = slave_location(thread, file, pty);
    install(thread, OpenFile::new(slave, flags, location), flags & libc::O_CLOEXEC as u32 != 0)
}

fn answer<T: zerocopy::IntoBytes + zerocopy::Immutable>(thread: &Thread, address: UserAddress, value: &T) -> Result<u64, Errno> {
    thread.memory().write_value(address, value)?;
    Ok(0)
}

/// What both ends answer alike.
fn either(pty: &Arc<Pty>, thread: &Thread, command: u32, argument: UserAddress, background: bool) -> Result<u64, Errno> {
    let memory = thread.memory();
    // The master is nobody's controlling terminal.
    let may_change = || if background { job::check_background(&thread.task, pty, libc::SIGTTOU) } else { Ok(()) };
    match command as libc::c_ulong {
        libc::TCGETS => answer(thread, argument, &pty.termios().to_raw()),
        libc::TCSETS | libc::TCSETSW | libc::TCSETSF => {
            may_change()?;
            let termios = Termios::from_raw(&memory.read_value::<RawTermios>(argument)?, None);
            change(pty, termios, command == libc::TCSETSF as u32)
        }
        libc::TIOCGWINSZ => {
            pty.look_at_console();
            answer(thread, argument, &pty.window())
        }
        libc::TIOCSWINSZ => {
            let window: WindowSize = memory.read_value(argument)?;
            pty.tell_console(window);
            pty.set_window(window);
            Ok(0)
        }
        libc::TIOCGPGRP => answer(thread, argument, &pty.foreground().group),
        libc::TIOCSPGRP => job::set_group(thread, pty, memory.read_value(argument)?).map(|()| 0),
        libc::TIOCGSID => match pty.foreground().session {
            0 => Err(Errno::ENOTTY),
            session => answer(thread, argument, &session),
        },
        libc::TIOCOUTQ => answer(thread, argument, &0i32),
        libc::TCSBRK => may_change().map(|()| 0),
        libc::TCXONC => {
            may_change()?;
            flow(pty, argument.0 as i32)
        }
        libc::TCFLSH => {
            may_change()?;
            flush(pty, argument.0 as i32)
        }
        libc::TIOCEXCL => {
            pty.exclusive.store(true, Ordering::Relaxed);
            Ok(0)
        }
        libc::TIOCNXCL => {
            pty.exclusive.store(false, Ordering::Relaxed);
            Ok(0)
        }
        libc::TIOCGETD => answer(thread, argument, &0i32),
        // N_TTY is the one discipline that there is.
        libc::TIOCSETD => match memory.read_value::<i32>(argument)? {
            0 => Ok(0),
            _ => Err(Errno::EINVAL),
        },
        _ => match command {
            TCGETS2 => answer(thread, argument, &pty.termios().to_raw2()),
            TCSETS2 | TCSETSW2 | TCSETSF2 => {
                may_change()?;
                let termios = Termios::from_raw2(&memory.read_value::<RawTermios2>(argument)?);
                change(pty, termios, command == TCSETSF2)
            }
            TCSBRKP => may_change().map(|()| 0),
            TIOCGDEV => answer(thread, argument, &encode_device(pty)),
            TIOCGEXCL => answer(thread, argument, &i32::from(pty.exclusive.load(Ordering::Relaxed))),
            TIOCSTI => type_byte(pty, thread, memory.read_value(argument)?),
            TIOCVHANGUP => Err(Errno::EPERM),
            _ => Err(Errno::ENOTTY),
        },
    }
}

/// The terminal's device number as /proc and TIOCGDEV have it.
pub(crate) fn encode_device(pty: &Pty) -> u32 {
    let (major, minor) = (libc::major(pty.device()), libc::minor(pty.device()));
    minor & 0xff | major << 8 | (minor & !0xff) << 12
}

/// Output is not waited for: what the master has not read yet counts as sent, as under Linux.
fn change(pty: &Pty, termios: Termios, flush: bool) -> Result<u64, Errno> {
    with_discipline(pty, |discipline, output, effects| {
        if flush {
            discipline.flush_input(effects);
        }
        discipline.set(termios, output, effects);
    });
    Ok(0)
}

fn with_discipline(pty: &Pty, f: impl FnOnce(&mut Discipline, &mut Output, &mut Effects)) {
    pty.work(|state, effects| f(&mut state.discipline, &mut state.output, effects));
}

/// TCXONC.
fn flow(pty: &Pty, action: i32) -> Result<u64, Errno> {
    let send = |which| {
        with_discipline(pty, |discipline, output, _| {
            let byte = discipline.termios().control(which);
            discipline.send(byte, output);
        });
    };
    match action {
        libc::TCOOFF | libc::TCOON => {
            with_discipline(pty, |discipline, output, effects| discipline.hold(action == libc::TCOOFF, output, effects));
        }
        libc::TCIOFF => send(Control::Stop),
        libc::TCION => send(Control::Start),
        _ => return Err(Errno::EINVAL),
    }
    Ok(0)
}

/// TCFLSH.
fn flush(pty: &Pty, queue: i32) -> Result<u64, Errno> {
    let (input, output_too) = match queue {
        libc::TCIFLUSH => (true, false),
        libc::TCOFLUSH => (false, true),
        libc::TCIOFLUSH => (true, true),
        _ => return Err(Errno::EINVAL),
    };
    with_discipline(pty, |discipline, output, effects| {
        if input {
            discipline.flush_input(effects);
        }
        if output_too {
            discipline.flush_output(output, effects);
        }
    });
    Ok(0)
}

/// TIOCSTI, which only the privileged may use, as on a kernel without CONFIG_LEGACY_TIOCSTI.
fn type_byte(pty: &Pty, thread: &Thread, byte: u8) -> Result<u64, Errno> {
    if !thread.credentials().has(capability::SYS_ADMIN) {
        return Err(Errno::EIO);
    }
    pty.type_bytes(&[byte]);
    Ok(0)
}
