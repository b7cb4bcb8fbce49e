//! `serve`: runs the gateway until it is told to stop.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::Args as ClapArgs;
use sessiongate::config::snapshot::{AccessLog, TlsFiles};
use sessiongate::config::{self, Fileless};
use sessiongate::server::gateway::Load;
use sessiongate::server::{Gateway, Options, StartError};
use sessiongate::trail::TrailError;
use url::Url;

use super::failure::Failure;
use super::output::{Form, tell};
use super::signals::{Leaves, Signals};
use super::{check, configuration, log, process};

const EXAMPLES: &str = "\
Examples:
  sessiongate serve --config sessiongate.toml
  sessiongate serve --config sessiongate.toml --test

  sessiongate serve --listen 127.0.0.1:8080 --upstream http://127.0.0.1:9000 \\
      --hs256-secret-file secret.key --admin 127.0.0.1:9901 \\
      --tls-listen 0.0.0.0:8443 --tls-cert chain.pem --tls-key key.pem

Without --config and without flags, ./sessiongate.toml or /etc/sessiongate/sessiongate.toml is used.

Signals: TERM or INT drain and exit 0, a second one ends at once; HUP reads configuration and certificates again.";

/// Flags that stand for a configuration file.
const WITHOUT_FILE: [&str; 9] =
    ["listen", "upstream", "hs256_secret_file", "admin", "tls_listen", "tls_cert", "tls_key", "workers", "audience"];

/// Run the gateway
#[derive(Debug, ClapArgs)]
#[command(after_help = EXAMPLES, args_override_self = true)]
pub struct Args {
    /// The configuration file
    #[arg(short, long, value_name = "FILE", conflicts_with_all = WITHOUT_FILE)]
    config: Option<PathBuf>,

    /// Check the configuration, its keys and certificates, say what is wrong, and exit
    #[arg(short, long)]
    test: bool,

    /// Share ports that another process has, to take over from a running gateway
    #[arg(long)]
    takeover: bool,

    #[command(flatten)]
    fileless: FilelessArgs,

    #[command(flatten)]
    log: log::LogArgs,
}

#[derive(Debug, ClapArgs)]
#[command(next_help_heading = "Without a configuration file")]
struct FilelessArgs {
    /// Where calls come in, HTTP/1.1 and HTTP/2 in cleartext
    #[arg(long, value_name = "ADDR", value_parser = parse_address, requires_all = ["upstream", "hs256_secret_file"])]
    listen: Option<SocketAddr>,

    /// The server that validated calls go to, http://HOST:PORT or https://HOST:PORT
    #[arg(long, value_name = "URL", value_parser = parse_upstream, requires_all = ["listen", "hs256_secret_file"])]
    upstream: Option<Url>,

    /// File with the secret that signs access tokens (HS256), at least 32 bytes; one line end at its end does not count
    #[arg(long, value_name = "FILE", requires_all = ["listen", "upstream"])]
    hs256_secret_file: Option<PathBuf>,

    /// Where health and metrics are served to the operator
    #[arg(long, value_name = "ADDR", value_parser = parse_address, requires = "listen")]
    admin: Option<SocketAddr>,

    /// Where calls come in over TLS
    #[arg(long, value_name = "ADDR", value_parser = parse_address, requires_all = ["listen", "tls_cert", "tls_key"])]
    tls_listen: Option<SocketAddr>,

    /// PEM file of the certificate chain, leaf first
    #[arg(long, value_name = "FILE", requires_all = ["tls_listen", "tls_key"])]
    tls_cert: Option<PathBuf>,

    /// PEM file of the private key
    #[arg(long, value_name = "FILE", requires_all = ["tls_listen", "tls_cert"])]
    tls_key: Option<PathBuf>,

    /// Worker threads [default: one per core]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024), requires = "listen")]
    workers: Option<u16>,

    /// Audience that tokens must name in aud; may be given several times, then one is enough [default: aud is not
    /// looked at]
    #[arg(long, value_name = "AUD", requires = "listen")]
    audience: Vec<String>,
}

/// An IP address and a port.
pub fn parse_address(text: &str) -> Result<SocketAddr, String> {
    let wrong = "write an IP address and a port, such as 127.0.0.1:8080 or [::1]:8080";
    match text.strip_prefix("localhost:") {
        Some(port) => port.parse().map(|port: u16| SocketAddr::from(([127, 0, 0, 1], port))).map_err(|_| wrong.into()),
        None => text.parse().map_err(|_| wrong.into()),
    }
}

fn parse_upstream(text: &str) -> Result<Url, String> {
    Url::parse(text).map_err(|error| format!("{error}; write http://HOST:PORT or https://HOST:PORT"))
}

/// Where the configuration of a running gateway comes from.
enum Source {
    File(PathBuf),
    Flags(Box<Fileless>),
}

impl Args {
    fn source(&self) -> Result<Source, Failure> {
        let flags = &self.fileless;
        if let (Some(listen), Some(upstream), Some(secret)) = (flags.listen, &flags.upstream, &flags.hs256_secret_file)
        {
            let tls = flags.tls_listen.zip(flags.tls_cert.clone()).zip(flags.tls_key.clone());
            let logs = log::fileless();
            return Ok(Source::Flags(Box::new(Fileless {
                listen: Some(listen),
                tls: tls.map(|((address, cert), key)| (address, TlsFiles { cert, key })),
                upstream: upstream.clone(),
                hs256_secret_file: secret.clone(),
                audiences: flags.audience.clone(),
                admin: flags.admin,
                workers: flags.workers.map(usize::from),
                access: logs.access,
                format: logs.format,
            })));
        }
        let path = self.config.clone().or_else(configuration::usual_file);
        path.map(Source::File).ok_or_else(|| Failure::Input(NOTHING_TO_SERVE.into()))
    }
}

