//! Takes data segments out of the core modules and adds the export `reset`.

use anyhow::{Context as _, Result, bail, ensure};
use pqhost::sandbox::rewindable::RESET_EXPORT;
use wasm_encoder::{
    Alias, CanonicalFunctionSection, CodeSection, ComponentAliasSection, ComponentExportKind, ComponentExportSection,
    ComponentTypeSection, ComponentValType, EntityType, ExportKind, ExportSection, Function, FunctionSection,
    ImportSection, InstanceSection, Module, ModuleArg, ModuleSection, RawSection, TypeSection,
    reencode::{Reencode, RoundtripReencoder},
};
use wasmparser::{DataKind, Instance, Operator, Parser, Payload, Validator, WasmFeatures};

const WASM_PAGE_BYTES: usize = 1 << 16;

/// Prefix of the exports that `reset` imports; followed by the global's index.
const GLOBAL_EXPORT: &str = "pqhost:global-";

/// What [`split`] gives.
pub(crate) struct Split {
    /// Code without data.
    pub(crate) component: Vec<u8>,
    /// What the memory holds at first.
    pub(crate) memory: Vec<u8>,
}

/// A mutable global with the constant it starts as.
struct MutableGlobal {
    module: u32,
    index: u32,
    ty: wasm_encoder::GlobalType,
    /// The instructions of its initial value, encoded.
    initial: Vec<u8>,
}

#[derive(Default)]
struct Found {
    memory: Vec<u8>,
    globals: Vec<MutableGlobal>,
    /// Core instance of each core module.
    instances: Vec<(u32, u32)>,
    n_core_instances: u32,
    n_modules: u32,
}

/// Splits a snapshot, in which only the module that owns the memory has active data segments, all at constant offsets.
pub(crate) fn split(snapshot: &[u8]) -> Result<Split> {
    let mut component = wasm_encoder::Component::new();
    let mut found = Found::default();
    // Only the outermost component is rewritten; what it nests is copied as it stands.
    let mut depth = 0;
    for payload in Parser::new(0).parse_all(snapshot) {
        let payload = payload?;
        match &payload {
            Payload::Version { .. } => depth += 1,
            Payload::End(_) => depth -= 1,
            _ if depth > 1 => {}
            Payload::ModuleSection { unchecked_range, .. } => {
                let module = found.rewrite_module(&snapshot[unchecked_range.clone()])?;
                component.section(&ModuleSection(&module));
            }
            Payload::CustomSection(_) => {}
            _ => {
                if let Payload::InstanceSection(section) = &payload {
                    for instance in section.clone() {
                        if let Instance::Instantiate { module_index, .. } = instance? {
                            found.instances.push((module_index, found.n_core_instances));
                        }
                        found.n_core_instances += 1;
                    }
                }
                let (id, section) = payload.as_section().context("an unexpected part of a component")?;
                component.section(&RawSection { id, data: &snapshot[section] });
            }
        }
    }
    ensure!(!found.memory.is_empty(), "the component defines no memory");
    add_reset(&mut component, snapshot, &found)?;
    Ok(Split { component: component.finish(), memory: found.memory })
}

/// The encoded instructions of an expression that is one constant, without its `end`.
fn constant(module: &[u8], expression: &wasmparser::ConstExpr<'_>) -> Result<Vec<u8>> {
    let reader = expression.get_binary_reader();
    let bytes = &module[reader.range()];
    let [instructions @ .., 0x0b] = bytes else { bail!("an initial value without its end") };
    Ok(instructions.to_vec())
}

