//! From the claims of a verified token to the [`Caller`] they speak of (RFC 7519 section 4.1, RFC 9068 section 2.2).

use std::sync::Arc;
use std::time::Duration;

use http::HeaderValue;
use percent_encoding::{AsciiSet, CONTROLS};
use serde::Deserialize;
use serde::de::{Deserializer, Error as _};

use super::binding::{Binding, Confirmation, SenderConstraint};
use super::credentials::Scheme;
use super::ids::{ClientId, Owner, SessionId};
use super::members::Members;
use super::rejection::Why;
use super::scopes::{ScopeNames, ScopeSet};
use super::time::Timestamp;

/// The claims we read. A claim given twice, or of the wrong type, makes the whole token unreadable: whoever else reads
/// it might pick the other value.
#[derive(Debug, Deserialize)]
pub struct Claims {
    #[serde(default)]
    iss: Option<String>,
    #[serde(default)]
    sub: Option<String>,
    #[serde(default)]
    aud: Option<Audience>,
    exp: NumericDate,
    #[serde(default)]
    nbf: Option<NumericDate>,
    #[serde(default, rename = "iat")]
    _iat: Option<NumericDate>,
    #[serde(default)]
    client_id: Option<String>,
    #[serde(default)]
    azp: Option<String>,
    #[serde(default)]
    cid: Option<String>,
    #[serde(default)]
    appid: Option<String>,
    #[serde(default)]
    scope: Option<String>,
    #[serde(default)]
    scp: Option<ScopeList>,
    #[serde(default)]
    sid: Option<String>,
    #[serde(default)]
    cnf: Option<Confirmation>,
    /// All claims by name.
    #[serde(skip)]
    all: Members,
}

/// `aud`: one audience or several.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Audience {
    One(String),
    Several(Vec<String>),
}

impl Audience {
    fn names(&self, wanted: &str) -> bool {
        match self {
            Self::One(name) => name == wanted,
            Self::Several(names) => names.iter().any(|name| name == wanted),
        }
    }
}

/// `scp`: a list, or a string as in `scope`.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum ScopeList {
    Text(String),
    List(Vec<String>),
}

/// Seconds since the epoch, fractions allowed; never a string (RFC 7519 section 2).
#[derive(Debug, Clone, Copy)]
pub struct NumericDate(pub Timestamp);

impl<'de> Deserialize<'de> for NumericDate {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let secs = f64::deserialize(deserializer)?;
        if !secs.is_finite() || secs < 0.0 {
            return Err(D::Error::custom("not a time after the epoch"));
        }
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "saturates, and the sign was checked"
        )]
        Ok(Self(Timestamp::from_millis((secs * 1000.0) as u64)))
    }
}

/// A claim that can name the client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClientClaim {
    /// `client_id` (RFC 9068 section 2.2).
    ClientId,
    /// `azp` (OpenID Connect Core section 2).
    Azp,
    /// `cid`.
    Cid,
    /// `appid`.
    AppId,
}

impl ClientClaim {
    /// All of them, in the order they are tried by default.
    pub const ALL: [Self; 4] = [Self::ClientId, Self::Azp, Self::Cid, Self::AppId];

    /// The claim's name.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::ClientId => "client_id",
            Self::Azp => "azp",
            Self::Cid => "cid",
            Self::AppId => "appid",
        }
    }
}

/// A claim that can hold the scopes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ScopeClaim {
    /// `scope`: names with spaces between them (RFC 9068 section 2.2.3).
    Scope,
    /// `scp`: a list of names, or text as in `scope`.
    Scp,
}

impl ScopeClaim {
    /// Both, in the order they are tried by default.
    pub const ALL: [Self; 2] = [Self::Scope, Self::Scp];
}

/// What an issuer's tokens must say.
#[derive(Debug, Clone)]
pub struct ClaimRules {
    /// The `iss` they carry; none: any or none is taken.
    pub issuer: Option<Arc<str>>,
    /// Audiences of which `aud` must name one; empty: `aud` is not looked at.
    pub audiences: Vec<Box<str>>,
    /// How far clocks may differ, for `exp` and `nbf`.
    pub leeway: Duration,
    /// Claims that name the client, in the order they are tried.
    pub client_claims: Vec<ClientClaim>,
    /// Claims that hold the scopes; the first that is there counts.
    pub scope_claims: Vec<ScopeClaim>,
    /// Further claims that must be there, whatever they say.
    pub required: Vec<Box<str>>,
    /// Whether a `sid` claim binds the token to one session.
    pub sid_binds: bool,
    /// What the tokens must be bound to, if anything.
    pub sender: Option<SenderConstraint>,
}

