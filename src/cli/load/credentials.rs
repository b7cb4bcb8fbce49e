//! The credentials of virtual clients: tokens that are given, or signed here as `sessiongate token` does.

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args as ClapArgs;
use serde_json::{Map, Value};
use sessiongate::config::raw::SecretRef;
use sessiongate::policy::ids::ClientId;
use zeroize::Zeroizing;

use super::chance::Chance;
use super::scenario::{Client, Identity};
use crate::cli::failure::Failure;
use crate::cli::token;

/// How virtual clients authorize, where the scenario does not say it or something else is wanted.
#[derive(Debug, ClapArgs)]
#[command(next_help_heading = "Credentials (instead of the scenario's clients)")]
pub struct CredentialArgs {
    /// The client-id of all calls
    #[arg(long, value_name = "ID", value_parser = token::parse_client)]
    client_id: Option<ClientId>,

    /// File with an access token for the client-id
    #[arg(long, value_name = "FILE", conflicts_with = "hs256_secret_file", requires = "client_id")]
    token_file: Option<PathBuf>,

    /// An access token for the client-id; others can see it in the list of processes, so rather use the variable
    #[arg(
        long, value_name = "TOKEN", env = "SESSIONGATE_LOAD_TOKEN", hide_env_values = true,
        conflicts_with_all = ["hs256_secret_file", "token_file"]
    )]
    token: Option<String>,

    /// File with an HS256 secret to sign access tokens with, as `sessiongate token` does
    #[arg(long, value_name = "FILE", requires = "client_id")]
    hs256_secret_file: Option<PathBuf>,

    /// The user of signed tokens (claim sub)
    #[arg(long, value_name = "NAME", default_value = "load", requires = "hs256_secret_file")]
    subject: String,

    /// How many users: above 1 there is a token each, and a number is put behind the name
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=100_000), requires = "hs256_secret_file")]
    subjects: u32,

    /// Scopes of signed tokens, separated by spaces
    #[arg(long, value_name = "SCOPES", value_parser = token::parse_scopes, requires = "hs256_secret_file")]
    scope: Vec<String>,

    /// Issuer of signed tokens
    #[arg(long, value_name = "ISSUER", requires = "hs256_secret_file")]
    issuer: Option<String>,

    /// Audience of signed tokens
    #[arg(long, value_name = "AUD", requires = "hs256_secret_file")]
    audience: Option<String>,
}

/// What one virtual client shows.
pub struct Credential {
    /// Its client-id.
    pub client_id: String,
    /// Its user.
    pub subject: String,
    /// Its access token.
    pub token: String,
    /// How often it is chosen, relative to others.
    weight: f64,
}

/// Never shows the token.
impl std::fmt::Debug for Credential {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Credential").field("client_id", &self.client_id).finish_non_exhaustive()
    }
}

/// All credentials of a run; at least one.
#[derive(Debug)]
pub struct Credentials(Vec<Credential>);

impl Credentials {
    /// Those of the command line, else those of the scenario. Signed tokens are good for `life`. `folder` is where
    /// relative paths of the scenario start.
    ///
    /// # Errors
    /// [`Failure::Input`] if there are none, or one cannot be read.
    pub fn gather(args: &CredentialArgs, clients: &[Client], folder: &Path, life: Duration) -> Result<Self, Failure> {
        let mut all = Vec::new();
        if let Some(token) = &args.token {
            let client_id = args.client_id.as_ref().ok_or_else(needs_client)?.as_str().to_owned();
            let subject = args.subject.clone();
            all.push(Credential { client_id, subject, token: checked(token, "the token")?, weight: 1.0 });
        } else if let Some(client) = args.client()? {
            all.extend(expand(&client, Path::new(""), life)?);
        } else {
            for client in clients {
                all.extend(expand(client, folder, life)?);
            }
        }
        if all.is_empty() {
            return Err(Failure::Input(
                "how do the clients authorize? Give --client-id ID with --hs256-secret-file FILE or --token-file FILE, \
                 or [[clients]] in the scenario"
                    .into(),
            ));
        }
        Ok(Self(all))
    }

