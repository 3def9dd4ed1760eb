//! Linear memories whose contents the host replaces between calls: mount and rewind.
//!
//! Owns: the address ranges of guest memories, the mappings in them, and finding what a call has dirtied. Never: decides
//! *when* to rewind (see `slot`), reads or writes image files (see `image`, `images`).
//!
//! How it works. Wasmtime asks [`SlotMemories`] for the one linear memory of an instance and gets an address range of
//! ours, reserved once, with an image mapped into it privately: a page is shared with every other slot until the guest
//! writes it. Rewinding asks the kernel which pages have become private (`PAGEMAP_SCAN`) and copies the image's content back
//! over them. They stay private, so the next call that dirties them pays no page fault; that is what makes rewinding
//! cheaper than remapping.
//!
//! Invariants, each with a test below:
//! - After [`GuestMemory::rewind`] every byte equals the image, whatever the guest wrote ([`GuestMemory::first_difference`]).
//! - Image files are sealed memfds: nothing, ourselves included, can change or shrink them while they are mapped.
//! - A mapping of ours is only ever replaced by `mmap(MAP_FIXED)` inside its own reservation.
//! - Only a memory that is known to equal its image has the next one mounted over it in part; any use of the store ends
//!   that knowledge until the memory is rewound ([`RewindableStore::mount`]).
//! - Outside the accessible size the reservation stays `PROT_NONE`, as wasmtime's bounds-check elision requires.
#![expect(
    unsafe_code,
    reason = "wasmtime's MemoryCreator is unsafe, and replacing memory under an instance has no safe API"
)]

use std::{
    ffi::c_void,
    fs::File,
    io,
    ops::Range,
    os::fd::{AsFd, OwnedFd},
    pin::Pin,
    ptr::NonNull,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll},
};

use rustix::{
    fs::{MemfdFlags, SealFlags},
    ioctl::{Ioctl, IoctlOutput, Opcode, opcode},
    mm::{Advice, MapFlags, MprotectFlags, ProtFlags},
};
use wasmtime::{LinearMemory, MemoryCreator, MemoryType, Store};

use crate::sandbox::image::{EncodedImage, ImageFormatError, PAGE_BYTES, PageRun, PageSet, PageTable};

/// Most private pages a slot keeps between calls, in pages: 8 MiB.
///
/// Ordinary handlers dirty 100 to 500 pages. Above this bound the slot gives all its private pages back to the kernel instead
/// of having them overwritten: one greedy call must not make its slot heavy and slow for ever.
const RESIDENT_PAGES_MAX: usize = 2048;

/// Regions that one `PAGEMAP_SCAN` call can report; more are fetched by further calls.
const REGIONS_PER_SCAN: usize = 512;

/// An image that memories can be mounted with and rewound to.
pub(crate) struct MappedImage {
    /// What the runs lie upon; zeros for a base image.
    base: Option<Arc<Self>>,
    /// Sealed; holds the runs' contents one after the other.
    file: OwnedFd,
    runs: Vec<PlacedRun>,
    /// Where rewinding copies from, mapped read-only: the whole memory for a base image, `file` for one that has a base.
    view: Reservation,
    bytes: usize,
}

/// A run, and the offset of its content in the image's file.
#[derive(Debug, Clone, Copy)]
struct PlacedRun {
    run: PageRun,
    offset: usize,
}

impl std::fmt::Debug for MappedImage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("MappedImage")
            .field("bytes", &self.bytes)
            .field("runs", &self.runs.len())
            .finish_non_exhaustive()
    }
}

impl MappedImage {
    /// Makes `pages` mountable; they lie upon `base`, or upon zeros.
    ///
    /// # Errors
    /// If the kernel refuses memory or address space, or `base` has another size.
    pub(crate) fn new(pages: &PageSet, base: Option<Arc<Self>>) -> io::Result<Self> {
        Self::filled(pages.table(), base, |content| {
            content.copy_from_slice(pages.content());
            Ok(())
        })
    }

    /// Makes an image file mountable.
    ///
    /// # Errors
    /// As for [`Self::new`], or if the file is damaged.
    pub(crate) fn decode(file: &[u8], base: Option<Arc<Self>>) -> io::Result<Self> {
        let damaged = |error: ImageFormatError| io::Error::new(io::ErrorKind::InvalidData, error);
        let encoded = EncodedImage::parse(file).map_err(damaged)?;
        let reference = base.clone();
        let reference = reference.as_deref().map_or(&[][..], Self::whole);
        Self::filled(encoded.table(), base, |content| encoded.decode_into(content, reference).map_err(damaged))
    }

