//! Senders' connections on the shards: who gets which, and how it goes back to the front.

use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use futures_lite::future::or;

use crate::api::doorway::Caller;
use crate::app::core::{Core, HouseMesh};
use crate::remote::connection::{Connection, Door, Left};
use crate::rt::net::Stream;
use crate::rt::{self, TaskClass};

/// What a request under way gets when the shard stops: the log's last commit takes a few milliseconds.
const GRACE: Duration = Duration::from_millis(200);

/// Connections on each shard.
pub struct Doors {
    counts: Arc<[AtomicUsize]>,
    max: usize,
    door: Door,
}

/// A place at a shard, given back when dropped.
struct Place {
    counts: Arc<[AtomicUsize]>,
    shard: usize,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.counts[self.shard].fetch_sub(1, Relaxed);
    }
}

impl Doors {
    /// At most `max` connections are on all shards together; further ones stay with the front.
    pub fn new(shard_count: u16, max: usize, door: Door) -> Doors {
        Doors { counts: (0..shard_count).map(|_| AtomicUsize::new(0)).collect(), max, door }
    }

    pub fn has_room(&self) -> bool {
        self.counts.iter().map(|c| c.load(Relaxed)).sum::<usize>() < self.max
    }

    /// Gives a connection to the shard that has the fewest. One that no shard takes is closed.
    pub fn let_in(&self, mesh: &HouseMesh, caller: Caller) {
        let count = |i: &usize| self.counts[*i].load(Relaxed);
        let Some(shard) = (0..self.counts.len()).min_by_key(count) else { return };
        self.counts[shard].fetch_add(1, Relaxed);
        let place = Place { counts: self.counts.clone(), shard };
        let door = self.door.clone();
        let sent = mesh.submit_to(shard as u32, TaskClass::Ingest, move |core: Rc<Core>| async move {
            rt::spawn(TaskClass::Ingest, serve(core, door, caller, place)).detach();
        });
        // Ingest work runs whether its answer is awaited or not.
        drop(sent);
    }
}

async fn serve(core: Rc<Core>, door: Door, caller: Caller, place: Place) {
    let Some(_pass) = core.gate.enter() else { return };
    let Ok(stream) = Stream::from_tcp(caller.socket) else { return };
    let mut connection = Connection::new(stream);
    let stopped = async {
        core.gate.closing().await;
        core.pulse.sleep(GRACE).await;
        Left::Closed
    };
    let left = or(connection.serve(&core.receiver, &door, &core.gate), stopped).await;
    drop(place);
    if left == Left::Foreign {
        let (stream, bytes) = connection.into_parts();
        if let Ok(socket) = stream.into_tcp() {
            (caller.back)(socket, bytes);
        }
    }
}
