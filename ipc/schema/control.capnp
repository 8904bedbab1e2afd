@0xd2a4d5a95cf0a1b7;
# What the supervisor and the services tell each other over the control plane (the Rust types are in ipc/src/setup), and what
# commands ask of the supervisor (ipc/src/command).
# Byte strings are Data, because paths and arguments need not be UTF-8.

struct Setup {
  # The first message that a service gets. The fds of every role begin with the log's and the debug plane's listening socket.
  sandbox @0 :Text;
  logFilter @1 :Text;
  logJson @2 :Bool;
  role :union {
    sentry @3 :SentrySetup;
    vfs @4 :VfsSetup;
    gofer @5 :GoferSetup;
    netstack @6 :NetstackSetup;
  }
}

struct SentrySetup {
  program @0 :Program;
  hostname @1 :Data;
  domainname @2 :Data;
  cpus @3 :List(UInt32);
  memoryLimit @4 :UInt64;
  maskedPaths @5 :List(Data);
  readonlyPaths @6 :List(Data);
  sysctls @7 :List(Sysctl);
  devptsOptions @8 :Text;
  keepCallSites @9 :Bool;
  taskLimit @10 :UInt64;     # 0: none
  profile :union {
    none @11 :Void;
    given @12 :Profile;
  }
}

struct Profile {
  # OCI linux.seccomp, for the guest's calls.
  defaultAction @0 :FilterAction;
  rules @1 :List(FilterRule);
}

struct FilterAction {
  union {
    allow @0 :Void;
    errno @1 :UInt16;
    killThread @2 :Void;
    killProcess @3 :Void;
    trap @4 :UInt16;
  }
}

struct FilterRule {
  names @0 :List(Text);
  action @1 :FilterAction;
  conditions @2 :List(Condition);
}

struct Condition {
  argument @0 :UInt8;
  comparison @1 :Comparison;
  value @2 :UInt64;
  mask @3 :UInt64;
}

enum Comparison {
  notEqual @0;
  less @1;
  lessOrEqual @2;
  equal @3;
  greaterOrEqual @4;
  greater @5;
  maskedEqual @6;
}

struct Sysctl {
  name @0 :Text;
  value @1 :Text;
}

struct Program {
  arguments @0 :List(Data);
  environment @1 :List(Data);
  directory @2 :Data;
  uid @3 :UInt32;
  gid @4 :UInt32;
  groups @5 :List(UInt32);
  umask :union {
    default @6 :Void;
    given @7 :UInt32;
  }
  capabilities @8 :CapabilitySets;
  limits @9 :List(ResourceLimit);
  noNewPrivileges @10 :Bool;
  oomScoreAdjust @11 :Int32;
  personality @12 :UInt32;
  terminal @13 :Bool;       # stdin, stdout and stderr are one terminal of the host
}

struct CapabilitySets {
  # Bit n = capability number n.
  bounding @0 :UInt64;
  effective @1 :UInt64;
  inheritable @2 :UInt64;
  permitted @3 :UInt64;
  ambient @4 :UInt64;
}

struct ResourceLimit {
  resource @0 :UInt32;
  soft @1 :UInt64;
  hard @2 :UInt64;
}

struct VfsSetup {
  cpus @0 :List(UInt32);
  mounts @1 :List(MountSpec);
  nodes @2 :List(NodeSpec);
}

struct MountSpec {
  destination @0 :Data;
  kind :union {
    gofer @1 :UInt32;     # index of the gofer's root
    overlay @2 :UInt32;   # the same, of the lower layer
    tmpfs @3 :Void;
    foreign @4 :ForeignFs;
  }
  flags @5 :UInt32;
  fstype @6 :Text;
  source @7 :Text;
  options @8 :Text;
}

enum ForeignFs {
  proc @0;
  sysfs @1;
  devpts @2;
  mqueue @3;
  cgroup @4;
}

struct NodeSpec {
  path @0 :Data;
  mode @1 :UInt32;
  device @2 :UInt64;
  uid @3 :UInt32;
  gid @4 :UInt32;
  target @5 :Data;
}

struct GoferSetup {
  cpus @0 :List(UInt32);
  roots @1 :List(RootSpec);
}

struct RootSpec {
  path @0 :Data;
  readonly @1 :Bool;
}

struct NetstackSetup {
  cpus @0 :List(UInt32);
}

struct Execution {
  # A further program in a running container (OCI exec). Its fds: stdin, stdout, stderr, then those that become 3, 4 and so on.
  program @0 :Program;
}

struct Network {
  # What was in the container's network namespace. An order with it brings one packet socket per interface.
  interfaces @0 :List(InterfaceSpec);
  routes @1 :List(RouteSpec);
}

struct InterfaceSpec {
  index @0 :UInt32;
  name @1 :Text;
  hardwareAddress @2 :Data;   # 6 bytes
  mtu @3 :UInt32;
  addresses @4 :List(AddressSpec);
  neighbours @5 :List(NeighbourSpec);
}

struct AddressSpec {
  address @0 :Data;           # 4 or 16 bytes
  prefix @1 :UInt8;
}

struct NeighbourSpec {
  address @0 :Data;
  hardwareAddress @1 :Data;
}

struct RouteSpec {
  destination @0 :Data;
  prefix @1 :UInt8;
  gateway @2 :Data;           # empty: none
  source @3 :Data;            # empty: none
  interface @4 :UInt32;       # index
  metric @5 :UInt32;
}

struct Order {
  # Supervisor to sentry, and to netstack: network, alone.
  union {
    start @0 :Void;
    signal @1 :SignalOrder;
    execute @2 :ExecuteOrder;
    signalExecution @3 :SignalExecutionOrder;
    limitTasks @4 :UInt64;  # 0: no limit
    windowChanged @5 :Void;
    prepare @6 :Void;
    limitMemory @7 :UInt64; # bytes
    network @8 :Network;
  }
}

struct SignalOrder {
  signal @0 :Int32;
  all @1 :Bool;
}

struct ExecuteOrder {
  number @0 :UInt32;      # the supervisor's name for it
  execution @1 :Execution;
}

struct SignalExecutionOrder {
  number @0 :UInt32;
  signal @1 :Int32;
}

struct Report {
  # A service to its supervisor.
  union {
    ready @0 :Void;
    failed @1 :Text;
    started @2 :Void;
    exited @3 :Int32;     # wait status
    execution @4 :ExecutionReport;
    prepared @5 :Void;
    connected @6 :Void;
  }
}

struct ExecutionReport {
  number @0 :UInt32;
  union {
    started @1 :Int32;    # its pid in the container
    failed @2 :Text;
    ended @3 :Int32;      # wait status
  }
}

struct Request {
  # A command to the supervisor.
  union {
    start @0 :Void;
    signal @1 :SignalOrder;
    execute @2 :Execution;
    forward @3 :Int32;    # a signal to the program that this connection had executed
    limitTasks @4 :UInt64;
    windowChanged @5 :Void;
    prepare @6 :Void;
    limitMemory @7 :UInt64;
  }
}

struct Answer {
  # The supervisor to a command.
  union {
    done @0 :Void;
    refused @1 :Text;
    failed @2 :Text;
    executing @3 :Int32;  # the program's pid in the container
    ended @4 :Int32;      # its exit status, as a shell counts
  }
}
