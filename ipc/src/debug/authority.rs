//! Makes the `:authority` of clients acceptable that name the socket's path there.
//!
//! grpcurl up to 1.8 and grpc-go of its time, asked to connect to a Unix socket, send the socket's path as the request's authority
//! (`/run/bulkhead/c1/debug/vfs.sock`). RFC 3986 does not allow a slash in it, and the HTTP/2 server answers with PROTOCOL_ERROR
//! before anything of ours sees the request. Nobody looks at the authority here, so that the slashes are replaced while the bytes
//! come in: by `3`, whose Huffman code differs from the slash's in the last bit only, which keeps every length, every index
//! and the header table of both sides as they are.
//!
//! [`Rewriter`] follows the frames (RFC 9113) and, in HEADERS and CONTINUATION frames, the header fields (RFC 7541), byte by byte and
//! without storing any. What it does not understand it leaves alone; the server behind it judges it.
#![forbid(unsafe_code)]

/// Follows one connection's incoming bytes.
#[derive(Debug)]
pub(super) struct Rewriter {
    frame: Frame,
    fields: Fields,
}

/// Where in the stream of frames the next byte lies.
#[derive(Debug)]
enum Frame {
    /// The client's preface, so many bytes of it to come.
    Preface(usize),
    /// A frame's header.
    Header { bytes: [u8; 9], filled: usize },
    /// A payload of no interest, so many bytes of it to come.
    Other(usize),
    /// The pad length of a HEADERS frame.
    PadLength { payload: usize, skip: usize },
    /// `skip` bytes of priority, then `fields` bytes of header fields, then `padding`.
    Fields { skip: usize, fields: usize, padding: usize },
}

const PREFACE: usize = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".len();
const HEADERS: u8 = 1;
const CONTINUATION: u8 = 9;
const PADDED: u8 = 0x8;
const PRIORITY: u8 = 0x20;

impl Rewriter {
    pub(super) fn new() -> Rewriter {
        Rewriter { frame: Frame::Preface(PREFACE), fields: Fields::Start }
    }

    /// Rewrites what has just come in.
    pub(super) fn rewrite(&mut self, bytes: &mut [u8]) {
        for byte in bytes {
            self.step(byte);
        }
    }

    fn step(&mut self, byte: &mut u8) {
        self.frame = match std::mem::replace(&mut self.frame, Frame::Other(0)) {
            Frame::Preface(left) => match left - 1 {
                0 => Frame::start(),
                left => Frame::Preface(left),
            },
            Frame::Header { mut bytes, filled } => {
                bytes[filled] = *byte;
                if filled + 1 < bytes.len() { Frame::Header { bytes, filled: filled + 1 } } else { self.payload(bytes) }
            }
            Frame::Other(left) => Frame::other(left - 1),
            Frame::PadLength { payload, skip } => {
                let padding = usize::from(*byte).min(payload);
                let skip = skip.min(payload - padding);
                Frame::fields(skip, payload - padding - skip, padding)
            }
            Frame::Fields { skip: skip @ 1.., fields, padding } => Frame::fields(skip - 1, fields, padding),
            Frame::Fields { skip: 0, fields: fields @ 1.., padding } => {
                self.fields.step(byte);
                Frame::fields(0, fields - 1, padding)
            }
            Frame::Fields { padding, .. } => Frame::other(padding.saturating_sub(1)),
        };
    }

    /// What follows a frame's header.
    fn payload(&mut self, header: [u8; 9]) -> Frame {
        let [a, b, c, kind, flags, ..] = header;
        let length = u32::from_be_bytes([0, a, b, c]) as usize;
        let skip = if flags & PRIORITY != 0 { 5 } else { 0 };
        match kind {
            HEADERS => {
                self.fields = Fields::Start;
                if flags & PADDED != 0 && length > 0 {
                    Frame::PadLength { payload: length - 1, skip }
                } else {
                    Frame::fields(skip.min(length), length - skip.min(length), 0)
                }
            }
            CONTINUATION => Frame::fields(0, length, 0),
            _ => Frame::other(length),
        }
    }
}

impl Frame {
    fn start() -> Frame {
        Frame::Header { bytes: [0; 9], filled: 0 }
    }

    fn other(left: usize) -> Frame {
        if left == 0 { Frame::start() } else { Frame::Other(left) }
    }

