use std::fs;

use super::*;

fn vault(fill: u8) -> Vault {
    Vault::with_keys(&[KeyBytes::new([fill; 32])], None)
}

#[test]
fn what_was_sealed_opens_in_its_context_only() {
    let vault = vault(7);
    let sealed = vault.seal("connection:1", b"postgres://u:p@h/d");
    assert_eq!(vault.unseal("connection:1", &sealed).unwrap().expose(), b"postgres://u:p@h/d");
    let error = vault.unseal("connection:2", &sealed).unwrap_err();
    assert!(matches!(&error, VaultError::Tampered { context } if context == "connection:2"), "{error}");
}

#[test]
fn sealing_twice_gives_different_values_without_the_plaintext() {
    let vault = vault(7);
    let (one, two) = (vault.seal("c", b"secret-text"), vault.seal("c", b"secret-text"));
    assert_ne!(one, two);
    assert!(!one.windows(6).any(|window| window == b"secret"));
}

#[test]
fn another_key_is_named() {
    let error = vault(8).unseal("c", &vault(7).seal("c", b"x")).unwrap_err();
    assert!(matches!(error, VaultError::WrongKey { .. }), "{error}");
}

#[test]
fn every_changed_or_missing_byte_is_noticed() {
    let vault = vault(7);
    let sealed = vault.seal("c", b"x");
    for i in 0..sealed.len() {
        let mut changed = sealed.clone();
        changed[i] ^= 1;
        assert!(vault.unseal("c", &changed).is_err(), "byte {i}");
        assert!(vault.unseal("c", &sealed[..i]).is_err(), "cut at {i}");
    }
}

#[test]
fn debug_shows_no_key() {
    let text = format!("{:?}", vault(0xab));
    assert!(text.starts_with("Vault { key_id: ") && !text.contains("abab") && text.len() < 40, "{text}");
}

fn environment(current: &str, next: Option<&str>) -> Option<EnvironmentKeys> {
    let secret = |digits: &str| Secret::from(digits.to_owned());
    Some(EnvironmentKeys { current: secret(current), next: next.map(secret) })
}

#[test]
fn a_key_from_the_environment_needs_no_file() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("vault.key");
    let vault = Vault::open(&file, environment(&"0a".repeat(32), None)).unwrap();
    assert!(!file.exists());
    let same = Vault::with_keys(&[KeyBytes::new([0x0a; 32])], None);
    assert_eq!(same.unseal("c", &vault.seal("c", b"x")).unwrap().expose(), b"x");
    let error = Vault::open(&file, environment("tooshort", None)).unwrap_err().to_string();
    assert!(error.contains("PQHOST_VAULT_KEY") && !error.contains("tooshort"), "{error}");
}

#[test]
fn a_key_from_the_environment_is_changed_for_one_from_the_environment() {
    let file = Path::new("unused");
    let (old, new) = ("0a".repeat(32), "0b".repeat(32));
    let before = Vault::open(file, environment(&old, None)).unwrap();
    let sealed = before.seal("c", b"x");
    assert!(matches!(before.begin_rotation().unwrap_err(), VaultError::NoNextKey));

    let during = Vault::open(file, environment(&old, Some(&new))).unwrap();
    let rotation = during.begin_rotation().unwrap();
    assert!(rotation.is_from_environment() && !during.is_current(&sealed));
    let resealed = during.seal("c", during.unseal("c", &sealed).unwrap().expose());
    rotation.finish().unwrap();

    let after = Vault::open(file, environment(&new, None)).unwrap();
    assert_eq!(after.unseal("c", &resealed).unwrap().expose(), b"x");
    assert!(matches!(after.unseal("c", &sealed).unwrap_err(), VaultError::WrongKey { .. }));
}

#[test]
fn a_change_of_the_key_that_was_interrupted_anywhere_loses_nothing_and_can_be_completed() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("vault.key");
    let running = Vault::open(&file, None).unwrap(); // a host that knows nothing of the change
    let old = running.seal("c", b"old");

    drop(Vault::open(&file, None).unwrap().begin_rotation().unwrap()); // the process dies
    let after_crash = Vault::open(&file, None).unwrap();
    assert_eq!(after_crash.unseal("c", &old).unwrap().expose(), b"old");
    let meanwhile = running.seal("c", b"meanwhile");
    assert!(after_crash.is_current(&meanwhile), "a host that is running seals with the new key at once");

    let rotation = after_crash.begin_rotation().unwrap();
    let resealed = after_crash.seal("c", b"old");
    rotation.finish().unwrap();
    let names: Vec<_> = fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert!(names.iter().all(|name| name == "vault.key" || name == "vault.key.lock"), "{names:?}");
    let later = Vault::open(&file, None).unwrap();
    for vault in [&running, &later] {
        assert_eq!(vault.unseal("c", &resealed).unwrap().expose(), b"old");
        assert_eq!(vault.unseal("c", &meanwhile).unwrap().expose(), b"meanwhile");
    }
    assert!(matches!(later.unseal("c", &old).unwrap_err(), VaultError::WrongKey { .. }), "the old key is gone");
}