    /// `fill` is given zeros of the size of all runs.
    fn filled(
        table: &PageTable,
        base: Option<Arc<Self>>,
        fill: impl FnOnce(&mut [u8]) -> io::Result<()>,
    ) -> io::Result<Self> {
        let bytes = table.memory_bytes();
        if base.as_ref().is_some_and(|base| base.bytes != bytes) {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "the image was made for another base image"));
        }
        let content_bytes = table.content_bytes();
        let file = sealed_file(content_bytes, fill)?;
        let mut offset = 0;
        let place = |run: &PageRun| {
            let placed = PlacedRun { run: *run, offset };
            offset += run.bytes().len();
            placed
        };
        let runs = table.runs().iter().map(place).collect();
        if base.is_some() {
            let view = Reservation::of_file(&file, content_bytes, ProtFlags::READ, MapFlags::PRIVATE)?;
            return Ok(Self { base, file, runs, view, bytes });
        }
        let image = Self { base, file, runs, view: Reservation::new(bytes)?, bytes };
        // SAFETY: the view is a fresh reservation of exactly `bytes`, to which nothing refers yet.
        unsafe { image.map(image.view.address, 0..bytes, ProtFlags::READ)? };
        Ok(image)
    }

    /// Size of the memory, in bytes.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Bytes of memory that this image alone holds.
    pub(crate) fn resident_bytes(&self) -> usize {
        self.runs.iter().map(|placed| placed.run.bytes().len()).sum()
    }

    /// The whole image, for one without a base.
    pub(crate) fn whole(&self) -> &[u8] {
        assert!(self.base.is_none(), "only base images are mapped as a whole");
        self.view()
    }

    fn view(&self) -> &[u8] {
        // JUSTIFICATION: rewinding and comparing read the image as it is mapped, without a second copy of 90 MB.
        // SAFETY: all of `view` is mapped readable for as long as `self` lives, and never changes: it consists of private
        // read-only mappings of a sealed file and of untouched anonymous zeros.
        unsafe { std::slice::from_raw_parts(self.view.address.as_ptr(), self.view.bytes) }
    }

    /// The content of `range`, in pieces that follow one another, each with its offset.
    fn pieces(&self, range: Range<usize>) -> impl Iterator<Item = (usize, &[u8])> {
        let mut at = range.start;
        let mut next = self.runs.partition_point(|placed| placed.run.bytes().end <= at);
        std::iter::from_fn(move || {
            if at >= range.end {
                return None;
            }
            let start = at;
            let Some(base) = self.base.as_deref() else {
                at = range.end;
                return Some((start, &self.whole()[range.clone()]));
            };
            let (piece, end) = match self.runs.get(next) {
                Some(PlacedRun { run, offset }) if run.bytes().start <= start => {
                    next += 1;
                    let end = run.bytes().end.min(range.end);
                    let skipped = start - run.bytes().start;
                    (&self.view()[offset + skipped..][..end - start], end)
                }
                later => {
                    let end = later.map_or(range.end, |placed| placed.run.bytes().start.min(range.end));
                    (&base.whole()[start..end], end)
                }
            };
            at = end;
            Some((start, piece))
        })
    }

    /// Maps the content of `range` privately into the memory that starts at `memory`, replacing what is mapped there.
    ///
    /// # Safety
    /// `memory` must be the start of a reservation of ours of at least `bytes`, and nothing may refer to its contents.
    unsafe fn map(&self, memory: NonNull<u8>, range: Range<usize>, protection: ProtFlags) -> io::Result<()> {
        let mut at = range.start;
        let first = self.runs.partition_point(|placed| placed.run.bytes().end <= at);
        for PlacedRun { run, offset } in &self.runs[first..] {
            let covered = run.bytes().start.max(at)..run.bytes().end.min(range.end);
            if covered.is_empty() {
                break;
            }
            // SAFETY: `PageSet` guarantees that runs lie within `bytes`, so both ranges do; the rest is the caller's promise.
            unsafe {
                self.map_beneath(memory, at..covered.start, protection)?;
                let offset = (offset + covered.start - run.bytes().start) as u64;
                let (address, flags) = (memory.add(covered.start).as_ptr().cast(), REPLACE);
                rustix::mm::mmap(address, covered.len(), protection, flags, &self.file, offset)?;
            }
            at = covered.end;
        }
        // SAFETY: as above.
        unsafe { self.map_beneath(memory, at..range.end, protection) }
    }

    /// Maps what the runs lie upon.
    ///
    /// # Safety
    /// As for [`Self::map`].
    unsafe fn map_beneath(&self, memory: NonNull<u8>, range: Range<usize>, protection: ProtFlags) -> io::Result<()> {
        if range.is_empty() {
            return Ok(());
        }
        if let Some(base) = &self.base {
            // SAFETY: the caller's promise covers the same range.
            return unsafe { base.map(memory, range, protection) };
        }
        // SAFETY: the caller's promise; anonymous memory reads as zeros, which is what a base image lies upon.
        unsafe {
            let address = memory.add(range.start).as_ptr().cast();
            rustix::mm::mmap_anonymous(address, range.len(), protection, REPLACE)?;
            // A huge page would turn one dirtied byte into 2 MiB to clear and copy. Kernels without huge pages refuse the
            // advice; they need none.
            _ = rustix::mm::madvise(address, range.len(), Advice::LinuxNoHugepage);
        }
        Ok(())
    }

    /// The image that all runs lie upon in the end: itself for a base image.
    fn root(&self) -> &Self {
        self.base.as_deref().unwrap_or(self)
    }

    /// The runs in which the image differs from its root.
    fn runs_above_root(&self) -> &[PlacedRun] {
        if self.base.is_some() { &self.runs } else { &[] }
    }

    /// Maps this image where `shown` is mapped, which has the same root: only where they differ.
    ///
    /// # Safety
    /// As for [`Self::map`]; and the memory must equal `shown`.
    unsafe fn map_over(&self, shown: &Self, memory: NonNull<u8>, protection: ProtFlags) -> io::Result<()> {
        for PlacedRun { run, .. } in shown.runs_above_root() {
            let range = run.bytes();
            let ours = self.runs_above_root();
            let next = ours.partition_point(|placed| placed.run.bytes().end < range.end);
            let is_mapped_below = ours.get(next).is_some_and(|placed| placed.run.bytes().start <= range.start);
            if !is_mapped_below {
                // SAFETY: the caller's promise.
                unsafe { self.root().map(memory, range, protection)? };
            }
        }
        for PlacedRun { run, .. } in self.runs_above_root() {
            // SAFETY: the caller's promise.
            unsafe { self.map(memory, run.bytes(), protection)? };
        }
        Ok(())
    }
}