    /// All of them.
    pub fn all(&self) -> &[Credential] {
        &self.0
    }

    /// The credential of a walk.
    pub fn choose(&self, chance: &mut Chance) -> &Credential {
        &self.0[chance.choose(self.0.iter().map(|credential| credential.weight))]
    }
}

impl CredentialArgs {
    fn client(&self) -> Result<Option<Client>, Failure> {
        let file = |path: &PathBuf| SecretRef::File(path.display().to_string());
        let identity = match (&self.token_file, &self.hs256_secret_file) {
            (Some(path), _) => Identity::Token(file(path)),
            (None, Some(path)) => Identity::Signed {
                secret: file(path),
                subject: Some(self.subject.clone()),
                subjects: self.subjects,
                claims: self.claims(),
            },
            (None, None) => return Ok(None),
        };
        let id = self.client_id.as_ref().ok_or_else(needs_client)?;
        Ok(Some(Client { id: id.as_str().to_owned(), weight: 1.0, identity }))
    }

    fn claims(&self) -> Map<String, Value> {
        let mut claims = Map::new();
        if !self.scope.is_empty() {
            claims.insert("scope".into(), self.scope.join(" ").into());
        }
        for (name, value) in [("iss", &self.issuer), ("aud", &self.audience)] {
            if let Some(value) = value {
                claims.insert(name.into(), value.as_str().into());
            }
        }
        claims
    }
}

fn needs_client() -> Failure {
    Failure::Input("a token needs --client-id too".into())
}

/// The credentials of one client: one for each of its users.
fn expand(client: &Client, folder: &Path, life: Duration) -> Result<Vec<Credential>, Failure> {
    let credential = |subject: String, token: String, users: u32| Credential {
        client_id: client.id.clone(),
        subject,
        token,
        weight: client.weight / f64::from(users),
    };
    match &client.identity {
        Identity::Token(reference) => {
            let (bytes, origin) = read(reference, folder)?;
            let text = String::from_utf8_lossy(&bytes);
            Ok(vec![credential(String::new(), checked(text.trim(), &origin)?, 1)])
        }
        Identity::Signed { secret, subject, subjects, claims } => {
            let (secret, origin) = read(secret, folder)?;
            let secret =
                token::usable_secret(secret.to_vec()).map_err(|what| Failure::Input(format!("{origin}: {what}")))?;
            let now = token::now().as_secs();
            let name = subject.as_deref().unwrap_or("load");
            (1..=*subjects)
                .map(|number| {
                    let subject = if *subjects == 1 { name.to_owned() } else { format!("{name}-{number}") };
                    let mut all = Map::new();
                    all.insert("client_id".into(), client.id.as_str().into());
                    all.insert("sub".into(), subject.as_str().into());
                    all.insert("iat".into(), now.into());
                    all.insert("exp".into(), now.saturating_add(life.as_secs()).into());
                    all.extend(claims.clone());
                    let token = token::mint(&secret, all)?;
                    Ok(credential(subject, token, *subjects))
                })
                .collect()
        }
    }
}

/// A token that can stand in a header field.
fn checked(token: &str, origin: &str) -> Result<String, Failure> {
    if token.is_empty() || token.bytes().any(|byte| !byte.is_ascii_graphic()) {
        return Err(Failure::Input(format!("{origin}: it holds no access token, or more than one")));
    }
    Ok(token.to_owned())
}

fn read(reference: &SecretRef, folder: &Path) -> Result<(Zeroizing<Vec<u8>>, String), Failure> {
    match reference {
        SecretRef::File(file) => {
            let path = folder.join(file);
            let origin = path.display().to_string();
            let bytes = std::fs::read(&path);
            bytes
                .map(|bytes| (Zeroizing::new(bytes), origin.clone()))
                .map_err(|error| Failure::Input(format!("{origin}: cannot read it: {error}")))
        }
        SecretRef::Env(name) => std::env::var(name)
            .map(|value| (Zeroizing::new(value.into_bytes()), format!("${name}")))
            .map_err(|_| Failure::Input(format!("${name}: the variable is not set, or not text"))),
    }
}
