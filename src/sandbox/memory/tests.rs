//! Memories and images against the real kernel.

use super::*;

/// A memory of its own, as a slot would have it, showing `image`.
fn mounted(image: &MappedImage) -> Arc<GuestMemory> {
    let memory = SlotMemories::new().create(image.bytes(), image.bytes() + (1 << 20), 1 << 16).unwrap();
    // SAFETY: no instance uses this memory.
    unsafe { memory.mount(image).unwrap() };
    memory
}

fn write(memory: &GuestMemory, offset: usize, byte: u8) {
    assert!(offset < memory.bytes());
    // SAFETY: the offset lies within the accessible bytes, and no slice of them exists.
    unsafe { memory.reservation.address.add(offset).write_volatile(byte) };
}

fn read(memory: &GuestMemory, offset: usize) -> u8 {
    assert!(offset < memory.bytes());
    // SAFETY: as in `write`.
    unsafe { memory.reservation.address.add(offset).read_volatile() }
}

fn rewind(memory: &GuestMemory, image: &MappedImage, rewinder: &mut Rewinder) -> io::Result<usize> {
    rewinder.forget();
    // SAFETY: no instance uses this memory.
    unsafe { memory.rewind(image, rewinder) }
}

fn first_difference(memory: &GuestMemory, image: &MappedImage) -> Option<usize> {
    // SAFETY: no instance uses this memory.
    unsafe { memory.first_difference(image) }
}

const PAGES: usize = 6000;

/// Content at the start, a hole of zeros, and content on the last page.
fn base_image() -> Arc<MappedImage> {
    let mut content = vec![0; PAGES * PAGE_BYTES];
    for page in (0..1000).chain([PAGES - 1]) {
        content[page * PAGE_BYTES..][..8].copy_from_slice(&(page as u64 + 1).to_le_bytes());
    }
    Arc::new(MappedImage::new(&PageSet::nonzero(&content), None).unwrap())
}

/// `base` with a few pages changed, one of them in the hole and one to zeros.
fn script_image(base: &Arc<MappedImage>) -> MappedImage {
    let mut content = base.whole().to_vec();
    content[3 * PAGE_BYTES] = 99;
    content[500 * PAGE_BYTES..501 * PAGE_BYTES].fill(0);
    content[2000 * PAGE_BYTES] = 98;
    MappedImage::new(&PageSet::difference(&content, base.whole()), Some(Arc::clone(base))).unwrap()
}

fn methods() -> Vec<RewindMethod> {
    assert_eq!(RewindMethod::detect(), RewindMethod::PagemapScan, "these tests need Linux 6.7 or later");
    vec![RewindMethod::PagemapScan, RewindMethod::Discard]
}

#[test]
fn a_mounted_memory_equals_its_image() {
    let base = base_image();
    let script = script_image(&base);
    let memory = mounted(&base);
    assert_eq!(first_difference(&memory, &base), None);
    assert_eq!(first_difference(&memory, &script), Some(3 * PAGE_BYTES));
    // SAFETY: no instance uses this memory.
    unsafe { memory.mount(&script).unwrap() };
    assert_eq!(first_difference(&memory, &script), None);
    assert_eq!(
        (read(&memory, 3 * PAGE_BYTES), read(&memory, 500 * PAGE_BYTES), read(&memory, 2000 * PAGE_BYTES)),
        (99, 0, 98)
    );
}

#[test]
fn an_image_mounted_over_another_shows_nothing_of_it() {
    let base = base_image();
    let changed = |pages: &[usize]| {
        let mut content = base.whole().to_vec();
        pages.iter().for_each(|page| content[page * PAGE_BYTES + 5] ^= 0x55);
        let pages = PageSet::difference(&content, base.whole());
        Arc::new(MappedImage::new(&pages, Some(Arc::clone(&base))).unwrap())
    };
    // Runs that are equal, overlap at either end, contain one another, lie in the hole, at the first and the last page.
    let images = [
        Arc::clone(&base),
        changed(&[0, 1, 2, 100, 101, 102, 2000, PAGES - 1]),
        changed(&[1, 2, 3, 100, 101, 102, 1999, 2000, 2001]),
        changed(&[99, 103, 996, 1003, 3000]),
        changed(&[]),
    ];
    for from in &images {
        for to in &images {
            let memory = mounted(from);
            // Pages that stay private over the change, inside and outside of runs.
            for page in [0, 50, 100, 1001, 2000, 4000, PAGES - 1] {
                write(&memory, page * PAGE_BYTES + 9, 0xAA);
            }
            let mut rewinder = Rewinder::new(RewindMethod::PagemapScan).unwrap();
            rewind(&memory, from, &mut rewinder).unwrap();
            // SAFETY: no instance uses this memory.
            unsafe { memory.mount_over(from, to).unwrap() };
            assert_eq!(first_difference(&memory, to), None);
            write(&memory, 2000 * PAGE_BYTES, 0xAA);
            rewind(&memory, to, &mut rewinder).unwrap();
            assert_eq!(first_difference(&memory, to), None);
        }
    }
}

