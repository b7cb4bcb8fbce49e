//! Configuration files of gates under test.

/// A configuration in the making. Where a test says nothing, there is one listener, one issuer with the tests' secret,
/// one upstream `shop`, and one route for everything.
#[derive(Debug, Clone, Default)]
pub struct Config {
    upstreams: Vec<String>,
    listeners: Vec<String>,
    issuers: Vec<String>,
    routes: Vec<String>,
    flows: Vec<String>,
    sections: Vec<String>,
}

/// In texts, `{dir}` becomes the folder of the gate.
impl Config {
    /// A configuration whose upstream `shop` is this one (`http://host:port`).
    pub fn new(upstream: &str) -> Self {
        Self::default().upstream(&format!("name = \"shop\"\nendpoints = [\"{upstream}\"]\n"))
    }

    /// For an upstream that is spoken to in this protocol: lenient, and with one worker, so that all calls share one pool.
    pub fn speaking(protocol: &str, upstream: &str) -> Self {
        Self::new(upstream)
            .lenient()
            .section("server", "workers = 1")
            .section("admin", "address = \"127.0.0.1:0\"")
            .upstream_setting(&format!("protocol = \"{protocol}\""))
    }

    /// The header mode of `serve` without a file, for tests that are about other things.
    pub fn lenient(self) -> Self {
        self.section("headers", "mode = \"lenient\"")
    }

    /// Adds a table.
    pub fn section(mut self, name: &str, body: &str) -> Self {
        self.sections.push(format!("[{name}]\n{body}\n"));
        self
    }

    /// Adds an upstream.
    pub fn upstream(mut self, body: &str) -> Self {
        self.upstreams.push(body.into());
        self
    }

    /// Adds a line to the first upstream.
    pub fn upstream_setting(mut self, line: &str) -> Self {
        self.upstreams[0].push_str(&format!("{line}\n"));
        self
    }

    /// Adds a listener.
    pub fn listener(mut self, body: &str) -> Self {
        self.listeners.push(body.into());
        self
    }

    /// Adds an issuer.
    pub fn issuer(mut self, body: &str) -> Self {
        self.issuers.push(body.into());
        self
    }

    /// Adds a route.
    pub fn route(mut self, body: &str) -> Self {
        self.routes.push(body.into());
        self
    }

    /// Adds a flow.
    pub fn flow(mut self, body: &str) -> Self {
        self.flows.push(body.into());
        self
    }

    /// With other words in the routes.
    pub fn renamed(mut self, from: &str, to: &str) -> Self {
        self.routes.iter_mut().for_each(|route| *route = route.replace(from, to));
        self
    }

    /// Adds the route for everything.
    pub fn catch_all(self) -> Self {
        self.route("name = \"all\"\npath = \"/{*rest}\"\nupstream = \"shop\"")
    }

    /// How many listeners the gate will report.
    pub fn listener_count(&self) -> usize {
        let admin = self.sections.iter().any(|section| section.starts_with("[admin]"));
        self.listeners.len().max(1) + usize::from(admin)
    }

    /// The file.
    pub fn text(&self, dir: &str) -> String {
        let mut whole = self.clone();
        if whole.listeners.is_empty() {
            whole = whole.listener("address = \"127.0.0.1:0\"");
        }
        if whole.issuers.is_empty() {
            whole = whole.issuer("name = \"main\"\nkeys = [{ secret = { file = \"{dir}/secret\" } }]");
        }
        if whole.routes.is_empty() {
            whole = whole.catch_all();
        }
        let mut text = "version = 1\n\n".to_owned();
        text.push_str(&whole.sections.join("\n"));
        for (name, bodies) in [
            ("listeners", &whole.listeners),
            ("issuers", &whole.issuers),
            ("upstreams", &whole.upstreams),
            ("routes", &whole.routes),
            ("flows", &whole.flows),
        ] {
            for body in bodies {
                text.push_str(&format!("\n[[{name}]]\n{body}\n"));
            }
        }
        text.replace("{dir}", dir)
    }
}
