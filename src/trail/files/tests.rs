use super::*;

fn config(folder: &Path) -> FilesConfig {
    FilesConfig {
        folder: folder.to_owned(),
        max_size: 1 << 20,
        max_age: Duration::from_secs(3600),
        keep_for: Duration::from_secs(3600),
        keep_size: 1 << 30,
        keep_files: None,
    }
}

fn open(config: FilesConfig) -> Files {
    Files::open(config, Arc::default()).unwrap()
}

fn names(folder: &Path) -> Vec<PathBuf> {
    list(folder).unwrap().into_iter().map(|file| file.path).collect()
}

#[test]
fn a_new_file_begins_when_one_is_full() {
    let folder = tempfile::tempdir().unwrap();
    let mut files = open(FilesConfig { max_size: 10, ..config(folder.path()) });
    for _ in 0..3 {
        files.write(b"123456789\n").unwrap();
    }
    let found = names(folder.path());
    assert_eq!(found.len(), 3);
    assert!(found.iter().all(|path| fs::read(path).unwrap() == b"123456789\n"));
}

#[test]
fn a_new_file_begins_when_one_is_old() {
    let folder = tempfile::tempdir().unwrap();
    let mut files = open(FilesConfig { max_age: Duration::ZERO, ..config(folder.path()) });
    files.write(b"one\n").unwrap();
    files.write(b"two\n").unwrap();
    assert_eq!(names(folder.path()).len(), 2);
}

#[test]
fn old_files_go_by_number_size_and_age() {
    let keep = |change: fn(&mut FilesConfig)| {
        let folder = tempfile::tempdir().unwrap();
        let mut config = FilesConfig { max_size: 10, ..config(folder.path()) };
        change(&mut config);
        let mut files = open(config);
        for _ in 0..5 {
            files.write(b"123456789\n").unwrap();
        }
        // Files that are not the trail's are left alone.
        fs::write(folder.path().join("trail-notes.txt"), "x").unwrap();
        files.clean().unwrap();
        assert!(folder.path().join("trail-notes.txt").exists());
        names(folder.path()).len()
    };
    assert_eq!(keep(|_| ()), 5);
    assert_eq!(keep(|config| config.keep_files = Some(2)), 2);
    assert_eq!(keep(|config| config.keep_size = 35), 3);
    // The one that is being written stays.
    assert_eq!(keep(|config| config.keep_files = Some(0)), 1);

    let folder = tempfile::tempdir().unwrap();
    let old = folder.path().join("trail-20200101T000000Z-1-1.ndjson");
    fs::write(&old, "x\n").unwrap();
    let day = Duration::from_secs(24 * 3600);
    let yesterday = fs::metadata(&old).unwrap().modified().unwrap() - day;
    File::options().write(true).open(&old).unwrap().set_modified(yesterday).unwrap();
    open(config(folder.path())).clean().unwrap();
    assert!(!old.exists());
}

#[test]
fn a_file_that_was_put_in_place_of_the_open_one_is_written_on() {
    let folder = tempfile::tempdir().unwrap();
    let mut files = open(config(folder.path()));
    files.write(b"one\ntwo\n").unwrap();
    let path = names(folder.path()).pop().unwrap();
    let rewritten = folder.path().join("rewritten");
    fs::write(&rewritten, "two\n").unwrap();
    fs::rename(&rewritten, &path).unwrap();
    files.write(b"three\n").unwrap();
    assert_eq!(fs::read_to_string(&path).unwrap(), "two\nthree\n");
    fs::remove_file(&path).unwrap();
    files.write(b"four\n").unwrap();
    assert_eq!(fs::read_to_string(&path).unwrap(), "four\n");
}

#[test]
fn a_file_without_records_does_not_stay() {
    let folder = tempfile::tempdir().unwrap();
    let files = open(config(folder.path()));
    assert_eq!(names(folder.path()).len(), 1);
    drop(files);
    assert_eq!(names(folder.path()).len(), 0);
}
