//! Facts in words.

use std::fmt::{Display, Formatter, Result};

use super::{
    coded::write_coded,
    evidence::noun_of,
    words::{self, short_span, span, thousands},
};
use crate::model::{CannotWake, Fact, Pool, SiteName, Still, WhereTasksAre, WokenBy, numbers};

/// Most sites or places that a sentence names, whatever a recording lists.
const MAX_NAMED: usize = 8;

write_coded!(Fact);

impl Display for Fact {
    fn fmt(&self, out: &mut Formatter<'_>) -> Result {
        match self {
            Self::Text(text) => out.write_str(text),
            Self::Grew { from, to, waiting } => {
                write!(out, "grew from {from} to {to}{} here while watched", if *waiting { " waiting" } else { "" })
            }
            Self::CreatedWhileWatched { tasks, of, still } => {
                let still = match still {
                    Still::Parked => "parked",
                    Still::Alive => "alive",
                    Still::Waiting => "waiting",
                };
                write!(out, "{tasks} of {of} created while watched, and still {still}")
            }
            Self::InSlices { tasks, of } => {
                let how_many = if tasks == of { "all".to_owned() } else { tasks.to_string() };
                write!(out, "{how_many} of the waits end by their own timers, and begin again")
            }
            Self::NoneWaits => out.write_str("none of them waits"),
            Self::NoTimeout => out.write_str("none of the waits has a timeout"),
            Self::AllTimeOut { shortest_ms } => {
                out.write_str("all of the waits end by themselves")?;
                match shortest_ms {
                    Some(ms) => write!(out, ", after {} at the earliest", short_span(*ms)),
                    None => Ok(()),
                }
            }
            Self::AtOtherLines { tasks, of } => {
                write!(out, "{tasks} of {of} {} at other lines or depths of these functions", are(*tasks))
            }
            Self::Elsewhere { tasks, of } => {
                write!(out, "{tasks} of {of} {} of the same creator, but elsewhere or running", are(*tasks))
            }
            Self::CreationSeen { tasks, of } => {
                write!(out, "the creation of {tasks} of {of} was seen; the others wait at the same place")
            }
            Self::CannotWake { tasks, of, why } => cannot_wake(*tasks, *of, *why, out),
            Self::OfPool { pool } => out.write_str(of_pool(*pool)),
            Self::Objects { tasks, objects } => objects_of(*tasks, *objects, out),
            Self::Named { pattern } => write!(out, "all are named {pattern}"),
            Self::ByCreator { places, more } => by_creator(places, *more, out),
            Self::BehindRoot { .. }
            | Self::RootOfKnot { .. }
            | Self::HoldsItself { .. }
            | Self::LockCircle { .. }
            | Self::InStep { .. } => of_knot(self, out),
            Self::NotDue { due_ms, by_others } => {
                let what = match by_others {
                    false => "each of these waits ends by its own timer",
                    true => {
                        "each of these waits may end by a timer, its own or that of a task that it joins, created or waits behind"
                    }
                };
                write!(out, "{what}, the last in {}, and none of the timers has been due yet", span(*due_ms))
            }
            Self::SiblingsNotDue { due_ms } => write!(
                out,
                "the same function began, with each round, as many that end by timers of their own, the last in {}, and these may \
                 wait for them: none of the timers has been due yet",
                span(*due_ms)
            ),
            Self::Pending { latest_ms } => {
                write!(out, "each is pending until it fires, the last of them in {}", span(*latest_ms))
            }
            _ => of_rounds(self, out),
        }
    }
}

