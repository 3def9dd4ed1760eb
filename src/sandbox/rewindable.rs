//! Proves from a runtime component's code that rewinding its memory and calling `reset` equals making a new instance.
//!
//! Owns: the rules below. Never: trusts what built the component, or the guest's good behaviour.
//!
//! The state of an instance is its linear memory, its mutable globals, its tables, and which of its passive segments have been dropped.
//! The check assumes that a script owns the linear memory completely and can reach any function, and demands that
//! - there is exactly one memory, and no data segment writes to it (its initial content is the base image);
//! - no instruction changes a table or drops a segment, anywhere;
//! - every mutable global, whether or not any code sets it, is set by the export `reset` to its initial value;
//! - each core module has one instance, and no nested component hides another.

use std::collections::HashMap;

use wasmparser::{
    CanonicalFunction, ComponentAlias, ComponentExternalKind, ComponentTypeRef, ConstExpr, Encoding, ExternalKind,
    FunctionBody, Instance, Operator, Parser, Payload, TypeRef,
};

/// The export that sets every mutable global to its initial value.
pub const RESET_EXPORT: &str = "reset";

/// Which rule a component breaks.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotRewindable {
    /// Not a component, or damaged.
    #[error("the runtime is no valid component: {0}")]
    Malformed(String),
    /// Rule: one memory.
    #[error("the runtime has {0} memories instead of one")]
    Memories(usize),
    /// Rule: no data segments.
    #[error("core module {module} has data segments")]
    DataSegments {
        /// Index of the core module.
        module: usize,
    },
    /// Rule: no instruction that changes tables or segments.
    #[error("core module {module} uses the instruction {instruction}, whose effect cannot be rewound")]
    Instruction {
        /// Index of the core module.
        module: usize,
        /// For example `TableSet`.
        instruction: String,
    },
    /// Rule: `reset` covers every mutable global.
    #[error("mutable global {global} of core module {module} is not set to its initial value by `{RESET_EXPORT}`")]
    Global {
        /// Index of the core module.
        module: usize,
        /// Index of the global in it.
        global: u32,
    },
    /// Rule: `reset` exists and only sets globals to constants.
    #[error("the export `{RESET_EXPORT}` is not a list of global.set with constants: {0}")]
    Reset(&'static str),
    /// Rule: one instance each, no hidden ones.
    #[error("{0}")]
    Structure(&'static str),
}

impl From<wasmparser::BinaryReaderError> for NotRewindable {
    fn from(error: wasmparser::BinaryReaderError) -> Self {
        Self::Malformed(error.to_string())
    }
}

/// Checks the rules of this module.
///
/// # Errors
/// With the first rule that `component` breaks.
pub fn check(component: &[u8]) -> Result<(), NotRewindable> {
    let anatomy = Anatomy::read(component)?;
    if anatomy.n_memories != 1 {
        return Err(NotRewindable::Memories(anatomy.n_memories));
    }
    let reset = anatomy.resolve_reset()?;
    for module in 0..anatomy.modules.len() {
        if anatomy.instances_of(module) > 1 {
            return Err(NotRewindable::Structure("a core module is instantiated more than once"));
        }
        for (global, initial) in &anatomy.modules[module].mutable_globals {
            if initial.is_none() || reset.get(&(module, *global)) != initial.as_ref() {
                return Err(NotRewindable::Global { module, global: *global });
            }
        }
    }
    Ok(())
}

/// A constant, as its bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Constant {
    I32(i32),
    I64(i64),
    F32(u32),
    F64(u64),
}

impl Constant {
    fn of(operator: &Operator<'_>) -> Option<Self> {
        match operator {
            Operator::I32Const { value } => Some(Self::I32(*value)),
            Operator::I64Const { value } => Some(Self::I64(*value)),
            Operator::F32Const { value } => Some(Self::F32(value.bits())),
            Operator::F64Const { value } => Some(Self::F64(value.bits())),
            _ => None,
        }
    }

