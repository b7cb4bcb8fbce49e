//! The operator, who can end sessions.

use super::{Call, Config, Gate, Reply, Session, Setup};

const ADMIN_TOKEN: &str = "the-admin-token-of-the-tests-0123456789";

impl Gate {
    /// A gate that can be told to end sessions, with lenient headers and exact token times.
    #[track_caller]
    pub fn administered(upstream: &str) -> Self {
        Self::administered_with(Config::new(upstream))
    }

    /// The same, with more in its configuration.
    #[track_caller]
    pub fn administered_with(config: Config) -> Self {
        Self::operated(
            config
                .lenient()
                .issuer("name = \"main\"\nleeway = \"0s\"\nkeys = [{ secret = { file = \"{dir}/secret\" } }]"),
        )
    }

    /// A gate with an operator.
    #[track_caller]
    pub fn operated(config: Config) -> Self {
        let setup = Setup::configured(&Self::with_operator(config));
        setup.write("admin-token", ADMIN_TOKEN);
        setup.start()
    }

    /// A configuration with an operator.
    pub fn with_operator(config: Config) -> Config {
        config.section("admin", "address = \"127.0.0.1:0\"\ntoken = { file = \"{dir}/admin-token\" }")
    }

    /// Sends a call to the admin listener with the operator's token.
    #[track_caller]
    pub fn operate(&self, method: &str, path: &str) -> Reply {
        self.admin(&Call::new(method, path).field("authorization", &format!("Bearer {ADMIN_TOKEN}")))
    }

    /// Revokes a session.
    #[track_caller]
    pub fn revoke(&self, session: &Session) {
        let call = Call::new("DELETE", &format!("/sessions/{}", session.id));
        self.admin(&call.field("authorization", &format!("Bearer {ADMIN_TOKEN}"))).assert_status(200);
    }
}