/// What the rounds of a check showed.
fn of_rounds(fact: &Fact, out: &mut Formatter<'_>) -> Result {
    match fact {
        Fact::GrewWithRounds { counts, grew, rounds, per_round, per_request } => {
            let how_often = match (grew == rounds, rounds) {
                (true, _) => "every round of load".to_owned(),
                (_, 1) => format!("{grew} of 1 round"),
                _ => format!("{grew} of {rounds} rounds"),
            };
            write!(out, "grew with {how_often}: {}", numbers(counts))?;
            match (per_round, per_request) {
                (Some(round), Some(request)) => {
                    write!(out, " ({} a round, {} a request)", short(*round), short(*request))
                }
                (Some(round), None) => write!(out, " ({} a round)", short(*round)),
                (None, _) => Ok(()),
            }
        }
        Fact::Level { counts } => write!(out, "level: {} after each round", numbers(counts)),
        Fact::Fewer { counts } => write!(out, "fewer than at the baseline: {}", numbers(counts)),
        Fact::Counts { counts } => write!(out, "{} after each round", numbers(counts)),
        Fact::Tolerated { percent, max_percent } => {
            write!(out, "that is {percent:.1} % more, not steadily, and up to {max_percent} % is tolerated")
        }
        Fact::StoppedGrowing => out.write_str("their number stopped growing while the load went on"),
        Fact::GoingDown => {
            out.write_str("their number was still going down when the time to settle was over")
        }
        Fact::Steady { rounds } => {
            write!(out, "others wake them, but each of {rounds} rounds left about as many, and none has ended")
        }
        Fact::Successors => out.write_str(
            "none of them lasts for a round: each creates its successor, and there are more with each round",
        ),
        Fact::Replaced { ended } => {
            write!(out, "{ended} that came with the rounds have ended: others take their place")
        }
        Fact::LeftBefore => out.write_str(
            "the load before the baseline left them, and nothing has woken them since: rounds of load cannot tell whether they \
             are still needed",
        ),
        Fact::Woke { tasks, of, by } => {
            let by = match by {
                WokenBy::Timers => ", each by its own timer alone",
                WokenBy::Others => ", by others than their own timers",
                WokenBy::Any => "",
            };
            write!(out, "{tasks} of the {of} that could be followed for a round woke meanwhile{by}")
        }
        Fact::NoneWoke { of: 1 } => {
            out.write_str("the one that could be followed for a round has not woken since")
        }
        Fact::NoneWoke { of } => {
            write!(out, "none of the {of} that could be followed for a round has woken since")
        }
        Fact::WakingUnknown { tasks } => write!(out, "of {tasks} it is not known whether they woke"),
        Fact::WokeMeanwhile { tasks, of } => write!(out, "{tasks} of {of} woke meanwhile"),
        Fact::EndedLater { tasks } => write!(out, "{tasks} that stayed for a round ended later"),
        Fact::Outlast { tasks, rounds } => {
            let plural = if *rounds == 1 { "" } else { "s" };
            write!(
                out,
                "{tasks} of the earliest rounds stay, while all that ended did so within {rounds} round{plural}"
            )
        }
        Fact::CreatorsGone { tasks, of } => write!(out, "the creators of {tasks} of {of} are gone"),
        Fact::Orphaned { tasks } => write!(out, "the creators of all {tasks} are gone, and none has woken"),
        Fact::Stuck => out.write_str(
            "the runtime calls one such function after the other, and this one has not come back for a round: all others wait",
        ),
        _ => Ok(()),
    }
}

fn cannot_wake(tasks: u64, of: u64, why: CannotWake, out: &mut Formatter<'_>) -> Result {
    let whose = match (tasks == of, of) {
        (true, 1) => "this task".to_owned(),
        (true, _) => format!("each of these {of} tasks"),
        (false, _) => format!("{tasks} of these {of} tasks"),
    };
    match why {
        CannotWake::Marked => write!(out, "the target's own garbage collector has marked {whose} as leaked"),
        CannotWake::NilChannel => write!(out, "{whose} waits on a nil channel, which nothing can ever end"),
        CannotWake::EmptySelect => write!(
            out,
            "{whose} waits in a select without cases, or with nil channels alone, which nothing can ever end"
        ),
        CannotWake::Deadlock => {
            write!(out, "{whose} is part of a deadlock: a circle of tasks, each of which holds what another waits for")
        }
        CannotWake::BehindDeadlock => write!(out, "{whose} waits for a lock that a deadlocked thread holds"),
        CannotWake::NoOneCanWake => write!(
            out,
            "{whose} waits on a word of its own stack, where nothing can wake it: so the C library parks a thread that asks for a \
             priority-inheritance mutex whose holder has exited, or that it holds itself"
        ),
        CannotWake::HolderExited => {
            write!(out, "{whose} waits for a lock whose holder has exited without releasing it")
        }
    }
}

