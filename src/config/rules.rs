//! The rules of a configuration without what only a running gate needs, so that they can be tried where its keys,
//! certificates and tokens are not.

use super::raw::{AuthorizationAction, File, KeySet, Table};

/// Where nobody asks for keys: the name cannot be resolved (RFC 6761 section 6.4).
const NOWHERE: &str = "https://keys.invalid/";

/// Takes out all that names a secret or a certificate. Issuers keep what their tokens must say; their keys are as if they had
/// not come yet.
pub(super) fn keep(file: &mut File) {
    file.listeners.iter_mut().for_each(|listener| listener.tls = None);
    file.upstreams.iter_mut().for_each(|upstream| upstream.tls = None);
    if let Some(admin) = &mut file.admin {
        admin.token = None;
    }
    (file.tokens, file.trail) = (None, None);
    for route in file.routes.iter_mut().filter(|route| *route.authorization == AuthorizationAction::Replace) {
        route.authorization = AuthorizationAction::Strip.into();
    }
    for issuer in &mut file.issuers {
        issuer.keys.clear();
        (issuer.algorithms, issuer.introspection) = (None, None);
        issuer.key_set = Some(Table::from(KeySet { url: Some(NOWHERE.to_owned().into()), ..KeySet::default() }));
    }
}
