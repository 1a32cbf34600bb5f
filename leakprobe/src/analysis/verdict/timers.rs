//! Pending timers, for which no task waits: only their growth is judged.

use super::{Moment, rule};
use crate::model::{Fact, Ground, Recording, Verdict};

/// What is thought of the pending timers of one use and callback.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct TimersJudgement {
    pub(super) counts: Vec<u64>,
    pub(super) ground: Option<Ground>,
    evidence: Vec<Fact>,
}

/// Judges each of the recording's groups of timers.
pub(super) fn judge(recording: &Recording, moments: &[Moment], exposure: &[f64]) -> Vec<TimersJudgement> {
    let one = |timers: &crate::model::PendingTimers| {
        let counts: Vec<u64> = moments.iter().map(|moment| moment.timers(&timers.id)).collect();
        let steps: Vec<u64> = counts.windows(2).map(|pair| pair[1].saturating_sub(pair[0])).collect();
        let every_round = steps.len() > 1 && steps.iter().all(|&step| step > 0);
        if !every_round || rule::has_stopped(&steps, exposure) {
            let evidence = vec![Fact::Counts { counts: counts.clone() }];
            return TimersJudgement { counts, ground: Some(Ground::NoGrowth), evidence };
        }
        let evidence = vec![
            Fact::GrewWithRounds {
                counts: counts.clone(),
                grew: steps.len() as u64,
                rounds: steps.len() as u64,
                per_round: None,
                per_request: None,
            },
            Fact::Pending { latest_ms: timers.latest_ms },
        ];
        TimersJudgement { counts, ground: Some(Ground::NotDue), evidence }
    };
    recording.timers.iter().map(one).collect()
}

/// Writes what was judged into the recording.
pub(super) fn tell(recording: &mut Recording, judgements: Vec<TimersJudgement>) {
    for (timers, judgement) in recording.timers.iter_mut().zip(judgements) {
        timers.verdict = judgement.ground.map_or(Verdict::Unjudged, Ground::verdict);
        timers.ground = judgement.ground;
        timers.counts = judgement.counts;
        timers.evidence = judgement.evidence;
    }
}
