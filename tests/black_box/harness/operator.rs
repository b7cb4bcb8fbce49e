//! The operator, who sees and ends sessions.

use super::{Call, Config, Gate, Reply, Session, Setup};

const ADMIN_TOKEN: &str = "the-admin-token-of-the-tests-0123456789";

impl Setup {
    /// A gate with an operator, lenient headers and exact token times.
    pub fn administered(config: Config) -> Self {
        let setup = Self::configured(&Gate::administration(config));
        setup.write("admin-token", ADMIN_TOKEN);
        setup
    }

    /// A gate with an operator, and nothing else that the configuration does not say.
    pub fn operated(config: Config) -> Self {
        let setup = Self::configured(&Gate::with_operator(config));
        setup.write("admin-token", ADMIN_TOKEN);
        setup
    }
}

impl Gate {
    /// A gate that can be told to end sessions, with lenient headers and exact token times.
    #[track_caller]
    pub fn administered(upstream: &str) -> Self {
        Self::administered_with(Config::new(upstream))
    }

    /// The same, with more in its configuration.
    #[track_caller]
    pub fn administered_with(config: Config) -> Self {
        Setup::administered(config).start()
    }

    /// What makes a configuration that of a gate with an operator.
    pub fn administration(config: Config) -> Config {
        let issuer = "name = \"main\"\nleeway = \"0s\"\nkeys = [{ secret = { file = \"{dir}/secret\" } }]";
        Self::with_operator(config.lenient().issuer(issuer))
    }

    /// A gate with an operator, and nothing else that the configuration does not say.
    #[track_caller]
    pub fn operated(config: Config) -> Self {
        Setup::operated(config).start()
    }

    /// A configuration with an operator.
    pub fn with_operator(config: Config) -> Config {
        config.section("admin", "address = \"127.0.0.1:0\"\ntoken = { file = \"{dir}/admin-token\" }")
    }

    /// Sends a call to the admin listener with the operator's token.
    #[track_caller]
    pub fn operate(&self, call: &Call) -> Reply {
        self.admin(&call.clone().field("authorization", &format!("Bearer {ADMIN_TOKEN}")))
    }

    /// Revokes a session.
    #[track_caller]
    pub fn revoke(&self, session: &Session) {
        self.operate(&Call::new("DELETE", &format!("/sessions/{}", session.id))).assert_status(200);
    }
}
