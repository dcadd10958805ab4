//! What `weir pub` reads: lines, or the elements of a JSON array. Cut as it comes,
//! in portions, so that a file of any size takes the same memory.

use std::io::{self, Read};
use std::ops::Range;

use tokio::sync::mpsc;

/// Bytes read at once.
const READ_BYTES: usize = 256 * 1024;
/// Longest item, bytes; no broker takes a longer message.
const ITEM_BYTES_MAX: usize = weir_protocol::limits::FRAME_BYTES_CEILING as usize;
/// Portions that wait to be published.
const PORTIONS: usize = 4;

/// How items are told apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Framing {
    /// One a line; the line end, with or without carriage return, is not part of it.
    Lines,
    /// The elements of one JSON array.
    JsonArray,
}

/// Some items.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Portion {
    bytes: Vec<u8>,
    items: Vec<Range<usize>>,
    /// Bytes of input that it stands for.
    pub(crate) consumed: u64,
}

impl Portion {
    /// The items in order.
    pub(crate) fn items(&self) -> impl Iterator<Item = &[u8]> {
        self.items.iter().map(|range| &self.bytes[range.clone()])
    }
}

/// Cuts what a reader gives.
pub(crate) struct Cutter<R> {
    reader: R,
    framing: Framing,
    pending: Vec<u8>,
    /// Bytes of `pending` that were looked at.
    scanned: usize,
    items: Vec<Range<usize>>,
    /// Start of the item that is not complete.
    open: Option<usize>,
    json: Scan,
    ended: bool,
    /// What is wrong behind the items that were handed out last.
    fault: Option<io::Error>,
}

/// Where the scanner stands in a JSON text.
#[derive(Debug, Default)]
struct Scan {
    depth: usize,
    in_text: bool,
    escaped: bool,
    closed: bool,
}

impl<R: Read> Cutter<R> {
    pub(crate) fn new(reader: R, framing: Framing) -> Self {
        Self {
            reader,
            framing,
            pending: Vec::new(),
            scanned: 0,
            items: Vec::new(),
            open: None,
            json: Scan::default(),
            ended: false,
            fault: None,
        }
    }

    /// The next portion; `None` at the end of the input. An error comes behind the items
    /// before it.
    ///
    /// # Errors
    /// What the reader said, and `InvalidData` for an item without end or an array
    /// that is none.
    pub(crate) fn next_portion(&mut self) -> io::Result<Option<Portion>> {
        if let Some(fault) = self.fault.take() {
            return Err(fault);
        }
        while !self.ended {
            let before = self.pending.len();
            self.pending.resize(before + READ_BYTES, 0);
            let count = match self.reader.read(&mut self.pending[before..]) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => 0,
                Err(error) => return Err(error),
                Ok(0) => {
                    self.ended = true;
                    0
                }
                Ok(count) => count,
            };
            self.pending.truncate(before + count);
            let scanned = match self.framing {
                Framing::Lines => {
                    self.scan_lines();
                    Ok(())
                }
                Framing::JsonArray => self.scan_array(),
            };
            if !self.items.is_empty() {
                self.fault = scanned.err();
                return Ok(Some(self.portion()));
            }
            scanned?;
            if self.pending.len() > ITEM_BYTES_MAX {
                return Err(invalid("an item is longer than any message may be"));
            }
        }
        Ok(None)
    }

    /// Hands out the complete items and keeps the rest.
    fn portion(&mut self) -> Portion {
        let cut = self.open.unwrap_or(self.scanned);
        let rest = self.pending.split_off(cut);
        let bytes = std::mem::replace(&mut self.pending, rest);
        self.scanned -= cut;
        self.open = self.open.map(|_| 0);
        let consumed = bytes.len() as u64;
        Portion { bytes, items: std::mem::take(&mut self.items), consumed }
    }

    fn scan_lines(&mut self) {
        let start = self.open.take().unwrap_or(self.scanned);
        let mut line = start;
        for at in self.scanned..self.pending.len() {
            if self.pending[at] == b'\n' {
                self.push_line(line, at);
                line = at + 1;
            }
        }
        self.scanned = self.pending.len();
        if line < self.scanned {
            if self.ended {
                self.push_line(line, self.scanned);
            } else {
                self.open = Some(line);
            }
        }
    }

    fn push_line(&mut self, start: usize, end: usize) {
        let has_return = end > start && self.pending[end - 1] == b'\r';
        self.items.push(start..end - usize::from(has_return));
    }

    fn scan_array(&mut self) -> io::Result<()> {
        for at in self.scanned..self.pending.len() {
            // Also where it fails: what is handed out ends here.
            self.scanned = at;
            self.scan_byte(at)?;
        }
        self.scanned = self.pending.len();
        if self.ended && !self.json.closed {
            return Err(invalid("the JSON array has no end"));
        }
        Ok(())
    }

    fn scan_byte(&mut self, at: usize) -> io::Result<()> {
        let byte = self.pending[at];
        let scan = &mut self.json;
        if scan.in_text {
            match byte {
                _ if scan.escaped => scan.escaped = false,
                b'\\' => scan.escaped = true,
                b'"' => scan.in_text = false,
                _ => {}
            }
            return Ok(());
        }
        if byte.is_ascii_whitespace() {
            return Ok(());
        }
        if scan.closed {
            return Err(invalid("there is something behind the JSON array"));
        }
        if scan.depth == 0 {
            if byte != b'[' {
                return Err(invalid("the input is no JSON array; it does not begin with ["));
            }
            scan.depth = 1;
            return Ok(());
        }
        let ends_item = scan.depth == 1 && matches!(byte, b',' | b']');
        if ends_item {
            if let Some(start) = self.open.take() {
                let item = self.pending[start..at].trim_ascii_end();
                self.items.push(start..start + item.len());
            } else if byte == b',' {
                return Err(invalid("an element of the JSON array is missing"));
            }
            if byte == b']' {
                scan.depth = 0;
                scan.closed = true;
            }
            return Ok(());
        }
        self.open.get_or_insert(at);
        match byte {
            b'"' => scan.in_text = true,
            b'[' | b'{' => scan.depth += 1,
            b']' | b'}' => scan.depth -= 1,
            _ => {}
        }
        Ok(())
    }
}

