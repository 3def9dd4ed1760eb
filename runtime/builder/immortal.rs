//! Makes objects of the base image immortal: using them then writes to no page.

use anyhow::{Context as _, Result, ensure};

/// The reference count that CPython gives immortal objects on 32-bit machines (`_Py_IMMORTAL_INITIAL_REFCNT`).
const IMMORTAL: u32 = 5 << 28;

/// From here on a count is immortal (`_Py_IMMORTAL_MINIMUM_REFCNT`).
const IMMORTAL_MIN: u32 = 1 << 30;

/// Sets the counts at `addresses`; gives how many were not immortal before.
pub(crate) fn set(memory: &mut [u8], addresses: &[u32]) -> Result<usize> {
    ensure!(!addresses.is_empty(), "`prime` named no objects");
    let mut n_set = 0;
    for address in addresses {
        let count = memory.get_mut(*address as usize..).and_then(|rest| rest.first_chunk_mut());
        let count = count.context("`prime` named an address outside of the memory")?;
        let found = u32::from_le_bytes(*count);
        ensure!(
            found > 0 && found.cast_signed() > 0,
            "there is no object at {address:#x}: its reference count is {found}"
        );
        if found < IMMORTAL_MIN {
            *count = IMMORTAL.to_le_bytes();
            n_set += 1;
        }
    }
    Ok(n_set)
}