/// How mappings of ours replace others.
const REPLACE: MapFlags = MapFlags::PRIVATE.union(MapFlags::FIXED).union(MapFlags::NORESERVE);

/// A memory file, filled by `fill`, that can never change again.
fn sealed_file(bytes: usize, fill: impl FnOnce(&mut [u8]) -> io::Result<()>) -> io::Result<OwnedFd> {
    let file = rustix::fs::memfd_create(c"pqhost-image", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?;
    rustix::fs::ftruncate(&file, bytes as u64)?;
    let writable = Reservation::of_file(&file, bytes, ProtFlags::READ | ProtFlags::WRITE, MapFlags::SHARED)?;
    // JUSTIFICATION: images are decompressed into their file; a buffer of their size would be filled and copied each time.
    // SAFETY: `bytes` bytes are mapped writable, and nobody else knows the new file.
    fill(unsafe { std::slice::from_raw_parts_mut(writable.address.as_ptr(), bytes) })?;
    drop(writable); // the kernel seals no file that is mapped writable
    rustix::fs::fcntl_add_seals(&file, SealFlags::SHRINK | SealFlags::GROW | SealFlags::WRITE | SealFlags::SEAL)?;
    Ok(file)
}

/// A range of address space, inaccessible until something is mapped into it.
struct Reservation {
    address: NonNull<u8>,
    bytes: usize,
}

// JUSTIFICATION: the raw address makes the type neither Send nor Sync by default.
// SAFETY: a reservation is a number of addresses; whoever reads or writes through it states why that is sound.
unsafe impl Send for Reservation {}
// SAFETY: as above.
unsafe impl Sync for Reservation {}

impl Reservation {
    fn new(bytes: usize) -> io::Result<Self> {
        let flags = MapFlags::PRIVATE | MapFlags::NORESERVE;
        // SAFETY: a new mapping at an address of the kernel's choice overlaps nothing.
        let address = unsafe { rustix::mm::mmap_anonymous(std::ptr::null_mut(), bytes, ProtFlags::empty(), flags)? };
        let address = NonNull::new(address.cast()).ok_or_else(|| io::Error::other("the kernel mapped address 0"))?;
        Ok(Self { address, bytes })
    }

    /// A file, mapped from its start.
    fn of_file(file: &OwnedFd, bytes: usize, protection: ProtFlags, flags: MapFlags) -> io::Result<Self> {
        if bytes == 0 {
            return Ok(Self { address: NonNull::dangling(), bytes });
        }
        // SAFETY: as above.
        let address = unsafe { rustix::mm::mmap(std::ptr::null_mut(), bytes, protection, flags, file, 0)? };
        let address = NonNull::new(address.cast()).ok_or_else(|| io::Error::other("the kernel mapped address 0"))?;
        Ok(Self { address, bytes })
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        if self.bytes == 0 {
            return;
        }
        // SAFETY: the range is ours alone and `self` was the last that knew its address.
        let unmapped = unsafe { rustix::mm::munmap(self.address.as_ptr().cast(), self.bytes) };
        debug_assert!(unmapped.is_ok(), "unmapping our own reservation: {unmapped:?}");
    }
}

/// The linear memory of one slot.
pub(crate) struct GuestMemory {
    reservation: Reservation,
    /// Bytes that the guest may access, starting at the reservation's address.
    accessible: AtomicUsize,
}

impl std::fmt::Debug for GuestMemory {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("GuestMemory").field("bytes", &self.bytes()).finish_non_exhaustive()
    }
}

