//! The system-call table of Linux 6.12 on x86-64: number, name, how complete it is, how it is called, handler, note.
//!
//! `sync` handlers are `fn(&mut Thread, Arguments) -> SysResult`, `async` ones the same as `async fn`; `absent none` rows name the
//! errno that the call returns. The note says what is missing of a partial one, or why one is absent.
//! The compatibility page is generated from this file's rows ([`ROWS`]).

use crate::{
    Errno,
    abi::{Arguments, SysResult},
    task::Thread,
};

/// How complete a system call is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Support {
    /// As Linux has it.
    Complete,
    /// Something is missing; the row's note says what.
    Partial,
    /// Returns an errno always.
    Absent,
}

/// One row, for documentation and traces.
#[derive(Clone, Copy, Debug)]
pub struct Row {
    /// Number in rax.
    pub number: u32,
    /// Name without `sys_`.
    pub name: &'static str,
    /// How complete.
    pub support: Support,
    /// What is missing.
    pub note: &'static str,
}

macro_rules! support {
    (complete) => {
        Support::Complete
    };
    (partial) => {
        Support::Partial
    };
    (absent) => {
        Support::Absent
    };
}

macro_rules! invoke {
    (sync $handler:path, $thread:ident, $arguments:ident, $row:expr) => {
        $handler($thread, $arguments)
    };
    (async $handler:path, $thread:ident, $arguments:ident, $row:expr) => {
        $handler($thread, $arguments).await
    };
    (none $errno:path, $thread:ident, $arguments:ident, $row:expr) => {
        absent($thread, $row, $errno)
    };
}

macro_rules! table {
    ($($number:literal $name:ident $support:ident $kind:ident $handler:path, $note:literal;)*) => {
        /// Every row, ascending by number.
        pub static ROWS: &[Row] = &[$(Row { number: $number, name: stringify!($name), support: support!($support), note: $note }),*];

        /// Carries out one system call.
        pub async fn dispatch(thread: &mut Thread, number: u64, arguments: Arguments) -> SysResult {
            let _ = arguments;
            match number {
                $($number => invoke!($kind $handler, thread, arguments, stringify!($name)),)*
                _ => absent(thread, "(unknown)", Errno::ENOSYS),
            }
        }
    };
}

/// A call that is not there: logged once per name, then silently the errno that Linux would give.
fn absent(_thread: &mut Thread, name: &'static str, errno: Errno) -> SysResult {
    static SEEN: parking_lot::Mutex<Vec<&'static str>> = parking_lot::Mutex::new(Vec::new());
    let mut seen = SEEN.lock();
    if !seen.contains(&name) {
        seen.push(name);
        tracing::info!(call = name, %errno, "a system call that is not implemented");
    }
    Err(errno)
}

