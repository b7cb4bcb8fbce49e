//! `POST /session`: a new session for a verified caller.

use std::sync::Arc;

use aws_lc_rs::digest::{Context, SHA256};

use super::idempotency::sized;
use super::{Gate, OpenCall};
use crate::config::Snapshot;
use crate::policy::binding::Thumbprint;
use crate::policy::claims::Caller;
use crate::policy::digest::sha256;
use crate::policy::ids::{Owner, SessionId};
use crate::policy::rejection::{Rejection, Wait};
use crate::policy::session::EndCause;
use crate::policy::time::Now;
use crate::store::{IdempotentOpening, Opened, Opening, SessionStore};

/// What a client is told to wait when this gate opens no more sessions, in seconds.
const DRAIN_WAIT: Wait = Wait(1);

impl<'r> OpenCall<'_, 'r> {
    /// Who calls.
    #[must_use]
    pub const fn caller(&self) -> &Arc<Caller> {
        self.identified.caller()
    }

    /// Whether the body matters: it is the payload that an Idempotency-Key stands for.
    #[must_use]
    pub const fn is_idempotent(&self) -> bool {
        self.presented.idempotency_key().is_some()
    }

    /// The access token that was presented: it goes back to its owner.
    #[must_use]
    pub const fn token(&self) -> &'r str {
        self.presented.token()
    }
}

impl Gate {
    /// Opens a session. `payload` is the body of the call. A session-id that came with the call is never adopted.
    ///
    /// # Errors
    /// `draining`, `session-limit`, `idempotency-key-reused`; `client-not-allowed` if the client was barred meanwhile.
    pub async fn open(
        &self,
        call: &OpenCall<'_, '_>,
        payload: &[u8],
        live: &Snapshot,
        now: Now,
    ) -> Result<Opened, Rejection> {
        if self.is_draining() {
            return Err(Rejection::Draining(DRAIN_WAIT));
        }
        let (caller, rules) = (call.caller(), &live.sessions);
        let idempotent = call.presented.idempotency_key().map(|key| IdempotentOpening {
            name: opening_name(caller.owner(), key),
            payload: sha256(payload),
            until: now.steady.after(rules.idempotency_ttl),
        });
        let opening = Opening {
            // Version 4 straight from the operating system's generator.
            id: SessionId::from_random(uuid::Uuid::new_v4().into_bytes()),
            owner: Arc::clone(caller.owner()),
            scope: Arc::clone(caller.scope()),
            lifetimes: rules.lifetimes,
            flow: live.flows.of_client(caller.owner().client.as_str()).cloned(),
            cap: call.identified.live_cap().or_usual(rules.max_live_per_client),
            idempotent,
        };
        let opened = self.store.open(opening, now.steady).await?;
        // Who was barred since the token was looked at may have been missed by the end of its other sessions.
        if live.clients.as_ref().is_some_and(|registry| !registry.clients().allow(caller.owner().client.as_str())) {
            self.store.end(opened.session.key(), EndCause::Revoked, now.steady).await?;
            return Err(Rejection::ClientNotAllowed);
        }
        Ok(opened)
    }
}

/// One name per owner and key. Each part goes in with its length, so that no two tuples read alike.
fn opening_name(owner: &Owner, key: &str) -> [u8; 32] {
    let mut context = Context::new(&SHA256);
    for part in [owner.issuer.as_deref(), Some(owner.client.as_str()), owner.subject.as_deref(), Some(key)] {
        context.update(&part.map_or(u64::MAX, |part| part.len() as u64).to_le_bytes());
        context.update(part.unwrap_or_default().as_bytes());
    }
    let (key, certificate) = owner.binding.map_or((None, None), |binding| (binding.key(), binding.certificate()));
    for thumbprint in [key, certificate] {
        context.update(&[u8::from(thumbprint.is_some())]);
        context.update(&thumbprint.unwrap_or(Thumbprint([0; 32])).0);
    }
    sized(context.finish().as_ref())
}
