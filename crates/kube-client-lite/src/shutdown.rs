//! Freeing blocked calls from another thread.

use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How many generations of connections may be in use at once: after a rotated CA the calls under
/// way still run on the one before, and two clients may share a handle.
const GENERATIONS: usize = 4;

/// Ends a [`Client`](crate::Client) from another thread.
///
/// A signal does not wake a thread that is blocked in a TLS read; this does, within a
/// millisecond. What it cannot wake: a name lookup, a TCP connection that is being made (see
/// [`Timeouts::connect`](crate::config::Timeouts::connect)), a credential plugin.
#[derive(Clone, Default)]
pub struct Shutdown {
    inner: Arc<Inner>,
}

#[derive(Default)]
struct Inner {
    state: Mutex<State>,
    wake: Condvar,
}

#[derive(Default)]
struct State {
    down: bool,
    agents: Vec<(u64, ureq::Agent)>,
    registered: u64,
}

impl Shutdown {
    /// Makes every call under way fail, and every later one answer [`Error::Shutdown`](crate::Error::Shutdown).
    pub fn shutdown(&self) {
        let agents = {
            let mut state = self.lock();
            state.down = true;
            std::mem::take(&mut state.agents)
        };
        self.inner.wake.notify_all();
        for (_, agent) in agents {
            agent.shutdown();
        }
    }

    /// Whether [`shutdown`](Self::shutdown) was called.
    #[must_use]
    pub fn is_shut_down(&self) -> bool {
        self.lock().down
    }

    /// Sleeps, unless woken by [`shutdown`](Self::shutdown). Whether the time passed undisturbed.
    #[must_use]
    pub fn sleep(&self, duration: Duration) -> bool {
        // A duration beyond the clock's range is as good as a day, after which callers look again.
        let deadline = Instant::now()
            .checked_add(duration)
            .unwrap_or_else(|| Instant::now() + Duration::from_secs(86_400));
        let mut state = self.lock();
        while !state.down {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return true;
            }
            state = self
                .inner
                .wake
                .wait_timeout(state, left)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
        false
    }

    /// Takes charge of a new agent and gives it a number. The oldest beyond four is ended: whatever still runs on it
    /// has outlived two rotations of certificates and more. Clients do this by themselves.
    #[must_use]
    pub fn register(&self, agent: &ureq::Agent) -> u64 {
        let (number, retired) = {
            let mut state = self.lock();
            state.registered += 1;
            let number = state.registered;
            let retired = if state.down {
                Some((number, agent.clone()))
            } else {
                state.agents.push((number, agent.clone()));
                (state.agents.len() > GENERATIONS).then(|| state.agents.remove(0))
            };
            (number, retired)
        };
        if let Some((_, retired)) = retired {
            retired.shutdown();
        }
        number
    }

    /// Gives up an agent, and with it its idle connections.
    pub fn forget(&self, number: u64) {
        self.lock().agents.retain(|(other, _)| *other != number);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.inner
            .state
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl std::fmt::Debug for Shutdown {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shutdown")
            .field("down", &self.is_shut_down())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_sleep_is_woken() {
        let shutdown = Shutdown::default();
        assert!(shutdown.sleep(Duration::from_millis(1)));
        let other = shutdown.clone();
        let sleeper = std::thread::spawn(move || other.sleep(Duration::MAX));
        shutdown.shutdown();
        assert!(!sleeper.join().unwrap());
        assert!(!shutdown.sleep(Duration::from_millis(1)));
    }
}
