//! `#!` lines, as Linux reads them.

use bulkhead_ipc::Errno;

/// So much of a file is looked at (BINPRM_BUF_SIZE).
pub const HEAD: usize = 256;

/// A parsed line.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Line {
    /// The interpreter's path.
    pub interpreter: Vec<u8>,
    /// All the rest, as one argument.
    pub argument: Option<Vec<u8>>,
}

/// Parses the start of a file; `None` if it is no script. ENOEXEC for a script without an interpreter, or with one that is cut
/// off.
pub fn parse(head: &[u8]) -> Result<Option<Line>, Errno> {
    let Some(rest) = head.strip_prefix(b"#!") else { return Ok(None) };
    let newline = rest.iter().position(|byte| *byte == b'\n' || *byte == 0);
    let whole = newline.is_some() || head.len() < HEAD;
    let line = trim(&rest[..newline.unwrap_or(rest.len())]);
    let end = line.iter().position(is_blank);
    if line.is_empty() || (end.is_none() && !whole) {
        // Nothing there, or the path itself may be cut off. A cut-off argument is taken as it is.
        return Err(Errno::ENOEXEC);
    }
    let (interpreter, argument) = line.split_at(end.unwrap_or(line.len()));
    let argument = trim(argument);
    Ok(Some(Line { interpreter: interpreter.to_vec(), argument: (!argument.is_empty()).then(|| argument.to_vec()) }))
}

fn is_blank(byte: &u8) -> bool {
    matches!(byte, b' ' | b'\t')
}

fn trim(line: &[u8]) -> &[u8] {
    let start = line.iter().position(|byte| !is_blank(byte)).unwrap_or(line.len());
    let end = line.iter().rposition(|byte| !is_blank(byte)).map_or(start, |last| last + 1);
    &line[start..end]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(interpreter: &str, argument: Option<&str>) -> Result<Option<Line>, Errno> {
        Ok(Some(Line { interpreter: interpreter.into(), argument: argument.map(Into::into) }))
    }

    #[test]
    fn a_script_names_its_interpreter_and_one_argument() {
        assert_eq!(parse(b"#!/bin/sh\necho"), line("/bin/sh", None));
        assert_eq!(parse(b"#! \t/usr/bin/env  python3 -x \t\n"), line("/usr/bin/env", Some("python3 -x")));
        assert_eq!(parse(b"#!/bin/sh"), line("/bin/sh", None));
        assert_eq!(parse(b"\x7fELF"), Ok(None));
        assert_eq!(parse(b""), Ok(None));
    }

    #[test]
    fn a_line_without_an_interpreter_is_no_program() {
        assert_eq!(parse(b"#!\n/bin/sh"), Err(Errno::ENOEXEC));
        assert_eq!(parse(b"#!  \t "), Err(Errno::ENOEXEC));
        let mut long = b"#!/".to_vec();
        long.resize(HEAD, b'x');
        assert_eq!(parse(&long), Err(Errno::ENOEXEC), "the path may go on");
        long[100] = b' ';
        let argument = "x".repeat(HEAD - 101);
        assert_eq!(parse(&long).unwrap().unwrap().argument, Some(argument.into_bytes()));
    }
}