    /// The value of an expression that is one constant.
    fn of_expression(expression: &ConstExpr<'_>) -> Option<Self> {
        let mut operators = expression.get_operators_reader();
        let constant = Self::of(&operators.read().ok()?)?;
        matches!(operators.read(), Ok(Operator::End)).then_some(constant)
    }
}

#[derive(Default)]
struct Module<'a> {
    imported_globals: Vec<(&'a str, &'a str)>,
    n_imports: usize,
    n_globals: u32,
    /// Index and initial value; no value if it is not a constant.
    mutable_globals: Vec<(u32, Option<Constant>)>,
    exports: HashMap<&'a str, (ExternalKind, u32)>,
    /// Bodies, only while they are few: `reset` stands alone in its module.
    only_body: Option<FunctionBody<'a>>,
    n_bodies: usize,
}

enum CoreInstance<'a> {
    Module { module: usize, args: HashMap<&'a str, usize> },
    Exports,
}

/// The parts of a component that the rules speak of.
#[derive(Default)]
struct Anatomy<'a> {
    modules: Vec<Module<'a>>,
    n_memories: usize,
    core_instances: Vec<CoreInstance<'a>>,
    /// Where each core function of the component comes from, if it is an export of an instance.
    core_functions: Vec<Option<(usize, &'a str)>>,
    /// The core function that each function of the component lifts, if it does.
    functions: Vec<Option<usize>>,
    reset: Option<usize>,
}

impl<'a> Anatomy<'a> {
    fn read(component: &'a [u8]) -> Result<Self, NotRewindable> {
        let mut anatomy = Self::default();
        // What the parser is inside of, outermost first.
        let mut inside: Vec<Encoding> = Vec::new();
        for payload in Parser::new(0).parse_all(component) {
            match (payload?, inside.as_slice()) {
                (Payload::Version { encoding, .. }, _) => inside.push(encoding),
                (Payload::End(_), _) => _ = inside.pop(),
                (Payload::ModuleSection { .. }, [Encoding::Component]) => anatomy.modules.push(Module::default()),
                (Payload::ModuleSection { .. }, _) => {
                    return Err(NotRewindable::Structure("a nested component holds a core module"));
                }
                (payload, [Encoding::Component]) => anatomy.read_component_section(payload)?,
                (payload, [.., Encoding::Module]) => anatomy.read_module_section(payload)?,
                // Nested components without core modules hold types and renamings, no state.
                _ => {}
            }
        }
        Ok(anatomy)
    }

    fn read_module_section(&mut self, payload: Payload<'a>) -> Result<(), NotRewindable> {
        let index = self.modules.len().wrapping_sub(1);
        let Some(module) = self.modules.last_mut() else {
            return Err(NotRewindable::Structure("it is a core module, not a component"));
        };
        match payload {
            Payload::ImportSection(section) => {
                for import in section.into_imports() {
                    let import = import?;
                    module.n_imports += 1;
                    if matches!(import.ty, TypeRef::Global(_)) {
                        module.imported_globals.push((import.module, import.name));
                        module.n_globals += 1;
                    }
                }
            }
            Payload::MemorySection(section) => self.n_memories += section.count() as usize,
            Payload::DataSection(section) if section.count() > 0 => {
                return Err(NotRewindable::DataSegments { module: index });
            }
            Payload::GlobalSection(section) => {
                for global in section {
                    let global = global?;
                    if global.ty.mutable {
                        module.mutable_globals.push((module.n_globals, Constant::of_expression(&global.init_expr)));
                    }
                    module.n_globals += 1;
                }
            }
            Payload::ExportSection(section) => {
                for export in section {
                    let export = export?;
                    module.exports.insert(export.name, (export.kind, export.index));
                }
            }
            Payload::CodeSectionEntry(body) => {
                module.n_bodies += 1;
                check_instructions(index, &body)?;
                module.only_body = (module.n_bodies == 1).then_some(body);
            }
            _ => {}
        }
        Ok(())
    }

