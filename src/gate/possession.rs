//! Whether the sender of a call holds what its token is bound to.

use super::Gate;
use crate::auth::dpop::Proof;
use crate::config::Snapshot;
use crate::policy::binding::{Binding, Possession, Thumbprint};
use crate::policy::claims::Caller;
use crate::policy::credentials::{Presented, Scheme};
use crate::policy::head::Head;
use crate::policy::proof::{ProofFault, Proven};
use crate::policy::rejection::{Rejection, Wait, Why};
use crate::policy::time::Now;

/// What a client is told to wait when no more proofs can be remembered, in seconds.
const FULL_WAIT: Wait = Wait(1);

impl Gate {
    /// What the sender has shown. Only a token that is bound to a key, and comes with a proof, costs anything.
    ///
    /// # Errors
    /// `token-invalid` for a wrong proof, `overloaded` if it cannot be remembered.
    pub(super) fn possession(
        &self,
        live: &Snapshot,
        head: &Head<'_>,
        presented: &Presented<'_>,
        caller: &Caller,
        now: Now,
    ) -> Result<Possession, Rejection> {
        let certificate = head.sender().certificate.copied();
        let key = match (presented.scheme(), caller.binding().and_then(Binding::key)) {
            (Scheme::Dpop, Some(bound)) => {
                // Before the signature of its proof costs anything.
                caller.judge(now.wall).map_err(Rejection::TokenInvalid)?;
                Some(self.prove(live, head, presented.token(), bound, now)?)
            }
            (Scheme::Bearer, _) | (Scheme::Dpop, None) => None,
        };
        Ok(Possession { key, certificate })
    }

    fn prove(
        &self,
        live: &Snapshot,
        head: &Head<'_>,
        token: &str,
        bound: Thumbprint,
        now: Now,
    ) -> Result<Thumbprint, Rejection> {
        let wrong = |fault| Rejection::TokenInvalid(Why::Proof(fault));
        let text = head.proof().map_err(wrong)?.to_str().map_err(|_| wrong(ProofFault::Shape))?;
        let proof = Proof::parse(text).map_err(wrong)?;
        let name = proof.verify(bound, &Proven::of(head), token, &live.dpop, now.wall).map_err(wrong)?;
        let first = self.replays.first_use(name, live.dpop.window(), live.dpop.replay_max, now.steady);
        match first {
            Ok(true) => Ok(bound),
            Ok(false) => Err(wrong(ProofFault::Replayed)),
            Err(_) => Err(Rejection::Overloaded(FULL_WAIT)),
        }
    }
}
