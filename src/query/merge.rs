//! From the partial results of the shards to one.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use crate::query::Error;
use crate::query::account::{Load, Token};
use crate::query::annotations::Annotations;
use crate::query::exec::access::Access;
use crate::query::exec::scan::{self, Outcome, Partial};
use crate::query::frame::Row;
use crate::query::plan::physical::Fragment;
use crate::query::value::Series;
use crate::shard::Shard;

/// A partial result under way.
pub type Pending<'a> = Pin<Box<dyn Future<Output = Result<Partial, Error>> + Send + 'a>>;

/// How fragments reach the shards.
pub trait Shards: Send + Sync {
    fn shard_count(&self) -> usize;

    /// Runs a fragment beside shard `shard`; the future is ready when it has answered.
    fn run<'a>(&'a self, shard: usize, fragment: Arc<Fragment>) -> Pending<'a>;
}

/// Shards in this process and thread, for scripts, tests and benches.
pub struct Local {
    pub shards: Vec<Shard>,
    pub token: Token,
}

impl Local {
    pub fn new(shard_count: usize) -> Local {
        Local { shards: (0..shard_count).map(|_| Shard::default()).collect(), token: Token::default() }
    }

    /// The shard that owns a series.
    pub fn owner(&mut self, labels: &model::Labels) -> &mut Shard {
        let n = self.shards.len() as u16;
        &mut self.shards[usize::from(labels.series_hash().shard(n).0)]
    }
}

struct LocalAccess<'a> {
    shard: &'a Shard,
    token: &'a Token,
}

impl Access for LocalAccess<'_> {
    fn with<R>(&self, look: impl FnOnce(&Shard) -> R) -> R {
        look(self.shard)
    }

    async fn breathe(&self) -> Result<(), Error> {
        self.token.check()
    }
}

impl Shards for Local {
    fn shard_count(&self) -> usize {
        self.shards.len()
    }

    fn run<'a>(&'a self, shard: usize, fragment: Arc<Fragment>) -> Pending<'a> {
        let access = LocalAccess { shard: &self.shards[shard], token: &self.token };
        // All looks at the shard happen within one poll: nothing of it crosses a thread.
        Box::pin(async move { futures_lite::future::block_on(scan::run(&access, &fragment)) })
    }
}

/// Runs a fragment on all shards at once.
pub async fn run_all(shards: &dyn Shards, fragment: &Arc<Fragment>) -> Result<Vec<Partial>, Error> {
    let pending: Vec<Slot<'_>> =
        (0..shards.shard_count()).map(|s| Slot::Pending(shards.run(s, fragment.clone()))).collect();
    All(pending).await
}

enum Slot<'a> {
    Pending(Pending<'a>),
    Ready(Box<Partial>),
    Taken,
}

/// Waits for all; the first error ends the wait.
struct All<'a>(Vec<Slot<'a>>);

impl Future for All<'_> {
    type Output = Result<Vec<Partial>, Error>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut waiting = false;
        for slot in &mut self.0 {
            let Slot::Pending(future) = slot else { continue };
            match future.as_mut().poll(cx) {
                Poll::Pending => waiting = true,
                Poll::Ready(Err(e)) => return Poll::Ready(Err(e)),
                Poll::Ready(Ok(partial)) => *slot = Slot::Ready(Box::new(partial)),
            }
        }
        if waiting {
            return Poll::Pending;
        }
        let take = |slot: &mut Slot<'_>| match std::mem::replace(slot, Slot::Taken) {
            Slot::Ready(partial) => Some(*partial),
            _ => None,
        };
        Poll::Ready(Ok(self.0.iter_mut().filter_map(take).collect()))
    }
}

/// Merges the partial results of a fragment. Rows come in the order of their labels.
pub fn merge(partials: Vec<Partial>, fragment: &Fragment, notes: &mut Annotations) -> Partial {
    let load = Load::new(fragment.steps.count, fragment.counts_steps);
    let mut merged = Partial { load, ..Partial::default() };
    let (mut rows, mut raw, mut groups): (Vec<Row>, Vec<Series>, Option<crate::query::exec::fold::Groups>) =
        (Vec::new(), Vec::new(), None);
    for partial in partials {
        notes.merge(partial.notes);
        merged.load.merge(&partial.load);
        match partial.result {
            Outcome::Rows(r) => rows.extend(r),
            Outcome::Raw(s) => raw.extend(s),
            Outcome::Groups(g) => match &mut groups {
                Some(held) => held.merge(g),
                None => groups = Some(g),
            },
        }
    }
    merged.result = match (groups, &fragment.fold) {
        (Some(groups), Some(fold)) => Outcome::Rows(groups.finish(fold, notes)),
        _ if !raw.is_empty() => {
            raw.sort_by(|a, b| a.labels.cmp(&b.labels));
            Outcome::Raw(raw)
        }
        _ => {
            rows.sort_by(|a, b| a.labels.cmp(&b.labels));
            Outcome::Rows(rows)
        }
    };
    merged
}
