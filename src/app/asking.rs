//! Where what a query computes above the shards is computed: on the worker that took it while it is little, on a
//! thread of its own once it may be much, so that a heavy query never holds up those who ask for little.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::Poll;

use tokio::runtime::Handle;

use crate::query::account::Account;

/// Results of the shards up to here are merged, sorted and mapped on the worker: about a millisecond's work.
const LITTLE_BYTES: u64 = 256 * 1024;

/// Says whether a query has become heavy.
#[derive(Clone)]
pub struct Gauge {
    may_repeat: bool,
    account: Arc<OnceLock<Arc<Account>>>,
}

impl Gauge {
    /// A gauge of a query that was not admitted yet.
    pub fn of(text: &str) -> Gauge {
        Gauge { may_repeat: may_have_subquery(text), account: Arc::default() }
    }

    /// From now on its account tells.
    pub fn watch(&self, account: &Arc<Account>) {
        let _ = self.account.set(account.clone());
    }

    fn is_light(&self) -> bool {
        !self.may_repeat && self.account.get().is_none_or(|a| a.progress().bytes <= LITTLE_BYTES)
    }
}

/// A subquery may compute much from nothing, before any shard is asked. A bracket with a colon in a label's value
/// is taken for one: that costs a thread, and nothing else.
fn may_have_subquery(text: &str) -> bool {
    text.split('[').skip(1).any(|t| t.split(']').next().is_some_and(|range| range.contains(':')))
}

/// Runs a query to its end. When nobody waits for it any more it still comes to an end by itself: whoever leaves sets
/// its token, and it notes what became of it.
///
/// Errors: its thread has panicked.
pub async fn run<T, F>(gauge: Gauge, query: Pin<Box<F>>) -> Result<T, tokio::task::JoinError>
where
    T: Send + 'static,
    F: Future<Output = T> + Send + 'static,
{
    let handle = Handle::current();
    let mut begun = Begun { query: Some(query), handle: handle.clone() };
    let answer = poll_fn(|cx| match &mut begun.query {
        Some(query) if gauge.is_light() => {
            let answer = query.as_mut().poll(cx);
            if answer.is_pending() && !gauge.is_light() {
                return Poll::Ready(None);
            }
            if answer.is_ready() {
                begun.query = None;
            }
            answer.map(Some)
        }
        _ => Poll::Ready(None),
    });
    if let Some(answer) = answer.await {
        return Ok(answer);
    }
    match begun.query.take() {
        Some(query) => tokio::task::spawn_blocking(move || handle.block_on(query)).await,
        None => std::future::pending().await,
    }
}

/// A query on its worker. Dropped before its end, it goes on without an asker.
struct Begun<T: Send + 'static, F: Future<Output = T> + Send + 'static> {
    query: Option<Pin<Box<F>>>,
    handle: Handle,
}

impl<T: Send + 'static, F: Future<Output = T> + Send + 'static> Drop for Begun<T, F> {
    fn drop(&mut self) {
        if let Some(query) = self.query.take() {
            self.handle.spawn(query);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn subqueries_are_seen_and_ranges_are_not() {
        let check = |text, expect| assert_eq!(may_have_subquery(text), expect, "{text}");
        check("rate(a:b:c[5m])", false);
        check("sum by (x) (rate(a[5m] offset 1h))", false);
        check("max_over_time(rate(a[5m])[1h:])", true);
        check("max_over_time(vector(1)[1h : 1s])", true);
        check("a[5m", false);
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 1)]
    async fn a_query_whose_asker_has_left_comes_to_its_end() {
        let (tell, told) = tokio::sync::oneshot::channel();
        let (leave, left) = tokio::sync::oneshot::channel::<()>();
        let query = async move {
            let _ = left.await;
            let _ = tell.send(7);
        };
        let asked = run(Gauge::of("a"), Box::pin(query));
        assert!(tokio::time::timeout(std::time::Duration::from_millis(1), asked).await.is_err());
        drop(leave);
        assert_eq!(told.await, Ok(7));
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 1)]
    async fn a_light_query_stays_on_its_worker_and_a_heavy_one_leaves_it() {
        let here = std::thread::current().id();
        let account = Arc::new(Account::new(Default::default(), usize::MAX, usize::MAX));
        let moved = async |gauge: Gauge, heavy: bool| {
            let of_query = account.clone();
            gauge.watch(&account);
            let query = async move {
                if heavy {
                    of_query.meter().turn(1, 1, LITTLE_BYTES as usize + 1).expect("within its budget");
                }
                tokio::task::yield_now().await;
                std::thread::current().id()
            };
            run(gauge, Box::pin(query)).await.expect("no panic") != here
        };
        assert!(!moved(Gauge::of("rate(a[5m])"), false).await);
        assert!(moved(Gauge::of("rate(a[5m:1m])"), false).await);
        assert!(moved(Gauge::of("rate(a[5m])"), true).await);
    }
}