impl GuestMemory {
    /// Bytes that the guest may access now.
    pub(crate) fn bytes(&self) -> usize {
        self.accessible.load(Ordering::Relaxed)
    }

    /// Shows `image`, whatever was there before.
    ///
    /// # Safety
    /// No guest code may be running in this memory and no slice of it may exist: the caller owns the store.
    ///
    /// # Errors
    /// If the sizes differ or the kernel refuses. The content is then undefined and the slot must be dropped.
    unsafe fn mount(&self, image: &MappedImage) -> io::Result<()> {
        if self.bytes() != image.bytes {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "the image has another size than the memory"));
        }
        // SAFETY: the image has the memory's size, so the range lies in our reservation; nobody refers to its contents, as
        // the caller promises.
        unsafe { image.map(self.reservation.address, 0..image.bytes, ProtFlags::READ | ProtFlags::WRITE) }
    }

    /// Shows `image` instead of `shown`: [`Self::mount`] for a memory that equals `shown`, in a third of the time. What lies
    /// outside of both images' runs keeps its private pages, so the next call pays no faults for them.
    ///
    /// # Safety
    /// As for [`Self::mount`]; and the memory must equal `shown`.
    ///
    /// # Errors
    /// As for [`Self::mount`].
    unsafe fn mount_over(&self, shown: &MappedImage, image: &MappedImage) -> io::Result<()> {
        if self.bytes() != shown.bytes || !std::ptr::eq(shown.root(), image.root()) {
            // SAFETY: the caller's promise.
            return unsafe { self.mount(image) };
        }
        // SAFETY: the sizes are equal (`MappedImage` checks that of a base), the rest is the caller's promise.
        unsafe { image.map_over(shown, self.reservation.address, ProtFlags::READ | ProtFlags::WRITE) }
    }

    /// Makes the memory equal to `image` again, which must be the one mounted last. Returns how many pages were private.
    ///
    /// # Safety
    /// As for [`Self::mount`].
    ///
    /// # Errors
    /// If the kernel refuses, or the memory has grown. The slot must then be dropped.
    unsafe fn rewind(&self, image: &MappedImage, rewinder: &mut Rewinder) -> io::Result<usize> {
        if self.bytes() != image.bytes {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "the memory has grown"));
        }
        let address = self.reservation.address;
        let Some(n_pages) = rewinder.collect_dirty(address, image.bytes)? else {
            // SAFETY: every private page of the range was made by a guest write over a private mapping of the image, so
            // dropping it shows the image again; the caller promises that nobody is using the range.
            unsafe { rustix::mm::madvise(address.as_ptr().cast(), image.bytes, Advice::LinuxDontNeed)? };
            rewinder.forget();
            return Ok(RESIDENT_PAGES_MAX);
        };
        for region in &rewinder.dirty {
            let start = usize::try_from(region.start).expect("an address") - address.as_ptr() as usize;
            let length = usize::try_from(region.end - region.start).expect("a length");
            for (offset, content) in image.pieces(start..start + length) {
                // SAFETY: pieces lie within the image and so within `bytes`, which is mapped writable; source and
                // destination are different reservations; the caller promises that nobody is using the destination.
                unsafe {
                    std::ptr::copy_nonoverlapping(content.as_ptr(), address.add(offset).as_ptr(), content.len());
                }
            }
        }
        Ok(n_pages)
    }

    /// The pages that differ from `base`, which must be the image mounted last, copied.
    ///
    /// # Safety
    /// No guest code may be running in this memory.
    unsafe fn snapshot(&self, base: &MappedImage, rewinder: &mut Rewinder) -> io::Result<PageSet> {
        rewinder.forget();
        let n_private = rewinder.collect_dirty(self.reservation.address, base.bytes)?;
        // SAFETY: `accessible` bytes are mapped readable, and nobody writes meanwhile, as the caller promises.
        let memory = unsafe { std::slice::from_raw_parts(self.reservation.address.as_ptr(), self.bytes()) };
        if n_private.is_none() {
            return Ok(PageSet::difference(memory, base.whole()));
        }
        let start = self.reservation.address.as_ptr() as usize;
        let page = |address: u64| (usize::try_from(address).expect("an address") - start) / PAGE_BYTES;
        let private = rewinder.dirty.iter().flat_map(|region| page(region.start)..page(region.end));
        Ok(PageSet::difference_among(memory, base.whole(), private))
    }

    /// Offset of the first byte that differs from `image`, comparing all of it.
    ///
    /// # Safety
    /// No guest code may be running in this memory.
    unsafe fn first_difference(&self, image: &MappedImage) -> Option<usize> {
        // SAFETY: as in `snapshot`.
        let memory = unsafe { std::slice::from_raw_parts(self.reservation.address.as_ptr(), self.bytes()) };
        let common = memory.len().min(image.bytes);
        for (offset, expected) in image.pieces(0..common) {
            let found = &memory[offset..][..expected.len()];
            if found != expected {
                let differs = found.iter().zip(expected).position(|(byte, expected)| byte != expected);
                return differs.map(|position| offset + position);
            }
        }
        (memory.len() != image.bytes).then_some(common)
    }
}

