//! The claims of tokens that the gate issues to its sessions (RFC 9068 section 2.2), written and read.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::binding::Binding;
use super::claims::Caller;
use super::ids::{ClientId, Owner, SessionId};
use super::rejection::Why;
use super::scopes::ScopeNames;
use super::time::Timestamp;

/// What an issued token says.
#[derive(Debug, Serialize, Deserialize)]
pub struct IssuedClaims {
    iss: Arc<str>,
    /// The subject, or the client that acts for itself.
    sub: Box<str>,
    aud: Vec<Box<str>>,
    client_id: Arc<str>,
    /// The one session the token is good for.
    sid: String,
    #[serde(default, skip_serializing_if = "str::is_empty")]
    scope: Arc<str>,
    iat: u64,
    exp: u64,
    jti: uuid::Uuid,
    /// Who the caller was to the issuer of the token that this one stands for. A session is bound to that, so that both
    /// tokens continue it.
    presented: Presented,
    /// What the presented token was bound to, and so is this one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    cnf: Option<Binding>,
}

/// The part of an [`Owner`] that an issued token would otherwise hide.
#[derive(Debug, Serialize, Deserialize)]
struct Presented {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    iss: Option<Arc<str>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    sub: Option<Box<str>>,
}

/// When a token is issued, and until when it is good; whole seconds count.
#[derive(Debug, Clone, Copy)]
pub struct Validity {
    /// From now.
    pub from: Timestamp,
    /// To then.
    pub until: Timestamp,
}

impl IssuedClaims {
    /// What is said of `caller` in the session `id`, and what the token is bound to. `jti` must be unique.
    #[must_use]
    pub fn of(
        caller: &Caller,
        id: SessionId,
        (issuer, audiences): (&Arc<str>, &[Box<str>]),
        validity: Validity,
        jti: uuid::Uuid,
        binding: Option<Binding>,
    ) -> Self {
        let owner = caller.owner();
        Self {
            iss: Arc::clone(issuer),
            sub: owner.subject.clone().unwrap_or_else(|| owner.client.as_str().into()),
            aud: audiences.to_vec(),
            client_id: owner.client.as_str().into(),
            sid: id.reveal(),
            scope: Arc::clone(caller.scope()),
            iat: validity.from.as_secs(),
            exp: validity.until.as_secs(),
            jti,
            presented: Presented { iss: owner.issuer.clone(), sub: owner.subject.clone() },
            cnf: binding,
        }
    }

    /// The caller these claims speak of. Believe them only after the signature was verified.
    ///
    /// # Errors
    /// [`Why::Claims`].
    pub fn caller(self, scopes: &ScopeNames, intern: impl Fn(&str) -> Arc<str>) -> Result<Caller, Why> {
        let client = ClientId::from_shared(intern(&self.client_id)).map_err(|_| Why::Claims)?;
        let id = SessionId::parse(self.sid.as_bytes()).map_err(|_| Why::Claims)?;
        let issuer = self.presented.iss.as_deref().map(&intern);
        let owner = Owner { issuer, client, subject: self.presented.sub, binding: self.cnf };
        Ok(Caller::issued(owner, id, scopes, intern(&self.scope), Timestamp::from_secs(self.exp)))
    }
}
