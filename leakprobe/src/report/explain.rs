//! How the verdict on a site came about: the numbers, the rule that decided, what would have changed it, and why it is accepted.

use super::{
    Error, Options,
    checked::{self, Judged},
    evidence,
    shown::Shown,
    txt::{sites, wrap},
    words,
};
use crate::model::{Check, Course, Ground, Recording, Site};

/// Ids that are named if one is not there, and characters of each.
const MAX_NAMED: usize = 5;
const MAX_ID: usize = 20;

/// Columns of text.
const WIDTH: usize = 120;

/// Frames of a stack that are told.
const MAX_FRAMES: usize = 30;

/// Explains the verdict on the site whose id begins with `id`.
///
/// # Errors
///
/// [`Error::NoSite`] if there is none, or more than one.
pub fn explain(recording: &Recording, id: &str, options: &Options) -> Result<String, Error> {
    let place = find(recording, id)?;
    // Whatever is asked to be shown.
    let shown = &Shown::of(recording, &Options { all: true, ..Options::default() });
    let site = &recording.sites[place];
    let members = shown.members();
    let tasks = shown.sites.iter().zip(members).find(|(other, _)| std::ptr::eq(**other, site));
    let judged = Judged { site, tasks: tasks.map(|(_, tasks)| tasks).unwrap_or_default() };
    let mut lines = vec![format!("Site {}: {}", words::harmless(&site.id), judged.sentence(shown))];
    let check = recording.check.as_ref();
    lines.push(String::new());
    lines.push(verdict(site, check));
    if let Some(ground) = site.ground {
        lines.extend(wrapped("  decided by    ", &decided(ground, site, check)));
        lines.extend(wrapped("  it would be   ", &otherwise(ground, check)));
    }
    let accepted = judged.accepted().unwrap_or_else(|| "by no rule and no baseline".to_owned());
    lines.extend(wrapped("  accepted      ", &accepted));
    if let Some(course) = &site.course {
        lines.extend(numbers(site, course, check));
    }
    lines.push(String::new());
    lines.push("Facts".to_owned());
    lines.extend(site.evidence.iter().flat_map(|fact| wrapped("  ", &words::harmless(&fact.to_string()))));
    lines.extend(pattern(&judged));
    for (title, stack, cut) in judged.stacks() {
        lines.push(String::new());
        lines.push(words::capitalized(title));
        let root = options.source_root.as_deref();
        lines.extend(checked::stack_lines(shown, stack, root, MAX_FRAMES).iter().map(|line| format!("  {line}")));
        lines.extend(Some(format!("  ({cut})")).filter(|_| !cut.is_empty()));
    }
    Ok(lines.join("\n") + "\n")
}

/// `text` in lines; those after the first begin below the label's end.
fn wrapped(label: &str, text: &str) -> Vec<String> {
    let indent = " ".repeat(label.chars().count());
    let lines = wrap::lines(&wrap::sentence(text), WIDTH - indent.len());
    lines
        .iter()
        .enumerate()
        .map(|(place, line)| format!("{}{line}", if place == 0 { label } else { &indent }))
        .collect()
}

/// The place of the one site whose id begins so.
fn find(recording: &Recording, id: &str) -> Result<usize, Error> {
    let short = |id: &str| words::cut_end(&words::harmless(id), MAX_ID);
    let named = |sites: &[&Site]| {
        let ids: Vec<String> = sites.iter().take(MAX_NAMED).map(|site| short(&site.id)).collect();
        let more = sites.len() - ids.len();
        if more > 0 { format!("{} and {more} more", ids.join(", ")) } else { ids.join(", ") }
    };
    let id = id.trim().to_lowercase();
    let places: Vec<usize> = (0..recording.sites.len())
        .filter(|&place| !id.is_empty() && recording.sites[place].id.to_lowercase().starts_with(&id))
        .collect();
    let exact = places.iter().copied().find(|&place| recording.sites[place].id.to_lowercase() == id);
    let what = match (&places[..], exact) {
        (&[place], _) | (_, Some(place)) => return Ok(place),
        ([], _) if recording.sites.is_empty() => "there is no site in this recording".to_owned(),
        ([], _) => {
            let all: Vec<&Site> = recording.sites.iter().collect();
            format!("there is none with that id, but {}", named(&all))
        }
        _ => {
            let fit: Vec<&Site> = places.iter().map(|&place| &recording.sites[place]).collect();
            format!("several ids begin so: {}", named(&fit))
        }
    };
    Err(Error::NoSite { id: short(&id), what })
}

fn verdict(site: &Site, check: Option<&Check>) -> String {
    let name = site.verdict.name();
    if name.is_empty() {
        return "Not judged: that takes a check (`leakprobe ci`), or a wait that nothing can end".to_owned();
    }
    let fail_on = checked::fail_on(check);
    let fails = match (site.verdict >= fail_on, site.accepted.is_some()) {
        (true, false) => format!("it fails a check that fails on {}", fail_on.name()),
        (true, true) => format!("it would fail a check that fails on {}, but is accepted", fail_on.name()),
        (false, _) => format!("it fails no check that fails on {}", fail_on.name()),
    };
    format!("Verdict: {name}; {fails}")
}

