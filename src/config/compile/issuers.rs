//! Issuers and their keys.

use std::sync::Arc;

use jsonwebtoken::Algorithm;

use crate::auth::keys::{KeyError, VerificationKey};
use crate::auth::{Issuer, TokenType};
use crate::config::raw::{
    self, ClientClaimName, File, Key, Period, ScopeClaimName, SignatureAlgorithm, Table, TokenTypeName,
};
use crate::policy::claims::{ClaimRules, ClientClaim, ScopeClaim};

use super::context::Context;
use super::introspection;
use super::key_sets;
use super::secrets::{self, Secret};
use super::tokens;

pub(super) fn issuers(cx: &mut Context<'_>, file: &File) -> Vec<Issuer> {
    if file.issuers.is_empty() {
        cx.missing(0..0, "issuers", "there is no issuer", "add [[issuers]] with a name and keys");
    }
    let mut names = Vec::new();
    let mut claimed: Vec<Option<&str>> = Vec::new();
    for second in file.issuers.iter().filter_map(|issuer| issuer.introspection.as_ref()).skip(1) {
        let hint = "nothing tells their tokens apart; leave one of them out";
        cx.mistake_hint(second.span(), "another issuer is asked about tokens, too", hint);
    }
    let mut issuers = Vec::with_capacity(file.issuers.len());
    for issuer in &file.issuers {
        let name = cx.name("issuer", issuer.name.as_ref(), issuer.span(), "main", &names);
        names.extend(name);
        let iss = issuer.issuer.as_ref().map(|iss| iss.as_str());
        if claimed.contains(&iss) {
            let at = issuer.issuer.as_ref().map_or(issuer.span(), |iss| iss.span());
            match iss {
                Some(iss) => cx.mistake(at, format!("another issuer has the iss {iss:?}")),
                None => cx.missing(at, "issuer", "another issuer takes tokens of any iss too", "set issuer = \"..\""),
            }
        }
        claimed.push(iss);
        issuers.push(self::issuer(cx, issuer, name.unwrap_or_default()));
    }
    issuers
}

fn issuer(cx: &mut Context<'_>, issuer: &Table<raw::Issuer>, name: &str) -> Issuer {
    if let Some(iss) = issuer.issuer.as_ref().filter(|iss| iss.is_empty()) {
        cx.mistake_hint(iss.span(), "the iss is empty", "leave the key out to accept any");
    }
    for audience in issuer.audiences.iter().filter(|audience| audience.is_empty()) {
        cx.mistake(audience.span(), "the audience is empty");
    }
    if issuer.client_claims.is_empty() && !cx.is_touched(issuer.span(), "client_claims") {
        cx.mistake(issuer.client_claims.span(), "no claim names the client");
    }
    if issuer.scope_claims.is_empty() && !cx.is_touched(issuer.span(), "scope_claims") {
        cx.mistake(issuer.scope_claims.span(), "no claim holds the scopes");
    }
    for claim in issuer.required_claims.iter().filter(|claim| claim.is_empty()) {
        cx.mistake(claim.span(), "the name of the claim is empty");
    }
    if let Some(none) = issuer.algorithms.as_ref().filter(|all| all.is_empty())
        && !cx.is_touched(issuer.span(), "algorithms")
    {
        cx.mistake_hint(
            none.span(),
            "its tokens may have no algorithm",
            "leave the key out for all that its keys verify",
        );
    }
    match &issuer.key_set {
        None if issuer.keys.is_empty()
            && issuer.introspection.is_none()
            && !["key_set", "introspection"].iter().any(|key| cx.is_touched(issuer.span(), key)) =>
        {
            let hint =
                "write keys = [{ secret = { file = \"..\" } }], with pem or jwks instead of secret, or key_set = {}";
            cx.missing(issuer.span(), "keys", "the issuer has no key", hint);
        }
        Some(set) if !issuer.keys.is_empty() => {
            cx.mistake_hint(set.span(), "the issuer has keys of its own, too", "write keys or key_set");
        }
        None | Some(_) => {}
    }
    let keys: Vec<_> = issuer.keys.iter().flat_map(|key| keys(cx, key)).collect();
    let claims = ClaimRules {
        issuer: issuer.issuer.as_ref().map(|iss| Arc::from(iss.as_str())),
        audiences: issuer.audiences.iter().map(|audience| audience.as_str().into()).collect(),
        leeway: cx.within(&issuer.leeway, Period::secs(0)..=Period::secs(300)).0,
        client_claims: issuer.client_claims.iter().map(client_claim).collect(),
        scope_claims: issuer.scope_claims.iter().map(scope_claim).collect(),
        required: issuer.required_claims.iter().map(|claim| claim.as_str().into()).collect(),
        sid_binds: issuer.sid_claim,
        sender: issuer.sender_constraint.map(tokens::sender),
    };
    let typ = match issuer.typ {
        TokenTypeName::Any => TokenType::Any,
        TokenTypeName::AtJwt => TokenType::AtJwt,
    };
    let algorithms: Vec<_> = issuer.algorithms.iter().flat_map(|all| all.iter().map(algorithm)).collect();
    if let Some(listed) = issuer.algorithms.as_ref().filter(|_| !algorithms.is_empty())
        && !keys.is_empty()
        && !keys.iter().any(|key| algorithms.iter().any(|algorithm| key.verifies(*algorithm)))
    {
        cx.mistake(listed.span(), "no key of the issuer verifies any of these");
    }
    let published = issuer.key_set.as_ref().and_then(|set| key_sets::key_set(cx, set, issuer.issuer.as_ref()));
    let asked = issuer.introspection.as_ref().and_then(|table| introspection::introspection(cx, table));
    let issuer = match published {
        Some(config) => Issuer::with_key_set(name, claims, config),
        None => Issuer::with_keys(name, claims, keys),
    };
    let issuer = Issuer { typ, algorithms, ..issuer };
    match asked {
        Some(config) => issuer.asked(config),
        None => issuer,
    }
}

