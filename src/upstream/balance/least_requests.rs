//! The power of two choices: two are drawn by their shares, and the one with less to do for its share is taken. Almost as
//! good as looking at all, and many gateways that do it do not run to the same endpoint.

use super::View;

#[derive(Debug)]
pub(in crate::upstream) struct LeastRequests;

impl LeastRequests {
    #[expect(clippy::unused_self, reason = "one shape for all algorithms")]
    pub(super) fn pick(&self, view: &impl View) -> Option<usize> {
        let total: u64 = (0..view.count()).map(|place| u64::from(view.share(place))).sum();
        let first = draw(view, total, None)?;
        let rest = total - u64::from(view.share(first));
        let Some(second) = draw(view, rest, Some(first)) else { return Some(first) };
        let burden = |place: usize| {
            let share = u64::from(view.share(place)).max(1);
            (view.load(place) as u64 + 1).saturating_mul(1 << 20) / share
        };
        Some(if burden(second) < burden(first) { second } else { first })
    }
}

/// Draws one by its share of `total`, which is that of all but `except`.
fn draw(view: &impl View, total: u64, except: Option<usize>) -> Option<usize> {
    let mut left = u64::from_ne_bytes(crate::random::bytes()).checked_rem(total)?;
    let mut last = None;
    for place in (0..view.count()).filter(|place| Some(*place) != except) {
        let share = u64::from(view.share(place));
        if share == 0 {
            continue;
        }
        if left < share {
            return Some(place);
        }
        left -= share;
        last = Some(place);
    }
    // Shares may have changed since they were added up.
    last
}
