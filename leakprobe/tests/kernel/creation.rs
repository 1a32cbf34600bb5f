//! Who created a thread, and where: the creator's full stack, in programs without frame pointers, linked in every way.

use leakprobe::model::{CreatedBy, Loss, Recording, StackEnd};

use crate::support::{
    Program, Running, Variant, attach, chain, functions, in_guest, label, lost, settle, stack_of, task, task_named,
};

/// A `creators` program with leakprobe attached to it.
fn attached(variant: Variant, options: &[&str]) -> (Program, Running) {
    let program = Program::ready("creators", variant);
    settle(program.pid());
    let leakprobe = attach(&program, options);
    (program, leakprobe)
}

fn creation<'a>(recording: &'a Recording, name: &str) -> &'a CreatedBy {
    &task_named(recording, name).created_by
}

/// Both creators of `program`, and what is the same in every variant that has symbols.
fn check_creations(variant: Variant) {
    let (mut program, leakprobe) = attached(variant, &[]);
    let by_main = program.ask("outer by-main", "created ");
    program.ask("other by-other", "created ");
    program.ask("maker by-maker", "created ");
    let maker = settle(program.pid());
    let recording = leakprobe.stop();
    assert!(lost(&recording).is_empty(), "{:?}", recording.losses);

    assert_eq!(task_named(&recording, "by-main").id.to_string(), by_main);
    let created = creation(&recording, "by-main");
    assert!(created.known, "{created:?}");
    assert_eq!((created.task, &*created.name), (Some(u64::from(program.pid())), program_name(variant).as_str()));
    chain(&recording, &created.stack, &["create", "inner", "middle", "outer", "main"]);
    let outermost = functions(&recording, &created.stack).pop();
    assert_eq!(outermost.as_deref(), Some("_start"), "the stack ends where the process begins");

    let created = creation(&recording, "by-other");
    chain(&recording, &created.stack, &["create", "inner", "other", "main"]);

    let created = creation(&recording, "by-maker");
    let maker_task = task_named(&recording, "maker");
    assert!(maker.contains_key(&maker_task.id));
    assert_eq!((created.task, &*created.name), (Some(maker_task.id), "maker"));
    chain(&recording, &created.stack, &["create", "inner", "middle", "outer", "make"]);
    assert!(
        !functions(&recording, &created.stack).iter().any(|name| name == "main"),
        "a thread's stack ends at its beginning"
    );

    // What was there before us has no creation, and says why.
    for task in [maker_task, task(&recording, u64::from(program.pid()))] {
        assert!(
            !task.created_by.known && task.created_by.stack.is_empty() && task.created_by.why_unknown.is_some(),
            "{task:?}"
        );
    }
    assert_eq!(recording.coverage.created, 3);
    assert_eq!(recording.coverage.creations_known, 3);
}

/// The kernel's name of the process: 15 bytes of its file's name.
fn program_name(variant: Variant) -> String {
    format!("creators{}", variant.suffix()).chars().take(15).collect()
}

#[test]
fn a_creation_has_its_full_stack_in_a_position_independent_program() {
    check_creations(Variant::Pie);
}

#[test]
fn a_creation_has_its_full_stack_in_a_program_at_a_fixed_address() {
    check_creations(Variant::NoPie);
}

#[test]
fn a_creation_has_its_full_stack_in_a_static_program() {
    check_creations(Variant::Static);
}

#[test]
fn a_creation_has_its_full_stack_in_a_static_position_independent_program() {
    check_creations(Variant::StaticPie);
}

#[test]
fn a_creation_in_a_stripped_program_has_the_addresses_and_says_why_names_are_missing() {
    let mut program = Program::ready("creators", Variant::Stripped);
    let lines = program.passed();
    let places = lines.iter().find(|line| line.starts_with("functions ")).unwrap();
    let pid = program.pid().to_string();
    let mut leakprobe = Running::record(&["attach", "-p", &pid, "-i", "50ms", "-m", "0s"]);
    leakprobe.attached();
    program.ask("outer by-main", "created ");
    settle(program.pid());
    let recording = leakprobe.stop();

    let created = creation(&recording, "by-main");
    assert!(created.known, "{created:?}");
    let frames = stack_of(&recording, &created.stack);
    let shown: Vec<String> = frames.iter().map(|frame| label(frame)).collect();
    let own: Vec<_> = frames.iter().filter(|frame| frame.module_name() == "creators-stripped").collect();
    // create, inner, middle, outer, main, _start; start is inlined.
    assert!(own.len() >= 6, "{shown:?}");
    for frame in &own {
        assert!(frame.function.is_empty() && frame.unknown.is_some(), "{shown:?}");
        assert_eq!(frame.label(), format!("[creators-stripped+{}]", frame.address));
    }
    let addresses: Vec<i64> =
        own.iter().map(|frame| i64::from_str_radix(frame.address.trim_start_matches("0x"), 16).unwrap()).collect();
    let mut from = 0;
    for function in ["inner", "middle", "outer", "main"] {
        let begin = Program::field(places, function);
        let found = addresses[from..]
            .iter()
            .position(|address| (begin..begin + 2048).contains(address) && !is_in_another(places, function, *address));
        from += 1 + found.unwrap_or_else(|| panic!("no address of {function} in {addresses:x?} from {from}: {places}"));
    }
    // Exported names are still there: those of libc.
    assert!(
        frames.iter().any(|frame| frame.module_name().starts_with("libc") && !frame.function.is_empty()),
        "{shown:?}"
    );
    // And the park stack.
    let parked = task_named(&recording, "by-main");
    assert_eq!(parked.stack_end, StackEnd::Complete);
    let idle = Program::field(places, "idle");
    let stack = stack_of(&recording, &parked.stack);
    let in_idle = |address: &str| {
        (idle..idle + 256).contains(&i64::from_str_radix(address.trim_start_matches("0x"), 16).unwrap())
    };
    assert!(
        stack.iter().any(|frame| frame.module_name() == "creators-stripped" && in_idle(&frame.address)),
        "{parked:?}"
    );
}