#[rustfmt::skip]
mod rows {
    use super::*;
table! {
    0   read                       complete async crate::syscalls::io::read, "";
    1   write                      complete async crate::syscalls::io::write, "";
    2   open                       complete async crate::syscalls::open::open, "";
    3   close                      complete sync  crate::syscalls::fd::close, "";
    4   stat                       complete sync  crate::syscalls::stat::stat, "";
    5   fstat                      complete sync  crate::syscalls::stat::fstat, "";
    6   lstat                      complete sync  crate::syscalls::stat::lstat, "";
    7   poll                       complete async crate::syscalls::poll::poll, "";
    8   lseek                      complete sync  crate::syscalls::io::lseek, "";
    9   mmap                       partial sync crate::syscalls::memory::mmap, "huge pages are refused as where none are set aside";
    10  mprotect                   complete sync crate::syscalls::memory::mprotect, "";
    11  munmap                     complete sync crate::syscalls::memory::munmap, "";
    12  brk                        complete sync crate::syscalls::memory::brk, "";
    13  rt_sigaction               complete sync  crate::syscalls::signal::rt_sigaction, "";
    14  rt_sigprocmask             complete sync  crate::syscalls::signal::rt_sigprocmask, "";
    15  rt_sigreturn               complete sync  crate::syscalls::signal::rt_sigreturn, "";
    16  ioctl                      partial  sync  crate::syscalls::fd::ioctl, "generic requests, those of pseudo-terminals, pipes and regular files' FIONREAD";
    17  pread64                    complete async crate::syscalls::io::pread64, "";
    18  pwrite64                   complete async crate::syscalls::io::pwrite64, "";
    19  readv                      complete async crate::syscalls::io::readv, "";
    20  writev                     complete async crate::syscalls::io::writev, "";
    21  access                     complete sync  crate::syscalls::stat::access, "";
    22  pipe                       complete sync  crate::syscalls::pipe::pipe, "";
    23  select                     complete async crate::syscalls::poll::select, "";
    24  sched_yield                complete async crate::syscalls::schedule::sched_yield, "";
    25  mremap                     complete sync crate::syscalls::memory::mremap, "";
    26  msync                      complete async crate::syscalls::memory::msync, "";
    27  mincore                    partial sync crate::syscalls::memory::mincore, "pages of files always count as in memory";
    28  madvise                    partial sync crate::syscalls::memory::madvise, "MADV_FREE frees at once; hints are checked and ignored";
    29  shmget                     absent none Errno::ENOSYS, "";
    30  shmat                      absent none Errno::ENOSYS, "";
    31  shmctl                     absent none Errno::ENOSYS, "";
    32  dup                        complete sync  crate::syscalls::fd::dup, "";
    33  dup2                       complete sync  crate::syscalls::fd::dup2, "";
    34  pause                      complete async crate::syscalls::signal::pause, "";
    35  nanosleep                  complete async crate::syscalls::time::nanosleep, "";
    36  getitimer                  complete sync  crate::syscalls::time::getitimer, "";
    37  alarm                      complete sync  crate::syscalls::time::alarm, "";
    38  setitimer                  complete sync  crate::syscalls::time::setitimer, "";
    39  getpid                     complete sync crate::syscalls::process::getpid, "";
    40  sendfile                   complete async crate::syscalls::io::sendfile, "";
    41  socket                     partial  sync  crate::syscalls::socket::socket, "AF_UNIX only";
    42  connect                    partial  async crate::syscalls::socket::connect, "a socket of the host that is mounted into the container is not reached";
    43  accept                     complete async crate::syscalls::socket::accept, "";
    44  sendto                     partial  async crate::syscalls::socket::sendto, "no MSG_OOB";
    45  recvfrom                   partial  async crate::syscalls::socket::recvfrom, "no MSG_OOB";
    46  sendmsg                    partial  async crate::syscalls::socket::sendmsg, "no MSG_OOB";
    47  recvmsg                    partial  async crate::syscalls::socket::recvmsg, "no MSG_OOB";
    48  shutdown                   complete sync  crate::syscalls::socket::shutdown, "";
    49  bind                       complete sync  crate::syscalls::socket::bind, "";
    50  listen                     complete sync  crate::syscalls::socket::listen, "";
    51  getsockname                complete sync  crate::syscalls::socket::getsockname, "";
    52  getpeername                complete sync  crate::syscalls::socket::getpeername, "";
    53  socketpair                 complete sync  crate::syscalls::socket::socketpair, "";
    54  setsockopt                 partial  sync  crate::syscalls::socket::setsockopt, "no SO_PEEK_OFF, no socket filters";
    55  getsockopt                 partial  sync  crate::syscalls::socket::getsockopt, "no SO_PEEK_OFF";
    56  clone                      partial async crate::syscalls::process::clone, "no new namespaces: EPERM without CAP_SYS_ADMIN, EINVAL with it; no CLONE_INTO_CGROUP, no CLONE_PIDFD for threads";
    57  fork                       complete async crate::syscalls::process::fork, "";
    58  vfork                      complete async crate::syscalls::process::vfork, "";
    59  execve                     partial async crate::syscalls::exec::execve, "no file capabilities";
    60  exit                       complete sync crate::syscalls::process::exit, "";
    61  wait4                      complete async crate::syscalls::wait::wait4, "";
    62  kill                       complete sync  crate::syscalls::signal::kill, "";
    63  uname                      complete sync crate::syscalls::system::uname, "";
    64  semget                     absent none Errno::ENOSYS, "";
    65  semop                      absent none Errno::ENOSYS, "";
    66  semctl                     absent none Errno::ENOSYS, "";
    67  shmdt                      absent none Errno::ENOSYS, "";
    68  msgget                     absent none Errno::ENOSYS, "";
    69  msgsnd                     absent none Errno::ENOSYS, "";
    70  msgrcv                     absent none Errno::ENOSYS, "";
    71  msgctl                     absent none Errno::ENOSYS, "";
    72  fcntl                      partial  async crate::syscalls::fd::fcntl, "no leases, no directory notification, no read and write hints; O_ASYNC sends nothing; no EDEADLK";
    73  flock                      complete async crate::syscalls::fd::flock, "";
    74  fsync                      complete sync  crate::syscalls::io::fsync, "";
    75  fdatasync                  complete sync  crate::syscalls::io::fdatasync, "";
    76  truncate                   complete sync  crate::syscalls::path::truncate, "";
    77  ftruncate                  complete sync  crate::syscalls::io::ftruncate, "";
    78  getdents                   complete sync  crate::syscalls::directory::getdents, "";
    79  getcwd                     complete sync  crate::syscalls::directory::getcwd, "";
    80  chdir                      complete sync  crate::syscalls::directory::chdir, "";
    81  fchdir                     complete sync  crate::syscalls::directory::fchdir, "";
    82  rename                     complete sync  crate::syscalls::path::rename, "";
    83  mkdir                      complete sync  crate::syscalls::path::mkdir, "";
    84  rmdir                      complete sync  crate::syscalls::path::rmdir, "";
    85  creat                      complete async crate::syscalls::open::creat, "";
    86  link                       complete sync  crate::syscalls::path::link, "";
    87  unlink                     complete sync  crate::syscalls::path::unlink, "";
    88  symlink                    complete sync  crate::syscalls::path::symlink, "";
    89  readlink                   complete sync  crate::syscalls::path::readlink, "";
    90  chmod                      complete sync  crate::syscalls::path::chmod, "";
    91  fchmod                     complete sync  crate::syscalls::path::fchmod, "";
    92  chown                      complete sync  crate::syscalls::path::chown, "";
    93  fchown                     complete sync  crate::syscalls::path::fchown, "";
    94  lchown                     complete sync  crate::syscalls::path::lchown, "";
    95  umask                      complete sync  crate::syscalls::path::set_umask, "";
    96  gettimeofday               complete sync  crate::syscalls::time::gettimeofday, "";
    97  getrlimit                  complete sync crate::syscalls::limits::getrlimit, "";
    98  getrusage                  partial sync crate::syscalls::limits::getrusage, "faults, blocks and involuntary switches read 0";
    99  sysinfo                    partial sync crate::syscalls::system::sysinfo, "load averages read 0";
    100 times                      complete sync crate::syscalls::limits::times, "";
    101 ptrace                     absent none Errno::ENOSYS, "later";
    102 getuid                     complete sync crate::syscalls::identity::getuid, "";
    103 syslog                     partial sync crate::syscalls::system::syslog, "the log is empty";
    104 getgid                     complete sync crate::syscalls::identity::getgid, "";
    105 setuid                     complete sync crate::syscalls::identity::setuid, "";
    106 setgid                     complete sync crate::syscalls::identity::setgid, "";
    107 geteuid                    complete sync crate::syscalls::identity::geteuid, "";
    108 getegid                    complete sync crate::syscalls::identity::getegid, "";
    109 setpgid                    complete sync crate::syscalls::process::setpgid, "";
    110 getppid                    complete sync crate::syscalls::process::getppid, "";
    111 getpgrp                    complete sync crate::syscalls::process::getpgrp, "";
    112 setsid                     complete sync crate::syscalls::process::setsid, "";
    113 setreuid                   complete sync crate::syscalls::identity::setreuid, "";
    114 setregid                   complete sync crate::syscalls::identity::setregid, "";
    115 getgroups                  complete sync crate::syscalls::identity::getgroups, "";
    116 setgroups                  complete sync crate::syscalls::identity::setgroups, "";
    117 setresuid                  complete sync crate::syscalls::identity::setresuid, "";
    118 getresuid                  complete sync crate::syscalls::identity::getresuid, "";
    119 setresgid                  complete sync crate::syscalls::identity::setresgid, "";
    120 getresgid                  complete sync crate::syscalls::identity::getresgid, "";
    121 getpgid                    complete sync crate::syscalls::process::getpgid, "";
    122 setfsuid                   complete sync crate::syscalls::identity::setfsuid, "";
    123 setfsgid                   complete sync crate::syscalls::identity::setfsgid, "";
    124 getsid                     complete sync crate::syscalls::process::getsid, "";
    125 capget                     complete sync crate::syscalls::identity::capget, "";
    126 capset                     complete sync crate::syscalls::identity::capset, "";
    127 rt_sigpending              complete sync  crate::syscalls::signal::rt_sigpending, "";
    128 rt_sigtimedwait            complete async crate::syscalls::signal::rt_sigtimedwait, "";
    129 rt_sigqueueinfo            complete sync  crate::syscalls::signal::rt_sigqueueinfo, "";
    130 rt_sigsuspend              complete async crate::syscalls::signal::rt_sigsuspend, "";
    131 sigaltstack                complete sync  crate::syscalls::signal::sigaltstack, "";
    132 utime                      complete sync  crate::syscalls::path::utime, "";
    133 mknod                      complete sync  crate::syscalls::path::mknod, "";
    134 uselib                     absent none Errno::ENOSYS, "gone from Linux";
    135 personality                partial sync crate::syscalls::prctl::personality, "kept; PER_LINUX32 changes uname(2), ADDR_NO_RANDOMIZE the next program's addresses";
    136 ustat                      absent none Errno::ENOSYS, "";
    137 statfs                     complete sync  crate::syscalls::stat::statfs, "";
    138 fstatfs                    complete sync  crate::syscalls::stat::fstatfs, "";
    139 sysfs                      absent none Errno::ENOSYS, "gone from Linux";
    140 getpriority                complete sync crate::syscalls::schedule::getpriority, "";
    141 setpriority                partial sync crate::syscalls::schedule::setpriority, "kept and told; the host schedules";
    142 sched_setparam             partial sync crate::syscalls::schedule::sched_setparam, "kept and told; the host schedules";
    143 sched_getparam             complete sync crate::syscalls::schedule::sched_getparam, "";
    144 sched_setscheduler         partial sync crate::syscalls::schedule::sched_setscheduler, "kept and told; the host schedules";
    145 sched_getscheduler         complete sync crate::syscalls::schedule::sched_getscheduler, "";
    146 sched_get_priority_max     complete sync crate::syscalls::schedule::sched_get_priority_max, "";
    147 sched_get_priority_min     complete sync crate::syscalls::schedule::sched_get_priority_min, "";
    148 sched_rr_get_interval      partial sync crate::syscalls::schedule::sched_rr_get_interval, "kept and told; the host schedules";
    149 mlock                      partial sync crate::syscalls::memory::mlock, "accounted; the host may still swap";
    150 munlock                    complete sync crate::syscalls::memory::munlock, "";
    151 mlockall                   partial sync crate::syscalls::memory::mlockall, "accounted; the host may still swap";
    152 munlockall                 complete sync crate::syscalls::memory::munlockall, "";
    153 vhangup                    absent none Errno::EPERM, "no such terminals";
    154 modify_ldt                 absent none Errno::ENOSYS, "as a kernel without CONFIG_MODIFY_LDT_SYSCALL";
    155 pivot_root                 partial  sync  crate::syscalls::mount::pivot_root, "always EINVAL for who may call it";
    156 _sysctl                    absent none Errno::ENOSYS, "gone from Linux";
    157 prctl                      partial sync crate::syscalls::prctl::prctl, "no seccomp, no PR_SET_MM, no PR_SET_VMA names; PR_SET_TSC only enables";
    158 arch_prctl                 partial sync crate::syscalls::prctl::arch_prctl, "no shadow stacks, no CPUID faulting";
    159 adjtimex                   partial sync  crate::syscalls::time::adjtimex, "reads only: a container does not set the clock";
    160 setrlimit                  partial sync crate::syscalls::limits::setrlimit, "kept for all; enforced: CPU, NPROC, NOFILE, FSIZE, SIGPENDING, STACK, AS, DATA where their owners check them";
    161 chroot                     complete sync  crate::syscalls::directory::chroot, "";
    162 sync                       complete sync  crate::syscalls::path::sync, "";
    163 acct                       absent none Errno::EPERM, "no accounting";
    164 settimeofday               partial sync  crate::syscalls::time::settimeofday, "EPERM: a container does not set the clock";
    165 mount                      partial  sync  crate::syscalls::mount::mount, "tmpfs, proc, sysfs, bind, remount and move";
    166 umount2                    partial  sync  crate::syscalls::mount::umount2, "no MNT_EXPIRE";
    167 swapon                     absent none Errno::EPERM, "no swap";
    168 swapoff                    absent none Errno::EPERM, "no swap";
    169 reboot                     absent none Errno::EPERM, "never of a container";
    170 sethostname                complete sync crate::syscalls::system::sethostname, "";
    171 setdomainname              complete sync crate::syscalls::system::setdomainname, "";
    172 iopl                       absent none Errno::EPERM, "no port I/O";
    173 ioperm                     absent none Errno::EPERM, "no port I/O";
    174 create_module              absent none Errno::ENOSYS, "gone from Linux";
    175 init_module                absent none Errno::EPERM, "no modules";
    176 delete_module              absent none Errno::EPERM, "no modules";
    177 get_kernel_syms            absent none Errno::ENOSYS, "gone from Linux";
    178 query_module               absent none Errno::ENOSYS, "gone from Linux";
    179 quotactl                   absent none Errno::EPERM, "no quotas";
    180 nfsservctl                 absent none Errno::ENOSYS, "gone from Linux";
    181 getpmsg                    absent none Errno::ENOSYS, "never in Linux";
    182 putpmsg                    absent none Errno::ENOSYS, "never in Linux";
    183 afs_syscall                absent none Errno::ENOSYS, "never in Linux";
    184 tuxcall                    absent none Errno::ENOSYS, "never in Linux";
    185 security                   absent none Errno::ENOSYS, "never in Linux";
    186 gettid                     complete sync crate::syscalls::process::gettid, "";
    187 readahead                  complete sync  crate::syscalls::io::readahead, "";
    188 setxattr                   complete sync  crate::syscalls::xattr::setxattr, "";
    189 lsetxattr                  complete sync  crate::syscalls::xattr::lsetxattr, "";
    190 fsetxattr                  complete sync  crate::syscalls::xattr::fsetxattr, "";
    191 getxattr                   complete sync  crate::syscalls::xattr::getxattr, "";
    192 lgetxattr                  complete sync  crate::syscalls::xattr::lgetxattr, "";
    193 fgetxattr                  complete sync  crate::syscalls::xattr::fgetxattr, "";
    194 listxattr                  complete sync  crate::syscalls::xattr::listxattr, "";
    195 llistxattr                 complete sync  crate::syscalls::xattr::llistxattr, "";
    196 flistxattr                 complete sync  crate::syscalls::xattr::flistxattr, "";
    197 removexattr                complete sync  crate::syscalls::xattr::removexattr, "";
    198 lremovexattr               complete sync  crate::syscalls::xattr::lremovexattr, "";
    199 fremovexattr               complete sync  crate::syscalls::xattr::fremovexattr, "";
    200 tkill                      complete sync  crate::syscalls::signal::tkill, "";
    201 time                       complete sync  crate::syscalls::time::time, "";
    202 futex                      partial async crate::syscalls::futex::futex, "no FUTEX_WAIT_REQUEUE_PI; priorities are not inherited";
    203 sched_setaffinity          complete sync crate::syscalls::schedule::sched_setaffinity, "";
    204 sched_getaffinity          complete sync crate::syscalls::schedule::sched_getaffinity, "";
    205 set_thread_area            absent none Errno::ENOSYS, "as x86-64 without 32-bit support";
    206 io_setup                   absent none Errno::ENOSYS, "";
    207 io_destroy                 absent none Errno::ENOSYS, "";
    208 io_getevents               absent none Errno::ENOSYS, "";
    209 io_submit                  absent none Errno::ENOSYS, "";
    210 io_cancel                  absent none Errno::ENOSYS, "";
    211 get_thread_area            absent none Errno::ENOSYS, "as x86-64 without 32-bit support";
    212 lookup_dcookie             absent none Errno::EPERM, "as in a container of Docker";
    213 epoll_create               complete sync  crate::syscalls::epoll::epoll_create, "";
    214 epoll_ctl_old              absent none Errno::ENOSYS, "";
    215 epoll_wait_old             absent none Errno::ENOSYS, "";
    216 remap_file_pages           absent none Errno::ENOSYS, "";
    217 getdents64                 complete sync  crate::syscalls::directory::getdents64, "";
    218 set_tid_address            complete sync crate::syscalls::process::set_tid_address, "";
    219 restart_syscall            complete async crate::syscalls::signal::restart_syscall, "";
    220 semtimedop                 absent none Errno::ENOSYS, "";
    221 fadvise64                  complete sync  crate::syscalls::io::fadvise64, "";
    222 timer_create               complete sync  crate::syscalls::time::timer_create, "";
    223 timer_settime              complete sync  crate::syscalls::time::timer_settime, "";
    224 timer_gettime              complete sync  crate::syscalls::time::timer_gettime, "";
    225 timer_getoverrun           complete sync  crate::syscalls::time::timer_getoverrun, "";
    226 timer_delete               complete sync  crate::syscalls::time::timer_delete, "";
    227 clock_settime              partial sync  crate::syscalls::time::clock_settime, "EPERM: a container does not set the clock";
    228 clock_gettime              complete sync  crate::syscalls::time::clock_gettime, "";
    229 clock_getres               complete sync  crate::syscalls::time::clock_getres, "";
    230 clock_nanosleep            complete async crate::syscalls::time::clock_nanosleep, "";
    231 exit_group                 complete sync crate::syscalls::process::exit_group, "";
    232 epoll_wait                 complete async crate::syscalls::epoll::epoll_wait, "";
    233 epoll_ctl                  partial sync  crate::syscalls::epoll::epoll_ctl, "EPOLLEXCLUSIVE wakes all sets";
    234 tgkill                     complete sync  crate::syscalls::signal::tgkill, "";
    235 utimes                     complete sync  crate::syscalls::path::utimes, "";
    236 vserver                    absent none Errno::ENOSYS, "never in Linux";
    237 mbind                      absent none Errno::ENOSYS, "";
    238 set_mempolicy              absent none Errno::ENOSYS, "";
    239 get_mempolicy              absent none Errno::ENOSYS, "";
    240 mq_open                    absent none Errno::ENOSYS, "";
    241 mq_unlink                  absent none Errno::ENOSYS, "";
    242 mq_timedsend               absent none Errno::ENOSYS, "";
    243 mq_timedreceive            absent none Errno::ENOSYS, "";
    244 mq_notify                  absent none Errno::ENOSYS, "";
    245 mq_getsetattr              absent none Errno::ENOSYS, "";
    246 kexec_load                 absent none Errno::EPERM, "never of a container";
    247 waitid                     complete async crate::syscalls::wait::waitid, "";
    248 add_key                    absent none Errno::ENOSYS, "as a kernel without CONFIG_KEYS";
    249 request_key                absent none Errno::ENOSYS, "as a kernel without CONFIG_KEYS";
    250 keyctl                     absent none Errno::ENOSYS, "as a kernel without CONFIG_KEYS";
    251 ioprio_set                 partial sync crate::syscalls::schedule::ioprio_set, "kept and told; the host schedules";
    252 ioprio_get                 complete sync crate::syscalls::schedule::ioprio_get, "";
    253 inotify_init               absent   none  Errno::ENOSYS, "nothing reports changes yet, and a descriptor that never fires would be a lie";
    254 inotify_add_watch          absent   none  Errno::ENOSYS, "see inotify_init";
    255 inotify_rm_watch           absent   none  Errno::ENOSYS, "see inotify_init";
    256 migrate_pages              absent none Errno::ENOSYS, "";
    257 openat                     complete async crate::syscalls::open::openat, "";
    258 mkdirat                    complete sync  crate::syscalls::path::mkdirat, "";
    259 mknodat                    complete sync  crate::syscalls::path::mknodat, "";
    260 fchownat                   complete sync  crate::syscalls::path::fchownat, "";
    261 futimesat                  complete sync  crate::syscalls::path::futimesat, "";
    262 newfstatat                 complete sync  crate::syscalls::stat::newfstatat, "";
    263 unlinkat                   complete sync  crate::syscalls::path::unlinkat, "";
    264 renameat                   complete sync  crate::syscalls::path::renameat, "";
    265 linkat                     complete sync  crate::syscalls::path::linkat, "";
    266 symlinkat                  complete sync  crate::syscalls::path::symlinkat, "";
    267 readlinkat                 complete sync  crate::syscalls::path::readlinkat, "";
    268 fchmodat                   complete sync  crate::syscalls::path::fchmodat, "";
    269 faccessat                  complete sync  crate::syscalls::stat::faccessat, "";
    270 pselect6                   complete async crate::syscalls::poll::pselect6, "";
    271 ppoll                      complete async crate::syscalls::poll::ppoll, "";
    272 unshare                    partial sync crate::syscalls::process::unshare, "CLONE_FILES and CLONE_FS; namespaces: EPERM without CAP_SYS_ADMIN, EINVAL with it";
    273 set_robust_list            complete sync crate::syscalls::process::set_robust_list, "";
    274 get_robust_list            complete sync crate::syscalls::process::get_robust_list, "";
    275 splice                     complete async crate::syscalls::io::splice, "";
    276 tee                        complete async crate::syscalls::io::tee, "";
    277 sync_file_range            partial  sync  crate::syscalls::io::sync_file_range, "syncs the whole file";
    278 vmsplice                   complete async crate::syscalls::io::vmsplice, "";
    279 move_pages                 absent none Errno::ENOSYS, "";
    280 utimensat                  complete sync  crate::syscalls::path::utimensat, "";
    281 epoll_pwait                complete async crate::syscalls::epoll::epoll_pwait, "";
    282 signalfd                   complete sync  crate::syscalls::event::signalfd, "";
    283 timerfd_create             partial sync  crate::syscalls::event::timerfd_create, "no alarm clocks";
    284 eventfd                    complete sync  crate::syscalls::event::eventfd, "";
    285 fallocate                  complete sync  crate::syscalls::io::fallocate, "";
    286 timerfd_settime            partial sync  crate::syscalls::event::timerfd_settime, "TFD_TIMER_CANCEL_ON_SET never cancels";
    287 timerfd_gettime            complete sync  crate::syscalls::event::timerfd_gettime, "";
    288 accept4                    complete async crate::syscalls::socket::accept4, "";
    289 signalfd4                  complete sync  crate::syscalls::event::signalfd4, "";
    290 eventfd2                   complete sync  crate::syscalls::event::eventfd2, "";
    291 epoll_create1              complete sync  crate::syscalls::epoll::epoll_create1, "";
    292 dup3                       complete sync  crate::syscalls::fd::dup3, "";
    293 pipe2                      complete sync  crate::syscalls::pipe::pipe2, "";
    294 inotify_init1              absent   none  Errno::ENOSYS, "see inotify_init";
    295 preadv                     complete async crate::syscalls::io::preadv, "";
    296 pwritev                    complete async crate::syscalls::io::pwritev, "";
    297 rt_tgsigqueueinfo          complete sync  crate::syscalls::signal::rt_tgsigqueueinfo, "";
    298 perf_event_open            absent none Errno::EPERM, "as in a container of Docker";
    299 recvmmsg                   partial  async crate::syscalls::socket::recvmmsg, "no MSG_OOB";
    300 fanotify_init              absent   none  Errno::ENOSYS, "a kernel without fanotify";
    301 fanotify_mark              absent   none  Errno::ENOSYS, "a kernel without fanotify";
    302 prlimit64                  partial sync crate::syscalls::limits::prlimit64, "kept for all; enforced: CPU, NPROC, NOFILE, FSIZE, SIGPENDING, STACK, AS, DATA where their owners check them";
    303 name_to_handle_at          absent   none  Errno::EOPNOTSUPP, "file systems that cannot be exported";
    304 open_by_handle_at          absent   none  Errno::EPERM, "needs CAP_DAC_READ_SEARCH in the initial namespace";
    305 clock_adjtime              partial sync  crate::syscalls::time::clock_adjtime, "reads only: a container does not set the clock";
    306 syncfs                     complete sync  crate::syscalls::path::syncfs, "";
    307 sendmmsg                   partial  async crate::syscalls::socket::sendmmsg, "no MSG_OOB";
    308 setns                      partial sync crate::syscalls::process::setns, "there are no other namespaces";
    309 getcpu                     complete sync crate::syscalls::schedule::getcpu, "";
    310 process_vm_readv           complete sync crate::syscalls::memory::process_vm_readv, "";
    311 process_vm_writev          complete sync crate::syscalls::memory::process_vm_writev, "";
    312 kcmp                       absent none Errno::EPERM, "as in a container of Docker";
    313 finit_module               absent none Errno::EPERM, "no modules";
    314 sched_setattr              partial sync crate::syscalls::schedule::sched_setattr, "kept and told; the host schedules";
    315 sched_getattr              complete sync crate::syscalls::schedule::sched_getattr, "";
    316 renameat2                  complete sync  crate::syscalls::path::renameat2, "";
    317 seccomp                    absent none Errno::ENOSYS, "as a kernel without CONFIG_SECCOMP";
    318 getrandom                  complete sync crate::syscalls::system::getrandom, "";
    319 memfd_create               partial  sync  crate::syscalls::io::memfd_create, "no huge pages";
    320 kexec_file_load            absent none Errno::EPERM, "never of a container";
    321 bpf                        absent none Errno::EPERM, "as in a container of Docker";
    322 execveat                   partial async crate::syscalls::exec::execveat, "no file capabilities";
    323 userfaultfd                absent none Errno::EPERM, "as in a container of Docker";
    324 membarrier                 partial async crate::syscalls::memory::membarrier, "no RSEQ and SYNC_CORE commands; every barrier is a global one";
    325 mlock2                     partial sync crate::syscalls::memory::mlock2, "accounted; the host may still swap";
    326 copy_file_range            complete async crate::syscalls::io::copy_file_range, "";
    327 preadv2                    partial  async crate::syscalls::io::preadv2, "RWF_NOWAIT may wait for a disk";
    328 pwritev2                   partial  async crate::syscalls::io::pwritev2, "RWF_NOWAIT may wait for a disk";
    329 pkey_mprotect              partial sync crate::syscalls::memory::pkey_mprotect, "only without a key";
    330 pkey_alloc                 absent none Errno::ENOSYS, "";
    331 pkey_free                  absent none Errno::ENOSYS, "";
    332 statx                      complete sync  crate::syscalls::stat::statx, "";
    333 io_pgetevents              absent none Errno::ENOSYS, "";
    334 rseq                       absent none Errno::ENOSYS, "as a kernel without CONFIG_RSEQ";
    424 pidfd_send_signal          complete sync  crate::syscalls::signal::pidfd_send_signal, "";
    425 io_uring_setup             absent none Errno::ENOSYS, "as a kernel without CONFIG_IO_URING";
    426 io_uring_enter             absent none Errno::ENOSYS, "as a kernel without CONFIG_IO_URING";
    427 io_uring_register          absent none Errno::ENOSYS, "as a kernel without CONFIG_IO_URING";
    428 open_tree                  absent none Errno::ENOSYS, "";
    429 move_mount                 absent none Errno::ENOSYS, "";
    430 fsopen                     absent none Errno::ENOSYS, "";
    431 fsconfig                   absent none Errno::ENOSYS, "";
    432 fsmount                    absent none Errno::ENOSYS, "";
    433 fspick                     absent none Errno::ENOSYS, "";
    434 pidfd_open                 complete sync crate::syscalls::process::pidfd_open, "";
    435 clone3                     partial async crate::syscalls::process::clone3, "as clone; set_tid: EPERM without CAP_CHECKPOINT_RESTORE, EINVAL with it";
    436 close_range                complete sync  crate::syscalls::fd::close_range, "";
    437 openat2                    partial  async crate::syscalls::open::openat2, "RESOLVE_BENEATH confines escapes by links instead of refusing them; RESOLVE_NO_XDEV looks at the two ends only; RESOLVE_CACHED is always EAGAIN";
    438 pidfd_getfd                complete sync crate::syscalls::process::pidfd_getfd, "";
    439 faccessat2                 complete sync  crate::syscalls::stat::faccessat2, "";
    440 process_madvise            absent none Errno::ENOSYS, "";
    441 epoll_pwait2               complete async crate::syscalls::epoll::epoll_pwait2, "";
    442 mount_setattr              absent none Errno::ENOSYS, "";
    443 quotactl_fd                absent none Errno::EPERM, "no quotas";
    444 landlock_create_ruleset    absent none Errno::ENOSYS, "as a kernel without Landlock";
    445 landlock_add_rule          absent none Errno::ENOSYS, "as a kernel without Landlock";
    446 landlock_restrict_self     absent none Errno::ENOSYS, "as a kernel without Landlock";
    447 memfd_secret               absent none Errno::ENOSYS, "";
    448 process_mrelease           absent none Errno::ENOSYS, "";
    449 futex_waitv                complete async crate::syscalls::futex::futex_waitv, "";
    450 set_mempolicy_home_node    absent none Errno::ENOSYS, "";
    451 cachestat                  absent none Errno::ENOSYS, "";
    452 fchmodat2                  complete sync  crate::syscalls::path::fchmodat2, "";
    453 map_shadow_stack           absent none Errno::ENOSYS, "as a CPU without shadow stacks";
    454 futex_wake                 complete sync  crate::syscalls::futex::futex_wake, "";
    455 futex_wait                 complete async crate::syscalls::futex::futex_wait, "";
    456 futex_requeue              complete sync  crate::syscalls::futex::futex_requeue, "";
    457 statmount                  absent none Errno::ENOSYS, "";
    458 listmount                  absent none Errno::ENOSYS, "";
    459 lsm_get_self_attr          absent none Errno::ENOSYS, "as a kernel without security modules";
    460 lsm_set_self_attr          absent none Errno::ENOSYS, "as a kernel without security modules";
    461 lsm_list_modules           absent none Errno::ENOSYS, "as a kernel without security modules";
    462 mseal                      absent none Errno::ENOSYS, "";
}
}

pub use rows::{ROWS, dispatch};

/// A call's name; empty when it has none.
pub fn name(number: u64) -> &'static str {
    let row = ROWS.binary_search_by_key(&number, |row| row.number.into());
    row.ok().and_then(|at| ROWS.get(at)).map_or("", |row| row.name)
}

/// The codes of calls that are made again (signal(7)), as strace(1) calls them.
pub const RESTARTS: [(Errno, &str); 4] = [
    (Errno::ERESTARTSYS, "ERESTARTSYS"),
    (Errno::ERESTARTNOINTR, "ERESTARTNOINTR"),
    (Errno::ERESTARTNOHAND, "ERESTARTNOHAND"),
    (Errno::ERESTART_RESTARTBLOCK, "ERESTART_RESTARTBLOCK"),
];
