//! Properties that hold whatever the target calls its functions, files and threads, and whatever a recording says.

use std::sync::Arc;

use proptest::{collection::vec, prelude::*};

use super::{Format, GroupBy, Kind, Options, View, Weight, fixture, shown::Shown, stacks::Stacks};
use crate::analysis::{Criteria, History, Moment, Terms, conclude, judge, tell};
use crate::model::{
    Check, CheckOutcome, Course, Deadlock, DeadlockedTask, Fact, Finding, Frame, Gap, GoFrame, Ground, LinkWait, Owner,
    PendingTimers, Recording, Relation, Round, Source, StackEnd, TaskState, TimedWait, Verdict,
};

/// Texts that mean something to one of the formats, or to a terminal.
fn name() -> impl Strategy<Value = String> {
    let pieces = prop_oneof![
        Just(";".to_owned()),
        Just("\n".to_owned()),
        Just("\r\n".to_owned()),
        Just("# ".to_owned()),
        Just("\x1b[2J".to_owned()),
        Just("]]>".to_owned()),
        Just("--><script>".to_owned()),
        Just("&amp;\"'".to_owned()),
        Just(" 12".to_owned()),
        Just("\u{0}\u{fffe}\u{202e}".to_owned()),
        Just("std::<(".to_owned()),
        Just("operator->".to_owned()),
        Just("-".to_owned()),
        "\\PC{0,8}",
        any::<String>(),
    ];
    vec(pieces, 0..5).prop_map(|pieces| pieces.concat())
}

/// A recording whose names, numbers and stacks are anything that its types allow.
fn recording() -> impl Strategy<Value = Recording> {
    let frames = vec((name(), name(), name(), any::<bool>()), 1..8);
    let texts = vec(name(), 12);
    let numbers = vec(prop_oneof![any::<u64>(), 0..5_000_u64], 8);
    let picks = vec(any::<prop::sample::Index>(), 1..40);
    let of_go = prop_oneof![Just(false), Just(true)];
    (frames, texts, numbers, picks, any::<bool>(), of_go).prop_map(|(frames, texts, numbers, picks, cut, goish)| {
        let mut recording = if goish { fixture::go::service() } else { fixture::checkout() };
        recording.frames = frames
            .into_iter()
            .map(|(function, module, file, inlined)| Frame {
                line: Some(u32::MAX),
                address: module.clone(),
                called_as: inlined.then(|| file.clone()),
                unknown: Some(file.clone()),
                file: inlined.then_some(file),
                function,
                module,
                inlined,
                go: goish.then_some(GoFrame { offset: Some(7), hidden: inlined }),
            })
            .collect();
        let frames = recording.frames.len();
        let stack: Vec<u32> = picks.iter().map(|pick| u32::try_from(pick.index(frames)).unwrap()).collect();
        let text = |place: usize| texts[place].clone();
        let number = |place: usize| numbers[place];
        recording.target.comm = text(0);
        recording.target.exe = text(1);
        recording.target.runtime = text(2);
        recording.target.ended = Some(text(3));
        recording.started = text(4);
        recording.duration_ms = number(0);
        recording.min_block_ms = number(1);
        recording.coverage.gaps = vec![Gap::Text(text(5)), Gap::KernelNames { why: text(5) }];
        recording.coverage.sources = vec![Source::Text(text(5))];
        recording.coverage.blocked = number(2);
        recording.losses.insert(text(6).into(), number(3));
        recording.cost.cpu_ms = number(0);
        for (place, task) in recording.tasks.iter_mut().enumerate() {
            let depth = place % (stack.len() + 1);
            task.stack = stack[..depth].into();
            task.created_by.stack = stack[depth..].into();
            task.created_by.name = text(7).into();
            task.created_by.why_unknown = Some(text(8).into());
            task.name = text(9).into();
            if let Some(goroutine) = &mut task.goroutine {
                goroutine.labels = Arc::new([(text(1), text(2))].into());
                for channel in Arc::make_mut(&mut goroutine.channels) {
                    (channel.len, channel.cap, channel.receivers) = (number(2), number(3), number(4));
                }
                for ancestor in Arc::make_mut(&mut goroutine.ancestors) {
                    ancestor.stack = stack[..].into();
                    ancestor.creation = stack[depth..].into();
                }
            }
            if cut {
                task.stack_end = StackEnd::TooDeep;
            }
            if let Some(wait) = &mut task.wait {
                wait.age_ms = number(4);
                wait.reason = text(10).into();
                wait.object = text(3).into();
            }
        }
        for (place, site) in recording.sites.iter_mut().enumerate() {
            site.stack = stack[..place.min(stack.len())].to_vec();
            site.creation = stack.clone();
            site.wait = text(10);
            site.id = text(11);
            site.verdict = Verdict::ALL[usize::try_from(number(5)).unwrap_or(0) % Verdict::ALL.len()];
            site.finding = Some(Finding { pattern: text(0), title: text(1), advice: text(2) });
            site.accepted = cut.then(|| text(0));
            site.ground = Some(Ground::ALL[usize::try_from(number(6)).unwrap_or(0) % Ground::ALL.len()]);
            site.course = Some(Course { counts: vec![number(4), number(5)], ..Course::default() });
            site.evidence = vec![Fact::Text(text(1)), Fact::Named { pattern: text(1) }];
            site.count = number(5);
            site.parked = number(4);
            site.with_timeout = number(6);
            site.shortest_timeout_ms = Some(number(4));
            site.oldest_ms = number(7);
        }
        recording.check = Some(Check {
            rounds: vec![
                Round {
                    requests: Some(number(3)),
                    load_ms: Some(number(4)),
                    settle_ms: number(5),
                    ..Round::default()
                };
                picks.len()
            ],
            load: vec![text(0), text(1)],
            fail_on: Verdict::ALL[usize::try_from(number(4)).unwrap_or(0) % Verdict::ALL.len()],
            outcome: [CheckOutcome::Passed, CheckOutcome::Failed, CheckOutcome::Incomplete][picks.len() % 3],
            reasons: vec![text(2)],
            incomplete: if cut { vec![text(3)] } else { Vec::new() },
            tasks: number(6),
            max_tasks: Some(number(7)),
            notes: vec![text(4)],
            ..Check::default()
        });
        for wait in &mut recording.ended_waits {
            wait.stack = stack.clone();
            wait.name = text(9);
            wait.wait.reason = text(10).into();
            wait.total_ms = number(7);
        }
        recording.timeline = (0..4)
            .map(|n| TimedWait {
                place: n % 2,
                task: [4262, number(5), 4262, 4243][n as usize],
                name: text(9).into(),
                began_us: number(n as usize).cast_signed(),
                lasted_us: number(7),
                exact: cut,
            })
            .filter(|wait| (wait.place as usize) < recording.ended_waits.len())
            .collect();
        for sample in &mut recording.growth {
            sample.tasks = number(usize::try_from(sample.at_ms / 1_000).unwrap() % 8);
        }
        recording
    })
}