fn objects_of(tasks: u64, objects: u64, out: &mut Formatter<'_>) -> Result {
    let all = thousands(tasks);
    match objects {
        1 => write!(out, "all {all} wait on one object"),
        n if n == tasks => write!(out, "each of the {all} waits on an object of its own"),
        n => write!(out, "the {all} wait on {} objects", thousands(n)),
    }
}

fn by_creator(places: &[WhereTasksAre], more: u64, out: &mut Formatter<'_>) -> Result {
    let name = |place: &WhereTasksAre| {
        let at = place.function.as_ref().map_or(String::new(), |function| format!(" in {function}"));
        format!("{} {}{at}", thousands(place.tasks), place.wait)
    };
    let named: Vec<String> = places.iter().take(MAX_NAMED).map(name).collect();
    write!(out, "judged by their creator, wherever they are: {}", named.join("; "))?;
    if more > 0 { write!(out, " and {more} more places") } else { Ok(()) }
}

/// How sites hang together by what their tasks wait for.
fn of_knot(fact: &Fact, out: &mut Formatter<'_>) -> Result {
    match fact {
        Fact::BehindRoot { tasks, of, roots, kind, at, wait } => write!(
            out,
            "{} of {} {} behind the {} at {}, which {} in {wait}: the root of this knot",
            thousands(*tasks),
            thousands(*of),
            waits(*tasks),
            words::count(*roots, noun_of(*kind)),
            name(at),
            waits(*roots)
        ),
        Fact::RootOfKnot { tasks, sites, more } => {
            let sites = sites.iter().take(MAX_NAMED);
            let named: Vec<String> =
                sites.map(|behind| format!("{} at {}", thousands(behind.tasks), name(&behind.at))).collect();
            let (all, named) = (thousands(*tasks), named.join(", "));
            write!(out, "the root of a knot: {all} {} behind, {named}", waits(*tasks))?;
            if *more > 0 { write!(out, " and at {more} more") } else { Ok(()) }
        }
        Fact::HoldsItself { tasks, of } => {
            let whose = if *tasks == 1 { "its own stack" } else { "their own stacks" };
            let (some, all) = (thousands(*tasks), thousands(*of));
            write!(
                out,
                "{some} of {all} {} for a lock that a function on {whose} is to release by a deferred call",
                waits(*tasks)
            )
        }
        Fact::LockCircle { tasks, of, next } => {
            let whose =
                next.as_ref().map_or("the next one of them".to_owned(), |next| format!("one at {}", name(next)));
            let (some, all) = (thousands(*tasks), thousands(*of));
            write!(
                out,
                "{some} of {all} {} in a circle: for a lock that {whose} is to release by a deferred call",
                waits(*tasks)
            )
        }
        Fact::InStep { with, objects } => {
            let which = if *objects == 1 { "the same object" } else { "the same objects" };
            write!(out, "a knot with {}: they wait on {which}, and their numbers grew in step", name(with))
        }
        _ => Ok(()),
    }
}

fn name(site: &SiteName) -> String {
    let function = site.function.as_ref().map_or(String::new(), |function| format!(" ({function})"));
    format!("site {}{function}", site.id)
}

