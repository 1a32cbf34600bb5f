//! What a check comes to: what is accepted of what was found, and whether the rest fails it.

use std::collections::HashMap;

use jiff::civil::Date;

use super::diff::HIDING;
use crate::model::{
    CheckOutcome, Ground, Loss, Recording, Round, Rule, RuleKind, Site, StackEnd, TaskState, UnseenTasks, Verdict,
};

/// What a check is measured by.
#[derive(Clone, Copy, Debug)]
pub struct Terms<'a> {
    /// The verdict from which on a site fails it.
    pub fail_on: Verdict,
    /// What its users say beforehand.
    pub rules: &'a [Rule],
    /// The day on which rules must not have expired.
    pub today: Date,
    /// An earlier recording: what is known from it is accepted.
    pub baseline: Option<&'a Recording>,
    /// Most tasks at the end.
    pub max_tasks: Option<u64>,
    /// The share of the tasks that must have been seen, percent.
    pub min_coverage_percent: f64,
}

/// Fills in what is accepted, and the outcome of the recording's check, whose sites have been judged. What keeps it from being judged
/// may stand there already.
pub fn conclude(recording: &mut Recording, terms: &Terms<'_>) {
    let Some(mut check) = recording.check.take() else {
        return;
    };
    let accepted = accept(recording, terms, &check.rounds, &mut check.notes);
    for (site, accepted) in recording.sites.iter_mut().zip(accepted) {
        site.accepted = accepted.filter(|_| site.verdict >= Verdict::Suspect);
    }
    check.fail_on = terms.fail_on;
    check.coverage_percent = coverage_percent(recording);
    check.unseen = recording.coverage.unseen.iter().filter(|it| it.certain).map(|it| it.what.clone()).collect();
    if !check.unseen.is_empty() {
        check.coverage_percent = check.coverage_percent.min(MOST_WITH_UNSEEN_PERCENT);
    }
    check.notes.extend(recording.coverage.unseen.iter().map(UnseenTasks::sentence));
    check.min_coverage_percent = terms.min_coverage_percent;
    if check.coverage_percent < terms.min_coverage_percent {
        check.incomplete.push(format!(
            "only {:.1} % of the tasks could be seen, and {} % are asked for",
            check.coverage_percent, terms.min_coverage_percent
        ));
    }
    if recording.losses.contains_key(&Loss::GoRuntimeUnreadable) {
        let what = "the goroutines of a Go runtime could not be read, only its threads: see the gaps";
        check.incomplete.push(what.to_owned());
    }
    check.notes.extend(unused(recording));
    check.reasons = leaks(recording, terms.fail_on);
    check.tasks = own_tasks(recording);
    check.max_tasks = terms.max_tasks;
    if let Some(most) = terms.max_tasks.filter(|&most| check.tasks > most) {
        check.reasons.push(format!("there are {} tasks at the end, and at most {most} are allowed", check.tasks));
    }
    // A leak that was found is one, whatever else was not seen.
    check.outcome = match (check.reasons.is_empty(), check.incomplete.is_empty()) {
        (false, _) => CheckOutcome::Failed,
        (true, false) => CheckOutcome::Incomplete,
        (true, true) => CheckOutcome::Passed,
    };
    recording.check = Some(check);
}

/// That some of the tasks were left by the load before the baseline and have not been used since: rounds cannot judge them.
fn unused(recording: &Recording) -> Option<String> {
    let sites: Vec<&Site> = recording.sites.iter().filter(|site| site.ground == Some(Ground::Unused)).collect();
    let tasks: u64 = sites.iter().map(|site| site.count).sum();
    let (task, were) = if tasks == 1 { ("task", "was") } else { ("tasks", "were") };
    let (site, ids) = (if sites.len() == 1 { "site" } else { "sites" }, ids(&sites));
    (tasks > 0).then(|| {
        format!(
            "not judged: {tasks} {task} at {} {site} ({ids}) {were} left by the load before the baseline, and nothing has woken \
             them since",
            sites.len()
        )
    })
}

/// The ids of some sites.
fn ids(sites: &[&Site]) -> String {
    const MOST: usize = 5;
    let ids: Vec<&str> = sites.iter().take(MOST).map(|site| site.id.as_str()).collect();
    let more = sites.len() - ids.len();
    if more > 0 { format!("{} and {more} more", ids.join(", ")) } else { ids.join(", ") }
}

/// Whether a site fails a check that fails from `fail_on` on.
#[must_use]
pub fn fails(site: &Site, fail_on: Verdict) -> bool {
    site.verdict >= fail_on && site.accepted.is_none()
}

