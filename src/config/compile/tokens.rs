//! Tokens that the gate issues, and what tokens are bound to.

use std::sync::Arc;

use crate::auth::dpop::DpopRules;
use crate::auth::issue::{SigningKey, TokenIssuer};
use crate::config::raw::{self, At, Dpop, File, Period, SenderConstraintName, Table};
use crate::policy::binding::SenderConstraint;

use super::context::Context;
use super::secrets;

pub(super) fn tokens(cx: &mut Context<'_>, file: &File) -> Option<TokenIssuer> {
    let tokens = file.tokens.as_ref()?;
    let issuer = issuer(cx, file, tokens);
    for audience in tokens.audiences.iter().filter(|audience| audience.is_empty()) {
        cx.mistake(audience.span(), "the audience is empty");
    }
    let lifetime = cx.within(&tokens.lifetime, Period::secs(10)..=Period::secs(24 * 3600)).0;
    if tokens.keys.is_empty() {
        let hint = "write keys = [{ pem = { file = \"..\" } }]";
        cx.missing(tokens.span(), "keys", "the gate has no key to sign with", hint);
    }
    let mut keys: Vec<SigningKey> = Vec::with_capacity(tokens.keys.len());
    for written in &tokens.keys {
        let Some(key) = key(cx, written) else { continue };
        if keys.iter().any(|other| other.kid() == key.kid()) {
            let at = written.kid.as_ref().map_or(written.span(), At::span);
            cx.mistake_hint(at, format!("another key has the kid {:?}", key.kid()), "list each key once");
        }
        keys.push(key);
    }
    let issuer: Arc<str> = issuer?.into();
    let audiences = match tokens.audiences.as_slice() {
        [] => [Box::from(&*issuer)].into(),
        written => written.iter().map(|audience| audience.as_str().into()).collect(),
    };
    let mut keys = keys.into_iter();
    let signing = keys.next()?;
    Some(TokenIssuer::new(issuer, audiences, lifetime, signing, keys.collect()))
}

pub(super) fn dpop(cx: &mut Context<'_>, dpop: &Dpop) -> DpopRules {
    DpopRules {
        max_age: cx.within(&dpop.max_age, Period::secs(1)..=Period::secs(600)).0,
        leeway: cx.within(&dpop.leeway, Period::secs(0)..=Period::secs(300)).0,
        replay_max: usize::try_from(dpop.replay_max.get()).unwrap_or(usize::MAX),
    }
}

pub(super) const fn sender(name: SenderConstraintName) -> SenderConstraint {
    match name {
        SenderConstraintName::Dpop => SenderConstraint::Dpop,
        SenderConstraintName::Mtls => SenderConstraint::Mtls,
        SenderConstraintName::Any => SenderConstraint::Any,
    }
}

fn issuer<'f>(cx: &mut Context<'_>, file: &File, tokens: &'f Table<raw::Tokens>) -> Option<&'f str> {
    let example = "https://gate.example.com";
    let issuer = cx.required(tokens.issuer.as_ref(), tokens.span(), "issuer", example)?;
    if issuer.is_empty() {
        cx.mistake_hint(issuer.span(), "the iss is empty", format!("write issuer = {example:?}"));
    }
    let others = file.issuers.iter().filter_map(|other| other.issuer.as_ref());
    if others.into_iter().any(|other| **other == **issuer) {
        cx.mistake_hint(issuer.span(), format!("another issuer has the iss {:?}", &**issuer), "the gate needs its own");
    }
    Some(issuer)
}

fn key(cx: &mut Context<'_>, written: &Table<raw::SigningKey>) -> Option<SigningKey> {
    if let Some(kid) = written.kid.as_ref().filter(|kid| kid.is_empty()) {
        cx.mistake_hint(kid.span(), "the kid is empty", "leave the key out to take its thumbprint");
    }
    let Some(source) = &written.pem else {
        cx.missing(written.span(), "pem", "the key has no source", "write pem = { file = \"..\" }");
        return None;
    };
    let secret = secrets::read(cx, source)?;
    let key = SigningKey::from_pem(&secret.bytes, written.kid.as_ref().map(|kid| kid.as_str()));
    if let Err(error) = &key {
        let hint = "make one: openssl genpkey -algorithm ec -pkeyopt ec_paramgen_curve:P-256";
        cx.mistake_hint(source.span(), format!("{}: {error}", secret.origin), hint);
    }
    key.ok()
}
