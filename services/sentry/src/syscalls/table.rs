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
    0   read                       absent none Errno::ENOSYS, "";
    1   write                      absent none Errno::ENOSYS, "";
    2   open                       absent none Errno::ENOSYS, "";
    3   close                      absent none Errno::ENOSYS, "";
    4   stat                       absent none Errno::ENOSYS, "";
    5   fstat                      absent none Errno::ENOSYS, "";
    6   lstat                      absent none Errno::ENOSYS, "";
    7   poll                       absent none Errno::ENOSYS, "";
    8   lseek                      absent none Errno::ENOSYS, "";
    9   mmap                       absent none Errno::ENOSYS, "";
    10  mprotect                   absent none Errno::ENOSYS, "";
    11  munmap                     absent none Errno::ENOSYS, "";
    12  brk                        absent none Errno::ENOSYS, "";
    13  rt_sigaction               absent none Errno::ENOSYS, "";
    14  rt_sigprocmask             absent none Errno::ENOSYS, "";
    15  rt_sigreturn               absent none Errno::ENOSYS, "";
    16  ioctl                      absent none Errno::ENOSYS, "";
    17  pread64                    absent none Errno::ENOSYS, "";
    18  pwrite64                   absent none Errno::ENOSYS, "";
    19  readv                      absent none Errno::ENOSYS, "";
    20  writev                     absent none Errno::ENOSYS, "";
    21  access                     absent none Errno::ENOSYS, "";
    22  pipe                       absent none Errno::ENOSYS, "";
    23  select                     absent none Errno::ENOSYS, "";
    24  sched_yield                complete async crate::syscalls::schedule::sched_yield, "";
    25  mremap                     absent none Errno::ENOSYS, "";
    26  msync                      absent none Errno::ENOSYS, "";
    27  mincore                    absent none Errno::ENOSYS, "";
    28  madvise                    absent none Errno::ENOSYS, "";
    29  shmget                     absent none Errno::ENOSYS, "";
    30  shmat                      absent none Errno::ENOSYS, "";
    31  shmctl                     absent none Errno::ENOSYS, "";
    32  dup                        absent none Errno::ENOSYS, "";
    33  dup2                       absent none Errno::ENOSYS, "";
    34  pause                      absent none Errno::ENOSYS, "";
    35  nanosleep                  absent none Errno::ENOSYS, "";
    36  getitimer                  absent none Errno::ENOSYS, "";
    37  alarm                      absent none Errno::ENOSYS, "";
    38  setitimer                  absent none Errno::ENOSYS, "";
    39  getpid                     complete sync crate::syscalls::process::getpid, "";
    40  sendfile                   absent none Errno::ENOSYS, "";
    41  socket                     absent none Errno::ENOSYS, "";
    42  connect                    absent none Errno::ENOSYS, "";
    43  accept                     absent none Errno::ENOSYS, "";
    44  sendto                     absent none Errno::ENOSYS, "";
    45  recvfrom                   absent none Errno::ENOSYS, "";
    46  sendmsg                    absent none Errno::ENOSYS, "";
    47  recvmsg                    absent none Errno::ENOSYS, "";
    48  shutdown                   absent none Errno::ENOSYS, "";
    49  bind                       absent none Errno::ENOSYS, "";
    50  listen                     absent none Errno::ENOSYS, "";
    51  getsockname                absent none Errno::ENOSYS, "";
    52  getpeername                absent none Errno::ENOSYS, "";
    53  socketpair                 absent none Errno::ENOSYS, "";
    54  setsockopt                 absent none Errno::ENOSYS, "";
    55  getsockopt                 absent none Errno::ENOSYS, "";
    56  clone                      partial async crate::syscalls::process::clone, "no new namespaces: EPERM without CAP_SYS_ADMIN, EINVAL with it; no CLONE_INTO_CGROUP, no CLONE_PIDFD for threads";
    57  fork                       complete async crate::syscalls::process::fork, "";
    58  vfork                      complete async crate::syscalls::process::vfork, "";
    59  execve                     partial async crate::syscalls::exec::execve, "no file capabilities";
    60  exit                       complete sync crate::syscalls::process::exit, "";
    61  wait4                      complete async crate::syscalls::wait::wait4, "";
    62  kill                       absent none Errno::ENOSYS, "";
    63  uname                      complete sync crate::syscalls::system::uname, "";
    64  semget                     absent none Errno::ENOSYS, "";
    65  semop                      absent none Errno::ENOSYS, "";
    66  semctl                     absent none Errno::ENOSYS, "";
    67  shmdt                      absent none Errno::ENOSYS, "";
    68  msgget                     absent none Errno::ENOSYS, "";
    69  msgsnd                     absent none Errno::ENOSYS, "";
    70  msgrcv                     absent none Errno::ENOSYS, "";
    71  msgctl                     absent none Errno::ENOSYS, "";
    72  fcntl                      absent none Errno::ENOSYS, "";
    73  flock                      absent none Errno::ENOSYS, "";
    74  fsync                      absent none Errno::ENOSYS, "";
    75  fdatasync                  absent none Errno::ENOSYS, "";
    76  truncate                   absent none Errno::ENOSYS, "";
    77  ftruncate                  absent none Errno::ENOSYS, "";
    78  getdents                   absent none Errno::ENOSYS, "";
    79  getcwd                     absent none Errno::ENOSYS, "";
    80  chdir                      absent none Errno::ENOSYS, "";
    81  fchdir                     absent none Errno::ENOSYS, "";
    82  rename                     absent none Errno::ENOSYS, "";
    83  mkdir                      absent none Errno::ENOSYS, "";
    84  rmdir                      absent none Errno::ENOSYS, "";
    85  creat                      absent none Errno::ENOSYS, "";
    86  link                       absent none Errno::ENOSYS, "";
    87  unlink                     absent none Errno::ENOSYS, "";
    88  symlink                    absent none Errno::ENOSYS, "";
    89  readlink                   absent none Errno::ENOSYS, "";
    90  chmod                      absent none Errno::ENOSYS, "";
    91  fchmod                     absent none Errno::ENOSYS, "";
    92  chown                      absent none Errno::ENOSYS, "";
    93  fchown                     absent none Errno::ENOSYS, "";
    94  lchown                     absent none Errno::ENOSYS, "";
    95  umask                      absent none Errno::ENOSYS, "";
    96  gettimeofday               absent none Errno::ENOSYS, "";
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
    127 rt_sigpending              absent none Errno::ENOSYS, "";
    128 rt_sigtimedwait            absent none Errno::ENOSYS, "";
    129 rt_sigqueueinfo            absent none Errno::ENOSYS, "";
    130 rt_sigsuspend              absent none Errno::ENOSYS, "";
    131 sigaltstack                absent none Errno::ENOSYS, "";
    132 utime                      absent none Errno::ENOSYS, "";
    133 mknod                      absent none Errno::ENOSYS, "";
    134 uselib                     absent none Errno::ENOSYS, "gone from Linux";
    135 personality                partial sync crate::syscalls::prctl::personality, "kept, without effect";
    136 ustat                      absent none Errno::ENOSYS, "";
    137 statfs                     absent none Errno::ENOSYS, "";
    138 fstatfs                    absent none Errno::ENOSYS, "";
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
    149 mlock                      absent none Errno::ENOSYS, "";
    150 munlock                    absent none Errno::ENOSYS, "";
    151 mlockall                   absent none Errno::ENOSYS, "";
    152 munlockall                 absent none Errno::ENOSYS, "";
    153 vhangup                    absent none Errno::EPERM, "no such terminals";
    154 modify_ldt                 absent none Errno::ENOSYS, "as a kernel without CONFIG_MODIFY_LDT_SYSCALL";
    155 pivot_root                 absent none Errno::EPERM, "the root is fixed";
    156 _sysctl                    absent none Errno::ENOSYS, "gone from Linux";
    157 prctl                      partial sync crate::syscalls::prctl::prctl, "no seccomp, no PR_SET_MM, no PR_SET_VMA names; PR_SET_TSC only enables";
    158 arch_prctl                 partial sync crate::syscalls::prctl::arch_prctl, "no shadow stacks, no CPUID faulting";
    159 adjtimex                   absent none Errno::ENOSYS, "";
    160 setrlimit                  partial sync crate::syscalls::limits::setrlimit, "kept for all; enforced: CPU, NPROC, NOFILE, FSIZE, SIGPENDING, STACK, AS, DATA where their owners check them";
    161 chroot                     absent none Errno::ENOSYS, "";
    162 sync                       absent none Errno::ENOSYS, "";
    163 acct                       absent none Errno::EPERM, "no accounting";
    164 settimeofday               absent none Errno::ENOSYS, "";
    165 mount                      absent none Errno::ENOSYS, "";
    166 umount2                    absent none Errno::ENOSYS, "";
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
    187 readahead                  absent none Errno::ENOSYS, "";
    188 setxattr                   absent none Errno::ENOSYS, "";
    189 lsetxattr                  absent none Errno::ENOSYS, "";
    190 fsetxattr                  absent none Errno::ENOSYS, "";
    191 getxattr                   absent none Errno::ENOSYS, "";
    192 lgetxattr                  absent none Errno::ENOSYS, "";
    193 fgetxattr                  absent none Errno::ENOSYS, "";
    194 listxattr                  absent none Errno::ENOSYS, "";
    195 llistxattr                 absent none Errno::ENOSYS, "";
    196 flistxattr                 absent none Errno::ENOSYS, "";
    197 removexattr                absent none Errno::ENOSYS, "";
    198 lremovexattr               absent none Errno::ENOSYS, "";
    199 fremovexattr               absent none Errno::ENOSYS, "";
    200 tkill                      absent none Errno::ENOSYS, "";
    201 time                       absent none Errno::ENOSYS, "";
    202 futex                      absent none Errno::ENOSYS, "";
    203 sched_setaffinity          partial sync crate::syscalls::schedule::sched_setaffinity, "kept and told; the host schedules";
    204 sched_getaffinity          complete sync crate::syscalls::schedule::sched_getaffinity, "";
    205 set_thread_area            absent none Errno::ENOSYS, "as x86-64 without 32-bit support";
    206 io_setup                   absent none Errno::ENOSYS, "";
    207 io_destroy                 absent none Errno::ENOSYS, "";
    208 io_getevents               absent none Errno::ENOSYS, "";
    209 io_submit                  absent none Errno::ENOSYS, "";
    210 io_cancel                  absent none Errno::ENOSYS, "";
    211 get_thread_area            absent none Errno::ENOSYS, "as x86-64 without 32-bit support";
    212 lookup_dcookie             absent none Errno::EPERM, "as in a container of Docker";
    213 epoll_create               absent none Errno::ENOSYS, "";
    214 epoll_ctl_old              absent none Errno::ENOSYS, "";
    215 epoll_wait_old             absent none Errno::ENOSYS, "";
    216 remap_file_pages           absent none Errno::ENOSYS, "";
    217 getdents64                 absent none Errno::ENOSYS, "";
    218 set_tid_address            complete sync crate::syscalls::process::set_tid_address, "";
    219 restart_syscall            absent none Errno::ENOSYS, "";
    220 semtimedop                 absent none Errno::ENOSYS, "";
    221 fadvise64                  absent none Errno::ENOSYS, "";
    222 timer_create               absent none Errno::ENOSYS, "";
    223 timer_settime              absent none Errno::ENOSYS, "";
    224 timer_gettime              absent none Errno::ENOSYS, "";
    225 timer_getoverrun           absent none Errno::ENOSYS, "";
    226 timer_delete               absent none Errno::ENOSYS, "";
    227 clock_settime              absent none Errno::ENOSYS, "";
    228 clock_gettime              absent none Errno::ENOSYS, "";
    229 clock_getres               absent none Errno::ENOSYS, "";
    230 clock_nanosleep            absent none Errno::ENOSYS, "";
    231 exit_group                 complete sync crate::syscalls::process::exit_group, "";
    232 epoll_wait                 absent none Errno::ENOSYS, "";
    233 epoll_ctl                  absent none Errno::ENOSYS, "";
    234 tgkill                     absent none Errno::ENOSYS, "";
    235 utimes                     absent none Errno::ENOSYS, "";
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
    253 inotify_init               absent none Errno::ENOSYS, "";
    254 inotify_add_watch          absent none Errno::ENOSYS, "";
    255 inotify_rm_watch           absent none Errno::ENOSYS, "";
    256 migrate_pages              absent none Errno::ENOSYS, "";
    257 openat                     absent none Errno::ENOSYS, "";
    258 mkdirat                    absent none Errno::ENOSYS, "";
    259 mknodat                    absent none Errno::ENOSYS, "";
    260 fchownat                   absent none Errno::ENOSYS, "";
    261 futimesat                  absent none Errno::ENOSYS, "";
    262 newfstatat                 absent none Errno::ENOSYS, "";
    263 unlinkat                   absent none Errno::ENOSYS, "";
    264 renameat                   absent none Errno::ENOSYS, "";
    265 linkat                     absent none Errno::ENOSYS, "";
    266 symlinkat                  absent none Errno::ENOSYS, "";
    267 readlinkat                 absent none Errno::ENOSYS, "";
    268 fchmodat                   absent none Errno::ENOSYS, "";
    269 faccessat                  absent none Errno::ENOSYS, "";
    270 pselect6                   absent none Errno::ENOSYS, "";
    271 ppoll                      absent none Errno::ENOSYS, "";
    272 unshare                    partial sync crate::syscalls::process::unshare, "CLONE_FILES and CLONE_FS; namespaces: EPERM without CAP_SYS_ADMIN, EINVAL with it";
    273 set_robust_list            complete sync crate::syscalls::process::set_robust_list, "";
    274 get_robust_list            complete sync crate::syscalls::process::get_robust_list, "";
    275 splice                     absent none Errno::ENOSYS, "";
    276 tee                        absent none Errno::ENOSYS, "";
    277 sync_file_range            absent none Errno::ENOSYS, "";
    278 vmsplice                   absent none Errno::ENOSYS, "";
    279 move_pages                 absent none Errno::ENOSYS, "";
    280 utimensat                  absent none Errno::ENOSYS, "";
    281 epoll_pwait                absent none Errno::ENOSYS, "";
    282 signalfd                   absent none Errno::ENOSYS, "";
    283 timerfd_create             absent none Errno::ENOSYS, "";
    284 eventfd                    absent none Errno::ENOSYS, "";
    285 fallocate                  absent none Errno::ENOSYS, "";
    286 timerfd_settime            absent none Errno::ENOSYS, "";
    287 timerfd_gettime            absent none Errno::ENOSYS, "";
    288 accept4                    absent none Errno::ENOSYS, "";
    289 signalfd4                  absent none Errno::ENOSYS, "";
    290 eventfd2                   absent none Errno::ENOSYS, "";
    291 epoll_create1              absent none Errno::ENOSYS, "";
    292 dup3                       absent none Errno::ENOSYS, "";
    293 pipe2                      absent none Errno::ENOSYS, "";
    294 inotify_init1              absent none Errno::ENOSYS, "";
    295 preadv                     absent none Errno::ENOSYS, "";
    296 pwritev                    absent none Errno::ENOSYS, "";
    297 rt_tgsigqueueinfo          absent none Errno::ENOSYS, "";
    298 perf_event_open            absent none Errno::EPERM, "as in a container of Docker";
    299 recvmmsg                   absent none Errno::ENOSYS, "";
    300 fanotify_init              absent none Errno::EPERM, "as in a container of Docker";
    301 fanotify_mark              absent none Errno::ENOSYS, "";
    302 prlimit64                  partial sync crate::syscalls::limits::prlimit64, "kept for all; enforced: CPU, NPROC, NOFILE, FSIZE, SIGPENDING, STACK, AS, DATA where their owners check them";
    303 name_to_handle_at          absent none Errno::ENOSYS, "";
    304 open_by_handle_at          absent none Errno::ENOSYS, "";
    305 clock_adjtime              absent none Errno::ENOSYS, "";
    306 syncfs                     absent none Errno::ENOSYS, "";
    307 sendmmsg                   absent none Errno::ENOSYS, "";
    308 setns                      partial sync crate::syscalls::process::setns, "there are no other namespaces";
    309 getcpu                     complete sync crate::syscalls::schedule::getcpu, "";
    310 process_vm_readv           absent none Errno::ENOSYS, "";
    311 process_vm_writev          absent none Errno::ENOSYS, "";
    312 kcmp                       absent none Errno::EPERM, "as in a container of Docker";
    313 finit_module               absent none Errno::EPERM, "no modules";
    314 sched_setattr              partial sync crate::syscalls::schedule::sched_setattr, "kept and told; the host schedules";
    315 sched_getattr              complete sync crate::syscalls::schedule::sched_getattr, "";
    316 renameat2                  absent none Errno::ENOSYS, "";
    317 seccomp                    absent none Errno::ENOSYS, "as a kernel without CONFIG_SECCOMP";
    318 getrandom                  complete sync crate::syscalls::system::getrandom, "";
    319 memfd_create               absent none Errno::ENOSYS, "";
    320 kexec_file_load            absent none Errno::EPERM, "never of a container";
    321 bpf                        absent none Errno::EPERM, "as in a container of Docker";
    322 execveat                   partial async crate::syscalls::exec::execveat, "no file capabilities";
    323 userfaultfd                absent none Errno::EPERM, "as in a container of Docker";
    324 membarrier                 absent none Errno::ENOSYS, "";
    325 mlock2                     absent none Errno::ENOSYS, "";
    326 copy_file_range            absent none Errno::ENOSYS, "";
    327 preadv2                    absent none Errno::ENOSYS, "";
    328 pwritev2                   absent none Errno::ENOSYS, "";
    329 pkey_mprotect              absent none Errno::ENOSYS, "";
    330 pkey_alloc                 absent none Errno::ENOSYS, "";
    331 pkey_free                  absent none Errno::ENOSYS, "";
    332 statx                      absent none Errno::ENOSYS, "";
    333 io_pgetevents              absent none Errno::ENOSYS, "";
    334 rseq                       absent none Errno::ENOSYS, "as a kernel without CONFIG_RSEQ";
    424 pidfd_send_signal          absent none Errno::ENOSYS, "";
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
    436 close_range                absent none Errno::ENOSYS, "";
    437 openat2                    absent none Errno::ENOSYS, "";
    438 pidfd_getfd                absent none Errno::ENOSYS, "later";
    439 faccessat2                 absent none Errno::ENOSYS, "";
    440 process_madvise            absent none Errno::ENOSYS, "";
    441 epoll_pwait2               absent none Errno::ENOSYS, "";
    442 mount_setattr              absent none Errno::ENOSYS, "";
    443 quotactl_fd                absent none Errno::EPERM, "no quotas";
    444 landlock_create_ruleset    absent none Errno::ENOSYS, "as a kernel without Landlock";
    445 landlock_add_rule          absent none Errno::ENOSYS, "as a kernel without Landlock";
    446 landlock_restrict_self     absent none Errno::ENOSYS, "as a kernel without Landlock";
    447 memfd_secret               absent none Errno::ENOSYS, "";
    448 process_mrelease           absent none Errno::ENOSYS, "";
    449 futex_waitv                absent none Errno::ENOSYS, "";
    450 set_mempolicy_home_node    absent none Errno::ENOSYS, "";
    451 cachestat                  absent none Errno::ENOSYS, "";
    452 fchmodat2                  absent none Errno::ENOSYS, "";
    453 map_shadow_stack           absent none Errno::ENOSYS, "as a CPU without shadow stacks";
    454 futex_wake                 absent none Errno::ENOSYS, "";
    455 futex_wait                 absent none Errno::ENOSYS, "";
    456 futex_requeue              absent none Errno::ENOSYS, "";
    457 statmount                  absent none Errno::ENOSYS, "";
    458 listmount                  absent none Errno::ENOSYS, "";
    459 lsm_get_self_attr          absent none Errno::ENOSYS, "as a kernel without security modules";
    460 lsm_set_self_attr          absent none Errno::ENOSYS, "as a kernel without security modules";
    461 lsm_list_modules           absent none Errno::ENOSYS, "as a kernel without security modules";
    462 mseal                      absent none Errno::ENOSYS, "";
}
}

pub use rows::{ROWS, dispatch};
