//! What is set once for the whole process.

use std::backtrace::{Backtrace, BacktraceStatus};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::failure::Failure;
use super::output::tell;

/// Makes aws-lc the one crypto library of rustls and of jsonwebtoken, which panics on first use without one.
///
/// # Errors
/// [`Failure::Runtime`] if another one was installed first, which nothing in this process does.
pub fn install_crypto() -> Result<(), Failure> {
    let failed = |what| Failure::Runtime(format!("the crypto provider of {what} cannot be installed"));
    rustls::crypto::aws_lc_rs::default_provider().install_default().map_err(|_| failed("TLS"))?;
    jsonwebtoken::crypto::aws_lc::DEFAULT_PROVIDER.install_default().map_err(|_| failed("tokens"))
}

/// Raises the soft limit of open descriptors to the hard one: every connection needs one on each side, and the usual
/// soft limit of 1024 exists for programs that still use `select`.
pub fn raise_descriptor_limit() {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    if current == maximum {
        return;
    }
    match setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }) {
        Ok(()) => tracing::debug!(from = current, to = maximum, "descriptor limit raised"),
        Err(error) => tracing::warn!(%error, limit = current, "the descriptor limit cannot be raised"),
    }
}

/// Says where a panic happened, but not its message: it may quote from a request.
pub fn hide_panic_messages() {
    std::panic::set_hook(Box::new(|panic| {
        let place = panic.location().map_or_else(|| "an unknown place".to_owned(), ToString::to_string);
        let thread = std::thread::current();
        let thread = thread.name().unwrap_or("without a name");
        tracing::error!(place, thread, "panic; this is a bug in sessiongate");
        // Before logging is set up the line above goes nowhere; a bug must be seen in any case.
        tell(format_args!("panic at {place} in thread {thread}; this is a bug in sessiongate"));
        // Only function names and places; present if RUST_BACKTRACE asks for it.
        let backtrace = Backtrace::capture();
        if backtrace.status() == BacktraceStatus::Captured {
            tell(backtrace);
        }
    }));
}
