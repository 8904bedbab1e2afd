//! Reading and writing Cap'n Proto messages that come from another service: limits, alignment, checked fields. Every codec of
//! this crate goes through here, and none of it panics on any bytes.

use std::{borrow::Cow, net::IpAddr};

use capnp::{
    message::{Builder, HeapAllocator, Reader, ReaderOptions},
    serialize::{self, BufferSegments},
};

use crate::Errno;

/// Why bytes from another service are not a message.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// The bytes are no Cap'n Proto message of this schema.
    #[error("malformed message: {0}")]
    Malformed(String),
    /// A field is longer than Linux allows it to be.
    #[error("{0} is too long")]
    TooLong(&'static str),
    /// A field has a value that means nothing.
    #[error("{0} has no such value")]
    Invalid(&'static str),
}

impl DecodeError {
    /// What the asker gets to see.
    pub fn errno(&self) -> Errno {
        match self {
            DecodeError::TooLong(_) => Errno::ENAMETOOLONG,
            DecodeError::Malformed(_) | DecodeError::Invalid(_) => Errno::EINVAL,
        }
    }
}

impl From<capnp::Error> for DecodeError {
    fn from(error: capnp::Error) -> Self {
        DecodeError::Malformed(error.to_string())
    }
}

impl From<capnp::NotInSchema> for DecodeError {
    fn from(_: capnp::NotInSchema) -> Self {
        DecodeError::Invalid("a union or enum")
    }
}

impl From<std::str::Utf8Error> for DecodeError {
    fn from(_: std::str::Utf8Error) -> Self {
        DecodeError::Invalid("a text")
    }
}

/// Words (8 bytes) that reading one message may touch: twice the largest message, so that a message whose pointers share
/// their targets cannot be made to look larger than it is.
const TRAVERSAL_LIMIT: usize = 2 * crate::rpc::MAX_MESSAGE / 8;

/// No message of ours nests deeper than six.
const NESTING_LIMIT: i32 = 12;

/// Reads `bytes` as one message and lets `read` take it apart.
pub(crate) fn decode<T>(
    bytes: &[u8],
    read: impl FnOnce(&Reader<BufferSegments<&[u8]>>) -> Result<T, DecodeError>,
) -> Result<T, DecodeError> {
    let options = ReaderOptions { traversal_limit_in_words: Some(TRAVERSAL_LIMIT), nesting_limit: NESTING_LIMIT };
    let bytes = if bytes.as_ptr().addr().is_multiple_of(8) { Cow::Borrowed(bytes) } else { Cow::Owned(bytes.to_vec()) };
    read(&serialize::read_message_from_flat_slice(&mut &bytes[..], options)?)
}

/// Builds a message and replaces `into` by its bytes.
pub(crate) fn encode(into: &mut Vec<u8>, build: impl FnOnce(&mut Builder<HeapAllocator>)) {
    let mut message = Builder::new_default();
    build(&mut message);
    *into = serialize::write_message_to_words(&message);
}

/// A field of bytes of at most `limit`.
pub(crate) fn bounded(bytes: &[u8], limit: usize, what: &'static str) -> Result<Vec<u8>, DecodeError> {
    if bytes.len() > limit { Err(DecodeError::TooLong(what)) } else { Ok(bytes.to_vec()) }
}

/// Checks the number of elements of a list, for `u32` lengths that come from outside.
pub(crate) fn count(length: u32, limit: u32, what: &'static str) -> Result<usize, DecodeError> {
    if length > limit { Err(DecodeError::Invalid(what)) } else { Ok(length as usize) }
}

/// A length as Cap'n Proto counts it; no list of ours comes near `u32::MAX`.
pub(crate) fn list_length(length: usize) -> u32 {
    u32::try_from(length).unwrap_or(u32::MAX)
}

/// Puts an IP address where 4 or 16 bytes go.
pub(crate) fn put_ip(address: IpAddr, put: impl FnOnce(&[u8])) {
    match address {
        IpAddr::V4(address) => put(&address.octets()),
        IpAddr::V6(address) => put(&address.octets()),
    }
}

/// An IP address; none is no bytes.
pub(crate) fn ip(octets: &[u8]) -> Result<Option<IpAddr>, DecodeError> {
    if octets.is_empty() {
        return Ok(None);
    }
    let v4 = <[u8; 4]>::try_from(octets).map(IpAddr::from);
    v4.or_else(|_| <[u8; 16]>::try_from(octets).map(IpAddr::from)).map(Some).map_err(|_| DecodeError::Invalid("an address"))
}

/// An IP address that has to be there.
pub(crate) fn required_ip(octets: &[u8]) -> Result<IpAddr, DecodeError> {
    ip(octets)?.ok_or(DecodeError::Invalid("an address"))
}

/// A MAC address.
pub(crate) fn hardware_address(octets: &[u8]) -> Result<[u8; 6], DecodeError> {
    octets.try_into().map_err(|_| DecodeError::Invalid("hardware address"))
}

/// Gives a protocol's requests and replies their form on the wire, by the functions that put them there and get them.
macro_rules! protocol {
    ($request:ident: $put_request:path, $get_request:path; $reply:ident: $put_reply:path, $get_reply:path) => {
        $crate::wire::protocol!(@message $request, $put_request, $get_request);
        $crate::wire::protocol!(@message $reply, $put_reply, $get_reply);

        impl $crate::rpc::Question for $request {
            type Answer = $reply;
            fn encode(&self, into: &mut Vec<u8>) {
                $request::encode(self, into);
            }
            fn decode(bytes: &[u8]) -> Result<$request, $crate::DecodeError> {
                $request::decode(bytes)
            }
        }

        impl $crate::rpc::Answer for $reply {
            fn refusal(errno: $crate::Errno) -> $reply {
                $reply::Error(errno)
            }
            fn encode(&self, into: &mut Vec<u8>) {
                $reply::encode(self, into);
            }
            fn decode(bytes: &[u8]) -> Result<$reply, $crate::DecodeError> {
                $reply::decode(bytes)
            }
        }
    };
    (@message $message:ident, $put:path, $get:path) => {
        impl $message {
            /// Replaces `into` by this message's bytes.
            pub fn encode(&self, into: &mut Vec<u8>) {
                $crate::wire::encode(into, |message| $put(self, message.init_root()));
            }

            /// Reads and checks a message.
            pub fn decode(bytes: &[u8]) -> Result<$message, $crate::DecodeError> {
                $crate::wire::decode(bytes, |message| $get(message.get_root()?))
            }
        }
    };
}
pub(crate) use protocol;