fn leaks(recording: &Recording, fail_on: Verdict) -> Vec<String> {
    let said = |verdict: &Verdict| {
        let sites: Vec<&Site> =
            recording.sites.iter().filter(|site| site.verdict == *verdict && fails(site, fail_on)).collect();
        let tasks: u64 = sites.iter().map(|site| site.count).sum();
        let (task, site) = (if tasks == 1 { "task" } else { "tasks" }, if sites.len() == 1 { "site" } else { "sites" });
        let what = match verdict {
            Verdict::Proven => "can never wake",
            Verdict::Likely => "are likely leaked",
            _ => "may be leaked",
        };
        (!sites.is_empty()).then(|| format!("{tasks} {task} at {} {site} {what}", sites.len()))
    };
    [Verdict::Proven, Verdict::Likely, Verdict::Suspect].iter().filter_map(said).collect()
}

/// For each site why it is accepted, if it is. Notes what is to be said of the rules themselves.
fn accept(recording: &Recording, terms: &Terms<'_>, rounds: &[Round], notes: &mut Vec<String>) -> Vec<Option<String>> {
    let known: HashMap<&str, &Site> =
        terms.baseline.iter().flat_map(|baseline| &baseline.sites).map(|site| (site.id.as_str(), site)).collect();
    let mut accepted: Vec<Option<String>> =
        recording.sites.iter().map(|site| known_before(site, known.get(site.id.as_str())?)).collect();
    if let Some(baseline) = terms.baseline {
        for (site, accepted) in recording.sites.iter().zip(&mut accepted).filter(|(_, accepted)| accepted.is_some()) {
            let before = known.get(site.id.as_str());
            let rounds_then = baseline.check.as_ref().map_or(&[][..], |check| &check.rounds);
            if let Some(why) = before.and_then(|before| has_become_worse((site, rounds), (before, rounds_then))) {
                *accepted = None;
                notes.push(why);
            }
        }
    }
    for rule in terms.rules {
        let (line, words) = (rule.line, rule.words());
        if let Some(last) = rule.expires.filter(|&last| last < terms.today) {
            notes.push(format!(
                "the rule on line {line} ({words}) has expired on {last}, and is not applied: {}",
                rule.reason
            ));
            continue;
        }
        let places: Vec<usize> =
            (0..recording.sites.len()).filter(|&place| rule.fits(&recording.sites[place], recording)).collect();
        let count: u64 = places.iter().map(|&place| recording.sites[place].count).sum();
        let why = match rule.kind {
            _ if places.is_empty() => {
                notes.push(match rule.kind {
                    RuleKind::Ignore => format!("the rule on line {line} ({words}) fits no site: it may be removed"),
                    RuleKind::Expect(_) => format!("what the rule on line {line} ({words}) expects was not seen"),
                });
                continue;
            }
            RuleKind::Expect(Some(most)) if count > most => {
                notes.push(format!(
                    "the rule on line {line} ({words}) expects at most {most} tasks, and there are {count}"
                ));
                continue;
            }
            RuleKind::Ignore => format!("ignored: {}", rule.reason),
            RuleKind::Expect(_) => format!("expected: {}", rule.reason),
        };
        for place in places {
            accepted[place].get_or_insert_with(|| why.clone());
        }
    }
    accepted
}

/// Why a site is known from an earlier recording, if it is.
fn known_before(site: &Site, before: &Site) -> Option<String> {
    match before.verdict {
        // Nothing was judged there: then as many as there were are known.
        Verdict::Unjudged => {
            (before.count >= site.count).then(|| format!("known: the baseline has {} there", before.count))
        }
        verdict => (verdict >= site.verdict).then(|| format!("known: {} in the baseline, too", verdict.name())),
    }
}

/// That a leak which is known grows far faster than it did, beyond what chance makes of the same rate.
fn has_become_worse(now: (&Site, &[Round]), then: (&Site, &[Round])) -> Option<String> {
    let site = now.0;
    let [now, then] = [now, then].map(|(site, rounds)| {
        let rounds = rounds.get(1..)?;
        // As they may come from any recording, they need not fit into an integer.
        let requests: Option<f64> = rounds.iter().map(|round| round.requests.map(|requests| requests as f64)).sum();
        Some((site.course.as_ref()?.new as f64, rounds.len() as f64, requests))
    });
    let ((new, rounds, requests), (new_then, rounds_then, requests_then)) = (now?, then?);
    let by_requests = requests.zip(requests_then).filter(|&(now, then)| now > 0.0 && then > 0.0);
    let (load, load_then, unit) =
        by_requests.map_or((rounds, rounds_then, "round"), |(now, then)| (now, then, "request"));
    let expected = new_then * load / load_then.max(1.0);
    let is_worse = new > WORSE * expected + MANY_DEVIATIONS * expected.max(1.0).sqrt();
    is_worse.then(|| {
        format!(
            "site {} is known from the baseline, but has become worse: {:.2} tasks a {unit}, and {:.2} there",
            site.id,
            new / load,
            new_then / load_then
        )
    })
}

