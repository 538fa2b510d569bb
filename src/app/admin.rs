//! What changes the storage itself, carried to the shards: deletes and their cleaning.

use std::rc::Rc;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use model::{Matcher, Timestamp};

use crate::api::backend::Reply;
use crate::api::error::{ApiError, ErrorKind};
use crate::app::backend::HouseBackend;
use crate::app::core::Core;
use crate::rt::TaskClass;

/// How often tombstones were cleaned, and how long that took.
#[derive(Debug, Default)]
pub struct Cleanups(Mutex<(u64, Duration)>);

impl Cleanups {
    fn note(&self, took: Duration) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *all = (all.0 + 1, all.1 + took);
    }

    /// How often, and for how many seconds in all.
    pub fn figures(&self) -> (u64, f64) {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        (all.0, all.1.as_secs_f64())
    }
}

pub(in crate::app) fn failed(e: impl std::fmt::Display) -> ApiError {
    ApiError::new(ErrorKind::Internal, e.to_string())
}

impl HouseBackend {
    pub(in crate::app) fn delete(
        &self,
        matchers: Vec<Matcher>,
        start: Timestamp,
        end: Timestamp,
    ) -> Reply<()> {
        let matchers: Arc<[Matcher]> = matchers.into();
        self.change_all(TaskClass::Rpc, move |core: Rc<Core>| {
            let matchers = matchers.clone();
            async move { core.keeper.delete(&matchers, start, end).await }
        })
    }

    pub(in crate::app) fn clean(&self) -> Reply<()> {
        let (clock, cleanups) = (self.clock.clone(), self.cleanups.clone());
        let started = clock.now();
        let all = self.change_all(TaskClass::Background, |core: Rc<Core>| async move {
            core.keeper.clean_tombstones().await
        });
        Box::pin(async move {
            let result = all.await;
            cleanups.note(clock.now().since(started));
            result
        })
    }

    /// Has every shard change something; the first failure is told, the other shards go on.
    pub(in crate::app) fn change_all<F, W, E>(&self, class: TaskClass, work: W) -> Reply<()>
    where
        F: Future<Output = Result<(), E>> + 'static,
        E: std::fmt::Display + 'static,
        W: Fn(Rc<Core>) -> F + Clone + Send + 'static,
    {
        let answers = self.mesh().map(|mesh| {
            mesh.submit_to_all(class, move |core: Rc<Core>| {
                let done = work(core);
                async move { done.await.map_err(|e| e.to_string()) }
            })
        });
        Box::pin(async move {
            let mut result = Ok(());
            for answer in answers? {
                let one = answer.await.map_err(failed).and_then(|r| r.map_err(failed));
                result = result.and(one);
            }
            result
        })
    }
}
