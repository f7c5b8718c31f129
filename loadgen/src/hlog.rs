//! The interval log: a histogram per second and kind, in the form that HdrHistogram's own tools
//! read (log format 1.3; payload: the compressed V2 form in Base64).
//!
//! Tags: `all` is every class of the mix together, then each class by its name; each with
//! `-response`, `-service` and `-lag`. Values are nanoseconds, the readable maximum in a row is
//! milliseconds. Times are seconds since the start of the measured phase, whose date is in
//! `StartTime`.
//!
//! Cost: some 100 us and a few kilobytes per used histogram and second, on the reporter thread.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use hdrhistogram::Histogram;
use hdrhistogram::serialization::interval_log::{
    IntervalLogIterator, IntervalLogWriterBuilder, LogEntry, Tag,
};
use hdrhistogram::serialization::{Deserializer, V2DeflateSerializer};

use crate::error::Error;
use crate::recorder::{Class, ClassRecord, Recorder, empty_histogram};
use crate::report::{hgrm, json, text};
use crate::series::INTERVAL_NS;

const NS_PER_MS: f64 = 1e6;
/// What Java's and Python's readers demand in the first lines.
const HEAD: &str = "#[Histogram log format version 1.3]\n";
const LEGEND: &str = "\"StartTimestamp\",\"Interval_Length\",\"Interval_Max\",\
                      \"Interval_Compressed_Histogram\"\n";
/// Largest log that is read.
const LOG_BYTES_MAX: u64 = 1 << 30;

/// Writes a log, a second at a time.
pub(crate) struct LogWriter {
    path: PathBuf,
    out: BufWriter<File>,
    serializer: V2DeflateSerializer,
}

impl LogWriter {
    /// Starts a log of a measured phase that begins at `start`.
    ///
    /// # Errors
    /// [`Error::Io`] if the file cannot be written.
    pub(crate) fn create(path: &Path, start: SystemTime) -> Result<LogWriter, Error> {
        let failed = |error| cannot_write(path, error);
        let mut out = BufWriter::new(File::create(path).map_err(failed)?);
        let since = start.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        write!(
            out,
            "{HEAD}#[StartTime: {:.3} (seconds since epoch)]\n{LEGEND}",
            since.as_secs_f64()
        )
        .map_err(failed)?;
        Ok(LogWriter { path: path.to_owned(), out, serializer: V2DeflateSerializer::new() })
    }

    /// Writes the histograms of a second; `mix` is the sum of the classes of the mix.
    ///
    /// # Errors
    /// [`Error::Io`] if the file cannot be written.
    pub(crate) fn write(
        &mut self,
        second: u64,
        recorder: &Recorder,
        mix: &ClassRecord,
    ) -> Result<(), Error> {
        self.record(second, "all", mix)?;
        for (class, record) in Class::ALL.into_iter().zip(recorder.classes()) {
            if record.count() > 0 {
                self.record(second, class.name(), record)?;
            }
        }
        Ok(())
    }

    fn record(&mut self, second: u64, name: &str, record: &ClassRecord) -> Result<(), Error> {
        let path = &self.path;
        let mut rows = Vec::new();
        let mut log = IntervalLogWriterBuilder::new()
            .with_max_value_divisor(NS_PER_MS)
            .begin_log_with(&mut rows, &mut self.serializer)
            .map_err(|error| cannot_write(path, error))?;
        for (kind, histogram) in
            [("response", &record.response), ("service", &record.service), ("lag", &record.lag)]
        {
            let tag = format!("{name}-{kind}");
            let tag = Tag::new(&tag).expect("names have no comma, space or line end");
            let start = Duration::from_nanos(second * INTERVAL_NS);
            let length = Duration::from_nanos(INTERVAL_NS);
            log.write_histogram(histogram, start, length, Some(tag))
                .map_err(|error| cannot_write(path, std::io::Error::other(format!("{error}"))))?;
        }
        // The writer says the divisor again each time; the log has its own head.
        let rows = rows.split_inclusive(|&byte| byte == b'\n');
        for row in rows.filter(|row| !row.starts_with(b"#")) {
            self.out.write_all(row).map_err(|error| cannot_write(&self.path, error))?;
        }
        Ok(())
    }

