//! Real manifests of public projects: in `$HOLDFAST_CORPUS`, or kept beside the repository. They are not
//! ours to hand on, so a clone does without, and says so.

use std::io::Write;
use std::path::{Path, PathBuf};

use holdfast_manifest::diagnostic::Severity;
use holdfast_manifest::{Options, Source, load};

/// Manifests that a real API server would refuse too, with the reason.
const REFUSED: &[(&str, &str)] = &[
    ("009-", "spec.serviceAccountName: Invalid value: \"{{SA_NAME}}\""),
    ("011-", "spec.serviceAccountName: Invalid value: \"{{SA_NAME}}\""),
    ("033-", "metadata.name: Invalid value: \"<YOUR-DEPLOYMENT-NAME>\""),
    ("035-", "metadata.name: Invalid value: \"<YOUR-DEPLOYMENT-NAME>\""),
    ("055-", "no matches for kind \"CronJob\" in version \"batch/v1beta1\""),
];

#[test]
fn every_manifest_of_the_corpus_loads() {
    let beside = || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/corpus");
    let named = std::env::var_os("HOLDFAST_CORPUS").map(PathBuf::from);
    let folder = named.clone().unwrap_or_else(beside);
    let Ok(files) = std::fs::read_dir(&folder) else {
        assert_eq!(named, None, "HOLDFAST_CORPUS is not a directory");
        // Past the test harness, which keeps what a test that passes says.
        let said = format!("skipped: there is no corpus of manifests at {}", folder.display());
        writeln!(std::io::stderr(), "{said}").unwrap();
        return;
    };
    let (mut count, mut objects, mut wrong) = (0, 0, Vec::new());
    for file in files {
        let path = file.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        let source = Source::new(name.clone(), std::fs::read(&path).unwrap());
        count += 1;
        let refused = REFUSED.iter().find(|(file, _)| name.starts_with(file));
        match (load(&[source], &Options::default()), refused) {
            (Ok(loaded), None) => {
                objects += loaded.objects.len();
                for warning in loaded.warnings.iter() {
                    assert_eq!(warning.severity, Severity::Warning);
                    assert!(warning.message.contains("is not run by holdfast"), "{warning}");
                }
            }
            (Err(findings), Some((_, reason))) if findings.to_string().contains(reason) => {}
            (Err(findings), _) => wrong.push(findings.to_string()),
            (Ok(_), Some((_, reason))) => wrong.push(format!("{name}: expected {reason:?}")),
        }
    }
    println!("{count} files, {objects} objects");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(count >= 40 && objects >= 40, "{count} files, {objects} objects");
}