/// A store together with the memory of its one instance: whoever has it exclusively knows that no guest code is running.
pub(crate) struct RewindableStore<T: 'static> {
    store: Store<T>,
    memory: Arc<GuestMemory>,
    mounted: Arc<MappedImage>,
    rewinder: Rewinder,
    /// Whether the memory is known to equal `mounted`.
    is_rewound: bool,
}

/// Runs a guest's call and counts the page faults of whatever thread runs it.
///
/// A page of a guest's memory becomes private only when a write to it faults, on the thread that runs the guest. So a call
/// without page faults has dirtied no page that was not private before, and the kernel need not be asked which are.
pub(crate) struct WithFaults<F> {
    call: F,
    faults: u64,
}

impl<F: Future + Unpin> WithFaults<F> {
    pub(crate) fn new(call: F) -> Self {
        Self { call, faults: 0 }
    }
}

impl<F: Future + Unpin> Future for WithFaults<F> {
    /// The call's result, and the number of faults.
    type Output = (F::Output, u64);

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let before = thread_faults();
        let polled = Pin::new(&mut self.call).poll(context);
        self.faults += thread_faults() - before;
        polled.map(|output| (output, self.faults))
    }
}

/// Page faults of this thread so far, with and without I/O.
fn thread_faults() -> u64 {
    let mut usage = std::mem::MaybeUninit::<libc::rusage>::uninit();
    // JUSTIFICATION: no library in use here offers getrusage.
    // SAFETY: the kernel fills the structure if it returns 0, and then all of it.
    let usage = unsafe {
        let result = libc::getrusage(libc::RUSAGE_THREAD, usage.as_mut_ptr());
        assert_eq!(result, 0, "RUSAGE_THREAD exists since Linux 2.6.26");
        usage.assume_init()
    };
    usage.ru_minflt.unsigned_abs() + usage.ru_majflt.unsigned_abs()
}

// SAFETY of the calls below: guest code runs only while a future of a call borrows `self.store`, which `&mut self` excludes.
// A cancelled call's future has been dropped, and its fiber with it. Slices of the memory never leave this file.
impl<T> RewindableStore<T> {
    /// `memory` is the one that `SlotMemories` made, showing `mounted`, when `store`'s instance was made.
    pub(crate) fn new(
        store: Store<T>,
        memory: Arc<GuestMemory>,
        mounted: Arc<MappedImage>,
        rewinder: Rewinder,
    ) -> Self {
        // Whatever instantiation dirtied is still there.
        Self { store, memory, mounted, rewinder, is_rewound: false }
    }

