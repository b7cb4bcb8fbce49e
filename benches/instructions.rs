//! How many instructions does the gate execute for a call? The real program runs under callgrind, this process is its
//! client and its origin, and two runs of different length give the count of one call without the start and the end.
//!
//! Times need a quiet machine; counts hardly change on a busy one. So `instructions.toml` holds them, and a
//! count that is more than 3 % above fails. Elsewhere the same code can execute other instructions (another compiler,
//! valgrind or processor): there the counts are compared through a reference workload, less strictly, and it is said.
//!
//! `cargo bench --bench instructions -- --write` writes the file anew; say in the commit why a count grew.

mod support;

use std::collections::BTreeMap;
use std::hint::black_box;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, ExitCode, Stdio};
use std::thread;

use http::HeaderMap;
use http::header::{HeaderName, HeaderValue};
use serde::Deserialize;

const FILE: &str = "benches/instructions.toml";

/// How much a count may grow, in percent: where the file was written, and elsewhere.
const GROWTH: (f64, f64) = (3.0, 10.0);

/// Calls of the short and of the long run. The start gathers entropy by timing, so its count varies: the difference is to
/// be large beside it.
const SHORT: u64 = 500;
const LONG: u64 = 10_500;

/// The name of the reference workload among the counts.
const REFERENCE: &str = "reference";

#[derive(Debug, Deserialize)]
struct Baseline {
    taken_with: Toolchain,
    counts: BTreeMap<String, u64>,
}

/// What decides, beside our code, which instructions are executed.
#[derive(Debug, PartialEq, Eq, Deserialize)]
struct Toolchain {
    rustc: String,
    valgrind: String,
    processor: String,
}

impl Toolchain {
    fn here() -> Self {
        let version = |program: &str| {
            let output = Command::new(program).arg("--version").output().unwrap_or_else(|error| {
                panic!("{program}: {error}; this bench needs the Debian package valgrind and a Rust toolchain")
            });
            String::from_utf8_lossy(&output.stdout).trim().to_owned()
        };
        let info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let model = info.lines().find_map(|line| line.strip_prefix("model name")).unwrap_or(std::env::consts::ARCH);
        let processor = model.trim_start_matches(['\t', ' ', ':']).trim().to_owned();
        Self { rustc: version("rustc"), valgrind: version("valgrind"), processor }
    }
}

/// Starts a program under callgrind.
fn callgrind(program: &Path, folder: &Path) -> Command {
    let mut command = Command::new("valgrind");
    command.arg("--tool=callgrind").arg(format!("--callgrind-out-file={}", folder.join("out").display()));
    command.arg(program).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    command
}

/// Waits for the end and reads what callgrind counted.
fn counted(mut child: Child, lines: impl Iterator<Item = String>) -> u64 {
    let count = lines.filter_map(|line| line.split_once("Collected : ")?.1.trim().parse().ok()).last();
    child.wait().expect("ended");
    count.expect("callgrind says what it collected")
}

fn lines(child: &mut Child) -> impl Iterator<Item = String> + use<> {
    BufReader::new(child.stderr.take().expect("piped")).lines().map_while(Result::ok)
}

/// An origin that answers every request, whose body comes with its head, with 1 KiB.
fn origin() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("bound");
    thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            thread::spawn(move || {
                let head = "HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: 1024\r\n\r\n";
                let reply = format!("{head}{}", "x".repeat(1024));
                stream.set_nodelay(true).expect("a socket");
                let mut request = [0; 8192];
                while stream.read(&mut request).is_ok_and(|count| count > 0) {
                    if stream.write_all(reply.as_bytes()).is_err() {
                        return;
                    }
                }
            });
        }
    });
    address
}

/// One connection, and one request at a time.
struct Client(TcpStream);

