//! The real gate, as a process of its own.

use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Instant;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;

use super::{CLIENT, Call, Certificate, Config, Http2, PATIENCE, Raw, Reply, SECRET, eventually, token};

/// The binary under test, with an environment that says nothing.
pub fn binary() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sessiongate"));
    command.env_remove("RUST_LOG").env("NO_COLOR", "1").stdin(Stdio::null());
    command
}

/// Runs a command to its end.
#[track_caller]
pub fn finish(command: &mut Command) -> Finished {
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the binary starts");
    let stdout = Lines::of(child.stdout.take().expect("stdout is piped"));
    let stderr = Lines::of(child.stderr.take().expect("stderr is piped"));
    let status = wait(&mut child);
    let code = status.unwrap_or_else(|| panic!("it did not end: {} {}", stdout.text(), stderr.text())).code();
    Finished { code, stdout: stdout.all(), stderr: stderr.all() }
}

/// What a command left behind.
#[derive(Debug)]
pub struct Finished {
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

fn wait(child: &mut Child) -> Option<ExitStatus> {
    let end = Instant::now() + PATIENCE;
    loop {
        if let Some(status) = child.try_wait().expect("a child can be waited for") {
            return Some(status);
        }
        if Instant::now() > end {
            let _ = child.kill();
            let _ = child.wait();
            return None;
        }
        thread::sleep(std::time::Duration::from_millis(5));
    }
}

/// Lines of an output, gathered as they come.
struct Lines {
    text: Arc<Mutex<String>>,
    reader: Option<thread::JoinHandle<()>>,
}

impl Lines {
    fn of(output: impl Read + Send + 'static) -> Self {
        let text = Arc::new(Mutex::new(String::new()));
        let shared = Arc::clone(&text);
        let reader = thread::spawn(move || {
            let mut output = BufReader::new(output);
            let mut line = Vec::new();
            while output.read_until(b'\n', &mut line).is_ok_and(|read| read > 0) {
                shared.lock().expect("the lines").push_str(&String::from_utf8_lossy(&line));
                line.clear();
            }
        });
        Self { text, reader: Some(reader) }
    }

    fn text(&self) -> String {
        self.text.lock().expect("the lines").clone()
    }

    /// Everything, once the process has ended.
    fn all(mut self) -> String {
        if let Some(reader) = self.reader.take() {
            reader.join().expect("the reader ends with the output");
        }
        self.text()
    }
}

/// A gate that is about to start.
pub struct Setup {
    dir: TempDir,
    args: Vec<String>,
    listeners: usize,
    descriptors: Option<u32>,
    small_disk: Option<(PathBuf, u32)>,
    stdout: Option<OwnedFd>,
}

impl Setup {
    /// `serve` without a file, in front of `upstream`.
    pub fn file_less(upstream: &str) -> Self {
        let setup = Self::empty();
        let secret = setup.write("secret", SECRET);
        let flags = ["serve", "--listen", "127.0.0.1:0", "--upstream", upstream, "--access-log", "stdout"];
        setup.args(&flags).arg("--hs256-secret-file").arg(&secret)
    }

    /// `serve` with a file.
    pub fn configured(config: &Config) -> Self {
        let mut setup = Self::empty();
        setup.write("secret", SECRET);
        let file = setup.write_config(config);
        setup.listeners = config.listener_count();
        setup.arg("serve").arg("--config").arg(&file)
    }

    fn empty() -> Self {
        let dir = tempfile::Builder::new().prefix("sessiongate-test-").tempdir().expect("a temporary folder");
        Self { dir, args: Vec::new(), listeners: 1, descriptors: None, small_disk: None, stdout: None }
    }

    /// The gate's folder.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Writes a file into the gate's folder and gives its path.
    pub fn write(&self, name: &str, content: impl AsRef<[u8]>) -> String {
        write(self.dir(), name, content)
    }

    /// Writes the configuration file.
    pub fn write_config(&self, config: &Config) -> String {
        self.write("sessiongate.toml", config.text(&self.dir().display().to_string()))
    }

    /// One more argument.
    pub fn arg(mut self, arg: &str) -> Self {
        self.args.push(arg.into());
        self
    }

    /// More arguments.
    pub fn args(self, args: &[&str]) -> Self {
        args.iter().fold(self, |setup, arg| setup.arg(arg))
    }