const NOTHING_TO_SERVE: &str = "\
there is nothing to serve: give a configuration file, or the three flags that stand for one

  sessiongate serve --config sessiongate.toml
  sessiongate serve --listen 127.0.0.1:8080 --upstream http://127.0.0.1:9000 --hs256-secret-file secret.key

There is no ./sessiongate.toml and no /etc/sessiongate/sessiongate.toml; `sessiongate demo` needs neither.";

/// Runs the gateway.
///
/// # Errors
/// [`Failure::Input`] for what cannot be used, [`Failure::Runtime`] for a port that is taken and the like.
pub fn run(args: &Args) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| Failure::runtime("cannot wait for signals", error))?;
    runtime.block_on(serve(args))
}

async fn serve(args: &Args) -> Result<(), Failure> {
    let signals = Signals::catch().map_err(|error| Failure::runtime("cannot catch signals", error))?;
    let (name, mut snapshot, load) = match args.source()? {
        Source::File(path) => {
            (path.display().to_string(), config::load(&path, 1)?, Some(reload(path, args.log.clone())))
        }
        Source::Flags(flags) => ("the configuration in these flags".into(), flags.compile(1)?, None),
    };
    if args.test {
        return check::valid(&name, &snapshot, Form::Text);
    }
    args.log.overrule(&mut snapshot.logs);
    if snapshot.logs.access == AccessLog::Stdout && snapshot.trail.as_ref().is_some_and(|trail| trail.stdout) {
        let way_out = "give --access-log off or a file, or take trail.stdout out of the configuration";
        return Err(Failure::Input(format!(
            "the trail and the access log cannot both go to standard output: {way_out}"
        )));
    }
    let _log = args.log.start(snapshot.logs.format)?;
    process::raise_descriptor_limit();
    let access_log = log::access_log(&snapshot.logs)?;
    let gateway = start(Options { snapshot, load, access_log, takeover: args.takeover })?;
    for bound in gateway.bound() {
        tell(format_args!("listening on {bound}"));
    }
    signals.rule(gateway, Leaves::Never).await.map_err(|error| Failure::runtime("the gateway failed", error))
}

/// Reads the file again; what flags said at the start still holds.
fn reload(path: PathBuf, flags: log::LogArgs) -> Load {
    Box::new(move |generation| {
        let mut snapshot = config::load(&path, generation).map_err(|errors| errors.to_string())?;
        flags.overrule(&mut snapshot.logs);
        Ok(snapshot)
    })
}

/// Starts a gateway.
///
/// # Errors
/// [`Failure::Input`] for a certificate or key that cannot be used, [`Failure::Runtime`] for the rest.
pub fn start(options: Options) -> Result<Gateway, Failure> {
    Gateway::start(options).map_err(|error| match error {
        StartError::Tls(error) => Failure::Input(error.to_string()),
        StartError::Trail(error @ (TrailError::Files(..) | TrailError::Stdout(_))) => Failure::Input(error.to_string()),
        StartError::Trail(TrailError::Thread(_))
        | StartError::Listen(_)
        | StartError::Thread(_)
        | StartError::Metrics(_) => Failure::Runtime(error.to_string()),
    })
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        args: Args,
    }

    fn parse(line: &str) -> Result<Args, String> {
        let words = std::iter::once("serve").chain(line.split_ascii_whitespace());
        Line::try_parse_from(words).map(|line| line.args).map_err(|error| error.to_string())
    }

    const FLAGS: &str = "--listen 127.0.0.1:8080 --upstream http://127.0.0.1:9000 --hs256-secret-file f";

    #[test]
    fn addresses_are_an_ip_and_a_port() {
        for (text, address) in [("127.0.0.1:8080", true), ("[::1]:80", true), ("localhost:80", true), ("80", false)] {
            assert_eq!(parse_address(text).is_ok(), address, "{text}");
        }
        assert!(parse_address("localhost:99999").is_err() && parse_address("example.com:80").is_err());
    }

    #[test]
    fn flags_that_belong_together_come_together() {
        for good in [
            "",
            "-c f",
            "-t -c f",
            FLAGS,
            &format!("{FLAGS} --admin 127.0.0.1:9901 --workers 2 --audience a --audience b --takeover -t"),
            &format!("{FLAGS} --tls-cert c --tls-key k --tls-listen 127.0.0.1:8443"),
            &format!("{FLAGS} --access-log off --access-log stdout --log-format json"),
        ] {
            parse(good).unwrap_or_else(|error| panic!("{good}: {error}"));
        }
        for wrong in [
            "--listen 127.0.0.1:8080",
            "--listen 127.0.0.1:8080 --upstream http://127.0.0.1:9000",
            "--admin 127.0.0.1:9901",
            &format!("-c f {FLAGS}"),
            "-c f --workers 2",
            &format!("{FLAGS} --tls-cert c"),
            &format!("{FLAGS} --workers 0"),
            &format!("{FLAGS} --upstream nonsense"),
        ] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn flags_become_the_configuration() {
        let args =
            parse(&format!("{FLAGS} --tls-cert c --tls-key k --tls-listen 127.0.0.1:8443 --audience a")).unwrap();
        let Ok(Source::Flags(flags)) = args.source() else { panic!() };
        assert_eq!(flags.listen.map(|address| address.port()), Some(8080));
        assert_eq!(flags.tls.map(|(address, files)| (address.port(), files.key)), Some((8443, "k".into())));
        assert_eq!(flags.audiences, ["a"]);
    }
}
