//! The calls of the demo, listed once: the sheet shows them as `curl` lines, the walk performs them.

/// A call, and what must come out.
#[derive(Debug, Clone, Copy)]
pub struct Step {
    /// What it does, or what is wrong with it.
    pub title: &'static str,
    /// Its method.
    pub method: &'static str,
    /// Its path and query.
    pub path: &'static str,
    /// The fields it sends.
    pub fields: Fields,
    /// Its JSON body.
    pub body: Option<&'static str>,
    /// What must come out.
    pub expect: Expect,
    /// Whether it is on the sheet too, or only performed.
    pub on_sheet: bool,
}

/// The fields that a call sends, beside those of its body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fields {
    /// In `authorization`.
    pub bearer: Option<Bearer>,
    /// In `client-id`.
    pub client: Client,
    /// In `session-id`.
    pub session: Option<Session>,
    /// Whether there is `x-correlation-id`.
    pub correlation: bool,
    /// In `accept`.
    pub accept: Option<&'static str>,
    /// In `content-type`, where there is a body.
    pub content_type: &'static str,
    /// In `idempotency-key`.
    pub key: Option<&'static str>,
}

/// A token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bearer {
    /// With all scopes.
    Full,
    /// With the scope to read only.
    ReadOnly,
    /// Of another client.
    OtherClient,
    /// Past its time.
    Expired,
    /// Signed with another secret.
    Forged,
}

/// A client-id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Client {
    /// The one that the token was issued to.
    Own,
    /// Another one.
    Other,
}

/// A session-id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Session {
    /// The one that was opened.
    Own,
    /// One that nobody opened.
    Unknown,
}

/// What must come out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expect {
    /// The gate answers, and is fine.
    Gate(u16),
    /// The ordering service answers.
    Service(u16),
    /// The gate gives the answer that the service gave before.
    Replayed(u16),
    /// The gate refuses with a problem code, and the service sees nothing.
    Refused(u16, &'static str),
}

impl Expect {
    /// The status that must come out.
    pub const fn status(self) -> u16 {
        match self {
            Self::Gate(status) | Self::Service(status) | Self::Replayed(status) | Self::Refused(status, _) => status,
        }
    }
}

/// A session-id that nobody opened.
pub const UNKNOWN_SESSION: &str = "00000000-0000-4000-8000-000000000000";

/// The six headers as they should be.
pub const SIX: Fields = Fields {
    bearer: Some(Bearer::Full),
    client: Client::Own,
    session: Some(Session::Own),
    correlation: true,
    accept: Some("application/json"),
    content_type: "application/json",
    key: None,
};

/// The six, and an Idempotency-Key.
const KEYED: Fields = Fields { key: Some("order-1"), ..SIX };

const CREDENTIALS: Fields = Fields { session: None, correlation: false, accept: None, ..SIX };

const READ_OFFERS: Step = Step {
    title: "",
    method: "GET",
    path: "/offers",
    fields: SIX,
    body: None,
    expect: Expect::Service(200),
    on_sheet: true,
};