impl Found {
    /// The module without data and custom sections, with its mutable globals exported.
    fn rewrite_module(&mut self, module: &[u8]) -> Result<Module> {
        let module_index = self.n_modules;
        self.n_modules += 1;
        let first_global = self.globals.len();
        let mut rewritten = Module::new();
        let mut n_globals = 0;
        for payload in Parser::new(0).parse_all(module) {
            let payload = payload?;
            match &payload {
                Payload::Version { .. }
                | Payload::End(_)
                | Payload::CodeSectionEntry(_)
                | Payload::CustomSection(_)
                | Payload::DataCountSection { .. } => continue,
                Payload::DataSection(section) => {
                    self.apply_data(section.clone())?;
                    continue;
                }
                Payload::ImportSection(section) => {
                    for import in section.clone().into_imports() {
                        n_globals += u32::from(matches!(import?.ty, wasmparser::TypeRef::Global(_)));
                    }
                }
                Payload::MemorySection(section) => {
                    for memory in section.clone() {
                        ensure!(self.memory.is_empty(), "the component defines more than one memory");
                        self.memory = vec![0; usize::try_from(memory?.initial)? * WASM_PAGE_BYTES];
                    }
                }
                Payload::GlobalSection(section) => {
                    for global in section.clone() {
                        let global = global?;
                        if global.ty.mutable {
                            self.globals.push(MutableGlobal {
                                module: module_index,
                                index: n_globals,
                                ty: RoundtripReencoder.global_type(global.ty).map_err(|e| anyhow::anyhow!("{e}"))?,
                                initial: constant(module, &global.init_expr)?,
                            });
                        }
                        n_globals += 1;
                    }
                }
                Payload::ExportSection(section) => {
                    let mut exports = ExportSection::new();
                    RoundtripReencoder
                        .parse_export_section(&mut exports, section.clone())
                        .map_err(|e| anyhow::anyhow!("{e}"))?;
                    for global in &self.globals[first_global..] {
                        exports.export(&format!("{GLOBAL_EXPORT}{}", global.index), ExportKind::Global, global.index);
                    }
                    rewritten.section(&exports);
                    continue;
                }
                _ => {}
            }
            if let Some((id, section)) = payload.as_section() {
                rewritten.section(&RawSection { id, data: &module[section] });
            }
        }
        Ok(rewritten)
    }

    fn apply_data(&mut self, section: wasmparser::DataSectionReader<'_>) -> Result<()> {
        for segment in section {
            let segment = segment?;
            let offset_expr = match segment.kind {
                DataKind::Active { memory_index: 0, offset_expr } => offset_expr,
                DataKind::Active { .. } => bail!("a data segment of another memory"),
                // Wizer leaves one in place of each segment it replaced; the final check proves that no code uses them.
                DataKind::Passive => continue,
            };
            let Operator::I32Const { value } = offset_expr.get_operators_reader().read()? else {
                bail!("a data segment whose offset is not constant");
            };
            let start = value.cast_unsigned() as usize;
            let target = self.memory.get_mut(start..start + segment.data.len());
            target.context("a data segment outside of the memory")?.copy_from_slice(segment.data);
        }
        Ok(())
    }
}

/// Appends a module whose one function sets `globals`, its instance, and the export of that function.
fn add_reset(component: &mut wasm_encoder::Component, original: &[u8], found: &Found) -> Result<()> {
    let types = Validator::new_with_features(WasmFeatures::all()).validate_all(original)?;
    let types = types.as_ref();

    let (mut imports, mut code) = (ImportSection::new(), Function::new([]));
    for (index, global) in (0..).zip(&found.globals) {
        imports.import(
            &global.module.to_string(),
            &format!("{GLOBAL_EXPORT}{}", global.index),
            EntityType::Global(global.ty),
        );
        code.raw(global.initial.iter().copied());
        code.instructions().global_set(index);
    }
    code.instructions().end();
    let mut function_types = TypeSection::new();
    function_types.ty().function([], []);
    let (mut functions, mut exports, mut bodies) = (FunctionSection::new(), ExportSection::new(), CodeSection::new());
    functions.function(0);
    exports.export(RESET_EXPORT, ExportKind::Func, 0);
    bodies.function(&code);
    let mut module = Module::new();
    module.section(&function_types).section(&imports).section(&functions).section(&exports).section(&bodies);
    component.section(&ModuleSection(&module));

    let mut owners: Vec<u32> = found.globals.iter().map(|global| global.module).collect();
    owners.dedup();
    let mut arguments = Vec::new();
    for module in owners {
        let instance = found.instances.iter().find(|(of, _)| *of == module);
        let (_, instance) = instance.context("a module with mutable globals is never instantiated")?;
        arguments.push((module.to_string(), ModuleArg::Instance(*instance)));
    }
    let mut instances = InstanceSection::new();
    instances.instantiate(found.n_modules, arguments.iter().map(|(name, argument)| (name.as_str(), *argument)));
    component.section(&instances);

    let mut aliases = ComponentAliasSection::new();
    aliases.alias(Alias::CoreInstanceExport {
        instance: found.n_core_instances,
        kind: ExportKind::Func,
        name: RESET_EXPORT,
    });
    component.section(&aliases);
    let mut component_types = ComponentTypeSection::new();
    component_types.function().params::<_, ComponentValType>([]).result(None);
    component.section(&component_types);
    let mut canonical = CanonicalFunctionSection::new();
    canonical.lift(types.function_count(), types.component_type_count(), []);
    component.section(&canonical);
    let mut component_exports = ComponentExportSection::new();
    component_exports.export(RESET_EXPORT, ComponentExportKind::Func, types.component_function_count(), None);
    component.section(&component_exports);
    Ok(())
}
