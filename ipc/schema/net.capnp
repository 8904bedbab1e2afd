# What the sentry asks of netstack. The meaning of each message stands at its Rust twin in ipc/src/net/mod.rs; the names are the same.
@0xb1d3f70c5a9e2846;

struct Endpoint {
  address @0 :Data;       # 4 or 16 bytes; empty: none
  port @1 :UInt16;
  scope @2 :UInt32;       # of IPv6
}

struct Request {
  socket @0 :UInt64;
  to @1 :Endpoint;
  flags @2 :UInt32;

  union {
    open :group { family @3 :UInt16; kind @4 :UInt16; protocol @5 :UInt16; owner @6 :UInt32; }
    close @7 :Void;
    bind @8 :Void;
    connect @9 :Void;
    listen @10 :UInt32;
    accept @11 :Void;
    shutdown :group { read @12 :Bool; write @13 :Bool; }
    localName @14 :Void;
    peerName @15 :Void;
    send @16 :Data;
    receive @17 :UInt32;
    takeError @18 :Void;
    setOption :group { level @19 :Int32; name @20 :Int32; value @21 :Data; }
    option :group { level @22 :Int32; name @23 :Int32; }
    interfaces @24 :Void;
  }
}

struct Interface {
  index @0 :UInt32;
  name @1 :Text;
  hardwareAddress @2 :Data;   # empty: loopback
  mtu @3 :UInt32;
  up @4 :Bool;
  addresses @5 :List(Prefix);
}

struct Prefix {
  address @0 :Data;
  length @1 :UInt8;
}

struct Reply {
  union {
    error @0 :Int32;
    done @1 :Void;
    opened @2 :UInt64;
    accepted :group { socket @3 :UInt64; peer @4 :Endpoint; }
    name @5 :Endpoint;
    sent @6 :UInt32;
    received :group { data @7 :Data; length @8 :UInt32; from @9 :Endpoint; }
    pending @10 :Int32;       # 0: no error
    value @11 :Data;
    interfaces @12 :List(Interface);
  }
}
