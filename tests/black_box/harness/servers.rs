//! Real servers as origins: programs of others, each in a folder of its own and ended with the test.

use std::fs::File;
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use tempfile::TempDir;

use super::{dead_address, eventually};

/// A running server.
pub struct Server {
    address: SocketAddr,
    child: Child,
    dir: TempDir,
}

impl Server {
    /// nginx with these lines in its only `server` block. `{dir}` is its folder; files are served from `{dir}/www`.
    pub fn nginx(block: &str) -> Self {
        let (address, dir) = (dead_address(), folder());
        std::fs::create_dir(dir.path().join("www")).expect("a folder");
        let temporary = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"];
        let temporary = temporary.map(|kind| format!("{kind}_temp_path {{dir}}/{kind};\n")).concat();
        let config = format!(
            "user root;\npid {{dir}}/pid;\nerror_log {{dir}}/log;\nworker_processes 1;\nevents {{}}\n\
             http {{\naccess_log off;\n{temporary}types {{ text/plain txt; application/json json; }}\n\
             server {{\nlisten {address};\nroot {{dir}}/www;\n{block}\n}}\n}}\n"
        );
        let mut command = Command::new("nginx");
        command.arg("-p").arg(dir.path()).args(["-e", "log", "-g", "daemon off;", "-c"]);
        Self::start(command, &config, address, dir, "nginx-light")
    }

    /// HAProxy in front of `origin`, with these lines in its only `frontend`.
    pub fn haproxy(origin: SocketAddr, lines: &str) -> Self {
        let (address, dir) = (dead_address(), folder());
        let config = format!(
            "defaults\nmode http\ntimeout connect 5s\ntimeout client 60s\ntimeout server 60s\n\
             frontend in\nbind {address}\n{lines}\ndefault_backend origin\nbackend origin\nserver one {origin}\n"
        );
        let mut command = Command::new("haproxy");
        command.args(["-db", "-f"]);
        Self::start(command, &config, address, dir, "haproxy")
    }

    /// Starts `command` with the path of its configuration as its last argument, and waits until it listens.
    fn start(mut command: Command, config: &str, address: SocketAddr, dir: TempDir, package: &str) -> Self {
        let file = dir.path().join("config");
        std::fs::write(&file, config.replace("{dir}", &dir.path().display().to_string())).expect("a configuration");
        let output = File::create(dir.path().join("output")).expect("a file");
        let errors = output.try_clone().expect("a file can be cloned");
        command.arg(&file).stdin(Stdio::null()).stdout(output).stderr(errors);
        let child = command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}; apt-get install {package}"));
        let mut server = Self { address, child, dir };
        eventually("the server listens", || {
            if let Ok(Some(status)) = server.child.try_wait() {
                panic!("{command:?} ended with {status}: {}", server.said());
            }
            TcpStream::connect(address).is_ok()
        });
        server
    }

    fn said(&self) -> String {
        let read = |name| std::fs::read_to_string(self.dir.path().join(name)).unwrap_or_default();
        read("output") + &read("log")
    }

    /// Its base.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Puts a file among those that nginx serves.
    pub fn write(&self, name: &str, content: impl AsRef<[u8]>) {
        std::fs::write(self.dir.path().join("www").join(name), content).expect("a file to serve");
    }

    /// Its folder.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        use rustix::process::{Pid, Signal, kill_process};
        // nginx ends its workers when it is asked to end; killed, it would leave them behind.
        if let Some(pid) = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw) {
            let _ = kill_process(pid, Signal::TERM);
        }
        let _ = self.child.wait();
    }
}

fn folder() -> TempDir {
    tempfile::Builder::new().prefix("sessiongate-test-").tempdir().expect("a temporary folder")
}