impl Client {
    fn new(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).expect("a listener");
        stream.set_nodelay(true).expect("a socket");
        Self(stream)
    }

    /// Sends a request and reads the whole answer; gives its head.
    fn call(&mut self, request: &str) -> String {
        self.0.write_all(request.as_bytes()).expect("sent");
        let (mut got, mut part) = (Vec::new(), [0; 8192]);
        loop {
            let count = self.0.read(&mut part).expect("an answer");
            assert!(count > 0, "the connection closed");
            got.extend_from_slice(&part[..count]);
            let Some(end) = got.windows(4).position(|window| window == b"\r\n\r\n") else { continue };
            let head = String::from_utf8_lossy(&got[..end]).into_owned();
            if got.len() >= end + 4 + field(&head, "content-length").parse::<usize>().expect("a length") {
                return head;
            }
        }
    }
}

fn field<'a>(head: &'a str, name: &str) -> &'a str {
    let mut lines = head.lines().filter_map(|line| line.split_once(": "));
    lines.find(|(known, _)| known.eq_ignore_ascii_case(name)).expect("the field").1
}

/// Which call is repeated.
#[derive(Debug, Clone, Copy)]
enum Kind {
    Guarded,
    Upload,
    Refused,
}

impl Kind {
    const ALL: [(&'static str, Self); 3] =
        [("guarded", Self::Guarded), ("guarded-upload", Self::Upload), ("refused", Self::Refused)];

    /// The request and the begin of its answer.
    fn request(self, proof: &str, session: &str) -> (String, &'static str) {
        let call = |line: &str, id: &str, rest: &str| format!("{line} HTTP/1.1\r\n{proof}session-id: {id}\r\n{rest}");
        match self {
            Self::Guarded => (call("GET /orders/4711?view=full", session, "\r\n"), "HTTP/1.1 200"),
            Self::Upload => {
                let body = format!("content-length: 1024\r\n\r\n{}", "y".repeat(1024));
                (call("POST /orders", session, &body), "HTTP/1.1 200")
            }
            Self::Refused => {
                let call = call("GET /orders/4711?view=full", "00000000-0000-4000-8000-000000000000", "\r\n");
                (call, "HTTP/1.1 404")
            }
        }
    }
}

/// Instructions of a gate that serves so many calls, from its start to its end.
fn gate(kind: Kind, calls: u64, origin: SocketAddr) -> u64 {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let secret = folder.path().join("secret");
    std::fs::write(&secret, support::SECRET).expect("written");
    let mut gate = callgrind(Path::new(env!("CARGO_BIN_EXE_sessiongate")), folder.path())
        .args(["serve", "--listen", "127.0.0.1:0", "--workers", "1", "--upstream", &format!("http://{origin}")])
        .arg("--hs256-secret-file")
        .arg(&secret)
        .spawn()
        .expect("valgrind");
    let mut lines = lines(&mut gate);
    let listening = lines.find_map(|line| line.split_once("listening on http://")?.1.trim().parse().ok());
    let mut client = Client::new(listening.expect("the gate says where it listens"));

    let (token, id) = (support::token("bench"), support::CLIENT);
    let proof = format!(
        "host: shop.example\r\nuser-agent: bench/1\r\naccept: */*\r\nauthorization: Bearer {token}\r\nclient-id: {id}\r\n"
    );
    let opened = client.call(&format!("POST /session HTTP/1.1\r\n{proof}\r\n"));
    let (request, wanted) = kind.request(&proof, field(&opened, "session-id"));
    for _ in 0..calls {
        let head = client.call(&request);
        assert!(head.starts_with(wanted), "{head}");
    }
    drop(client);
    let process = rustix::process::Pid::from_child(&gate);
    rustix::process::kill_process(process, rustix::process::Signal::TERM).expect("it runs");
    counted(gate, lines)
}

/// Instructions of so many rounds of the reference workload: what the gate does most, by code that is not ours.
fn reference(rounds: u64) -> u64 {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut child = callgrind(&std::env::current_exe().expect("a path"), folder.path())
        .args([REFERENCE, &rounds.to_string()])
        .spawn()
        .expect("valgrind");
    let lines = lines(&mut child);
    counted(child, lines)
}

/// Parses a head, fills a map, digests a token, copies.
fn reference_workload(rounds: u64) {
    let token = "t".repeat(400);
    let head = format!(
        "GET /orders/4711 HTTP/1.1\r\nhost: shop.example\r\naccept: */*\r\nauthorization: Bearer {token}\r\n\
         session-id: 00000000-0000-4000-8000-000000000000\r\n\r\n"
    );
    let mut out = Vec::new();
    for _ in 0..rounds {
        let mut slots = [httparse::EMPTY_HEADER; 16];
        let mut request = httparse::Request::new(&mut slots);
        request.parse(black_box(head.as_bytes())).expect("a head");
        let mut fields = HeaderMap::new();
        out.clear();
        for field in request.headers.iter() {
            let name = HeaderName::from_bytes(field.name.as_bytes()).expect("a name");
            fields.append(name, HeaderValue::from_bytes(field.value).expect("a value"));
            out.extend_from_slice(field.value);
        }
        black_box(aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, token.as_bytes()));
        black_box((&fields, &out));
    }
}

fn measure() -> BTreeMap<String, u64> {
    // What disturbs a run (a second that passes, a wait on a busy machine) only adds.
    let least = |run: &dyn Fn(u64) -> u64, calls| (0..3).map(|_| run(calls)).min().unwrap_or(0);
    let per_call = |run: &dyn Fn(u64) -> u64| (least(run, LONG) - least(run, SHORT)) / (LONG - SHORT);
    let origin = origin();
    let calls =
        Kind::ALL.into_iter().map(|(name, kind)| (name.to_owned(), per_call(&|calls| gate(kind, calls, origin))));
    calls.chain([(REFERENCE.to_owned(), per_call(&reference))]).collect()
}

fn write(here: &Toolchain, counts: &BTreeMap<String, u64>) {
    let Toolchain { rustc, valgrind, processor } = here;
    let mut text = format!(
        "# Instructions per call; see instructions.rs.\n\n[taken_with]\nrustc = \"{rustc}\"\nvalgrind = \"{valgrind}\"\n\
         processor = \"{processor}\"\n\n[counts]\n"
    );
    counts.iter().for_each(|(name, count)| text += &format!("{name} = {count}\n"));
    std::fs::write(FILE, text).expect("written");
}

/// Prints the counts beside those of the file; false if one has grown too much.
fn compare(here: &Toolchain, counts: &BTreeMap<String, u64>) -> bool {
    let text = std::fs::read_to_string(FILE).expect("the file");
    let baseline: Baseline = toml::from_str(&text).expect("its form");
    let count = |counts: &BTreeMap<String, u64>, name: &str| counts.get(name).map_or(0.0, |count| *count as f64);
    let (mut scale, mut allowed) = (1.0, GROWTH.0);
    if baseline.taken_with != *here {
        scale = count(counts, REFERENCE) / count(&baseline.counts, REFERENCE);
        allowed = GROWTH.1;
        println!("{FILE} was written with {:?}, here is {here:?}:", baseline.taken_with);
        println!("its counts are taken times {scale:.3}, as for the reference workload, and may grow by {allowed} %");
    }
    let mut good = true;
    for (name, now) in counts.iter().filter(|(name, _)| *name != REFERENCE) {
        let before = count(&baseline.counts, name) * scale;
        let growth = (*now as f64 / before - 1.0) * 100.0;
        let fits = growth <= allowed;
        good &= fits;
        println!(
            "{name:15} {now:7} instructions, {before:7.0} expected, {growth:+.1} %{}",
            if fits { "" } else { ": too many" }
        );
    }
    good
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let [REFERENCE, rounds] = arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        reference_workload(rounds.parse().expect("a number"));
        return ExitCode::SUCCESS;
    }
    // `cargo test --benches` only wants to know that it builds and begins.
    if !arguments.iter().any(|argument| argument == "--bench") {
        return ExitCode::SUCCESS;
    }
    let (here, counts) = (Toolchain::here(), measure());
    if arguments.iter().any(|argument| argument == "--write") {
        write(&here, &counts);
        println!("{FILE}: {counts:?}");
        return ExitCode::SUCCESS;
    }
    if compare(&here, &counts) {
        return ExitCode::SUCCESS;
    }
    println!("if the growth is worth it: cargo bench --bench instructions -- --write");
    ExitCode::FAILURE
}
