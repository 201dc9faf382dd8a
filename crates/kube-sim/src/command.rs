//! The command line of a simulator: `serve` and its options.

use std::fs;
use std::io;
use std::path::Path;
use std::process::ExitCode;
use std::str::FromStr;

/// The options, as they were typed.
pub struct Arguments(std::vec::IntoIter<String>);

/// Why a simulator does not serve.
#[derive(Debug)]
pub enum Failure {
    /// It was asked wrongly.
    Usage(String),
    /// It could not.
    Io(io::Error),
}

/// Runs a simulator that was started with these arguments; `serve` returns when it cannot.
pub fn run(
    usage: &str,
    arguments: impl IntoIterator<Item = String>,
    serve: impl FnOnce(Arguments) -> Result<(), Failure>,
) -> ExitCode {
    let mut arguments: Vec<String> = arguments.into_iter().collect();
    let command = arguments.first().map(String::as_str);
    let mut asks = arguments.iter();
    if command == Some("help") || asks.any(|argument| argument == "--help" || argument == "-h") {
        print!("{usage}");
        return ExitCode::SUCCESS;
    }
    if command != Some("serve") {
        eprint!("{usage}");
        return ExitCode::from(2);
    }
    arguments.remove(0);
    match serve(Arguments::split(arguments)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure::Usage(message)) => {
            eprintln!("{message}; see --help");
            ExitCode::from(2)
        }
        Err(Failure::Io(error)) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

/// Says where a simulator listens, on stdout and in the file `url` of a directory beside the other files, and waits for
/// the end of the process.
///
/// # Errors
/// When the directory cannot be written.
pub fn announce(url: &str, directory: Option<&Path>, files: &[(&str, String)]) -> io::Result<()> {
    if let Some(directory) = directory {
        fs::create_dir_all(directory)?;
        for (name, content) in files {
            fs::write(directory.join(name), content)?;
        }
        // The last one: who waits for it finds the others complete.
        fs::write(directory.join("url.new"), format!("{url}\n"))?;
        fs::rename(directory.join("url.new"), directory.join("url"))?;
    }
    println!("{url}");
    loop {
        std::thread::park();
    }
}

impl Arguments {
    /// `--name=value` is two.
    fn split(arguments: Vec<String>) -> Self {
        let mut split = Vec::new();
        for argument in arguments {
            match argument.split_once('=') {
                Some((name, value)) if name.starts_with("--") => {
                    split.extend([name.to_owned(), value.to_owned()]);
                }
                _ => split.push(argument),
            }
        }
        Self(split.into_iter())
    }

    /// The next option.
    pub fn option(&mut self) -> Option<String> {
        self.0.next()
    }

    /// The value of the option before.
    ///
    /// # Errors
    /// When there is none.
    pub fn value(&mut self, option: &str) -> Result<String, Failure> {
        let value = self.0.next();
        value.ok_or_else(|| Failure::Usage(format!("{option} needs a value")))
    }

    /// The value of the option before, as what it must be.
    ///
    /// # Errors
    /// When there is none, or it is something else.
    pub fn parsed<T: FromStr>(&mut self, option: &str) -> Result<T, Failure> {
        let value = self.value(option)?;
        let parsed = value.parse();
        parsed.map_err(|_| Failure::Usage(format!("{option} {value}: not a value for it")))
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}