    fn read_component_section(&mut self, payload: Payload<'a>) -> Result<(), NotRewindable> {
        match payload {
            Payload::InstanceSection(section) => {
                for instance in section {
                    self.core_instances.push(match instance? {
                        Instance::Instantiate { module_index, args } => CoreInstance::Module {
                            module: module_index as usize,
                            args: args.iter().map(|arg| (arg.name, arg.index as usize)).collect(),
                        },
                        Instance::FromExports(_) => CoreInstance::Exports,
                    });
                }
            }
            Payload::ComponentAliasSection(section) => {
                for alias in section {
                    match alias? {
                        ComponentAlias::CoreInstanceExport { kind: ExternalKind::Func, instance_index, name } => {
                            self.core_functions.push(Some((instance_index as usize, name)));
                        }
                        ComponentAlias::InstanceExport { kind: ComponentExternalKind::Func, .. } => {
                            self.functions.push(None);
                        }
                        _ => {}
                    }
                }
            }
            Payload::ComponentCanonicalSection(section) => {
                for function in section {
                    match function? {
                        CanonicalFunction::Lift { core_func_index, .. } => {
                            self.functions.push(Some(core_func_index as usize));
                        }
                        _ => self.core_functions.push(None),
                    }
                }
            }
            Payload::ComponentImportSection(section) => {
                for import in section {
                    if matches!(import?.ty, ComponentTypeRef::Func(_)) {
                        self.functions.push(None);
                    }
                }
            }
            Payload::ComponentExportSection(section) => {
                for export in section {
                    let export = export?;
                    if export.kind == ComponentExternalKind::Func {
                        let lifted = self.functions.get(export.index as usize).copied().flatten();
                        self.functions.push(lifted);
                        if export.name.name == RESET_EXPORT {
                            self.reset = lifted;
                        }
                    }
                }
            }
            Payload::ComponentStartSection { .. } => {
                return Err(NotRewindable::Structure("the component has a start function"));
            }
            _ => {}
        }
        Ok(())
    }

    fn instances_of(&self, module: usize) -> usize {
        self.core_instances
            .iter()
            .filter(|i| matches!(i, CoreInstance::Module { module: m, .. } if *m == module))
            .count()
    }

    /// The globals (module, index) that `reset` sets, with their values.
    fn resolve_reset(&self) -> Result<HashMap<(usize, u32), Constant>, NotRewindable> {
        let function = self.reset.ok_or(NotRewindable::Reset("there is no such export"))?;
        let (instance, name) = self
            .core_functions
            .get(function)
            .copied()
            .flatten()
            .ok_or(NotRewindable::Reset("it is not of a core module"))?;
        let Some(CoreInstance::Module { module, args }) = self.core_instances.get(instance) else {
            return Err(NotRewindable::Reset("it is not of a core module"));
        };
        let module = self.modules.get(*module).ok_or(NotRewindable::Reset("its module does not exist"))?;
        if module.n_imports != module.imported_globals.len()
            || module.exports.get(name) != Some(&(ExternalKind::Func, 0))
        {
            return Err(NotRewindable::Reset("its module does more than set globals"));
        }
        let body = module.only_body.as_ref().ok_or(NotRewindable::Reset("its module does more than set globals"))?;
        let mut values = HashMap::new();
        for (global, value) in constant_assignments(body)? {
            let (from, name) = module
                .imported_globals
                .get(global as usize)
                .ok_or(NotRewindable::Reset("it sets a global of its own"))?;
            let Some(CoreInstance::Module { module, .. }) =
                args.get(from).and_then(|instance| self.core_instances.get(*instance))
            else {
                return Err(NotRewindable::Reset("it sets a global of unknown origin"));
            };
            let Some((ExternalKind::Global, index)) = self.modules.get(*module).and_then(|m| m.exports.get(name))
            else {
                return Err(NotRewindable::Reset("it sets a global of unknown origin"));
            };
            values.insert((*module, *index), value);
        }
        Ok(values)
    }
}

