//! Why a call on a socket fails. Each variant is one errno of Linux, which the sentry hands to the guest.

use thiserror::Error;

/// Why a call failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Error)]
pub enum Error {
    /// EBADF: the handle names no socket, or one that was closed.
    #[error("the handle names no open socket")]
    BadHandle,
    /// EAGAIN.
    #[error("the call would have to wait")]
    WouldBlock,
    /// EINVAL.
    #[error("an argument makes no sense here")]
    InvalidArgument,
    /// EADDRINUSE.
    #[error("the address is in use")]
    AddressInUse,
    /// EADDRNOTAVAIL.
    #[error("the address is none of this host's, or no port is free")]
    AddressNotAvailable,
    /// EAFNOSUPPORT.
    #[error("the address is of another family")]
    FamilyNotSupported,
    /// EOPNOTSUPP.
    #[error("this kind of socket does not do that")]
    NotSupported,
    /// EPROTONOSUPPORT.
    #[error("there is no such protocol")]
    ProtocolNotSupported,
    /// ENOTCONN.
    #[error("the socket is not connected")]
    NotConnected,
    /// EISCONN.
    #[error("the socket is connected")]
    IsConnected,
    /// EINPROGRESS.
    #[error("the connection is being made")]
    InProgress,
    /// EALREADY.
    #[error("a connection is being made already")]
    Already,
    /// ECONNREFUSED.
    #[error("the peer refused")]
    ConnectionRefused,
    /// ECONNRESET.
    #[error("the peer reset the connection")]
    ConnectionReset,
    /// ECONNABORTED.
    #[error("the connection was aborted")]
    ConnectionAborted,
    /// ETIMEDOUT.
    #[error("the peer did not answer in time")]
    TimedOut,
    /// EPIPE.
    #[error("this direction of the connection is shut down")]
    BrokenPipe,
    /// EDESTADDRREQ.
    #[error("a destination is needed")]
    DestinationRequired,
    /// EMSGSIZE.
    #[error("the message is too long")]
    MessageTooLong,
    /// ENOBUFS.
    #[error("a limit on memory is reached")]
    NoBuffers,
    /// ENETUNREACH.
    #[error("there is no route")]
    NetworkUnreachable,
    /// EHOSTUNREACH.
    #[error("the host cannot be reached")]
    HostUnreachable,
    /// ENETDOWN.
    #[error("the interface is down")]
    NetworkDown,
    /// EACCES.
    #[error("broadcasts need SO_BROADCAST")]
    AccessDenied,
    /// ENOPROTOOPT.
    #[error("the peer has no such protocol")]
    NoProtocol,
    /// EPROTO.
    #[error("the peer or a router found fault with a packet")]
    Protocol,
    /// ENODEV.
    #[error("there is no such interface")]
    NoDevice,
}

impl Error {
    /// Linux's number for it.
    pub const fn errno(self) -> i32 {
        match self {
            Error::BadHandle => libc::EBADF,
            Error::WouldBlock => libc::EAGAIN,
            Error::InvalidArgument => libc::EINVAL,
            Error::AddressInUse => libc::EADDRINUSE,
            Error::AddressNotAvailable => libc::EADDRNOTAVAIL,
            Error::FamilyNotSupported => libc::EAFNOSUPPORT,
            Error::NotSupported => libc::EOPNOTSUPP,
            Error::ProtocolNotSupported => libc::EPROTONOSUPPORT,
            Error::NotConnected => libc::ENOTCONN,
            Error::IsConnected => libc::EISCONN,
            Error::InProgress => libc::EINPROGRESS,
            Error::Already => libc::EALREADY,
            Error::ConnectionRefused => libc::ECONNREFUSED,
            Error::ConnectionReset => libc::ECONNRESET,
            Error::ConnectionAborted => libc::ECONNABORTED,
            Error::TimedOut => libc::ETIMEDOUT,
            Error::BrokenPipe => libc::EPIPE,
            Error::DestinationRequired => libc::EDESTADDRREQ,
            Error::MessageTooLong => libc::EMSGSIZE,
            Error::NoBuffers => libc::ENOBUFS,
            Error::NetworkUnreachable => libc::ENETUNREACH,
            Error::HostUnreachable => libc::EHOSTUNREACH,
            Error::NetworkDown => libc::ENETDOWN,
            Error::AccessDenied => libc::EACCES,
            Error::NoProtocol => libc::ENOPROTOOPT,
            Error::Protocol => libc::EPROTO,
            Error::NoDevice => libc::ENODEV,
        }
    }
}

/// A result of the engine.
pub type Result<T> = std::result::Result<T, Error>;