    /// To call into the instance. The store must not be exchanged for another.
    pub(crate) fn store(&mut self) -> &mut Store<T> {
        self.is_rewound = false;
        &mut self.store
    }

    /// The image that the memory shows and is rewound to.
    pub(crate) fn mounted(&self) -> &Arc<MappedImage> {
        &self.mounted
    }

    /// Whether the memory has another size than its image.
    pub(crate) fn has_grown(&self) -> bool {
        self.memory.bytes() != self.mounted.bytes()
    }

    /// Shows `image` from now on.
    ///
    /// # Errors
    /// If the memory has grown or the kernel refuses. The store must then be dropped.
    pub(crate) fn mount(&mut self, image: Arc<MappedImage>) -> io::Result<()> {
        self.rewinder.forget();
        // SAFETY: see above.
        unsafe {
            if self.is_rewound {
                self.memory.mount_over(&self.mounted, &image)?;
            } else {
                self.memory.mount(&image)?;
            }
        }
        self.mounted = image;
        self.is_rewound = true;
        Ok(())
    }

    /// Makes the memory equal to its image again; returns how many pages were private.
    ///
    /// `faults`: how many page faults the guest's calls have had since the last rewind, see [`WithFaults`].
    ///
    /// # Errors
    /// As for [`Self::mount`].
    pub(crate) fn rewind(&mut self, faults: u64) -> io::Result<usize> {
        if faults > 0 {
            self.rewinder.forget();
        }
        // SAFETY: see above.
        let n_pages = unsafe { self.memory.rewind(&self.mounted, &mut self.rewinder)? };
        self.is_rewound = true;
        Ok(n_pages)
    }

    /// The pages that differ from the mounted image, which must be a base image.
    ///
    /// # Errors
    /// If the kernel refuses.
    pub(crate) fn snapshot(&mut self) -> io::Result<PageSet> {
        // SAFETY: see above.
        unsafe { self.memory.snapshot(&self.mounted, &mut self.rewinder) }
    }

    /// Offset of the first byte that differs from the mounted image, comparing all of the memory.
    pub(crate) fn first_difference(&mut self) -> Option<usize> {
        // SAFETY: see above.
        unsafe { self.memory.first_difference(&self.mounted) }
    }
}

/// Gives every instance that wasmtime makes a [`GuestMemory`] which already shows the base image.
pub(crate) struct SlotMemories {
    base: Mutex<Option<Arc<MappedImage>>>,
    /// The memory made last, until the slot under construction takes it.
    newborn: Mutex<Option<Arc<GuestMemory>>>,
}

impl SlotMemories {
    /// Memories start as zeros until [`Self::set_base`] is called.
    pub(crate) fn new() -> Self {
        Self { base: Mutex::new(None), newborn: Mutex::new(None) }
    }

    /// From now on memories start with this content.
    pub(crate) fn set_base(&self, base: Arc<MappedImage>) {
        *self.base.lock().unwrap_or_else(PoisonError::into_inner) = Some(base);
    }