impl Default for ClaimRules {
    fn default() -> Self {
        Self {
            issuer: None,
            audiences: Vec::new(),
            leeway: Duration::from_secs(30),
            client_claims: ClientClaim::ALL.to_vec(),
            scope_claims: ScopeClaim::ALL.to_vec(),
            required: Vec::new(),
            sid_binds: true,
            sender: None,
        }
    }
}

impl Claims {
    /// Reads the JSON of a token.
    ///
    /// # Errors
    /// [`Why::Claims`] if it is no object, a claim is there twice, at whatever depth, or one we read has the wrong type.
    pub fn read(json: &str) -> Result<Self, Why> {
        let all = Members::read(json).ok_or(Why::Claims)?;
        let claims: Self = serde_json::from_str(json).map_err(|_| Why::Claims)?;
        Ok(Self { all, ..claims })
    }

    /// The issuer the token names.
    #[must_use]
    pub fn issuer(&self) -> Option<&str> {
        self.iss.as_deref()
    }

    fn client(&self, claim: ClientClaim) -> Option<&str> {
        match claim {
            ClientClaim::ClientId => self.client_id.as_deref(),
            ClientClaim::Azp => self.azp.as_deref(),
            ClientClaim::Cid => self.cid.as_deref(),
            ClientClaim::AppId => self.appid.as_deref(),
        }
    }

    /// The caller these claims speak of. `intern` gives one copy of a text that many tokens share. Times are not judged here: they are, on every call, by [`Caller::judge`].
    ///
    /// # Errors
    /// [`Why::Issuer`], [`Why::Audience`], [`Why::Claims`], [`Why::Confirmation`] or [`Why::Unbound`].
    pub fn caller(
        self,
        rules: &ClaimRules,
        scopes: &ScopeNames,
        intern: impl Fn(&str) -> Arc<str>,
    ) -> Result<Caller, Why> {
        if rules.issuer.is_some() && self.iss.as_deref() != rules.issuer.as_deref() {
            return Err(Why::Issuer);
        }
        let audience_fits = |wanted: &str| self.aud.as_ref().is_some_and(|aud| aud.names(wanted));
        if !rules.audiences.is_empty() && !rules.audiences.iter().any(|wanted| audience_fits(wanted)) {
            return Err(Why::Audience);
        }
        if !rules.required.iter().all(|name| self.all.contains(name)) {
            return Err(Why::Claims);
        }
        let client = rules.client_claims.iter().find_map(|claim| self.client(*claim)).ok_or(Why::Claims)?;
        let client = ClientId::from_shared(intern(client)).map_err(|_| Why::Claims)?;
        let sid = match self.sid.as_deref().filter(|_| rules.sid_binds) {
            Some(sid) => SidClaim::Bound(SessionId::parse(sid.as_bytes()).ok()),
            None => SidClaim::Free,
        };
        let text = rules.scope_claims.iter().find_map(|claim| match (claim, &self.scope, &self.scp) {
            (ScopeClaim::Scope, Some(scope), _) | (ScopeClaim::Scp, _, Some(ScopeList::Text(scope))) => {
                Some(scope.clone())
            }
            (ScopeClaim::Scp, _, Some(ScopeList::List(scopes))) => Some(scopes.join(" ")),
            (ScopeClaim::Scope, None, _) | (ScopeClaim::Scp, _, None) => None,
        });
        let text = text.unwrap_or_default();
        let issuer = match &rules.issuer {
            Some(issuer) => Some(Arc::clone(issuer)),
            None => self.iss.as_deref().map(&intern),
        };
        let binding = match self.cnf {
            Some(confirmation) => Some(Binding::of(confirmation)?),
            None if self.all.contains("cnf") => return Err(Why::Confirmation),
            None => None,
        };
        if rules.sender.is_some_and(|demanded| !demanded.admits(binding.as_ref())) {
            return Err(Why::Unbound);
        }
        let owner = Owner { issuer, client, subject: self.sub.map(Box::from), binding };
        Ok(Caller {
            fields: CallerFields::of(&owner, &text),
            owner: Arc::new(owner),
            scopes: scopes.known(text.split_ascii_whitespace()),
            scope: intern(&text),
            expires: self.exp.0,
            not_before: self.nbf.map(|nbf| nbf.0),
            leeway: rules.leeway,
            sid,
        })
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum SidClaim {
    Free,
    /// To this session; to none we could have issued if the claim is not one of our ids.
    Bound(Option<SessionId>),
    /// To this session, by the gate itself.
    Issued(SessionId),
}

/// What upstreams are told of a caller, as field values that are made once per token.
#[derive(Debug, Clone)]
pub struct CallerFields {
    /// The client-id.
    pub client: HeaderValue,
    /// The subject. What no field may hold is percent-encoded, and so are `%` and the space, so that no two subjects
    /// look alike to an upstream, which trims spaces.
    pub subject: Option<HeaderValue>,
    /// The scopes, space separated.
    pub scopes: Option<HeaderValue>,
}

impl CallerFields {
    fn of(owner: &Owner, scope: &str) -> Self {
        const SUBJECT: &AsciiSet = &CONTROLS.add(b'%').add(b' ');
        let encoded = |text: &str, escaped: &'static AsciiSet| {
            let plain = percent_encoding::utf8_percent_encode(text, escaped).to_string();
            HeaderValue::try_from(plain).ok().filter(|value| !value.is_empty())
        };
        let client = HeaderValue::from_str(owner.client.as_str());
        Self {
            client: client.unwrap_or_else(|_| HeaderValue::from_static("")),
            subject: owner.subject.as_deref().and_then(|subject| encoded(subject, SUBJECT)),
            scopes: encoded(scope, CONTROLS),
        }
    }
}

/// Proof that a token was signed by its issuer and is meant for us: who calls, and what they may do.
#[derive(Debug, Clone)]
pub struct Caller {
    owner: Arc<Owner>,
    scopes: ScopeSet,
    scope: Arc<str>,
    expires: Timestamp,
    not_before: Option<Timestamp>,
    leeway: Duration,
    sid: SidClaim,
    fields: CallerFields,
}

impl Caller {
    /// The caller of a token that the gate issued to the session `id`; times are the gate's own, so clocks do not differ.
    pub(super) fn issued(
        owner: Owner,
        id: SessionId,
        scopes: &ScopeNames,
        scope: Arc<str>,
        expires: Timestamp,
    ) -> Self {
        Self {
            fields: CallerFields::of(&owner, &scope),
            owner: Arc::new(owner),
            scopes: scopes.known(scope.split_ascii_whitespace()),
            scope,
            expires,
            not_before: None,
            leeway: Duration::ZERO,
            sid: SidClaim::Issued(id),
        }
    }

