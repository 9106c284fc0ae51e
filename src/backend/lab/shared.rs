//! Shared access to the running world of a lab.

use super::error::Error;
use super::running::Running;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The running world of a lab, empty after teardown. The lab owns it; a clone refers to the same
/// world.
#[derive(Debug, Clone)]
pub(super) struct SharedWorld(Arc<Mutex<Option<Running>>>);

impl SharedWorld {
    /// Shares a world that is up.
    pub(super) fn new(running: Running) -> Self {
        Self(Arc::new(Mutex::new(Some(running))))
    }

    /// Runs a blocking function on the world, outside the async runtime's threads.
    ///
    /// # Errors
    /// When the lab is down, or the function's error.
    pub(super) async fn with<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Running) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        let shared = self.clone();
        blocking(move || {
            let mut running = shared.lock();
            let running = running
                .as_mut()
                .ok_or_else(|| Error::Unknown("a running world".to_owned()))?;
            work(running)
        })
        .await
    }

    /// Removes the world: later calls of [`SharedWorld::with`] fail.
    pub(super) fn take(&self) -> Option<Running> {
        self.lock().take()
    }

    fn lock(&self) -> MutexGuard<'_, Option<Running>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Runs a function that blocks for long on a thread for blocking work.
///
/// # Errors
/// The function's error, or a thread that could not be started. A panic continues in the caller.
pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Error> + Send + 'static,
) -> Result<T, Error> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
        Err(error) => Err(Error::Thread(error.into())),
    }
}