    fn fields(skip: usize, fields: usize, padding: usize) -> Frame {
        if skip + fields == 0 { Frame::other(padding) } else { Frame::Fields { skip, fields, padding } }
    }
}

/// Where in a header block the next byte lies.
#[derive(Debug)]
enum Fields {
    /// A field's first byte.
    Start,
    /// The later bytes of an integer.
    Integer { value: usize, shift: u32, then: Then },
    /// A string's first byte; `next` is what comes after it.
    StringStart { authority: bool, next: Next },
    /// A string's bytes.
    String { left: usize, text: Option<Text>, next: Next },
    /// Something that this does not follow.
    Lost,
}

/// What an integer was for.
#[derive(Clone, Copy, Debug)]
enum Then {
    /// A whole field, or a table size.
    Nothing,
    /// The index of a literal's name; 0 is a name in full.
    Name,
    /// The length of a string.
    Length { huffman: bool, authority: bool, next: Next },
}

/// What follows a string.
#[derive(Clone, Copy, Debug)]
enum Next {
    Field,
    Value,
}

/// The index of `:authority` in the static table.
const AUTHORITY: usize = 1;

impl Fields {
    fn step(&mut self, byte: &mut u8) {
        *self = match std::mem::replace(self, Fields::Lost) {
            Fields::Start => match *byte {
                first @ 0x80.. => Fields::integer(first, 7, Then::Nothing),
                first @ 0x40.. => Fields::integer(first, 6, Then::Name),
                first @ 0x20.. => Fields::integer(first, 5, Then::Nothing),
                first => Fields::integer(first, 4, Then::Name),
            },
            Fields::Integer { value, shift, then } => {
                // Nothing in a request is longer than 28 bits can say.
                if shift > 21 {
                    return;
                }
                let value = value + (usize::from(*byte & 0x7f) << shift);
                if *byte & 0x80 == 0 { Fields::after(value, then) } else { Fields::Integer { value, shift: shift + 7, then } }
            }
            Fields::StringStart { authority, next } => {
                Fields::integer(*byte, 7, Then::Length { huffman: *byte & 0x80 != 0, authority, next })
            }
            Fields::String { left, mut text, next } => {
                if let Some(text) = &mut text {
                    text.step(byte);
                }
                Fields::string(left - 1, text, next)
            }
            Fields::Lost => Fields::Lost,
        };
    }

    fn integer(first: u8, prefix: u32, then: Then) -> Fields {
        let most = (1 << prefix) - 1;
        let value = usize::from(first) & most;
        if value < most { Fields::after(value, then) } else { Fields::Integer { value, shift: 0, then } }
    }

    fn after(value: usize, then: Then) -> Fields {
        match then {
            Then::Nothing => Fields::Start,
            Then::Name if value == 0 => Fields::StringStart { authority: false, next: Next::Value },
            Then::Name => Fields::StringStart { authority: value == AUTHORITY, next: Next::Field },
            Then::Length { huffman, authority, next } => {
                let text = authority.then_some(if huffman { Text::Huffman { code: 0, bits: 0 } } else { Text::Plain });
                Fields::string(value, text, next)
            }
        }
    }

    fn string(left: usize, text: Option<Text>, next: Next) -> Fields {
        match (left, next) {
            (0, Next::Field) => Fields::Start,
            (0, Next::Value) => Fields::StringStart { authority: false, next: Next::Field },
            _ => Fields::String { left, text, next },
        }
    }
}

/// The authority's value.
#[derive(Debug)]
enum Text {
    Plain,
    /// The bits of a code that is not yet complete.
    Huffman {
        code: u32,
        bits: u32,
    },
}

/// The slash's code and its length. With the last bit set it is the code of `3`.
const SLASH: (u32, u32) = (0b011000, 6);

/// The code is canonical: codes of a length follow each other, and longer ones come after them. For each length that any
/// printable character has, the first code that is longer (RFC 7541, appendix B).
const FIRST_LONGER: [(u32, u32); 10] = [
    (5, 0b01010),
    (6, 0b101110),
    (7, 0b1111100),
    (8, 0xfe),
    (10, 0x3fd),
    (11, 0x7fd),
    (12, 0xffc),
    (13, 0x1ffe),
    (14, 0x3ffe),
    (15, 0x7fff),
];

