//! Puts the checks of [`limits`] into a compiled template. minijinja's fuel counts instructions and the data that they make; what it
//! takes to read, compare and copy large values, and lists that are concatenated lazily, it doesn't count. So instructions are added:
//! values pass [`limits::KEEP`] before they are stored or when they were put together, and the operands of what walks through them pass
//! [`limits::COST`].

use std::collections::HashSet;

use minijinja::machinery::{Instruction, Instructions};
use minijinja::value::ValueKind;

use crate::limits;

/// minijinja looks a filter up by name each time where its number is this.
const UNNUMBERED: u8 = !0;

fn filter(name: &'static str) -> Instruction<'static> {
    Instruction::ApplyFilter(name, Some(1), UNNUMBERED)
}

/// Applies a filter to the value on top of the stack, and drops what the filter gives.
fn inspect_top(out: &mut Vec<Instruction<'_>>, name: &'static str) {
    out.extend([Instruction::DupTop, filter(name), Instruction::DiscardTop]);
}

/// The same for the value below the top.
fn inspect_second(out: &mut Vec<Instruction<'_>>, name: &'static str) {
    out.push(Instruction::Swap);
    inspect_top(out, name);
    out.push(Instruction::Swap);
}

/// Text, numbers and the like that stand in the template: as an operand they cost no more than the template is long.
fn is_plain_constant(instruction: Option<&Instruction<'_>>) -> bool {
    matches!(instruction, Some(Instruction::LoadConst(value)) if !matches!(value.kind(), ValueKind::Seq | ValueKind::Map | ValueKind::Iterable))
}

fn target_of<'a>(instruction: &'a mut Instruction<'_>) -> Option<&'a mut u32> {
    match instruction {
        Instruction::Iterate(target)
        | Instruction::Jump(target)
        | Instruction::JumpIfFalse(target)
        | Instruction::JumpIfFalseOrPop(target)
        | Instruction::JumpIfTrueOrPop(target)
        | Instruction::BuildMacro(_, target, _) => Some(target),
        _ => None,
    }
}

/// What stands for `instruction`; `constant`: its last operand is a plain constant.
fn guarded<'source>(instruction: &Instruction<'source>, constant: bool) -> Vec<Instruction<'source>> {
    let mut out = Vec::with_capacity(8);
    match instruction {
        Instruction::StoreLocal(_) => out.push(filter(limits::KEEP)),
        Instruction::SetAttr(_) => out.extend([Instruction::Swap, filter(limits::KEEP_ATTRIBUTE), Instruction::Swap]),
        Instruction::GetItem => inspect_second(&mut out, limits::TOUCH),
        // A value compared with a constant, or a test that takes nothing but the value, is looked at once.
        Instruction::Eq | Instruction::Ne | Instruction::Gt | Instruction::Gte | Instruction::Lt | Instruction::Lte if constant => {}
        Instruction::PerformTest(_, Some(1), _) => inspect_top(&mut out, limits::TOUCH),
        Instruction::Eq
        | Instruction::Ne
        | Instruction::Gt
        | Instruction::Gte
        | Instruction::Lt
        | Instruction::Lte
        | Instruction::In
        | Instruction::CompareAndPreserve(_)
        | Instruction::StringConcat
        | Instruction::PerformTest(_, Some(2), _) => {
            inspect_top(&mut out, limits::COST);
            inspect_second(&mut out, limits::COST);
        }
        _ => {}
    }
    out.push(instruction.clone());
    match instruction {
        Instruction::Add if constant => {}
        Instruction::Add | Instruction::Mul | Instruction::BuildList(_) | Instruction::BuildTuple(_) | Instruction::BuildMap(_) | Instruction::Slice => {
            out.push(filter(limits::KEEP));
        }
        Instruction::ApplyFilter(..) | Instruction::CallMethod(..) | Instruction::CallFunction(..) => inspect_top(&mut out, limits::TOUCH),
        _ => {}
    }
    out
}

/// `compiled` with the checks in it; lines stay what they were.
pub fn guard<'source>(compiled: &Instructions<'source>) -> Instructions<'source> {
    let mut originals: Vec<Instruction<'source>> = (0..).map_while(|at| compiled.get(at).cloned()).collect();
    let targets: HashSet<u32> = originals.iter_mut().filter_map(|instruction| target_of(instruction).map(|target| *target)).collect();
    let mut guarded_instructions = Instructions::new(compiled.name(), compiled.source());
    let mut moved = Vec::with_capacity(originals.len() + 1);
    let mut length = 0;
    for (at, instruction) in originals.iter().enumerate() {
        moved.push(length);
        let before = at.checked_sub(1).and_then(|before| originals.get(before));
        let constant = is_plain_constant(before) && !targets.contains(&(at as u32));
        let line = compiled.get_line(at as u32).unwrap_or(0) as u16;
        for added in guarded(instruction, constant) {
            guarded_instructions.add_with_line(added, line);
            length += 1;
        }
    }
    moved.push(length);
    for at in 0..length {
        if let Some(target) = guarded_instructions.get_mut(at).and_then(target_of) {
            *target = moved[*target as usize];
        }
    }
    guarded_instructions
}
