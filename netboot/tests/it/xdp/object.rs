//! What the object file says of a program: its instructions, with those of the functions that it calls, and its stack.
//!
//! Neither depends on the kernel. The stack is read off the instructions: how far below the frame pointer they reach,
//! in the deepest chain of calls. Copies of the frame pointer are followed from one line to the next, not through jumps,
//! which is how the compiler uses them. The kernel adds some of its own (24 bytes where it puts `bpf_loop` in line).

use std::collections::{BTreeMap, BTreeSet};

use aya_obj::Object;
use aya_obj::generated::{BPF_PSEUDO_CALL, BPF_PSEUDO_FUNC, bpf_insn};

const CALL: u8 = 0x85;
const LOAD_WIDE: u8 = 0x18;
const MOVE: u8 = 0xbf;
const ADD_NUMBER: u8 = 0x07;
const FRAME: usize = 10;
/// The kernel's own limit.
const DEEPEST_CHAIN: usize = 8;

/// Instructions and bytes of stack of each program in an object file, by name.
pub(super) fn programs(object: &[u8]) -> BTreeMap<String, (u32, u32)> {
    let mut object = Object::parse(object).unwrap();
    let text = object.functions.keys().map(|(section, _)| *section).collect();
    object.relocate_calls(&text).unwrap();
    let figures = object.programs.iter().map(|(name, program)| {
        let code = &object.functions[&program.function_key()].instructions;
        (name.clone(), (u32::try_from(code.len()).unwrap(), deepest(code, 0, DEEPEST_CHAIN)))
    });
    figures.collect()
}

/// Bytes of stack of the function that begins there, with the deepest that it calls.
fn deepest(code: &[bpf_insn], start: usize, chain: usize) -> u32 {
    assert!(chain > 0, "more than {DEEPEST_CHAIN} calls within each other");
    let starts: BTreeSet<usize> = (0..code.len()).filter_map(|at| callee(code, at)).collect();
    let end = starts.range(start + 1..).next().copied().unwrap_or(code.len());
    let called: BTreeSet<usize> = (start..end).filter_map(|at| callee(code, at)).collect();
    let below = called.into_iter().map(|callee| deepest(code, callee, chain - 1)).max();
    own(&code[start..end]) + below.unwrap_or(0)
}

/// The first instruction of the function that this one calls or hands to a helper.
fn callee(code: &[bpf_insn], at: usize) -> Option<usize> {
    let instruction = code[at];
    let source = u32::from(instruction.src_reg());
    let calls = (instruction.code == CALL && source == BPF_PSEUDO_CALL)
        || (instruction.code == LOAD_WIDE && source == BPF_PSEUDO_FUNC);
    calls.then(|| (at + 1).checked_add_signed(isize::try_from(instruction.imm).unwrap()).unwrap())
}

/// How far below the frame pointer the instructions of one function reach.
fn own(code: &[bpf_insn]) -> u32 {
    let mut lowest = 0;
    // Which registers point into the frame, and where.
    let mut frame: [Option<i32>; 11] = [None; 11];
    frame[FRAME] = Some(0);
    for instruction in code {
        let (to, from) = (usize::from(instruction.dst_reg()), usize::from(instruction.src_reg()));
        let mut reach = |base: Option<i32>, by: i32| {
            let place = base.map(|base| base + by);
            lowest = lowest.min(place.unwrap_or(0));
            place
        };
        match (instruction.code & 7, instruction.code) {
            // Loads, then stores.
            (1, _) => {
                reach(frame[from], instruction.off.into());
                frame[to] = None;
            }
            (2 | 3, _) => {
                reach(frame[to], instruction.off.into());
            }
            (_, MOVE) => frame[to] = frame[from],
            (_, ADD_NUMBER) => frame[to] = reach(frame[to], instruction.imm),
            (_, CALL) => frame[..=5].fill(None),
            // Other arithmetic, and numbers of 64 bits.
            (4 | 7, _) | (_, LOAD_WIDE) => frame[to] = None,
            _ => {}
        }
    }
    lowest.unsigned_abs()
}

#[test]
fn the_stack_is_what_the_deepest_chain_of_calls_reaches() {
    const EXIT: [u8; 8] = [0x95, 0, 0, 0, 0, 0, 0, 0];
    let store = |to: u8, by: i8| [0x7b, to, by.cast_unsigned(), 0xff, 0, 0, 0, 0];
    let copy = |to: u8, from: u8| [MOVE, from << 4 | to, 0, 0, 0, 0, 0, 0];
    let add = |to: u8, by: i8| [ADD_NUMBER, to, 0, 0, by.cast_unsigned(), 0xff, 0xff, 0xff];
    let call = |ahead: u8| [CALL, 0x10, 0, 0, ahead, 0, 0, 0];
    let helper = [CALL, 0, 0, 0, 1, 0, 0, 0];
    let hand = |ahead: u8| [LOAD_WIDE, 0x42, 0, 0, ahead, 0, 0, 0];
    let table: &[(&str, &[[u8; 8]], u32)] = &[
        ("nothing", &[EXIT], 0),
        ("a store", &[store(10, -8), EXIT], 8),
        ("a store of less depth after it", &[store(10, -40), store(10, -8), EXIT], 40),
        ("a load", &[[0x79, 0xa1, 0xe8, 0xff, 0, 0, 0, 0], EXIT], 24),
        ("a store elsewhere", &[store(1, -8), EXIT], 0),
        ("an address", &[copy(2, 10), add(2, -28), EXIT], 28),
        ("an address of an address", &[copy(2, 10), add(2, -28), copy(3, 2), store(3, -4), EXIT], 32),
        ("an address that a helper has spent", &[copy(2, 10), helper, add(2, -28), EXIT], 0),
        ("arithmetic of another kind", &[copy(2, 10), [0x57, 2, 0, 0, 7, 0, 0, 0], add(2, -28), EXIT], 0),
        ("a call", &[store(10, -8), call(1), EXIT, store(10, -16), EXIT], 24),
        ("two calls", &[call(2), call(3), EXIT, store(10, -16), EXIT, store(10, -24), EXIT], 24),
        ("a call in a call", &[call(1), EXIT, store(10, -16), call(1), EXIT, store(10, -24), EXIT], 40),
        ("a function for a helper", &[hand(3), [0; 8], helper, EXIT, store(10, -48), EXIT], 48),
    ];
    for (name, code, expected) in table {
        let code = aya_obj::obj::copy_instructions(code.as_flattened()).unwrap();
        assert_eq!(deepest(&code, 0, DEEPEST_CHAIN), *expected, "{name}");
    }
}