/// The rule that decided.
fn decided(ground: Ground, site: &Site, check: Option<&Check>) -> String {
    let rounds = check.map_or(0, |check| check.rounds.len().saturating_sub(1));
    match ground {
        Ground::CannotWake => "nothing can end these waits, by construction: one look is enough".to_owned(),
        Ground::OfRuntime => "they are the language runtime's own".to_owned(),
        Ground::Stuck => "a goroutine of the runtime's own was in the program's code through a whole round".to_owned(),
        Ground::OfPool => {
            "they are of a pool or library that is known to keep them, and no more than so many".to_owned()
        }
        Ground::NoGrowth => "there are no more of them after the last round than at the baseline".to_owned(),
        Ground::Stopped => {
            "they grew, and stopped growing while the load went on, as pools do once they are full".to_owned()
        }
        Ground::Turnover => "each of them ends, and others take their place".to_owned(),
        Ground::Unused => {
            "there are no more of them than at the baseline, the load before it left them, and nothing has woken \
                           them since: rounds of load cannot decide it"
                .to_owned()
        }
        Ground::NotDue => {
            "they grew, but each of their waits ends by its own timer, which has not been due yet".to_owned()
        }
        Ground::Orphaned => {
            "there are no more of them, but they are old, all of their creators are gone, and none has woken".to_owned()
        }
        Ground::Tolerated => format!("they grew, not steadily, by no more than is tolerated ({})", tolerance(check)),
        Ground::GoingDown => {
            "their number was still going down when the time to settle (--settle-max) was over".to_owned()
        }
        Ground::EveryRound => format!(
            "they grew over {}, did not stop, and at least nine in ten of those that could be followed never woke",
            words::count(rounds as u64, "round")
        ),
        Ground::OnlyTimers => format!(
            "they grew steadily over {}, none has ended, and nothing but their own timers woke them",
            words::count(rounds as u64, "round")
        ),
        Ground::Chains => format!(
            "none of them lasts for a round, but each creates its successor, steadily more with each of {}",
            words::count(rounds as u64, "round")
        ),
        Ground::Busy => format!(
            "they grew with each of {}, none has ended, and they run or change places, so that no wait of theirs could be followed",
            words::count(rounds as u64, "round")
        ),
        Ground::Steady => format!(
            "others wake them, but they grew steadily with each of {}, and none has ended",
            words::count(rounds as u64, "round")
        ),
        Ground::InUse => {
            "most of the new ones have been woken by others, and they did not grow with every round".to_owned()
        }
        Ground::Unclear => format!("they grew, but {}", unclear(site, rounds).join(", and ")),
    }
}

fn tolerance(check: Option<&Check>) -> String {
    let percent = check.map_or(0.0, |check| check.max_growth_percent);
    format!("--max-growth {percent}% of the number at the baseline")
}

/// What keeps a site that grew from being likely leaked.
fn unclear(site: &Site, rounds: usize) -> Vec<String> {
    let course = site.course.clone().unwrap_or_default();
    let mut why = Vec::new();
    if rounds < 2 {
        why.push("one round tells no trend".to_owned());
    }
    if course.counts.windows(2).any(|pair| pair[0] >= pair[1]) {
        why.push("not with every round".to_owned());
    }
    if course.woke > 0 {
        why.push("some of the new ones have woken".to_owned());
    } else if course.followed == 0 {
        why.push("no new one was there for a round, so that it could be seen whether it wakes".to_owned());
    }
    if why.is_empty() {
        why.push("it is not known whether they woke".to_owned());
    }
    why
}

/// What would have changed the verdict.
fn otherwise(ground: Ground, check: Option<&Check>) -> String {
    let rounds = check.map_or(0, |check| check.rounds.len().saturating_sub(1));
    let text = match ground {
        Ground::CannotWake => "none of the others as long as the wait is of this kind",
        Ground::OfRuntime => "suspect had it stayed in the program's code through a round",
        Ground::Stuck => "idle once it has come back from the program's code",
        Ground::OfPool => "judged by its numbers if it were not known, or with more of them than the pool can have",
        Ground::NoGrowth => "suspect or likely had it grown",
        Ground::Stopped => "likely had it gone on growing at the rate of its first rounds",
        Ground::Turnover => "likely had those of the first rounds stayed",
        Ground::Unused => "idle had something woken them, suspect or likely had they grown",
        Ground::Orphaned => "idle had one of them woken, or were a creator still there",
        Ground::Tolerated => "likely if it grew with every round and none ended, or with less --max-growth",
        Ground::GoingDown => "idle if it goes down to the number at the baseline: give it more --settle-max",
        Ground::NotDue => {
            "idle once they have ended: give them the time of their timers by --settle-max; likely if they stay"
        }
        Ground::EveryRound => {
            "suspect with growth in fewer rounds, or had others woken more than one in ten; idle had it stopped"
        }
        Ground::OnlyTimers => {
            "suspect had one ended, had others woken more than one in ten, or had the growth been uneven"
        }
        Ground::Chains => {
            "suspect had the growth been uneven, or had they been fewer after a round; idle had it not grown"
        }
        Ground::Busy => "suspect had one ended, or had they missed a round; idle had it stopped growing",
        Ground::Steady => "suspect after fewer rounds, idle had it missed a round or stopped growing",
        Ground::InUse => "suspect had it grown with every round, or had none of the new ones woken",
        Ground::Unclear if rounds < 3 => "likely or idle after more --rounds",
        Ground::Unclear => {
            "likely had it gone on growing, had none ended and had others woken none; idle had it stopped"
        }
    };
    text.to_owned()
}