    /// Gives it an admin listener (flags only).
    pub fn with_admin(mut self) -> Self {
        self.listeners += 1;
        self.args(&["--admin", "127.0.0.1:0"])
    }

    /// Gives it a TLS listener (flags only).
    pub fn with_tls(mut self, certificate: &Certificate) -> Self {
        let cert = self.write("cert.pem", &certificate.cert_pem);
        let key = self.write("key.pem", &certificate.key_pem);
        self.listeners += 1;
        self.args(&["--tls-cert", &cert, "--tls-key", &key, "--tls-listen", "127.0.0.1:0"])
    }

    /// Lets it have only so many descriptors.
    pub fn with_descriptors(mut self, limit: u32) -> Self {
        self.descriptors = Some(limit);
        self
    }

    /// Puts a file system of so many KiB over `folder`, seen by the gate alone, with a file `filler` that takes a quarter
    /// of it.
    pub fn on_small_disk(mut self, folder: &Path, kib: u32) -> Self {
        self.small_disk = Some((folder.to_owned(), kib));
        self
    }

    /// Gives it this standard output instead of one that is read.
    pub fn stdout(mut self, stdout: impl Into<OwnedFd>) -> Self {
        self.stdout = Some(stdout.into());
        self
    }

    fn command(&self) -> Command {
        let mut command = binary();
        if let Some((folder, kib)) = &self.small_disk {
            let (folder, own) = (folder.display(), command.get_program().to_owned());
            // A mount of its own needs no rights where user namespaces are allowed.
            let script = format!(
                "mount -t tmpfs -o size={kib}k tmpfs {folder} && head -c {} /dev/zero >{folder}/filler && exec \"$@\"",
                kib * 256
            );
            command = Command::new("unshare");
            command.args(["--map-root-user", "--mount", "sh", "-c", &script, "sh"]).arg(own);
            command.env("NO_COLOR", "1").stdin(Stdio::null());
        }
        if let Some(limit) = self.descriptors {
            let limited = command.get_program().to_owned();
            command = Command::new("prlimit");
            command.arg(format!("--nofile={limit}:{limit}")).arg("--").arg(limited).stdin(Stdio::null());
        }
        command.current_dir(self.dir()).args(&self.args);
        command
    }

    /// Runs it to its end, for starts that must fail.
    #[track_caller]
    pub fn run(&self) -> Finished {
        finish(&mut self.command())
    }

    /// Starts it and waits until it listens.
    #[track_caller]
    pub fn start(mut self) -> Gate {
        let mut command = self.command();
        command.stdout(self.stdout.take().map_or_else(Stdio::piped, Stdio::from)).stderr(Stdio::piped());
        let mut child = command.spawn().expect("the binary starts");
        let stdout = child.stdout.take().map_or_else(|| Lines::of(std::io::empty()), Lines::of);
        let stderr = Lines::of(child.stderr.take().expect("stderr is piped"));
        let end = Instant::now() + PATIENCE;
        let listening = loop {
            let found = listening(&stderr.text());
            if found.len() >= self.listeners {
                break found;
            }
            let ended = child.try_wait().expect("a child can be waited for");
            if ended.is_some() || Instant::now() > end {
                let _ = child.kill();
                let _ = child.wait();
                panic!(
                    "the gate does not listen ({ended:?}, {} of {} listeners)\n{}",
                    found.len(),
                    self.listeners,
                    stderr.all()
                );
            }
            thread::sleep(std::time::Duration::from_millis(5));
        };
        let of = |kind: Kind| listening.iter().find(|(found, _)| *found == kind).map(|(_, address)| *address);
        Gate {
            http: of(Kind::Http),
            https: of(Kind::Https),
            admin: of(Kind::Admin),
            child,
            stdout,
            stderr,
            dir: self.dir,
            secrets: Mutex::new(vec![SECRET.to_owned()]),
        }
    }
}

fn write(dir: &Path, name: &str, content: impl AsRef<[u8]>) -> String {
    let path = dir.join(name);
    std::fs::write(&path, content).expect("the temporary folder can be written");
    path.display().to_string()
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Http,
    Https,
    Admin,
}

/// The lines `listening on http://127.0.0.1:8080` and `listening on http://127.0.0.1:9901 (admin)`.
fn listening(stderr: &str) -> Vec<(Kind, SocketAddr)> {
    let complete = stderr.rsplit_once('\n').map_or("", |(complete, _)| complete);
    complete
        .lines()
        .filter_map(|line| line.split_once("listening on ").map(|(_, rest)| rest.trim()))
        .map(|rest| {
            let (url, note) = rest.split_once(' ').unwrap_or((rest, ""));
            let (scheme, address) = url.split_once("://").unwrap_or_else(|| panic!("no URL in {rest:?}"));
            let address = address.trim_end_matches('/').parse().unwrap_or_else(|_| panic!("no address in {rest:?}"));
            let kind = match (scheme, note.contains("admin")) {
                (_, true) => Kind::Admin,
                ("https", false) => Kind::Https,
                _ => Kind::Http,
            };
            (kind, address)
        })
        .collect()
}

/// A running gate; its process ends with this value. It must have kept every secret to itself by then.
pub struct Gate {
    http: Option<SocketAddr>,
    https: Option<SocketAddr>,
    admin: Option<SocketAddr>,
    child: Child,
    stdout: Lines,
    stderr: Lines,
    dir: TempDir,
    secrets: Mutex<Vec<String>>,
}

impl Gate {
    /// `serve` without a file: lenient headers, one route for everything.
    #[track_caller]
    pub fn file_less(upstream: &str) -> Self {
        Setup::file_less(upstream).start()
    }

