//! `--go-leak-profile`: before each look the target's own Go runtime is asked for its `goroutineleak` profile.
//!
//! For that the runtime runs a garbage collection that finds goroutines which nothing can wake any more, and marks them. Only the marks
//! count, which are read from the target's memory: whatever the answer says proves nothing, and an answer that is missing or wrong
//! makes the check incomplete. The profile is there from Go 1.27 on, and in 1.26 with `GOEXPERIMENT=goroutineleakprofile`.

use std::time::Duration;

use super::http;
use crate::{
    cli::LeakProfile,
    model::{GoStatus, Recording},
    watch::Observer,
};

/// How long the runtime may take: its collection marks the whole heap.
const PATIENCE: Duration = Duration::from_secs(30);

/// How the first line of the profile begins with `debug=1`; the number of goroutines follows.
/// Source: <https://github.com/golang/go/blob/go1.27.3/src/runtime/pprof/pprof.go#L521>
const FIRST_LINE: &[u8] = b"goroutineleak profile: total ";

/// What the answers came to.
#[derive(Debug, Default)]
pub(super) struct Asked {
    /// How many leaked goroutines the last answer has.
    counted: Option<u64>,
    /// What was wrong with the first answer that was, in a sentence.
    problem: Option<String>,
}

impl Asked {
    /// Asks; returns early if the check is stopped or the target ends.
    pub(super) async fn ask(&mut self, profile: &LeakProfile, which: &str, observer: &Observer) {
        if self.problem.is_some() {
            return; // who hangs once is not waited for again
        }
        let stop = observer.stop.clone();
        let answer = tokio::select! {
            () = stop.wait() => return,
            () = observer.ended() => return,
            answer = http::get(&profile.at, &profile.path, PATIENCE) => answer,
        };
        self.counted = None;
        match answer.and_then(|body| count(&body).ok_or_else(|| "answered with something else".to_owned())) {
            Ok(counted) => self.counted = Some(counted),
            Err(why) => self.fail(profile, which, &format!("{why}; it takes Go 1.27 and net/http/pprof")),
        }
    }

    /// Compares the last answer with what was read from the target right after it.
    pub(super) fn compare(&mut self, profile: &LeakProfile, which: &str, recording: &Recording) {
        let Some(counted) = self.counted.filter(|&counted| counted > 0) else { return };
        let mut goroutines = recording.tasks.iter().filter_map(|task| task.goroutine.as_deref());
        if !goroutines.any(|goroutine| goroutine.status == GoStatus::Leaked) {
            let why = format!(
                "counts {counted} leaked, and no goroutine of the target is marked so: is it another process's?"
            );
            self.fail(profile, which, &why);
        }
    }

    /// Why the profile does not count, if it does not.
    pub(super) fn problem(&self) -> Option<String> {
        self.problem.clone()
    }

    fn fail(&mut self, profile: &LeakProfile, which: &str, why: &str) {
        let LeakProfile { at, path, .. } = profile;
        let problem =
            || format!("the runtime's own search for leaks is missing at the {which}: http://{at}{path} {why}");
        self.problem.get_or_insert_with(problem);
    }
}

/// How many leaked goroutines an answer has; `None` if it is no such profile.
fn count(body: &[u8]) -> Option<u64> {
    let line = body.strip_prefix(FIRST_LINE)?.split(|&byte| byte == b'\n').next()?;
    std::str::from_utf8(line).ok()?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::fixture;

    #[test]
    fn only_the_profile_is_taken_for_one() {
        assert_eq!(count(b"goroutineleak profile: total 11\n1 @ 0x1 0x2\n"), Some(11));
        assert_eq!(count(b"goroutineleak profile: total 0\n"), Some(0));
        for other in [
            &b""[..],
            b"goroutine profile: total 11\n",
            b"goroutineleak profile: total \n",
            b"goroutineleak profile: total -1\n",
            b"goroutineleak profile: total 99999999999999999999999\n",
            b"<html>goroutineleak profile: total 1\n",
            b"\x1f\x8b\x08\x00",
        ] {
            assert_eq!(count(other), None, "{other:?}");
        }
    }

    #[test]
    fn an_answer_without_marks_proves_nothing() {
        let profile = LeakProfile { at: "127.0.0.1:80".to_owned(), path: "/p".to_owned() };
        let mut asked = Asked { counted: Some(3), problem: None };
        let mut recording = fixture::go::service();
        asked.compare(&profile, "baseline", &recording);
        let problem = asked.problem().unwrap();
        assert!(problem.contains("at the baseline: http://127.0.0.1:80/p counts 3 leaked"), "{problem}");
        let marked = recording.tasks.iter_mut().find_map(|task| task.goroutine.as_mut()).unwrap();
        marked.status = GoStatus::Leaked;
        let mut asked = Asked { counted: Some(3), problem: None };
        asked.compare(&profile, "baseline", &recording);
        assert_eq!(asked.problem(), None);
    }
}