fn options() -> impl Strategy<Value = Options> {
    let width = proptest::option::of(0..300_usize);
    let kind = prop_oneof![Just(Kind::All), Just(Kind::Threads), Just(Kind::Goroutines)];
    let group_by = proptest::option::of(prop_oneof![
        Just(GroupBy::Creator),
        Just(GroupBy::Site),
        Just(GroupBy::Wait),
        Just(GroupBy::Channel),
        name().prop_map(|key| GroupBy::Label(Some(key))),
        Just(GroupBy::Label(None)),
        Just(GroupBy::ThreadName),
    ]);
    let pattern = proptest::option::of(prop_oneof![Just("a"), Just("[;<]"), Just("^$")]);
    let filters = (pattern.clone(), pattern);
    let max_depth = proptest::option::of(0..4_usize);
    (any::<[bool; 4]>(), width, kind, group_by, filters, max_depth).prop_map(
        |(bools, width, kind, group_by, filters, max_depth)| {
            let [time, creation, all, all_frames] = bools;
            let patterns = |pattern: Option<&str>| pattern.into_iter().map(|it| it.parse().unwrap()).collect();
            Options {
                kind,
                group_by,
                include: patterns(filters.0),
                exclude: patterns(filters.1),
                all_frames,
                max_depth,
                weight: if time { Weight::Time } else { Weight::Tasks },
                view: if creation { View::Creation } else { View::Parked },
                all,
                width,
                color: false,
                source_root: bools[0].then(|| "/".into()),
            }
        },
    )
}

fn bytes(format: Format, recording: &Recording, options: &Options) -> Vec<u8> {
    let mut out = Vec::new();
    format.report().write(recording, options, &mut out).unwrap();
    out
}

