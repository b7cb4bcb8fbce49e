//! The operator, who can end sessions.

use super::{Call, Config, Gate, Session, Setup};

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
        let config = config
            .lenient()
            .issuer("name = \"main\"\nleeway = \"0s\"\nkeys = [{ secret = { file = \"{dir}/secret\" } }]")
            .section("admin", "address = \"127.0.0.1:0\"\ntoken = { file = \"{dir}/admin-token\" }");
        let setup = Setup::configured(&config);
        setup.write("admin-token", ADMIN_TOKEN);
        setup.start()
    }

    /// Revokes a session.
    #[track_caller]
    pub fn revoke(&self, session: &Session) {
        let call = Call::new("DELETE", &format!("/sessions/{}", session.id));
        self.admin(&call.field("authorization", &format!("Bearer {ADMIN_TOKEN}"))).assert_status(200);
    }
}