/// Reads a body that consists of `const` and `global.set` in turns.
fn constant_assignments(body: &FunctionBody<'_>) -> Result<Vec<(u32, Constant)>, NotRewindable> {
    let mut assignments = Vec::new();
    let mut operators = body.get_operators_reader()?;
    loop {
        let operator = operators.read()?;
        if matches!(operator, Operator::End) && operators.eof() {
            return Ok(assignments);
        }
        let value = Constant::of(&operator).ok_or(NotRewindable::Reset("it contains other instructions"))?;
        let Operator::GlobalSet { global_index } = operators.read()? else {
            return Err(NotRewindable::Reset("it contains other instructions"));
        };
        assignments.push((global_index, value));
    }
}

/// Refuses instructions whose effect neither memory nor `reset` brings back.
fn check_instructions(module: usize, body: &FunctionBody<'_>) -> Result<(), NotRewindable> {
    let mut operators = body.get_operators_reader()?;
    while !operators.eof() {
        let operator = operators.read()?;
        if matches!(
            operator,
            Operator::TableSet { .. }
                | Operator::TableGrow { .. }
                | Operator::TableFill { .. }
                | Operator::TableInit { .. }
                | Operator::TableCopy { .. }
                | Operator::MemoryInit { .. }
                | Operator::DataDrop { .. }
                | Operator::ElemDrop { .. }
        ) {
            let debug = format!("{operator:?}");
            let instruction = debug.split([' ', '{']).next().unwrap_or_default().to_owned();
            return Err(NotRewindable::Instruction { module, instruction });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A component with the parts that the rules speak of; each test changes one.
    const GOOD: &str = r#"
        (component
          (core module $main
            (memory (export "memory") 1)
            (table 1 funcref)
            (global $sp (export "sp") (mut i32) (i32.const 1024))
            (global $scale (export "scale") (mut f64) (f64.const 0.5))
            (global $fixed i32 (i32.const 7))
            (func (export "run") (nop) (global.set $sp (i32.const 1)) (drop (memory.grow (i32.const 1))))
          )
          (core module $reset
            (import "main" "sp" (global $sp (mut i32)))
            (import "main" "scale" (global $scale (mut f64)))
            (func (export "reset") (global.set $sp (i32.const 1024)) (global.set $scale (f64.const 0.5)))
          )
          (core instance $main (instantiate $main))
          (core instance $reset (instantiate $reset (with "main" (instance $main))))
          (func (export "run") (canon lift (core func $main "run")))
          (func (export "reset") (canon lift (core func $reset "reset")))
        )"#;

    fn checked(wat: &str) -> Result<(), NotRewindable> {
        check(&wat::parse_str(wat).unwrap())
    }

    fn changed(from: &str, to: &str) -> Result<(), NotRewindable> {
        assert!(GOOD.contains(from), "{from}");
        checked(&GOOD.replace(from, to))
    }

    #[test]
    fn accepts_a_component_that_keeps_the_rules() {
        assert_eq!(checked(GOOD), Ok(()));
    }

    #[test]
    fn refuses_another_number_of_memories() {
        assert_eq!(
            changed(r#"(memory (export "memory") 1)"#, "(memory 1) (memory 1)"),
            Err(NotRewindable::Memories(2))
        );
        let other_module =
            r#"(core module $other (memory 1)) (core instance (instantiate $other)) (core module $reset"#;
        assert_eq!(changed("(core module $reset", other_module), Err(NotRewindable::Memories(2)));
        let none =
            GOOD.replace(r#"(memory (export "memory") 1)"#, "").replace("(drop (memory.grow (i32.const 1)))", "");
        assert_eq!(checked(&none), Err(NotRewindable::Memories(0)));
    }

    #[test]
    fn refuses_data_segments() {
        for data in [r#"(data (i32.const 0) "x")"#, r#"(data "x")"#] {
            assert_eq!(
                changed("(table 1 funcref)", &format!("(table 1 funcref) {data}")),
                Err(NotRewindable::DataSegments { module: 0 })
            );
        }
    }

    #[test]
    fn refuses_each_instruction_that_changes_tables_or_segments() {
        for (instruction, name) in [
            ("(table.set 0 (i32.const 0) (ref.null func))", "TableSet"),
            ("(drop (table.grow 0 (ref.null func) (i32.const 1)))", "TableGrow"),
            ("(table.fill 0 (i32.const 0) (ref.null func) (i32.const 1))", "TableFill"),
            ("(table.copy (i32.const 0) (i32.const 0) (i32.const 1))", "TableCopy"),
            ("(table.init 0 (i32.const 0) (i32.const 0) (i32.const 1))", "TableInit"),
            ("(elem.drop 0)", "ElemDrop"),
        ] {
            let wat = GOOD.replace("(table 1 funcref)", "(table 1 funcref) (elem func 0)");
            let wat = wat.replace("(nop)", instruction);
            assert_eq!(checked(&wat), Err(NotRewindable::Instruction { module: 0, instruction: name.to_owned() }));
        }
    }

    #[test]
    fn refuses_memory_segments_used_at_run_time() {
        // A module that declares no data section but a data count is invalid, so these come with segments, which are
        // refused as soon as they appear; code stands before data in a module, so the instruction is seen first.
        for (instruction, name) in
            [("(memory.init 0 (i32.const 0) (i32.const 0) (i32.const 1))", "MemoryInit"), ("(data.drop 0)", "DataDrop")]
        {
            let wat = GOOD.replace("(table 1 funcref)", r#"(table 1 funcref) (data "x")"#);
            let wat = wat.replace("(nop)", instruction);
            assert_eq!(checked(&wat), Err(NotRewindable::Instruction { module: 0, instruction: name.to_owned() }));
        }
    }

    #[test]
    fn refuses_a_global_that_reset_forgets_or_sets_to_something_else() {
        let global = |global| Err(NotRewindable::Global { module: 0, global });
        assert_eq!(changed("(global.set $scale (f64.const 0.5)))", ")"), global(1));
        assert_eq!(changed("(global.set $sp (i32.const 1024)) (", "(global.set $sp (i32.const 1023)) ("), global(0));
        assert_eq!(changed("(global $fixed i32", "(global $fixed (mut i32)"), global(2));
        let other_module = "(core module $other (global (mut i64) (i64.const 3))) (core instance (instantiate $other)) (core module $reset";
        assert_eq!(changed("(core module $reset", other_module), Err(NotRewindable::Global { module: 1, global: 0 }));
    }

    #[test]
    fn refuses_a_reset_that_does_anything_else() {
        let other = Err(NotRewindable::Reset("it contains other instructions"));
        assert_eq!(changed("(global.set $scale (f64.const 0.5)))", "(global.set $scale (global.get $scale)))"), other);
        let absent = Err(NotRewindable::Reset("there is no such export"));
        assert_eq!(changed(r#"(func (export "reset") (canon"#, r#"(func (export "resets") (canon"#), absent);
        let more = Err(NotRewindable::Reset("its module does more than set globals"));
        assert_eq!(changed(r#"(func (export "reset") (global"#, r#"(func) (func (export "reset") (global"#), more);
    }

    #[test]
    fn refuses_hidden_or_repeated_instances() {
        let repeated = Err(NotRewindable::Structure("a core module is instantiated more than once"));
        assert_eq!(
            changed(
                "(core instance $main (instantiate $main))",
                "(core instance $main (instantiate $main)) (core instance (instantiate $main))"
            ),
            repeated
        );
        let hidden = Err(NotRewindable::Structure("a nested component holds a core module"));
        assert_eq!(changed("(core module $reset", "(component (core module)) (core module $reset"), hidden);
    }

    #[test]
    fn refuses_what_is_no_component() {
        assert!(matches!(check(b""), Err(NotRewindable::Malformed(_) | NotRewindable::Memories(0))));
        assert!(matches!(check(b"\0asm nonsense"), Err(NotRewindable::Malformed(_))));
        assert!(check(&wat::parse_str("(module (memory 1))").unwrap()).is_err());
    }
}
