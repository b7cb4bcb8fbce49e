//! Runs the gateway inside another program: a configuration from text, one call through the gate, a clean end.
//!
//! ```text
//! cargo run --example embedded             # one session, one call, then a drain
//! cargo run --example embedded -- --stay   # goes on until Ctrl-C
//! ```

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener};
use std::time::{Duration, SystemTime};

use sessiongate::config;
use sessiongate::server::{Gateway, Options};

type Outcome<T> = Result<T, Box<dyn std::error::Error>>;

const SECRET: &str = "a secret of this example, at least 32 bytes long";
const CLIENT: &str = "embedded-example";

fn main() -> Outcome<()> {
    // The program that embeds the gateway chooses the crypto library, once for the process.
    rustls::crypto::aws_lc_rs::default_provider().install_default().map_err(|_| "TLS has a provider already")?;
    jsonwebtoken::crypto::aws_lc::DEFAULT_PROVIDER.install_default().map_err(|_| "tokens have a provider already")?;

    // Secrets come by file or environment variable, never in the text.
    let folder = tempfile::tempdir()?;
    std::fs::write(folder.path().join("secret.key"), SECRET)?;
    let origin = folder.path().join("embedded.toml");
    let snapshot = config::parse(&configuration(upstream()?), &origin, 1)?;

    let gateway = Gateway::start(Options { snapshot, load: None, access_log: None, takeover: false })?;
    for bound in gateway.bound() {
        println!("listening on {bound}");
    }
    let address = gateway.bound().first().ok_or("the configuration has no listener")?.address;

    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        call(address).await?;
        if std::env::args().any(|argument| argument == "--stay") {
            println!("Ctrl-C ends it");
            tokio::signal::ctrl_c().await?;
        }
        Outcome::Ok(())
    })?;

    gateway.drain();
    gateway.join()?;
    println!("drained");
    Ok(())
}

fn configuration(upstream: SocketAddr) -> String {
    format!(
        r#"
        version = 1
        headers = {{ mode = "lenient" }}
        logs = {{ access = "off" }}

        [[listeners]]
        address = "127.0.0.1:0"

        [[issuers]]
        name = "example"
        keys = [{{ secret = {{ file = "secret.key" }} }}]

        [[upstreams]]
        name = "greeter"
        endpoints = ["http://{upstream}"]

        [[routes]]
        name = "greeting"
        path = "/greeting"
        methods = ["GET"]
        scopes = ["greeting.read"]
        upstream = "greeter"
        "#
    )
}

/// Opens a session and makes one call in it.
async fn call(gate: SocketAddr) -> Outcome<()> {
    let client = reqwest::Client::new();
    let token = token()?;
    let as_client = |request: reqwest::RequestBuilder| request.bearer_auth(&token).header("client-id", CLIENT);

    let opened = as_client(client.post(format!("http://{gate}/session"))).send().await?;
    println!("POST /session   {}", opened.status());
    let session = opened.headers().get("session-id").ok_or("the answer has no session-id")?.clone();

    let url = format!("http://{gate}/greeting");
    let greeting = as_client(client.get(&url)).header("session-id", session).send().await?;
    println!("GET /greeting   {}: {}", greeting.status(), greeting.text().await?);

    let refused = as_client(client.get(&url)).send().await?;
    println!("without session {}: {}", refused.status(), refused.text().await?);
    Ok(())
}

/// What an authorization server would issue.
fn token() -> Outcome<String> {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?;
    let expires = (now + Duration::from_secs(300)).as_secs();
    let claims = serde_json::json!({ "client_id": CLIENT, "scope": "greeting.read", "exp": expires });
    let key = jsonwebtoken::EncodingKey::from_secret(SECRET.as_bytes());
    Ok(jsonwebtoken::encode(&jsonwebtoken::Header::default(), &claims, &key)?)
}

/// A server that says hello, as small as can be.
fn upstream() -> Outcome<SocketAddr> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    std::thread::spawn(move || {
        for mut stream in listener.incoming().map_while(Result::ok) {
            let head = BufReader::new(&stream).lines().map_while(Result::ok).take_while(|line| !line.is_empty());
            println!("the upstream sees:");
            head.filter(|line| !line.starts_with("authorization")).for_each(|line| println!("    {line}"));
            _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\nconnection: close\r\n\r\nhello");
        }
    });
    Ok(address)
}
