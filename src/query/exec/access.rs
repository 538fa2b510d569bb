//! How a fragment reaches its shard: short looks, and a place to let others go first.

use std::future::Future;
use std::rc::Rc;

use crate::query::Error;
use crate::shard::Shard;
use crate::shard::block::Store;

/// A shard that work in progress may look at again and again, but not hold.
pub trait Access {
    /// Calls `look` with the shard. Nothing that `look` returns can borrow from it.
    fn with<R>(&self, look: impl FnOnce(&Shard) -> R) -> R;

    /// The shard's blocks; none where it lives in memory alone.
    fn store(&self) -> Option<Rc<Store>> {
        None
    }

    /// Lets other tasks of the core run if this one has had its turn. Work comes here every 20-50 us.
    ///
    /// Errors: the query was canceled or has run out of time; the work ends.
    fn breathe(&self) -> impl Future<Output = Result<(), Error>>;
}

/// A shard in the caller's hand, with nobody to make room for.
pub struct Direct<'a>(pub &'a Shard);

impl Access for Direct<'_> {
    fn with<R>(&self, look: impl FnOnce(&Shard) -> R) -> R {
        look(self.0)
    }

    async fn breathe(&self) -> Result<(), Error> {
        Ok(())
    }
}
