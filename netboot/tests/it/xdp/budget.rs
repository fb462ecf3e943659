//! What the program may cost: `netboot-ebpf/budget.json`, compared with what it costs.
//!
//! Instructions and stack are of the object file: the same on all machines, since compiler and linker are pinned; another
//! LLVM behind the linker may change them. What the verifier walks through and what the kernel makes of the program
//! differs between kernels: on the release that the file names it may be a little more, on any other half as much
//! again, so that the file says something on all. Machine code is not compared, for it depends on the processor too.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;

use aya::Ebpf;
use aya::programs::Program;
use serde::Deserialize;

use super::object;

const FILE: &str = "netboot-ebpf/budget.json";
static BUDGET: &str = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/../netboot-ebpf/budget.json"));
static OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/netboot-ebpf"));

/// Percent that a figure of the kernel may be above its bound: on the release that the file names, and on others.
const AIR: (u32, u32) = (2, 50);
/// Percent that a figure may be below its bound: what was saved is not to be lost again unseen.
const SAVED: u32 = 10;

#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct Budget {
    /// The release on which the figures of the kernel were taken, such as `6.18`.
    kernel: String,
    programs: BTreeMap<String, Figures>,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields)]
struct Figures {
    /// In the object file, with the functions that it calls.
    instructions: u32,
    /// Of the deepest chain of calls, as the object file has it.
    stack_bytes: u32,
    /// How many the verifier looked at, on all paths.
    verified_instructions: u32,
    /// The program's size in the kernel.
    translated_bytes: u32,
}