const fn of_pool(pool: Pool) -> &'static str {
    match pool {
        Pool::Jvm => {
            "a thread of the JVM's own (garbage collector, compilers, housekeeping), as many as its settings say"
        }
        Pool::ForkJoin => "a worker of the JVM's common pool, which has as many as there are processors",
        Pool::Libuv => {
            "a worker of libuv's pool, which starts with the first file or DNS request and has UV_THREADPOOL_SIZE of them, 4 by default"
        }
        Pool::Node => "a thread of node's own (V8's platform), of a fixed number",
        Pool::Tokio => "a worker of tokio's scheduler, which has as many as there are processors",
        Pool::TokioBlocking => "a thread of tokio's pool for blocking work, which ends after it was idle for 10 s",
        Pool::Rayon => "a worker of rayon's pool, which has as many as there are processors",
        Pool::Parallel => "a worker of a pool for parallel computation, which has as many as there are processors",
        Pool::Libc => "a thread of the C library's own (timers, asynchronous I/O), of a bounded number",
        Pool::Jemalloc => "a background thread of jemalloc, of which there are at most as many as processors",
        Pool::Glib => "a thread of GLib's own, of which there is one",
        Pool::Server => "a background thread of the server's own, of a fixed number",
        Pool::GoSignals => "the goroutine that receives signals, of which there is one",
        Pool::GoRuntime => "the Go runtime's own",
        Pool::GoLibrary => "a background goroutine of a library, of which there is one",
    }
}

fn are(tasks: u64) -> &'static str {
    if tasks == 1 { "is" } else { "are" }
}

fn waits(tasks: u64) -> &'static str {
    if tasks == 1 { "waits" } else { "wait" }
}

/// A number with as many digits as matter.
fn short(number: f64) -> String {
    let text = if number >= 10.0 {
        format!("{number:.0}")
    } else if number >= 0.1 {
        format!("{number:.2}")
    } else {
        format!("{number:.4}")
    };
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_owned() } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_short() {
        for (number, text) in [
            (0.0, "0"),
            (1.0, "1"),
            (0.05, "0.05"),
            (0.333_3, "0.33"),
            (12.34, "12"),
            (2.5, "2.5"),
            (0.000_4, "0.0004"),
        ] {
            assert_eq!(short(number), text);
        }
    }

    #[test]
    fn timeouts_have_two_units_at_most() {
        for (ms, words) in [
            (0, "0 ms"),
            (1_000, "1 s"),
            (1_550, "1.5 s"),
            (90_000, "1m 30s"),
            (28_800_000, "8h"),
            (93_600_000, "1d 2h"),
        ] {
            let said = format!("all of the waits end by themselves, after {words} at the earliest");
            assert_eq!(Fact::AllTimeOut { shortest_ms: Some(ms) }.to_string(), said);
        }
    }

    #[test]
    fn growth_is_told_by_rounds() {
        let grew = |grew, rounds, per_request| Fact::GrewWithRounds {
            counts: vec![1, 3, 5],
            grew,
            rounds,
            per_round: Some(2.0),
            per_request,
        };
        assert_eq!(
            grew(2, 2, Some(0.5)).to_string(),
            "grew with every round of load: 1, 3, 5 (2 a round, 0.5 a request)"
        );
        assert_eq!(grew(1, 2, None).to_string(), "grew with 1 of 2 rounds: 1, 3, 5 (2 a round)");
        assert_eq!(grew(0, 1, None).to_string(), "grew with 0 of 1 round: 1, 3, 5 (2 a round)");
    }

    #[test]
    fn facts_are_read_back_and_those_of_other_versions_are_sentences() {
        let at = SiteName { id: "0a".into(), function: None };
        for fact in [
            Fact::OfPool { pool: Pool::Jvm },
            Fact::NoTimeout,
            Fact::LockCircle { tasks: 2, of: 3, next: Some(at) },
            Fact::Tolerated { percent: 4.25, max_percent: 5.0 },
        ] {
            let written = serde_json::to_value(&fact).unwrap();
            assert_eq!(written["text"], fact.to_string());
            assert_eq!(serde_json::from_value::<Fact>(written).unwrap(), fact);
        }
        let old: Fact = serde_json::from_str("\"level: 1, 1 after each round\"").unwrap();
        assert_eq!(old, Fact::Text("level: 1, 1 after each round".into()));
    }

    #[test]
    fn what_hostile_recordings_list_is_cut() {
        let place = WhereTasksAre { tasks: 1, wait: "futex".into(), function: None };
        let said = Fact::ByCreator { places: vec![place; 10_000], more: u64::MAX }.to_string();
        assert!(said.len() < 400, "{said}");
    }
}
