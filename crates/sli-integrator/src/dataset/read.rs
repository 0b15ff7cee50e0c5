//! Reading datasets: JSON lines, a JSON array, plain text, or texts in memory.

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use serde_json::Value;
use sli_core::{Result, SliError};

use crate::dataset::record::Record;

/// Where the samples come from.
#[derive(Clone, Debug)]
pub struct Dataset {
    source: Source,
    text_field: String,
}

#[derive(Clone, Debug)]
enum Source {
    File(PathBuf),
    StandardInput,
    Records(Vec<Record>),
}

/// A record with the line it stands in, or what is wrong with it.
pub(crate) struct ReadRecord {
    pub(crate) line: usize,
    pub(crate) record: Result<Record, String>,
}

impl Dataset {
    /// A `.jsonl`, `.json` (an array) or `.txt` (a sample per line) file; `-` is JSON lines on standard input.
    pub fn from_path(path: impl Into<PathBuf>) -> Self {
        let path = path.into();
        let source = if path.as_os_str() == "-" { Source::StandardInput } else { Source::File(path) };
        Self { source, text_field: "text".into() }
    }

    /// Samples from texts in memory.
    pub fn from_texts<T: Into<String>>(texts: impl IntoIterator<Item = T>) -> Self {
        Self::from_records(texts.into_iter().map(Record::from_text))
    }

    /// Samples from records in memory.
    pub fn from_records(records: impl IntoIterator<Item = Record>) -> Self {
        Self { source: Source::Records(records.into_iter().collect()), text_field: "text".into() }
    }

    /// Names the field of a record that holds its text; `text` unless it is named.
    pub fn text_field(mut self, name: impl Into<String>) -> Self {
        self.text_field = name.into();
        self
    }

    /// What to call it in messages.
    pub fn name(&self) -> String {
        match &self.source {
            Source::File(path) => path.display().to_string(),
            Source::StandardInput => "standard input".into(),
            Source::Records(_) => "in memory".into(),
        }
    }

    /// An error about the dataset as a whole.
    pub(crate) fn error(&self, message: impl Into<String>) -> SliError {
        SliError::Dataset { source_name: self.name(), message: message.into() }
    }

    /// An error about one record.
    pub(crate) fn record_error(&self, line: usize, message: String) -> SliError {
        SliError::Record { source_name: self.name(), line, message }
    }

    /// All records in order, the bad ones as what is wrong with them.
    pub(crate) fn read(&self) -> Result<Vec<ReadRecord>> {
        match &self.source {
            Source::Records(records) => {
                let numbered = records.iter().cloned().enumerate();
                Ok(numbered.map(|(i, record)| ReadRecord { line: i + 1, record: Ok(record) }).collect())
            }
            Source::StandardInput => self.json_lines(std::io::stdin().lock()),
            Source::File(path) => self.read_file(path),
        }
    }

    fn read_file(&self, path: &Path) -> Result<Vec<ReadRecord>> {
        let file = File::open(path).map_err(SliError::io("cannot read", path))?;
        let reader = BufReader::new(file);
        match path.extension().and_then(|extension| extension.to_str()) {
            Some("jsonl" | "ndjson") => self.json_lines(reader),
            Some("json") => self.json_array(reader),
            Some("txt") => self.text_lines(reader),
            _ => Err(self.error("its name must end in .jsonl, .json or .txt")),
        }
    }

    fn json_lines(&self, reader: impl BufRead) -> Result<Vec<ReadRecord>> {
        self.lines(reader, |line| {
            let value = serde_json::from_str(line).map_err(|e| format!("not JSON: {e}"))?;
            Record::from_json(&value, &self.text_field)
        })
    }

    fn text_lines(&self, reader: impl BufRead) -> Result<Vec<ReadRecord>> {
        self.lines(reader, |line| Ok(Record::from_text(line)))
    }

    /// Lines that are not blank, each made a record.
    fn lines(
        &self,
        mut reader: impl BufRead,
        parse: impl Fn(&str) -> Result<Record, String>,
    ) -> Result<Vec<ReadRecord>> {
        let (mut records, mut line, mut number) = (Vec::new(), Vec::new(), 0);
        loop {
            line.clear();
            number += 1;
            let read =
                reader.read_until(b'\n', &mut line).map_err(SliError::io("cannot read", self.name()))?;
            if read == 0 {
                return Ok(records);
            }
            let record = match std::str::from_utf8(&line) {
                Ok(text) if text.trim().is_empty() => continue,
                Ok(text) => parse(text.trim_end_matches(['\n', '\r'])),
                Err(_) => Err("not UTF-8".into()),
            };
            records.push(ReadRecord { line: number, record });
        }
    }

    fn json_array(&self, mut reader: impl Read) -> Result<Vec<ReadRecord>> {
        let mut text = String::new();
        reader.read_to_string(&mut text).map_err(SliError::io("cannot read", self.name()))?;
        let value: Value = serde_json::from_str(&text).map_err(|e| self.error(format!("not JSON: {e}")))?;
        let Value::Array(values) = value else {
            return Err(
                self.error("a .json dataset is an array of records (JSON lines go into a .jsonl file)")
            );
        };
        let numbered = values.iter().enumerate();
        Ok(numbered
            .map(|(i, value)| ReadRecord { line: i + 1, record: Record::from_json(value, &self.text_field) })
            .collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_counted_from_one_and_blank_ones_skipped() {
        let dataset = Dataset::from_path("-");
        let text = "{\"text\": \"a\"}\n\n  \n{\"text\": 1}\n{\"text\": \"b\"}";
        let records = dataset.json_lines(text.as_bytes()).unwrap();
        assert_eq!(records.iter().map(|r| r.line).collect::<Vec<_>>(), [1, 4, 5]);
        assert_eq!(records.iter().map(|r| r.record.is_ok()).collect::<Vec<_>>(), [true, false, true]);
    }

    #[test]
    fn broken_bytes_are_a_bad_record_and_no_more() {
        let records = Dataset::from_path("x.txt").text_lines(&b"ok\n\xff\xfe\nfine\n"[..]).unwrap();
        assert_eq!(records.iter().map(|r| r.record.is_ok()).collect::<Vec<_>>(), [true, false, true]);
    }

    #[test]
    fn a_json_dataset_is_an_array() {
        let dataset = Dataset::from_path("x.json");
        assert_eq!(dataset.json_array(&br#"[{"text": "a"}, {"text": "b"}]"#[..]).unwrap().len(), 2);
        assert!(dataset.json_array(&br#"{"text": "a"}"#[..]).is_err());
    }
}
