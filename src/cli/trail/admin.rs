//! Asking a running gateway by its admin listener.

use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use clap::Args;
use http::{Request, StatusCode, header};
use http_body_util::{BodyExt, Empty, Limited};
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use sessiongate::policy::ids::SessionKey;
use sessiongate::trail::line::Line;
use url::Url;

use super::Calls;
use crate::cli::configuration;
use crate::cli::failure::Failure;

/// Longest answer that is taken, in bytes.
const ANSWER_MAX: usize = 256 << 20;

/// Longest wait for it.
const PATIENCE: Duration = Duration::from_secs(30);

/// Where the gateway is, and what it wants to see.
#[derive(Debug, Args)]
#[command(next_help_heading = "The gateway")]
pub struct GatewayArgs {
    /// Its configuration file, for the address and the token of its admin listener [default: ./sessiongate.toml, then
    /// /etc/sessiongate/sessiongate.toml]
    #[arg(short, long, value_name = "FILE", conflicts_with_all = ["admin", "token_file"])]
    config: Option<PathBuf>,

    /// Its admin listener
    #[arg(long, value_name = "URL")]
    admin: Option<Url>,

    /// File with the admin token; a line end at its end does not count
    #[arg(long, value_name = "FILE", requires = "admin")]
    token_file: Option<PathBuf>,

    /// The admin token
    #[arg(long, value_name = "TOKEN", env = "SESSIONGATE_ADMIN_TOKEN", hide = true, hide_env_values = true)]
    token: Option<SecretString>,
}

/// What it answers.
#[derive(Deserialize)]
struct Answer<'a> {
    forgotten: u64,
    #[serde(borrow)]
    calls: Vec<Line<'a>>,
}

/// What it says if it does not.
#[derive(Deserialize)]
struct Refusal {
    detail: String,
}

impl GatewayArgs {
    /// The calls of a session that it has in memory.
    ///
    /// # Errors
    /// [`Failure::Input`] if it is not known where it is, or it refuses; [`Failure::Runtime`] if it does not answer.
    pub fn ask(&self, session: SessionKey) -> Result<Calls, Failure> {
        let (admin, token) = self.place()?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|error| Failure::runtime("cannot ask the gateway", error))?;
        let url = format!("{}/sessions/{session}/trail", admin.trim_end_matches('/'));
        let asked = runtime.block_on(async { tokio::time::timeout(PATIENCE, get(&url, &token)).await });
        let doing = format!("cannot ask the gateway at {admin}");
        let answer = asked.map_err(|_| Failure::runtime(&doing, "it does not answer in time"))?;
        let (status, body) = answer.map_err(|error| Failure::runtime(&doing, error))?;
        if status != StatusCode::OK {
            let said = serde_json::from_slice::<Refusal>(&body).map_or_else(|_| status.to_string(), |said| said.detail);
            return Err(Failure::Input(format!("the gateway says: {said}")));
        }
        let answer: Answer<'_> = serde_json::from_slice(&body).map_err(|error| Failure::runtime(&doing, error))?;
        let lines = answer.calls.into_iter().map(Line::into_owned).collect();
        Ok(Calls { lines, forgotten: answer.forgotten })
    }

    fn place(&self) -> Result<(String, SecretString), Failure> {
        if let Some(admin) = &self.admin {
            let token = match (&self.token_file, &self.token) {
                (Some(file), _) => read_token(file)?,
                (None, Some(token)) => token.clone(),
                (None, None) => {
                    let how = "give --token-file, or set SESSIONGATE_ADMIN_TOKEN";
                    return Err(Failure::Input(format!(
                        "the gateway shows trails only to who has its admin token; {how}"
                    )));
                }
            };
            return Ok((admin.to_string(), token));
        }
        let (path, snapshot) = configuration::load(self.config.as_deref())?;
        let admin = snapshot.admin.ok_or_else(|| {
            Failure::Input(format!("{} has no [admin]: without it nobody can ask; use --file", path.display()))
        })?;
        let token = self.token.clone().or(admin.token).ok_or_else(|| {
            Failure::Input(format!("{} has no admin.token: without it no trail is shown; use --file", path.display()))
        })?;
        Ok((format!("http://{}", admin.address), token))
    }
}

fn read_token(file: &Path) -> Result<SecretString, Failure> {
    let text = std::fs::read_to_string(file);
    let text = text.map_err(|error| Failure::Input(format!("cannot read {}: {error}", file.display())))?;
    Ok(SecretString::from(text.trim_end_matches(['\r', '\n'])))
}

async fn get(url: &str, token: &SecretString) -> Result<(StatusCode, Bytes), Box<dyn std::error::Error + Send + Sync>> {
    let request = Request::get(url)
        .header(header::AUTHORIZATION, format!("Bearer {}", token.expose_secret()))
        .header(header::ACCEPT, "application/json")
        .body(Empty::<Bytes>::new())?;
    let client = Client::builder(TokioExecutor::new()).build_http();
    let answer = client.request(request).await?;
    let status = answer.status();
    let body = Limited::new(answer.into_body(), ANSWER_MAX).collect().await?;
    Ok((status, body.to_bytes()))
}