    /// Writes what is still in memory.
    ///
    /// # Errors
    /// [`Error::Io`] if the file cannot be written.
    pub(crate) fn finish(mut self) -> Result<(), Error> {
        self.out.flush().map_err(|error| cannot_write(&self.path, error))
    }
}

fn cannot_write(path: &Path, error: std::io::Error) -> Error {
    Error::io(format!("cannot write {}", path.display()), error)
}

/// A log that was read: the histograms of every tag, added up.
#[derive(Debug, Clone)]
pub struct Log {
    /// Tags in the order of their first row, with the sum of their histograms; a row without a
    /// tag has the tag "".
    pub sums: Vec<(String, Histogram<u64>)>,
    /// From the start of the first row to the end of the last, in seconds.
    pub duration_s: f64,
    /// Number of rows.
    pub rows: u64,
}

impl Log {
    /// The text report.
    #[must_use]
    pub fn text(&self) -> String {
        text::log(self)
    }

    /// The machine-readable report.
    #[must_use]
    pub fn json(&self) -> serde_json::Value {
        json::log(self)
    }

    /// The percentile table of a tag, as [`crate::Report::hgrm`] has it; `None` without that tag.
    #[must_use]
    pub fn hgrm(&self, tag: &str) -> Option<String> {
        self.sums.iter().find(|(name, _)| name == tag).map(|(_, sum)| hgrm::table(sum))
    }
}

/// Reads an interval log, of this tool or another one.
///
/// # Errors
/// [`Error::Io`] if the file cannot be read, [`Error::Trace`] if it is no interval log.
pub fn read_log(path: &Path) -> Result<Log, Error> {
    let context = |error| Error::io(format!("cannot read {}", path.display()), error);
    let bytes = std::fs::metadata(path).map_err(context)?.len();
    if bytes > LOG_BYTES_MAX {
        return Err(Error::Trace(format!("{}: larger than 1 GiB", path.display())));
    }
    let text = std::fs::read(path).map_err(context)?;
    // The crate's reader takes comments and rows; the legend of the Java tools is neither.
    let rows: Vec<u8> = text
        .split_inclusive(|&byte| byte == b'\n')
        .filter(|line| !line.starts_with(b"\"StartTimestamp\""))
        .flatten()
        .copied()
        .collect();
    parse(&rows).map_err(|why| Error::Trace(format!("{}: {why}", path.display())))
}

fn parse(rows: &[u8]) -> Result<Log, String> {
    let mut log = Log { sums: Vec::new(), duration_s: 0.0, rows: 0 };
    let mut deserializer = Deserializer::new();
    let (mut from, mut to) = (Duration::MAX, Duration::ZERO);
    for entry in IntervalLogIterator::new(rows) {
        let LogEntry::Interval(row) =
            entry.map_err(|_| format!("a line after row {} is no row of a log", log.rows))?
        else {
            continue;
        };
        let payload = decode_base64(row.encoded_histogram())
            .ok_or_else(|| format!("row {}: no Base64", log.rows + 1))?;
        let histogram: Histogram<u64> = deserializer
            .deserialize(&mut &payload[..])
            .map_err(|error| format!("row {}: {error}", log.rows + 1))?;
        log.rows += 1;
        from = from.min(row.start_timestamp());
        to = to.max(row.start_timestamp() + row.duration());
        let tag = row.tag().map_or("", |tag| tag.as_str());
        match log.sums.iter_mut().find(|(name, _)| name == tag) {
            Some((_, sum)) => sum.add(&histogram).map_err(|error| error.to_string())?,
            None => {
                let mut sum = empty_histogram();
                sum.auto(true);
                sum.add(&histogram).map_err(|error| error.to_string())?;
                log.sums.push((tag.to_owned(), sum));
            }
        }
    }
    if log.rows == 0 {
        return Err("no row of an interval log".to_owned());
    }
    log.duration_s = to.saturating_sub(from).as_secs_f64();
    Ok(log)
}

