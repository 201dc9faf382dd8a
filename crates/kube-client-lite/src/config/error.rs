use std::path::{Path, PathBuf};
use std::{error, fmt, io};

/// Why a configuration cannot be used: what failed, in which file and entry, and what to do.
///
/// No message contains a token, a key or any other secret.
#[derive(Debug)]
#[non_exhaustive]
pub enum ConfigError {
    /// A certificate of a bundle or chain does not parse.
    CertificateInvalid {
        /// The file or the kubeconfig entry and field it is in.
        origin: String,
        /// Its place in the bundle, from 1.
        index: usize,
        /// What is wrong with it.
        reason: String,
    },
    /// A bundle or chain has no certificate in it.
    CertificateMissing {
        /// The file or the kubeconfig entry and field that should have one.
        origin: String,
    },
    /// The kubeconfig has no context of this name.
    ContextMissing {
        /// The files that were read.
        files: Vec<PathBuf>,
        /// The name looked for.
        context: String,
        /// The names there are.
        known: Vec<String>,
    },
    /// The kubeconfig does not say which context is the current one, and none was asked for.
    ContextUnset {
        /// The files that were read.
        files: Vec<PathBuf>,
        /// The names there are.
        known: Vec<String>,
    },
    /// A context names a cluster or a user that the kubeconfig does not have.
    EntryMissing {
        /// The file that holds the context.
        file: PathBuf,
        /// The context.
        context: String,
        /// `cluster` or `user`.
        kind: &'static str,
        /// The name looked for.
        name: String,
    },
    /// The command of an exec credential plugin is not there or cannot be started.
    ExecCommand {
        /// The command.
        command: PathBuf,
        /// What the system says.
        error: io::Error,
        /// The kubeconfig's `installHint`.
        hint: Option<String>,
    },
    /// An exec credential plugin failed, took too long or gave an answer that cannot be used.
    ExecFailed {
        /// The command.
        command: PathBuf,
        /// What happened.
        reason: String,
        /// The first line it wrote to its standard error, empty when there is none.
        stderr: String,
    },
    /// A field has a value that cannot be used.
    FieldInvalid {
        /// The file and the entry.
        origin: String,
        /// The field.
        field: &'static str,
        /// What is wrong with it, and what it should be.
        reason: String,
    },
    /// A field asks for something that this client does not do.
    FieldUnsupported {
        /// The file and the entry.
        origin: String,
        /// The field.
        field: &'static str,
        /// What to do instead.
        advice: &'static str,
    },
    /// A file is larger than any file of its kind should be.
    FileTooLarge {
        /// The file.
        path: PathBuf,
        /// The largest size read, in bytes.
        limit: u64,
    },
    /// A file cannot be read.
    FileUnreadable {
        /// The file.
        path: PathBuf,
        /// What it is needed for.
        purpose: &'static str,
        /// What the system says.
        error: io::Error,
    },
    /// A private key is missing, encrypted, or of a kind that cannot be used.
    KeyInvalid {
        /// The file or the kubeconfig entry and field it is in.
        origin: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The private key is not the one the client certificate was made for.
    KeyMismatch {
        /// Where the certificate is.
        certificate: String,
        /// Where the key is.
        key: String,
    },
    /// A kubeconfig is not YAML, or not the YAML of a kubeconfig.
    KubeconfigMalformed {
        /// The file.
        path: PathBuf,
        /// What is wrong, and where.
        reason: String,
    },
    /// There is no kubeconfig.
    KubeconfigMissing {
        /// The files looked for, empty when not even the home directory is known.
        tried: Vec<PathBuf>,
    },
    /// This process does not run in a pod with a service account.
    NotInCluster {
        /// What is missing.
        missing: String,
    },
    /// No certificate authority is configured, and the system's bundle is in none of the usual places.
    SystemRootsMissing {
        /// The files looked for.
        tried: Vec<PathBuf>,
    },
    /// A token is empty or has characters that no header may have.
    TokenInvalid {
        /// Where the token is from.
        origin: String,
        /// What is wrong with it; never a part of it.
        reason: &'static str,
    },
}

impl fmt::Display for ConfigError {
    #[expect(clippy::too_many_lines, reason = "one arm a variant, each a sentence")]
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::CertificateInvalid {
                origin,
                index,
                reason,
            } => {
                write!(
                    f,
                    "{origin}: certificate {index} cannot be read ({reason}); replace it or take it out"
                )
            }
            Self::CertificateMissing { origin } => {
                write!(
                    f,
                    "{origin}: no PEM certificate in it; expected -----BEGIN CERTIFICATE-----"
                )
            }
            Self::ContextMissing {
                files,
                context,
                known,
            } => {
                write!(
                    f,
                    "{}: no context {context:?}; {}",
                    Files(files),
                    Known(known)
                )
            }
            Self::ContextUnset { files, known } => {
                write!(
                    f,
                    "{}: no current-context; set it with `kubectl config use-context NAME` or name a context; {}",
                    Files(files),
                    Known(known)
                )
            }
            Self::EntryMissing {
                file,
                context,
                kind,
                name,
            } => {
                write!(
                    f,
                    "{}, context {context:?}: no {kind} {name:?}; add it to {kind}s or correct the context",
                    file.display()
                )
            }
            Self::ExecCommand {
                command,
                error,
                hint,
            } => {
                write!(
                    f,
                    "credential plugin {} cannot be started: {error}; ",
                    command.display()
                )?;
                f.write_str(
                    hint.as_deref()
                        .unwrap_or("install it, or correct exec.command in the kubeconfig"),
                )
            }
            Self::ExecFailed {
                command,
                reason,
                stderr,
            } => {
                write!(f, "credential plugin {} {reason}", command.display())?;
                if stderr.is_empty() {
                    Ok(())
                } else {
                    write!(f, ": {stderr}")
                }
            }
            Self::FieldInvalid {
                origin,
                field,
                reason,
            } => write!(f, "{origin}: {field} {reason}"),
            Self::FieldUnsupported {
                origin,
                field,
                advice,
            } => {
                write!(f, "{origin}: {field} is not supported; {advice}")
            }
            Self::FileTooLarge { path, limit } => {
                write!(
                    f,
                    "{}: larger than {limit} bytes; is this the right file?",
                    path.display()
                )
            }
            Self::FileUnreadable {
                path,
                purpose,
                error,
            } => {
                write!(f, "{}: cannot read the {purpose}: {error}", path.display())
            }
            Self::KeyInvalid { origin, reason } => {
                write!(
                    f,
                    "{origin}: {reason}; expected an unencrypted PEM private key (PKCS#8, PKCS#1 or SEC1)"
                )
            }
            Self::KeyMismatch { certificate, key } => {
                write!(
                    f,
                    "{key}: this private key does not belong to the certificate in {certificate}; use the pair that was issued together"
                )
            }
            Self::KubeconfigMalformed { path, reason } => {
                write!(f, "{}: not a kubeconfig: {reason}", path.display())
            }
            Self::KubeconfigMissing { tried } => {
                f.write_str("no kubeconfig; ")?;
                if tried.is_empty() {
                    f.write_str("set KUBECONFIG or HOME")
                } else {
                    write!(
                        f,
                        "looked for {}; set KUBECONFIG or name a file",
                        Files(tried)
                    )
                }
            }
            Self::NotInCluster { missing } => {
                write!(
                    f,
                    "not in a cluster: {missing}; run in a pod whose service account token is mounted, or use a kubeconfig"
                )
            }
            Self::SystemRootsMissing { tried } => {
                write!(
                    f,
                    "no certificate authority: none is configured and the system has no bundle ({}); configure one or set SSL_CERT_FILE",
                    Files(tried)
                )
            }
            Self::TokenInvalid { origin, reason } => write!(f, "{origin}: the token {reason}"),
        }
    }
}

impl error::Error for ConfigError {
    fn source(&self) -> Option<&(dyn error::Error + 'static)> {
        match self {
            Self::ExecCommand { error, .. } | Self::FileUnreadable { error, .. } => Some(error),
            _ => None,
        }
    }
}

struct Files<'a>(&'a [PathBuf]);

impl fmt::Display for Files<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        list(f, self.0.iter().map(|path| Path::display(path)))
    }
}

struct Known<'a>(&'a [String]);

impl fmt::Display for Known<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return f.write_str("there are no contexts");
        }
        f.write_str("contexts: ")?;
        list(f, self.0.iter())
    }
}

fn list<T: fmt::Display>(
    f: &mut fmt::Formatter<'_>,
    items: impl Iterator<Item = T>,
) -> fmt::Result {
    for (index, item) in items.enumerate() {
        if index > 0 {
            f.write_str(", ")?;
        }
        write!(f, "{item}")?;
    }
    Ok(())
}
