//! Idle connections of one database and the permits to use them.
//!
//! Owns: how many connections there are and how long they stay idle. Never: knows what a connection is, or whether it
//! is fit to be used again; who puts one back vouches for it.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{Instant, timeout},
};

use crate::domain::sql::{SqlError, SqlErrorCode};

/// A bounded number of connections.
#[derive(Debug)]
pub(crate) struct Pool<C> {
    state: Mutex<State<C>>,
    permits: Arc<Semaphore>,
    size: usize,
}

#[derive(Debug)]
struct State<C> {
    /// Most recently used last, so that the surplus ages at the front.
    idle: Vec<(Instant, C)>,
    last_used: Instant,
}

impl<C> Pool<C> {
    pub(crate) fn new(size: usize) -> Self {
        let state = State { idle: Vec::new(), last_used: Instant::now() };
        Self { state: Mutex::new(state), permits: Arc::new(Semaphore::new(size)), size }
    }

    /// Waits for the right to use one connection. It ends when the permit is dropped.
    pub(crate) async fn permit(&self, patience: Duration) -> Result<OwnedSemaphorePermit, SqlError> {
        self.state().last_used = Instant::now();
        match timeout(patience, Arc::clone(&self.permits).acquire_owned()).await {
            Ok(permit) => Ok(permit.expect("the semaphore is never closed")),
            Err(_) => Err(SqlError::new(
                SqlErrorCode::Unavailable,
                format!("all {} connections to the database are in use", self.size),
            )),
        }
    }

    /// The idle connection that was used last.
    pub(crate) fn take(&self) -> Option<C> {
        self.state().idle.pop().map(|(_, connection)| connection)
    }

    /// Takes out the connection that is idle for longest, if there are as many as there may be. For who holds a permit
    /// and uses it for a new connection.
    pub(crate) fn take_surplus(&self) -> Option<C> {
        let n_in_use = self.size - self.permits.available_permits();
        let mut state = self.state();
        (state.idle.len() + n_in_use > self.size).then(|| state.idle.remove(0).1)
    }

    /// Gives a connection back that carries nothing over from its last use.
    pub(crate) fn put(&self, connection: C) {
        let mut state = self.state();
        state.last_used = Instant::now();
        let now = state.last_used;
        state.idle.push((now, connection));
    }

    /// Takes out the connections that were idle for at least `age`.
    pub(crate) fn take_idle_for(&self, age: Duration) -> Vec<C> {
        let mut state = self.state();
        let n_old = state.idle.partition_point(|(since, _)| since.elapsed() >= age);
        state.idle.drain(..n_old).map(|(_, connection)| connection).collect()
    }

    /// How long nobody used this pool; `None` while somebody does.
    pub(crate) fn unused_for(&self) -> Option<Duration> {
        (self.permits.available_permits() == self.size).then(|| self.state().last_used.elapsed())
    }

    fn state(&self) -> MutexGuard<'_, State<C>> {
        // Nothing in here can panic half-way through a change.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_last_permit_is_waited_for_and_then_refused() {
        let pool = Pool::<u32>::new(1);
        let permit = pool.permit(Duration::from_secs(5)).await.unwrap();
        assert_eq!(pool.unused_for(), None);
        let error = pool.permit(Duration::from_millis(10)).await.unwrap_err();
        assert_eq!(
            (error.code, error.message.as_str()),
            (SqlErrorCode::Unavailable, "all 1 connections to the database are in use")
        );
        drop(permit);
        assert!(pool.permit(Duration::ZERO).await.is_ok());
    }

    #[tokio::test]
    async fn a_new_connection_takes_the_place_of_an_idle_one() {
        let pool = Pool::new(2);
        pool.put(1);
        let first = pool.permit(Duration::ZERO).await.unwrap();
        assert_eq!(pool.take_surplus(), None);
        let _second = pool.permit(Duration::ZERO).await.unwrap();
        assert_eq!(pool.take_surplus(), Some(1));
        assert_eq!(pool.take_surplus(), None);
        drop(first);
    }

    #[tokio::test]
    async fn the_connection_used_last_is_used_next() {
        let pool = Pool::new(3);
        pool.put(1);
        pool.put(2);
        assert_eq!(pool.take_idle_for(Duration::from_secs(60)), [] as [i32; 0]);
        assert_eq!(pool.take(), Some(2));
        assert_eq!(pool.take_idle_for(Duration::ZERO), [1]);
        assert_eq!(pool.take(), None);
    }
}