/// The numbers behind it.
fn numbers(site: &Site, course: &Course, check: Option<&Check>) -> Vec<String> {
    let noun = evidence::noun_of(site.task);
    let mut lines = vec![String::new(), "Rounds".to_owned()];
    let mut before = None;
    for (number, &count) in course.counts.iter().enumerate() {
        let change = match before {
            Some(before) if count >= before => format!("  (+{})", words::thousands(count - before)),
            Some(before) => format!("  (-{})", words::thousands(before - count)),
            None => String::new(),
        };
        let requests = check.and_then(|check| check.rounds.get(number)).and_then(|round| round.requests);
        let requests = requests.map_or_else(String::new, |requests| format!("  {}", words::count(requests, "request")));
        lines.push(format!("  {:<10}  {:>9}{change}{requests}", checked::round_name(number), words::thousands(count)));
        before = Some(count);
    }
    let number = |count: u64, what: &str| format!("  {:>10}  {what}", words::thousands(count));
    lines.push(String::new());
    lines.push(format!("Of the {} at the end", words::count(site.count, noun)));
    lines.push(number(course.new, "were not there at the baseline"));
    lines.push(number(
        course.followed,
        "of those were there a round earlier, so that it could be seen whether they wake",
    ));
    lines.push(number(course.woke, "of those woke since they came"));
    lines.push(number(course.by_timer, "of those only by their own timers"));
    lines.push(number(course.ended, "more stayed for a round and have ended since"));
    lines.push(number(course.old_woke, "were there at the baseline and have woken since"));
    lines.push(number(course.creators_gone, "have a creator that is known to be gone"));
    lines
}

/// What it looks like, and by what.
fn pattern(judged: &Judged<'_>) -> Vec<String> {
    let site = judged.site;
    let Some(finding) = &site.finding else {
        return Vec::new();
    };
    let mut lines = vec![
        String::new(),
        format!("Looks like a {} ({})", words::harmless(&finding.title), words::harmless(&finding.pattern)),
    ];
    lines.extend(wrapped("  ", &words::harmless(&finding.advice)));
    let mut told = vec![format!("the wait ({})", sites::wait_words(site))];
    let objects = sites::objects(site, &judged.tasks);
    if let Some(first) = objects.first() {
        told.push(format!("what is waited on ({first})"));
    }
    told.push("the functions of both stacks below".to_owned());
    let told = format!("told by {}; a pattern explains a verdict and makes none", told.join(", "));
    lines.extend(wrapped("  ", &told));
    lines
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::report::fixture;

    #[test]
    fn verdicts_explained() {
        let recording = fixture::check::failed();
        let text = |id: &str| explain(&recording, id, &Options::default()).unwrap();
        insta::assert_snapshot!("explain_likely", text("78d"));
        insta::assert_snapshot!("explain_proven", text("DAA66D13"));
        insta::assert_snapshot!("explain_suspect", text("17156075"));
    }

    #[test]
    fn every_ground_has_words() {
        let mut recording = fixture::check::failed();
        let mut all = std::collections::HashSet::new();
        for ground in Ground::ALL {
            (recording.sites[0].ground, recording.sites[0].verdict) = (Some(*ground), ground.verdict());
            let text = explain(&recording, &recording.sites[0].id, &Options::default()).unwrap();
            assert!(text.contains("decided by") && text.contains("it would be"), "{text}");
            assert!(all.insert(text));
        }
    }

    #[test]
    fn an_unknown_site_is_one_sentence() {
        let mut recording = fixture::check::failed();
        let error =
            |recording: &Recording, id: &str| explain(recording, id, &Options::default()).unwrap_err().to_string();
        insta::assert_snapshot!(error(&recording, "zzz"));
        insta::assert_snapshot!(error(&recording, ""));
        recording.sites[0].id = format!("{}x", recording.sites[1].id);
        let id = recording.sites[1].id.clone();
        assert!(error(&recording, &id[..4]).contains("several ids begin so"));
        assert!(explain(&recording, &id, &Options::default()).is_ok());
        recording.sites.clear();
        recording.tasks.clear();
        assert!(error(&recording, "7").contains("there is no site"));
    }
}