fn written(format: Format, recording: &Recording, options: &Options) -> String {
    String::from_utf8(bytes(format, recording, options)).unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn folded_lines_stay_folded_lines(recording in recording(), options in options()) {
        let text = written(Format::Folded, &recording, &options);
        let mut tasks = 0;
        for line in text.split_terminator('\n') {
            let (stack, weight) = line.rsplit_once(' ').unwrap();
            tasks += weight.parse::<u64>().unwrap();
            prop_assert!(!line.starts_with("# ") && !line.chars().any(char::is_control));
            prop_assert!(stack.split(';').all(|frame| !frame.trim().is_empty()));
            let wait = stack.rsplit(';').next().unwrap();
            prop_assert!(wait.starts_with('[') && wait.ends_with(']'));
        }
        let shown = Shown::of(&recording, &options);
        let is_drawn = |task: &&&crate::model::Task| task.state == TaskState::Parked || shown.site_of(task).is_some();
        let listed = shown.tasks.iter().filter(is_drawn).count() as u64;
        let unlisted = shown.sites.iter().zip(shown.members()).filter(|(_, members)| !members.is_empty());
        let unlisted = unlisted.map(|(site, members)| site.count.saturating_sub(members.len() as u64));
        let expected = unlisted.fold(listed, u64::saturating_add);
        // Beyond that, weights are capped.
        if options.weight == Weight::Tasks && expected < 1 << 40 {
            prop_assert_eq!(tasks, expected);
        }
    }

    #[test]
    fn pictures_stay_xml(recording in recording(), options in options()) {
        let svg = written(Format::Svg, &recording, &options);
        let parsing = roxmltree::ParsingOptions {
            allow_dtd: true,
            ..roxmltree::ParsingOptions::default()
        };
        let document = roxmltree::Document::parse_with_options(&svg, parsing).unwrap();
        let scripts = document.descendants().filter(|node| node.tag_name().name() == "script");
        // A picture of nothing has none.
        let is_empty = Stacks::of(&Shown::of(&recording, &options), &options).is_empty();
        prop_assert_eq!(scripts.count(), usize::from(!is_empty));
    }

    /// Whoever waits for whomever, and however many of them.
    #[test]
    fn graphs_stay_bounded_xml(
        mut recording in recording(),
        options in options(),
        owners in vec((any::<prop::sample::Index>(), 0..5_u8, name(), any::<u64>()), 0..300),
        deadlocked in vec(any::<prop::sample::Index>(), 0..6),
    ) {
        let ids: Vec<u64> = recording.tasks.iter().map(|task| task.id).collect();
        let of = |index: &prop::sample::Index| *index.get(&ids);
        for (task, (index, what, name, other)) in recording.tasks.iter_mut().zip(&owners) {
            let Some(wait) = &mut task.wait else { continue };
            let relation = [Relation::Holds, Relation::Joined, Relation::OtherEnd, Relation::NoOne][usize::from(what % 4)];
            let (owner, process) = if *what >= 3 { (*other, Some(*other as u32)) } else { (of(index), None) };
            wait.owner = Some(Box::new(Owner { task: owner, name: name.clone(), relation, process, state: None }));
            wait.owner_note = Some(name.as_str().into());
        }
        let wait = || LinkWait { reason: "mutex".into(), object: recording.target.comm.as_str().into(), age_ms: 1, exact: true };
        let one = |index| DeadlockedTask { task: of(index), name: recording.target.exe.as_str().into(), wait: wait() };
        recording.timers = owners
            .iter()
            .map(|(index, _, name, count)| PendingTimers {
                id: name.clone(),
                callback: [index.index(recording.frames.len()) as u32].into(),
                count: *count,
                evidence: vec![Fact::Text(name.clone())],
                verdict: Verdict::Likely,
                ..PendingTimers::default()
            })
            .collect();
        written(Format::Markdown, &recording, &options);
        recording.deadlocks = vec![Deadlock {
            tasks: deadlocked.iter().map(one).collect(),
            behind: owners.len() as u64,
            stuck: deadlocked.iter().map(of).collect(),
        }];
        let svg = written(Format::WaitsSvg, &recording, &options);
        roxmltree::Document::parse(&svg).unwrap();
        prop_assert!(svg.len() < 4 << 20, "{}", svg.len());
        let dot = written(Format::Dot, &recording, &options);
        prop_assert!(!dot.chars().any(|c| c != '\n' && c.is_control()));
        super::html::tests::check(&written(Format::Html, &recording, &options));
        written(Format::Txt, &recording, &options);
    }

    #[test]
    fn profiles_stay_profiles(recording in recording(), options in options()) {
        let profile = super::pprof::tests::read(&bytes(Format::Pprof, &recording, &options));
        prop_assert!(!profile.string_table.iter().any(|text| text.chars().any(char::is_control)));
        super::speedscope::tests::check(&written(Format::Speedscope, &recording, &options));
    }

    #[test]
    fn traces_stay_traces(recording in recording(), options in options()) {
        let told = super::perfetto::tests::check(&bytes(Format::Perfetto, &recording, &options));
        prop_assert!(!told.chars().any(|c| c != '\n' && c.is_control()));
    }

    #[test]
    fn pages_stay_pages(recording in recording(), options in options()) {
        super::html::tests::check(&written(Format::Html, &recording, &options));
    }

    #[test]
    fn checks_stay_test_results_and_summaries(recording in recording(), options in options()) {
        super::junit::tests::check(&written(Format::Junit, &recording, &options));
        super::markdown::tests::check(&written(Format::Markdown, &recording, &options));
        super::github::tests::check(&super::annotations(&recording, &options));
        for site in &recording.sites {
            if let Ok(text) = super::explain(&recording, &site.id, &options) {
                prop_assert!(!text.chars().any(|c| c != '\n' && c.is_control()));
            }
        }
    }

    #[test]
    fn results_stay_valid(recordings in vec((recording(), options()), 4)) {
        let written = |(recording, options)| serde_json::from_str(&written(Format::Sarif, recording, options)).unwrap();
        let files: Vec<serde_json::Value> = recordings.iter().map(|(recording, options)| written((recording, options))).collect();
        super::sarif::tests::check(&files.iter().collect::<Vec<_>>()).unwrap();
    }

    #[test]
    fn comparisons_take_anything(before in recording(), after in recording(), options in options()) {
        let pair = super::diff::Pair { before: (before.target.comm.clone(), before), after: ("x;y".into(), after) };
        for &format in super::diff::FORMATS {
            let mut out = Vec::new();
            pair.write(format, &options, &mut out).unwrap();
            let text = String::from_utf8(out).unwrap();
            match format {
                Format::Html => super::html::tests::check(&text),
                Format::Json => drop(serde_json::from_str::<serde_json::Value>(&text).unwrap()),
                Format::Svg => prop_assert!(text.contains("</svg>")),
                _ => prop_assert!(!text.chars().any(|c| c != '\n' && c.is_control())),
            }
        }
    }

    #[test]
    fn text_cannot_move_the_cursor(recording in recording(), options in options()) {
        let text = written(Format::Txt, &recording, &options);
        prop_assert!(!text.chars().any(|c| c != '\n' && c.is_control()));
        let lines: Vec<&str> = text.split('\n').collect();
        for (n, line) in lines.iter().enumerate() {
            prop_assert!(!line.ends_with(' '), "{:?}", &lines[n.saturating_sub(3)..=n]);
        }
    }

    #[test]
    fn recordings_come_back_as_they_were(recording in recording()) {
        let text = written(Format::Json, &recording, &Options::default());
        let back = super::json::read_from(text.as_bytes(), "x".as_ref()).unwrap();
        prop_assert_eq!(back, recording);
    }

    #[test]
    fn names_are_as_short_as_asked(name in name(), width in 1..60_usize) {
        let short = super::words::shorten(&name, width);
        prop_assert!(short.chars().count() <= width.max(1));
    }

    #[test]
    fn judging_takes_anything(mut rounds in vec(recording(), 1..6), known in recording()) {
        // What is judged was counted, and nobody counts that far.
        for recording in &mut rounds {
            for site in &mut recording.sites {
                (site.count, site.parked, site.with_timeout) = (site.count >> 24, site.parked >> 24, site.with_timeout >> 24);
            }
            recording.losses.values_mut().for_each(|count| *count >>= 24);
            recording.growth.iter_mut().for_each(|sample| sample.tasks >>= 24);
        }
        let moments: Vec<Moment> = rounds.iter().map(Moment::of).collect();
        let mut last = rounds.into_iter().next_back().unwrap();
        let criteria = Criteria { max_growth_percent: 5.0, processors: 2 };
        let judgements = judge(&last, History { moments: &moments, before: moments.first() }, &criteria);
        tell(&mut last, judgements);
        let terms = Terms {
            fail_on: Verdict::Suspect,
            rules: &[],
            today: jiff::civil::date(2026, 1, 1),
            baseline: Some(&known),
            max_tasks: Some(1),
            min_coverage_percent: 95.0,
        };
        conclude(&mut last, &terms);
    }

    /// Indices are checked when a recording is read; should one get past that, it is left out.
    #[test]
    fn wrong_indices_do_no_harm(mut recording in recording(), options in options(), wrong in any::<u32>()) {
        for task in &mut recording.tasks {
            task.stack = [&*task.stack, &[wrong]].concat().into();
            task.created_by.stack = [&[wrong], &*task.created_by.stack].concat().into();
            task.site = Some(wrong);
        }
        for site in &mut recording.sites {
            site.stack.insert(0, wrong);
        }
        for &format in Format::ALL {
            bytes(format, &recording, &options);
        }
    }
}
