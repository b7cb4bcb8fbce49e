//! What the demo needs on disk: a folder of its own with a configuration file and secrets, and tokens that fit them.

use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{self, Write};
use std::net::SocketAddr;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::PathBuf;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::json;

use super::script::Bearer;
use crate::cli::failure::Failure;
use crate::cli::token;

/// The client application of the demo.
pub const CLIENT: &str = "EnterpriseAPIM-RPuj1Q5nWk6bDC9fP3VpsjRJTmnLshfqo7cbq437";

/// Another client application.
pub const OTHER_CLIENT: &str = "PartnerPortal-2kYd81";

const ISSUER: &str = "ENTAPI";

/// How long the demo's tokens are good for, in seconds.
const TOKEN_LIFE: i64 = 8 * 3600;

/// A folder that only this user can read; it goes when this is dropped.
#[derive(Debug)]
pub struct Folder(PathBuf);

impl Folder {
    /// Makes a folder that was not there before.
    ///
    /// # Errors
    /// What the system says.
    pub fn new() -> io::Result<Self> {
        let name = format!("sessiongate-demo-{}", &uuid::Uuid::new_v4().simple().to_string()[..8]);
        let path = std::env::temp_dir().join(name);
        DirBuilder::new().mode(0o700).create(&path)?;
        Ok(Self(path))
    }

    /// The path of a file in it.
    pub fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// Writes a file that only this user can read.
    ///
    /// # Errors
    /// What the system says.
    pub fn write(&self, name: &str, text: &str) -> io::Result<()> {
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(true).mode(0o600).open(self.path(name))?.write_all(text.as_bytes())
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // What cannot be removed stays for the system to clean up.
        _ = fs::remove_dir_all(&self.0);
    }
}

/// The demo on disk.
#[derive(Debug)]
pub struct Setup {
    folder: Folder,
    secret: String,
}

impl Setup {
    /// Makes the folder and the secrets.
    ///
    /// # Errors
    /// [`Failure::Runtime`] if the folder cannot be written to.
    pub fn new() -> Result<Self, Failure> {
        let made = || -> io::Result<Self> {
            let setup = Self { folder: Folder::new()?, secret: secret()? };
            setup.folder.write("secret.key", &format!("{}\n", setup.secret))?;
            setup.folder.write("admin.token", &format!("{}\n", secret()?))?;
            Ok(setup)
        };
        made().map_err(|error| Failure::runtime("cannot write the demo's files", error))
    }

    /// The configuration file.
    pub fn config(&self) -> PathBuf {
        self.folder.path("sessiongate.toml")
    }

    /// The file of the admin token.
    pub fn admin_token(&self) -> PathBuf {
        self.folder.path("admin.token")
    }

    /// Writes the configuration file.
    ///
    /// # Errors
    /// [`Failure::Runtime`] if it cannot be written.
    pub fn write_config(&self, listen: SocketAddr, service: SocketAddr, access_log: &str) -> Result<(), Failure> {
        self.write("sessiongate.toml", &config(listen, service, access_log)).map(drop)
    }

    /// Writes another file beside it, and gives its path.
    ///
    /// # Errors
    /// [`Failure::Runtime`] if it cannot be written.
    pub fn write(&self, name: &str, text: &str) -> Result<PathBuf, Failure> {
        let written = self.folder.write(name, text);
        written.map_err(|error| Failure::runtime("cannot write the demo's files", error))?;
        Ok(self.folder.path(name))
    }

    /// Mints a token.
    ///
    /// # Errors
    /// [`Failure::Runtime`] if it cannot be signed.
    pub fn token(&self, bearer: Bearer) -> Result<String, Failure> {
        let now = i64::try_from(token::now().as_secs()).unwrap_or(i64::MAX);
        let (client, subject) = match bearer {
            Bearer::OtherClient => (OTHER_CLIENT, "mallory"),
            _ => (CLIENT, "alice"),
        };
        let (issued, expires) = match bearer {
            Bearer::Expired => (now - 7200, now - 3600),
            _ => (now, now + TOKEN_LIFE),
        };
        let scope = if bearer == Bearer::ReadOnly { "ordering.read" } else { "ordering.read ordering.write" };
        let claims = json!({
            "sub": subject, "scope": scope, "iss": ISSUER, "grant_type": "client_credentials", "client_id": client,
            "iat": issued, "exp": expires,
        });
        let secret = if bearer == Bearer::Forged { "a secret that somebody has made up" } else { &self.secret };
        token::mint(secret.as_bytes(), claims.as_object().cloned().unwrap_or_default())
    }
}

/// 32 bytes from the operating system, as text.
fn secret() -> io::Result<String> {
    let mut bytes = [0; 32];
    aws_lc_rs::rand::fill(&mut bytes).map_err(|_| io::Error::other("the operating system gives no random bytes"))?;
    Ok(URL_SAFE_NO_PAD.encode(bytes))
}

fn config(listen: SocketAddr, service: SocketAddr, access_log: &str) -> String {
    format!(
        r#"# The configuration of `sessiongate demo`. Change it while the demo runs, and reload it with
#   kill -HUP {pid}
version = 1

[[listeners]]
address = "{listen}"

[admin]
address = "127.0.0.1:0"            # 0: a free port
token = {{ file = "admin.token" }}

[headers]
mode = "strict"                    # all six headers on every call but POST /session

[sessions]
idle = "30m"
absolute = "4h"

[[issuers]]
name = "demo"
issuer = "{ISSUER}"
keys = [{{ secret = {{ file = "secret.key" }} }}]

[[upstreams]]
name = "ordering"
endpoints = ["http://{service}"]
response_timeout = "2s"

[[routes]]
name = "eligibility"
path = "/eligibility"
methods = ["POST"]
scopes = ["ordering.read"]
upstream = "ordering"

[[routes]]
name = "offers"
path = "/offers"
methods = ["GET"]
scopes = ["ordering.read"]
upstream = "ordering"

[[routes]]
name = "configure"
path = "/configurations/{{offer}}"
methods = ["PUT"]
scopes = ["ordering.write"]
upstream = "ordering"

[[routes]]
name = "order"
path = "/orders"
methods = ["POST"]
scopes = ["ordering.write"]
max_body = "64KiB"
upstream = "ordering"

[[routes]]
name = "installation"
path = "/installations"
methods = ["POST"]
scopes = ["ordering.write"]
upstream = "ordering"

[[flows]]
name = "ordering"                  # what comes out of order gets 409, and is told what may come

[[flows.steps]]
name = "eligibility"
routes = ["eligibility"]
repeat = true

[[flows.steps]]
name = "offer"
routes = ["offers"]
after = ["eligibility"]
repeat = true

[[flows.steps]]
name = "configure"
routes = ["configure"]
after = ["offer"]
repeat = true

[[flows.steps]]
name = "order"
routes = ["order"]
after = ["configure"]
exclusive = true
idempotency = "required"

[[flows.steps]]
name = "installation"
routes = ["installation"]
after = ["order"]
terminal = true

[logs]
access = "{access_log}"
"#,
        pid = std::process::id()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_configuration_is_valid_and_leaves_nothing_behind() {
        let setup = Setup::new().unwrap();
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        setup.write_config(any, SocketAddr::from(([127, 0, 0, 1], 9000)), "off").unwrap();
        let snapshot = sessiongate::config::load(&setup.config(), 1).unwrap_or_else(|errors| panic!("{errors}"));
        assert_eq!(snapshot.routes.routes().len(), 6);
        let config = setup.config();
        drop(setup);
        assert!(!config.exists());
    }
}