impl Figures {
    /// Each figure with its name, and whether it is the kernel's.
    fn each(self) -> [(&'static str, u32, bool); 4] {
        [
            ("instructions", self.instructions, false),
            ("stack_bytes", self.stack_bytes, false),
            ("verified_instructions", self.verified_instructions, true),
            ("translated_bytes", self.translated_bytes, true),
        ]
    }
}

/// What is wrong between budget and programs on a kernel of this release, a sentence each.
fn wrong(budget: &Budget, programs: &BTreeMap<String, Figures>, release: &str) -> Vec<String> {
    let at_home =
        release.strip_prefix(&budget.kernel).is_some_and(|rest| !rest.starts_with(char::is_numeric));
    let mut wrong = Vec::new();
    let names: BTreeSet<&String> = budget.programs.keys().chain(programs.keys()).collect();
    for name in names {
        let (bounds, figures) = match (budget.programs.get(name), programs.get(name)) {
            (Some(bounds), Some(figures)) => (bounds, figures),
            (None, _) => {
                wrong.push(format!("the program {name} has no budget: write its figures into {FILE}"));
                continue;
            }
            (_, None) => {
                wrong.push(format!("{FILE} has a budget for {name}, which is no program: take it out"));
                continue;
            }
        };
        for ((figure, bound, kernels), (_, is, _)) in bounds.each().into_iter().zip(figures.each()) {
            let percent = match (kernels, at_home) {
                (false, _) => 0,
                (true, true) => AIR.0,
                (true, false) => AIR.1,
            };
            let worth = if kernels && !at_home {
                format!("what it is on Linux {}", budget.kernel)
            } else {
                is.to_string()
            };
            if is > bound + bound * percent / 100 {
                wrong.push(format!(
                    "{figure} of {name} grew from {bound} to {is}: make it smaller, or write {worth} into {FILE} \
                     and say in the commit what it is good for"
                ));
            } else if is < bound - bound * SAVED / 100 && (at_home || !kernels) {
                wrong.push(format!(
                    "{figure} of {name} shrank from {bound} to {is}: write {is} into {FILE}, so that it stays small"
                ));
            }
        }
    }
    wrong
}

/// What each program of the object file costs on this kernel.
fn measured() -> BTreeMap<String, Figures> {
    let mut of_object = object::programs(OBJECT);
    let mut ebpf = Ebpf::load(OBJECT).unwrap();
    let mut figures = BTreeMap::new();
    for (name, program) in ebpf.programs_mut() {
        let Program::Xdp(program) = program else { panic!("{name} is no XDP program: load it here") };
        program.load().unwrap_or_else(|error| panic!("{name}: {error}"));
        let info = program.info().unwrap();
        let (instructions, stack_bytes) = of_object.remove(name).unwrap();
        let costs = Figures {
            instructions,
            stack_bytes,
            verified_instructions: info.verified_instruction_count().unwrap(),
            translated_bytes: info.size_translated().unwrap(),
        };
        figures.insert(name.to_owned(), costs);
    }
    assert!(of_object.is_empty(), "not loaded: {:?}", of_object.keys());
    figures
}

#[test]
fn the_program_costs_no_more_than_its_budget() {
    let uname = rustix::system::uname();
    let release = uname.release().to_str().unwrap();
    let programs = measured();
    let budget: Budget = serde_json::from_str(BUDGET).unwrap_or_else(|error| panic!("{FILE}: {error}"));
    for (name, figures) in &programs {
        let figures =
            figures.each().map(|(figure, is, _)| format!("{is} {figure}").replace('_', " ")).join(", ");
        #[allow(clippy::explicit_write, reason = "eprintln is captured by the test runner")]
        writeln!(std::io::stderr(), "program {name} on Linux {release}: {figures}").unwrap();
    }
    let wrong = wrong(&budget, &programs, release);
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn a_budget_that_is_too_small_or_too_large_is_noticed() {
    let bounds = Figures {
        instructions: 1000,
        stack_bytes: 200,
        verified_instructions: 10_000,
        translated_bytes: 5000,
    };
    let budget = Budget { kernel: "6.1".to_owned(), programs: [("answer".to_owned(), bounds)].into() };
    let (home, away) = ("6.1.99-generic", "6.18.2");
    let table = [
        ("all as written", bounds, home, None),
        ("all as written, elsewhere", bounds, away, None),
        (
            "one instruction more",
            Figures { instructions: 1001, ..bounds },
            home,
            Some("instructions of answer grew from 1000 to 1001"),
        ),
        (
            "one more, elsewhere",
            Figures { instructions: 1001, ..bounds },
            away,
            Some("instructions of answer grew from 1000 to 1001"),
        ),
        (
            "stack",
            Figures { stack_bytes: 208, ..bounds },
            home,
            Some("stack_bytes of answer grew from 200 to 208"),
        ),
        ("a little more to verify", Figures { verified_instructions: 10_200, ..bounds }, home, None),
        (
            "more",
            Figures { verified_instructions: 10_201, ..bounds },
            home,
            Some("verified_instructions of answer grew from 10000 to 10201"),
        ),
        ("that much elsewhere", Figures { verified_instructions: 15_000, ..bounds }, away, None),
        (
            "more than that",
            Figures { verified_instructions: 15_001, ..bounds },
            away,
            Some("verified_instructions of answer grew from 10000 to 15001"),
        ),
        (
            "size",
            Figures { translated_bytes: 5101, ..bounds },
            home,
            Some("translated_bytes of answer grew from 5000 to 5101"),
        ),
        ("a little less", Figures { instructions: 900, verified_instructions: 9000, ..bounds }, home, None),
        (
            "less",
            Figures { instructions: 899, ..bounds },
            away,
            Some("instructions of answer shrank from 1000 to 899"),
        ),
        (
            "less to verify",
            Figures { verified_instructions: 8999, ..bounds },
            home,
            Some("verified_instructions of answer shrank from 10000 to 8999"),
        ),
        ("less to verify, elsewhere", Figures { verified_instructions: 100, ..bounds }, away, None),
    ];
    for (case, figures, release, expected) in table {
        let programs = [("answer".to_owned(), figures)].into();
        let wrong = wrong(&budget, &programs, release);
        assert_eq!(wrong.len(), usize::from(expected.is_some()), "{case}: {wrong:?}");
        let said = wrong.first().map_or("", String::as_str);
        assert!(said.starts_with(expected.unwrap_or_default()), "{case}: {said}");
        assert!(said.is_empty() || said.contains(FILE), "{case}: {said}");
    }

    let grown = |release| {
        let costs = Figures { verified_instructions: 20_000, ..bounds };
        wrong(&budget, &[("answer".to_owned(), costs)].into(), release).concat()
    };
    assert!(grown(home).contains("or write 20000 into"), "{}", grown(home));
    assert!(grown(away).contains("or write what it is on Linux 6.1 into"), "{}", grown(away));

    let programs = [("other".to_owned(), bounds)].into();
    let wrong = wrong(&budget, &programs, home);
    assert_eq!(wrong.len(), 2, "{wrong:?}");
    assert!(wrong[0].contains("has a budget for answer, which is no program"), "{wrong:?}");
    assert!(wrong[1].starts_with("the program other has no budget"), "{wrong:?}");
}