impl Text {
    fn step(&mut self, byte: &mut u8) {
        match self {
            Text::Plain if *byte == b'/' => *byte = b'3',
            Text::Plain => {}
            Text::Huffman { code, bits } => {
                for bit in (0..8).rev() {
                    *code = *code << 1 | u32::from(*byte >> bit & 1);
                    *bits += 1;
                    if (*code, *bits) == SLASH {
                        *byte |= 1 << bit;
                    }
                    // A longer code (or the padding at the end) never completes here, and is never a slash.
                    if *bits > 30 || FIRST_LONGER.iter().any(|&(length, longer)| length == *bits && *code < longer) {
                        (*code, *bits) = (0, 0);
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(kind: u8, flags: u8, payload: &[u8]) -> Vec<u8> {
        let length = (payload.len() as u32).to_be_bytes();
        [&length[1..], &[kind, flags, 0, 0, 0, 1], payload].concat()
    }

    fn rewritten(frames: &[Vec<u8>]) -> Vec<u8> {
        let mut bytes = [b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(), frames.concat()].concat();
        Rewriter::new().rewrite(&mut bytes);
        bytes.split_off(PREFACE)
    }

    /// `:method POST`, `:scheme http`, then `:path` and `:authority` as plain literals.
    fn block(authority: &str) -> Vec<u8> {
        let literal = |index: u8, value: &str| [&[0x40 | index, value.len() as u8], value.as_bytes()].concat();
        [vec![0x83, 0x86], literal(4, "/a.B/C"), literal(1, authority), literal(58, "a/b")].concat()
    }

    #[test]
    fn a_path_as_the_authority_loses_its_slashes_and_nothing_else_changes() {
        let settings = frame(4, 0, &[0, 1, 0, 0, 0, 0, b'/', 1]);
        let expected = [settings.clone(), frame(HEADERS, 4, &block("3run3x.sock")), frame(0, 1, b"/data/")].concat();
        assert_eq!(rewritten(&[settings, frame(HEADERS, 4, &block("/run/x.sock")), frame(0, 1, b"/data/")]), expected);
    }

    #[test]
    fn padding_priority_and_continuations_are_followed() {
        let (before, after) = (block("/run/x.sock"), block("3run3x.sock"));
        let padded = |block: &[u8]| frame(HEADERS, PADDED | PRIORITY, &[&[2], &b"/////"[..], block, b"//"].concat());
        assert_eq!(rewritten(&[padded(&before)]), padded(&after));
        let split = |block: &[u8]| [frame(HEADERS, 0, &block[..14]), frame(CONTINUATION, 4, &block[14..])];
        assert_eq!(rewritten(&split(&before)), split(&after).concat());
    }

    #[test]
    fn the_huffman_code_of_a_slash_becomes_that_of_a_3() {
        // "/run/x" is 011000 101100 101101 101010 011000 1111001, padded with ones.
        let code = |slash: &str| format!("{slash}101100101101101010{slash}11110011111");
        let bytes = |bits: String| -> Vec<u8> {
            bits.as_bytes().chunks(8).filter_map(|byte| u8::from_str_radix(std::str::from_utf8(byte).ok()?, 2).ok()).collect()
        };
        let headers = |slash| frame(HEADERS, 4, &[&[0x41, 0x80 | 5], &bytes(code(slash))[..5]].concat());
        assert_eq!(rewritten(&[headers("011000")]), headers("011001"));
    }

    #[test]
    fn it_does_not_matter_how_the_bytes_arrive_and_nonsense_does_no_harm() {
        use proptest::prelude::*;
        proptest!(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() }, |(
            payloads in prop::collection::vec((0..10u8, any::<u8>(), prop::collection::vec(any::<u8>(), 0..60)), 0..6),
        )| {
            let frames: Vec<_> = payloads.iter().map(|(kind, flags, payload)| frame(*kind, *flags, payload)).collect();
            let whole = rewritten(&frames);
            prop_assert_eq!(whole.len(), frames.concat().len());
            let mut rewriter = Rewriter { frame: Frame::start(), fields: Fields::Start };
            let mut single = frames.concat();
            single.chunks_mut(1).for_each(|byte| rewriter.rewrite(byte));
            prop_assert_eq!(single, whole);
        });
    }
}