    /// What upstreams are told of the caller.
    #[must_use]
    pub const fn fields(&self) -> &CallerFields {
        &self.fields
    }

    /// The same caller with only those of its scopes that `may_use` agrees to. `names` are the scopes that routes know.
    #[must_use]
    pub fn narrowed(&self, names: &ScopeNames, may_use: impl Fn(&str) -> bool) -> Self {
        let kept: Vec<&str> = self.scope.split_ascii_whitespace().filter(|scope| may_use(scope)).collect();
        let scope = kept.join(" ");
        Self {
            fields: CallerFields::of(&self.owner, &scope),
            scopes: names.known(kept),
            scope: scope.into(),
            ..self.clone()
        }
    }

    /// Who calls: the tuple that sessions are bound to.
    #[must_use]
    pub const fn owner(&self) -> &Arc<Owner> {
        &self.owner
    }

    /// What the token is bound to, if it is not a bearer token.
    #[must_use]
    pub fn binding(&self) -> Option<&Binding> {
        self.owner.binding.as_ref()
    }

    /// The scheme that the token goes with in `authorization`, as clients are told it.
    #[must_use]
    pub fn scheme(&self) -> Scheme {
        if self.binding().is_some_and(|binding| binding.key().is_some()) { Scheme::Dpop } else { Scheme::Bearer }
    }

    /// The scopes that routes know.
    #[must_use]
    pub const fn scopes(&self) -> &ScopeSet {
        &self.scopes
    }

    /// All scopes as the token has them.
    #[must_use]
    pub const fn scope(&self) -> &Arc<str> {
        &self.scope
    }

    /// When the token ends.
    #[must_use]
    pub const fn expires(&self) -> Timestamp {
        self.expires
    }

    /// When calls with the token end, leeway included.
    #[must_use]
    pub const fn usable_until(&self) -> Timestamp {
        self.expires.after(self.leeway)
    }

    /// Whether the token may be used in session `id`.
    #[must_use]
    pub fn may_enter(&self, id: SessionId) -> bool {
        match self.sid {
            SidClaim::Free => true,
            SidClaim::Bound(bound) => bound == Some(id),
            SidClaim::Issued(bound) => bound == id,
        }
    }

    /// Whether the gate itself issued the token, to the session it is bound to. Such a token opens no other.
    #[must_use]
    pub const fn is_issued(&self) -> bool {
        matches!(self.sid, SidClaim::Issued(_))
    }

    /// Judges the times of the token, leeway included.
    ///
    /// # Errors
    /// [`Why::Expired`] or [`Why::NotYetValid`].
    pub fn judge(&self, wall: Timestamp) -> Result<(), Why> {
        if self.usable_until() <= wall {
            return Err(Why::Expired);
        }
        if self.not_before.is_some_and(|start| start > wall.after(self.leeway)) {
            return Err(Why::NotYetValid);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
