//! Logs: `tracing` to standard error.

use std::io::{self, IsTerminal};

use clap::ValueEnum;
use tracing::{Level, Metadata, Subscriber};
use tracing_subscriber::{
    EnvFilter, Layer, Registry,
    filter::{FilterExt, LevelFilter, filter_fn},
    fmt::{self, MakeWriter},
    layer::SubscriberExt,
    util::SubscriberInitExt,
};

/// Format of a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// One JSON object a line.
    Json,
    /// For people.
    Pretty,
}

impl LogFormat {
    /// Pretty on a terminal, JSON elsewhere.
    pub fn fitting() -> Self {
        if io::stderr().is_terminal() {
            Self::Pretty
        } else {
            Self::Json
        }
    }
}

/// Crates that print requests or answers below `info`: Secrets, keys and tokens would be among
/// them, so no filter lets them.
const MAY_QUOTE_SECRETS: [&str; 8] = [
    "kube_client",
    "hyper",
    "hyper_util",
    "h2",
    "rustls",
    "reqwest",
    "tower",
    "dns_update",
];

/// Logging could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    #[error(
        "log level {filter:?}: {source}; write a level such as `info` or directives such as `info,gatehouse::issuer=debug`"
    )]
    Filter {
        filter: String,
        source: tracing_subscriber::filter::ParseError,
    },
    #[error("logging is set up already")]
    Twice,
}

impl LogError {
    /// Stable name of the error.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Filter { .. } => "InvalidLogLevel",
            Self::Twice => "LoggingSetUpTwice",
        }
    }
}

/// Logs to standard error from now on.
///
/// `filter` is a level (`info`) or `EnvFilter` directives (`info,gatehouse::issuer=debug`).
///
/// # Errors
/// When `filter` cannot be read, or logging was set up before.
pub fn init(format: LogFormat, filter: &str) -> Result<(), LogError> {
    let colours = format == LogFormat::Pretty && io::stderr().is_terminal();
    subscriber(format, filter, io::stderr, colours)?
        .try_init()
        .map_err(|_| LogError::Twice)
}

fn subscriber<W>(
    format: LogFormat,
    filter: &str,
    writer: W,
    colours: bool,
) -> Result<impl Subscriber + Send + Sync, LogError>
where
    W: for<'w> MakeWriter<'w> + Send + Sync + 'static,
{
    let directives = EnvFilter::builder()
        .with_default_directive(LevelFilter::INFO.into())
        // Its spans repeat in every line what our own fields say.
        .parse(format!("kube_runtime=warn,{filter}"))
        .map_err(|source| LogError::Filter {
            filter: filter.into(),
            source,
        })?;
    let layer = fmt::layer().with_writer(writer).with_ansi(colours);
    let layer = match format {
        LogFormat::Json => layer.json().flatten_event(true).with_span_list(false).boxed(),
        LogFormat::Pretty => layer.boxed(),
    };
    Ok(Registry::default().with(layer.with_filter(directives.and(filter_fn(harmless)))))
}

fn harmless(metadata: &Metadata<'_>) -> bool {
    let name = metadata.target().split("::").next().unwrap_or_default();
    *metadata.level() <= Level::INFO || !MAY_QUOTE_SECRETS.contains(&name)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

    use std::{
        io::Write,
        sync::{Arc, Mutex},
    };

    use tracing::{debug, info, info_span, subscriber::with_default, trace};

    use super::*;

    #[derive(Clone, Default)]
    struct Paper(Arc<Mutex<Vec<u8>>>);

    impl Write for Paper {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn written(format: LogFormat, filter: &str, log: impl FnOnce()) -> String {
        let paper = Paper::default();
        let writer = paper.clone();
        with_default(subscriber(format, filter, move || writer.clone(), false).unwrap(), log);
        let bytes = paper.0.lock().unwrap().clone();
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn a_json_line_has_its_fields_at_the_top_and_a_time() {
        let line = written(LogFormat::Json, "info", || {
            let span = info_span!("reconcile", certificate = "app/catalog");
            let _inside = span.enter();
            info!(addr = "127.0.0.1:43211", "metrics listening");
        });
        let object: serde_json::Value = serde_json::from_str(&line).unwrap();
        assert_eq!(object["message"], "metrics listening");
        assert_eq!(object["addr"], "127.0.0.1:43211");
        assert_eq!(object["level"], "INFO");
        assert_eq!(object["span"]["certificate"], "app/catalog");
        object["timestamp"]
            .as_str()
            .unwrap()
            .parse::<jiff::Timestamp>()
            .unwrap();
    }

    #[test]
    fn a_pretty_line_reads_as_message_and_fields_without_colours_off_a_terminal() {
        let line = written(
            LogFormat::Pretty,
            "info",
            || info!(addr = %"127.0.0.1:43211", "metrics listening"),
        );
        assert!(line.ends_with("metrics listening addr=127.0.0.1:43211\n"), "{line}");
        assert!(!line.contains('\u{1b}'), "{line}");
    }

    #[test]
    fn a_level_or_directives_choose_what_is_written() {
        let log = || {
            debug!(target: "gatehouse::issuer", "fine");
            trace!(target: "gatehouse::issuer", "finer");
            debug!(target: "gatehouse::certificate", "other");
        };
        let lines = |filter| written(LogFormat::Json, filter, log).lines().count();
        assert_eq!((lines("info"), lines("debug"), lines("trace")), (0, 2, 3));
        assert_eq!((lines("info,gatehouse::issuer=trace"), lines("")), (2, 0));
    }

    #[test]
    fn crates_that_print_answers_stay_quiet_whatever_the_filter_says() {
        let log = || {
            debug!(target: "kube_client::client", "Unsuccessful data error parse: tls.key");
            trace!(target: "hyper::proto::h1", "Authorization: Bearer");
            info!(target: "kube_client::client", "harmless");
        };
        for filter in [
            "trace",
            "kube_client=trace,hyper=trace",
            "kube_client::client=trace,hyper::proto::h1=trace",
        ] {
            let lines = written(LogFormat::Json, filter, log);
            assert!(
                !lines.contains("tls.key") && !lines.contains("Bearer"),
                "{filter}: {lines}"
            );
            assert_eq!(lines.lines().count(), 1, "{filter}");
        }
    }

    #[test]
    fn a_filter_that_cannot_be_read_says_what_to_write_instead() {
        let error = subscriber(LogFormat::Json, "loud=very=much", io::sink, false)
            .err()
            .unwrap();
        assert_eq!(error.reason(), "InvalidLogLevel");
        assert!(error.to_string().contains("write a level such as `info`"), "{error}");
    }
}