/// Whether one of the functions that the program told of begins between `function` and `address`.
fn is_in_another(places: &str, function: &str, address: i64) -> bool {
    let begin = Program::field(places, function);
    ["inner", "middle", "outer", "other", "main", "idle"]
        .iter()
        .any(|other| (begin + 1..=address).contains(&Program::field(places, other)))
}

#[test]
fn parked_threads_are_grouped_by_creator() {
    let (mut program, leakprobe) = attached(Variant::Pie, &["-m", "0s"]);
    for n in 0..3 {
        program.ask(&format!("outer a{n}"), "created ");
    }
    for n in 0..2 {
        program.ask(&format!("other b{n}"), "created ");
    }
    settle(program.pid());
    let recording = leakprobe.stop();
    let site_of = |name: &str| &recording.sites[task_named(&recording, name).site.unwrap() as usize];
    let (a, b) = (site_of("a0"), site_of("b0"));
    assert_eq!((a.count, b.count), (3, 2));
    assert_eq!((a.created_while_watched, b.created_while_watched), (3, 2));
    assert_ne!(a.id, b.id);
    assert_eq!(functions(&recording, &a.stack), functions(&recording, &b.stack), "they park at the same place");
    chain(&recording, &a.creation, &["inner", "middle", "outer", "main"]);
    chain(&recording, &b.creation, &["inner", "other", "main"]);
    assert_eq!(b.names, ["b0", "b1"]);
    // Every task knows its site, and every site its tasks.
    for (place, site) in recording.sites.iter().enumerate() {
        let members = recording.tasks.iter().filter(|task| task.site == Some(place as u32)).count() as u64;
        assert_eq!(site.count, members, "{site:?}");
    }
}

#[test]
fn the_same_program_has_the_same_sites_in_another_run() {
    let run = || {
        let (mut program, leakprobe) = attached(Variant::Pie, &["-m", "0s"]);
        program.ask("outer a", "created ");
        settle(program.pid());
        let recording = leakprobe.stop();
        recording.sites[task_named(&recording, "a").site.unwrap() as usize].id.clone()
    };
    assert_eq!(run(), run());
}

#[test]
fn a_creation_stack_deeper_than_what_is_read_keeps_its_innermost_frames_and_says_so() {
    let (mut program, leakprobe) = attached(Variant::Pie, &[]);
    program.ask("deep 40", "created ");
    settle(program.pid());
    let recording = leakprobe.stop();
    let created = creation(&recording, "deep");
    chain(&recording, &created.stack, &["create", "dig", "dig", "dig"]);
    let shown = functions(&recording, &created.stack);
    assert!(!shown.iter().any(|name| name == "main"), "{shown:?}");
    assert_eq!(recording.losses.get(&Loss::EventStackTooDeep), Some(&1), "{:?}", recording.losses);
}

#[test]
fn a_park_stack_is_read_however_deep_it_is() {
    // 200 frames of 2 KB are 400 KB: far more than one read.
    let mut program = Program::ready("creators", Variant::Pie);
    let pid = program.pid().to_string();
    settle(program.pid());
    program.say("park-deep 200");
    program.expect("parking");
    settle(program.pid());
    let recording = crate::support::record(&["snapshot", "-p", &pid]);
    let main = task(&recording, u64::from(program.pid()));
    assert_eq!(main.stack_end, StackEnd::Complete, "{:?}", functions(&recording, &main.stack));
    let frames = functions(&recording, &main.stack);
    assert_eq!(frames.iter().filter(|name| *name == "dig").count(), 201, "{frames:?}");
    assert_eq!(frames.last().map(String::as_str), Some("_start"));
}

#[test]
fn a_creation_flood_at_600_a_second_keeps_its_stacks() {
    let mut program = Program::ready("churn", Variant::Pie);
    settle(program.pid());
    // By default: within 1 % of one core. A guest takes some ten times as long for everything.
    let options: &[&str] = if in_guest() { &["--max-overhead", "20%"] } else { &[] };
    let leakprobe = attach(&program, options);
    let answer = program.ask("rate 600 4", "");
    let created: u64 = answer.split_whitespace().next().unwrap().parse().unwrap();
    let recording = leakprobe.stop();
    assert!(created > 0);
    assert_eq!(recording.coverage.created, created);
    for loss in [Loss::CreationStackRateLimited, Loss::RingFullStack, Loss::EventStackUnreadable, Loss::RegsUnreadable]
    {
        assert!(!recording.losses.contains_key(&loss), "{:?}", recording.losses);
    }
}
