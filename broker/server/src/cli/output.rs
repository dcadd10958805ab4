//! Standard output: lines, tables, JSON. One buffer, flushed when a command has
//! nothing more to say for now; a reader that went away ends the command quietly.

use std::io::{self, Write};

use comfy_table::{CellAlignment, Table, presets};
use serde::Serialize;

use super::failure::Failure;
use super::printable::{printable, printable_lines};

/// See the module's text.
pub(crate) struct Output {
    /// JSON was asked for.
    pub(crate) json: bool,
    writer: Box<dyn Write>,
}

impl Output {
    /// The process's standard output.
    pub(crate) fn stdout(json: bool) -> Self {
        Self::to(Box::new(io::BufWriter::with_capacity(64 * 1024, io::stdout())), json)
    }

    /// Any writer, for tests.
    pub(crate) fn to(writer: Box<dyn Write>, json: bool) -> Self {
        Self { json, writer }
    }

    /// Writes bytes as they are.
    pub(crate) fn bytes(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        self.writer.write_all(bytes).map_err(|error| of_output(&error))
    }

    /// Writes a line.
    pub(crate) fn line(&mut self, line: &str) -> Result<(), Failure> {
        self.bytes(line.as_bytes())?;
        self.bytes(b"\n")
    }

    /// Writes one JSON value as a line, and flushes.
    pub(crate) fn value(&mut self, value: &impl Serialize) -> Result<(), Failure> {
        self.json_line(value)?;
        self.flush()
    }

    /// Writes one JSON value as a line.
    pub(crate) fn json_line(&mut self, value: &impl Serialize) -> Result<(), Failure> {
        serde_json::to_writer(&mut self.writer, value)
            .map_err(|error| of_output(&io::Error::from(error)))?;
        self.bytes(b"\n")
    }

    /// Writes a table with a head; columns whose cells are all numbers stand right.
    pub(crate) fn table(&mut self, head: &[&str], rows: &[Vec<String>]) -> Result<(), Failure> {
        let mut table = bare_table();
        table.set_header(head);
        let shown = |row: &Vec<String>| -> Vec<String> {
            row.iter().map(|cell| printable(cell.as_bytes()).into_owned()).collect()
        };
        table.add_rows(rows.iter().map(shown));
        for at in 0..head.len() {
            let is_number = |row: &Vec<String>| row[at].parse::<f64>().is_ok() || row[at] == "-";
            if !rows.is_empty()
                && rows.iter().all(is_number)
                && let Some(column) = table.column_mut(at)
            {
                column.set_cell_alignment(CellAlignment::Right);
            }
        }
        self.trimmed(&table)
    }

    /// Writes names and values below each other; empty values are left out.
    pub(crate) fn pairs(&mut self, pairs: &[(&str, String)]) -> Result<(), Failure> {
        let mut table = bare_table();
        for (name, value) in pairs.iter().filter(|(_, value)| !value.is_empty()) {
            table.add_row([*name, printable_lines(value).as_str()]);
        }
        self.trimmed(&table)
    }

    fn trimmed(&mut self, table: &Table) -> Result<(), Failure> {
        for line in table.lines() {
            self.line(line.trim_end())?;
        }
        self.flush()
    }

    /// Hands over what was written.
    pub(crate) fn flush(&mut self) -> Result<(), Failure> {
        self.writer.flush().map_err(|error| of_output(&error))
    }

    /// Says that something was done: a sentence for people, a value for programs.
    pub(crate) fn done(
        &mut self,
        sentence: &str,
        value: &serde_json::Value,
    ) -> Result<(), Failure> {
        if self.json {
            return self.value(value);
        }
        self.line(sentence)?;
        self.flush()
    }
}

/// A note for people, on standard error; never when JSON was asked for.
pub(crate) fn note(json: bool, text: &str) {
    if !json {
        // A note that nobody can read is no reason to stop.
        let _ = writeln!(io::stderr().lock(), "{}", printable_lines(text));
    }
}

fn bare_table() -> Table {
    let mut table = Table::new();
    table.load_preset(presets::NOTHING);
    table
}

fn of_output(error: &io::Error) -> Failure {
    match error.kind() {
        io::ErrorKind::BrokenPipe => Failure::broken_pipe(),
        _ => Failure::failed(format!("cannot write the output: {error}")),
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::sync::{Arc, Mutex};

    use super::super::failure::Exit;
    use super::*;

    /// What a test's command wrote.
    #[derive(Clone, Default)]
    pub(crate) struct Written(Arc<Mutex<Vec<u8>>>);

    impl Written {
        pub(crate) fn output(&self, json: bool) -> Output {
            Output::to(Box::new(self.clone()), json)
        }

        pub(crate) fn text(&self) -> String {
            String::from_utf8(self.0.lock().expect("no panic").clone()).expect("UTF-8")
        }
    }

    impl Write for Written {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().expect("no panic").write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    struct Gone;

    impl Write for Gone {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(io::ErrorKind::BrokenPipe.into())
        }

        fn flush(&mut self) -> io::Result<()> {
            Err(io::ErrorKind::BrokenPipe.into())
        }
    }

    #[test]
    fn tables_align_numbers_and_end_lines_without_blanks() {
        let written = Written::default();
        let rows =
            [["orders", "7"], ["mail-eu", "1200"]].map(|row| row.map(str::to_owned).to_vec());
        written.output(false).table(&["NAME", "MESSAGES"], &rows).expect("written");
        assert_eq!(written.text(), " NAME     MESSAGES\n orders          7\n mail-eu      1200\n");
    }

    #[test]
    fn names_that_others_chose_do_not_move_the_cursor() {
        let written = Written::default();
        let mut out = written.output(false);
        out.table(&["NAME"], &[vec!["w\u{9b}1\n".to_owned()]]).expect("written");
        out.pairs(&[("options", "{\"a\":\"\u{9b}2J\"}".to_owned())]).expect("written");
        assert_eq!(written.text(), " NAME\n w.1.\n options  {\"a\":\".2J\"}\n");
    }

    #[test]
    fn a_reader_that_went_away_is_no_failure() {
        let mut out = Output::to(Box::new(Gone), false);
        let failure = out.line("text").expect_err("the pipe is gone");
        assert_eq!((failure.exit, failure.message.as_str()), (Exit::Done, ""));
        let failure = out.value(&1).expect_err("the pipe is gone");
        assert_eq!(failure.exit, Exit::Done);
    }
}