#[test]
fn an_image_of_another_base_is_mounted_as_a_whole() {
    let (base, other) = (base_image(), base_image());
    let (from, to) = (script_image(&base), script_image(&other));
    let memory = mounted(&from);
    // SAFETY: no instance uses this memory.
    unsafe { memory.mount_over(&from, &to).unwrap() };
    assert_eq!(first_difference(&memory, &to), None);
}

#[test]
fn a_snapshot_has_the_pages_that_differ_with_either_method() {
    let base = base_image();
    let mut content = base.whole().to_vec();
    for method in methods() {
        let memory = mounted(&base);
        for page in [0, 999, 1000, 1500, PAGES - 1] {
            write(&memory, page * PAGE_BYTES + 1, 0xAA);
            content[page * PAGE_BYTES + 1] = 0xAA;
        }
        write(&memory, 5 * PAGE_BYTES, read(&memory, 5 * PAGE_BYTES)); // private, but equal
        // SAFETY: no instance uses this memory.
        let pages = unsafe { memory.snapshot(&base, &mut Rewinder::new(method).unwrap()) }.unwrap();
        assert_eq!(pages, PageSet::difference(&content, base.whole()), "{method:?}");
    }
}

#[test]
fn rewinding_brings_every_page_back_with_either_method() {
    let base = base_image();
    let script = script_image(&base);
    for method in methods() {
        let memory = mounted(&script);
        let mut rewinder = Rewinder::new(method).unwrap();
        // Rounds, because pages stay private after the first: the second must see writes to those too.
        for round in 0..3 {
            // On the base's content, the script's, in the hole, first and last byte; clustered and scattered.
            for page in [0, 1, 2, 3, 500, 999, 1000, 2000, 2001, 4095, PAGES - 1] {
                write(&memory, page * PAGE_BYTES + 17 * round, 0xAA);
            }
            write(&memory, PAGES * PAGE_BYTES - 1, 0xAA);
            assert!(first_difference(&memory, &script).is_some());
            rewind(&memory, &script, &mut rewinder).unwrap();
            assert_eq!(first_difference(&memory, &script), None, "{method:?}, round {round}");
        }
    }
}

#[test]
fn reading_dirties_nothing() {
    let base = base_image();
    let memory = mounted(&base);
    let mut rewinder = Rewinder::new(RewindMethod::PagemapScan).unwrap();
    for page in 0..PAGES {
        read(&memory, page * PAGE_BYTES);
    }
    assert_eq!(rewind(&memory, &base, &mut rewinder).unwrap(), 0);
    write(&memory, 5, 1);
    assert_eq!(rewind(&memory, &base, &mut rewinder).unwrap(), 1);
}

#[test]
fn more_regions_than_one_scan_reports_are_all_found() {
    let base = base_image();
    let memory = mounted(&base);
    let mut rewinder = Rewinder::new(RewindMethod::PagemapScan).unwrap();
    let n_regions = REGIONS_PER_SCAN * 3 + 1;
    for region in 0..n_regions {
        write(&memory, 2 * region * PAGE_BYTES, 0xAA);
    }
    assert_eq!(rewind(&memory, &base, &mut rewinder).unwrap(), n_regions);
    assert_eq!(first_difference(&memory, &base), None);
}

#[test]
fn a_memory_with_too_many_private_pages_gives_them_back() {
    let base = base_image();
    let memory = mounted(&base);
    let mut rewinder = Rewinder::new(RewindMethod::PagemapScan).unwrap();
    for page in 0..RESIDENT_PAGES_MAX + 1 {
        write(&memory, page * PAGE_BYTES, 0xAA);
    }
    rewind(&memory, &base, &mut rewinder).unwrap();
    assert_eq!(first_difference(&memory, &base), None);
    // Nothing is private any more: the next rewind finds nothing.
    assert_eq!(rewind(&memory, &base, &mut rewinder).unwrap(), 0);
}

#[test]
fn a_memory_that_has_grown_cannot_be_rewound_or_mounted() {
    let base = base_image();
    let memory = mounted(&base);
    let mut linear = SlotMemory { memory: Arc::clone(&memory), capacity: base.bytes() + (1 << 20) };
    linear.grow_to(base.bytes() + (1 << 16)).unwrap();
    write(&memory, base.bytes() + 1, 1);
    assert!(rewind(&memory, &base, &mut Rewinder::new(RewindMethod::PagemapScan).unwrap()).is_err());
    // SAFETY: no instance uses this memory.
    assert!(unsafe { memory.mount(&base) }.is_err());
    assert!(linear.grow_to(base.bytes() + (2 << 20)).is_err(), "beyond the reservation");
}

