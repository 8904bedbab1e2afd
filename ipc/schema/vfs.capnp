# What the sentry asks of vfs. The meaning of each message stands at its Rust twin in ipc/src/vfs/mod.rs; the names are the same.
@0xb6a1d0f2c7e94a31;

struct Caller {
  uid @0 :UInt32;
  gid @1 :UInt32;
  groups @2 :List(UInt32);
  capabilities @3 :UInt64;
}

struct At {
  caller @0 :Caller;
  root @1 :UInt64;
  base @2 :UInt64;
  path @3 :Data;
  follow @4 :Bool;
}

struct Timestamp {
  seconds @0 :Int64;
  nanoseconds @1 :UInt32;
}

struct SetTime {
  union {
    keep @0 :Void;
    now @1 :Void;
    to @2 :Timestamp;
  }
}

struct Attributes {
  device @0 :UInt64;
  inode @1 :UInt64;
  mode @2 :UInt32;
  links @3 :UInt32;
  uid @4 :UInt32;
  gid @5 :UInt32;
  specialDevice @6 :UInt64;
  size @7 :UInt64;
  blocks @8 :UInt64;
  blockSize @9 :UInt32;
  mount @10 :UInt32;
  mountFlags @11 :UInt32;
  accessedSeconds @12 :Int64;
  modifiedSeconds @13 :Int64;
  changedSeconds @14 :Int64;
  createdSeconds @15 :Int64;
  accessedNanoseconds @16 :UInt32;
  modifiedNanoseconds @17 :UInt32;
  changedNanoseconds @18 :UInt32;
  createdNanoseconds @19 :UInt32;
}

struct Published {
  dentry @0 :UInt64;
  inode @1 :UInt64;
}

enum ForeignFs {
  proc @0;
  sysfs @1;
  devpts @2;
  mqueue @3;
  cgroup @4;
}

struct Foreign {
  fs @0 :ForeignFs;
  mount @1 :UInt32;
  mountFlags @2 :UInt32;
  inner @3 :Data;
  mountpoint @4 :UInt64;
  rest @5 :Data;
}

struct DirEntry {
  inode @0 :UInt64;
  next @1 :UInt64;
  kind @2 :UInt8;
  name @3 :Data;
}

struct FsStatistics {
  magic @0 :UInt64;
  blockSize @1 :UInt64;
  blocks @2 :UInt64;
  blocksFree @3 :UInt64;
  blocksAvailable @4 :UInt64;
  files @5 :UInt64;
  filesFree @6 :UInt64;
  nameLength @7 :UInt64;
  flags @8 :UInt64;
}

struct MountInfo {
  id @0 :UInt32;
  parent @1 :UInt32;
  device @2 :UInt64;
  root @3 :Data;
  mountpoint @4 :Data;
  flags @5 :UInt32;
  fstype @6 :Text;
  source @7 :Text;
  options @8 :Text;
}

enum LockFamily {
  record @0;
  flock @1;
}

enum LockKind {
  read @0;
  write @1;
  unlock @2;
}

struct Lock {
  family @0 :LockFamily;
  kind @1 :LockKind;
  owner @2 :UInt64;
  pid @3 :Int32;
  start @4 :UInt64;
  end @5 :UInt64;
}

struct Request {
  # The fields that most requests share stand outside the union; a request that has no use for one leaves it at its default.
  at @0 :At;
  to @1 :At;
  # The second path of link and rename; the source of mount.
  node @2 :UInt64;
  flags @3 :UInt64;
  mode @4 :UInt32;
  name @5 :Data;
  value @6 :Data;

  union {
    lookup :group { directory @7 :Bool; }
    open :group { execute @8 :Bool; }
    reopen @9 :Void;
    stat @10 :Void;
    access @11 :Void;
    readlink @12 :Void;
    mkdir @13 :Void;
    mknod :group { device @14 :UInt64; }
    symlink @15 :Void;
    link @16 :Void;
    unlink :group { directory @17 :Bool; }
    rename @18 :Void;
    chmod @19 :Void;
    chown :group { uid @20 :Int64; gid @21 :Int64; }
    # -1 keeps.
    setTimes :group { accessed @22 :SetTime; modified @23 :SetTime; }
    truncate :group { size @24 :UInt64; }
    getXattr @25 :Void;
    setXattr @26 :Void;
    listXattr @27 :Void;
    removeXattr @28 :Void;
    statfs @29 :Void;
    readDir :group { cookie @30 :UInt64; space @31 :UInt32; }
    pathOf :group { root @32 :UInt64; }
    remember @33 :Void;
    forget @34 :List(UInt64);
    setLock @35 :Lock;
    getLock @36 :Lock;
    dropLocks :group { family @37 :LockFamily; owner @38 :UInt64; }
    mounts @39 :Void;
    sync :group { everything @40 :Bool; }
    mount :group { fstype @41 :Data; options @42 :Data; }
    unmount @43 :Void;
    publication @44 :Void;
  }
}

struct Reply {
  union {
    error @0 :Int32;
    done @1 :Void;
    node :group { id @2 :UInt64; attributes @3 :Attributes; published @17 :Published; }
    opened :group {
      id @4 :UInt64; attributes @5 :Attributes; created @6 :Bool; hasFd @7 :Bool; published @18 :Published; inMemory @19 :Bool;
    }
    attributes @8 :Attributes;
    bytes @9 :Data;
    entries @10 :List(DirEntry);
    statistics @11 :FsStatistics;
    lock :group { union { none @12 :Void; held @13 :Lock; } }
    mounts @14 :List(MountInfo);
    foreign :group { place @15 :Foreign; second @16 :Bool; }
    publication :group { root @20 :Published; mount @21 :UInt32; }
  }
}