    /// `serve` with a file.
    #[track_caller]
    pub fn configured(config: &Config) -> Self {
        Setup::configured(config).start()
    }

    /// Strict headers, one route for everything.
    #[track_caller]
    pub fn strict(upstream: &str) -> Self {
        Self::configured(&Config::new(upstream))
    }

    /// The cleartext listener.
    #[track_caller]
    pub fn address(&self) -> SocketAddr {
        self.http.expect("a cleartext listener")
    }

    /// The TLS listener.
    #[track_caller]
    pub fn tls_address(&self) -> SocketAddr {
        self.https.expect("a TLS listener")
    }

    /// A cleartext connection.
    #[track_caller]
    pub fn connect(&self) -> Raw {
        Raw::connect(self.address())
    }

    /// An HTTP/2 connection by prior knowledge.
    #[track_caller]
    pub fn http2(&self) -> Http2 {
        Http2::cleartext(self.address())
    }

    /// Sends a call on a connection of its own.
    #[track_caller]
    pub fn send(&self, call: &Call) -> Reply {
        self.connect().exchange(call)
    }

    /// Sends exact bytes on a connection of its own and reads one answer.
    #[track_caller]
    pub fn send_raw(&self, bytes: impl AsRef<[u8]>) -> Reply {
        let mut raw = self.connect();
        raw.send(bytes);
        raw.reply()
    }

    /// Where the admin listener is.
    #[track_caller]
    pub fn admin_url(&self) -> String {
        format!("http://{}", self.admin.expect("an admin listener"))
    }

    /// Sends a call to the admin listener.
    #[track_caller]
    pub fn admin(&self, call: &Call) -> Reply {
        Raw::connect(self.admin.expect("an admin listener")).exchange(call)
    }

    /// What `/metrics` says.
    #[track_caller]
    pub fn metrics(&self) -> String {
        let reply = self.admin(&Call::new("GET", "/metrics"));
        reply.assert_status(200);
        reply.text()
    }

    /// Opens a session of [`CLIENT`].
    #[track_caller]
    pub fn open(&self) -> Session {
        self.open_as(&token(), CLIENT)
    }

    /// Opens a session.
    #[track_caller]
    pub fn open_as(&self, token: &str, client: &str) -> Session {
        let reply = self.send(&opening(token, client));
        reply.assert_status(201);
        let id = reply.field("session-id").expect("a session-id").to_owned();
        self.keep_secret(token.rsplit('.').next().unwrap_or_default());
        self.keep_secret(&id);
        Session { token: token.into(), client: client.into(), id }
    }

    /// Notes a text that must never be in the gate's output.
    pub fn keep_secret(&self, secret: &str) {
        self.secrets.lock().expect("the secrets").push(secret.to_owned());
    }

    /// The gate's folder.
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Writes a file into the gate's folder.
    pub fn write(&self, name: &str, content: impl AsRef<[u8]>) {
        write(self.dir.path(), name, content);
    }

