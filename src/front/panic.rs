//! A panic while a call is answered is a bug of ours, and no reason to leave its client without an answer.

use std::any::Any;
use std::future::Future;
use std::panic::AssertUnwindSafe;

use futures_util::FutureExt;
use http::HeaderValue;

/// The call panicked, and the operator knows.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Panicked;

/// Goes on answering the call that has this id. What a panic leaves half done is dropped, and nothing of it is looked at
/// again.
pub(super) fn catch<F: Future>(
    answering: F,
    request_id: &HeaderValue,
) -> impl Future<Output = Result<F::Output, Panicked>> + use<'_, F> {
    AssertUnwindSafe(answering).catch_unwind().map(|answered| {
        answered.map_err(|panic| {
            report(&*panic, request_id);
            Panicked
        })
    })
}

/// Where it was, the panic hook has told.
#[cold]
fn report(panic: &(dyn Any + Send), request_id: &HeaderValue) {
    let text = panic.downcast_ref::<&str>().copied().or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    let request_id = request_id.to_str().unwrap_or("-");
    tracing::error!(request_id, "a call panicked, which is a bug of the gate: {}", text.unwrap_or("no message"));
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::net::SocketAddr;
    use std::pin::Pin;
    use std::sync::Arc;
    use std::task::{Context, Poll};

    use bytes::Bytes;
    use http::{Request, StatusCode};
    use http_body::{Body, Frame};
    use http_body_util::BodyExt;
    use jsonwebtoken::{EncodingKey, Header, encode};
    use serde_json::{Value, json};

    use crate::auth::keys::VerificationKey;
    use crate::auth::{Authenticator, Issuer};
    use crate::clock::Clock;
    use crate::config::Live;
    use crate::front::{Peer, Proxy};
    use crate::gate::Gate;
    use crate::policy::claims::ClaimRules;
    use crate::store::AnyStore;
    use crate::store::memory::MemoryStore;
    use crate::telemetry::{Recorder, Telemetry};
    use crate::testing;
    use crate::timer::Timer;
    use crate::upstream::upload::UploadFault;

    const SECRET: &[u8] = b"0123456789abcdef0123456789abcdef";

    /// A body that is no good.
    struct Bomb;

    impl Body for Bomb {
        type Data = Bytes;
        type Error = UploadFault;

        fn poll_frame(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, UploadFault>>> {
            panic!("a bug that the test has planted")
        }
    }

    fn proxy() -> Arc<Proxy> {
        let keys = vec![VerificationKey::from_secret(SECRET, None, &[]).unwrap()];
        let auth =
            Authenticator::new(vec![Issuer::with_keys("main", ClaimRules::default(), keys)], Default::default(), 100);
        let live = Arc::new(Live::new(testing::snapshot(auth)));
        let gate = Arc::new(Gate::new(AnyStore::Memory(MemoryStore::default()), Clock::default()));
        let recorder = Arc::new(Recorder::new(Arc::new(Telemetry::new(None))));
        Arc::new(Proxy::new(gate, live, recorder, Timer::start(), Arc::default()))
    }

    #[tokio::test]
    async fn a_panic_is_answered_with_the_id_of_its_call_and_the_next_call_is_served() {
        let proxy = proxy();
        let peer = Peer {
            address: SocketAddr::from(([127, 0, 0, 1], 9)),
            http2: false,
            tls: false,
            certificate: None,
            thumbprint: None,
        };
        let connection = Arc::new(proxy.connect(peer));
        let claims = json!({ "sub": "anna", "client_id": "shop", "exp": 4_000_000_000_u64 });
        let token = encode(&Header::default(), &claims, &EncodingKey::from_secret(SECRET)).unwrap();
        let opening = || {
            Request::post("/session")
                .header("host", "shop")
                .header("authorization", format!("Bearer {token}"))
                .header("client-id", "shop")
                .header("x-correlation-id", "order-7")
        };
        let broken = opening().header("idempotency-key", "k").body(Bomb).unwrap();
        let response = Proxy::answer(Arc::clone(&connection), broken, None, None).await;
        assert_eq!(response.status(), StatusCode::INTERNAL_SERVER_ERROR);
        assert_eq!(response.headers()["connection"], "close");
        assert_eq!(response.headers()["x-correlation-id"], "order-7");
        let id = response.headers()["x-request-id"].to_str().unwrap().to_owned();
        let problem = response.into_body().collect().await.unwrap().to_bytes();
        let problem: Value = serde_json::from_slice(&problem).unwrap();
        assert_eq!((&problem["code"], &problem["request_id"]), (&json!("internal"), &json!(id)));

        let empty = http_body_util::Empty::new().map_err(|never: Infallible| match never {});
        let response = Proxy::answer(Arc::clone(&connection), opening().body(empty).unwrap(), None, None).await;
        assert_eq!(response.status(), StatusCode::CREATED);
    }
}