/// Decodes standard Base64 with padding (RFC 4648, section 4).
fn decode_base64(text: &str) -> Option<Vec<u8>> {
    let text = text.trim_end_matches('=');
    let mut out = Vec::with_capacity(text.len() * 3 / 4);
    let (mut bits, mut count) = (0_u32, 0);
    for byte in text.bytes() {
        let value = match byte {
            b'A'..=b'Z' => byte - b'A',
            b'a'..=b'z' => byte - b'a' + 26,
            b'0'..=b'9' => byte - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => return None,
        };
        bits = (bits << 6) | u32::from(value);
        count += 6;
        if count >= 8 {
            count -= 8;
            out.push((bits >> count) as u8);
            bits &= (1 << count) - 1;
        }
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::series::mix_of;

    fn path(name: &str) -> PathBuf {
        std::env::temp_dir().join(format!("pinion-{name}-{}.hlog", std::process::id()))
    }

    #[test]
    fn a_log_reads_back() {
        let path = path("round");
        let mut log = LogWriter::create(&path, SystemTime::UNIX_EPOCH).expect("created");
        for second in 0..3 {
            let mut recorder = Recorder::new();
            for k in 1..=1000 {
                recorder.class(Class::Get).record(0, k, k * 1000 * (second + 1));
            }
            recorder.class(Class::Set).record(0, 50, 500);
            let mix = mix_of(&recorder);
            log.write(second, &recorder, &mix).expect("written");
        }
        log.finish().expect("written");
        let read = read_log(&path).expect("a log");
        assert_eq!((read.rows, read.duration_s), (27, 3.0));
        let tags: Vec<&str> = read.sums.iter().map(|(tag, _)| tag.as_str()).collect();
        assert_eq!(tags[..4], ["all-response", "all-service", "all-lag", "get-response"]);
        assert_eq!(read.sums[0].1.len(), 3003);
        let p50 = read.sums[3].1.value_at_quantile(0.5) as f64;
        assert!((p50 / 818_000.0 - 1.0).abs() < 0.01, "{p50}");
        std::fs::remove_file(path).expect("there");
    }

    #[test]
    fn the_head_and_the_first_columns_are_the_usual_ones() {
        let path = path("head");
        let start = SystemTime::UNIX_EPOCH + Duration::from_millis(1_700_000_000_250);
        let mut log = LogWriter::create(&path, start).expect("created");
        let mut recorder = Recorder::new();
        recorder.class(Class::Get).record(0, 500_000, 1_500_000);
        let mix = mix_of(&recorder);
        log.write(4, &recorder, &mix).expect("written");
        log.finish().expect("written");
        let text = std::fs::read_to_string(&path).expect("there");
        std::fs::remove_file(path).expect("there");
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[0], "#[Histogram log format version 1.3]");
        assert_eq!(lines[1], "#[StartTime: 1700000000.250 (seconds since epoch)]");
        assert!(lines[2].starts_with("\"StartTimestamp\",\"Interval_Length\""));
        assert!(lines[3].starts_with("Tag=all-response,4.000,1.000,1.500,HISTF"), "{}", lines[3]);
        assert!(lines[5].starts_with("Tag=all-lag,4.000,1.000,0.500,HISTF"), "{}", lines[5]);
        assert_eq!(lines.len(), 3 + 6);
    }

    #[test]
    fn what_is_no_log_is_refused() {
        let path = path("bad");
        for text in ["", "hello\n", "#[comment]\n", "1.0,1.0,1.0,$$$\n", "1.0,1.0,1.0,AAAA\n"] {
            std::fs::write(&path, text).expect("written");
            assert!(matches!(read_log(&path), Err(Error::Trace(_))), "{text}");
        }
        std::fs::remove_file(&path).expect("there");
        assert!(matches!(read_log(&path), Err(Error::Io { .. })));
    }

    #[test]
    fn base64_follows_its_vectors() {
        for (text, bytes) in [("", ""), ("Zg==", "f"), ("Zm9v", "foo"), ("Zm9vYmE=", "fooba")] {
            assert_eq!(decode_base64(text).as_deref(), Some(bytes.as_bytes()));
        }
        assert_eq!(decode_base64("Zm9v!"), None);
    }
}
