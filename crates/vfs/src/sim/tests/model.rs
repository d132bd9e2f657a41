//! Random histories against the simplest model: per byte and length, the set of values that a
//! power cut may leave.

use std::collections::BTreeMap;
use std::path::PathBuf;

use proptest::prelude::*;

use super::*;

#[derive(Clone, Debug)]
enum Step {
    Write { offset: u64, len: usize, fill: u8, durable: bool },
    SetLen(u64),
    Sync,
    Kill,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let write = (0..6000_u64, 1..3000_usize, 1..255_u8, any::<bool>());
    let write =
        write.prop_map(|(offset, len, fill, durable)| Step::Write { offset, len, fill, durable });
    let step = prop_oneof![
        5 => write,
        2 => (0..8000_u64).prop_map(Step::SetLen),
        1 => Just(Step::Sync),
        1 => Just(Step::Kill),
    ];
    proptest::collection::vec(step, 1..20)
}

#[derive(Clone, Debug)]
enum NameStep {
    Create(usize),
    Rename(usize, usize),
    Remove(usize),
    SyncDir,
    Kill,
}

fn name_steps() -> impl Strategy<Value = Vec<NameStep>> {
    let name = 0..4_usize;
    let step = prop_oneof![
        4 => name.clone().prop_map(NameStep::Create),
        4 => (name.clone(), name.clone()).prop_map(|(a, b)| NameStep::Rename(a, b)),
        2 => name.prop_map(NameStep::Remove),
        1 => Just(NameStep::SyncDir),
        1 => Just(NameStep::Kill),
    ];
    proptest::collection::vec(step, 1..25)
}

/// Which file, told by its content, stands under which name.
type NameModel = BTreeMap<PathBuf, Vec<u8>>;

fn named(fs: &SimFs) -> NameModel {
    let content = |path: PathBuf| (path.clone(), fs.contents(path).unwrap());
    fs.files().into_keys().map(content).collect()
}

/// Everything the file was since it was last durable.
#[derive(Default)]
struct Model {
    visible: Vec<u8>,
    /// Whole earlier contents whose bytes may come back, and the durable one.
    history: Vec<Vec<u8>>,
}

impl Model {
    fn new() -> Model {
        Model { visible: Vec::new(), history: vec![Vec::new()] }
    }

    fn change(&mut self, change: impl FnOnce(&mut Vec<u8>)) {
        change(&mut self.visible);
        self.history.push(self.visible.clone());
    }

    fn sync(&mut self) {
        self.history = vec![self.visible.clone()];
    }

    /// Each sector as it was at some time since the sync, and so the length.
    fn allows(&self, bytes: &[u8]) -> Result<(), String> {
        if !self.history.iter().any(|old| old.len() == bytes.len()) {
            return Err(format!("length {}", bytes.len()));
        }
        for (n, sector) in bytes.chunks(SECTOR_LEN).enumerate() {
            let start = n * SECTOR_LEN;
            let was = |old: &Vec<u8>| {
                let byte = |at| old.get(start + at).copied().unwrap_or(0);
                sector.iter().enumerate().all(|(at, &b)| b == byte(at) || b == 0)
            };
            if !self.history.iter().any(was) {
                return Err(format!("sector {n}"));
            }
        }
        Ok(())
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn a_power_cut_leaves_only_what_was_there_since_the_sync(steps in steps(), seed in any::<u64>()) {
        let mut fs = SimFs::new();
        create(&fs, "/a");
        let mut model = Model::new();
        let mut promised: Vec<(u64, usize, u8)> = Vec::new();
        for step in steps {
            let file = fs.open(p("/a"), OpenOptions::write()).unwrap();
            match step {
                Step::Write { offset, len, fill, durable } => {
                    let mut options = OpenOptions::write();
                    options.durable = durable;
                    let file = fs.open(p("/a"), options).unwrap();
                    write(&file, offset, &vec![fill; len]);
                    let end = usize::try_from(offset).unwrap() + len;
                    model.change(|bytes| {
                        bytes.resize(bytes.len().max(end), 0);
                        bytes[end - len..end].fill(fill);
                    });
                    promised.clear();
                    if durable {
                        promised.push((offset, len, fill));
                    }
                }
                Step::SetLen(len) => {
                    file.set_len(len).unwrap();
                    model.change(|bytes| bytes.resize(usize::try_from(len).unwrap(), 0));
                    promised.clear();
                }
                Step::Sync => {
                    file.sync_data().unwrap();
                    model.sync();
                }
                Step::Kill => fs = fs.kill(),
            }
            prop_assert!(fs.contents("/a").unwrap() == model.visible, "visible bytes");
        }
        let kept = fs.fork().power_cut(|_| Fate::Kept);
        prop_assert!(kept.contents("/a").unwrap() == model.visible, "all kept");
        let mut rng = crate::Rng::new(seed);
        for _ in 0..20 {
            let image = fs.fork().power_cut_random(&mut rng);
            let bytes = image.contents("/a").unwrap();
            if let Err(text) = model.allows(&bytes) {
                return Err(TestCaseError::fail(format!("{text}: {}", image.story())));
            }
            for &(offset, len, fill) in &promised {
                let start = usize::try_from(offset).unwrap();
                prop_assert!(bytes.len() >= start + len, "a durable write grew the file for good");
                prop_assert!(bytes[start..start + len].iter().all(|&b| b == fill));
            }
        }
        for image in fs.crash_images(30) {
            if let Err(text) = model.allows(&image.contents("/a").unwrap()) {
                return Err(TestCaseError::fail(format!("{text}: {}", image.story())));
            }
        }
    }

    #[test]
    fn names_are_those_of_the_last_directory_sync_and_what_may_have_followed(
        steps in name_steps(),
        seed in any::<u64>(),
    ) {
        let path = |n: usize| PathBuf::from(format!("/{n}"));
        let mut fs = SimFs::new();
        let mut visible = NameModel::new();
        let mut durable = NameModel::new();
        for (serial, step) in (0_u8..).zip(steps) {
            match step {
                NameStep::Create(n) => {
                    let create = OpenOptions::create_new().durable();
                    let created = fs.open(&path(n), create);
                    prop_assert_eq!(created.is_err(), visible.contains_key(&path(n)));
                    if let Ok(file) = created {
                        write(&file, 0, &[serial]);
                        visible.insert(path(n), vec![serial]);
                    }
                }
                NameStep::Rename(from, to) => {
                    let renamed = fs.rename(&path(from), &path(to)).is_ok();
                    let content = visible.remove(&path(from));
                    prop_assert_eq!(renamed, content.is_some());
                    if let Some(content) = content {
                        visible.insert(path(to), content);
                    }
                }
                NameStep::Remove(n) => {
                    let removed = fs.remove_file(&path(n)).is_ok();
                    prop_assert_eq!(removed, visible.remove(&path(n)).is_some());
                }
                NameStep::SyncDir => {
                    fs.sync_dir(p("/")).unwrap();
                    durable.clone_from(&visible);
                }
                NameStep::Kill => fs = fs.kill(),
            }
            prop_assert_eq!(&named(&fs), &visible);
        }
        let cut = |fate| named(&fs.fork().power_cut(|_| fate));
        prop_assert_eq!(&cut(Fate::Lost), &durable);
        prop_assert_eq!(&cut(Fate::Kept), &visible);
        let mut rng = crate::Rng::new(seed);
        for _ in 0..10 {
            let image = fs.fork().power_cut_random(&mut rng);
            prop_assert!(named(&image).values().all(|content| content.len() == 1));
        }
    }
}