    /// The memory made since the last call. Instantiations must not overlap; see `slot`.
    pub(crate) fn take_newborn(&self) -> Option<Arc<GuestMemory>> {
        self.newborn.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    fn create(&self, minimum: usize, reserved: usize, guard: usize) -> io::Result<Arc<GuestMemory>> {
        let base = self.base.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let reservation = Reservation::new(reserved + guard)?;
        let memory = GuestMemory { reservation, accessible: AtomicUsize::new(minimum) };
        match base {
            // SAFETY: the memory is new: no guest runs in it, and the sizes are checked by `mount`.
            Some(base) => unsafe { memory.mount(&base)? },
            // SAFETY: the range lies in the new reservation.
            None => unsafe { make_accessible(memory.reservation.address, minimum)? },
        }
        Ok(Arc::new(memory))
    }
}

/// Makes reserved bytes readable and writable zeros.
///
/// # Safety
/// The range must lie in a reservation of ours where nothing is mapped yet.
unsafe fn make_accessible(address: NonNull<u8>, bytes: usize) -> io::Result<()> {
    // SAFETY: the caller's promise.
    unsafe { rustix::mm::mprotect(address.as_ptr().cast(), bytes, MprotectFlags::READ | MprotectFlags::WRITE)? };
    Ok(())
}

// JUSTIFICATION: only a memory of our own lets us replace its content between calls without making a new instance.
// SAFETY: memories have the reserved size plus guard that wasmtime asks for, never move, and stay `PROT_NONE` outside their
// accessible size. Instead of zeros they start with the base image, which is what the data segments that the build took
// out of the runtime component would have written.
unsafe impl MemoryCreator for SlotMemories {
    fn new_memory(
        &self,
        _type: MemoryType,
        minimum: usize,
        _maximum: Option<usize>,
        reserved: Option<usize>,
        guard: usize,
    ) -> Result<Box<dyn LinearMemory>, String> {
        let reserved = reserved.ok_or("slots need memories with a reservation")?;
        let memory =
            self.create(minimum, reserved, guard).map_err(|error| format!("reserving guest memory: {error}"))?;
        let replaced = self.newborn.lock().unwrap_or_else(PoisonError::into_inner).replace(Arc::clone(&memory));
        if replaced.is_some() {
            return Err("an instance of the runtime has more than one memory".to_owned());
        }
        Ok(Box::new(SlotMemory { memory, capacity: reserved }))
    }
}

/// Wasmtime's side of a [`GuestMemory`].
struct SlotMemory {
    memory: Arc<GuestMemory>,
    capacity: usize,
}

// SAFETY: see `MemoryCreator` above; growing only makes more of the reservation accessible, never moves it.
unsafe impl LinearMemory for SlotMemory {
    fn byte_size(&self) -> usize {
        self.memory.bytes()
    }

    fn byte_capacity(&self) -> usize {
        self.capacity
    }

    fn grow_to(&mut self, new_bytes: usize) -> wasmtime::Result<()> {
        let old_bytes = self.memory.bytes();
        if new_bytes > self.capacity || new_bytes < old_bytes {
            return Err(wasmtime::Error::msg("growing a guest memory beyond its reservation"));
        }
        // SAFETY: the range lies in the reservation and behind everything that is mapped.
        unsafe { make_accessible(self.memory.reservation.address.add(old_bytes), new_bytes - old_bytes)? };
        self.memory.accessible.store(new_bytes, Ordering::Relaxed);
        Ok(())
    }

    fn as_ptr(&self) -> *mut u8 {
        self.memory.reservation.address.as_ptr()
    }
}

/// How slots find out what a call has dirtied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RewindMethod {
    /// `PAGEMAP_SCAN` (Linux 6.7 and later), then copying the image over the private pages.
    PagemapScan,
    /// `madvise(MADV_DONTNEED)` over the whole memory: any Linux, but the next call pays its page faults again.
    Discard,
}

impl RewindMethod {
    /// What this kernel can do, found by trying it.
    #[must_use]
    pub fn detect() -> Self {
        let works = || -> io::Result<bool> {
            let mut page = vec![0; 4 * PAGE_BYTES];
            page[PAGE_BYTES] = 1;
            let image = MappedImage::new(&PageSet::nonzero(&page), None)?;
            let memory = SlotMemories::new().create(page.len(), page.len(), 0)?;
            // SAFETY: this memory belongs to no instance.
            unsafe {
                memory.mount(&image)?;
                let address = memory.reservation.address;
                address.add(PAGE_BYTES).write_volatile(2);
                address.add(3 * PAGE_BYTES).write_volatile(2);
                let n_pages = memory.rewind(&image, &mut Rewinder::new(Self::PagemapScan)?)?;
                Ok(n_pages == 2 && memory.first_difference(&image).is_none())
            }
        };
        if works().unwrap_or(false) { Self::PagemapScan } else { Self::Discard }
    }
}

/// One slot's means to find dirty pages.
#[derive(Debug)]
pub(crate) struct Rewinder {
    /// `/proc/self/pagemap`; absent when rewinding discards.
    pagemap: Option<File>,
    /// What the last scan found.
    dirty: Vec<PageRegion>,
    /// Pages in `dirty`, while it is known to list all private pages.
    known: Option<usize>,
}

impl Rewinder {
    /// # Errors
    /// If `/proc/self/pagemap` cannot be opened.
    pub(crate) fn new(method: RewindMethod) -> io::Result<Self> {
        let pagemap = match method {
            RewindMethod::PagemapScan => Some(File::open("/proc/self/pagemap")?),
            RewindMethod::Discard => None,
        };
        Ok(Self { pagemap, dirty: Vec::new(), known: None })
    }

