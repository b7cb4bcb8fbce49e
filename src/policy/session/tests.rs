use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use super::*;
use crate::policy::ids::{ClientId, SessionId};

fn session() -> Session {
    let owner = Owner { issuer: None, client: ClientId::parse("a").unwrap(), subject: None, binding: None };
    let lifetimes = Lifetimes { idle: Duration::from_secs(10), absolute: Duration::from_secs(25) };
    Session::open(
        SessionId::from_random([1; 16]).key(),
        Arc::new(owner),
        "".into(),
        lifetimes,
        Timestamp::from_secs(100),
    )
}

#[test]
fn idle_and_absolute_ends_are_exact() {
    let session = session();
    let at = |secs| session.standing(Timestamp::from_secs(secs));
    assert_eq!((at(109), at(110)), (Standing::Live, Standing::Ended(EndCause::Expired)));
    session.touch(Timestamp::from_secs(109));
    assert_eq!((at(118), at(119)), (Standing::Live, Standing::Ended(EndCause::Expired)));
    session.touch(Timestamp::from_secs(118));
    assert_eq!((at(124), at(125)), (Standing::Live, Standing::Ended(EndCause::Expired)));
    assert_eq!((session.calls(), session.expires_in(Timestamp::from_secs(120))), (2, 5));
}

#[test]
fn a_refused_visit_changes_nothing() {
    let session = session();
    let refused: Result<(), &str> = session.visit(|progress| {
        progress.standing = Standing::Suspended;
        Err("no")
    });
    assert_eq!((refused, session.settled_standing()), (Err("no"), Standing::Live));
    let version = session.visit(|progress| {
        progress.standing = Standing::Suspended;
        Ok::<_, ()>(progress.version)
    });
    assert_eq!((version, session.settled_standing()), (Ok(0), Standing::Suspended));
    assert_eq!(session.visit(|progress| Ok::<_, ()>(progress.version)), Ok(1));
}

#[test]
fn the_end_wakes_those_who_wait() {
    struct Flag(std::sync::atomic::AtomicBool);
    impl std::task::Wake for Flag {
        fn wake(self: Arc<Self>) {
            self.0.store(true, Ordering::SeqCst);
        }
    }
    let (session, flag) = (Arc::new(session()), Arc::new(Flag(false.into())));
    let waker = Waker::from(Arc::clone(&flag));
    let mut context = Context::from_waker(&waker);
    let waiting = || session.lock().waiting.as_ref().map_or(0, |waiting| waiting.wakers.len());
    let (mut ended, mut dropped) = (Arc::clone(&session).barred(), Arc::clone(&session).barred());
    assert!(Pin::new(&mut ended).poll(&mut context).is_pending());
    assert!(Pin::new(&mut ended).poll(&mut context).is_pending());
    assert!(Pin::new(&mut dropped).poll(&mut context).is_pending());
    assert_eq!(waiting(), 2);
    drop(dropped);
    assert_eq!(waiting(), 1);
    let revoke = |progress: &mut Progress| {
        progress.standing = Standing::Ended(EndCause::Revoked);
        Ok::<_, ()>(())
    };
    session.visit(revoke).unwrap();
    assert!(flag.0.load(Ordering::SeqCst));
    assert_eq!(Pin::new(&mut ended).poll(&mut context), Poll::Ready(Rejection::SessionRevoked));
}

#[test]
fn a_suspension_wakes_those_who_wait_and_a_session_that_went_on_is_waited_for_again() {
    let session = Arc::new(session());
    let mut context = Context::from_waker(Waker::noop());
    let to = |standing| {
        session.visit(|progress| {
            progress.standing = standing;
            Ok::<_, ()>(())
        })
    };
    let mut barred = Arc::clone(&session).barred();
    assert!(Pin::new(&mut barred).poll(&mut context).is_pending());
    to(Standing::Suspended).unwrap();
    assert_eq!(Pin::new(&mut barred).poll(&mut context), Poll::Ready(Rejection::SessionSuspended));
    to(Standing::Live).unwrap();
    assert!(Pin::new(&mut barred).poll(&mut context).is_pending());
}

#[test]
fn foreign_uses_within_a_while_suspend() {
    let rule = ForeignUseRule { after: 3, within: Duration::from_secs(10) };
    let at = Timestamp::from_secs;
    let session = session();
    let suspends = |secs| session.visit(|progress| Ok::<_, ()>(progress.note_foreign_use(rule, at(secs)))).unwrap();
    assert_eq!([100, 109, 110, 111].map(suspends), [false; 4], "the third came too late, and begins anew");
    assert!(suspends(119));
    assert_eq!((session.settled_standing(), suspends(119)), (Standing::Suspended, false), "once");
    let resume = |progress: &mut Progress| {
        progress.standing = Standing::Live;
        Ok::<_, ()>(())
    };
    session.visit(resume).unwrap();
    assert_eq!([120, 121, 122].map(suspends), [false, false, true], "after it was resumed they count anew");
}

#[test]
fn a_session_stays_small() {
    // With the two counts of its `Arc` 160 bytes, which is a size that allocators have.
    assert!(size_of::<Session>() <= 144, "{}", size_of::<Session>());
    assert!(size_of::<Flowing>() <= 48, "{}", size_of::<Flowing>());
}
