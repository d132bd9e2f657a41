//! Random histories against the simplest model: per byte and length, the set of values that a
//! power cut may leave.

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
}