const ORDER: Step = Step {
    method: "POST",
    path: "/orders",
    fields: KEYED,
    body: Some(r#"{"offer":"fiber-500"}"#),
    expect: Expect::Service(201),
    ..READ_OFFERS
};

const WALKED: Step = Step { on_sheet: false, ..READ_OFFERS };

/// The call that opens the session.
pub const OPEN: Step = Step {
    title: "open a session; its id comes in a header",
    method: "POST",
    path: "/session",
    fields: CREDENTIALS,
    expect: Expect::Gate(201),
    ..READ_OFFERS
};

/// The call that closes it.
pub const CLOSE: Step =
    Step { title: "close the session", method: "DELETE", path: "/session", expect: Expect::Gate(204), ..READ_OFFERS };

/// The ordering flow.
pub const FLOW: &[Step] = &[
    Step { title: "order before anything else: too early", expect: Expect::Refused(409, "step-not-allowed"), ..ORDER },
    Step {
        title: "verify the eligibility of an address",
        method: "POST",
        path: "/eligibility",
        body: Some(r#"{"address":"1 Main Street, Springfield"}"#),
        ..READ_OFFERS
    },
    Step { title: "get the offers", ..READ_OFFERS },
    Step {
        title: "configure an offer",
        method: "PUT",
        path: "/configurations/fiber-500",
        body: Some(r#"{"options":["static-ip"]}"#),
        ..READ_OFFERS
    },
    Step { title: "order it, with an Idempotency-Key", ..ORDER },
    Step {
        title: "the same again: the answer of the first, and no second order",
        expect: Expect::Replayed(201),
        ..ORDER
    },
    Step {
        title: "arrange the installation",
        method: "POST",
        path: "/installations",
        body: Some(r#"{"date":"2027-01-15"}"#),
        expect: Expect::Service(201),
        ..READ_OFFERS
    },
    Step {
        title: "an error of the service passes untouched",
        path: "/offers?fail=503",
        expect: Expect::Service(503),
        ..READ_OFFERS
    },
    Step { title: "look at the session", method: "GET", path: "/session", expect: Expect::Gate(200), ..READ_OFFERS },
];

/// What the gate refuses while the session is live.
pub const REFUSALS: &[Step] = &[
    Step {
        title: "without authorization",
        fields: Fields { bearer: None, ..SIX },
        expect: Expect::Refused(401, "credentials-missing"),
        ..READ_OFFERS
    },
    Step {
        title: "without a session",
        fields: Fields { session: None, ..SIX },
        expect: Expect::Refused(400, "header-missing"),
        ..READ_OFFERS
    },
    Step {
        title: "the client-id of somebody else",
        fields: Fields { client: Client::Other, ..SIX },
        expect: Expect::Refused(403, "client-mismatch"),
        ..READ_OFFERS
    },
    Step {
        title: "a session that nobody opened",
        fields: Fields { session: Some(Session::Unknown), ..SIX },
        expect: Expect::Refused(404, "session-not-found"),
        ..READ_OFFERS
    },
    Step {
        title: "a token that may read but not order",
        method: "POST",
        path: "/orders",
        fields: Fields { bearer: Some(Bearer::ReadOnly), ..SIX },
        body: Some(r#"{"offer":"fiber-500"}"#),
        expect: Expect::Refused(403, "scope-insufficient"),
        ..READ_OFFERS
    },
    Step {
        title: "a stolen session-id, with a good token of another client",
        fields: Fields { bearer: Some(Bearer::OtherClient), client: Client::Other, ..SIX },
        expect: Expect::Refused(404, "session-not-found"),
        ..WALKED
    },
    Step {
        title: "a token past its time",
        fields: Fields { bearer: Some(Bearer::Expired), ..SIX },
        expect: Expect::Refused(401, "token-invalid"),
        ..WALKED
    },
    Step {
        title: "a token that somebody else has signed",
        fields: Fields { bearer: Some(Bearer::Forged), ..SIX },
        expect: Expect::Refused(401, "token-invalid"),
        ..WALKED
    },
    Step {
        title: "two headers missing: both are reported",
        fields: Fields { session: None, correlation: false, ..SIX },
        expect: Expect::Refused(400, "header-missing"),
        ..WALKED
    },
    Step {
        title: "a body that is not JSON",
        method: "POST",
        path: "/orders",
        fields: Fields { content_type: "text/plain", ..SIX },
        body: Some("fiber-500, please"),
        expect: Expect::Refused(415, "media-type-unsupported"),
        ..WALKED
    },
    Step {
        title: "a path that two parsers could read differently",
        path: "/offers/%2e%2e/orders",
        expect: Expect::Refused(400, "request-malformed"),
        ..WALKED
    },
    Step {
        title: "a path that no route takes",
        path: "/admin",
        expect: Expect::Refused(404, "route-unknown"),
        ..WALKED
    },
];

/// What it refuses when the session is closed.
pub const CLOSED: Step =
    Step { title: "a session that was closed", expect: Expect::Refused(404, "session-closed"), ..READ_OFFERS };
