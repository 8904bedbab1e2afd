# What vfs asks of the gofer. The meaning of each message stands at its Rust twin in ipc/src/gofer/mod.rs; the names are the same.
@0xc4d2a97be01f5836;

using Vfs = import "vfs.capnp";

struct Entry {
  handle @0 :UInt64;
  attributes @1 :Vfs.Attributes;
  target @2 :Data;
}

struct Request {
  handle @0 :UInt64;
  # The file or directory that is worked on; the first directory of link and rename.
  name @1 :Data;
  # A component in it.
  other @2 :UInt64;
  # The second directory of link and rename.
  otherName @3 :Data;
  mode @4 :UInt32;
  flags @5 :UInt32;
  uid @6 :UInt32;
  gid @7 :UInt32;
  value @8 :Data;

  union {
    attach :group { root @9 :UInt32; }
    walk :group { names @10 :List(Data); }
    attributes @11 :Void;
    open @12 :Void;
    create @13 :Void;
    make :group { device @14 :UInt64; }
    link @15 :Void;
    unlink :group { directory @16 :Bool; }
    rename @17 :Void;
    chmod @18 :Void;
    chown :group { setUid @19 :Bool; setGid @20 :Bool; }
    setTimes :group { accessed @21 :Vfs.SetTime; modified @22 :Vfs.SetTime; }
    readDir :group { cookie @23 :UInt64; space @24 :UInt32; }
    getXattr @25 :Void;
    setXattr @26 :Void;
    listXattr @27 :Void;
    removeXattr @28 :Void;
    statfs @29 :Void;
    sync @30 :Void;
    close @31 :List(UInt64);
  }
}

struct Reply {
  union {
    error @0 :Int32;
    done @1 :Void;
    walked :group { entries @2 :List(Entry); stopped @3 :Int32; }
    # `stopped` is an error number, 0 for none.
    attributes @4 :Vfs.Attributes;
    opened @5 :Entry;
    bytes @6 :Data;
    entries @7 :List(Vfs.DirEntry);
    statistics @8 :Vfs.FsStatistics;
  }
}
