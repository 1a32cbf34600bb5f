//! The helpers of a run: as few as keep no target waiting for another's files.

use std::{
    fmt,
    sync::{Condvar, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use super::{
    Origin, Scope,
    helper::{Helper, Unread},
};
use crate::target::Budget;

/// How long a helper is waited for that reads for another target, before one more is started.
const WAIT: Duration = Duration::from_millis(200);
/// Most helpers at a time.
const MOST: usize = 16;

/// All helpers.
#[derive(Default)]
pub(in crate::symbols) struct Helpers {
    state: Mutex<State>,
    /// Notified when a helper is idle, or gone.
    changed: Condvar,
}

#[derive(Default)]
struct State {
    /// Those that wait for a request; the last one was used last.
    idle: Vec<Helper>,
    /// How many are at work.
    busy: usize,
    /// How often all were forgotten.
    forgotten: u64,
}

impl fmt::Debug for Helpers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.state();
        write!(f, "{} idle and {} busy helpers", state.idle.len(), state.busy)
    }
}

impl Helpers {
    /// Looks up addresses in the DWARF of a file, which counts on `budget`.
    pub(super) fn look_up(
        &self,
        origin: &Origin,
        addresses: &[u64],
        budget: &Budget,
        timeout: Duration,
    ) -> Result<Vec<Vec<Scope>>, Unread> {
        let began = Instant::now();
        let ask = || {
            let mut turn = self.turn(origin, began + timeout)?;
            let is_new = turn.helper.is_none();
            let found = turn.look_up(origin, addresses, budget, timeout);
            Ok::<_, Unread>((found, is_new))
        };
        match ask()? {
            // It ends when there is nothing to do for a while.
            (Err(Unread::Ended(_)), false) => ask()?.0,
            (found, _) => found,
        }
    }

    /// Drops all parsed files.
    pub(in crate::symbols) fn forget(&self) {
        let mut state = self.state();
        state.forgotten += 1;
        let idle = std::mem::take(&mut state.idle);
        drop(state);
        // Their end is waited for.
        drop(idle);
    }

    /// Waits for a helper that is idle, best one that has the file; or until one more may be started.
    fn turn(&self, origin: &Origin, until: Instant) -> Result<Turn<'_>, Unread> {
        let began = Instant::now();
        let mut state = self.state();
        loop {
            let has_it = state.idle.iter().rposition(|helper| helper.has(origin));
            let place = has_it.or_else(|| state.idle.len().checked_sub(1));
            let helper = place.map(|place| state.idle.remove(place));
            let left = (began + WAIT).saturating_duration_since(Instant::now());
            if helper.is_some() || state.busy == 0 || left.is_zero() && state.busy < MOST {
                state.busy += 1;
                return Ok(Turn { helpers: self, helper, forgotten: state.forgotten });
            }
            if Instant::now() >= until {
                return Err(Unread::Late);
            }
            let left = if left.is_zero() { WAIT } else { left };
            state = self.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One of the helpers, or room for one more, until this is dropped.
struct Turn<'a> {
    helpers: &'a Helpers,
    helper: Option<Helper>,
    forgotten: u64,
}

impl Turn<'_> {
    /// One request. Afterwards there is a helper only if it is fit for another one.
    fn look_up(
        &mut self,
        origin: &Origin,
        addresses: &[u64],
        budget: &Budget,
        timeout: Duration,
    ) -> Result<Vec<Vec<Scope>>, Unread> {
        let mut helper = match self.helper.take() {
            Some(helper) => helper,
            None => Helper::start(budget.clone())?,
        };
        let found = helper.look_up(origin, addresses, Instant::now(), timeout);
        if matches!(found, Ok(_) | Err(Unread::Unusable(_))) && helper.is_affordable() {
            self.helper = Some(helper);
        }
        found
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        let mut state = self.helpers.state();
        state.busy -= 1;
        let helper = self.helper.take().filter(|_| self.forgotten == state.forgotten);
        state.idle.extend(helper);
        drop(state);
        self.helpers.changed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use std::{fs::File, thread};

    use super::*;

    #[test]
    fn who_waits_for_a_busy_helper_gets_another_one() {
        let helpers = Helpers::default();
        let file = File::open("/dev/null").unwrap();
        let origin = Origin { number: 0, file, module: String::new(), is_to_copy: false, shared: None };
        let turn = |until: Duration| helpers.turn(&origin, Instant::now() + until);
        let long = Duration::from_secs(60);
        let busy: Vec<Turn<'_>> = (0..MOST).map(|_| turn(long).ok().unwrap()).collect();
        assert!(matches!(turn(Duration::ZERO).err(), Some(Unread::Late)), "no more than so many");
        thread::scope(|scope| {
            let waiting = scope.spawn(|| turn(long).is_ok());
            drop(busy);
            assert!(waiting.join().unwrap());
        });
        assert_eq!(helpers.state().busy, 0);
    }

    #[test]
    fn a_helper_with_the_file_is_asked_first() {
        let (helpers, budget) = (Helpers::default(), Budget::default());
        let origin = |number| {
            let file = File::open("/dev/null").unwrap();
            Origin { number, file, module: String::new(), is_to_copy: false, shared: None }
        };
        let [first, second] = [1, 2].map(origin);
        let timeout = Duration::from_secs(60);
        {
            let mut turns =
                [&first, &second].map(|origin| helpers.turn(origin, Instant::now() + timeout).ok().unwrap());
            for (turn, origin) in turns.iter_mut().zip([&first, &second]) {
                assert!(matches!(turn.look_up(origin, &[1], &budget, timeout), Err(Unread::Unusable(_))));
            }
        }
        for origin in [&first, &second, &first] {
            let turn = helpers.turn(origin, Instant::now() + timeout).ok().unwrap();
            assert!(turn.helper.as_ref().is_some_and(|helper| helper.has(origin)));
        }
        helpers.forget();
        assert!(helpers.state().idle.is_empty());
    }
}