    /// Pages may have become private since the last scan.
    fn forget(&mut self) {
        self.known = None;
    }

    /// Fills `dirty` with the private pages of the range and counts them; `None` if they should be discarded instead,
    /// because they are too many or this kernel cannot list them.
    fn collect_dirty(&mut self, address: NonNull<u8>, bytes: usize) -> io::Result<Option<usize>> {
        let Some(pagemap) = &self.pagemap else {
            return Ok(None);
        };
        if let Some(n_pages) = self.known {
            return Ok(Some(n_pages));
        }
        self.dirty.clear();
        let end = address.as_ptr() as u64 + bytes as u64;
        let mut start = address.as_ptr() as u64;
        let mut n_pages = 0;
        while start < end {
            let known = self.dirty.len();
            self.dirty.resize(known + REGIONS_PER_SCAN, PageRegion::default());
            let mut scan = PagemapScan::private_pages(start, end, &mut self.dirty[known..]);
            // SAFETY: `scan` describes a range of our own address space and a vector that lives until the call returns;
            // see its `Ioctl` implementation for the layout.
            let n_regions = unsafe { rustix::ioctl::ioctl(pagemap.as_fd(), ScanRequest(&mut scan))? };
            self.dirty.truncate(known + n_regions);
            n_pages += self.dirty[known..].iter().map(|region| region.pages()).sum::<usize>();
            if n_pages > RESIDENT_PAGES_MAX {
                return Ok(None);
            }
            start = scan.walk_end;
        }
        self.known = Some(n_pages);
        Ok(Some(n_pages))
    }
}

/// `struct page_region` of `linux/fs.h`.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default)]
struct PageRegion {
    start: u64,
    end: u64,
    categories: u64,
}

/// `struct pm_scan_arg` of `linux/fs.h`.
#[repr(C)]
#[derive(Debug)]
struct PagemapScan {
    size: u64,
    flags: u64,
    start: u64,
    end: u64,
    walk_end: u64,
    vec: u64,
    vec_len: u64,
    max_pages: u64,
    category_inverted: u64,
    category_mask: u64,
    category_anyof_mask: u64,
    return_mask: u64,
}

const PAGE_IS_FILE: u64 = 1 << 2;
const PAGE_IS_PRESENT: u64 = 1 << 3;
const PAGE_IS_SWAPPED: u64 = 1 << 4;
const PAGE_IS_PFNZERO: u64 = 1 << 5;

impl PageRegion {
    fn pages(&self) -> usize {
        usize::try_from(self.end - self.start).expect("a length in this address space") / PAGE_BYTES
    }
}

impl PagemapScan {
    /// Asks for the pages of the range that a guest has written: those that are neither the image file's nor the shared
    /// zero page, and that exist, be it in memory or swapped out. (A swapped-out page is not "present"; who asks only
    /// for present pages leaves another request's data in the memory.)
    fn private_pages(start: u64, end: u64, found: &mut [PageRegion]) -> Self {
        Self {
            size: size_of::<Self>() as u64,
            flags: 0,
            start,
            end,
            walk_end: start,
            vec: found.as_mut_ptr() as u64,
            vec_len: found.len() as u64,
            max_pages: 0,
            category_inverted: PAGE_IS_FILE | PAGE_IS_PFNZERO,
            category_mask: PAGE_IS_FILE | PAGE_IS_PFNZERO,
            category_anyof_mask: PAGE_IS_PRESENT | PAGE_IS_SWAPPED,
            return_mask: 0,
        }
    }
}

struct ScanRequest<'a>(&'a mut PagemapScan);

// JUSTIFICATION: no library offers PAGEMAP_SCAN.
// SAFETY: the opcode belongs to `struct pm_scan_arg`, which `PagemapScan` mirrors; the kernel writes `walk_end` and at most
// `vec_len` regions at `vec`; it returns the number of regions.
unsafe impl Ioctl for ScanRequest<'_> {
    type Output = usize;

    const IS_MUTATING: bool = true;

    fn opcode(&self) -> Opcode {
        opcode::read_write::<PagemapScan>(b'f', 16)
    }

    fn as_ptr(&mut self) -> *mut c_void {
        std::ptr::from_mut(self.0).cast()
    }

    unsafe fn output_from_ptr(output: IoctlOutput, _: *mut c_void) -> rustix::io::Result<usize> {
        usize::try_from(output).map_err(|_| rustix::io::Errno::OVERFLOW)
    }
}

#[cfg(test)]
mod tests;