/// Cuts on a thread of its own; reading ahead stops after a few portions. The
/// thread ends when the receiver is gone or the input is.
pub(crate) fn cut_on_thread(
    reader: Box<dyn Read + Send>,
    framing: Framing,
) -> mpsc::Receiver<io::Result<Portion>> {
    let (sender, receiver) = mpsc::channel(PORTIONS);
    tokio::task::spawn_blocking(move || {
        let mut cutter = Cutter::new(reader, framing);
        while let Some(portion) = cutter.next_portion().transpose() {
            let failed = portion.is_err();
            if sender.blocking_send(portion).is_err() || failed {
                break;
            }
        }
    });
    receiver
}

fn invalid(text: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, text)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// Gives a few bytes at a time, so that cuts fall everywhere.
    struct Drip<'a>(&'a [u8], usize);

    impl Read for Drip<'_> {
        fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
            let count = self.1.min(self.0.len()).min(out.len());
            out[..count].copy_from_slice(&self.0[..count]);
            self.0 = &self.0[count..];
            Ok(count)
        }
    }

    fn cut(input: &str, step: usize, framing: Framing) -> io::Result<Vec<String>> {
        let mut cutter = Cutter::new(Drip(input.as_bytes(), step), framing);
        let (mut items, mut consumed) = (Vec::new(), 0);
        while let Some(portion) = cutter.next_portion()? {
            items.extend(portion.items().map(|item| String::from_utf8(item.to_vec()).unwrap()));
            consumed += portion.consumed;
        }
        assert!(consumed <= input.len() as u64);
        Ok(items)
    }

    #[test]
    fn lines_are_cut_alike_however_they_arrive() {
        for step in 1..20 {
            let lines = cut("one\ntwo\r\n\nlast", step, Framing::Lines).unwrap();
            assert_eq!(lines, ["one", "two", "", "last"], "step {step}");
            assert_eq!(cut("one\n", step, Framing::Lines).unwrap(), ["one"]);
            assert!(cut("", step, Framing::Lines).unwrap().is_empty());
        }
    }

    #[test]
    fn elements_are_cut_alike_however_they_arrive() {
        let text = " [ {\"a\": [1, 2], \"b\": \"],\\\"[\"} ,\n 17, \"x,y\" , [[]] ] \n";
        for step in 1..30 {
            let items = cut(text, step, Framing::JsonArray).unwrap();
            assert_eq!(
                items,
                ["{\"a\": [1, 2], \"b\": \"],\\\"[\"}", "17", "\"x,y\"", "[[]]"],
                "step {step}"
            );
            assert!(cut("[]", step, Framing::JsonArray).unwrap().is_empty());
        }
    }

    #[test]
    fn what_is_whole_comes_before_the_error_behind_it() {
        for text in ["[1,22,\"x\",,5]", "[1,22,\"x\"] 5", "[1,22,\"x\",5"] {
            for step in 1..20 {
                let mut cutter = Cutter::new(Drip(text.as_bytes(), step), Framing::JsonArray);
                let mut items = Vec::new();
                let error = loop {
                    match cutter.next_portion() {
                        Ok(Some(portion)) => items.extend(portion.items().map(<[u8]>::to_vec)),
                        Ok(None) => panic!("{text} passes for an array"),
                        Err(error) => break error,
                    }
                };
                assert_eq!(error.kind(), io::ErrorKind::InvalidData);
                assert_eq!(items, [&b"1"[..], b"22", b"\"x\""], "{text}, step {step}");
            }
        }
    }

    #[test]
    fn what_is_no_array_is_refused() {
        for text in ["", "{}", "[1", "[1] 2", "[1,,2]", "[\"a"] {
            assert!(cut(text, 3, Framing::JsonArray).is_err(), "{text}");
        }
    }
}
