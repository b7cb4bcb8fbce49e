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
        config
            .lenient()
            .issuer("name = \"main\"\nleeway = \"0s\"\nkeys = [{ secret = { file = \"{dir}/secret\" } }]")
            .section("admin", "address = \"127.0.0.1:0\"\ntoken = { file = \"{dir}/admin-token\" }")
    }

    /// Sends a call of the operator.
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
