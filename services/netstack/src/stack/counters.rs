//! Why packets were dropped, counted.

macro_rules! reasons {
    ($($(#[doc = $doc:literal])* $name:ident),* $(,)?) => {
        /// Why a packet was dropped.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        #[repr(usize)]
        pub enum Drop { $($(#[doc = $doc])* $name),* }

        impl Drop {
            /// Every reason.
            pub const ALL: &[Drop] = &[$(Drop::$name),*];
        }
    };
}

reasons! {
    /// The frame is shorter than its header.
    LinkMalformed,
    /// The frame is for another station.
    OtherStation,
    /// The frame carries no protocol that we speak.
    LinkProtocol,
    /// The interface is down.
    InterfaceDown,
    /// ARP or neighbour discovery that makes no sense.
    NeighbourMalformed,
    /// No neighbour answered for a packet that was to go out.
    NeighbourUnreachable,
    /// The IP header makes no sense.
    IpMalformed,
    /// The IP header's checksum is wrong.
    IpChecksum,
    /// It has a source route.
    SourceRoute,
    /// Its source cannot be one.
    Martian,
    /// It is for another host, and we forward nothing.
    NotForUs,
    /// IPv6: nothing follows.
    NoNextHeader,
    /// IPv6: too many extension headers.
    TooManyExtensions,
    /// IPv6: an option that we do not know and that has to be known.
    UnknownOption,
    /// A fragment that repeats another.
    FragmentDuplicate,
    /// A fragment that overlaps, or makes no sense, or has no room.
    FragmentRefused,
    /// The other fragments did not come in time.
    FragmentTimeout,
    /// Nobody takes this protocol.
    UnknownProtocol,
    /// The transport's header makes no sense.
    TransportMalformed,
    /// The transport's checksum is wrong.
    TransportChecksum,
    /// Nobody has this port.
    NoSocket,
    /// The socket's receive buffer is full.
    ReceiveBufferFull,
    /// The queue of what goes out is full.
    TransmitQueueFull,
    /// An ICMP message that is not understood, or that quotes nothing of ours.
    IcmpIgnored,
    /// An ICMP error was not sent, for there were too many.
    IcmpRateLimit,
    /// TCP: an acknowledgement, sequence number or timestamp outside what is acceptable.
    TcpUnacceptable,
    /// TCP: the listener's queue is full.
    TcpListenOverflow,
    /// TCP: a cookie that is not ours.
    TcpBadCookie,
    /// TCP: out of order, and no room.
    TcpOutOfOrderFull,
}

/// How many were dropped for which reason, and how much went through.
#[derive(Debug, Clone)]
pub struct Counters {
    drops: Vec<u64>,
    /// Frames that came in.
    pub received: u64,
    /// Frames that went out.
    pub sent: u64,
}

impl Default for Counters {
    fn default() -> Counters {
        Counters { drops: vec![0; Drop::ALL.len()], received: 0, sent: 0 }
    }
}

impl Counters {
    /// How many were dropped for a reason.
    pub fn dropped(&self, reason: Drop) -> u64 {
        self.drops.get(reason as usize).copied().unwrap_or(0)
    }

    pub(crate) fn drop(&mut self, reason: Drop) {
        if let Some(count) = self.drops.get_mut(reason as usize) {
            *count += 1;
        }
    }
}
