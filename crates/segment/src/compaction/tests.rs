use super::*;

fn share(file_len: u64, bytes: u64, needed_bytes: u64) -> Share {
    Share { file_len, bytes, needed_bytes, needed: true }
}

fn choose(shares: &[Share], avoid: &[usize]) -> Option<Range<usize>> {
    let limits = Limits { small: 100, target: 1000, max_segments: 6, ..Limits::default() };
    choose_window(shares, &limits, &|at| !avoid.contains(&at), &|_| false)
}

#[test]
fn what_is_needed_of_a_span() {
    let live: IndexSet = [2, 3, 9, 10].map(Index).into_iter().collect();
    let keep = Keep::Log { above: Index(10), live };
    let needed = |first, last| -> Vec<(u64, u64)> {
        keep.needed((Index(first), Index(last))).iter().map(|s| (s.0.0, s.1.0)).collect()
    };
    assert_eq!(needed(1, 20), [(2, 3), (9, 20)]);
    assert_eq!(needed(3, 9), [(3, 3), (9, 9)]);
    assert_eq!(needed(4, 8), []);
    assert_eq!(needed(12, 14), [(12, 14)]);
    assert_eq!(Keep::Gone.needed((Index(0), Index(20))), []);
}

#[test]
fn a_cut_is_needed_while_it_hides_something_needed() {
    let keep = Keep::Log { above: Index(10), live: [4].map(Index).into_iter().collect() };
    assert!(keep.needs_cut(Index(8), Index(u64::MAX)), "an older file may hold 11");
    assert!(!keep.needs_cut(Index(8), Index(11)), "a newer cut hides 11, and 8 to 10 are dead");
    assert!(keep.needs_cut(Index(3), Index(11)), "an older file may hold another 4");
    assert!(!keep.needs_cut(Index(20), Index(15)));
    assert!(!Keep::Gone.needs_cut(Index(1), Index(u64::MAX)));
}

#[test]
fn the_window_that_frees_most_is_chosen() {
    let full = share(500, 400, 400);
    assert_eq!(choose(&[full; 6], &[]), None);
    assert_eq!(choose(&[full, share(500, 400, 100), full], &[]), Some(1..2));
    assert_eq!(choose(&[full, share(500, 400, 100), full], &[1]), None);
    let sparse = share(500, 400, 10);
    assert_eq!(choose(&[full, sparse, sparse, full, sparse], &[]), Some(1..3));
}

#[test]
fn small_neighbours_merge_when_there_are_some_of_like_size() {
    let (full, small) = (share(500, 400, 400), share(30, 20, 20));
    assert_eq!(choose(&[small, small, small], &[]), None);
    assert_eq!(choose(&[full, small, small, small, small], &[]), Some(1..5));
    assert_eq!(
        choose(&[share(99, 90, 90), small, small, small], &[]),
        None,
        "it would be copied for little"
    );
    assert_eq!(choose(&[small, small, full, small, small], &[]), None, "not neighbours");
}

#[test]
fn nothing_is_merged_across_a_segment_that_was_lost() {
    let name = |generation| SegmentName::new(refloat_types::Generation(generation), 0);
    let names = [1, 2, 4, 5].map(name);
    let apart: Vec<bool> = (0..4).map(|at| is_apart(&names, at, &[name(3), name(9)])).collect();
    assert_eq!(apart, [false, false, true, false]);
    let limits = Limits { small: 100, merge_from: 2, ..Limits::default() };
    let small = share(30, 20, 20);
    let choose =
        |apart: &dyn Fn(usize) -> bool| choose_window(&[small; 4], &limits, &|_| true, apart);
    assert_eq!(choose(&|_| false), Some(0..4));
    assert_eq!(choose(&|at| at == 2), Some(0..2));
    assert_eq!(choose(&|at| at > 0), None);
}

#[test]
fn too_many_segments_are_merged_whatever_their_size() {
    let mut shares = [share(5000, 4000, 4000); 8];
    shares[3].needed_bytes = 3000;
    shares[4].needed_bytes = 3000;
    assert_eq!(choose(&shares, &[]).map(|w| w.len()), Some(3));
    assert!(choose(&shares, &[]).is_some_and(|w| w.contains(&3) && w.contains(&4)));
    assert_eq!(choose(&shares, &[1, 3, 5, 7]), None);
    assert_eq!(choose(&shares, &[1, 4, 7]).map(|w| w.len()), Some(2));
}