#[test]
fn images_cannot_be_written_to_or_shrunk() {
    let base = base_image();
    let file = File::from(base.file.try_clone().unwrap());
    assert!(std::os::unix::fs::FileExt::write_at(&file, b"x", 0).is_err());
    assert!(file.set_len(0).is_err());
}

#[test]
fn writing_to_a_memory_changes_neither_image_nor_other_memories() {
    let base = base_image();
    let (one, other) = (mounted(&base), mounted(&base));
    let before = base.whole().to_vec();
    for page in 0..PAGES {
        write(&one, page * PAGE_BYTES, 0xAA);
    }
    assert!(base.whole() == before);
    assert_eq!(first_difference(&other, &base), None);
}

#[test]
fn an_image_needs_the_base_it_was_made_for() {
    let base = base_image();
    let other = PageSet::nonzero(&vec![1; PAGE_BYTES]);
    assert!(MappedImage::new(&other, Some(base)).is_err());
}

/// The kernel's documented rule for `PAGEMAP_SCAN`, to try category sets that cannot be produced at will.
fn kernel_reports(scan: &PagemapScan, categories: u64) -> bool {
    let categories = categories ^ scan.category_inverted;
    categories & scan.category_mask == scan.category_mask
        && (scan.category_anyof_mask == 0 || categories & scan.category_anyof_mask != 0)
}

#[test]
fn the_scan_asks_for_private_pages_swapped_out_or_not() {
    let scan = PagemapScan::private_pages(0, PAGE_BYTES as u64, &mut []);
    let written = 1 << 1; // PAGE_IS_WRITTEN, which says nothing here
    for extra in [0, written] {
        assert!(kernel_reports(&scan, PAGE_IS_PRESENT | extra), "a private page");
        assert!(kernel_reports(&scan, PAGE_IS_SWAPPED | extra), "a private page that was swapped out");
        assert!(!kernel_reports(&scan, PAGE_IS_PRESENT | PAGE_IS_FILE | extra), "a page of the image");
        assert!(!kernel_reports(&scan, PAGE_IS_SWAPPED | PAGE_IS_FILE | extra), "a page of the image, swapped out");
        assert!(!kernel_reports(&scan, PAGE_IS_PRESENT | PAGE_IS_PFNZERO | extra), "the shared zero page");
        assert!(!kernel_reports(&scan, extra), "a page never touched");
    }
}

/// Where this machine can swap, the real thing.
#[test]
fn a_page_that_was_swapped_out_is_rewound() {
    let base = base_image();
    let memory = mounted(&base);
    let mut rewinder = Rewinder::new(RewindMethod::PagemapScan).unwrap();
    for page in [1, 1500, 1501] {
        write(&memory, page * PAGE_BYTES, 0xAA);
    }
    // SAFETY: paging out changes no content.
    let advised = unsafe {
        rustix::mm::madvise(memory.reservation.address.as_ptr().cast(), memory.bytes(), Advice::LinuxPageOut)
    };
    assert!(advised.is_ok(), "{advised:?}");
    assert_eq!(rewind(&memory, &base, &mut rewinder).unwrap(), 3);
    assert_eq!(first_difference(&memory, &base), None);
}

/// A call on `memory` that writes to these pages and counts its faults.
fn faults_of_writing(memory: &GuestMemory, pages: &[usize]) -> u64 {
    let call = std::pin::pin!(async { pages.iter().for_each(|page| write(memory, page * PAGE_BYTES, 0xBB)) });
    let waker = std::task::Waker::noop();
    match std::pin::pin!(WithFaults::new(call)).poll(&mut Context::from_waker(waker)) {
        Poll::Ready(((), faults)) => faults,
        Poll::Pending => panic!("the call never waits"),
    }
}

#[test]
fn a_page_becomes_private_only_with_a_page_fault() {
    let base = base_image();
    let memory = mounted(&base);
    let mut rewinder = Rewinder::new(RewindMethod::PagemapScan).unwrap();
    // Pages of the image, of its hole, never touched, or only read before.
    read(&memory, 7 * PAGE_BYTES);
    let pages = [3, 7, 8, 1500, 1600, PAGES - 1];
    for page in pages {
        assert!(faults_of_writing(&memory, &[page]) >= 1, "page {page} is shared until it is written");
    }
    assert_eq!(rewind(&memory, &base, &mut rewinder).unwrap(), pages.len());
    // Now they are private: writing to them faults no more, and the list of the last scan is complete.
    assert_eq!(faults_of_writing(&memory, &pages), 0);
    // SAFETY: no instance uses this memory.
    assert_eq!(unsafe { memory.rewind(&base, &mut rewinder) }.unwrap(), pages.len());
    assert_eq!(first_difference(&memory, &base), None);
    // Another page is a fault, after which the kernel is asked again.
    assert!(faults_of_writing(&memory, &[9]) >= 1);
    assert_eq!(rewind(&memory, &base, &mut rewinder).unwrap(), pages.len() + 1);
    assert_eq!(first_difference(&memory, &base), None);
}