    /// Replaces the configuration file.
    pub fn write_config(&self, config: &Config) {
        self.write("sessiongate.toml", config.text(&self.dir.path().display().to_string()));
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw).expect("a process id");
        kill_process(pid, signal).expect("the gate runs");
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Resident memory in bytes.
    pub fn resident(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid())).expect("the gate runs on Linux");
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).expect("VmRSS");
        line.split_whitespace().nth(1).and_then(|text| text.parse::<u64>().ok()).expect("a number") * 1024
    }

    /// Waits for the end of the process.
    #[track_caller]
    pub fn exit_code(&mut self) -> Option<i32> {
        let status = wait(&mut self.child);
        status.unwrap_or_else(|| panic!("the gate did not end\n{}", self.stderr.text())).code()
    }

    /// Whether the process still runs.
    pub fn is_alive(&mut self) -> bool {
        self.child.try_wait().expect("a child can be waited for").is_none()
    }

    /// Standard error so far.
    pub fn stderr(&self) -> String {
        self.stderr.text()
    }

    /// Standard output so far.
    pub fn stdout(&self) -> String {
        self.stdout.text()
    }

    /// Waits for a line on standard error.
    #[track_caller]
    pub fn await_stderr(&self, wanted: &str) {
        eventually(&format!("{wanted:?} on stderr"), || self.stderr().contains(wanted));
    }

    /// The access log, once it has so many lines.
    #[track_caller]
    pub fn access_log(&self, count: usize) -> Vec<Value> {
        let complete = || self.stdout().rsplit_once('\n').map_or(0, |(complete, _)| complete.lines().count());
        eventually(&format!("{count} lines in the access log, not {}", self.stdout()), || complete() >= count);
        let parse = |line: &str| serde_json::from_str(line).unwrap_or_else(|_| panic!("not JSON: {line}"));
        self.stdout().lines().map(parse).collect()
    }
}

impl Drop for Gate {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if thread::panicking() {
            eprintln!("--- stderr of the gate\n{}", self.stderr.text());
            return;
        }
        for (name, lines) in [("stdout", &mut self.stdout), ("stderr", &mut self.stderr)] {
            if let Some(reader) = lines.reader.take() {
                reader.join().expect("the reader ends with the process");
            }
            let text = lines.text();
            assert!(!text.contains("panicked at"), "the gate panicked: {text}");
            for secret in self.secrets.lock().expect("the secrets").iter() {
                assert!(!text.contains(secret.as_str()), "a secret on {name}: {text}");
            }
        }
    }
}

fn opening(token: &str, client: &str) -> Call {
    Call::new("POST", "/session").field("authorization", &format!("Bearer {token}")).field("client-id", client)
}

/// A session and its owner.
#[derive(Debug, Clone)]
pub struct Session {
    pub token: String,
    pub client: String,
    pub id: String,
}

impl Session {
    /// `POST /session` with the two fields it needs.
    pub fn opening(token: &str, client: &str) -> Call {
        opening(token, client)
    }

    /// A call with all fields that strict gates demand of calls without a body.
    pub fn call(&self, method: &str, target: &str) -> Call {
        opening(&self.token, &self.client)
            .field("session-id", &self.id)
            .field("x-correlation-id", "corr-7")
            .field("accept", "application/json")
            .to(method, target)
    }

    /// The fields of a good call as HTTP/2 has them. `bearer` is its `authorization`.
    pub fn http2<'a>(&'a self, bearer: &'a str, method: &'a str) -> Vec<(&'a str, &'a str)> {
        vec![
            (":method", method),
            (":scheme", "http"),
            (":authority", "shop.test"),
            (":path", "/orders"),
            ("authorization", bearer),
            ("client-id", &self.client),
            ("session-id", &self.id),
        ]
    }

    /// A GET.
    pub fn get(&self, target: &str) -> Call {
        self.call("GET", target)
    }

    /// A POST of JSON.
    pub fn post(&self, target: &str, body: &str) -> Call {
        self.call("POST", target).field("content-type", "application/json").body(body)
    }

    /// The same session with another token.
    pub fn with_token(&self, token: &str) -> Self {
        Self { token: token.into(), ..self.clone() }
    }
}