fn keys(cx: &mut Context<'_>, key: &Table<Key>) -> Vec<VerificationKey> {
    let source = match (&key.secret, &key.pem, &key.jwks) {
        (Some(source), None, None) | (None, Some(source), None) | (None, None, Some(source)) => source,
        _ => {
            let none = key.secret.is_none() && key.pem.is_none() && key.jwks.is_none();
            let taken_out = ["secret", "pem", "jwks"].iter().any(|kind| cx.is_touched(key.span(), kind));
            if !(none && taken_out) {
                let message = if none { "the key has no source" } else { "the key has several sources" };
                cx.mistake_hint(key.span(), message, "write exactly one of secret, pem and jwks");
            }
            return Vec::new();
        }
    };
    if key.jwks.is_some() {
        let extra = [key.kid.as_ref().map(|kid| kid.span()), key.algorithms.as_ref().map(|all| all.span())];
        for at in extra.into_iter().flatten() {
            cx.mistake(at, "a key set names its own kids and algorithms");
        }
    }
    if let Some(kid) = key.kid.as_ref().filter(|kid| kid.is_empty()) {
        cx.mistake(kid.span(), "the kid is empty");
    }
    if let Some(none) = key.algorithms.as_ref().filter(|all| all.is_empty())
        && !cx.is_touched(key.span(), "algorithms")
    {
        cx.mistake_hint(none.span(), "the key may verify no algorithm", "leave the key out for the usual one");
    }
    let Some(Secret { bytes, origin }) = secrets::read(cx, source) else { return Vec::new() };
    let kid = key.kid.as_ref().map(|kid| kid.as_str());
    let named = key.algorithms.as_ref().map(|all| all.iter().map(algorithm).collect::<Vec<_>>());
    let algorithms = named.as_deref().unwrap_or_default();
    let made = if key.secret.is_some() {
        VerificationKey::from_secret(&bytes, kid, algorithms).map(|key| vec![key])
    } else if key.pem.is_some() {
        VerificationKey::from_pem(&bytes, kid, algorithms).map(|key| vec![key])
    } else {
        VerificationKey::from_jwks(&bytes).map(|(keys, _)| keys)
    };
    let error = match made {
        Ok(keys) => return keys,
        Err(error) => error,
    };
    match error {
        KeyError::AlgorithmMismatch(_) => {
            let at = key.algorithms.as_ref().map_or(key.span(), |all| all.span());
            cx.mistake(at, format!("{origin}: {error}"));
        }
        // The reason may quote from the file, and a key set may hold secrets.
        KeyError::NotAKeySet(_) => cx.mistake(source.span(), format!("{origin}: this is not a JSON Web Key Set")),
        KeyError::SecretTooShort(_) | KeyError::NotAKey | KeyError::NoUsableKey { .. } => {
            cx.mistake(source.span(), format!("{origin}: {error}"));
        }
    }
    Vec::new()
}

const fn client_claim(name: &ClientClaimName) -> ClientClaim {
    match name {
        ClientClaimName::ClientId => ClientClaim::ClientId,
        ClientClaimName::Azp => ClientClaim::Azp,
        ClientClaimName::Cid => ClientClaim::Cid,
        ClientClaimName::Appid => ClientClaim::AppId,
    }
}

const fn scope_claim(name: &ScopeClaimName) -> ScopeClaim {
    match name {
        ScopeClaimName::Scope => ScopeClaim::Scope,
        ScopeClaimName::Scp => ScopeClaim::Scp,
    }
}

const fn algorithm(name: &SignatureAlgorithm) -> Algorithm {
    match name {
        SignatureAlgorithm::HS256 => Algorithm::HS256,
        SignatureAlgorithm::HS384 => Algorithm::HS384,
        SignatureAlgorithm::HS512 => Algorithm::HS512,
        SignatureAlgorithm::RS256 => Algorithm::RS256,
        SignatureAlgorithm::RS384 => Algorithm::RS384,
        SignatureAlgorithm::RS512 => Algorithm::RS512,
        SignatureAlgorithm::PS256 => Algorithm::PS256,
        SignatureAlgorithm::PS384 => Algorithm::PS384,
        SignatureAlgorithm::PS512 => Algorithm::PS512,
        SignatureAlgorithm::ES256 => Algorithm::ES256,
        SignatureAlgorithm::ES384 => Algorithm::ES384,
        SignatureAlgorithm::EdDSA => Algorithm::EdDSA,
    }
}