/// A known leak may grow so many times as fast, and by so many standard deviations of what chance makes of the same rate.
const WORSE: f64 = 1.5;
const MANY_DEVIATIONS: f64 = 3.0;

/// The program's own tasks that are alive, whether they are listed or not.
fn own_tasks(recording: &Recording) -> u64 {
    let listed = recording.tasks.iter().filter(|task| task.role.is_own() && task.state != TaskState::Exited).count();
    listed as u64 + recording.losses.get(&Loss::GoroutinesNotListed).copied().unwrap_or(0)
}

/// The most that can have been seen of a program with tasks of a kind that is not read: not all of it, and how much less is not known.
const MOST_WITH_UNSEEN_PERCENT: f64 = 99.9;

/// The share of the program's own tasks of which it was seen what they do, percent.
fn coverage_percent(recording: &Recording) -> f64 {
    // What ran whenever it was looked at is not parked: that is known of it.
    let is_unseen = |end: StackEnd| end == StackEnd::Unreadable;
    let tasks = recording.tasks.iter().filter(|task| task.role.is_own());
    let unseen = tasks.filter(|task| task.stack.is_empty() && is_unseen(task.stack_end)).count() as u64;
    let hidden: u64 = HIDING.iter().filter_map(|loss| recording.losses.get(loss)).sum();
    let all = own_tasks(recording) + hidden;
    if all == 0 { 0.0 } else { (1_000.0 * (all - (unseen + hidden).min(all)) as f64 / all as f64).floor() / 10.0 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        model::{Check, Text},
        report::fixture,
    };

    fn rule(kind: RuleKind, function: &str) -> Rule {
        Rule {
            kind,
            line: 7,
            function: Some(Text::Exact(function.to_owned())),
            package: None,
            module: None,
            creator: None,
            wait: None,
            thread: None,
            site: None,
            reason: "by design".to_owned(),
            expires: None,
        }
    }

    fn checked() -> Recording {
        let mut recording = fixture::checkout();
        recording.sites[0].verdict = Verdict::Likely;
        recording.check = Some(Check::default());
        recording
    }

    fn terms<'a>(rules: &'a [Rule], baseline: Option<&'a Recording>) -> Terms<'a> {
        Terms {
            fail_on: Verdict::Likely,
            rules,
            today: jiff::civil::date(2026, 12, 1),
            baseline,
            max_tasks: None,
            min_coverage_percent: 90.0,
        }
    }

    fn concluded(mut recording: Recording, terms: &Terms<'_>) -> (CheckOutcome, Vec<String>, Vec<String>) {
        conclude(&mut recording, terms);
        let check = recording.check.unwrap();
        (check.outcome, [check.reasons, check.incomplete].concat(), check.notes)
    }

    #[test]
    fn a_known_leak_that_has_become_worse_is_not_accepted() {
        use crate::model::Course;

        let of = |new: u64, requests: Option<u64>| {
            let mut recording = checked();
            let round = Round { requests, ..Round::default() };
            recording.check.as_mut().unwrap().rounds = vec![round; 4];
            recording.sites[0].course = Some(Course { new, ..Course::default() });
            recording
        };
        let outcome = |now: &Recording, then: &Recording| concluded(now.clone(), &terms(&[], Some(then)));
        assert_eq!(outcome(&of(20, None), &of(18, None)).0, CheckOutcome::Passed);
        let (failed, _, notes) = outcome(&of(45, None), &of(18, None));
        assert_eq!(failed, CheckOutcome::Failed);
        assert!(notes[0].ends_with("has become worse: 15.00 tasks a round, and 6.00 there"), "{notes:?}");
        // Ten times the load is ten times as many.
        assert_eq!(outcome(&of(180, Some(300)), &of(18, Some(30))).0, CheckOutcome::Passed);
        assert_eq!(outcome(&of(180, Some(100)), &of(18, Some(30))).0, CheckOutcome::Failed);
        // Few are more or fewer by chance.
        assert_eq!(outcome(&of(4, None), &of(1, None)).0, CheckOutcome::Passed);
    }

    fn innermost(recording: &Recording) -> String {
        recording.frames[recording.sites[0].stack[0] as usize].function.clone()
    }

    #[test]
    fn what_is_found_fails_it_unless_a_rule_accepts_it() {
        let recording = checked();
        let count = recording.sites[0].count;
        let (outcome, reasons, _) = concluded(recording.clone(), &terms(&[], None));
        assert_eq!(
            (outcome, reasons),
            (CheckOutcome::Failed, vec![format!("{count} tasks at 1 site are likely leaked")])
        );
        let function = innermost(&recording);
        let ignored = [rule(RuleKind::Ignore, &function)];
        assert_eq!(concluded(recording.clone(), &terms(&ignored, None)).0, CheckOutcome::Passed);
        let expected = [rule(RuleKind::Expect(Some(100_000)), &function)];
        assert_eq!(concluded(recording.clone(), &terms(&expected, None)).0, CheckOutcome::Passed);
        let too_many = [rule(RuleKind::Expect(Some(1)), &function)];
        let (outcome, _, notes) = concluded(recording, &terms(&too_many, None));
        assert_eq!(outcome, CheckOutcome::Failed);
        assert!(notes[0].contains("expects at most 1 tasks"), "{notes:?}");
    }

    #[test]
    fn rules_that_have_expired_or_fit_nothing_are_told() {
        let recording = checked();
        let mut expired = rule(RuleKind::Ignore, &innermost(&recording));
        expired.expires = Some(jiff::civil::date(2026, 11, 30));
        let rules = [expired, rule(RuleKind::Ignore, "nothing"), rule(RuleKind::Expect(None), "nothing")];
        let (outcome, _, notes) = concluded(recording, &terms(&rules, None));
        assert_eq!(outcome, CheckOutcome::Failed);
        assert!(notes[0].contains("has expired on 2026-11-30"), "{notes:?}");
        assert!(notes[1].contains("fits no site") && notes[2].contains("was not seen"), "{notes:?}");
    }

    #[test]
    fn what_is_known_from_a_baseline_is_accepted_unless_it_got_worse() {
        let recording = checked();
        let judged = recording.clone();
        assert_eq!(concluded(recording.clone(), &terms(&[], Some(&judged))).0, CheckOutcome::Passed);
        let mut milder = judged;
        milder.sites[0].verdict = Verdict::Suspect;
        assert_eq!(concluded(recording.clone(), &terms(&[], Some(&milder))).0, CheckOutcome::Failed);
        let mut unjudged = fixture::checkout();
        assert_eq!(concluded(recording.clone(), &terms(&[], Some(&unjudged))).0, CheckOutcome::Passed);
        unjudged.sites[0].count -= 1;
        assert_eq!(concluded(recording, &terms(&[], Some(&unjudged))).0, CheckOutcome::Failed);
    }

    #[test]
    fn what_was_not_seen_makes_it_incomplete_but_does_not_hide_a_leak() {
        let mut recording = checked();
        recording.losses.insert(Loss::GoroutineUnreadable, 1_000_000);
        let (outcome, reasons, _) = concluded(recording.clone(), &terms(&[], None));
        assert_eq!((outcome, reasons.len()), (CheckOutcome::Failed, 2));
        recording.sites[0].verdict = Verdict::Idle;
        let (outcome, reasons, _) = concluded(recording.clone(), &terms(&[], None));
        assert_eq!(outcome, CheckOutcome::Incomplete);
        assert!(reasons[0].starts_with("only 0.0 %"), "{reasons:?}");
        recording.losses.clear();
        recording.check.as_mut().unwrap().incomplete = vec!["the load failed".to_owned()];
        assert_eq!(concluded(recording, &terms(&[], None)).0, CheckOutcome::Incomplete);
    }

    #[test]
    fn kinds_of_tasks_that_are_not_read_keep_coverage_below_all() {
        let unseen = |certain| {
            let mut recording = checked();
            recording.sites[0].verdict = Verdict::Idle;
            let (what, why) = ("virtual threads".to_owned(), "of a sign".to_owned());
            recording.coverage.unseen = vec![UnseenTasks { what, why, certain }];
            conclude(&mut recording, &terms(&[], None));
            recording.check.unwrap()
        };
        let check = unseen(true);
        assert_eq!((check.outcome, check.coverage_percent), (CheckOutcome::Passed, 99.9));
        assert_eq!(check.unseen, ["virtual threads"]);
        assert_eq!(check.notes, ["virtual threads are not read, so nothing is said of them: of a sign"]);
        let check = unseen(false);
        assert_eq!((check.outcome, check.coverage_percent, check.unseen.len()), (CheckOutcome::Passed, 100.0, 0));
        assert_eq!(check.notes, ["there may be virtual threads, which are not read: of a sign"]);
    }

    #[test]
    fn too_many_tasks_fail_it() {
        let mut recording = checked();
        recording.sites[0].verdict = Verdict::Idle;
        let tasks = own_tasks(&recording);
        let most = |most| Terms { max_tasks: Some(most), ..terms(&[], None) };
        assert_eq!(concluded(recording.clone(), &most(tasks)).0, CheckOutcome::Passed);
        assert_eq!(concluded(recording, &most(tasks - 1)).0, CheckOutcome::Failed);
    }
}
